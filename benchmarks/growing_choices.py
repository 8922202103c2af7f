#!/usr/bin/env python
"""The constants of `tsai_mtcs.growing`, chosen on training rows: no test row is read.

    python benchmarks/growing_choices.py --archive UCRArchive_2018 --tasks SwedishLeaf,FaceAll,TwoPatterns --seeds 0,1 --out choices.csv

The training rows of each data set are divided in two; one half is dealt out to four sites, the other is what they are scored by.
The fourth site is new, with one to ten rows a label. The model is kernels and solved heads of the three other sites and of one site of
the next two data sets ('site'), or of those alone ('stranger'). Each line of the CSV is the held-out accuracy for one setting: `close`
and `chance`, which known tasks count as relatives; `few`, the penalty where each label has one row. `SINGLE`, which `related_of` asks for
there besides, is left out: `add_task.py` measured it. A run that is started again continues.
"""
import argparse, csv, itertools
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from tsai_mtcs import growing, ridge
from tsai_mtcs.all import KernelEncoder, MultiTaskDataLoaders, Task, mtcs_learner, ucr_tasks
from tsai_mtcs.bench.sites import deal_sites
from tsai_mtcs.matching import evidence_needed

FIELDS = ['task', 'seed', 'known', 'rows', 'close', 'chance', 'few', 'accuracy', 'related', 'right']
CLOSE, CHANCE, FEW = (0., .5, .8), (0., 1., 2.), (.001, .01, .1, 1.)


def halved(task, seed):
    "The training rows of a data set, half of them in the place of test rows"
    rng, train, test = np.random.default_rng(seed), [], []
    for o in range(len(task.labels)):
        at = rng.permutation(np.asarray(task.train)[task.codes[task.train] == o])
        train.extend(at[::2]), test.extend(at[1::2])
    at = np.r_[train, test]
    X = [np.asarray(task.X[i]) for i in at]
    return Task(task.name, X, [task.y[i] for i in at], splits=(range(len(train)), range(len(train), len(at))))


def with_rows(site, n):
    "A site with its first `n` training rows of each label and at most 400 others to score"
    train = np.concatenate([site.train[site.codes[site.train] == o][:n] for o in range(len(site.labels))])
    at = np.r_[train, site.test[:400]]
    return Task('new', [np.asarray(site.X[i]) for i in at], [site.y[i] for i in at], splits=(range(len(train)), range(len(train), len(at))))


def scored(model, task, related, few):
    "Accuracy on the held-out rows with these relatives"
    ridge.FEW = few
    rows = growing._new_rows(model, task, task.spec)
    head = growing.solve_new(rows, related)
    Z = torch.from_numpy(model.in_batches(model.embedding, task.spec.scale(np.asarray(task.X[task.test])))).to(head.weight)
    return float(((Z@head.weight.T+head.bias).argmax(1).numpy() == task.codes[task.test]).mean())


def settings(model, task):
    "Every setting that makes a difference, its accuracy, how many relatives it takes and how many are sites of the same data set"
    rows = growing._new_rows(model, task, task.spec)
    known, seen = growing.known_tasks(model, rows), {}
    chance, most = (2/len(rows.y))**.5, max(o.evidence for o in known)
    single = not rows.judged.any()
    for close, c, few in itertools.product(CLOSE, CHANCE, FEW if single else FEW[-2:-1]):
        related = [o for o in known if o.evidence > max(evidence_needed(growing.DISTANCE, len(o.pairs[0]))+c*chance, close*most)]
        key = (*(o.name for o in related), few)
        if key not in seen: seen[key] = scored(model, task, related, few)
        yield close, c, few, round(seen[key], 4), len(related), sum(o.name.startswith('own') for o in related)


def run(args):
    path, numbers = Path(args.out), list(map(int, args.rows.split(',')))
    done = set(pd.read_csv(path)[['task', 'seed', 'known', 'rows']].itertuples(index=False, name=None)) if path.exists() else set()
    tasks = ucr_tasks(args.tasks.split(','), args.archive)
    for seed, (i, task) in itertools.product(map(int, args.seeds.split(',')), enumerate(tasks)):
        if all((task.name, seed, known, n) in done for known in ('site', 'stranger') for n in numbers): continue
        *sites, new = deal_sites(halved(task, seed), n=4, rows=10, seed=seed)[0]
        sites = [Task(f'own {k}', o.X, o.y, splits=(o.train, o.test)) for k, o in enumerate(sites)]
        others = [deal_sites(halved(o, seed), n=1, rows=20, seed=seed)[0][0] for o in (tasks*2)[i+1:i+3]]
        for known, there in (('site', sites+others), ('stranger', others)):
            dls = MultiTaskDataLoaders.from_tasks(there, check_copies=False, seed=seed)
            learn = mtcs_learner(dls, KernelEncoder, arch_config=dict(seed=seed))
            with learn.no_bar(): learn.fit_heads(seed=seed)
            for n in numbers:
                if (task.name, seed, known, n) in done: continue
                lines = [(task.name, seed, known, n, *o) for o in settings(learn.model, with_rows(new, n))]
                with path.open('a', newline='') as f:
                    if not f.tell(): csv.writer(f).writerow(FIELDS)
                    csv.writer(f).writerows(lines)
            print(task.name, seed, known, flush=True)


def show(path):
    "Mean held-out accuracy of each setting"
    found = pd.read_csv(path)
    for known, part in found.groupby('known'):
        print(f'\nThe new data set is a {known}:')
        several = part[part.rows > 1]
        print(several.pivot_table(index=['close', 'chance'], columns='rows', values='accuracy').round(4).to_string())
        one = part[part.rows == 1]
        print(one.pivot_table(index=['close', 'chance'], columns='few', values='accuracy').round(4).to_string())


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--archive', required=True, help='folder of the UCR archive')
    parser.add_argument('--tasks', required=True, help='names of data sets, comma-separated; at least three')
    parser.add_argument('--rows', default='1,2,5,10', help='rows a label of the new site')
    parser.add_argument('--seeds', default='0')
    parser.add_argument('--out', default='growing_choices.csv')
    args = parser.parse_args()
    run(args)
    show(args.out)
