"Methods that learn without labels: their losses against loops, shapes, seeds, missing values, and that labels play no part."
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fastai.callback.core import Callback
from fastai.torch_core import set_seed
from helpers import quiet, same, weights
from tsai_mtcs.data import MultiTaskDataLoaders
from tsai_mtcs.inputs import InputProjections
from tsai_mtcs.selfsup.pretext import draw_ints
from tsai_mtcs.selfsup.stationarity import adf_statistic
from tsai_mtcs.selfsup.tloss import tloss_learner, triplet_loss
from tsai_mtcs.selfsup.tnc import WindowConv, WindowGRU, tnc_learner, tnc_loss
from tsai_mtcs.selfsup.ts2vec import hierarchical_loss, ts2vec_learner
from tsai_mtcs.selfsup.tst import filling_loss, markov_mask, tst_learner
from tsai_mtcs.selfsup.tstcc import nt_xent, temporal_loss, tstcc_learner
from tsai_mtcs.tasks import Task
from tsai_mtcs.test_utils import synth_tasks

SMALL = dict(hidden=8, feats=16, depth=2)
LEARNERS = dict(
    ts2vec=lambda dls: ts2vec_learner(dls, arch_config=SMALL),
    tloss=lambda dls: tloss_learner(dls, K=2, arch_config=dict(reduced=8, **SMALL)),
    tnc_gru=lambda dls: tnc_learner(dls, WindowGRU, k=3, arch_config=dict(hidden=8, feats=16)),
    tnc_conv=lambda dls: tnc_learner(dls, WindowConv, k=3, arch_config=SMALL),
    tstcc=lambda dls: tstcc_learner(dls, arch_config=dict(feats=16)),
    tst=lambda dls: tst_learner(dls, arch_config=dict(feats=16, depth=1, heads=2, ff=16)))
every_method = pytest.mark.parametrize('method', LEARNERS)


def make_tasks(labels=(0,1)):
    "Three variables with missing values, and series of unequal length"
    rng = np.random.default_rng(0)
    holes = rng.normal(size=(18,3,20))
    holes[::3,:,5:9] = np.nan
    holes[1,0] = np.nan
    pairs = [rng.normal(size=(1,int(n))) for n in rng.integers(9, 30, 18)]
    splits = range(12),range(12, 18)
    return [Task('holes', holes, [labels[i%2] for i in range(18)], splits=splits),
            Task('pairs', pairs, [labels[i//3%2] for i in range(18)], splits=splits)]

def fitted(method, tasks=None, seed=0, steps=4):
    "A learner after a few steps"
    set_seed(seed)
    dls = MultiTaskDataLoaders.from_tasks(tasks or make_tasks(), bs=6, seed=seed, device='cpu')
    learn = quiet(LEARNERS[method](dls))
    learn.fit_steps(steps)
    return learn


# Every method
@every_method
def test_embeddings_are_those_of_scaled_series(method):
    learn = fitted(method)
    model = learn.model.eval()
    for k,task in enumerate(make_tasks()):
        Z = learn.embed(task.X, task.name)
        with torch.no_grad(): want = model.embedding(torch.from_numpy(learn.dls.space.specs[k].scale(task.X)), k)
        np.testing.assert_allclose(Z, want, atol=1e-5)
        assert Z.shape == (18,16) and len(np.unique(Z, axis=0)) == 18

class EachLoss(Callback):
    "The loss of each batch, where the recorder smooths"
    order = 99
    def before_fit(self): self.seen = []
    def after_loss(self):
        if self.training: self.seen.append(self.learn.loss.item())

@pytest.mark.parametrize('method,least', dict(tloss=3., tnc_conv=.01, tstcc=.5).items())
def test_training_lowers_the_loss(method, least):
    set_seed(0)
    learn = quiet(LEARNERS[method](MultiTaskDataLoaders.from_tasks(synth_tasks(), bs=16, device='cpu')))
    each = EachLoss()
    learn.fit_steps(40, 3e-3, cbs=each)
    assert len(each.seen) == 40 and np.mean(each.seen[:8])-np.mean(each.seen[-8:]) > least

def few_losses(method, bf16):
    "The losses of four steps, and the types of what layers of the backbone give"
    set_seed(0)
    learn = quiet(LEARNERS[method](MultiTaskDataLoaders.from_tasks(synth_tasks(), bs=16, device='cpu')))
    each,types = EachLoss(),set()
    for o in learn.model.backbone.modules():
        if isinstance(o, (torch.nn.Conv1d, torch.nn.Linear)): o.register_forward_hook(lambda m,x,z: types.add(z.dtype))
    if bf16: learn.to_bf16()
    learn.fit_steps(4, cbs=each)
    return each.seen,types

@pytest.mark.parametrize('method', ['tstcc','tst'])
def test_bfloat16_has_nearly_the_same_losses(method):
    (full,types),(half,lower) = few_losses(method, False),few_losses(method, True)
    assert torch.bfloat16 in lower and torch.bfloat16 not in types and full != half
    assert half == pytest.approx(full, rel=.02)

@every_method
def test_validation_is_of_rows_held_out_alone(method):
    "Each once, by the model as it is evaluated"
    class Look(Callback):
        order = 99
        def after_loss(self): seen.append((self.learn.loss.item(), len(self.xb[0]), self.model.training))
    set_seed(0)
    dls,seen = MultiTaskDataLoaders.from_tasks(synth_tasks(), bs=16, valid_pct=.25, device='cpu'),[]
    learn = quiet(LEARNERS[method](dls))
    got = learn.validate(cbs=Look())[0]
    losses,rows,training = map(np.array, zip(*seen))
    assert rows.sum() == len(dls.valid_ds) and not training.any() and (losses > .1).all()
    assert got == pytest.approx((losses*rows).sum()/rows.sum(), rel=1e-5)

@every_method
def test_the_seed_decides(method):
    a,b,c = (weights(fitted(method, seed=o).model) for o in (1,1,2))
    assert same(a, b) and not same(a, c)

@every_method
def test_labels_play_no_part(method):
    "Tasks whose labels have changed places give the same weights"
    assert same(weights(fitted(method).model), weights(fitted(method, make_tasks((1,0))).model))

@pytest.mark.parametrize('method', [o for o in LEARNERS if o != 'tnc_gru']) # whose windows are closer in a shorter series
def test_padding_changes_no_embedding(method):
    "A series has the embedding that it has alone, however far a longer one pads it"
    learn,rng = fitted(method),np.random.default_rng(1)
    series = [rng.normal(size=(1,n)).astype(np.float32) for n in (29,15,20,16)]
    alone = np.concatenate([learn.embed([o], 'pairs') for o in series])
    np.testing.assert_allclose(learn.embed(series, 'pairs'), alone, atol=2e-5)

@every_method
def test_a_series_without_values(method):
    "It has one embedding, whatever stands beside it, and changes none"
    model = fitted(method).model.eval()
    x = torch.full((2,3,20), torch.nan)
    x[1] = torch.randn(3, 20)
    with torch.no_grad(): Z,empty,full = (model.embedding(o, 0) for o in (x, x[:1], x[1:]))
    torch.testing.assert_close(Z, torch.cat((empty, full)), atol=1e-5, rtol=1e-5)
    assert Z.shape == (2,16) and (Z[0]-Z[1]).abs().max() > 1e-3

@pytest.mark.parametrize('method', [o for o in LEARNERS if o != 'tnc_conv'])
def test_first_layers_are_input_projections(method):
    backbone = fitted(method, steps=1).model.backbone
    assert isinstance(backbone.inputs, InputProjections) and list(backbone.inputs) == ['1','3']
    with pytest.raises(ValueError, match=r'expected series of 1 or 3 variable\(s\), found 2'): backbone(torch.zeros(1, 2, 20))

@every_method
def test_no_step_is_refused(method):
    with pytest.raises(ValueError, match='at least one step, found 0'): fitted(method, steps=0)


# Losses against loops
def cross_entropy(scores, right): return math.log(sum(map(math.exp, scores)))-scores[right]

def test_ts2vec_loss():
    torch.manual_seed(0)
    bs,feats,steps = 3,4,5
    a,b = torch.randn(2, bs, feats, steps)
    def contrast(u, v):
        "Mean over vectors of both views: find the other view of a vector among all others of the group"
        z,n = [*u, *v],len(u)
        if n == 1: return 0.
        return np.mean([cross_entropy([float(z[i]@z[j]) for j in range(2*n) if j != i], (i+n)%(2*n)-((i+n)%(2*n) > i)) for i in range(2*n)])
    total,levels,u,v = 0.,0,a,b
    while True:
        total += .5*np.mean([contrast(u[:,:,t], v[:,:,t]) for t in range(u.shape[-1])])
        levels += 1
        if u.shape[-1] == 1: break
        total += .5*np.mean([contrast(u[i].T, v[i].T) for i in range(bs)])
        u,v = F.max_pool1d(u, 2),F.max_pool1d(v, 2)
    assert levels == 3 and float(hierarchical_loss(a, b)) == pytest.approx(total/levels, rel=1e-5)

def test_triplet_loss():
    torch.manual_seed(0)
    bs,K = 3,2
    a,p,n = torch.randn(bs, 4),torch.randn(bs, 4),torch.randn(K*bs, 4)
    log_sigmoid = lambda o: -math.log(1+math.exp(-float(o)))
    want = np.mean([-log_sigmoid(a[b]@p[b])-.7/K*sum(log_sigmoid(-a[b]@n[b+k*bs]) for k in range(K)) for b in range(bs)])
    assert float(triplet_loss(a, p, n, .7)) == pytest.approx(want, rel=1e-5)

def test_tnc_loss():
    torch.manual_seed(0)
    near,others = torch.randn(2, 3, 4).double()
    sigmoid = lambda o: 1/(1+math.exp(-float(o)))
    of_near = np.mean([-math.log(sigmoid(o)) for o in near.flatten()])
    of_others = np.mean([-.9*math.log(1-sigmoid(o))-.1*math.log(sigmoid(o)) for o in others.flatten()])
    assert float(tnc_loss(near, others, .1)) == pytest.approx((of_near+of_others)/2, rel=1e-9)

def test_tstcc_losses():
    torch.manual_seed(0)
    bs,ahead = 3,2
    target,guess = torch.randn(2, bs, ahead, 4)
    known = torch.tensor([[1,1],[1,0],[1,1]]) > 0
    wrong = [cross_entropy([float(target[i,k]@guess[j,k]) for j in range(bs)], i) for i in range(bs) for k in range(ahead) if known[i,k]]
    assert float(temporal_loss(target, guess, known)) == pytest.approx(np.mean(wrong), rel=1e-5)
    a,b = torch.randn(2, bs, 5)
    z = F.normalize(torch.cat((a, b)), dim=1)
    wrong = [cross_entropy([float(z[i]@z[j])/.2 for j in range(2*bs) if j != i], (i+bs)%(2*bs)-((i+bs)%(2*bs) > i)) for i in range(2*bs)]
    assert float(nt_xent(a, b)) == pytest.approx(np.mean(wrong), rel=1e-5)

def test_tst_loss_sees_hidden_values_alone():
    torch.manual_seed(0)
    guess,x = torch.randn(2, 3, 2, 6)
    hidden = torch.rand(3, 2, 6) < .4
    want = np.mean([float(guess[i,v,t]-x[i,v,t])**2 for i,v,t in hidden.nonzero().tolist()])
    assert float(filling_loss(guess, x, hidden)) == pytest.approx(want, rel=1e-5)
    guess.requires_grad_()
    filling_loss(guess, x.masked_fill(~hidden, torch.nan), hidden).backward() # missing values are never hidden ones
    assert guess.grad.isfinite().all() and (guess.grad[~hidden] == 0).all() and (guess.grad[hidden] != 0).all()
    assert float(filling_loss(guess.detach(), x, hidden & False)) == 0

def test_hidden_runs_are_as_long_as_asked():
    torch.manual_seed(0)
    mask = markov_mask((40,2,500), ratio=.2, run=4.)
    begins = (mask[...,1:] & ~mask[...,:-1]).sum()+mask[...,0].sum()
    assert mask.float().mean() == pytest.approx(.2, abs=.02) and float(mask.sum()/begins) == pytest.approx(4, abs=.3)


# What they draw and test
def test_draws_include_both_ends():
    torch.manual_seed(0)
    drawn = draw_ints(torch.tensor([2,-1]), torch.tensor([4,-1]).expand(300, 2))
    assert drawn[:,0].unique().tolist() == [2,3,4] and (drawn[:,1] == -1).all()

def adf(x):
    "The augmented Dickey–Fuller statistic by least squares, the number of lags by AIC on the rows that all of them have"
    n,d = len(x),np.diff(x)
    most = min(math.ceil(12*(n/100)**.25), n//2-2)
    def fit(lags, first):
        A = np.stack([np.ones(len(d)-first), x[first:-1], *(d[first-j:len(d)-j] for j in range(1, lags+1))], 1)
        y = d[first:]
        w = np.linalg.lstsq(A, y, rcond=None)[0]
        rss = ((y-A@w)**2).sum()
        return rss,w[1]/math.sqrt(rss/(len(y)-A.shape[1])*np.linalg.inv(A.T@A)[1,1]),len(y)
    aic = [(rows:=fit(p, most)[2])*math.log(fit(p, most)[0]/rows)+2*p for p in range(most+1)]
    best = int(np.argmin(aic))
    return fit(best, best)[1]

@pytest.mark.parametrize('n', [20,45,90])
@pytest.mark.parametrize('wanders', [False,True])
def test_stationarity_against_least_squares(n, wanders):
    x = np.random.default_rng(n).normal(size=n)
    if wanders: x = x.cumsum()
    padded = torch.tensor(np.concatenate((x, np.full(7, np.nan))))[None]
    assert float(adf_statistic(padded.nan_to_num(), ~padded.isnan())) == pytest.approx(adf(x), rel=1e-6)
