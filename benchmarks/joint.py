#!/usr/bin/env python
"""Accuracy of joint training on UCR data sets: the heads' own, and the SVM's on frozen embeddings.

    python benchmarks/joint.py --archive UCRArchive_2018 --tasks UCR_SELECTED10 --alphas 0.1,0 --seeds 0,1,2 \
        --out benchmarks/results/selected10.csv

One run for each alpha and seed with the paper's settings (5 epochs, batch 32, AdamW at 1e-3, tau 2). A finished run is
written at once, a row a task, and isn't run again. `--valid-pct` holds out a part of the training rows and scores that
instead of the test split: for choices. `python benchmarks/joint.py --summary FILE` prints means over tasks and their
spread over seeds.
"""
import argparse, platform, time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from fastai.torch_core import set_seed

from tsai_mtcs import archive
from tsai_mtcs.callback.averaging import AverageWeights
from tsai_mtcs.data import MultiTaskDataLoaders
from tsai_mtcs.evaluation import results_table
from tsai_mtcs.learner import mtcs_learner
from tsai_mtcs.tasks import Task

SETTINGS = ('epochs','bs','lr','one_cycle','average','mask','bf16','schedule','valid_pct','scale')

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument('--archive', help='folder of the UCR archive; left out: the data sets bundled with aeon')
parser.add_argument('--tasks', default='UCR_SELECTED10',
                    help='names of data sets, or BUNDLED, UCR_SELECTED10, UCR_TOP15 (those that the folder has), or ALL of the folder')
parser.add_argument('--score', help='the data sets to score, named as in --tasks; left out: all that are trained on')
parser.add_argument('--alphas', default='0.1,0')
parser.add_argument('--seeds', default='0,1,2')
parser.add_argument('--epochs', type=int, default=5)
parser.add_argument('--bs', type=int, default=32)
parser.add_argument('--lr', type=float, default=1e-3)
parser.add_argument('--one-cycle', action='store_true')
parser.add_argument('--schedule', default='proportional')
parser.add_argument('--average', action='store_true', help='keep the mean of the weights')
parser.add_argument('--mask', help="hide steps while training: binomial or continuous")
parser.add_argument('--bf16', action='store_true', help='run the model in bfloat16')
parser.add_argument('--valid-pct', type=float, default=0.)
parser.add_argument('--scale', choices=('task','row'), default='task',
                    help="z-score by a task's statistics only, or each series by its own before")
parser.add_argument('--n-jobs', type=int, default=2)
parser.add_argument('--models', type=Path, help='folder to keep each trained model in')
parser.add_argument('--out', type=Path, help='CSV file to append to')
parser.add_argument('--summary', type=Path, help='print the means of a CSV file and stop')


def run(args, alpha, seed):
    "Train on all tasks, score those asked for; a row a task"
    wanted = names(args.tasks, args.archive)
    tasks = archive.ucr_tasks(wanted, args.archive) if args.archive else archive.bundled_tasks(wanted)
    if args.scale == 'row': tasks = [Task(o.name, by_row(o.X), o.y, (o.train,o.test)) for o in tasks]
    set_seed(seed)
    dls = MultiTaskDataLoaders.from_tasks(tasks, bs=args.bs, schedule=args.schedule, valid_pct=args.valid_pct, seed=seed)
    learn = mtcs_learner(dls.unwatched(), sharing='paper', alpha=alpha, lr=args.lr, arch_config=dict(mask=args.mask),
                         cbs=AverageWeights() if args.average else None)
    if args.bf16: learn.to_bf16()
    start = time.perf_counter()
    with learn.no_bar(), learn.no_logging():
        (learn.fit_one_cycle if args.one_cycle else learn.fit)(args.epochs)
        train_s,split = time.perf_counter()-start, 'valid' if args.valid_pct else 'test'
        if args.models: learn.save_pretrained(args.models/f'{args.tasks}_epochs{args.epochs}_alpha{alpha}_seed{seed}')
        scored = names(args.score, args.archive) if args.score else wanted
        df = results_table(dict(head=learn.validate_tasks(split, scored),
                                svm=learn.svm_eval(split, tasks=scored, n_jobs=args.n_jobs))).loc[scored]
    return df.reset_index().assign(alpha=alpha, seed=seed, **settings(args), train_s=round(train_s, 1), torch=torch.__version__,
                                   device=str(dls.device), cpu=platform.machine())


def by_row(X):
    "Each series of `(n, vars, len)` with mean 0 and variance 1, a constant one with zeros"
    X = X-np.nanmean(X, -1, keepdims=True)
    std = np.nanstd(X, -1, keepdims=True)
    return X/np.where(std > 1e-8, std, 1)


def settings(args):
    "What tells one run from another, beside alpha and seed"
    return {o: getattr(args, o) or 'none' if o == 'mask' else getattr(args, o) for o in SETTINGS}


def names(wanted, folder):
    "The data sets asked for, of a list of the paper's those that the folder has"
    if wanted == 'ALL': return sorted(o.name for o in Path(folder).iterdir() if o.is_dir())
    if not hasattr(archive, wanted): return wanted.split(',')
    return [o for o in getattr(archive, wanted) if not folder or (Path(folder)/o).is_dir()]


def summary(path):
    "Mean over tasks, then mean and standard deviation over seeds"
    df = pd.read_csv(path)
    by = ['tasks', *SETTINGS, 'alpha']
    df['tasks'] = df.groupby([*by[1:], 'seed']).task.transform('count')
    return df.groupby([*by, 'seed'])[['head','svm','train_s']].mean().groupby(by).agg(['mean','std','count']).round(4)


if __name__ == '__main__':
    args = parser.parse_args()
    if args.summary: print(summary(args.summary).T.to_string()); raise SystemExit
    for seed in map(int, args.seeds.split(',')):
        for alpha in map(float, args.alphas.split(',')):
            done = pd.read_csv(args.out) if args.out.is_file() else pd.DataFrame(columns=['alpha','seed',*SETTINGS])
            key = dict(alpha=alpha, seed=seed, **settings(args))
            if (done[list(key)] == pd.Series(key)).all(axis=1).any(): continue
            df = run(args, alpha, seed)
            df.to_csv(args.out, mode='a', header=not args.out.is_file(), index=False)
            print(f'alpha {alpha} seed {seed}: heads {df["head"].mean():.4f}  SVM {df.svm.mean():.4f}  trained in {df.train_s[0]:.0f} s',
                  flush=True)
