#!/usr/bin/env python
"""Kernel features: speed and equality against aeon's, and what one space for all tasks costs in accuracy.

    python benchmarks/kernels.py --archive UCRArchive_2018 --tasks CBF,Coffee,… --out benchmarks/results/kernels.csv

Prints, first, seconds for the features of `--rows` series of 80, 250 and 577 steps, of aeon's transformers and of `KernelEncoder`
with as many kernels, on the same threads, repeats interleaved (medians), the ratio, and the largest difference of MiniRocket's
features for the same kernels. Then, a row a data set, the accuracy of scikit-learn's RidgeClassifierCV on standardised features, on a
held-out third of the training rows and on the test rows: of features fitted to each data set alone (own), of one encoder for all data
sets (one), of the same with every series stretched to 384 steps (stretched), and of one encoder of each choice of parts.
"""
import argparse, statistics, time, warnings

import numpy as np
import pandas as pd
import torch
from aeon.transformations.collection.convolution_based import HydraTransformer, MiniRocket, MultiRocket
from sklearn.linear_model import RidgeClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tsai_mtcs import archive
from tsai_mtcs.data import MultiTaskDataLoaders
from tsai_mtcs.kernel_features import rocket_features
from tsai_mtcs.kernels import KernelEncoder
from tsai_mtcs.tasks import Task, hold_out

PARTS = {'hydra': ['hydra'], 'minirocket+hydra': ['minirocket', 'hydra'], 'multirocket': ['multirocket'],
         'multirocket+hydra': ['multirocket', 'hydra']}

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument('--archive', help='folder of the UCR archive; left out: the data sets bundled with aeon')
parser.add_argument('--tasks', default='ArrowHead,GunPoint,ItalyPowerDemand,OSULeaf', help='names of data sets')
parser.add_argument('--rows', type=int, default=200, help='series to time')
parser.add_argument('--repeats', type=int, default=3)
parser.add_argument('--threads', type=int, default=1)
parser.add_argument('--parts', default=','.join(PARTS), help='choices of parts beside minirocket; empty: none')
parser.add_argument('--seed', type=int, default=0)
parser.add_argument('--out', help='CSV of the accuracies')


def walks(n, steps): return np.random.default_rng(0).normal(size=(n, 1, steps)).cumsum(-1).astype(np.float32)


def timed(f):
    start = time.perf_counter()
    f()
    return time.perf_counter()-start


def speed(args):
    "A row a length and kind of kernels: seconds of both and their ratio"
    torch.set_num_threads(args.threads)
    theirs = dict(minirocket=MiniRocket(5000, random_state=0, n_jobs=args.threads),
                  multirocket=MultiRocket(6250, random_state=0, n_jobs=args.threads),
                  hydra=HydraTransformer(random_state=0, n_jobs=args.threads))
    for steps in (80, 250, 577):
        X = walks(args.rows, steps)
        task = Task('walks', X, np.arange(len(X))%2, splits=(range(len(X)-1), [len(X)-1]))
        for name,transformer in theirs.items():
            encoder = KernelEncoder(1, name).fit_rows(MultiTaskDataLoaders.from_tasks([task], device='cpu'), n=10)
            transformer.fit(X)
            ways = [lambda: transformer.transform(X), lambda: encoder.raw(torch.from_numpy(X))]
            for f in ways: f() # compile
            times = np.array([[timed(f) for f in ways] for _ in range(args.repeats)])
            yield dict(kernels=name, steps=steps, aeon=statistics.median(times[:,0]), ours=statistics.median(times[:,1]),
                       ratio=statistics.median(times[:,0]/times[:,1]), feats=encoder.feats)


def difference(steps=250):
    "Largest difference from aeon's features for the same kernels"
    X = walks(100, steps)
    theirs = MiniRocket(5000, random_state=0).fit(X)
    _,_,dils,counts,biases = theirs.parameters
    ours = rocket_features(torch.from_numpy(X), torch.full((100,), steps), torch.from_numpy(np.log(dils)/np.log((steps-1)/8)),
                           counts.tolist(),
                           torch.zeros(len(dils), 28, dtype=torch.long), torch.from_numpy(biases))
    return float(np.abs(ours.numpy()-theirs.transform(X)).max())


def features(encoder, task, rows, stretch=None):
    x = torch.from_numpy(task.spec.scale(task.X)[rows])
    if stretch: x = torch.nn.functional.interpolate(x.nan_to_num(), stretch, mode='linear', align_corners=True)
    return encoder(x).numpy()


def accuracies(encoder, task, stretch=None):
    "Accuracy on held-out training rows, and of all training rows on the test rows"
    part = hold_out(task, 1/3, seed=0)
    Z = features(encoder, task, np.arange(len(task.y)), stretch)
    def score(train, test):
        classifier = make_pipeline(StandardScaler(), RidgeClassifierCV(np.logspace(-3, 3, 10)))
        return classifier.fit(Z[train], task.y[train]).score(Z[test], task.y[test])
    return score(part.train, part.valid), score(task.train, task.test)


def stretched(task, steps):
    "The task with every series resampled to as many steps"
    X = torch.nn.functional.interpolate(torch.from_numpy(task.X).nan_to_num(), steps, mode='linear', align_corners=True).numpy()
    return Task(task.name, X, task.y, splits=(task.train, task.test))


def encoders(args, tasks):
    "Pairs of a name and what gives a task's encoder and the length to stretch to"
    def fit(tasks, parts=('minirocket',)):
        return KernelEncoder(1, parts, seed=args.seed).fit_rows(MultiTaskDataLoaders.from_tasks(tasks, device='cpu'))
    one,even = fit(tasks),fit([stretched(o, 384) for o in tasks])
    yield 'own', lambda task: (fit([task]), None)
    yield 'one', lambda task: (one, None)
    yield 'stretched', lambda task: (even, 384)
    for name in filter(None, args.parts.split(',')):
        encoder = fit(tasks, PARTS[name])
        yield name, lambda task, encoder=encoder: (encoder, None)


if __name__ == '__main__':
    args = parser.parse_args()
    warnings.filterwarnings('ignore')
    print(pd.DataFrame(speed(args)).round(3).to_string(index=False))
    print(f'largest difference from aeon: {difference():.1e}\n', flush=True)
    names = args.tasks.split(',')
    tasks = archive.ucr_tasks(names, args.archive) if args.archive else archive.bundled_tasks(names)
    table = pd.DataFrame(dict(rows=[len(o.train) for o in tasks], steps=[o.spec.len for o in tasks]), index=pd.Index(names, name='task'))
    for name,encoder in encoders(args, tasks):
        found = []
        for task in tasks:
            e,stretch = encoder(task)
            found.append(accuracies(e, task, stretch))
        table[f'{name} held-out'],table[f'{name} test'] = zip(*found)
        print(f'{name}: {table[f"{name} held-out"].mean():.4f} held-out, {table[f"{name} test"].mean():.4f} test', flush=True)
        if args.out: table.round(4).to_csv(args.out)
    print(table.round(4).to_string())
