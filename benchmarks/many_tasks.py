#!/usr/bin/env python
"""Cost of a training step against the number of tasks, from 2 to 10,000, ten labels each.

    python benchmarks/many_tasks.py --tasks 2,15,128,1000,10000 --repeats 3 --plot benchmarks/results/many_tasks.png

Synthetic tasks of 32 rows, `--len` steps long, which share their values, so that the number of tasks is all that changes.
Each number of tasks is run without sharing, with the sharing loss of all pairs (up to `--all-up-to` tasks) and with `--partners`
drawn ones, in turn. Every fit of `--steps` steps is timed between its second and its last batch. Prints milliseconds a step (median,
least and most) and the peak memory of the process. `MatchedSharing` costs less than steps differ from each other, so it is timed by
itself: the milliseconds by which a step towards the groups' means is longer, and the seconds of one matching of all labels
(up to `--match-up-to` tasks).
"""
import argparse, resource, statistics, time, warnings
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from fastai.callback.core import Callback
from fastai.torch_core import set_seed

from tsai_mtcs.callback.matched import MatchedSharing
from tsai_mtcs.data import MultiTaskDataLoaders
from tsai_mtcs.learner import mtcs_learner
from tsai_mtcs.tasks import Task

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument('--tasks', default='2,15,128,1000,10000')
parser.add_argument('--labels', type=int, default=10)
parser.add_argument('--len', type=int, default=512)
parser.add_argument('--steps', type=int, default=12)
parser.add_argument('--repeats', type=int, default=3)
parser.add_argument('--partners', type=int, default=16)
parser.add_argument('--all-up-to', type=int, default=128, help='compare all pairs of tasks up to this number of tasks')
parser.add_argument('--match-up-to', type=int, default=1000, help='match labels up to this number of tasks')
parser.add_argument('--bf16', action='store_true')
parser.add_argument('--device', default='cpu')
parser.add_argument('--plot', type=Path, help='write a plot')


class StepTime(Callback):
    "Seconds from the first batch's end to the last's"
    order = 90
    def before_fit(self): self.ends = []
    def after_batch(self): self.ends.append(time.perf_counter())
    @property
    def seconds(self): return (self.ends[-1]-self.ends[0])/(len(self.ends)-1)


class TimedSharing(MatchedSharing):
    "Matches labels before the first step, and keeps the seconds that each part takes"
    def before_fit(self):
        super().before_fit()
        self.matching,self.pulls = [],[]
    def match(self): return self._timed(self.matching, super().match)
    def after_step(self): self._timed(self.pulls, super().after_step)
    def _timed(self, seconds, f):
        start = time.perf_counter()
        out = f()
        seconds.append(time.perf_counter()-start)
        return out


def matched_cost(args, dls):
    "Labels in a group, milliseconds of a step towards the groups' means, and seconds of the matching"
    set_seed(0)
    own = TimedSharing(at=(0.,))
    learn = mtcs_learner(dls, sharing=None, cbs=own)
    with learn.no_bar(), learn.no_logging(): learn.fit(1)
    return own.matched(), 1000*statistics.median(own.pulls), own.matching[0]


def loaders(args, n):
    "Loaders of `n` tasks"
    X = np.random.default_rng(0).normal(size=(33, 1, args.len)).astype(np.float32)
    y,splits = [i%args.labels for i in range(33)],(range(32), [32])
    dls = MultiTaskDataLoaders.from_tasks([Task(f't{k}', X, y, splits) for k in range(n)], steps=args.steps, schedule='uniform',
                                          device=args.device)
    return dls.unwatched()


def step_time(args, dls, **sharing):
    "Seconds a step"
    set_seed(0)
    learn = mtcs_learner(dls, cbs=StepTime(), **sharing)
    if args.bf16: learn.to_bf16()
    with learn.no_bar(), learn.no_logging(): learn.fit(1)
    return learn.step_time.seconds


def plot(df, path):
    "Milliseconds a step over the number of tasks, a line a way of sharing"
    ax = df.pivot(index='tasks', columns='sharing', values='ms').plot(marker='o', logx=True, ylim=(0, 1.1*df.ms.max()), figsize=(7, 3.5))
    ax.set(xlabel='tasks', ylabel='milliseconds a step')
    ax.figure.savefig(path, dpi=120, bbox_inches='tight')


if __name__ == '__main__':
    args = parser.parse_args()
    warnings.simplefilter('ignore')
    matplotlib.use('Agg')
    rows = []
    for n in map(int, args.tasks.split(',')):
        dls = loaders(args, n)
        few = min(args.partners, n)
        paper = dict(sharing='paper', partners=few if n > few else None)
        runs = {'none':dict(paper, alpha=0.), f'{args.partners} partners':paper}
        if n <= args.all_up_to:
            runs |= {'none, all heads':dict(sharing=None), 'all pairs':dict(sharing='paper')}
        times = {name: [] for name in runs}
        for _ in range(args.repeats):
            for name,kw in runs.items(): times[name].append(1000*step_time(args, dls, **kw))
        for name,ts in times.items():
            rows.append(dict(tasks=n, labels=n*args.labels, sharing=name, ms=statistics.median(ts), least=min(ts), most=max(ts)))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/2**20
        for r in rows[-len(runs):]:
            print('{tasks:6} tasks, {labels:7} labels   {sharing:16} {ms:7.1f} ms ({least:.1f} to {most:.1f})'.format(**r),
                  f'  peak {peak:.2f} GiB', flush=True)
        if n <= args.match_up_to:
            labels, ms, s = matched_cost(args, dls)
            print(f'{n:6} tasks, {labels:7} labels in a group   {ms:.2f} ms a step towards their means, {s:.1f} s to match', flush=True)
    if args.plot: plot(pd.DataFrame(rows), args.plot)
