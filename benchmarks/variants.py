#!/usr/bin/env python
"""Variants of a method's settings beside each other: where nobody published them, and what the sharing loss's two do.

    python benchmarks/variants.py tnc tstcc tst --archive UCRArchive_2018 --tasks ChlorineConcentration,ECG5000 \
        --valid-pct .25 --n-jobs 2 --bf16 --out choices
    python benchmarks/variants.py mtcs --archive UCRArchive_2018 --tasks Lightning2,Lightning7 --seeds 0,1 --bf16 --out lightning

What a name doesn't say is as in `METHODS`. The SVM is scored: on the test split, or with `--valid-pct` on a part of the training
rows that is held out, for choices. A run that has ended is kept in the folder and isn't run again. `--csv` writes all results as
one file. For a single variant, `mtcs benchmark --set` does as well.
"""
import argparse
import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from tsai_mtcs.archive import ucr_tasks
from tsai_mtcs.bench.methods import METHODS
from tsai_mtcs.bench.runner import run_benchmark
from tsai_mtcs.selfsup.tnc import WindowGRU
from tsai_mtcs.tasks import Task

GRU = dict(arch=WindowGRU, steps=1500)
VARIANTS = {
    'mtcs': {
        'alpha 0': dict(alpha=0.),
        'alpha 0.1': {},
        'alpha 1': dict(alpha=1.),
        'alpha 0.1, tau 1': dict(tau=1.),
        'alpha 0.1, tau 4': dict(tau=4.)},
    'tnc': {
        'TS2Vec encoder, quarter': {},
        'TS2Vec encoder, tenth': dict(fraction=.1),
        'windows of a tenth': dict(GRU, fraction=.1),
        'windows of a quarter': GRU,
        'w 0.2': dict(GRU, fraction=.1, w=.2),
        'mean of the windows': dict(GRU, fraction=.1, arch_config=dict(pool='mean'))},
    'tstcc': {
        'views of HAR': {},
        'views of Epilepsy': dict(scale=.001, jitter=.001, max_segments=5, future=10)},
    'tst': {
        '10 epochs': dict(epochs=10),
        '40 epochs': dict(epochs=40)},
}

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument('methods', nargs='+', choices=list(VARIANTS))
parser.add_argument('--archive', required=True, help='folder of the UCR archive')
parser.add_argument('--tasks', required=True, help='names of data sets, comma-separated')
parser.add_argument('--only', help='only variants of these identifiers, comma-separated: mtcs-alpha-0,mtcs-alpha-1')
parser.add_argument('--scale', choices=('task','row'), default='task',
                    help="z-score by a task's statistics only, or each series by its own before (another --out for each)")
parser.add_argument('--seeds', default='0')
parser.add_argument('--valid-pct', type=float, default=0.)
parser.add_argument('--n-jobs', type=int)
parser.add_argument('--bf16', action='store_true')
parser.add_argument('--out', required=True, help='folder of the runs')
parser.add_argument('--csv', type=Path, help='file to write the results to')


def variants(method):
    "The variants of a method, as methods"
    base = METHODS[method]
    word = lambda name: re.sub('[^a-z0-9.]+', '-', name.lower())
    return [replace(base, id=f'{base.id}-{word(name)}', name=f'{base.name}, {name}', settings={**base.settings, **settings})
            for name,settings in VARIANTS[method].items()]


def by_row(task):
    "A task whose series have mean 0 and variance 1 each, a constant one zeros"
    X = task.X-np.nanmean(task.X, -1, keepdims=True)
    std = np.nanstd(X, -1, keepdims=True)
    return Task(task.name, X/np.where(std > 1e-8, std, 1), task.y, splits=(task.train, task.test))


if __name__ == '__main__':
    args = parser.parse_args()
    methods = [v for o in args.methods for v in variants(o)]
    if args.only: methods = [o for o in methods if o.id in args.only.split(',')]
    tasks = ucr_tasks(args.tasks.split(','), args.archive)
    if args.scale == 'row': tasks = [by_row(o) for o in tasks]
    results = run_benchmark(methods, tasks, list(map(int, args.seeds.split(','))), args.out, args.n_jobs, args.bf16, args.valid_pct)
    table = results.pivot_table(index='name', columns='task', values='accuracy', sort=False)
    table['mean'] = table.mean(axis=1)
    print(table.round(3).to_string())
    if args.csv: results.to_csv(args.csv, index=False)
