#!/usr/bin/env python
"""Heads in closed form on a trained TS2Vec encoder, beside the heads that were trained with it and the SVM of section 3.4.

    python benchmarks/solved_heads.py --archive UCRArchive_2018 --tasks UCR_SELECTED10 --seeds 0,1,2 --out benchmarks/results/solved10.csv

One model of all data sets is trained by the settings of the paper (`--recipe paper`). Its encoder is then used four times:

    heads          the classifiers that were trained
    svm            an SVM of each data set by itself on the frozen embeddings
    solved, alone  `fit_heads(strength=0, within=0)`: a head of each data set by itself in closed form
    solved         `fit_heads()`: the same, labels that mean the same drawn together

A line of the CSV is a data set, seed and way: accuracy on the test rows. A run that is started again continues with the next seed.
"""
import argparse, csv, warnings
from pathlib import Path

import pandas as pd
from fastai.torch_core import set_seed

from tsai_mtcs import archive
from tsai_mtcs.data import MultiTaskDataLoaders
from tsai_mtcs.learner import mtcs_learner

FIELDS = ['recipe','seed','task','way','accuracy']


def load(args):
    names = getattr(archive, args.tasks, None) or args.tasks.split(',')
    have = set(archive.archive_names(args.archive))
    return archive.ucr_tasks([o for o in names if o in have], args.archive)


def run(tasks, seed, args):
    "Accuracy of each way, a series over the data sets"
    set_seed(seed)
    dls = MultiTaskDataLoaders.from_tasks(tasks, recipe=args.recipe, seed=seed, check_copies=False).unwatched()
    learn = mtcs_learner(dls)
    with learn.no_bar(), learn.no_logging():
        learn.fit_recipe()
        yield 'heads', learn.validate_tasks().accuracy
        yield 'svm', learn.evaluate('svm').accuracy
        for way, strength in (('solved, alone', 0.), ('solved', None)):
            learn.fit_heads(strength=strength, within=strength, seed=seed)
            yield way, learn.validate_tasks().accuracy


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--archive', required=True, help='folder of the UCR archive')
    parser.add_argument('--tasks', default='UCR_SELECTED10', help='names of data sets, or UCR_SELECTED10, UCR_TOP15 (default: %(default)s)')
    parser.add_argument('--recipe', default='paper', help='see `RECIPES` (default: %(default)s)')
    parser.add_argument('--seeds', default='0,1,2', help='comma-separated (default: %(default)s)')
    parser.add_argument('--out', type=Path, required=True, help='CSV to write and to continue')
    args = parser.parse_args()
    warnings.simplefilter('ignore')
    tasks = load(args)
    done = set(pd.read_csv(args.out).seed) if args.out.exists() else set()
    for seed in (int(o) for o in args.seeds.split(',')):
        if seed in done: continue
        lines = [dict(recipe=args.recipe, seed=seed, task=o.name, way=way, accuracy=round(float(accuracy[o.name]), 4))
                 for way, accuracy in run(tasks, seed, args) for o in tasks]
        new = not args.out.exists()
        with args.out.open('a', newline='') as f:
            writer = csv.DictWriter(f, FIELDS)
            if new: writer.writeheader()
            writer.writerows(lines)
    table = pd.read_csv(args.out).pivot_table(index='task', columns='way', values='accuracy', sort=False)
    table.loc['mean'] = table.mean()
    print(table.round(3).to_string())


if __name__ == '__main__': main()
