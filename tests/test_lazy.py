"Series that stay on disk: read when they are asked for, with the results of series in memory."
import pickle
import warnings

import numpy as np
import pytest
import torch
from fastai.torch_core import set_seed
from helpers import quiet_learner, same, weights
from tsai_mtcs.data import MultiTaskDataLoaders
from tsai_mtcs.lazy import LazySeries
from tsai_mtcs.series import check_values, series_stats
from tsai_mtcs.tasks import Task
from tsai_mtcs.test_utils import synth_task

LABELS = dict(humming='fast', smooth='sine', stuck='square')


class Rows:
    "An array as h5py has them: without NumPy's methods, of row numbers that rise, and counting what is read at a time"
    def __init__(self, X): self.X,self.shape,self.dtype,self.most = X,X.shape,X.dtype,0
    def __getitem__(self, rows):
        if not isinstance(rows, slice): assert (np.diff(rows) > 0).all(), 'h5py refuses row numbers that do not rise'
        x = self.X[rows]
        self.most = max(self.most, len(x))
        return x

@pytest.fixture
def on_disk(tmp_path):
    "A function that puts an array into a file and gives its read-only memory map"
    def f(X, name='X'):
        np.save(tmp_path/f'{name}.npy', X)
        return np.load(tmp_path/f'{name}.npy', mmap_mode='r')
    return f

def with_gaps(n=90, vars=2, seed=0):
    "A task whose series have missing values and whose rows are split at random"
    t,rng = synth_task('machine', LABELS, n=n, vars=vars, seed=seed),np.random.default_rng(seed)
    X = np.where(rng.random(t.X.shape) < .04, np.nan, 3*t.X+7).astype(np.float32)
    rows = rng.permutation(n)
    return X, t.y, (rows[:n//2], rows[n//2:2*n//3], rows[2*n//3:])

def learner(X, y, splits, **kwargs):
    tasks = [Task('machine', X, y, splits), synth_task('waves', dict(sine='sine', square='square'))]
    return quiet_learner(dls=MultiTaskDataLoaders.from_tasks(tasks, **{'bs':16, 'device':'cpu', **kwargs}), sharing='paper', alpha=.1)


def test_a_memory_map_stays_one(on_disk):
    X,y,splits = with_gaps()
    mapped = on_disk(X)
    t = Task('machine', mapped, y, splits)
    dls = MultiTaskDataLoaders.from_tasks([t.hold_out(.2)], device='cpu')
    assert isinstance(t.X, LazySeries) and t.X.read.array is mapped
    for dl in (*dls.loaders, dls['machine'].train): assert dl.dataset.store.X[0] is t.X
    dls.cpu()
    assert dls.train_ds.store.X[0] is t.X and len(dls.new_empty().train_ds) == 0
    assert all(isinstance(o, torch.Tensor) for o in dls.new_empty().train_ds.store.X)

@pytest.mark.parametrize('kind', ['memmap','rows'])
def test_training_and_scoring_equal_those_in_memory(on_disk, kind):
    X,y,splits = with_gaps()
    source = on_disk(X) if kind == 'memmap' else Rows(X)
    a,b = learner(X, y, splits),learner(source, y, splits)
    assert a.dls.space.specs == b.dls.space.specs
    for learn in (a,b):
        set_seed(0)
        learn.fit(2)
    assert same(weights(a.model), weights(b.model)) and a.recorder.values == b.recorder.values
    for f in (lambda o: o.validate_tasks().values, lambda o: o.svm_eval()[['accuracy','balanced_accuracy','macro_f1','C']].values,
              lambda o: o.relevance().values, lambda o: o.get_preds()[0].numpy()):
        np.testing.assert_array_equal(f(a), f(b))
    t,lazy = (Task('machine', o, y, splits) for o in (X, source))
    for f in (lambda x,o: a.embed(x), lambda x,o: a.embed(o, 'machine'), lambda x,o: a.predict(o, 'machine')[1],
              lambda x,o: a.get_preds(dl=a.dls.test_dl(o, 'machine', y))[0].numpy()):
        np.testing.assert_array_equal(f(t, X), f(lazy, source))

def test_nothing_reads_many_rows_at_once():
    n,shape = 3000,(20,200)
    source,y = Rows(np.random.default_rng(0).normal(size=(n,*shape)).astype(np.float32)),['a','b','c']*(n//3)
    learn = learner(source, y, (range(0, n, 2), range(1, n, 2)), steps=3, val_bs=100)
    assert 100 < source.most <= 2**22//4000, 'statistics take 2**22 values at a time'
    source.most = 0
    learn.fit(1)
    learn.validate_tasks()
    learn.show_results()
    learn.dls.show_batch()
    assert source.most == 100
    source.most = 0
    learn.embed(source, 'machine')
    learn.predict(source, 'machine')
    learn.evaluate('ridge', tasks=['machine'])
    learn.relevance()
    assert source.most == 2**20//4000, 'new series are checked 2**20 values at a time, and embedded fewer'

def test_statistics_of_rows_in_any_order(on_disk):
    X = np.random.default_rng(0).normal([[1e4],[-3.]], [[2.],[1e-3]], (500,2,40)).astype(np.float32)
    X[np.random.default_rng(1).random(X.shape) < .1] = np.nan
    rows = np.random.default_rng(2).permutation(500)[:311]
    mapped = Task('x', on_disk(X), [0,1]*250).X
    mean,std = series_stats(mapped, rows, chunk=1000)
    np.testing.assert_allclose(mean, np.nanmean(X[rows].astype(np.float64), (0,2)), rtol=1e-6)
    np.testing.assert_allclose(std, np.nanstd(X[rows].astype(np.float64), (0,2)), rtol=1e-6)
    assert series_stats(mapped, rows) == series_stats(mapped, np.sort(rows)) == series_stats(X, rows)

@pytest.mark.parametrize('library', ['h5py','zarr'])
def test_arrays_of_other_libraries(tmp_path, library):
    lib,X = pytest.importorskip(library),np.random.default_rng(0).normal(size=(60,2,30))
    create = lib.File(tmp_path/'X.h5', 'w').create_dataset if library == 'h5py' else lib.open_group(tmp_path/'X', mode='w').create_array
    source = create('X', shape=X.shape, dtype=X.dtype, chunks=(8,2,30))
    source[:] = X
    a,b = (Task('x', o, [0,1]*30) for o in (X, source))
    assert a.spec == b.spec and b.X.read.array is source
    for (x,_),(x2,_) in zip(*(MultiTaskDataLoaders.from_tasks(o, device='cpu').train for o in (a,b)), strict=True):
        assert torch.equal(x, x2)

@pytest.mark.parametrize('dtype', ['>f4','f2','f8','i2','u1','?'])
def test_other_dtypes_and_matrices(on_disk, dtype):
    X = np.random.default_rng(0).uniform(0, 100, (60,40)).astype(dtype)
    a,b = (Task('x', o, [0,1]*30) for o in (X, on_disk(X)))
    assert a.spec == b.spec and b.X.shape == (60,1,40) and b.X[:3].dtype == np.float32
    np.testing.assert_array_equal(a.X, b.X)
    (x,y),(x2,y2) = (MultiTaskDataLoaders.from_tasks([o], device='cpu').one_batch() for o in (a,b))
    assert torch.equal(x, x2) and torch.equal(y, y2)

def test_a_read_only_map_warns_of_nothing_and_is_not_written_to(on_disk):
    X,y,splits = with_gaps()
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        dls = MultiTaskDataLoaders.from_tasks(Task('machine', on_disk(X), y, splits), device='cpu')
        for x,_ in dls.train: x += 1
        x,_ = dls.train_ds[0]
        x += 1
    np.testing.assert_array_equal(dls.train_ds.store.X[0], X)

@pytest.mark.parametrize('value,rows,said', [
    (np.inf, [71], 'infinite value in row 71'), (np.nan, [71], 'no step in row 71'),
    (np.inf, [0], 'infinite value in row 0'), (np.nan, [89], 'no step in row 89')])
@pytest.mark.parametrize('chunk', [1, 1000, 2**20])
def test_bad_values_are_found_in_whichever_piece(on_disk, value, rows, said, chunk):
    X = with_gaps()[0]
    check_values(X, 'x', chunk)
    X[rows] = value
    for o in (X, on_disk(X)):
        with pytest.raises(ValueError, match=said): check_values(o, 'x', chunk)

@pytest.mark.parametrize('shape,said', [((9,), 'found 1 axes'), ((2,2,2,2), 'found 4 axes'), ((3,0,4), 'at least one series')])
def test_shapes_it_refuses(shape, said):
    with pytest.raises(ValueError, match=said): Task('x', Rows(np.zeros(shape)), [0]*shape[0])
    with pytest.raises(ValueError, match="task 'x': expected numbers, found dtype"): Task('x', Rows(np.array([['a','b']])), [0])

def test_pickled_loaders_open_the_file_again(on_disk):
    X,y,splits = with_gaps(n=6000)
    dls = MultiTaskDataLoaders.from_tasks(Task('machine', on_disk(X), y, splits), device='cpu', seed=4)
    sent = pickle.dumps(dls)
    assert len(sent) < X.nbytes/3
    for (x,y),(x2,y2) in zip(pickle.loads(sent).train, dls.train, strict=True):
        np.testing.assert_array_equal(x, x2)
        assert torch.equal(y, y2)

@pytest.mark.cuda
def test_batches_move_and_the_file_stays(on_disk):
    X,y,splits = with_gaps()
    a,b = learner(X, y, splits, device='cuda'),learner(on_disk(X), y, splits, device='cuda')
    assert isinstance(b.dls.train_ds.store.X[0], LazySeries) and b.dls.train_ds.store.X[1].is_cuda
    for (x,y),(x2,y2) in zip(a.dls.train, b.dls.train, strict=True):
        assert x2.is_cuda and torch.equal(y, y2)
        np.testing.assert_array_equal(x.cpu(), x2.cpu())
    np.testing.assert_array_equal(a.svm_eval().accuracy, b.svm_eval().accuracy)
