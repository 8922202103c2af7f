"What tasks and labels count in the loss, and how the losses and gradients of tasks are balanced."
import numpy as np
import pytest
import torch
from fastai.callback.core import Callback
from fastai.callback.training import GradientAccumulation
from fastai.losses import CrossEntropyLossFlat
from helpers import quiet_learner, random_task, weights
from tsai_mtcs.callback.balancing import LossBalancing, dwa_weights
from tsai_mtcs.callback.checkpoint import Checkpoint
from tsai_mtcs.callback.surgery import AGGREGATORS, GradientSurgery
from tsai_mtcs.data import MultiTaskDataLoaders
from tsai_mtcs.heads import MultiTaskLoss
from tsai_mtcs.losses import label_weights
from tsai_mtcs.tasks import Task
from tsai_mtcs.test_utils import synth_dls, synth_task


def rare(n=40):
    "A task of which a tenth of the rows has the label b"
    return Task('rare', synth_task('rare', dict(a='sine', b='fast'), n=n).X, ['b' if i%10 == 0 else 'a' for i in range(n)], splits='train')


class TestWeights:
    def test_balanced_is_what_scikit_learn_computes(self):
        from sklearn.utils.class_weight import compute_class_weight
        dls = MultiTaskDataLoaders.from_tasks([rare(), random_task('other', labels=3)], device='cpu')
        want = [compute_class_weight('balanced', classes=np.unique(y), y=y) for y in (dls.train_ds.targets(0), dls.train_ds.targets(1))]
        w = label_weights(dls.train_ds, 'balanced', {'other': .5})
        np.testing.assert_allclose(w, np.concatenate((want[0], .5*want[1])), rtol=1e-6)
        assert label_weights(dls.train_ds) is None

    @pytest.mark.parametrize('kw, w', [(dict(class_weights='balanced'), [40/72,5,1,1]), (dict(task_weights={'other': 3}), [1,1,3,3])])
    def test_the_loss_of_a_learner_is_the_one_by_hand(self, kw, w):
        dls = MultiTaskDataLoaders.from_tasks([rare(), random_task('other')], device='cpu', bs=8)
        learn = quiet_learner(dls=dls, **kw)
        y = torch.tensor([0,1,0,1])
        logits = torch.randn(4, 4)
        by_hand = -(logits[:,:2].log_softmax(1)[range(4),y]*torch.tensor(w)[y]).sum()/4
        assert float(learn.loss_func(logits, y)) == pytest.approx(float(by_hand), rel=1e-5)
        learn.fit(1)
        assert np.isfinite(learn.recorder.values[-1][0])

    def test_scores_are_not_weighted(self):
        a,b = quiet_learner(task_weights={'waves': 9.}),quiet_learner()
        assert a.validate_tasks().equals(b.validate_tasks())

    def test_a_task_of_weight_0_changes_nothing(self):
        learn = quiet_learner(task_weights={'waves': 0, 'machine': 1}, sharing=None)
        before = weights(learn.model)['head.last.weight']
        learn.fit(1, wd=0)
        after = weights(learn.model)['head.last.weight']
        assert torch.equal(before[:2], after[:2]) and not torch.equal(before[2:], after[2:])

    def test_a_new_task_keeps_them(self):
        learn = quiet_learner(task_weights={'waves': 2.})
        learn.add_task(synth_task('new', dict(x='sine', y='fast')))
        assert learn.loss_func.weight.tolist() == [2,2,1,1,1,1,1]

    @pytest.mark.parametrize('kw, said', [(dict(class_weights='balance'), "expected class_weights of 'balanced' or None"),
                                          (dict(task_weights={'wave': 1}), "there is no task 'wave'; known: waves, machine"),
                                          (dict(task_weights={'waves': -1}), 'expected finite weights of at least 0'),
                                          (dict(task_weights={'waves': 2}, loss_func=CrossEntropyLossFlat()), 'found both')])
    def test_says_what_is_wrong(self, kw, said):
        with pytest.raises(ValueError, match=said): quiet_learner(**kw)

    def test_wrong_number_of_weights(self):
        space = synth_dls().space
        with pytest.raises(ValueError, match='expected a weight for each of 5 labels'): MultiTaskLoss(space, weight=torch.ones(3))


class TestSchedule:
    def test_weights_by_name(self):
        dls = synth_dls(schedule={'machine': 3}, steps=40)
        owner = [k for k,_ in plan_of(dls.train)]
        assert owner.count(0) == 10 and owner.count(1) == 30
        learn = quiet_learner(dls=dls)
        learn.fit(1)

    @pytest.mark.parametrize('wrong', [{'pump': 1}, {'waves': -1}, {'waves': 0, 'machine': 0}, {'waves': 'much'}, ('waves',)])
    def test_says_what_is_wrong(self, wrong):
        with pytest.raises(ValueError, match='schedule'): synth_dls(schedule=wrong)

def plan_of(dl):
    dl.before_iter()
    return dl.plan


class Cut(Callback):
    "Cut a fit off in its third epoch"
    def before_batch(self):
        if self.training and self.epoch == 2: raise KeyboardInterrupt


class TestLossBalancing:
    def test_a_validation_leaves_the_weights(self):
        learn = quiet_learner(cbs=LossBalancing())
        learn.fit(1)
        found = learn.loss_balancing.weights
        assert not torch.equal(found, torch.ones_like(found))
        for look in (learn.validate, learn.get_preds): look()
        assert torch.equal(learn.loss_balancing.weights, found)

    def test_dwa_by_hand(self):
        w = dwa_weights(torch.tensor([1.,.5,0.]), torch.tensor([2.,.5,0.]), 2.)
        e = np.exp([.25,.5,.5])
        np.testing.assert_allclose(w, 3*e/e.sum(), rtol=1e-6)

    def test_uncertainty_ends_where_the_loss_says(self):
        cb = LossBalancing(lr=.5)
        learn = quiet_learner(cbs=cb)
        learn.fit(1)
        for _ in range(500):
            for k,loss in enumerate((.5,2.)):
                learn.loss_grad,learn.yb = torch.tensor(loss),(torch.tensor([learn.dls.space.offsets[k]]),)
                cb.after_loss()
        np.testing.assert_allclose(cb.weights, [1,.25], rtol=1e-3) # 1/(2 L)

    def test_weighs_the_gradient_and_not_the_scores(self):
        learn = quiet_learner(cbs=LossBalancing(lr=1e-9), sharing=None)
        learn.fit(1)
        plain = quiet_learner(sharing=None)
        plain.fit(1)
        for a,b in zip(weights(learn.model).values(), weights(plain.model).values()): assert torch.allclose(a, b, atol=1e-5)

    @pytest.mark.parametrize('by', ['uncertainty','dwa'])
    def test_a_resumed_fit_ends_as_if_nothing_had_happened(self, by, tmp_path):
        def learner(): return quiet_learner(cbs=LossBalancing(by))
        whole = learner()
        whole.fit(4, 1e-2)
        cut = learner()
        with pytest.raises(KeyboardInterrupt): cut.fit(4, 1e-2, cbs=[Checkpoint(tmp_path/'c.pth'), Cut()])
        again = learner()
        start = again.resume(tmp_path/'c.pth')
        again.fit(4, 1e-2, start_epoch=start)
        assert start == 2 and torch.equal(again.loss_balancing.weights, whole.loss_balancing.weights)

    @pytest.mark.parametrize('kw, said', [(dict(by='famo'), 'known: uncertainty, dwa'),
                                          (dict(lr=0), 'expected lr to be a number above 0')])
    def test_says_what_is_wrong(self, kw, said):
        with pytest.raises(ValueError, match=said): LossBalancing(**kw)


class TestSurgery:
    def test_the_mean_is_gradient_accumulation(self):
        ways = [GradientSurgery(lambda G: G.mean(0), 2), GradientAccumulation(32)]
        found = []
        for cb in ways:
            learn = quiet_learner(cbs=cb, sharing=None, dls=synth_dls(schedule='round_robin', bs=16))
            learn.fit(2, 1e-2, wd=0)
            found.append(weights(learn.model))
        for k in found[0]: assert torch.allclose(found[0][k], found[1][k], atol=2e-3), k

    def test_a_last_step_of_fewer_batches(self):
        seen = []
        learn = quiet_learner(cbs=GradientSurgery(lambda G: seen.append(len(G)) or G.mean(0), 3), sharing=None)
        learn.fit(1)
        assert seen == [3,1]

    @pytest.mark.parametrize('name', AGGREGATORS)
    def test_aggregators_of_torchjd(self, name):
        pytest.importorskip('torchjd')
        if name == 'upgrad': pytest.importorskip('qpsolvers')
        learn = quiet_learner(cbs=GradientSurgery(name, 2))
        learn.fit(6, 1e-2)
        assert learn.validate_tasks().accuracy['mean'] > .5

    @pytest.mark.parametrize('kw, said', [(dict(aggregator='mean of all'), 'there is no aggregator'),
                                          (dict(aggregator=len, batches=1), 'at least two')])
    def test_says_what_is_wrong(self, kw, said):
        with pytest.raises(ValueError, match=said): GradientSurgery(**kw)


class TestWhatMakesNoSense:
    @pytest.mark.parametrize('kwargs', [dict(lr='x'), dict(lr=float('inf')), dict(lr=0), dict(temperature=float('nan'))])
    def test_no_number_above_0_is_refused(self, kwargs):
        with pytest.raises(ValueError, match='number above 0'): LossBalancing(**kwargs)

    def test_weights_before_a_fit_ask_for_one(self):
        learn = quiet_learner(cbs=LossBalancing())
        with pytest.raises(ValueError, match='expected a fit'): print(learn.loss_balancing.weights)

    @pytest.mark.parametrize('log_var,means', [(torch.zeros(5), torch.zeros(0, 5)), (torch.full((2,), torch.nan), torch.zeros(0, 2)),
                                               (torch.full((2,), -1e30), torch.zeros(0, 2)), (torch.zeros(2), torch.zeros(2, 3)),
                                               (torch.zeros(2), torch.full((2, 2), torch.inf))])
    def test_a_damaged_state_is_refused(self, log_var, means):
        learn = quiet_learner(cbs=LossBalancing())
        cb = learn.loss_balancing
        cb.before_fit()
        with pytest.raises(ValueError, match='of 2 tasks'): cb.load_state_dict(dict(log_var=log_var, means=means))
        cb.load_state_dict(dict(log_var=torch.zeros(2, dtype=torch.long), means=torch.zeros(0, 2)))
        cb.log_var[0] -= .1 # floating point whatever the file holds

    @pytest.mark.parametrize('given', [5, ['waves'], dict(waves=1e300)])
    def test_task_weights_that_are_none(self, given):
        with pytest.raises(ValueError, match='task_weights: expected'): quiet_learner(task_weights=given)
