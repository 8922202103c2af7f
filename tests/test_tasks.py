"What users bring is taken for what it is, or a task says what it looks like; offsets, masks and gaps keep their values."
import datetime
import math
import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from fastai.torch_core import set_seed
from helpers import quiet_learner, random_task, same, weights
from tsai_mtcs.archive import bundled_tasks
from tsai_mtcs.data import MultiTaskDataLoaders
from tsai_mtcs.lazy import LazySeries
from tsai_mtcs.series import as_series, check_values, loses_in_float32
from tsai_mtcs.tasks import RESERVED, Task, TaskSpec, TaskWarning

RNG = np.random.default_rng(0)
N,SPLITS,Y = 30,(range(20), range(20,30)),['sit','walk']*15
WAVES = RNG.normal(size=(N,2,40)).cumsum(-1)


def make(X=WAVES, y=Y, splits=SPLITS, name='gait'): return Task(name, X, y, splits)
def z(X, rows=range(20)):
    "Scaled by hand in float64"
    x = X[list(rows)]
    return (X-np.nanmean(x, (0,2), keepdims=True))/np.nanstd(x, (0,2), keepdims=True)

def warned(f):
    with warnings.catch_warnings(record=True) as w:
        warnings.simplefilter('always')
        f()
    return [str(o.message) for o in w if issubclass(o.category, TaskWarning)]

@pytest.fixture
def mapped(tmp_path):
    def f(X):
        np.save(tmp_path/'X.npy', X)
        return np.load(tmp_path/'X.npy', mmap_mode='r')
    return f


# What a model knows of a task
OK = dict(name='toy', labels=('a','b'), vars=2, len=3, mean=(2.,0), std=(.5,1.))

@pytest.mark.parametrize('field,value', [
    ('name',''), ('name',None), ('name',3), ('labels',()), ('labels',['a']), ('labels','ab'), ('labels',('a','a')), ('labels',(1,True)),
    ('labels',('a',None)),
    ('labels',('a',math.nan)), ('labels',('a',('b',math.nan))), ('labels',('a',[1])), ('vars',0), ('vars',-2), ('vars',2.), ('vars',True),
    ('vars',3), ('len',0), ('len',None), ('len',2**31),
    ('mean',(0.,)), ('mean',[0.,0.]), ('mean',(0.,math.nan)), ('mean',(0.,math.inf)), ('mean',(0.,'1')), ('mean',None),
    ('std',(0.,1.)), ('std',(-1.,1.)), ('std',(math.nan,1.)), ('std',(1.,)), ('std',(1.,math.inf))])
def test_a_spec_that_no_task_can_have(field, value):
    TaskSpec(**OK)
    with pytest.raises(ValueError, match='expected'): TaskSpec(**{**OK, field:value})

@pytest.mark.parametrize('name', [*RESERVED, '', ' ', None])
def test_names_that_results_have_for_something_else(name):
    with pytest.raises(ValueError, match="can't be called|expected a name"): make(name=name)


# Offsets
OFFSETS = dict(pressure=101_325., stamps=1.7e9, negative=-4e7)

@pytest.mark.parametrize('offset', OFFSETS.values(), ids=OFFSETS)
@pytest.mark.parametrize('kind', ['array','list','tensor','integers','memmap','masked'])
def test_an_offset_costs_no_precision(offset, kind, mapped):
    X = np.rint(WAVES*100)+offset if kind == 'integers' else WAVES+offset
    given = dict(array=X, list=list(X), tensor=torch.tensor(X), integers=X.astype(np.int64), masked=np.ma.array(X, mask=False)).get(kind)
    t = make(mapped(X) if given is None else given)
    want = z(X)
    np.testing.assert_allclose(t.spec.scale(t.X)[:], want, atol=2e-4)
    np.testing.assert_allclose(t.spec.scale(X[:1]), want[:1], atol=2e-4, err_msg='one row alone')
    dls = MultiTaskDataLoaders.from_tasks([t, random_task('noise')], device='cpu')
    x,_ = dls.test_ds.batch(0, np.arange(10)) if hasattr(dls, 'test_ds') else dls.test.dataset.batch(0, np.arange(10))
    assert x.dtype == torch.float32
    np.testing.assert_allclose(x, want[20:], atol=2e-4)
    np.testing.assert_allclose(next(iter(dls.test_dl(X[:4], 'gait')))[0], want[:4], atol=2e-4)
    np.testing.assert_allclose(dls.train_ds.series(0)[:], want[:20], atol=2e-4)

def test_a_model_does_not_see_the_offset():
    "Training, prediction and embedding of series with an offset equal those without"
    learns = []
    for offset in (0., 2.**20):
        X = np.rint(WAVES*256)/256+offset
        learn = quiet_learner(dls=MultiTaskDataLoaders.from_tasks([make(X)], bs=8, device='cpu'))
        set_seed(0)
        learn.fit(1)
        learns.append((learn, X))
    (a,Xa),(b,Xb) = learns
    np.testing.assert_allclose(a.predict(Xa, 'gait')[1], b.predict(Xb, 'gait')[1], atol=1e-4)
    np.testing.assert_allclose(a.embed(Xa, 'gait'), b.embed(Xb, 'gait'), atol=1e-3)
    np.testing.assert_allclose(a.embed(Xa), b.embed(Xb), atol=1e-3)

def test_float64_is_kept_only_where_it_is_needed(mapped):
    assert as_series(WAVES).dtype == np.float32 and as_series(np.arange(60).reshape(3,20)).dtype == np.float32
    assert as_series(WAVES.astype(np.float32)+1e5).dtype == np.float32, 'what arrives as float32 has lost it already'
    assert as_series(mapped(WAVES)).dtype == np.float32 and as_series(mapped(WAVES+1e6)).dtype == np.float64
    assert not loses_in_float32((1000.,), (1.,)) and loses_in_float32((0.,2000.), (1.,1.))
    half = np.concatenate((WAVES[:,:1], WAVES[:,1:]+1e6), 1)
    np.testing.assert_allclose(make(half).spec.scale(half), z(half), atol=2e-4)

def test_float32_series_are_scaled_to_the_bit_as_ever():
    X = (WAVES+RNG.normal(size=(1,2,1))).astype(np.float32)
    t = make(X)
    want = (X-np.float32(t.spec.mean)[:,None])/np.float32(t.spec.std)[:,None]
    for o in (X, X.astype(np.float64), list(X)): np.testing.assert_array_equal(make(o).spec.scale(o), want)

def test_bundled_data_sets_stay_float32(): assert all(o.X.dtype == np.float32 for o in bundled_tasks())


# Missing values
def test_masks_and_missing_values_of_pandas():
    mask = RNG.random(WAVES.shape) < .03
    want = np.where(mask, np.nan, WAVES).astype(np.float32)
    for o in (np.ma.array(WAVES, mask=mask), list(np.ma.array(WAVES, mask=mask)), np.ma.array(WAVES.astype(np.float32), mask=mask)):
        np.testing.assert_array_equal(make(o).X, want)
    frame = pd.DataFrame(WAVES[:,0]).mask(mask[:,0])
    for o in (frame, frame.astype('Float64'), frame.astype(object).where(~mask[:,0], pd.NA), frame.astype(object).where(~mask[:,0], None)):
        np.testing.assert_array_equal(make(o).X, want[:,:1])

def test_missing_values_count_by_variable():
    "Twelve variables with a fifth of their values missing have hardly a step at which all have one"
    X = RNG.normal(size=(N,12,40))
    gaps = RNG.random(X.shape) < .2
    X[gaps] = np.nan
    with pytest.warns(TaskWarning, match="task 'gait': 20% of the values inside the series are missing"): t = make(X)
    np.testing.assert_allclose(t.spec.mean, np.nanmean(X[:20], (0,2)), rtol=1e-4)
    np.testing.assert_allclose(t.spec.scale(t.X), z(X), atol=1e-5)
    X[3,:,1:],X[3,5:,0],X[3,4,0] = np.nan,np.nan,1.
    assert 0 < check_values(X, 'X') < 1, 'one value is enough'
    X[3] = np.nan
    with pytest.raises(ValueError, match='no step in row 3'): check_values(X, 'X')

def test_padding_does_not_count_as_missing():
    assert warned(lambda: make([o[:,:n] for o,n in zip(WAVES, range(10,40))])) == []
    assert warned(lambda: make(np.where(RNG.random(WAVES.shape) < .04, np.nan, WAVES))) == []


# What looks like something else
def test_arrays_of_another_layout():
    walk = RNG.normal(size=(N,50,3)).cumsum(1)
    for X in (walk, RNG.normal(size=(N,100,3)), torch.tensor(walk)):
        said, = warned(lambda: make(X))
        assert 'variables of 3 step(s) look like (n, len, vars); series are (n, vars, len): X.transpose(0, 2, 1)' in said
    assert not warned(lambda: make(walk.transpose(0,2,1))) and not warned(lambda: make(RNG.normal(size=(N,20,8))))
    with pytest.raises(ValueError, match=r'transpose\(0, 2, 1\)'): make(walk.transpose(0,2,1)).spec.check(walk)

def test_tables_with_a_line_a_time_step():
    frame = pd.DataFrame(dict(time=np.arange(3091), value=RNG.normal(size=3091)))
    said = warned(lambda: Task('gait', frame, ['sit','walk','run']*1030+['run']))
    assert '3,091 series of 2 step(s) look like a table with a line a time step' in said[0]

def test_lists_of_frames():
    frames = [pd.DataFrame(o.T, columns=['x','y']) for o in WAVES]
    with pytest.raises(ValueError, match=r'found a data frame in row 0; a frame with a line a time step is `frame.to_numpy\(\).T`'):
        make(frames)
    np.testing.assert_array_equal(make([o.to_numpy().T for o in frames]).X, make().X)
    np.testing.assert_array_equal(make([pd.Series(o) for o in WAVES[:,0]]).X, make(WAVES[:,0]).X)

ONE_HOT = np.eye(2, dtype=int)[np.arange(N)%2]

@pytest.mark.parametrize('y,said', [
    (None, 'expected a label for each series, found None'), (dict.fromkeys(range(N), 'a'), 'found a dict'), (set(range(N)), 'found a set'),
    ('ab'*15, "found the text 'abababab"),
    (ONE_HOT, r'found one-hot rows such as \[1, 0\]; the labels are the positions of the ones: np.argmax'), (ONE_HOT.tolist(), 'one-hot'),
    (pd.DataFrame(ONE_HOT), 'one-hot'),
    (torch.tensor(ONE_HOT), 'one-hot'), (7, 'found 7'),
    (RNG.normal(size=N), 'looks like the target of a regression; make labels of it, for instance by pandas.qcut'),
    (pd.Series(RNG.normal(size=N)), 'regression'), (['a']*29+[pd.NA], 'row 29 has no label'),
    (pd.Series(['a']*29+[None]), 'row 29 has no label'),
    (pd.array([1]*29+[None], dtype='Int64'), 'row 29 has no label'), (['a']*29+[pd.NaT], 'row 29 has no label'),
    ([('a',1)]*29+[('a',np.nan)], 'row 29 has no label')])
def test_labels_that_are_none(y, said):
    with pytest.raises(ValueError, match=said): make(y=y)

def test_labels_that_hardly_repeat():
    said = warned(lambda: make(y=range(N)))
    assert '30 different labels for 30 series, such as 0; they look like numbers of rows, or a measured value' in said[0]

def test_rounded_measurements_look_like_no_labels():
    y = np.arange(300)%46/10
    said = warned(lambda: make(X=RNG.normal(size=(300,1,9)), y=y, splits=None))
    assert "46 different labels for 300 series, such as 0.0; they look like" in said[0]

@pytest.mark.parametrize('y,want', [
    ([np.int64(i%2) for i in range(N)], (0,1)), ([np.str_('ab'[i%2]) for i in range(N)], ('a','b')), (np.array([.5,1.5]*15), (.5,1.5)),
    ([np.bool_(i%2) for i in range(N)], (False,True)),
    (np.array([['a'],['b']]*15), ('a','b')), (pd.DataFrame(dict(y=['a','b']*15)), ('a','b')),
    (pd.Series(['a','b']*15, dtype='category'), ('a','b')),
    (torch.tensor([0,1]*15), (0,1)), ([torch.tensor(i%2) for i in range(N)], (0,1)), ([(np.int8(1),'a'),(2,'b')]*15, ((1,'a'),(2,'b'))),
    (iter(['a','b']*15), ('a','b'))])
def test_labels_become_those_of_python(y, want):
    labels = make(y=y).labels
    assert labels == want and [type(o) for o in labels] == [type(o) for o in want]

@pytest.mark.parametrize('odd', [datetime.date(2020,1,1), np.datetime64('2020-01-01'), b'a', np.bytes_(b'a'), 1j, (1,b'a'), math.inf,
                                 pd.Timestamp('2020-01-01')], ids=str)
def test_labels_that_no_file_of_a_model_holds(odd):
    said = warned(lambda: make(y=[odd,'a']*15))
    assert len(said) == 1 and "can't be saved by `save_pretrained`" in said[0] and 'give its text instead, [str(o) for o in y]' in said[0]


# Splits
MASK = np.arange(N) < 20

@pytest.mark.parametrize('splits', [(MASK,~MASK), (MASK.tolist(),(~MASK).tolist()), (torch.tensor(MASK),torch.tensor(~MASK)),
                                    (pd.Series(MASK),pd.Series(~MASK)), (MASK,np.zeros(N, bool),~MASK),
                                    (slice(20),slice(20,None)), (np.arange(20,dtype=np.uint8),range(20,30)),
                                    [list(range(20)),list(range(20,30))], iter(SPLITS),
                                    dict(test=range(20,30), train=range(20))], ids=range(10))
def test_splits_by_masks_slices_and_numbers(splits):
    t = make(splits=splits)
    assert [o.tolist() for o in (t.train,t.valid,t.test)] == [[*range(20)],[],[*range(20,30)]]

FOLDS = [(np.delete(np.arange(N), np.arange(i, N, 3)), np.arange(i, N, 3)) for i in range(3)]

@pytest.mark.parametrize('splits,said', [
    ((.8,.2), 'found the number 0.8; without `splits`, a stratified fifth'), (.2, 'found 0.2'), ((20,10), 'found the number 20'),
    (([0.,1.],[2.5]), 'found float64'), ((MASK[:9],~MASK), 'or masks of 30 rows, found bool'),
    (FOLDS, r'found 3 folds; make a task a fold, \[Task\(name, X, y, fold\) for fold in folds\]'), (FOLDS[:2], 'found 2 folds'),
    (FOLDS*2, 'found 6 folds'), ((o for o in FOLDS), 'found 3 folds'),
    ((['a'],['b']), 'row numbers'), (dict(fit=range(20), test=range(20,30)), 'found fit, test'), ((MASK,MASK), 'row 0 occurs 2 times')])
def test_splits_that_are_none(splits, said):
    with pytest.raises(ValueError, match=said): make(splits=splits)

def test_a_fold_is_a_split(): assert [make(splits=o).test.tolist() for o in FOLDS] == [o.tolist() for _,o in FOLDS]


def test_a_lazy_source_of_its_own():
    "Whatever reads rows may give float64 and say so"
    X = WAVES+1e6
    t = make(LazySeries(X.__getitem__, X.shape, np.float64))
    np.testing.assert_allclose(t.spec.scale(t.X)[:], z(X), atol=2e-4)

def test_same_seed_same_result_whatever_the_precision_it_came_in():
    fits = []
    for dtype in (np.float32, np.float64):
        learn = quiet_learner(dls=MultiTaskDataLoaders.from_tasks([make(WAVES.astype(np.float32).astype(dtype))], bs=8, device='cpu'))
        set_seed(0)
        learn.fit(1)
        fits.append(weights(learn.model))
    assert same(*fits)

@pytest.mark.parametrize('factor', [1e-40,1e40])
def test_values_that_float32_does_not_reach(factor):
    t = make(WAVES*factor)
    np.testing.assert_allclose(t.spec.scale(t.X), z(WAVES), atol=1e-5)

@pytest.mark.parametrize('X,said', [
    (None, 'or a list of series, found'), ({}, 'or a list of series, found'), ('text', 'or a list of series, found'),
    (scipy.sparse.csr_matrix(WAVES[:,0]), r'found a sparse matrix; take X.toarray\(\)'),
    ([[[1,2],[3]]]*N, 'found variables of unequal length'), (list(range(N)), r'found shape \(\) of dtype int64 in row 0'),
    (np.ma.masked_all((N,2,9)), 'no step in row 0 that has a value')])
def test_series_that_are_none(X, said):
    with pytest.raises(ValueError, match=f"task 'gait': .*{said}"): make(X)

@pytest.mark.parametrize('X', [torch.tensor(WAVES).bfloat16(), torch.tensor(WAVES, requires_grad=True), (o for o in WAVES),
                               WAVES.astype(object), WAVES.astype(np.longdouble)], ids=range(5))
def test_series_of_other_kinds(X): np.testing.assert_allclose(make(X).X, WAVES, atol=.1)

def test_tensors_are_no_labels():
    with pytest.raises(ValueError, match='expected hashable labels, one a series, found tensor'): make(y=[torch.tensor([0,1])]*N)
