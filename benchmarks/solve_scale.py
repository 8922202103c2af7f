#!/usr/bin/env python
"""Time and memory of `share_heads` for many tasks, a few of which are relatives.

    python benchmarks/solve_scale.py --tasks 1000 --labels 10 --feats 10000 --threads 2 --out benchmarks/results/solve_scale.csv

The embeddings are synthetic, in float32: every task has `--rows` rows a label around a centre for each label, in a place of its own.
The tasks of a family have the place and the centres in common, in an order of their own; the others share nothing. A line of the CSV
is a run; memory is the largest resident set of the process, the embeddings included.
"""
import argparse, csv, os, resource, time
from pathlib import Path

import numpy as np
import torch

from tsai_mtcs.ridge import Rows
from tsai_mtcs.shared_heads import share_heads

FIELDS = ['tasks','labels','feats','rows','families','family','threads','seconds','cpu_seconds','embeddings_gb','peak_gb',
          'right','wrong','possible']


def make(args):
    "`Rows` of all tasks, and the meaning of each label"
    gen, rows, meaning = torch.Generator().manual_seed(args.seed), [], []
    centres = None
    for k in range(args.tasks):
        relative = k < args.families*args.family
        if centres is None or not relative or k%args.family == 0:
            centres = args.signal*torch.randn(args.labels, args.feats, generator=gen)+args.place*torch.randn(args.feats, generator=gen)
            first = len(meaning)
        order = torch.randperm(args.labels, generator=gen)
        y = torch.arange(args.labels).repeat(args.rows)
        X = torch.randn(len(y), args.feats, generator=gen).add_(centres[order[y]])
        rows.append(Rows(X, y, args.labels, torch.ones(len(y))))
        meaning += (first+order).tolist()
    return rows, np.array(meaning)


def pairs(of):
    "Pairs of equal numbers"
    _, size = np.unique(of, return_counts=True)
    return int((size*(size-1)//2).sum())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default, text in (('tasks', 1000, 'tasks'), ('labels', 10, 'labels of each'), ('feats', 10000, 'feats of an embedding'),
                                ('rows', 3, 'training rows a label'), ('families', 20, 'families of tasks with the same labels'),
                                ('family', 5, 'tasks of a family'), ('threads', os.cpu_count(), "PyTorch's threads"),
                                ('seed', 0, 'seed of the embeddings')):
        parser.add_argument('--'+name, type=int, default=default, help=f'{text} (default: %(default)s)')
    parser.add_argument('--signal', type=float, default=.2, help="size of a centre's entries; noise has 1 (default: %(default)s)")
    parser.add_argument('--place', type=float, default=.7, help="size of a place's entries (default: %(default)s)")
    parser.add_argument('--out', help='CSV to add a line to')
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows, meaning = make(args)
    use, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    found = share_heads(rows)
    seconds, now = time.perf_counter()-start, resource.getrusage(resource.RUSAGE_SELF)
    grouped = found.groups >= 0
    together, right = pairs(found.groups[grouped]), pairs((found.groups*len(meaning)+meaning)[grouped])
    line = dict({o: getattr(args, o) for o in FIELDS if hasattr(args, o)}, seconds=round(seconds, 1),
                cpu_seconds=round(now.ru_utime+now.ru_stime-use.ru_utime-use.ru_stime, 1),
                embeddings_gb=round(sum(o.X.nbytes for o in rows)/2**30, 2),
                peak_gb=round(now.ru_maxrss/2**20, 2), right=right, wrong=together-right, possible=pairs(meaning))
    print(line)
    if not args.out: return
    new = not Path(args.out).exists()
    with open(args.out, 'a', newline='') as f:
        writer = csv.DictWriter(f, FIELDS)
        if new: writer.writeheader()
        writer.writerow(line)


if __name__ == '__main__': main()
