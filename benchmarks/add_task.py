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

New rows and test rows are the same for all ways. A run that is started again continues.
"""
import argparse, csv, time, warnings
from pathlib import Path

import numpy as np
import pandas as pd

from tsai_mtcs.all import KernelEncoder, MultiTaskDataLoaders, Task, add_task, known_labels, mtcs_learner, set_seed, ucr_tasks
from tsai_mtcs.bench.sites import deal_sites

TASKS = ('SwedishLeaf','TwoPatterns','FaceAll','SyntheticControl','ECG5000','UWaveGestureLibraryY','MedicalImages','Crop','ElectricDevices',
         'PowerCons','Wafer','Strawberry')
DEEP = dict(hidden=32, feats=160, depth=7)
FIELDS = ['task','seed','known','way','rows','accuracy','seconds','related']


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


def from_model(model, strength):
    "How a model's new task is learned and scored"
    def run(task): return score(task, add_task(model, task, strength=strength).predict(task.X[task.test], task.name)[0])
    return run


def hydra(task):
    from aeon.classification.convolution_based import MultiRocketHydraClassifier
    (X, y), (X_test, _) = task.to_aeon(), task.to_aeon('test')
    return score(task, MultiRocketHydraClassifier(random_state=0).fit(X, y).predict(X_test))


def nearest(task):
    from sklearn.neighbors import KNeighborsClassifier
    X = task.spec.scale(task.X).reshape(len(task.X), -1)
    return score(task, KNeighborsClassifier(1).fit(X[task.train], task.y[task.train].astype(str)).predict(X[task.test]))


def models(tasks, seed, epochs):
    "Models of the known tasks: kernels, TS2Vec as initialised, TS2Vec trained"
    dls = MultiTaskDataLoaders.from_tasks(tasks, check_copies=False, seed=seed).unwatched()
    kernels = mtcs_learner(dls, KernelEncoder, arch_config=dict(seed=seed))
    set_seed(seed)
    random = mtcs_learner(dls, arch_config=DEEP)
    set_seed(seed)
    trained = mtcs_learner(dls, arch_config=DEEP)
    for learn,n in ((kernels, 0), (random, 0), (trained, epochs)):
        with learn.no_bar(), learn.no_logging():
            if n: learn.fit_one_cycle(n)
            learn.fit_heads(seed=seed)
    return kernels.model,random.model,trained.model


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
    done = set(pd.read_csv(path)[['task','seed','known','rows']].itertuples(index=False, name=None)) if path.exists() else set()
    for seed,known,tasks,parts in settings(args):
        todo = [(o, n) for o in parts for n in args.rows if (o.task.name, seed, known, n) not in done]
        if not todo: continue
        start = time.perf_counter()
        kernels,random,trained = models(tasks, seed, args.epochs)
        print(f'seed {seed}, {known}: {len(tasks)} tasks learned in {time.perf_counter()-start:.0f} s', flush=True)
        ways = {'kernels': from_model(kernels, 0), 'kernels, known': from_model(kernels, None), 'random TS2Vec': from_model(random, 0),
                'trained TS2Vec': from_model(trained, 0), 'trained, known': from_model(trained, None)}
        if known == 'site': ways |= {'MultiROCKET-Hydra': hydra, 'raw, 1-NN': nearest} # they know nothing but the new rows
        for o,n in todo: record(path, o, n, seed, known, ways, kernels)


def record(path, divided, n, seed, known, ways, model):
    "Score all ways on `n` rows a label and write a line for each"
    task,lines = divided.added(n),[]
    related = known_labels(model, task).task.nunique()
    for way,f in ways.items():
        start = time.perf_counter()
        accuracy = f(task)
        lines.append((divided.task.name, seed, known, way, n, round(accuracy, 4), round(time.perf_counter()-start, 2), related))
    with path.open('a', newline='') as f:
        if not f.tell(): csv.writer(f).writerow(FIELDS)
        csv.writer(f).writerows(lines)
    print(*(f'{o[3]} {o[5]:.3f}' for o in lines), sep=', ', flush=True)


def show(path):
    "Mean accuracy over data sets and seeds, and the difference from kernels with its standard error over data sets"
    found = pd.read_csv(path)
    alone = found[found.way.isin(['MultiROCKET-Hydra','raw, 1-NN'])]
    for known in ('site','stranger'):
        part = found[found.known == known]
        if known == 'stranger': part = pd.concat((part, alone))
        print(f'\nThe new data set is a {known}:')
        print(part.pivot_table(index='way', columns='rows', values='accuracy', sort=False).round(3).to_string())
        wide = part.pivot_table(index='task', columns=['rows','way'], values='accuracy')
        gain = wide.sub(wide.xs('kernels', level='way', axis=1).reindex(wide.columns.get_level_values('rows'), axis=1).to_numpy())
        table = gain.agg(['mean','sem']).T.unstack('rows').swaplevel(axis=1).sort_index(axis=1)
        print('Difference from kernels, standard error over data sets:')
        print(table.round(3).to_string())


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
    parser.add_argument('--out', default='added.csv')
    args = parser.parse_args()
    warnings.simplefilter('ignore')
    run(args)
    show(args.out)
