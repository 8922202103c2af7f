"Relevance, sharing loss and the callback against equations 3 to 6, a loop for every sum, in float64."
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from fastai.callback.core import Callback, CancelFitException
from fastai.callback.training import GradientAccumulation
import reference
from helpers import quiet, quiet_learner, random_task, same, weights
from tsai_mtcs.callback.checkpoint import Checkpoint
from tsai_mtcs.callback.sharing import MTCSLoss
from tsai_mtcs.data import MultiTaskDataLoaders
from tsai_mtcs.labels import LabelSpace
from tsai_mtcs.learner import mtcs_learner
from tsai_mtcs.optimizers import Adam
from tsai_mtcs.partners import PartnerHead, PartnerLoss, RowOptimizer
from tsai_mtcs.sharing import label_relevance, sharing_loss
from tsai_mtcs.tasks import TaskSpec

SIZES = [(2,2), (1,1), (3,), (1,5,3), (4,2,6,1), (2,3,1)*10]
READINGS = [(r, p) for r in ('mse','l2') for p in ('all','target')]


def label_space(sizes): return LabelSpace([TaskSpec(f't{k}', tuple(range(n)), 1, 10, (0.,), (1.,)) for k,n in enumerate(sizes)])
def draw(sizes, bs=8, feats=12, seed=0):
    "Logits and weights for a label space, float64"
    rng = np.random.default_rng(seed)
    return 2*rng.normal(size=(bs,sum(sizes))), rng.normal(size=(sum(sizes),feats))

def close(got, want, eps):
    assert np.abs(np.asarray(got)-want).max() <= eps*np.abs(want).max(), np.abs(np.asarray(got)-want).max()/np.abs(want).max()


@pytest.mark.parametrize('by', ['probabilities','cosine'])
@pytest.mark.parametrize('sizes', SIZES, ids=str)
def test_relevance_is_equation_5(sizes, by):
    logits,_ = draw(sizes)
    want,space = reference.relevance(logits, sizes, by),label_space(sizes)
    close(label_relevance(torch.tensor(logits), space, by), want, 1e-12)
    close(label_relevance(torch.tensor(logits, dtype=torch.float32), space, by), want, 1e-6)

@pytest.mark.parametrize('by', ['probabilities','cosine'])
def test_relevance_of_extreme_logits_is_finite(by):
    R = label_relevance(torch.tensor([[1e4,-1e4,1e4,-1e4]]*3), label_space((2,2)), by)
    assert R.isfinite().all() and R[0,2] > 1.9

def test_cosine_of_labels_without_logits_is_zero():
    assert (label_relevance(torch.zeros(4,5), label_space((2,3)), 'cosine') == 0).all()

@pytest.mark.parametrize('distance,pairs', READINGS)
@pytest.mark.parametrize('sizes', SIZES, ids=str)
def test_loss_is_equation_3_summed_as_in_6(sizes, distance, pairs):
    logits,W = draw(sizes)
    R,kw = reference.relevance(logits, sizes),dict(tau=1.2, distance=distance, pairs=pairs, target=len(sizes)//2)
    for dtype,eps in ((torch.float32,1e-6), (torch.float64,1e-12)):
        w,r,space = torch.tensor(W, dtype=dtype),torch.tensor(R, dtype=dtype),label_space(sizes)
        close(sharing_loss(w, r, space, **kw), reference.loss(w.double().numpy(), r.numpy(), sizes, **kw), eps)

@pytest.mark.parametrize('seed', range(8))
def test_random_label_spaces(seed):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 7, rng.integers(2, 9)).tolist()
    logits,W = (torch.tensor(o) for o in draw(sizes, seed=seed))
    got = sharing_loss(W, label_relevance(logits, label_space(sizes)), label_space(sizes), 1.1)
    close(got, reference.loss(W.numpy(), reference.relevance(logits.numpy(), sizes), sizes, 1.1), 1e-12)

@pytest.mark.parametrize('apart', [1e-1,1e-2,1e-3,1e-4])
def test_nearly_equal_rows_keep_their_digits(apart):
    "What sharing is for: rows that have grown alike, their squared distance a difference of nearly equal numbers"
    sizes = (3,4,2)
    logits,W = draw(sizes)
    W = torch.tensor(W[:1]+apart*W, dtype=torch.float32)
    R = reference.relevance(logits, sizes)
    close(sharing_loss(W, torch.tensor(R), label_space(sizes), 1.2), reference.loss(W.double().numpy(), R, sizes, 1.2), 1e-6)

@pytest.mark.parametrize('distance,pairs', READINGS)
@pytest.mark.parametrize('apart', [1.,1e-4])
def test_gradient_is_that_of_the_equations(distance, pairs, apart):
    sizes,kw = (3,1,4),dict(tau=1.1, distance=distance, pairs=pairs, target=2)
    logits,W = draw(sizes)
    R,grads = reference.relevance(logits, sizes),[]
    for f,r,s in ((sharing_loss, torch.tensor(R), label_space(sizes)), (reference.loss, R, sizes)):
        w = torch.tensor(W[:1]+apart*W, requires_grad=True)
        f(w, r, s, **kw).backward()
        grads.append(w.grad.numpy())
    close(*grads, 1e-10)

def test_no_relevant_pair_is_exactly_zero():
    _,W = draw((3,4,2))
    w = torch.tensor(W, requires_grad=True)
    loss = sharing_loss(w, label_relevance(torch.zeros(5,9), label_space((3,4,2))), label_space((3,4,2)))
    loss.backward()
    assert loss.item() == 0 and (w.grad == 0).all()

def test_relevance_has_no_gradient():
    logits,W = (torch.tensor(o, requires_grad=True) for o in draw((2,3)))
    sharing_loss(W, label_relevance(logits, label_space((2,3))), label_space((2,3)), 1.).backward()
    assert logits.grad is None and (W.grad != 0).any()
    assert not label_relevance(logits, label_space((2,3))).requires_grad

@pytest.mark.parametrize('by', ['probabilities','cosine'])
def test_relevance_leaves_autocast(by):
    logits = torch.tensor(draw((2,3,4))[0], dtype=torch.float32)
    want = label_relevance(logits, label_space((2,3,4)), by)
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(label_relevance(logits, label_space((2,3,4)), by), want)
        half = logits.bfloat16()
        assert torch.equal(label_relevance(half, label_space((2,3,4)), by), label_relevance(half.float(), label_space((2,3,4)), by))

@pytest.mark.parametrize('bs', [1,8,1500])
def test_covariance_relevance(bs):
    "By chunks, where the rows of a data set are more than one"
    sizes,rng = (3,2,4),np.random.default_rng(bs)
    logits,z = 2*rng.normal(size=(bs,9)),rng.normal(size=(bs,6))
    got = label_relevance(torch.tensor(logits), label_space(sizes), 'covariance', torch.tensor(z))
    if bs == 1: assert (got == 0).all()
    else: close(got, reference.relevance(logits, sizes, 'covariance', z), 1e-10)

def test_loss_leaves_autocast():
    logits,W = (torch.tensor(o, dtype=torch.float32) for o in draw((2,3,4)))
    R = label_relevance(logits, label_space((2,3,4)))
    want = sharing_loss(W, R, label_space((2,3,4)), 1.1)
    with torch.autocast('cpu', torch.bfloat16): assert torch.equal(sharing_loss(W, R, label_space((2,3,4)), 1.1), want)


class Watch(Callback):
    "Keeps the loss and the gradient of every training batch"
    order = 100
    def before_fit(self): self.seen_losses,self.seen_grads = [],[]
    def after_loss(self):
        if self.training: self.seen_losses.append(self.learn.loss.item())
    def after_backward(self): self.seen_grads.append({k: p.grad.clone() for k,p in self.model.named_parameters()})

def test_gradient_of_the_callback_reaches_only_heads():
    grads = []
    for alpha in (0.,10.):
        learn = quiet_learner(sharing='paper', alpha=alpha, tau=1., cbs=Watch())
        learn.fit(1, 0.)
        grads.append(learn.watch.seen_grads[0])
    for k in grads[0]: assert torch.equal(grads[0][k], grads[1][k]) == k.startswith('backbone'), k

@pytest.mark.parametrize('kw', [{}, dict(pairs='target'), dict(distance='l2', relevance='cosine', tau=1.)], ids=str)
def test_columns_are_the_parts_of_the_training_loss(kw):
    learn = quiet_learner(sharing='paper', **{'alpha':2., 'tau':1., **kw}, cbs=Watch())
    learn.fit(2)
    row = dict(zip(learn.recorder.metric_names[1:], learn.recorder.values[-1]))
    assert row['sharing_loss'] > 0
    assert np.isclose(row['cls_loss']+row['sharing_loss'], np.mean(learn.watch.seen_losses[-learn.recorder.iters[0]:]), rtol=1e-6)

def test_callback_measures_covariance_on_embeddings():
    learn = quiet_learner(sharing='paper', alpha=3., tau=1., cbs=Watch(), relevance='covariance')
    sizes,before = [len(o.labels) for o in learn.dls.space.specs],learn.model.head.weight.detach().double().numpy()
    x,y = learn.dls.train.one_batch()
    learn.model.backbone.dropout = 0.
    z,logits = (o.detach().double().numpy() for o in (learn.model.backbone(x), learn.model(x)))
    learn.fit(1, 0.)
    share = 3*reference.loss(before, reference.relevance(logits, sizes, 'covariance', z), sizes, 1.)
    assert share > 0 and np.isclose(learn.watch.seen_losses[0], learn.loss_func(torch.tensor(logits), y).item()+share, rtol=1e-5)
    assert not learn.model.backbone._forward_hooks

@pytest.mark.parametrize('kw', [{}, dict(pairs='target'), dict(distance='l2', relevance='cosine')], ids=str)
def test_callback_adds_equation_6(kw):
    learn = quiet_learner(sharing='paper', alpha=3., tau=1.1, cbs=Watch(), **kw)
    space,sizes,before = learn.dls.space,[len(o.labels) for o in learn.dls.space.specs],learn.model.head.weight.detach().double().numpy()
    x,y = learn.dls.train.one_batch()
    learn.model.backbone.dropout = 0.
    logits = learn.model(x).detach().double().numpy()
    learn.fit(1, 0.)
    R = reference.relevance(logits, sizes, kw.get('relevance', 'probabilities'))
    share = 3*reference.loss(before, R, sizes, 1.1, kw.get('distance', 'mse'), kw.get('pairs', 'all'), space.owner[y[0]])
    cls = learn.loss_func(torch.tensor(logits), y).item()
    assert share > 0 and np.isclose(learn.watch.seen_losses[0], cls+share, rtol=1e-5)

def fitted(**kwargs):
    learn = quiet_learner(sharing='paper', **kwargs)
    learn.fit(1)
    return learn

@pytest.mark.parametrize('pairs', ['all','target'])
def test_as_many_partners_as_tasks_are_all(pairs):
    a,b = (fitted(alpha=5., tau=1., pairs=pairs, partners=m) for m in (None,2))
    assert same(weights(a.model), weights(b.model)) and a.recorder.values[-1][-1] > 0

@pytest.mark.parametrize('pairs', ['all','target'])
def test_partners_have_the_loss_of_all_as_their_mean(pairs):
    sizes = (2,3,2,4,1)
    logits,W = (torch.tensor(o, dtype=torch.float32) for o in draw(sizes, bs=16))
    space = label_space(sizes)
    head = PartnerHead(space, W.shape[1])
    head.weight.data = W
    cb = PartnerLoss(3, tau=1.1, pairs=pairs)
    cb.learn = SimpleNamespace(model=SimpleNamespace(space=space, head=head, backbone=None), opt=None, pred=logits, y=torch.tensor([3]),
                               yb=(torch.tensor([3]),))
    cb.before_fit()
    cb._prior = torch.tensor(np.random.default_rng(0).uniform(size=(5,5)), dtype=torch.float32)
    cb._draws = False
    want = cb.sharing().item()
    cb._draws = True
    def drawn_loss():
        assert set(cb.draw([1])) == {1, *cb._drawn[0]}
        return cb.sharing().item()
    torch.manual_seed(0)
    drawn = np.array([drawn_loss() for _ in range(3000)])
    assert drawn.std() > 0 and abs(drawn.mean()-want) < 4*drawn.std()/np.sqrt(len(drawn))

def five_tasks(**kwargs):
    dls = MultiTaskDataLoaders.from_tasks([random_task(f't{k}', seed=k) for k in range(5)], bs=12)
    return quiet(mtcs_learner(dls, sharing='paper', arch_config=dict(hidden=4, feats=8, depth=2, dropout=0.), **kwargs))

@pytest.mark.parametrize('kw', [dict(alpha=0.), dict(alpha=5., tau=.5), dict(alpha=5., tau=.5, pairs='target'), dict(n_layers=2)], ids=str)
@pytest.mark.parametrize('opt_func', [RowOptimizer, Adam])
def test_a_step_trains_the_heads_of_its_own_and_the_drawn_tasks_alone(opt_func, kw):
    learn = five_tasks(partners=2, opt_func=opt_func, **kw)
    before,steps = learn.model.head.weight.detach().clone(),[]
    class Moved(Callback):
        def after_step(self):
            moved = (self.learn.model.head.weight != before).any(1)
            steps.append((set(self.learn.model.space.owner[moved].tolist()), int(self.learn.model.space.task_of(self.yb[0])[0]),
                          self.learn.partner_loss._drawn[0]))
            raise CancelFitException
    with learn.no_bar(): learn.fit(1, cbs=Moved())
    moved,own,drawn = steps[0]
    assert own in moved <= {own, *drawn} and len(drawn) == (2 if learn.partner_loss.alpha else 0)
    assert not learn.model.head.sparse

def test_leaving_out_other_tasks_changes_no_gradient():
    "Without sharing, the first step's gradient is the same with all labels and with the batch's own"
    grads = []
    for partners in (None,2):
        torch.manual_seed(0)
        learn = five_tasks(alpha=0., partners=partners, cbs=Watch())
        learn.fit(1, 0.)
        grads.append({k: v.to_dense() if v.is_sparse else v for k,v in learn.watch.seen_grads[0].items()})
    assert grads[0].keys() == grads[1].keys()
    for k in grads[0]: torch.testing.assert_close(grads[1][k], grads[0][k])

def test_a_fit_with_partners_is_resumed(tmp_path):
    "The moments of the rows are part of a checkpoint"
    class Stop(Callback):
        order = 80
        def after_epoch(self): raise CancelFitException
    def learner():
        torch.manual_seed(0)
        return five_tasks(partners=2, cbs=Checkpoint(tmp_path/'c.pth'))
    whole = learner()
    whole.fit(2)
    cut = learner()
    cut.fit(2, cbs=Stop())
    rest = learner()
    rest.fit(2, start_epoch=rest.resume(tmp_path/'c.pth'))
    assert same(weights(whole.model), weights(rest.model)) and not same(weights(whole.model), weights(cut.model))

def test_a_prior_by_names():
    names = ['waves','machine']
    none,all_,plain = (fitted(alpha=5., tau=1., prior=o) for o in (np.zeros((2,2)), pd.DataFrame(1., names[::-1], names[::-1]), None))
    assert none.recorder.values[-1][-1] == 0 and same(weights(all_.model), weights(plain.model))
    with pytest.raises(ValueError, match='lacks the task.* machine'):
        quiet_learner(sharing='paper', prior=pd.DataFrame(1., ['waves'], ['waves'])).fit(1)

def test_alpha_0_is_training_without_the_callback(monkeypatch):
    def never(*args): raise AssertionError('sharing_loss was called')
    plain = quiet_learner(sharing='paper', alpha=.1)
    plain.remove_cb(MTCSLoss)
    plain.fit(2)
    shared = quiet_learner(sharing='paper', alpha=5., tau=1.)
    shared.fit(2)
    monkeypatch.setattr('tsai_mtcs.callback.sharing.sharing_loss', never)
    off = quiet_learner(sharing='paper', alpha=0.)
    off.fit(2)
    assert same(weights(off.model), weights(plain.model)) and not same(weights(shared.model), weights(plain.model))
    assert off.recorder.values[-1][-1] == 0

def test_validation_loss_is_without_sharing():
    a,b = (quiet_learner(sharing='paper', alpha=alpha, tau=1.) for alpha in (0.,100.))
    assert a.validate()[0] == b.validate()[0]

def test_accumulated_gradients_are_those_of_the_whole_loss():
    "Batches of 16 accumulated to 32: half of each batch's gradient, the sharing loss's too"
    grads,losses = [],[]
    for cbs in ([], [GradientAccumulation(32)]):
        learn = quiet_learner(sharing='paper', alpha=50., tau=1., cbs=[Watch(), *cbs])
        learn.model.backbone.dropout = 0.
        learn.fit(1, 0.)
        grads.append(learn.watch.seen_grads[0])
        losses.append(learn.watch.seen_losses)
    for k in grads[0]: torch.testing.assert_close(grads[1][k], grads[0][k]/2)
    assert losses[0] == losses[1]

def test_solved_heads_and_those_of_a_task_more_train_with_partners_on():
    learn = five_tasks(partners=2)
    learn.fit_heads().fit(1)
    learn.add_task(random_task('new', seed=9)).fit(1)
    assert isinstance(learn.model.head, PartnerHead) and len(learn.partner_loss._drawn[0]) == 2
