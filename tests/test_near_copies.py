"Rows of one task that are training rows of another are found, whatever their offset, unit, length or gaps, and nothing else is."
import warnings

import numpy as np
import pytest
from tsai_mtcs.archive import bundled_tasks
from tsai_mtcs.data import MultiTaskDataLoaders
from tsai_mtcs.near_copies import copied_fraction, near_copies, warn_of_copies
from tsai_mtcs.tasks import Task, TaskWarning

N,SPLITS,Y = 40,(range(20), range(20,40)),[0,1]*20


def walks(seed=0, vars=1, steps=80): return np.random.default_rng(seed).normal(size=(N,vars,steps)).cumsum(-1)
def pair(X, other): return [Task('a', X, Y, SPLITS), Task('b', other, Y, SPLITS)]
def swapped(X): return np.concatenate((X[20:], X[:20]))

def by_hand(tasks, threshold):
    "The same by NumPy's own correlation, row by row, for tasks of one length and one variable"
    found = []
    for a in tasks:
        for b in tasks:
            if a is b: continue
            for i in a.test:
                r = [np.corrcoef(a.X[i,0].astype(float), b.X[j,0].astype(float))[0,1] for j in b.train]
                if max(r) > threshold: found.append((a.name, i, b.name, b.train[int(np.argmax(r))], max(r)))
    return found


@pytest.mark.parametrize('threshold', [.3,.6,.9])
def test_equal_to_correlations_one_by_one(threshold):
    tasks = [Task(o, walks(s)*10.**s+1e3*s, Y, SPLITS) for s,o in enumerate('abc')]
    got,want = near_copies(tasks, threshold),by_hand(tasks, threshold)
    assert len(want) > 3 and sorted(zip(got.task, got.row, got.other, got.other_row)) == sorted(o[:4] for o in want)
    np.testing.assert_allclose(sorted(got.correlation), sorted(o[4] for o in want), rtol=1e-6)

@pytest.mark.parametrize('vars', [1,3])
@pytest.mark.parametrize('change', [lambda x: x, lambda x: 1e5+x, lambda x: -7+1e-3*x,
                                    lambda x: x+np.random.default_rng(9).normal(0, .05, x.shape)],
                         ids=['equal','offset','unit','noise'])
def test_copies_are_found_with_their_row(vars, change):
    X = walks(vars=vars)
    got = near_copies(pair(X, change(swapped(X))))
    assert got[got.task == 'a'].row.tolist() == got[got.task == 'b'].row.tolist() == list(range(20,40))
    assert got.other_row.tolist() == list(range(20))*2 and (got.correlation > .98).all()

@pytest.mark.parametrize('threshold', [.999999,.98,.5])
def test_thresholds_close_to_one(threshold):
    "A correlation is computed in float64 in the end"
    X = walks()
    noisy = swapped(X)+np.random.default_rng(1).normal(0, .003, X.shape)
    tasks = pair(X.astype(np.float32), noisy)
    got = {(o.task, o.row): o.correlation for o in near_copies(tasks, threshold).itertuples()}
    want = {o[:2]: o[4] for o in by_hand(tasks, threshold)}
    assert got.keys() == want.keys() and np.allclose([got[o] for o in got], [want[o] for o in got], atol=1e-9)

def test_other_lengths_gaps_and_padding():
    X = walks(steps=101)
    half,gaps = swapped(X)[:,:,::2],swapped(X).copy()
    gaps[np.random.default_rng(2).random(gaps.shape) < .03] = np.nan
    padded = np.concatenate((swapped(X), np.full((N,1,30), np.nan)), 2)
    for other in (half, gaps, padded): assert copied_fraction(pair(X, other)).values.tolist() == [[0,1],[1,0]]

def test_what_is_no_copy():
    X = walks()
    assert not len(near_copies(pair(X, walks(1))))
    assert not len(near_copies(pair(X, -swapped(X)))), 'a mirrored series is another one'
    assert not len(near_copies(pair(np.full_like(X, 3), np.full_like(X, 3)))), 'constant series resemble nothing'
    assert not len(near_copies(pair(X, X))), 'test rows of one that are test rows of the other'
    assert not len(near_copies(pair(X, np.concatenate((swapped(X),)*2, 1)))), 'tasks of other variables are not compared'
    assert near_copies([]).columns.tolist() == ['task','row','other','other_row','correlation']
    assert copied_fraction(pair(X, X)[:1]).values.tolist() == [[0]]

def test_a_part_of_the_test_rows():
    X,Z = walks(),walks(1)
    Z[[3,7,11]] = X[[20,30,39]]
    f = copied_fraction(pair(X, Z))
    assert f.loc['a','b'] == 3/20 and f.loc['b','a'] == 0 and near_copies(pair(X, Z)).other_row.tolist() == [3,7,11]

def test_loaders_warn_of_copies_by_name():
    X,Z = walks(),walks(1)
    Z[:5] = X[20:25]
    with pytest.warns(TaskWarning, match="25% of 'a' in 'b'.*check_copies=False"): MultiTaskDataLoaders.from_tasks(pair(X, Z), device='cpu')
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        MultiTaskDataLoaders.from_tasks(pair(X, Z), device='cpu', check_copies=False)
        MultiTaskDataLoaders.from_tasks(pair(X, walks(1)), device='cpu')
        MultiTaskDataLoaders.from_tasks(bundled_tasks(), device='cpu')

def test_the_look_is_bounded():
    "Rows, values and tasks of the sample have limits, and the seed decides"
    class Counted:
        def __init__(self, X): self.X,self.shape,self.dtype,self.read = X,X.shape,X.dtype,0
        def __getitem__(self, rows):
            x = self.X[rows]
            self.read += x.size
            return x
    sources = [Counted(np.random.default_rng(i).normal(size=(3000,1,40)).astype(np.float32)) for i in range(3)]
    tasks = [Task(str(i), o, [0,1]*1500, (range(1500), range(1500,3000))) for i,o in enumerate(sources)]
    for o in sources: o.read = 0
    warn_of_copies(tasks)
    assert all(o.read <= 64*40+1500*40 for o in sources), 'rows of a file are read as a stretch or one by one'
    for o in sources: o.read = 0
    warn_of_copies(tasks, values=400)
    assert all(0 < o.read <= 2*400 for o in sources)
