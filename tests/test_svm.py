"The SVM protocol has an end on any data, and its answer wherever that is reached."
import math
import time
import warnings

import numpy as np
import pandas as pd
import pytest
from helpers import quiet_learner, random_task
from sklearn.svm import SVC
from tsai_mtcs.archive import bundled_tasks
from tsai_mtcs.data import MultiTaskDataLoaders
from tsai_mtcs.evaluation import fit_logistic, fit_ridge, results_table
from tsai_mtcs.svm import SVM_GRID, GramSVC, fit_svm, search_C
from tsai_mtcs.tasks import Task, TaskWarning


def clouds(n, labels=2, apart=1., seed=0):
    "Embeddings of labels in turn, a cloud each"
    rng,y = np.random.default_rng(seed),np.arange(n)%labels
    return apart*rng.normal(size=(labels,320))[y]+rng.normal(size=(n,320)), y

def twins(n, labels):
    "Every series twice, with different labels"
    Z,y = clouds(n, labels)
    Z[1::2] = Z[::2]
    return Z,y

def one_twin(n, labels):
    Z,y = clouds(n, labels)
    Z[1] = Z[0]
    return Z,y

def constant(n, labels): return np.ones((n,320)), np.arange(n)%labels

def chance(n, labels, rank=3):
    "Series of few degrees of freedom whose labels mean nothing"
    rng = np.random.default_rng(0)
    return rng.normal(size=(n,rank))@rng.normal(size=(rank,320)), rng.integers(0, labels, n)

def near(n, labels):
    Z,y = clouds(n, labels)
    return Z[:1]+1e-6*Z, y

def seconds(Z, y):
    start = time.process_time()
    fit_svm(Z, y)
    return time.process_time()-start

HARD = [twins, one_twin, constant, chance, near]


@pytest.mark.parametrize('make', HARD)
@pytest.mark.parametrize('n,labels',
                         [(320,2), (320,5), pytest.param(1280, 2, marks=pytest.mark.slow), pytest.param(1280, 20, marks=pytest.mark.slow)])
def test_ends_within_ten_times_a_normal_run(make, n, labels):
    normal = min(seconds(*clouds(n, labels, .05)) for _ in range(3))
    data = make(n, labels)
    assert min(seconds(*data) for _ in range(2)) < 10*normal

@pytest.mark.parametrize('make', HARD)
@pytest.mark.parametrize('n,labels', [(20,2), (48,3), (60,2)])
def test_few_rows_end(make, n, labels):
    Z,y = make(n, labels)
    clf,C = fit_svm(Z, y)
    assert clf.ended_ and C == clf.C and clf.predict(Z).shape == (n,)

def test_a_pair_that_no_penalty_parts():
    "20 rows, the first two equal: the largest finite C takes the place of the infinite one, and only one of the two is wrong"
    Z,y = one_twin(20, 2)
    clf,C = fit_svm(Z, y)
    assert C == 1e4 and clf.unended_ == math.inf and (clf.predict(Z) == y).sum() == 19
    assert (clf.predict(clouds(60)[0]) == SVC(C=1e4).fit(Z, y).predict(clouds(60)[0])).all()

def test_what_does_not_end_is_left_out_of_the_search():
    Z,y = one_twin(200, 2)
    Z[2:] += 3*np.eye(320)[0]*(2*y[2:,None]-1) # the others are told apart by any C
    clf,C = fit_svm(Z, y)
    assert C == search_C(Z, y) == 1e-4 and clf.unended_ == math.inf
    assert search_C(Z, y, grid=(1e4,math.inf)) == 1e4 and search_C(Z, y, grid=[math.inf]) == math.inf
    assert search_C(*chance(200, 2), n_jobs=2) == search_C(*chance(200, 2))

def test_a_fold_of_one_label():
    "The only row of a label is in a fold's test part: the others are of one label"
    Z,y = clouds(60)
    y[:] = 0
    y[7] = 1
    clf,_ = fit_svm(Z, y)
    assert (clf.predict(Z) == 0).sum() >= 59

@pytest.mark.parametrize('name', ['ACSF1','GunPoint','ItalyPowerDemand','OSULeaf'])
def test_real_data_ends_and_is_as_without_a_limit(name):
    t, = bundled_tasks(name)
    Z,y = t.spec.scale(t.X)[:,0],t.codes
    clf,C = fit_svm(Z[t.train], y[t.train])
    assert math.isnan(clf.unended_) and C in SVM_GRID
    free = SVC(C=C, gamma='scale').fit(Z[t.train].astype(np.float64), y[t.train])
    assert clf.svc_.n_iter_.max() <= 30*len(t.train) and (clf.predict(Z[t.test]) == free.predict(Z[t.test])).all()

@pytest.mark.parametrize('fit', [fit_ridge, fit_logistic])
@pytest.mark.parametrize('make', HARD)
def test_other_classifiers_end(fit, make):
    Z,y = make(120, 3)
    assert fit(Z, y)[0].predict(Z).shape == (120,)

def test_the_limit_is_the_users_to_set():
    Z,y = chance(60, 2)
    assert not GramSVC(1e4, max_iter=10).fit(Z, y).ended_ and GramSVC(1e4).fit(Z, y).ended_


# Of a learner
@pytest.fixture(scope='module')
def learn():
    "A learner of a task of noise and of one whose first two series are equal, with different labels"
    good,bad = random_task('gait', 16, 6),random_task('alarm', 20, 6)
    X = bad.X.copy()
    X[1] = X[0]
    tasks = [good, Task('alarm', X, bad.y, (bad.train,bad.test))]
    return quiet_learner(dls=MultiTaskDataLoaders.from_tasks(tasks, bs=8, device='cpu'))

@pytest.mark.parametrize('n_jobs', [None, pytest.param(2, marks=pytest.mark.slow)])
def test_a_warning_names_the_task(learn, n_jobs):
    with pytest.warns(TaskWarning, match="task 'alarm': the SVM's solver does not end with C = inf") as said:
        df = learn.svm_eval(n_jobs=n_jobs)
    assert len([o for o in said if issubclass(o.category, TaskWarning)]) == 1
    assert df.C['gait'] == math.inf and df.C['alarm'] == 1e4 and list(df.index) == ['gait','alarm','mean']

def test_no_warning_where_the_protocol_ends(learn):
    with warnings.catch_warnings():
        warnings.simplefilter('error', TaskWarning)
        learn.svm_eval(tasks='gait')

@pytest.mark.parametrize('args,said', [
    (dict(classifier='forest'), "no classifier 'forest'; known: svm"), (dict(tasks=[]), 'found none among: no names'),
    (dict(tasks=['gate']), 'gait'), (dict(split='tset'), "expected the split 'train', 'valid' or 'test', found 'tset'"),
    (dict(split='valid'), 'expected a validation split, found none'), (dict(n_jobs=0), 'found 0'),
    (dict(n_jobs='two'), "found 'two'"), (dict(n_jobs=1.5), 'found 1.5'), (dict(n_jobs=True), 'found True')])
def test_arguments_are_checked_before_anything_is_embedded(learn, monkeypatch, args, said):
    monkeypatch.setattr('tsai_mtcs.evaluation.embed_rows', lambda *_: pytest.fail('embedded'))
    with pytest.raises(ValueError, match=said): learn.evaluate(**args)

def test_a_task_named_twice_is_scored_once(learn):
    assert list(learn.svm_eval(tasks=['gait','gait']).index) == ['gait','mean']

def test_a_diverged_encoder_is_named_with_its_task(learn, monkeypatch):
    real = learn.model.embedding
    monkeypatch.setattr(learn.model, 'embedding', lambda x, k: real(x, k)*(np.nan if k else 1))
    with pytest.raises(ValueError, match="task 'alarm': the encoder's embeddings are not finite"): learn.svm_eval()

def test_the_mean_is_no_task():
    "A row called 'mean' that isn't the last one is a task"
    of = lambda **rows: pd.DataFrame(dict(accuracy=rows)).rename_axis('task')
    table = results_table(dict(a=of(mean=.2, gait=.4), b=pd.concat([of(mean=.6, gait=.8), of(mean=.7)])))
    assert list(table.index) == ['mean','gait','mean'] and table.a.tolist() == pytest.approx([.2,.4,.3])
    assert table.b.tolist() == pytest.approx([.6,.8,.7])
