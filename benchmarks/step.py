#!/usr/bin/env python
"""Speed of a training epoch through `mtcs_learner` against the plain loop of `plain.py`, in one run.

    python benchmarks/step.py --archive UCRArchive_2018 --tasks UCR_TOP15 --steps 150 --repeats 3

Both take the same batches, a random part of an epoch's (`--steps`), in turn, `--repeats` times. What is timed is the whole
fit: loader, model, both losses, optimizer, and for the library its callbacks and recorder. Prints seconds (median, least
and most) and ratios, and first the largest difference of the losses where both run without dropout in float32. `bare` is
the library's own loader, model and losses in a loop without fastai: what is between them is fastai's. Last come the floors
of `floors.py` for these batches, on rates measured in this run, and the fraction of the arithmetic one that each run reaches.
"""
import argparse, statistics, time, warnings
from functools import partial
from pathlib import Path

import numpy as np
import floors
import plain
import torch
from fastai.callback.core import Callback
from fastai.torch_core import set_seed

from tsai_mtcs import archive
from tsai_mtcs.data import MultiTaskDataLoaders
from tsai_mtcs.loader import MultiTaskDL
from tsai_mtcs.learner import mtcs_learner
from tsai_mtcs.schedules import epoch_plan
from tsai_mtcs.sharing import label_relevance, sharing_loss

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument('--archive', help='folder of the UCR archive; left out: the data sets bundled with aeon')
parser.add_argument('--tasks', default='UCR_TOP15', help='names of data sets, or UCR_SELECTED10, UCR_TOP15 (those that the folder has)')
parser.add_argument('--steps', type=int, default=150, help='batches of the epoch that are run; 0: all')
parser.add_argument('--repeats', type=int, default=3)
parser.add_argument('--alpha', type=float, default=.1)
parser.add_argument('--device', default='cpu')


def load(args):
    if not args.archive: return archive.bundled_tasks([o for o in archive.BUNDLED if o != 'PickupGestureWiimoteZ'])
    names = getattr(archive, args.tasks, None) or args.tasks.split(',')
    return archive.ucr_tasks([o for o in names if (Path(args.archive)/o).is_dir()], args.archive)


class PlannedDL(MultiTaskDL):
    "Draws the batches of `planned`"
    def __len__(self): return len(self.planned)
    def before_iter(self):
        super().before_iter()
        self.plan = self.planned


class Watch(Callback):
    "Keep the loss of every step"
    order = 90
    def before_fit(self): self.seen = []
    def after_loss(self): self.seen.append(self.learn.loss.item())


def quiet_fit(learn):
    with learn.no_bar(), learn.no_logging(): learn.fit(1)


def bare_loop(learn, alpha, bf16, device):
    "The steps of a learner in a plain loop"
    model,head = learn.model.train(),learn.model.head
    opt = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for x,y in learn.dls.train:
        with torch.autocast(device, torch.bfloat16, enabled=bf16): logits = model(x)
        loss = learn.loss_func(logits.float(), y)
        if alpha: loss = loss+alpha*sharing_loss(head.weight, label_relevance(logits, head.space), head.space)
        loss.backward()
        opt.step()
        opt.zero_grad()


def timed(f, device):
    start = time.perf_counter()
    f()
    if device != 'cpu': torch.cuda.synchronize()
    return time.perf_counter()-start


if __name__ == '__main__':
    args = parser.parse_args()
    warnings.simplefilter('ignore')
    tasks = load(args)
    plan = epoch_plan([len(o.train) for o in tasks], 32, 'proportional')
    part = np.random.default_rng(0).permutation(len(plan))[:args.steps or len(plan)]
    plan = [plan[i] for i in sorted(part)]
    order = [k for k,_ in plan]

    def library(bf16=False, dropout=.1, alpha=args.alpha):
        set_seed(0)
        dls = MultiTaskDataLoaders.from_tasks(tasks, schedule='proportional', device=args.device)
        dls.train.__class__,dls.train.planned = PlannedDL,plan
        learn = mtcs_learner(dls.unwatched(), sharing='paper', alpha=alpha, arch_config=dict(dropout=dropout))
        return learn.to_bf16() if bf16 else learn

    def library_run(**kwargs):
        learn = library(**kwargs)
        return timed(lambda: quiet_fit(learn), args.device)

    def bare_run(bf16):
        learn = library()
        return timed(lambda: bare_loop(learn, args.alpha, bf16, args.device), args.device)

    def other(learn, dropout=.1, alpha=args.alpha):
        model = plain.PlainModel(learn.dls.space.specs, dropout).load(learn.model).to(args.device)
        loaders = plain.loaders(tasks, plan)
        return lambda: plain.train(model, loaders, order, alpha, device=args.device)

    learn = library(dropout=0.)
    reference = other(learn, dropout=0.)()
    learn.add_cb(Watch())
    quiet_fit(learn)
    seen = learn.watch.seen
    print(f'{len(tasks)} data sets, {len(plan)} of {sum(-(-len(o.train)//32) for o in tasks)} steps, torch {torch.__version__}, '
          f'{args.device}, {torch.get_num_threads()} threads')
    print(f'largest difference of the losses, float32, no dropout: first step {abs(seen[0]-reference[0]):.1e}, first ten '
          f'{max(abs(a-b) for a,b in zip(seen[:10], reference)):.1e}')

    formats = floors.formats(args.device)
    runs = {'plain': lambda: timed(other(library()), args.device)}
    for name in formats:
        for label,kw in {name:{}, f'{name}, alpha 0':dict(alpha=0.)}.items():
            runs[label] = partial(library_run, bf16=name == 'bfloat16', **kw)
        runs[f'bare, {name}'] = partial(bare_run, name == 'bfloat16')
    times = {name: [] for name in runs}
    for _ in range(args.repeats):
        for name,f in runs.items(): times[name].append(f())
    for name,ts in times.items():
        ratios = [a/b for a,b in zip(times['plain'], ts)]
        print(f'{name:20} {statistics.median(ts):7.2f} s ({min(ts):.1f} to {max(ts):.1f})   {statistics.median(ratios):5.2f} times as fast '
              f'as plain ({min(ratios):.2f} to {max(ratios):.2f})')
    for name in formats:
        over = [a/b-1 for a,b in zip(times[name], times[f'bare, {name}'])]
        print(f'fastai adds {statistics.median(over):.1%} ({min(over):.1%} to {max(over):.1%}) to the bare loop in {name}')
    rates = floors.rates(args.device)
    print(f'this machine: {floors.in_words(rates)}')
    for name in formats:
        f = floors.floors(plan, [o.spec.len for o in tasks], rates, name)
        print(f'{name}: {f.ops/1e9:.0f} GFLOP, {f.moved/1e9:.1f} GB; arithmetic {f.arithmetic:.2f} s, bytes {f.bytes:.2f} s; reached: '
              f'{f.arithmetic/statistics.median(times[name]):.0%} of the arithmetic floor')
