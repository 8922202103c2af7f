"Labels of sites that nobody has matched are found while training, and their classifiers drawn together."
import numpy as np
import pytest
import torch
from fastai.callback.core import Callback, CancelFitException
from fastai.callback.training import GradientAccumulation
from helpers import quiet, quiet_learner, same, weights
from tsai_mtcs.bench.sites import deal_sites
from tsai_mtcs.callback.averaging import AverageWeights
from tsai_mtcs.callback.checkpoint import Checkpoint
from tsai_mtcs.data import MultiTaskDataLoaders
from tsai_mtcs.heads import members_of, pull_together
from tsai_mtcs.learner import mtcs_learner
from tsai_mtcs.test_utils import synth_task

WAVES = dict(sine='sine', square='square', fast='fast')


@pytest.fixture(scope='module')
def dealt(): return deal_sites(synth_task('waves', WAVES, n=90), n=3, rows=6, seed=0)

def site_learner(dealt, **kwargs):
    torch.manual_seed(0)
    dls = MultiTaskDataLoaders.from_tasks(dealt[0], bs=9, schedule='uniform', steps=30, device='cpu', check_copies=False)
    return quiet(mtcs_learner(dls, **{'lr':1e-2, 'arch_config':dict(hidden=8, feats=16, depth=3), **kwargs}))

def fitted(dealt, **kwargs):
    learn = site_learner(dealt, **kwargs)
    learn.fit(1)
    return learn

def meanings(dealt): return [meaning for _,own in zip(*dealt) for _,meaning in sorted(own.items())]

def test_namesakes_are_found_and_end_as_one_classifier(dealt):
    learn = site_learner(dealt, pull=1.)
    learn.fit(2)
    groups,names = learn.matched_sharing.groups.tolist(),meanings(dealt)
    assert [[a == b for b in groups] for a in groups] == [[a == b for b in names] for a in names]
    W = learn.model.head.weight.detach()
    for o in set(names): torch.testing.assert_close(*[W[[i for i,n in enumerate(names) if n == o]][i] for i in (0,1)], rtol=0, atol=1e-6)
    assert dict(zip(learn.recorder.metric_names[1:], learn.recorder.values[-1]))['matched'] == 9

def test_a_validation_leaves_the_groups_of_the_fit(dealt):
    learn = fitted(dealt)
    before = learn.matched_sharing.groups.clone()
    assert (before >= 0).any()
    learn.validate(), learn.validate_tasks(), learn.get_preds()
    assert torch.equal(before, learn.matched_sharing.groups) and learn.matched_sharing.matched() == (before >= 0).sum()

def test_a_pull_of_0_is_training_without_the_callback(dealt):
    plain,off,on = (fitted(dealt, **kw) for kw in (dict(sharing=None), dict(pull=0.), {}))
    assert same(weights(plain.model), weights(off.model)) and not same(weights(plain.model), weights(on.model))

def test_nothing_is_shared_before_the_first_match(dealt):
    class Until(Callback):
        def after_batch(self):
            if self.training and self.pct_train > .45: raise CancelFitException
    plain,late = (fitted(dealt, cbs=Until(), **kw) for kw in (dict(sharing=None), dict(at=(.5,))))
    assert same(weights(plain.model), weights(late.model))

def test_known_labels(dealt):
    vocab,names = site_learner(dealt).dls.vocab,meanings(dealt)
    a,b = (i for i,o in enumerate(names[:6]) if o == 'sine')
    never = site_learner(dealt, never=[(vocab[a],vocab[b])])
    never.fit(1)
    groups = never.matched_sharing.groups
    assert groups[a] != groups[b] or groups[a] < 0
    with pytest.raises(ValueError, match="has no label 'sinus'"): site_learner(dealt, same=[(('waves 1','sinus'), vocab[b])]).fit(1)

def test_strangers_stay_alone():
    rng = np.random.default_rng(0)
    other = synth_task('waves', dict(sine='sine', square='square'), n=60)
    noise = synth_task('noise', dict(a='fast', b='fast'), n=60, seed=3)
    noise.X[:] = rng.normal(size=noise.X.shape)
    learn = quiet_learner(dls=MultiTaskDataLoaders.from_tasks([other,noise], bs=16, device='cpu', check_copies=False))
    learn.fit(2)
    assert learn.matched_sharing.matched() == 0

@pytest.mark.parametrize('cbs', [[], [AverageWeights], [lambda: GradientAccumulation(18)]], ids=('plain','average','accumulate'))
def test_a_resumed_fit_ends_as_one_that_was_not_cut_off(dealt, cbs, tmp_path):
    class Stop(Callback):
        order = 80
        def after_epoch(self):
            if self.epoch == 1: raise CancelFitException
    def learner(): return site_learner(dealt, cbs=[Checkpoint(tmp_path/'c.pth'), *(o() for o in cbs)])
    whole = learner()
    whole.fit(4)
    cut = learner()
    cut.fit(4, cbs=Stop())
    rest = learner()
    rest.fit(4, start_epoch=rest.resume(tmp_path/'c.pth'))
    assert same(weights(whole.model), weights(rest.model)) and not same(weights(whole.model), weights(cut.model))
    assert whole.matched_sharing.groups.equal(rest.matched_sharing.groups) and rest.matched_sharing.matched()

def test_heads_solved_in_closed_form_are_drawn_too(dealt):
    "Weights and biases"
    learn = site_learner(dealt, pull=1., at=(0.,)).fit_heads()
    learn.fit(1)
    groups = learn.matched_sharing.groups
    i,j = (groups == 0).nonzero()[:2,0]
    torch.testing.assert_close(learn.model.head.last.bias[i], learn.model.head.last.bias[j])

def test_classifiers_of_several_layers_are_refused(dealt):
    with pytest.raises(ValueError, match='expected linear classifiers.*n_layers=2'): site_learner(dealt, n_layers=2).fit(1)

def test_arguments_of_the_other_sharing_are_refused(dealt):
    with pytest.raises(ValueError, match="no argument `alpha`: it is an argument of sharing='paper'"): site_learner(dealt, alpha=.1)
    with pytest.raises(ValueError, match="no sharing 'all'; known: matched, paper, recipe, None"): site_learner(dealt, sharing='all')
    with pytest.raises(ValueError, match="give sharing='paper' with them"): site_learner(dealt, partners=2)

@pytest.mark.parametrize('seed', range(5))
def test_the_pull_keeps_the_mean_of_a_group_and_shrinks_its_spread(seed):
    rng = np.random.default_rng(seed)
    groups,W = torch.from_numpy(rng.integers(-1, 4, 30)),torch.from_numpy(rng.normal(size=(30,7)))
    before = W.clone()
    pull_together(W, members_of(groups), .3)
    assert W[groups < 0].equal(before[groups < 0])
    for g in range(4):
        own,old = W[groups == g],before[groups == g]
        torch.testing.assert_close(own.mean(0), old.mean(0))
        torch.testing.assert_close(own-own.mean(0), .7*(old-old.mean(0)))

def test_looking_for_a_learning_rate_matches_nothing(dealt):
    learn = site_learner(dealt)
    learn.lr_find(num_it=5, show_plot=False)
    assert learn.matched_sharing.groups is None

@pytest.mark.parametrize('state', [{}, dict(groups=[0]*9, done=1), dict(groups=torch.zeros(9), done=1),
                                   dict(groups=torch.zeros(8).long(), done=1), dict(groups=torch.zeros(9).long(), done='1')], ids=str)
def test_a_checkpoint_with_other_groups_is_refused(dealt, state):
    cb = fitted(dealt).matched_sharing
    with pytest.raises(ValueError, match='expected a group for each of 9 labels'): cb.load_state_dict(state)
