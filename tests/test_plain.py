"Every fast path gives what the plain PyTorch loop of benchmarks/plain.py gives."
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from fastai.callback.core import Callback
from fastai.torch_core import set_seed
from helpers import quiet
from tsai_mtcs.data import MultiTaskDataLoaders
from tsai_mtcs.learner import mtcs_learner
from tsai_mtcs.schedules import epoch_plan
from tsai_mtcs.test_utils import synth_tasks

sys.path.insert(0, str(Path(__file__).parents[1]/'benchmarks'))
import plain  # noqa: E402


class Watch(Callback):
    "The loss of every step"
    order = 90
    def before_fit(self): self.seen = []
    def after_loss(self): self.seen += [self.learn.loss.item()]*self.training

def make_learner(alpha=.5, **kwargs):
    set_seed(0)
    tasks = synth_tasks()
    dls = MultiTaskDataLoaders.from_tasks(tasks, bs=16, schedule='proportional', device='cpu')
    return tasks,quiet(mtcs_learner(dls, sharing='paper', alpha=alpha, tau=1.1, arch_config=dict(dropout=0.), cbs=Watch(), **kwargs))

@pytest.mark.parametrize('alpha', [0.,.5])
def test_training(alpha):
    tasks,learn = make_learner(alpha)
    model = plain.PlainModel(learn.dls.space.specs, dropout=0.).load(learn.model)
    plan = epoch_plan([len(o.train) for o in tasks], 16, 'proportional', seed=(0,0))
    want = plain.train(model, plain.loaders(tasks, plan), [k for k,_ in plan], alpha, tau=1.1)
    learn.fit(1)
    np.testing.assert_allclose(learn.watch.seen, want, rtol=1e-4)
    assert alpha == 0 or learn.recorder.values[-1][-1] > 0

def test_embeddings():
    tasks,learn = make_learner()
    model = plain.PlainModel(learn.dls.space.specs).load(learn.model)
    for t in tasks: np.testing.assert_allclose(learn.embed(t), plain.embed(model, t.spec.scale(t.X)), rtol=1e-4, atol=1e-5)

def test_bfloat16_trains_nearly_the_same():
    curves = []
    for bf16 in (False,True):
        _,learn = make_learner()
        if bf16: learn.to_bf16()
        learn.fit(2)
        curves.append(learn.watch.seen)
        assert {o.dtype for o in learn.model.parameters()} == {torch.float32}
    assert curves[0] != curves[1]
    np.testing.assert_allclose(curves[1], curves[0], rtol=.1)
    assert not learn.to_fp32().bf16
