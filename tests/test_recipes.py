"One word for the settings of a run, the same in Python and in a shell; arguments that are given win"
from dataclasses import replace
from inspect import signature

import numpy as np
import pytest
from helpers import quiet, random_task

from tsai_mtcs import cli_run
from tsai_mtcs.callback.choice import SHARING
from tsai_mtcs.callback.matched import MatchedSharing
from tsai_mtcs.callback.sharing import MTCSLoss
from tsai_mtcs.cli import make_parser
from tsai_mtcs.cli_run import run_recipe, settings_of
from tsai_mtcs.data import MultiTaskDataLoaders
from tsai_mtcs.estimator import MTCSClassifier
from tsai_mtcs.learner import mtcs_learner
from tsai_mtcs.recipes import RECIPES, Recipe
from tsai_mtcs.schedules import SCHEDULES
from tsai_mtcs.sharing import sharing_loss

PAPER,DEFAULT = RECIPES['paper'],RECIPES['default']


def make_dls(recipe='default', n_train=40, **kwargs):
    tasks = [random_task('a', n_train=n_train), random_task('b', n_train=10, seed=1)]
    return MultiTaskDataLoaders.from_tasks(tasks, recipe, device='cpu', **kwargs)

def make_learner(dls, **kwargs): return quiet(mtcs_learner(dls, arch_config=dict(hidden=8, feats=16, depth=2), **kwargs))

def test_what_the_paper_prints(): # sections 4.1 and 4.2; no value of tau is printed
    assert PAPER == Recipe(bs=32, schedule='proportional', sharing='paper', alpha=.1, tau=2., lr=1e-3, epochs=5, one_cycle=False)

@pytest.mark.parametrize('name', RECIPES)
def test_loaders_learner_and_fit_follow_the_recipe(name):
    recipe = RECIPES[name]
    learn = make_learner(make_dls(name))
    assert (learn.dls.train.bs, learn.dls.train.schedule, learn.lr) == (recipe.bs, recipe.schedule, recipe.lr)
    loss = next(o for o in learn.cbs if isinstance(o, MTCSLoss if name == 'paper' else MatchedSharing))
    if name == 'paper': assert (loss.alpha, loss.tau) == (recipe.alpha, recipe.tau)
    learn.fit_recipe()
    assert len(learn.recorder.values) == recipe.epochs
    assert np.ptp(learn.recorder.lrs) == 0 or recipe.one_cycle
    assert max(learn.recorder.lrs) == pytest.approx(recipe.lr, rel=.01)

def test_what_is_given_wins():
    dls = make_dls('paper', bs=8, schedule='round_robin')
    assert dls.recipe == replace(PAPER, bs=8, schedule='round_robin')
    assert (dls.train.bs, dls.train.schedule, dls.valid.bs) == (8, 'round_robin', 16)
    learn = make_learner(dls, lr=.01, tau=3.)
    learn.fit_recipe(1)
    assert len(learn.recorder.values) == 1 and set(learn.recorder.lrs) == {.01} and (learn.mtcs_loss.alpha, learn.mtcs_loss.tau) == (.1, 3.)
    with pytest.raises(ValueError, match='n_epoch'): learn.fit_recipe(0)
    assert hasattr(make_learner(dls, sharing='matched'), 'matched_sharing')
    assert not any(isinstance(o, (MTCSLoss,MatchedSharing)) for o in make_learner(make_dls(), sharing=None).cbs)

def test_a_recipe_of_ones_own():
    learn = make_learner(make_dls(Recipe(sharing='paper', alpha=.3, lr=.02, epochs=2)))
    assert (learn.mtcs_loss.alpha, learn.lr) == (.3, .02)
    learn.fit_recipe()
    assert len(learn.recorder.values) == 2

def test_views_keep_the_recipe():
    dls = make_dls('paper')
    learn = make_learner(dls)
    learn.add_task(random_task('c', seed=2))
    assert all(o.recipe == PAPER for o in (dls['a'], dls.unwatched(), learn.dls))
    learn.update_task(random_task('a', n_train=20, seed=2))
    assert learn.dls.recipe == learn.remove_task('b').dls.recipe == PAPER

def test_a_wrong_word_is_named():
    with pytest.raises(ValueError, match="no recipe 'papre'; known: default, paper"): make_dls('papre')
    with pytest.raises(ValueError, match=r"no argument `recipe`.*from_tasks\(tasks, recipe='paper'\)"):
        mtcs_learner(make_dls(), recipe='paper')

def test_defaults_are_the_same_everywhere():
    "A signature repeats them, for its reader"
    given = lambda f: {k: o.default for k,o in signature(f).parameters.items()}
    assert all(given(MTCSClassifier)[o] == getattr(DEFAULT, o) for o in ('bs','lr','epochs'))
    assert all(given(MTCSLoss)[o] == getattr(DEFAULT, o) == getattr(PAPER, o) for o in ('alpha','tau'))
    assert given(sharing_loss)['tau'] == PAPER.tau

@pytest.mark.parametrize('name', RECIPES)
def test_the_command_line_has_the_same(name):
    run = settings_of(make_parser().parse_args(['train','--out','run','--recipe',name]))
    assert run_recipe(run) == RECIPES[name]
    run = settings_of(make_parser().parse_args(['train','--out','run','--recipe',name,'--epochs','7','--sharing','none']))
    assert run_recipe(run) == replace(RECIPES[name], epochs=7, sharing=None)

@pytest.mark.parametrize('recipe', ['nope', None, [], {}])
def test_an_unknown_recipe_is_refused(recipe):
    with pytest.raises(ValueError, match='there is no recipe'): make_dls(recipe)


def test_choices_that_the_command_line_repeats_are_those_of_the_library():
    "It answers wrong choices before the modules are imported that know them"
    assert set(cli_run._SCHEDULES) == set(SCHEDULES)
    assert set(cli_run._SHARING) == {*SHARING, 'none'}
