"The protocol of T-Loss and TS2Vec for classifiers on frozen embeddings, and the tables."
import math

import numpy as np
import pandas as pd
import pytest
from helpers import quiet_learner, random_task, same, weights
from joblib import parallel_config
from sklearn.metrics import balanced_accuracy_score, f1_score
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC
from tsai_mtcs import evaluation, svm
from tsai_mtcs.data import MultiTaskDataLoaders
from tsai_mtcs.evaluation import CLASSIFIERS, fit_logistic, fit_ridge, results_table, score_task, styled
from tsai_mtcs.svm import SVM_GRID, fit_svm
from tsai_mtcs.tasks import Task
from tsai_mtcs.test_utils import synth_tasks

SCORES = ['rows','accuracy','balanced_accuracy','macro_f1','C']


def clouds(n, labels=2, seed=0, noise=1.):
    "Embeddings of labels in turn, a cloud each"
    rng,y = np.random.default_rng(seed),np.arange(n)%labels
    return rng.normal(size=(labels,6))[y]+noise*rng.normal(size=(n,6)), y

@pytest.fixture(scope='module')
def trained():
    learn = quiet_learner()
    learn.fit(2, 1e-2)
    return learn


# The SVM
@pytest.fixture
def searched(monkeypatch):
    "The embeddings and labels that were searched"
    calls = []
    monkeypatch.setattr(svm, '_search', lambda Z, y: calls.append((Z, y)) or (1., SVM_GRID))
    monkeypatch.setattr(svm.GramSVC, 'fit', lambda self, Z, y: setattr(self, 'ended_', True) or self)
    return calls

@pytest.mark.parametrize('n,labels,search',
    [(49,2,False), (50,2,True), (50,10,True), (54,11,False), (55,11,True), (59,12,False), (60,12,True), (200,41,False), (205,41,True)])
def test_few_rows_are_not_searched(searched, n, labels, search):
    "Under 50 rows, or under 5 a label, C is infinite"
    Z,y = clouds(n, labels)
    clf,C = fit_svm(Z, y)
    assert len(searched) == search and C == clf.C == (1. if search else math.inf)
    if search: assert searched[0][0] is Z and searched[0][1] is y

def test_few_rows_as_scikit_learn():
    Z,y = clouds(40, noise=2.)
    assert (fit_svm(Z, y)[0].predict(Z) == SVC(C=math.inf).fit(Z, y).predict(Z)).all()

def test_grid():
    assert SVM_GRID == (1e-4,1e-3,1e-2,1e-1,1,1e1,1e2,1e3,1e4,math.inf)

@pytest.mark.parametrize('seed', range(4))
@pytest.mark.parametrize('n,labels,noise', [(100,3,1.5), (60,2,3.), (80,8,.5), (150,4,5.)])
def test_as_the_grid_search_of_scikit_learn(n, labels, noise, seed):
    Z,y = clouds(n, labels, seed, noise)
    Z = Z.astype(np.float32)
    clf,C = fit_svm(Z, y)
    grid = GridSearchCV(SVC(gamma='scale', max_iter=10_000_000), dict(C=SVM_GRID), cv=5).fit(Z, y)
    assert C == clf.C == grid.best_params_['C']
    X = clouds(300, labels, seed+10, noise)[0]
    assert (clf.predict(X) == grid.predict(X)).all()

@pytest.mark.parametrize('n,used', [(9_999,9_999), (10_000,10_000), (10_001,10_000), (13_000,10_000)])
def test_ten_thousand_rows_at_most(searched, n, used):
    y = np.repeat([0,0,0,1], -(-n//4))[:n]
    fit_svm(np.arange(n)[:,None], y)
    (Z,y2), = searched
    assert len(Z) == len(y2) == used == len(np.unique(Z)) and (y2 == y[Z[:,0]]).all()
    assert abs((y2 == 1).sum()-used*(y == 1).mean()) <= 1
    fit_svm(np.arange(n)[:,None], y)
    assert (searched[1][0] == Z).all()

def test_ten_thousand_rows_and_a_rare_label(searched):
    y = np.arange(10_100)%2
    y[77] = 2
    fit_svm(np.arange(len(y))[:,None], y)
    assert len(searched[0][1]) == 10_000

@pytest.mark.parametrize('fit,C', [(fit_ridge, np.logspace(-3, 3, 10)), (fit_logistic, [1.])])
def test_other_classifiers(fit, C):
    Z,y = clouds(300, 3, noise=.5)
    scale = np.array([1e-3,1,1e3,1,1,1])
    (a,c),(b,_) = fit(Z[:200], y[:200]),fit(Z[:200]*scale, y[:200])
    assert c in C and (a.predict(Z[200:]) == y[200:]).mean() > .8
    assert (a.predict(Z[200:]) == b.predict(Z[200:]*scale)).mean() > .98, 'the scale of an embedding matters'


# One task
@pytest.mark.parametrize('classifier', CLASSIFIERS)
def test_scores_are_those_of_the_predictions(classifier):
    Z,y = clouds(160, 3, noise=1.2)
    s = score_task((Z[:80],y[:80]), (Z[80:],y[80:]), classifier)
    clf,C = CLASSIFIERS[classifier](Z[:80], y[:80])
    guess = clf.predict(Z[80:])
    assert s['C'] == C and s['accuracy'] == pytest.approx((guess == y[80:]).mean())
    assert s['balanced_accuracy'] == pytest.approx(balanced_accuracy_score(y[80:], guess))
    assert s['macro_f1'] == pytest.approx(f1_score(y[80:], guess, average='macro'))
    assert .4 < s['accuracy'] < 1

@pytest.mark.parametrize('classifier', CLASSIFIERS)
def test_test_labels_change_the_scores_alone(classifier, monkeypatch):
    Z,y = clouds(160, 3)
    seen,fit = [],CLASSIFIERS[classifier]
    def spy(Z, y):
        clf,C = fit(Z, y)
        seen.append((Z, y, clf.predict(clouds(160, 3)[0])))
        return clf, C
    monkeypatch.setitem(evaluation.CLASSIFIERS, classifier, spy)
    true,shuffled = (score_task((Z[:80],y[:80]), (Z[80:],o), classifier) for o in (y[80:], np.roll(y[80:], 1)))
    assert true['accuracy'] > .6 and shuffled['accuracy'] < .4 and true['C'] == shuffled['C']
    for a,b in zip(*seen): assert (a == b).all()
    assert len(seen[0][1]) == 80

@pytest.mark.parametrize('classifier', CLASSIFIERS)
def test_one_label(classifier):
    Z,_ = clouds(20)
    s = score_task((Z,np.zeros(20)), (Z,np.array([0]*15+[1]*5)), classifier)
    assert s['accuracy'] == .75 and s['balanced_accuracy'] == .5 and math.isnan(s['C'])

def test_label_unseen_in_training_counts_as_wrong():
    Z,y = clouds(120, 3, noise=.1)
    s = score_task((Z[:60],y[:60]), (Z[60:],np.where(y[60:] == 2, -1, y[60:])))
    assert s['accuracy'] == pytest.approx(2/3) and s['balanced_accuracy'] == pytest.approx(2/3)


# All tasks
@pytest.mark.parametrize('classifier', CLASSIFIERS)
def test_svm_eval_fits_on_training_rows_and_scores_test_rows(trained, classifier, monkeypatch):
    seen = []
    monkeypatch.setattr(evaluation, 'score_task', lambda *args: seen.append(args) or score_task(*args))
    df = trained.evaluate(classifier)
    assert list(df.columns) == [*SCORES,'embed_s','fit_s','predict_s'] and list(df.index) == ['waves','machine','mean']
    for t,((Ztrain,ytrain),(Ztest,ytest),name) in zip(synth_tasks(), seen):
        Z = trained.embed(t)
        np.testing.assert_allclose(Ztrain, Z[t.train], atol=1e-5)
        np.testing.assert_allclose(Ztest, Z[t.test], atol=1e-5)
        start = trained.dls.space.block(t.name).start
        assert (ytrain == start+t.codes[t.train]).all() and (ytest == start+t.codes[t.test]).all() and name == classifier
        s = score_task((Z[t.train],t.y[t.train].astype(str)), (Z[t.test],t.y[t.test].astype(str)), classifier)
        assert [df.loc[t.name,o] for o in SCORES] == pytest.approx([len(t.test), *(s[o] for o in SCORES[1:])])
    assert df.loc['mean','accuracy'] == pytest.approx(df.accuracy.iloc[:2].mean())

def test_shuffled_test_labels_change_the_scores_alone():
    tasks = [random_task('gait', 60, 30), random_task('alarm', 60, 30, seed=1)]
    rng,shuffled = np.random.default_rng(0),[]
    for t in tasks:
        y = t.y.copy()
        y[t.test] = rng.permutation(y[t.test])
        shuffled.append(Task(t.name, t.X, y, (t.train,t.test)))
    runs = []
    for o in (tasks, shuffled):
        learn = quiet_learner(dls=MultiTaskDataLoaders.from_tasks(o, bs=16, device='cpu'))
        learn.fit(1)
        runs.append((learn.svm_eval(), weights(learn.model)))
    (a,wa),(b,wb) = runs
    assert same(wa, wb) and (a.C == b.C)[:2].all() and (a.accuracy != b.accuracy).any()

def test_evaluation_leaves_the_model_as_it_was(trained):
    before = weights(trained.model)
    trained.model.train()
    trained.svm_eval()
    assert same(before, weights(trained.model)) and trained.model.training

@pytest.mark.parametrize('backend', ['threading', pytest.param('loky', marks=pytest.mark.slow)])
def test_jobs_find_the_same(trained, backend):
    want = trained.svm_eval()[SCORES]
    with parallel_config(backend=backend): pd.testing.assert_frame_equal(trained.svm_eval(n_jobs=2)[SCORES], want)

def test_part_of_the_tasks_and_other_splits(trained):
    want = trained.svm_eval()[SCORES]
    pd.testing.assert_frame_equal(trained.svm_eval(tasks=['machine'])[SCORES][:1], want[1:2])
    pd.testing.assert_frame_equal(trained.svm_eval(tasks='machine')[SCORES][:1], want[1:2])
    held = quiet_learner(dls=MultiTaskDataLoaders.from_tasks(synth_tasks(), valid_pct=.25, bs=16, device='cpu'))
    assert held.svm_eval('valid').rows.tolist()[:2] == [len(held.dls[o].valid_ds) for o in ('waves','machine')] == [8,8]
    with pytest.raises(ValueError, match="there is no classifier 'forest'; known: svm, ridge, logistic"): trained.evaluate('forest')


# Tables
def frame(**accuracy): return pd.DataFrame(dict(accuracy=accuracy, loss={k: 1-v for k,v in accuracy.items()})).rename_axis('task')

def test_results_table():
    a,b = frame(gait=.5, alarm=.7, waves=.9, mean=.7),frame(alarm=.8, gait=1., mean=.9)
    table = results_table(dict(MTCS=a, MTL=b))
    assert list(table.columns) == ['MTCS','MTL'] and list(table.index) == ['gait','alarm','waves','mean']
    assert table.loc['gait'].tolist() == [.5,1.] and np.isnan(table.loc['waves','MTL'])
    assert table.loc['mean'].tolist() == pytest.approx([.6,.9]), 'the mean is over the tasks that all methods have'
    assert results_table(dict(MTCS=a), 'loss').loc['alarm','MTCS'] == pytest.approx(.3)

def test_table_through_csv(trained, tmp_path):
    table = results_table(dict(heads=trained.validate_tasks(), SVM=trained.svm_eval()))
    table.to_csv(tmp_path/'results.csv')
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path/'results.csv', index_col='task', float_precision='round_trip'), table,
                                  check_exact=True)
    svm = trained.svm_eval()
    svm.to_csv(tmp_path/'svm.csv')
    again = pd.read_csv(tmp_path/'svm.csv', index_col='task', float_precision='round_trip')
    pd.testing.assert_frame_equal(again, svm, check_exact=True)
    pd.testing.assert_frame_equal(results_table(dict(heads=trained.validate_tasks(), SVM=again)), table)

def test_styled_marks_the_best_of_a_row():
    html = styled(results_table(dict(a=frame(gait=.5, alarm=.8), b=frame(gait=.6, alarm=.80001))), 'Accuracy').to_html()
    bold = html[:html.index('font-weight: bold')].rsplit('}', 1)[-1]
    assert 'row0_col1' in bold and 'row0_col0' not in bold and 'row1_col0' in bold and 'row1_col1' in bold and 'Accuracy' in html
