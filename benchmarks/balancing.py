#!/usr/bin/env python
"""What weighing the tasks' losses does for accuracy: none, by uncertainty, by dynamic weight average, balanced labels.

    python benchmarks/balancing.py --archive UCRArchive_2018 --tasks ItalyPowerDemand,SonyAIBORobotSurface1,GunPoint --seeds 0,1,2
    python benchmarks/balancing.py --archive UCRArchive_2018 --tasks UCR_SELECTED10 --rows 120 --test 300 --seeds 0,1

All data sets are trained together by a small encoder, without sharing between heads, so that nothing but the weights differs. The
accuracy is that of the trained heads on the test split after the last epoch; nothing is chosen by it. With `--rows` a data set
trains with so many of its rows at most, drawn anew for each seed, and with `--test` so many are scored. A run that is started again
continues. The table shows for each way the mean over tasks, and its difference from 'none' with the standard error over
pairs of task and seed. A step of gradient surgery is made of four batches, so there are a quarter as many: compare it with
'four batches a step', which takes the mean of their gradients.
"""
import argparse, csv, warnings
from pathlib import Path

import numpy as np
import pandas as pd

from tsai_mtcs import archive
from tsai_mtcs.all import GradientSurgery, LossBalancing, MultiTaskDataLoaders, Task, mtcs_learner, set_seed, ucr_tasks

WAYS = {'none': dict(), 'uncertainty': dict(cbs=LossBalancing), 'dwa': dict(cbs=lambda: LossBalancing('dwa')),
        'balanced labels': dict(class_weights='balanced'), 'uniform schedule': dict(schedule='uniform'),
        'four batches a step': dict(cbs=lambda: GradientSurgery('mean')), 'surgery': dict(cbs=GradientSurgery)}
FIELDS = ['way', 'seed', 'task', 'rows', 'accuracy', 'balanced_accuracy', 'loss']


def smaller(task, seed, rows, test):
    "At most so many training and test rows of a data set, drawn at random; `None`: all"
    rng = np.random.default_rng(seed)
    train,test = rng.permutation(task.train)[:rows],rng.permutation(task.test)[:test]
    known = np.isin(task.codes[test], task.codes[train]) # a label of which no row was drawn can't be scored
    return Task(task.name, task.X, task.y, splits=(train, test[known]))


def scores(tasks, seed, epochs, bs, schedule='proportional', cbs=None, **kwargs):
    "Frame of scores on the test split, a row a task"
    set_seed(seed)
    dls = MultiTaskDataLoaders.from_tasks(tasks, bs=bs, seed=seed, schedule=schedule, check_copies=False)
    learn = mtcs_learner(dls.unwatched(), sharing=None, arch_config=dict(hidden=16, feats=64, depth=6), cbs=cbs and cbs(), **kwargs)
    with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(epochs)
    learn.dls = dls
    with learn.no_bar(): return learn.validate_tasks().iloc[:-1]


def run(args):
    path = Path(args.out)
    whole = ucr_tasks(getattr(archive, args.tasks, None) or args.tasks.split(','), args.archive)
    done = set(pd.read_csv(path)[['way', 'seed']].itertuples(index=False, name=None)) if path.exists() else set()
    for seed in map(int, args.seeds.split(',')):
        tasks = [smaller(o, seed, args.rows, args.test) for o in whole]
        for way in args.ways.split(','):
            if (way, seed) in done: continue
            frame = scores(tasks, seed, args.epochs, args.bs, **WAYS[way])
            with path.open('a', newline='') as f:
                if not f.tell(): csv.writer(f).writerow(FIELDS)
                csv.writer(f).writerows((way, seed, *o) for o in frame[FIELDS[3:]].round(4).itertuples(name=None))
            print(way, seed, round(frame.accuracy.mean(), 4), flush=True)


def show(path):
    "A row a way"
    found = pd.read_csv(path)
    table = found.groupby('way', sort=False)[['accuracy', 'balanced_accuracy', 'loss']].mean()
    wide = found.pivot(index=['task', 'seed'], columns='way', values='accuracy')
    gain = wide.sub(wide['none'], axis=0)
    table['gain'],table['se'] = gain.mean(),gain.std()/len(gain)**.5
    print(table.round(4).to_string())


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--archive', required=True, help='folder of the UCR archive')
    parser.add_argument('--tasks', required=True, help='names of data sets, comma-separated, or UCR_SELECTED10')
    parser.add_argument('--rows', type=int, help='training rows of a data set, at most; left out: all')
    parser.add_argument('--test', type=int, help='test rows of a data set to score, at most; left out: all')
    parser.add_argument('--ways', default='none,uncertainty,dwa,balanced labels,uniform schedule',
                        help=f'of {", ".join(WAYS)}; surgery needs the extra `balance`')
    parser.add_argument('--seeds', default='0,1,2')
    parser.add_argument('--epochs', type=int, default=20)
    parser.add_argument('--bs', type=int, default=16)
    parser.add_argument('--out', default='balancing.csv')
    args = parser.parse_args()
    warnings.simplefilter('ignore')
    run(args)
    show(args.out)
