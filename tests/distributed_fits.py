"The fits of test_distributed.py, for each of two processes"
from contextlib import contextmanager

import torch
from fastai.callback.core import Callback, CancelBatchException, CancelFitException
from fastai.callback.schedule import *  # noqa: F403 (adds lr_find to Learner)
from fastai.learner import Metric
from fastai.metrics import F1Score, accuracy
from fastai.torch_core import num_distrib, rank_distrib, set_seed
from helpers import quiet, quiet_learner, random_task, same, weights
from tsai.models.FCNPlus import FCNPlus
from tsai_mtcs.callback.averaging import AverageWeights
from tsai_mtcs.selfsup.ts2vec import ts2vec_learner
from tsai_mtcs.callback.checkpoint import Checkpoint
from tsai_mtcs.data import MultiTaskDL, MultiTaskDataLoaders
from tsai_mtcs.callback.distributed import DistributedFit
from tsai_mtcs.encoders import MMoEEncoder
from tsai_mtcs.learner import mtcs_learner
from tsai_mtcs.optimizers import Adam
from tsai_mtcs.test_utils import synth_dls, synth_task

SMALL = dict(hidden=8, feats=16, depth=3, dropout=0)


# Fits that one process can take too, with the mean gradient of the two batches of a step
class MeanOfPairs(Callback):
    "One step for two batches, with the mean of their gradients"
    order = 6 # after the sharing loss
    def before_fit(self): self.losses = []
    def after_loss(self):
        if not self.training: return
        self.losses.append(self.learn.loss.item())
        self.learn.loss_grad = self.learn.loss_grad/2
    def before_step(self):
        if self.iter%2 == 0: raise CancelBatchException

class BothRanks(MultiTaskDL):
    "The batches of two ranks, in turn"
    def __len__(self): return super().__len__()+super().__len__()%2
    def own(self, plan, rank, world): return [o for step in zip(*(super(BothRanks, self).own(plan, r, 2) for r in (0,1))) for o in step]

@contextmanager
def pairs(learn):
    "Two processes in one"
    learn.dls.train.__class__ = BothRanks
    with learn.added_cbs(MeanOfPairs()): yield

def world_of_two(learn): return learn.distrib_ctx() if num_distrib() else pairs(learn)

def make_learner(n_noise=22, arch_config=SMALL, sharing='paper', **kwargs):
    "Three tasks of different shape: an odd number of batches, of which each uses one of two input projections"
    tasks = [synth_task('waves', dict(a='sine', b='square')),
             synth_task('pairs', dict(c='fast', d='sine', e='square'), vars=2, steps=24, seed=1),
             random_task('noise', n_noise, 9, vars=2, steps=30, seed=2)]
    set_seed(0)
    dls = MultiTaskDataLoaders.from_tasks(tasks, bs=8, val_bs=8, device='cpu')
    tau = dict(tau=1.2) if sharing == 'paper' else {}
    return quiet(mtcs_learner(dls, sharing=sharing, lr=1e-2, arch_config=arch_config, **tau, **kwargs))

def result(learn):
    "Weights, what the recorder shows but the time and the smoothed loss, and that loss over the last fit"
    return dict(weights=weights(learn.model), figures=dict(zip(learn.recorder.metric_names[2:-1], learn.recorder.values[-1][1:])),
                losses=[float(o) for o in learn.recorder.losses],
                unsmoothed=learn.mean_of_pairs.losses if hasattr(learn, 'mean_of_pairs') else None)

def plain():
    "A fit of the heads and one of everything, with metrics of both kinds"
    learn = make_learner(metrics=[accuracy, F1Score(average='macro')])
    with world_of_two(learn):
        learn.freeze()
        learn.fit(1)
        learn.unfreeze()
        learn.fit(2)
        return result(learn)

def experts():
    "Gates and hidden layers that a batch may leave without a gradient"
    learn = make_learner(arch=MMoEEncoder, arch_config=dict(experts=2, tasks=3, **SMALL), n_layers=2)
    with world_of_two(learn):
        learn.fit(1)
        return result(learn)

def covariance():
    "Relevance read by a hook on the encoder; one rank has a batch of two rows"
    learn = make_learner(n_noise=10, relevance='covariance')
    with world_of_two(learn):
        learn.fit(1)
        return result(learn)

def partners():
    "A batch's own heads alone are computed"
    learn = make_learner(alpha=0., partners=2, opt_func=Adam)
    with world_of_two(learn):
        learn.fit(1)
        return result(learn)

def matched():
    "Labels are matched by rank 0, and every rank pulls alike"
    learn = make_learner(sharing='matched', at=(0.,.5))
    with world_of_two(learn):
        learn.fit(2)
        return result(learn)

ALIKE = dict(plain=plain, experts=experts, covariance=covariance, partners=partners, matched=matched)


# What ranks must agree on
def reads():
    "What is read within the context and after it"
    learn = make_learner()
    model = learn.model
    with learn.distrib_ctx():
        learn.fit(1)
        inside = learn.validate(),learn.validate_tasks('test'),learn.get_preds()[0]
    after = learn.validate(),learn.validate_tasks('test'),learn.get_preds()[0]
    assert learn.model is model and not learn._grab_cbs(DistributedFit) and [(o.rank, o.world) for o in learn.dls] == [(0,1)]*3
    return dict(weights=weights(learn.model), inside=list(inside[0]), after=list(after[0]),
                rows=[int(o[1].rows['mean']) for o in (inside, after)], tables=inside[1].equals(after[1]),
                preds=torch.equal(inside[2], after[2]), n=len(inside[2]))

def resumed(folder):
    "Three epochs with dropout; and one, then two more from the checkpoint"
    class Stop(Callback):
        def before_train(self):
            if self.epoch == 1: raise CancelFitException
    fits = []
    for name in ('whole','cut','on'):
        learn = quiet_learner(seed=5 if name == 'on' else 0, dls=synth_dls(), cbs=AverageWeights())
        start = learn.resume(folder/'cut.pt') if name == 'on' else 0
        with learn.distrib_ctx():
            learn.fit(3, 1e-2, start_epoch=start, cbs=[Checkpoint(folder/f'{name}.pt'), *([Stop()] if name == 'cut' else [])])
            torch.distributed.barrier() # the file is there for all
        fits.append(weights(learn.model))
    return dict(weights=fits[0], on=fits[2], cut_differs=not same(fits[0], fits[1]))

def batch_norm():
    learn = make_learner(arch=FCNPlus, arch_config=dict(layers=[8,8,8], kss=[5,3,3]))
    with learn.distrib_ctx(): learn.fit(1)
    return dict(weights=weights(learn.model))

def pretext():
    learn = quiet(ts2vec_learner(synth_dls(), arch_config=dict(hidden=8, feats=16, depth=3)))
    with learn.distrib_ctx(): learn.fit_steps(5)
    return dict(weights=weights(learn.model), steps=len(learn.recorder.losses))

def draws():
    "Random numbers differ by rank, and with them the partners"
    learn,drawn = make_learner(partners=2),[]
    class Draw(Callback):
        def before_batch(self): drawn.append(torch.rand(1).item())
    with learn.distrib_ctx(): learn.fit(1, cbs=Draw())
    return dict(weights=weights(learn.model), drawn=drawn[0])

def refusals(folder):
    "What is refused before training, on every rank"
    class Range(Metric): name,value = 'range',0.
    said = []
    for learn,f in ((quiet_learner(dls=synth_dls(seed=rank_distrib())), lambda o: o.fit(1)),
                    (quiet_learner(metrics=Range()), lambda o: o.fit(1)),
                    (quiet_learner(path=folder), lambda o: o.lr_find(show_plot=False))):
        before = weights(learn.model)
        with learn.distrib_ctx():
            try: f(learn)
            except ValueError as e: said.append(str(e))
        assert same(before, weights(learn.model)) and [(o.rank, o.world) for o in learn.dls] == [(0,1)]*3
    return dict(said=said)


def main(folder):
    "All of them, in the process of one rank; what it finds is written to `folder`"
    out = {name: f() for name,f in ALIKE.items()}
    out |= dict(reads=reads(), resumed=resumed(folder), batch_norm=batch_norm(), pretext=pretext(), draws=draws(),
                refusals=refusals(folder))
    torch.save(out, folder/f'rank{rank_distrib()}.pt')
    torch.distributed.destroy_process_group()
