#!/usr/bin/env python
"""A new data set on a trained model: how many rows a label does it take, and what helps?

    python benchmarks/add_task.py --archive UCRArchive_2018 --seeds 0,1 --out benchmarks/results/added.csv

Of each data set some rows of each label are set aside as new before anything else. The model that they are added to has learned
one of two things:

    site      three sites of every data set, rows and label names of their own each: the new labels are known under other names
    stranger  the other data sets alone: neither encoder nor heads have seen the new one. The data sets are divided into `--folds`
              by their place in the list, and a model learns all folds but one

Ways:

    kernels            kernel encoder and a head in closed form: `add_task(…, strength=0)`
    kernels, known     the same, drawn to heads of the model whose labels match: `add_task`
    random TS2Vec      a small TS2Vec encoder as it is initialised
    trained TS2Vec     the same after `--epochs` on the model's tasks, with their labels
    trained, known     the same, drawn to heads of the model whose labels match
    MultiROCKET-Hydra  aeon's classifier on the new rows alone
    raw, 1-NN          the nearest of the new rows, z-scored

New rows and test rows are the same for all ways. `related` and `evidence` say how many known tasks `add_task` takes for relatives
of the new one, and how strongly the best of all known tasks answers to it. A run that is started again measures what is missing.
"""
import argparse, csv, time, warnings
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from tsai_mtcs import growing
from tsai_mtcs.all import KernelEncoder, MultiTaskDataLoaders, Task, add_task, known_labels, mtcs_learner, set_seed, ucr_tasks
from tsai_mtcs.bench.sites import deal_sites

TASKS = ('SwedishLeaf','TwoPatterns','FaceAll','SyntheticControl','ECG5000','UWaveGestureLibraryY','MedicalImages','Crop','ElectricDevices',
         'PowerCons','Wafer','Strawberry')
DEEP = dict(hidden=32, feats=160, depth=7)
FIELDS = ['task','seed','known','way','rows','accuracy','seconds','related','evidence']
ENCODERS = {'kernels':('kernels', 0), 'kernels, known':('kernels', None), 'random TS2Vec':('random', 0), 'trained TS2Vec':('trained', 0),
            'trained, known':('trained', None)} # way → encoder and `strength`


def rows_of(task, rows, start=0, stop=None):
    "Of some rows those between two positions among the rows of their label; positions may be functions of the number of rows"
    parts = [rows[task.codes[rows] == o] for o in range(len(task.labels))]
    at = lambda o, n: o(n) if callable(o) else o
    return np.concatenate([part[at(start, len(part)):at(stop, len(part))] for part in parts])


def some_rows(task, train, test, name=None):
    "A task of these rows of a data set"
    return Task(name or task.name, task.X[np.r_[train, test]], task.y[np.r_[train, test]],
                splits=(range(len(train)), range(len(train), len(train)+len(test))))


class Divided:
    "A data set whose rows are divided into new ones, known ones and test rows to score"
    def __init__(self, task, seed, args):
        rng = np.random.default_rng(seed)
        self.task,self.train,self.test = task,rng.permutation(task.train),rng.permutation(task.test)[:args.test]
        most = lambda n: min(max(args.rows), n//2) # at least half of a label's rows remain for the model
        self.new,known = rows_of(task, self.train, 0, most),rows_of(task, self.train, most)
        self.sites = deal_sites(some_rows(task, known, self.test), n=3, rows=args.site_rows, seed=seed)[0]
        self.whole = some_rows(task, rows_of(task, self.train, 0, args.known), self.test)

    def added(self, n): return some_rows(self.task, rows_of(self.task, self.new, 0, n), self.test, 'new')


def score(task, labels): return float((np.asarray(labels).astype(str) == task.y[task.test].astype(str)).mean())


def hydra(task):
    from aeon.classification.convolution_based import MultiRocketHydraClassifier
    (X, y), (X_test, _) = task.to_aeon(), task.to_aeon('test')
    return score(task, MultiRocketHydraClassifier(random_state=0).fit(X, y).predict(X_test))


def nearest(task):
    from sklearn.neighbors import KNeighborsClassifier
    X = task.spec.scale(task.X).reshape(len(task.X), -1)
    return score(task, KNeighborsClassifier(1).fit(X[task.train], task.y[task.train].astype(str)).predict(X[task.test]))


ALONE = {'MultiROCKET-Hydra':hydra, 'raw, 1-NN':nearest} # they know the new rows alone


class Models:
    "Models of the known tasks, each made when it is first asked for"
    def __init__(self, tasks, seed, epochs):
        self.seed,self.epochs = seed,epochs
        self.dls = MultiTaskDataLoaders.from_tasks(tasks, check_copies=False, seed=seed).unwatched()

    def solved(self, *args, epochs=0, **kwargs):
        set_seed(self.seed)
        learn = mtcs_learner(self.dls, *args, **kwargs)
        with learn.no_bar(), learn.no_logging():
            if epochs: learn.fit_one_cycle(epochs)
            return learn.fit_heads(seed=self.seed).model

    @cached_property
    def kernels(self): return self.solved(KernelEncoder, arch_config=dict(seed=self.seed))
    @cached_property
    def random(self): return self.solved(arch_config=DEEP)
    @cached_property
    def trained(self): return self.solved(arch_config=DEEP, epochs=self.epochs)


def settings(args):
    "Seed, what is known of the new data sets, the tasks that a model learns, and the data sets that are then added to it"
    tasks = ucr_tasks(args.tasks, args.archive)
    for seed in args.seeds:
        parts = [Divided(o, seed, args) for o in tasks]
        yield seed,'site',[site for o in parts for site in o.sites],parts
        for k in range(args.folds):
            yield seed,'stranger',[o.whole for i,o in enumerate(parts) if i%args.folds != k],parts[k::args.folds]


def run(args):
    path = Path(args.out)
    done = set(pd.read_csv(path)[FIELDS[:5]].itertuples(index=False, name=None)) if path.exists() else set()
    for seed,known,tasks,parts in settings(args):
        models = Models(tasks, seed, args.epochs)
        for o in parts:
            for n in args.rows:
                ways = [way for way in args.ways if known == 'site' or way not in ALONE]
                ways = [way for way in ways if (o.task.name, seed, known, way, n) not in done]
                if not ways: continue
                lines = [(o.task.name, seed, known, way, n, *measured(o.added(n), way, models)) for way in ways]
                with path.open('a', newline='') as f:
                    if not f.tell(): csv.writer(f).writerow(FIELDS)
                    csv.writer(f).writerows(lines)
                print(o.task.name, seed, known, n, *(f'{o[3]} {o[5]:.3f}' for o in lines), sep=', ', flush=True)


def measured(task, way, models):
    "Accuracy, seconds, number of relatives and the largest evidence; `None` where nothing known is asked"
    encoder,strength = ENCODERS.get(way, (None, 0))
    model = encoder and getattr(models, encoder) # made before the clock starts
    start = time.perf_counter()
    accuracy = score(task, add_task(model, task, strength).predict(task.X[task.test], task.name)[0]) if model else ALONE[way](task)
    found = [round(accuracy, 4), round(time.perf_counter()-start, 2)]
    if strength == 0: return [*found, None, None]
    evidence = growing.known_tasks(model, growing._new_rows(model, task, task.spec))[0].evidence
    return [*found, known_labels(model, task).task.nunique(), round(evidence, 3)]


def show(path):
    "Mean accuracy over data sets and seeds that all ways have, and the difference from kernels with its standard error"
    found = pd.read_csv(path)
    for known in found.known.unique():
        part = found[(found.known == known) | found.way.isin(ALONE)]
        wide = part.pivot_table(index=['rows','task','seed'], columns='way', values='accuracy').dropna()
        gain = wide.sub(wide.kernels, axis=0).groupby('rows')
        print(f'\nThe new data set is a {known}; mean of {wide.groupby("rows").size().max()}:')
        print(wide.groupby('rows').mean().T.round(3).to_string())
        print('Difference from kernels, and its standard error:')
        print(pd.concat(dict(mean=gain.mean().T, error=gain.sem().T), axis=1).swaplevel(axis=1).sort_index(axis=1).round(3).to_string())


if __name__ == '__main__':
    def numbers(text): return list(map(int, text.split(',')))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--archive', required=True, help='folder of the UCR archive')
    parser.add_argument('--tasks', default=TASKS, type=lambda o: o.split(','), help='names of data sets, comma-separated')
    parser.add_argument('--rows', default=[1,2,5,10], type=numbers, help='new rows a label, at most half of what there are')
    parser.add_argument('--site-rows', type=int, default=10, help='rows a label of each known site')
    parser.add_argument('--known', type=int, default=50, help='rows a label of each known data set, at most, for a stranger')
    parser.add_argument('--folds', type=int, default=3, help='of data sets, for strangers')
    parser.add_argument('--test', type=int, default=300, help='test rows to score, at most')
    parser.add_argument('--epochs', type=int, default=20, help='epochs of the trained encoder')
    parser.add_argument('--seeds', default=[0,1], type=numbers)
    parser.add_argument('--ways', default=[*ENCODERS, *ALONE], nargs='*', help='each in quotes')
    parser.add_argument('--out', default='added.csv')
    args = parser.parse_args()
    warnings.simplefilter('ignore')
    run(args)
    show(args.out)
