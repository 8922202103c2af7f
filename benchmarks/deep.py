#!/usr/bin/env python
"""The paper's encoder trained for many steps: no sharing, sharing as printed, and sharing by matches, on the paper's tables.

    python benchmarks/deep.py --archive UCRArchive_2018 --tables selected10,top15 --steps 1000 --out benchmarks/results/deep.csv

One model a table, seed and way of sharing (none, paper, matched), for `--steps` steps a data set under one cycle of the learning rate, on
the archive's split. A line of the CSV is a data set: accuracy on the test rows by the heads that were trained, and after `fit_heads`.
A run that is started again goes on; several may share a table, each with seeds of its own and a CSV of its own.
"""
import argparse, csv, time, warnings
from pathlib import Path

import pandas as pd
from fastai.torch_core import set_seed
from tables import NAMES

from tsai_mtcs import archive
from tsai_mtcs.data import MultiTaskDataLoaders
from tsai_mtcs.learner import mtcs_learner

FIELDS = ['table','task','seed','sharing','steps','trained','solved','seconds']

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument('--archive', required=True, help='folder of the UCR archive')
parser.add_argument('--tables', default='selected10,top15', help='comma-separated (default: %(default)s)')
parser.add_argument('--sharing', default='none,paper,matched', help='comma-separated (default: %(default)s)')
parser.add_argument('--seeds', default='0,1,2', help='comma-separated (default: %(default)s)')
parser.add_argument('--steps', type=int, default=1000, help='steps a data set (default: %(default)s)')
parser.add_argument('--lr', type=float, default=1e-3)
parser.add_argument('--bf16', action='store_true')
parser.add_argument('--device', help='default: a GPU if there is one')
parser.add_argument('--out', default='deep.csv', help='CSV to write and to go on with (default: %(default)s)')


def run(table, sharing, seed, tasks, args):
    "Lines of the CSV for one model"
    set_seed(seed)
    dls = MultiTaskDataLoaders.from_tasks(tasks, seed=seed, steps=args.steps*len(tasks), device=args.device, check_copies=False)
    learn = mtcs_learner(dls.unwatched(), sharing=None if sharing == 'none' else sharing)
    if args.bf16: learn.to_bf16()
    with learn.no_bar(), learn.no_logging():
        start = time.perf_counter()
        learn.fit_one_cycle(1, args.lr)
        seconds = time.perf_counter()-start
        trained = learn.validate_tasks().accuracy
        solved = learn.fit_heads(seed=seed).validate_tasks().accuracy
    return [dict(table=table, task=o.name, seed=seed, sharing=sharing, steps=args.steps, trained=round(trained[o.name], 5),
                 solved=round(solved[o.name], 5), seconds=round(seconds, 1)) for o in tasks]


def done(out):
    "Table, seed, sharing and steps of the lines that there are"
    if not out.exists(): return set()
    with out.open(newline='') as f: return {(o['table'], int(o['seed']), o['sharing'], int(o['steps'])) for o in csv.DictReader(f)}


def summary(out):
    "Mean over data sets and seeds of each table, number of steps and way, and the spread of the mean over seeds"
    df = pd.read_csv(out)
    means = df.groupby(['table','steps','sharing','seed'], sort=False)[['trained','solved','seconds']].mean()
    print(means.groupby(['table','steps','sharing'], sort=False).agg(['mean','std']).round(4).to_string())


if __name__ == '__main__':
    args = parser.parse_args()
    warnings.simplefilter('ignore')
    out, have = Path(args.out), set(archive.archive_names(args.archive))
    for table in args.tables.split(','):
        tasks = archive.ucr_tasks([o for o in getattr(archive, NAMES[table]) if o in have], args.archive)
        for seed in map(int, args.seeds.split(',')):
            for sharing in args.sharing.split(','):
                if (table, seed, sharing, args.steps) in done(out): continue
                lines, new = run(table, sharing, seed, tasks, args), not out.exists()
                with out.open('a', newline='') as f:
                    writer = csv.DictWriter(f, FIELDS)
                    if new: writer.writeheader()
                    writer.writerows(lines)
                print(table, seed, sharing, pd.DataFrame(lines)[['trained','solved','seconds']].mean().round(4).to_dict(), flush=True)
    summary(out)
