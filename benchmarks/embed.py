#!/usr/bin/env python
"""Speed of `embed` against the plain loop of `plain.py`, on the test rows of UCR data sets, in one run.

    python benchmarks/embed.py --archive UCRArchive_2018 --tasks UCR_TOP15 --rows 200 --repeats 3

The same encoder and rows, in turn. Prints seconds (median, least and most), ratios, and how far the embeddings are apart:
the largest difference over their standard deviation.
"""
import argparse, statistics, warnings

import floors
import plain
import torch
from fastai.torch_core import set_seed
from step import load, timed

from tsai_mtcs.data import MultiTaskDataLoaders
from tsai_mtcs.learner import mtcs_learner

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument('--archive', help='folder of the UCR archive; left out: the data sets bundled with aeon')
parser.add_argument('--tasks', default='UCR_TOP15', help='names of data sets, or UCR_SELECTED10, UCR_TOP15 (those that the folder has)')
parser.add_argument('--rows', type=int, default=0, help='test rows of a data set; 0: all')
parser.add_argument('--repeats', type=int, default=3)
parser.add_argument('--device', default='cpu')


if __name__ == '__main__':
    args = parser.parse_args()
    warnings.simplefilter('ignore')
    set_seed(0)
    tasks = load(args)
    learn = mtcs_learner(MultiTaskDataLoaders.from_tasks(tasks, device=args.device))
    other = plain.PlainModel(learn.dls.space.specs).load(learn.model).to(args.device)
    rows = [(o, o.X[o.test[:args.rows or None]]) for o in tasks]
    scaled = [o.spec.scale(X) for o,X in rows]

    embeddings = {}
    def plainly(): embeddings['plain'] = [plain.embed(other, X, device=args.device) for X in scaled]
    def library(name): embeddings[name] = [learn.model.embed(X, o.name, bf16=name == 'bfloat16') for o,X in rows]
    formats = floors.formats(args.device)
    runs = {'plain, float32':plainly, **{f'embed, {o}': lambda o=o: library(o) for o in formats}}
    times = {name: [] for name in runs}
    for _ in range(args.repeats):
        for name,f in runs.items(): times[name].append(timed(f, args.device))
    print(f'{len(tasks)} data sets, {sum(len(X) for X in scaled)} rows, torch {torch.__version__}, {args.device}, '
          f'{torch.get_num_threads()} threads')
    for name,ts in times.items():
        ratios = [a/b for a,b in zip(times['plain, float32'], ts)]
        print(f'{name:16} {statistics.median(ts):7.1f} s ({min(ts):.1f} to {max(ts):.1f})   {statistics.median(ratios):5.2f} times as fast '
              f'as plain ({min(ratios):.2f} to {max(ratios):.2f})')
    for name in formats:
        apart = max(abs(a-b).max()/b.std() for a,b in zip(embeddings[name], embeddings['plain']))
        print(f'{name}: largest difference over standard deviation {apart:.1e}')
