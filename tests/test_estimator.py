"MTCSClassifier with its real neighbours: scikit-learn's and aeon's tools."
import io, re

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from aeon.classification.base import BaseClassifier
from aeon.classification.compose import ClassifierPipeline
from aeon.testing.estimator_checking import parametrize_with_checks as aeon_checks
from aeon.transformations.collection import Normalizer
from sklearn.calibration import CalibratedClassifierCV
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_predict, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.utils.estimator_checks import parametrize_with_checks as sklearn_checks

from helpers import same, weights
from tsai_mtcs.estimator import MTCSClassifier
from tsai_mtcs.test_utils import synth_learner, synth_tasks

QUICK = dict(n_kernels=84, arch_config=dict(parts='minirocket'))
AEONS = "aeon's BaseClassifier keeps is_fitted, classes_, n_classes_ and metadata_ from the start"
TINY = dict(encoder='ts2vec', arch_config=dict(hidden=8, feats=16, depth=2), epochs=2)

pytestmark = pytest.mark.filterwarnings('ignore')


def quick(**kwargs): return MTCSClassifier(**{**QUICK, **kwargs})

@pytest.fixture(scope='module')
def tasks(): return synth_tasks()

def rows(task, split): return task.X[getattr(task, split)],task.y[getattr(task, split)].astype(str)


@sklearn_checks([quick()],
    expected_failed_checks=lambda _: dict.fromkeys(('check_no_attributes_set_in_init', 'check_dont_overwrite_parameters'), AEONS))
def test_scikit_learns_checks(estimator, check): check(estimator)

@aeon_checks([quick()])
def test_aeons_checks(check): check()


class TestOneDataSet:
    @pytest.mark.parametrize('form', ['3d','2d','list','list of 1d','frame','long frame','nested frame','list of frames','float32'])
    def test_containers_give_the_same_answer(self, tasks, form):
        X,y = rows(tasks[0], 'train')
        forms = {'3d':X, '2d':X[:,0], 'list':list(X), 'list of 1d':list(X[:,0]), 'frame':pd.DataFrame(X[:,0]),
                 'float32':X.astype(np.float32),
                 'long frame':pd.DataFrame({'v': X.ravel()}, index=pd.MultiIndex.from_product([range(len(X)), range(X.shape[2])])),
                 'nested frame':pd.DataFrame({'v': [pd.Series(o[0]) for o in X]}), 'list of frames':[pd.DataFrame(o) for o in X]}
        want = quick().fit(X, y).predict_proba(X)
        assert np.array_equal(quick().fit(forms[form], y).predict_proba(forms[form]), want)

    def test_unequal_lengths_several_variables_and_missing_values(self):
        rng,y = np.random.default_rng(0),np.array(['low','high']*10)
        X = [rng.normal(size=(2,n))+3*(o == 'high')*np.sin(np.arange(n)) for n,o in zip(rng.integers(20, 40, 20), y)]
        X[0][0,3:6] = np.nan
        clf = quick().fit(X, y)
        assert clf.score(X, y) == 1 and clf.classes_.tolist() == ['high','low']

    @pytest.mark.parametrize('labels', [['b','a'], [7,3], [True,False], [1.,0.]])
    def test_labels_keep_their_type_and_columns_follow_classes(self, tasks, labels):
        X,y = rows(tasks[0], 'train')
        y = np.array([labels[int(o == 'sine')] for o in y])
        clf = quick().fit(X, y)
        assert clf.classes_.dtype == y.dtype and clf.predict(X).dtype == y.dtype
        assert clf.classes_.tolist() == sorted(labels) and clf.score(X, y) == 1
        assert (clf.classes_[clf.predict_proba(X).argmax(1)] == y).all()

    def test_same_seed_same_answer_and_none_draws_anew(self, tasks):
        X,y = rows(tasks[0], 'train')
        Z = [quick(random_state=o).fit(X, y).transform(X)
             for o in (1, 1, 2, None, None, np.random.RandomState(5), np.random.RandomState(5))]
        assert np.array_equal(Z[0], Z[1]) and not np.array_equal(Z[0], Z[2])
        assert not np.array_equal(Z[3], Z[4]) and np.array_equal(Z[5], Z[6])

    @pytest.mark.parametrize('params', [QUICK, TINY])
    def test_quiet_and_without_trace_in_global_state(self, tasks, params, capfd):
        np.random.seed(1), torch.manual_seed(1)
        before,n_threads = (np.random.get_state()[1].copy(), torch.get_rng_state().clone()),torch.get_num_threads()
        MTCSClassifier(**params).fit(*rows(tasks[0], 'train')).predict(tasks[0].X)
        assert np.array_equal(before[0], np.random.get_state()[1]) and torch.equal(before[1], torch.get_rng_state())
        assert torch.get_num_threads() == n_threads and capfd.readouterr().out == ''

    def test_verbose_shows_training(self, tasks, capfd):
        MTCSClassifier(**TINY, verbose=1).fit(*rows(tasks[0], 'train'))
        assert 'train_loss' in capfd.readouterr().out

    def test_threads_change_nothing(self, tasks):
        X,y = rows(tasks[0], 'train')
        one,two = (quick(n_jobs=o).fit(X, y) for o in (1,2))
        assert np.allclose(one.predict_proba(X), two.predict_proba(X), atol=1e-5)

    def test_a_module_as_encoder_is_left_as_it_is(self, tasks):
        encoder = synth_learner().model.backbone
        before = weights(encoder)
        clf = MTCSClassifier(encoder, epochs=1, lr=.1).fit(*rows(tasks[0], 'train'))
        assert same(before, weights(encoder)) and not same(before, weights(clf.model_.backbone))


class TestScikitLearn:
    def test_search_in_a_pipeline(self, tasks):
        X,y = rows(tasks[0], 'train')
        pipe = make_pipeline(StandardScaler(), quick())
        search = GridSearchCV(pipe, {'mtcsclassifier__n_kernels': [84,168]}, cv=2).fit(X[:,0], y)
        assert search.best_score_ > .9
        assert search.best_estimator_[-1].model_.backbone.feats == search.best_params_['mtcsclassifier__n_kernels']

    def test_as_the_first_part_of_a_pipeline(self, tasks):
        pipe = make_pipeline(quick(), SVC()).fit(*rows(tasks[0], 'train'))
        assert pipe.score(*rows(tasks[0], 'test')) > .9

    @pytest.mark.slow
    def test_cross_validation_in_processes(self, tasks):
        scores = cross_val_score(quick(), *rows(tasks[0], 'train'), cv=3, n_jobs=2)
        assert len(scores) == 3 and scores.mean() > .9

    def test_cross_validation_over_lists(self, tasks):
        X,y = rows(tasks[0], 'train')
        assert (cross_val_predict(quick(), [o[:,:20+i%9] for i,o in enumerate(X)], y, cv=2) == y).mean() > .8

    def test_calibration(self, tasks):
        clf = CalibratedClassifierCV(quick(), cv=2).fit(*rows(tasks[0], 'train'))
        assert clf.score(*rows(tasks[0], 'test')) > .9 and np.allclose(clf.predict_proba(tasks[0].X).sum(1), 1)

    def test_clone_is_unfitted_with_the_same_parameters(self, tasks):
        clf = quick(strength=1.).fit(*rows(tasks[0], 'train'))
        other = clone(clf)
        assert not other.is_fitted and other.get_params() == clf.get_params()

    @pytest.mark.parametrize('params', [QUICK, TINY])
    def test_joblib_round_trip(self, tasks, params):
        clf,file = MTCSClassifier(**params).fit(*rows(tasks[0], 'train')),io.BytesIO()
        joblib.dump(clf, file)
        file.seek(0)
        other = joblib.load(file)
        assert np.array_equal(other.predict_proba(tasks[0].X), clf.predict_proba(tasks[0].X))
        assert not hasattr(other, 'learn_')

    def test_tasks_are_routed_through_a_cross_validation(self, tasks):
        X,y,names = [],[],[]
        for o in tasks: X,y,names = X+list(o.X),y+list(o.y.astype(str)),names+[o.name]*len(o.y)
        with sklearn.config_context(enable_metadata_routing=True):
            est = quick().set_fit_request(task=True).set_score_request(task=True)
            folds = StratifiedKFold(2, shuffle=True, random_state=0).split(X, names)
            assert cross_validate(est, X, y, cv=folds, params=dict(task=np.array(names)))['test_score'].mean() > .9


class TestAeon:
    def test_is_a_classifier_of_aeon(self):
        assert isinstance(quick(), BaseClassifier) and quick().get_tag('capability:unequal_length')

    def test_in_its_pipeline(self, tasks):
        pipe = ClassifierPipeline(Normalizer(), quick()).fit(*rows(tasks[0], 'train'))
        assert pipe.score(*rows(tasks[0], 'test')) > .9

    def test_answers_for_training_rows(self, tasks):
        X,y = rows(tasks[0], 'train')
        clf = quick()
        assert (clf.fit_predict(X, y, cv_size=2) == y).mean() > .9 and clf.is_fitted and clf.score(X, y) == 1


class TestSeveralTasks:
    def test_tasks_learn_from_each_other(self, tasks):
        data = {o.name: rows(o, 'train') for o in tasks}
        same_thing = {'a':data['waves'], 'b':(data['waves'][0], np.char.upper(data['waves'][1]))}
        groups = quick(strength=1.).fit(same_thing).learn.label_groups()
        assert {frozenset(o.label.str.lower()) for _,o in groups.groupby('group')} == {frozenset(['sine']), frozenset(['square'])}

    def test_tasks_of_different_variables(self, tasks):
        rng = np.random.default_rng(0)
        clf = quick().fit({'one':rows(tasks[0], 'train'), 'three':(rng.normal(size=(10,3,25)), list('ab')*5)})
        assert clf.predict_proba(rng.normal(size=(4,3,25)), task='three').shape == (4,2)

    def test_cross_validated_beside_others(self, tasks):
        clf = quick(others={'machine':rows(tasks[1], 'train')})
        scores = cross_val_score(clf, *rows(tasks[0], 'train'), cv=2)
        assert scores.mean() > .9

    def test_asking_needs_a_name(self, tasks):
        clf = quick().fit({o.name: rows(o, 'train') for o in tasks})
        for ask in (clf.predict, clf.predict_proba, clf.transform):
            with pytest.raises(ValueError, match='expected the name of a task, found none; known: waves, machine'): ask(tasks[0].X)


class TestLearner:
    def test_there_and_back(self, tasks):
        clf = quick().fit({o.name: rows(o, 'train') for o in tasks})
        again = MTCSClassifier.from_learner(clf.learn)
        assert np.array_equal(again.predict_proba(tasks[1].X, 'machine'), clf.predict_proba(tasks[1].X, 'machine'))
        assert again.get_params()['arch_config'] == dict(parts=['minirocket'], n_kernels=84, seed=0, steps=None)
        refit = clone(again).fit({o.name: rows(o, 'train') for o in tasks})
        assert np.array_equal(refit.predict_proba(tasks[1].X, 'machine'), clf.predict_proba(tasks[1].X, 'machine'))

    def test_a_learner_of_one_task_needs_no_name(self, tasks):
        clf = MTCSClassifier.from_learner(quick().fit(*rows(tasks[0], 'train')).learn)
        assert clf.classes_.tolist() == ['sine','square'] and clf.score(*rows(tasks[0], 'test')) == 1


@pytest.mark.parametrize('params,data,what', [
    (dict(encoder='kernel'), None, "no encoder 'kernel'; known: kernels, ts2vec"),
    (dict(class_weights='all'), None, "expected class_weights of 'balanced'"),
    (dict(strength=-1), None, 'expected a strength of at least 0'),
    (dict(others={'machine':[1,2,3]}), None, "expected a dictionary {task: (X, y)}, found no such pair for 'machine'"),
    ({}, (np.zeros((2,1,20)), ['a','b','c']), 'inconsistent numbers of samples'),
    ({}, (np.zeros((2,1,20)), ['a','a']), 'found 1 class'),
    ({}, (np.full((2,1,20), np.inf), ['a','b']), 'infinity'),
    ({}, ({'pump':np.zeros((2,1,20))},), "no such pair for 'pump'")])
def test_what_it_refuses(tasks, params, data, what):
    with pytest.raises(ValueError, match=re.escape(what)): quick(**params).fit(*(rows(tasks[0], 'train') if data is None else data))


@pytest.mark.parametrize('param', [dict(strength='bad'), dict(within=-1), dict(class_weights='all'), dict(epochs=-1), dict(epochs=1.5),
                                   dict(lr='fast'), dict(n_jobs=1.5), dict(bs=0), dict(encoder=None)])
def test_a_bad_parameter_is_refused_and_leaves_what_was_fitted(tasks, param):
    "Those of training, too, where the encoder is fixed"
    clf = quick().fit(*rows(tasks[0], 'train'))
    want = clf.predict_proba(tasks[0].X)
    with pytest.raises(ValueError, match=f'expected|{[*param][0]}'): clf.set_params(**param).fit(*rows(tasks[1], 'train'))
    assert np.array_equal(clf.predict_proba(tasks[0].X), want) and clf.classes_.tolist() == ['sine','square']

def test_an_interrupted_fit_leaves_what_was_fitted(tasks, monkeypatch):
    clf = quick().fit(*rows(tasks[0], 'train'))
    want = clf.predict_proba(tasks[0].X)
    def stop(*args, **kwargs): raise KeyboardInterrupt
    monkeypatch.setattr('tsai_mtcs.learner.MTCSLearner.fit_heads', stop)
    with pytest.raises(KeyboardInterrupt): clf.fit(*rows(tasks[1], 'train'))
    assert np.array_equal(clf.predict_proba(tasks[0].X), want)

def test_names_of_tasks_are_text(tasks):
    data = rows(tasks[0], 'train')
    for f in (lambda: quick().fit({1:data, 2:data}), lambda: quick().fit(*data, task=[1]*len(data[1])), lambda: quick().fit(*data, task=1),
              lambda: quick(others={1:data}).fit(*data), lambda: quick().fit(*data).predict(data[0], task=1)):
        with pytest.raises(ValueError, match='expected the name of a task as text, found 1'): f()
