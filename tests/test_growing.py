"Tasks added to a trained model: what is learned, and what must stay as it was."
import numpy as np
import pytest
import torch
from fastai.losses import LabelSmoothingCrossEntropyFlat
from fastai.metrics import error_rate

from helpers import quiet, quiet_learner, random_task, same, weights
from tsai_mtcs.growing import (STRENGTHS, KnownTask, add_task, known_labels, known_tasks, related_of, remove_task, solve_new, update_task,
                               with_task)
from tsai_mtcs.data import MultiTaskDataLoaders
from tsai_mtcs.encoders import MMoEEncoder
from tsai_mtcs.kernels import KernelEncoder
from tsai_mtcs.learner import mtcs_learner
from tsai_mtcs.model import MTCSModel
from tsai_mtcs.ridge import Ridge, Rows
from tsai_mtcs.tasks import Task
from tsai_mtcs.test_utils import synth_learner, synth_task, synth_tasks

pytestmark = pytest.mark.filterwarnings('ignore')
KINDS = dict(north=dict(humming='fast', smooth='sine', stuck='square'), south=dict(a='square', b='fast', c='sine'))


def site(name, kinds, train=48, test=48, seed=0):
    task = synth_task(name, kinds, n=train+test, steps=40, seed=seed)
    return Task(name, task.X, task.y, splits=(range(train), range(train, train+test)))

@pytest.fixture(scope='module')
def sites(): return [site(name, o, seed=i) for i,(name,o) in enumerate(KINDS.items())]

@pytest.fixture(scope='module')
def model(sites):
    learn = mtcs_learner(MultiTaskDataLoaders.from_tasks(sites, device='cpu'), KernelEncoder,
                         arch_config=dict(n_kernels=420, parts='minirocket'))
    return quiet(learn).fit_heads().model

@pytest.fixture
def newcomer(): return site('new', dict(x='sine', y='square', z='fast'), train=6, seed=5)

def accuracy(model, task): return (model.predict(task.X[task.test], task.name)[0] == task.y[task.test]).mean()


class TestAnswersOfOtherTasks:
    @pytest.mark.parametrize('bs', [1, 7, 48])
    def test_stay_the_same_to_the_bit(self, model, sites, newcomer, bs):
        changed = [add_task(model, newcomer), update_task(model, site('north', KINDS['north'], seed=7)), remove_task(model, 'north')]
        want = model.predict(sites[1].X[:bs], 'south')[1]
        for o in changed: assert np.array_equal(o.predict(sites[1].X[:bs], 'south')[1], want)

    @pytest.mark.parametrize('bias', [True, False])
    def test_of_trained_heads_too(self, newcomer, bias):
        learn = quiet(synth_learner())
        learn.fit_one_cycle(1)
        if bias: learn.fit_heads()
        task = site('new', dict(x='sine', y='square'), train=6)
        X = task.X[:,:,:32]
        want = learn.model.predict(X, 'waves')[1]
        assert np.array_equal(add_task(learn.model, task).predict(X, 'waves')[1], want)

    def test_the_model_itself_is_left_alone(self, model, newcomer):
        before = weights(model)
        grown = add_task(model, newcomer)
        assert same(before, weights(model)) and grown.backbone is model.backbone and model.space.names == ('north','south')


class TestNewTask:
    @pytest.mark.parametrize('train', [3, 6, 15])
    def test_few_rows_suffice_where_labels_are_known(self, model, train):
        task = site('new', dict(x='sine', y='square', z='fast'), train=train, seed=5)
        assert accuracy(add_task(model, task), task) >= accuracy(add_task(model, task, strength=0), task)

    def test_matches_are_found(self, model, newcomer):
        found = known_labels(model, newcomer)
        assert {(o.label, o.task, o.known) for o in found.itertuples()} == {('x','north','smooth'), ('y','north','stuck'),
                                                                            ('z','north','humming'),
                                                                            ('x','south','c'), ('y','south','a'), ('z','south','b')}

    @pytest.mark.parametrize('seed', range(5))
    def test_labels_of_noise_are_related_to_nothing(self, model, seed):
        task = random_task('noise', n_train=12, labels=3, steps=40, seed=seed)
        assert known_labels(model, task).empty
        alone,drawn = add_task(model, task, strength=0),add_task(model, task)
        assert torch.equal(alone.head.weight, drawn.head.weight)

    def test_without_known_labels_it_is_ridge_regression(self, model, newcomer):
        X = torch.from_numpy(model.embed(newcomer.X[newcomer.train], task='north')).double()
        rows = Rows(X, torch.from_numpy(newcomer.codes[newcomer.train]), 3, torch.ones(6).double())
        w,b = Ridge(rows).head
        new = solve_new(rows, [], None)
        t = ((X@w+b)/(X@new.weight.T+new.bias)).mean()
        assert new.strength == 0 and torch.allclose(X@new.weight.T+new.bias, (X@w+b)/t, atol=1e-6)

    def test_two_labels_of_a_row_each_stand_alone(self, model):
        task = site('new', dict(x='sine', y='square'), train=2)
        assert torch.equal(add_task(model, task).head.weight, add_task(model, task, strength=0).head.weight)

    @pytest.mark.parametrize('rows, evidence, related', [(1, .8, False), (1, .9, True), (2, .8, True), (2, .4, False)])
    def test_labels_of_a_single_row_need_more_evidence(self, rows, evidence, related):
        y = torch.arange(10).repeat(rows)
        pairs = np.arange(10),np.arange(10)
        known = KnownTask('known', torch.zeros(10, 4), evidence*np.eye(10), pairs)
        assert related_of(Rows(torch.zeros(len(y), 4), y, 10, torch.ones(len(y))), [known]) == [known]*related

    def test_a_row_a_label_is_fitted_closely(self, model):
        task = site('new', dict(x='sine', y='square', z='fast'), train=3, seed=5)
        grown = add_task(model, task, strength=0)
        assert (grown.predict(task.X[task.train], 'new')[0] == task.y[task.train]).all()

    def test_strength_is_one_of_those_tried(self, model, newcomer):
        X = torch.from_numpy(model.embed(newcomer.X[newcomer.train], task='north')).double()
        rows = Rows(X, torch.from_numpy(newcomer.codes[newcomer.train]), 3, torch.ones(6).double())
        assert solve_new(rows, known_tasks(model, rows)).strength in (0.,*STRENGTHS)

    def test_several_after_each_other(self, model, newcomer):
        second = site('another', dict(p='fast', q='square'), train=6, seed=8)
        both = add_task(add_task(model, newcomer), second)
        assert both.space.names == ('north','south','new','another') and accuracy(both, second) > .9

    def test_of_another_length_and_a_trained_encoder(self):
        learn = quiet(synth_learner())
        learn.fit_one_cycle(2)
        task = site('new', dict(x='sine', y='square'), train=12)
        assert accuracy(add_task(learn.model, task), task) > .6


class TestSaved:
    @pytest.mark.parametrize('change', ['add', 'update', 'remove'])
    def test_round_trip(self, model, sites, newcomer, change, tmp_path):
        grown = dict(add=lambda: add_task(model, newcomer), update=lambda: update_task(model, site('south', dict(a='square', d='fast'))),
                     remove=lambda: remove_task(model, 'north'))[change]()
        again = MTCSModel.from_pretrained(grown.save_pretrained(tmp_path))
        for name in grown.space.names: assert np.array_equal(again.predict(sites[0].X, name)[1], grown.predict(sites[0].X, name)[1])

    def test_a_loaded_model_grows_as_the_one_that_was_saved(self, model, newcomer, tmp_path):
        again = MTCSModel.from_pretrained(model.save_pretrained(tmp_path))
        assert torch.equal(add_task(again, newcomer).head.weight, add_task(model, newcomer).head.weight)


class TestUpdate:
    def test_new_rows_help(self, newcomer, model):
        small = add_task(model, newcomer, strength=0)
        more = site('new', dict(x='sine', y='square', z='fast'), train=30, seed=6)
        assert accuracy(update_task(small, more), more) >= accuracy(small, more)

    def test_new_label_and_one_without_rows(self, model, sites):
        updated = update_task(model, site('north', dict(smooth='sine', stuck='square', double='fast'), seed=3))
        assert updated.space.specs[0].labels == ('double','humming','smooth','stuck')
        k,old = updated.space.vocab.index(('north','humming')),model.space.vocab.index(('north','humming'))
        assert torch.equal(updated.head.weight[k], model.head.weight[old])
        assert updated.space.specs[0].mean == model.space.specs[0].mean


def test_training_goes_on_with_the_new_task(model, sites, newcomer):
    dls = with_task(MultiTaskDataLoaders.from_tasks(sites, device='cpu', valid_pct=.2), newcomer)
    assert dls.space.vocab == add_task(model, newcomer).space.vocab and len(dls.train_ds.rows[2]) == 6
    assert len(dls.test.dataset.rows[2]) == 48
    learn = quiet(mtcs_learner(dls, KernelEncoder, arch_config=dict(n_kernels=84, parts='minirocket')))
    assert learn.fit_heads().validate_tasks().loc['new','accuracy'] > .5

@pytest.mark.parametrize('do,what', [
    (lambda m, new: add_task(m, Task('north', new.X, new.y)), "has a task 'north' already"),
    (lambda m, new: add_task(m, Task('one', new.X, ['a']*len(new.y))), 'at least two labels'),
    (lambda m, new: add_task(m, random_task('wide', vars=3)), 'variable'),
    (lambda m, new: update_task(m, new), "no task 'new'"),
    (lambda m, new: update_task(m, Task('north', np.zeros((10,2,40)), list('ab')*5)), 'variable'),
    (lambda m, new: remove_task(m, 'new'), "no task 'new'"),
    (lambda m, new: remove_task(remove_task(m, 'north'), 'south'), 'only task')])
def test_what_is_refused(model, newcomer, do, what):
    with pytest.raises(ValueError, match=what): do(model, newcomer)

def test_an_encoder_with_a_part_a_task_is_refused(newcomer):
    learn = synth_learner(arch=MMoEEncoder, arch_config=dict(hidden=8, feats=16, depth=2, experts=2))
    with pytest.raises(ValueError, match='a part for each of 2 tasks'): add_task(learn.model, newcomer)


@pytest.mark.parametrize('loss_func', [None, LabelSmoothingCrossEntropyFlat])
def test_a_learner_takes_on_a_task(loss_func, tmp_path):
    "Others answer to the bit as before; the learner is scored, trained and saved with the new task"
    learn = quiet_learner(loss_func=loss_func and loss_func(), metrics=error_rate)
    learn.fit(2, 1e-2)
    before = {o.name: learn.predict(o.X, o.name)[1] for o in synth_tasks()}
    new = synth_task('new', dict(a='sine', b='square'), seed=7)
    assert learn.add_task(new) is learn and learn.dls.space.names == ('waves','machine','new')
    for o in synth_tasks(): assert (learn.predict(o.X, o.name)[1] == before[o.name]).all()
    assert learn.validate_tasks().accuracy['new'] > .8
    again = MTCSModel.from_pretrained(learn.save_pretrained(tmp_path))
    assert (again.predict(new.X, 'new')[1] == learn.predict(new.X, 'new')[1]).all()
    learn.fit(1, 1e-3)
    assert learn.validate_tasks().accuracy['new'] > .8


class TestLearner:
    "What changes in a learner, and what doesn't"
    def kernels(self, sites):
        dls = MultiTaskDataLoaders.from_tasks(sites, device='cpu', bs=8)
        return quiet(mtcs_learner(dls, KernelEncoder, arch_config=dict(n_kernels=420, parts='minirocket'))).fit_heads()

    def test_more_rows_and_a_new_label(self, sites):
        learn = self.kernels(sites)
        want = learn.predict(sites[1].X[:9], 'south')[1]
        new = site('north', dict(smooth='sine', jagged='square'), train=24, test=12, seed=8)
        learn.update_task(new)
        assert np.array_equal(learn.predict(sites[1].X[:9], 'south')[1], want)
        assert learn.dls.space.specs[0].labels == ('humming','jagged','smooth','stuck') == learn.model.space.specs[0].labels
        assert [len(o.dataset.rows[0]) for o in (learn.dls.train, learn.dls.test)] == [72,60]
        assert [len(o.dataset.rows[1]) for o in (learn.dls.train, learn.dls.test)] == [48,48]
        assert learn.dls.decode(learn.dls.train_ds.targets(1)) == [('south', sites[1].y[i]) for i in sites[1].train]
        assert learn.dls.decode(learn.dls.train_ds.targets(0))[-24:] == [('north', new.y[i]) for i in new.train]
        assert learn.validate_tasks().rows.tolist()[:2] == [60,48]

    def test_learns_from_old_rows_too(self, sites):
        few,many = (site('north', KINDS['north'], train=n, seed=i) for i,n in ((3,6),(4,60)))
        learn = self.kernels([few, sites[1]])
        before = learn.validate_tasks().accuracy['north']
        learn.update_task(Task('north', many.X[many.train], many.y[many.train], splits='train'))
        assert learn.validate_tasks().accuracy['north'] >= before and len(learn.dls.train_ds.rows[0]) == 66
        assert learn.validate_tasks().rows['north'] == 48

    def test_a_task_is_given_up(self, sites):
        learn = self.kernels(sites)
        want = learn.predict(sites[1].X[:9], 'south')[1]
        learn.remove_task('north')
        assert np.array_equal(learn.predict(sites[1].X[:9], 'south')[1], want)
        assert learn.dls.space.names == learn.model.space.names == ('south',) and len(learn.dls.train_ds) == 48
        assert learn.dls.decode(learn.dls.test.dataset.targets(0)) == [('south', sites[1].y[i]) for i in sites[1].test]
        with pytest.raises(ValueError, match="'south' is the model's only task"): learn.remove_task('south')

    def test_training_goes_on(self):
        learn = quiet_learner()
        learn.fit(1)
        learn.update_task(synth_task('waves', dict(sine='sine', fast='fast'), n=24, seed=9))
        learn.fit(1)
        assert learn.fit_heads().validate_tasks().rows.tolist()[:2] == [24,16]
        learn.remove_task('machine')
        learn.fit(1)
        assert list(learn.validate_tasks().index) == ['waves','mean']

    def test_says_what_is_wrong(self, sites):
        learn = quiet_learner()
        for f in (lambda: learn.update_task(synth_task('pump', dict(a='sine'))), lambda: learn.remove_task('pump')):
            with pytest.raises(ValueError, match="there is no task 'pump'; known: waves, machine"): f()
        assert learn.dls.space.names == ('waves','machine')

    def test_validation_rows_stay_held_out(self):
        learn = quiet_learner(dls=MultiTaskDataLoaders.from_tasks(synth_tasks(), device='cpu', valid_pct=.25, bs=16))
        held = len(learn.dls.valid.dataset.rows[0])
        learn.update_task(synth_task('waves', dict(sine='sine', square='square'), n=24, seed=9))
        assert len(learn.dls.valid.dataset.rows[0]) == held and not learn.dls.monitors_test

@pytest.mark.parametrize('f', [lambda o: o.update_task('waves'), lambda o: o.add_task('pump'), lambda o: add_task(o.model, None)])
def test_what_is_no_task_is_refused(f):
    with pytest.raises(ValueError, match='expected a task, found a'): f(quiet_learner())

@pytest.mark.parametrize('strength', [-1, float('nan'), 'x'])
def test_a_strength_that_is_none_is_refused(strength):
    learn = quiet_learner()
    new = synth_task('pump', dict(a='sine', b='fast'))
    for f in (lambda: learn.add_task(new, strength), lambda: learn.fit_heads(strength)):
        with pytest.raises(ValueError, match='strength of at least 0'): f()
