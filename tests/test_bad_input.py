"What is wrong with the data, the settings or a file is said before any training, with what was expected, what was found and what to do."
import re
import shutil
import warnings
from pathlib import Path

import aeon.datasets
import numpy as np
import pytest
import torch
from helpers import quiet_learner, random_task, synth_learner
from tsai.data.core import Categorize, TSClassification, TSDataLoaders, TSDatasets, get_ts_dls
from tsai_mtcs.archive import bundled_tasks, ucr_tasks
from tsai_mtcs.bench.sites import deal_sites
from tsai_mtcs.data import MultiTaskDataLoaders
from tsai_mtcs.heads import MultiTaskLoss
from tsai_mtcs.labels import LabelSpace
from tsai_mtcs.learner import mtcs_learner
from tsai_mtcs.model import MTCSModel
from tsai_mtcs.tasks import Task, TaskWarning

X,Y,SPLITS = np.random.default_rng(0).normal(size=(10,1,8)),[0,1]*5,(range(6), range(6,10))
BUNDLED = Path(aeon.datasets.__file__).parent/'data'


def loaders(tasks, **kwargs): return MultiTaskDataLoaders.from_tasks(tasks, **{'bs':8, 'device':'cpu', **kwargs})
def learner(tasks, **kwargs): return quiet_learner(dls=loaders(tasks), **kwargs)
def with_value(value, row=7, steps=slice(2, 3)):
    x = X.copy()
    x[row,:,steps] = value
    return x


# Series, labels and splits
@pytest.mark.parametrize('x,y,splits,said', [
    (X, Y[:9], SPLITS, 'expected a label for each series, found 10 series and 9 labels'),
    (X[:9], Y, SPLITS, 'expected a label for each series, found 9 series and 10 labels'),
    (X, Y, ([], range(10)), 'the train split is empty; give it at least one row'),
    (X, Y, (range(6), range(6,11)), 'expected row numbers in 0..9, found 0..10'),
    (X, Y, (range(6), range(5,10)), 'row 5 occurs 2 times in the splits; a row belongs to one of them, once'),
    (X, Y, (range(6),), 'expected splits (train, test) or (train, valid, test), found 1'),
    (X[0,0], Y, SPLITS, 'expected series as (n, vars, len) or (n, len), found 1 axes (8,); reshape it'),
    (X[None], Y, SPLITS, 'expected series as (n, vars, len) or (n, len), found 4 axes (1, 10, 1, 8); reshape it'),
    (X[:0], [], SPLITS, 'expected at least one series of one variable and one step, found shape (0, 1, 8)'),
    ([], [], SPLITS, 'expected at least one series, found an empty list'),
    (X.astype(str), Y, SPLITS, 'expected numbers, found dtype <U'),
    ([[1.,2.]]*9+[np.zeros((2,3))], Y, SPLITS, 'expected the same number of variables in every series, found [1, 2]; make'),
    (with_value(np.inf), Y, SPLITS, 'found an infinite value in row 7; replace it'),
    (with_value(-np.inf), Y, SPLITS, 'found an infinite value in row 7; replace it'),
    (with_value(np.nan, steps=slice(None)), Y, SPLITS, 'found no step in row 7 that has a value (all NaN?); leave that row out'),
    (X, Y[:9]+[None], SPLITS, 'row 9 has no label (None); label it or leave it out'),
    (X, Y[:9]+[np.nan], SPLITS, 'row 9 has no label (nan); label it or leave it out'),
    (X, Y[:9]+[[1]], SPLITS, 'expected hashable labels, one a series, found [1] in row 9'),
    (X, Y[:9]+[True], SPLITS, 'as a truth value and as a number, which Python takes to be equal; give labels of one kind'),
])
def test_a_task_says_what_is_wrong_with_its_data(x, y, splits, said):
    with pytest.raises(ValueError) as e: Task('gait', x, y, splits)
    assert said in str(e.value) and 'gait' in str(e.value)

@pytest.mark.parametrize('tasks,said', [
    ([], 'expected at least one task, found none'),
    ([random_task('gait'), random_task('gait')], "found two tasks named 'gait'; give every task a name of its own"),
    ([random_task('gait'), X], 'expected a task, found a ndarray; make one: Task(name, X, y, splits)'),
    (3, 'expected a task, found a int; make one: Task(name, X, y, splits)'),
])
def test_loaders_say_what_is_wrong_with_tasks(tasks, said):
    with pytest.raises(ValueError) as e: loaders(tasks)
    assert said in str(e.value)

SETTINGS = [(loaders, dict(schedule='even'), "no schedule 'even'; known: proportional, uniform"),
            (loaders, dict(schedule='temperature', temperature=0), 'expected a temperature above 0, found 0'),
            (loaders, dict(schedule='temperature', temperature=-1.), 'expected a temperature above 0, found -1.0'),
            (loaders, dict(bs=0), 'expected batches .* at least one.*found bs=0'),
            (loaders, dict(valid_pct=1.), 'between 0 and 1 to hold out, found 1.0'),
            (loaders, dict(valid_pct=-.1), 'between 0 and 1 to hold out, found -0.1'),
            (loaders, dict(valid_pct='a'), "between 0 and 1 to hold out, found 'a'"),
            (loaders, dict(seed='a'), "expected seed to be a whole number of at least 0, found 'a'"),
            (loaders, dict(steps='a'), "expected steps to be a whole number of at least 1, found 'a'"),
            (learner, dict(arch=3), 'expected an encoder as a class, a module or a name, found 3; known: TS2VecEncoder'),
            (learner, dict(arch=None), 'found None; known: TS2VecEncoder'),
            (learner, dict(sharing='paper', alpha=-1), 'expected a finite alpha of at least 0, found -1'),
            (learner, dict(sharing='paper', relevance='dot'), "no relevance 'dot'; known: probabilities, cosine, covariance"),
            (learner, dict(sharing='paper', distance='median'), "'median'.*mse, l2"),
            (learner, dict(sharing='paper', pairs='some'), "'some'.*all, target"),
            (learner, dict(n_layers=0), 'at least one layer, found n_layers=0'),
            (learner, dict(arch='Unknown'), "no architecture 'Unknown'.*known: .*InceptionTimePlus")]

@pytest.mark.parametrize('make,setting,said', SETTINGS, ids=lambda o: str(o) if isinstance(o, dict) else '')
def test_settings_out_of_range(make, setting, said):
    with pytest.raises(ValueError, match=said): make([random_task('gait'), random_task('alarm')], **setting)

@pytest.mark.parametrize('task,kwargs,said', [
    ('OSULeaf', {}, 'expected a task, found a str'), ([random_task('gait')], {}, 'expected a task, found a list'),
    (random_task('gait'), dict(rows=1.5), 'expected rows to be a whole number of at least 0, found 1.5'),
    (random_task('gait'), dict(n=0), 'expected n to be a whole number of at least 1, found 0'),
    (random_task('gait'), dict(overlap='all'), "expected an overlap in (0, 1], found 'all'"),
    (random_task('gait'), dict(n=7), 'expected test rows for each of 7 sites, found none for site 7 among 6 in all; deal to fewer sites')])
def test_what_cannot_be_dealt_to_sites(task, kwargs, said):
    with pytest.raises(ValueError, match=re.escape(said)): deal_sites(task, **{'n':2, **kwargs})

@pytest.mark.parametrize('names', [3, ['GunPoint',3]])
def test_names_of_bundled_data_sets_are_text(names):
    with pytest.raises(ValueError, match="'3' is none of the bundled data sets"): bundled_tasks(names)

def test_a_file_where_a_folder_should_be(tmp_path):
    (tmp_path/'h.py').write_text('mine')
    for name in ('h.py','h.py/model'):
        with pytest.raises(NotADirectoryError, match=r'expected a folder to write model.safetensors to, found the file .*h\.py'):
            synth_learner().save_pretrained(tmp_path/name)
    assert (tmp_path/'h.py').read_text() == 'mine'

def test_series_that_cannot_be_written_to_are_copied():
    "A tensor that shared their memory could change them, of which PyTorch warns"
    x = X.astype(np.float32)
    x.flags.writeable = False
    task = Task('gait', x, Y, SPLITS)
    kept = loaders([task]).train_ds.store.X[0]
    kept += 1
    assert (task.X == x).all() and (X.astype(np.float32) == x).all()

def test_one_task_trains_and_shares_nothing():
    learn = learner([random_task('gait')], sharing='paper', alpha=9., tau=0.)
    learn.fit(2)
    assert [o[-1] for o in learn.recorder.values] == [0,0] and np.isfinite(learn.recorder.values).all()

def unseen():
    "A task whose last test row alone has the label 'new'"
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return Task('gait', X, ['sit','walk']*4+['sit','new'], SPLITS)

def test_label_without_training_rows_is_warned_of_by_name():
    with pytest.warns(TaskWarning, match="task 'gait': no training row has the label.*'new'.*counted as wrong"):
        Task('gait', X, ['sit','walk']*4+['sit','new'], SPLITS)

def test_label_without_training_rows_counts_as_wrong():
    t = unseen()
    learn = learner([random_task('alarm'), t])
    learn.fit(2)
    df,svm = learn.validate_tasks(),learn.svm_eval()
    right = (learn.predict(t.X[t.test], 'gait')[0] == t.y[t.test])
    assert t.labels == ('sit','walk') and not right[-1]
    assert df.rows['gait'] == svm.rows['gait'] == 4
    assert df.accuracy['gait'] == right.mean()
    assert svm.accuracy['gait'] <= .75 and np.isfinite(df.loss['gait'])
    assert np.isfinite(learn.recorder.values).all()
    known = learn.dls.test_dl(t.X[t.test[:3]], 'gait', t.y[t.test[:3]])
    assert df.loss['gait'] == pytest.approx(learn.validate(dl=known)[0], rel=1e-4)

@pytest.mark.parametrize('reduction', ['mean','sum','none'])
def test_label_without_training_rows_has_no_loss(reduction):
    loss = MultiTaskLoss(LabelSpace([random_task(o).spec for o in ('gait','alarm')]), reduction)
    logits,y = torch.tensor(np.random.default_rng(0).normal(size=(4,4))),torch.tensor([0,-1,3,-2])
    known = loss(logits[[0,2]], y[[0,2]])
    assert torch.equal(loss(logits, y), torch.stack((known[0], 0*known[0], known[1], 0*known[0])) if reduction == 'none' else known)
    assert (loss(logits[[1,3]], y[[1,3]]) == 0).all()

@pytest.mark.parametrize('valid_pct', [0.,.3])
def test_label_with_one_training_row(valid_pct):
    t = Task('gait', X, ['rare']+['sit','walk']*4+['rare'], SPLITS)
    learn = quiet_learner(dls=loaders([t, random_task('alarm')], valid_pct=valid_pct))
    learn.fit(1)
    assert t.labels == ('rare','sit','walk') and np.isfinite(learn.recorder.values).all()
    assert learn.validate_tasks().rows['gait'] == 4 and np.isfinite(learn.svm_eval().accuracy).all()

def test_nothing_to_hold_out_is_warned_of():
    t = Task('gait', X, ['a','b','c','d','e','f','a','b','c','d'], SPLITS)
    with pytest.warns(TaskWarning, match="task 'gait': every label has one training row, none can be held out"):
        dls = loaders([t, random_task('alarm')], valid_pct=.5)
    learn = quiet_learner(dls=dls)
    learn.fit(1)
    assert learn.recorder.values[0][3] is None and learn.validate_tasks('valid').index.tolist() == ['alarm','mean']

@pytest.mark.parametrize('value', [0., 7., -1e-12, 1e6])
@pytest.mark.filterwarnings('error')
def test_constant_data_set(value):
    t = Task('flat', np.full((10,1,8), value), Y, SPLITS)
    assert (t.spec.scale(t.X) == 0).all()
    learn = learner([t, random_task('alarm')])
    learn.fit(2)
    assert np.isfinite(learn.recorder.values).all() and all(o.isfinite().all() for o in learn.model.state_dict().values())

def test_one_constant_variable():
    t = Task('half', np.concatenate((X, np.full_like(X, 3)), 1), Y, SPLITS)
    Z = t.spec.scale(t.X)
    assert (Z[:,1] == 0).all() and np.isclose(Z[t.train][:,0].std(), 1, atol=1e-5)


# Prediction
def test_wrong_number_of_variables_at_predict():
    learn = synth_learner()
    for f in (learn.predict, learn.dls.test_dl, learn.embed):
        with pytest.raises(ValueError, match=r"task 'waves' has 1 variable\(s\), found series of 2: \(3, 2, 9\)"):
            f(np.zeros((3,2,9)), 'waves')

def test_unknown_task_lists_the_known_ones():
    learn = synth_learner()
    for f in (lambda: learn.predict(X, 'wave'), lambda: learn.dls.test_dl(X, 'wave'), lambda: learn.embed(X, 'wave'),
              lambda: learn.dls['wave'],
              lambda: learn.show_results(task='wave'), lambda: learn.svm_eval(tasks=['wave'])):
        with pytest.raises(ValueError, match="there is no task 'wave'; known: waves, machine"): f()

def test_arguments_in_the_wrong_order():
    with pytest.raises(ValueError, match='expected the name of a task, one of waves, machine, found a ndarray'):
        synth_learner().predict('waves', X)

def test_tasks_in_place_of_loaders():
    with pytest.raises(ValueError, match=r'expected loaders, MultiTaskDataLoaders.from_tasks\(tasks\), found a list'):
        mtcs_learner([random_task('a')])

@pytest.mark.parametrize('value,said', [(np.inf, 'infinite value in row 7'), (np.nan, 'no step in row 7')])
def test_bad_values_at_predict(value, said):
    with pytest.raises(ValueError, match=said): synth_learner().predict(with_value(value, steps=slice(None)), 'waves')


# Files
def archive_of(folder, ext):
    "An archive of GunPoint in one format; its training rows are its test rows too"
    (folder/'GunPoint').mkdir()
    for o in ('TRAIN','TEST'): shutil.copy(BUNDLED/f'GunPoint/GunPoint_TRAIN.{ext}', folder/f'GunPoint/GunPoint_{o}.{ext}')
    return folder

def test_missing_archive(tmp_path):
    with pytest.raises(FileNotFoundError,
                       match="expected the UCR archive's folder at .*nowhere, found none; give its `path`, or `download=True`"):
        ucr_tasks(['GunPoint'], tmp_path/'nowhere')

def test_missing_data_set(tmp_path):
    with pytest.raises(FileNotFoundError) as e: ucr_tasks(['GunPiont','Wafer','GunPoint'], archive_of(tmp_path, 'ts'), cache=False)
    assert f"in {tmp_path} for 'GunPiont' (nearest there: GunPoint); 'Wafer';" in str(e.value) and 'download=True' in str(e.value)
    with pytest.raises(ValueError, match="'GunPiont' is none of the bundled data sets; nearest: GunPoint"): bundled_tasks('GunPiont')

@pytest.mark.parametrize('cut', [1,400,5000])
@pytest.mark.parametrize('ext', ['tsv','ts','arff'])
def test_truncated_file_is_named_with_its_line(tmp_path, ext, cut):
    file = archive_of(tmp_path, ext)/f'GunPoint/GunPoint_TRAIN.{ext}'
    assert len(ucr_tasks('GunPoint', tmp_path, cache=False)[0].train) == 50
    whole = file.read_bytes().rstrip()
    part = whole[:whole.rindex(b'\t')+1] if ext == 'tsv' and cut == 1 else whole[:-cut]  # a number cut short is still a number
    file.write_bytes(part)
    with pytest.raises(ValueError) as e: ucr_tasks('GunPoint', tmp_path, cache=False)
    assert str(e.value).startswith(f'{file}, line {len(part.splitlines())}: expected') and 'damaged or cut short' in str(e.value)

@pytest.mark.parametrize('ext', ['tsv','ts','arff'])
def test_empty_file_is_named(tmp_path, ext):
    file = archive_of(tmp_path, ext)/f'GunPoint/GunPoint_TEST.{ext}'
    file.write_bytes(b'')
    with pytest.raises(ValueError) as e: ucr_tasks('GunPoint', tmp_path, cache=False)
    assert str(e.value).startswith(f'{file}: found no series; the file is empty or cut short')

DAMAGE = dict(cut=lambda o: o[:-50], other=lambda o: bytes(100), empty=lambda o: b'', bit=lambda o: o[:-3]+bytes([o[-3]^4])+o[-2:],
              label=lambda o: o.replace(b'sine', b'sinn'), header_cut=lambda o: o[:300], length=lambda o: b'\xff'*8+o[8:],
              text=lambda o: b'[]')

@pytest.mark.parametrize('damage', DAMAGE)
def test_damaged_model_is_refused(tmp_path, damage):
    folder = synth_learner().save_pretrained(tmp_path/'m')
    MTCSModel.from_pretrained(folder)
    file = folder/'model.safetensors'
    file.write_bytes(DAMAGE[damage](file.read_bytes()))
    with pytest.raises(ValueError) as e: MTCSModel.from_pretrained(folder)
    assert str(e.value).startswith(f'{file}: not a whole saved model') and 'take another copy' in str(e.value)

def test_missing_model(tmp_path):
    with pytest.raises(FileNotFoundError, match='expected a saved model in .*, found no model.safetensors there'):
        MTCSModel.from_pretrained(tmp_path)


# tsai's loaders
N,NAMES = 30,np.array(['sit','walk','run'])
TS_X = np.broadcast_to(np.arange(N, dtype=np.float32)[:,None,None], (N,2,7)).copy()
TS_Y = NAMES[np.arange(N)%3]
TS_SPLITS = ([*range(5,25)], [*range(5),*range(25,30)])

def two_steps():
    dsets = TSDatasets(TS_X, TS_Y, tfms=[None, Categorize()], splits=TS_SPLITS, inplace=True)
    return TSDataLoaders.from_dsets(dsets.train, dsets.valid, bs=[8,16], device='cpu')

TSAI = {'get_ts_dls': lambda: get_ts_dls(TS_X, TS_Y, splits=TS_SPLITS, tfms=[None, TSClassification()], bs=8),
        'not in place': lambda: get_ts_dls(TS_X, TS_Y, splits=TS_SPLITS, tfms=[None, Categorize()], bs=8, inplace=False),
        'TSDatasets': two_steps,
        'fixed order': lambda: get_ts_dls(TS_X, TS_Y, splits=TS_SPLITS, tfms=[None, TSClassification(vocab=['walk','sit','run'])], bs=8),
        'drop_last': lambda: get_ts_dls(TS_X, TS_Y, splits=TS_SPLITS, tfms=[None, Categorize()], bs=64, drop_last=True)}

@pytest.mark.parametrize('make', TSAI)
def test_task_from_tsai(make):
    t = Task.from_dls(TSAI[make](), 'steps')
    number = t.X[:,0,0].astype(int)
    assert t.X.shape == (N,2,7) and t.labels == ('run','sit','walk')
    assert number[t.train].tolist() == TS_SPLITS[0] and number[t.test].tolist() == TS_SPLITS[1] and len(t.valid) == 0
    assert t.y.tolist() == TS_Y[number].tolist()
    learn = learner([t])
    learn.fit(1)
    assert set(learn.predict(TS_X, 'steps')[0]) <= set(NAMES)


@pytest.mark.parametrize('name', ['../GunPoint', 'a/b', '..', '.'])
def test_the_name_of_a_data_set_is_no_path(name, tmp_path):
    with pytest.raises(ValueError, match='expected the name of a data set'): ucr_tasks([name], tmp_path)
