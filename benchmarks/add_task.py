#!/usr/bin/env python
"""A new data set on a trained model: how many rows a label does it take, and what helps?

    python benchmarks/add_task.py --archive UCRArchive_2018 --tasks SwedishLeaf,TwoPatterns,Crop --rows 1,2,5,10,20 --out added.csv

Each data set is dealt out to four sites that name its labels as they like. The fourth is new, with `--rows` a label. The
model has learned either the three other sites and rows of the other data sets ('site': the labels are known), or of the other data
sets alone ('stranger'). Ways:

    kernels            kernel encoder and a head in closed form: `add_task(…, strength=0)`
    kernels, known     the same, drawn to heads of the model whose labels match: `add_task`
    random TS2Vec      the encoder of TS2Vec as it is initialised
    trained TS2Vec     the same after `--epochs` on the known tasks
    trained, known     the same, drawn to known heads
    MultiROCKET-Hydra  aeon's classifier on the new rows alone
    raw, 1-NN          the nearest of the new rows, z-scored

The last two and the first know nothing but the new rows, which are the same for all ways. A run that is started again goes on.
"""
import argparse, csv, time, warnings
from pathlib import Path

import numpy as np
import pandas as pd

from tsai_mtcs.all import KernelEncoder, MultiTaskDataLoaders, Task, add_task, known_labels, mtcs_learner, set_seed, ucr_tasks
from tsai_mtcs.bench.sites import deal_sites

DEEP = dict(hidden=32, feats=160, depth=7)
FIELDS = ['task', 'seed', 'known', 'way', 'rows', 'accuracy', 'seconds', 'related']


def with_rows(site, n, seed, most):
    "A site with `n` training rows a label and at most so many test rows"
    rng = np.random.default_rng(seed)
    train = np.concatenate([rng.permutation(site.train[site.codes[site.train] == o])[:n] for o in range(len(site.labels))])
    test = rng.permutation(site.test)[:most]
    return Task('new', site.X[np.r_[train, test]], site.y[np.r_[train, test]],
                splits=(range(len(train)), range(len(train), len(train)+len(test))))


def score(task, labels): return float((np.asarray(labels) == task.y[task.test].astype(np.asarray(labels).dtype)).mean())


def from_model(model, strength):
    "How a model's new task is learned and scored"
    def run(task): return score(task, add_task(model, task, strength=strength).predict(task.X[task.test], 'new')[0])
    return run


def hydra(task):
    from aeon.classification.convolution_based import MultiRocketHydraClassifier
    clf = MultiRocketHydraClassifier(random_state=0).fit(task.X[task.train], task.y[task.train].astype(str))
    return score(task, clf.predict(task.X[task.test]))


def nearest(task):
    from sklearn.neighbors import KNeighborsClassifier
    X = np.nan_to_num(task.spec.scale(task.X)).reshape(len(task.X), -1)
    return score(task, KNeighborsClassifier(1).fit(X[task.train], task.y[task.train].astype(str)).predict(X[task.test]))


def models(tasks, seed, epochs):
    "Models of the known tasks by the name of their encoder"
    dls = MultiTaskDataLoaders.from_tasks(tasks, check_copies=False, seed=seed, schedule='uniform')
    kernels = mtcs_learner(dls, KernelEncoder, arch_config=dict(seed=seed))
    set_seed(seed)
    random = mtcs_learner(dls, arch_config=DEEP)
    set_seed(seed)
    trained = mtcs_learner(dls.unwatched(), arch_config=DEEP)
    for learn, n in ((kernels, 0), (random, 0), (trained, epochs)):
        with learn.no_bar(), learn.no_logging():
            if n: learn.fit_one_cycle(n)
            learn.fit_heads(seed=seed)
    return kernels.model, random.model, trained.model


def ways(tasks, seed, epochs):
    "What to score a new task by, given the known tasks"
    kernels, random, trained = models(tasks, seed, epochs)
    return kernels, {'kernels': from_model(kernels, 0), 'kernels, known': from_model(kernels, None), 'random TS2Vec': from_model(random, 0),
                     'trained TS2Vec': from_model(trained, 0), 'trained, known': from_model(trained, None)}


def settings(args):
    "Known tasks, the new site, and what is named so"
    for seed in map(int, args.seeds.split(',')):
        tasks = {o.name: o for o in ucr_tasks(args.tasks.split(','), args.archive)}
        for name, task in tasks.items():
            *sites, new = deal_sites(task, n=4, rows=args.known, seed=seed)[0]
            others = [deal_sites(o, n=1, rows=2*args.known, seed=seed)[0][0] for o in tasks.values() if o.name != name]
            for known, model_knows in (('site', sites+others), ('stranger', others)): yield name, seed, known, model_knows, new


def run(args):
    path = Path(args.out)
    done = set(pd.read_csv(path)[['task', 'seed', 'known', 'rows']].itertuples(index=False, name=None)) if path.exists() else set()
    numbers = list(map(int, args.rows.split(',')))
    for name, seed, known, tasks, new in settings(args):
        todo = [n for n in numbers if (name, seed, known, n) not in done]
        if not todo: continue
        model, each = ways(tasks, seed, args.epochs)
        if known == 'site': each |= {'MultiROCKET-Hydra': hydra, 'raw, 1-NN': nearest}
        for n in todo:
            task, lines = with_rows(new, n, seed, args.test), []
            related = known_labels(model, task).task.nunique()
            for way, f in each.items():
                start = time.perf_counter()
                accuracy = f(task)
                lines.append((name, seed, known, way, n, round(accuracy, 4), round(time.perf_counter()-start, 2), related))
            with path.open('a', newline='') as f:
                if not f.tell(): csv.writer(f).writerow(FIELDS)
                csv.writer(f).writerows(lines)
            print(*lines[:2], flush=True)


def show(path):
    "Mean accuracy over data sets and seeds"
    found = pd.read_csv(path)
    for known, part in found.groupby('known'):
        if known == 'stranger': part = pd.concat((part, found[found.way.isin(['MultiROCKET-Hydra', 'raw, 1-NN'])]))
        print(f'\nThe new data set is a {known}:')
        print(part.pivot_table(index='way', columns='rows', values='accuracy', sort=False).round(3).to_string())


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--archive', required=True, help='folder of the UCR archive')
    parser.add_argument('--tasks', required=True, help='names of data sets, comma-separated')
    parser.add_argument('--rows', default='1,2,5,10,20', help='rows a label of the new site')
    parser.add_argument('--known', type=int, default=20, help='rows a label of each known site, and at most of the new one')
    parser.add_argument('--test', type=int, default=500, help='test rows to score, at most')
    parser.add_argument('--epochs', type=int, default=10, help='epochs of the trained encoder')
    parser.add_argument('--seeds', default='0')
    parser.add_argument('--out', default='added.csv')
    args = parser.parse_args()
    warnings.simplefilter('ignore')
    run(args)
    show(args.out)
