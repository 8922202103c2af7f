#!/usr/bin/env python
"""Expected calibration error of solved and of trained heads, and of scikit-learn's calibrated SVM on the same embeddings.

    python benchmarks/calibration.py --seeds 0,1,2 --out benchmarks/results/calibration.csv

One model of all data sets, on the embeddings of the kernel encoder and of a small TS2Vec encoder, which is trained with the heads:

    trained  heads by gradient descent, `--epochs` of one cycle
    solved   heads by `fit_heads` on the same encoder
    SVM      `CalibratedClassifierCV(SVC)` (Platt's scaling, five folds or as many as the rarest label has rows) on standardised embeddings

A line of the CSV is a data set, seed, encoder and classifier: accuracy and expected calibration error (15 bins) on the test rows. A run
that is started again continues.
"""
import argparse, csv
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.calibration import CalibratedClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from tsai_mtcs.all import (BUNDLED, KernelEncoder, MultiTaskDataLoaders, TS2VecEncoder, bundled_tasks, calibration_error, mtcs_learner,
                           set_seed, ucr_tasks)

FIELDS = ['task','seed','encoder','classifier','accuracy','error']
ENCODERS = dict(kernel=(KernelEncoder, {}), ts2vec=(TS2VecEncoder, dict(hidden=32, feats=128, depth=5)))


def scored(probs, y): return dict(accuracy=round(float((probs.argmax(1) == y).mean()), 4), error=round(calibration_error(probs, y), 4))


def svm(learn, task):
    Z, y = learn.embed(task.X, task.name), task.codes
    folds = min(5, np.unique(y[task.train], return_counts=True)[1].min())
    classifier = CalibratedClassifierCV(make_pipeline(StandardScaler(), SVC(gamma='scale')), cv=folds).fit(Z[task.train], y[task.train])
    return classifier.predict_proba(Z[task.test])


def run(tasks, name, seed, args):
    "Lines of one encoder"
    set_seed(seed)
    arch, config = ENCODERS[name]
    dls = MultiTaskDataLoaders.from_tasks(tasks, seed=seed, schedule='uniform', check_copies=False).unwatched()
    learn = mtcs_learner(dls, arch, arch_config=dict(config, seed=seed) if name == 'kernel' else config)
    lines = []
    def add(classifier, probs):
        lines.extend(dict(task=o.name, seed=seed, encoder=name, classifier=classifier, **scored(probs(o), o.codes[o.test])) for o in tasks)
    with learn.no_bar(), learn.no_logging():
        learn.fit_one_cycle(args.epochs, args.lr)
        add('trained', lambda o: learn.predict(o.X[o.test], o.name)[1])
        add('SVM', lambda o: svm(learn, o))
        learn.fit_heads(seed=seed)
        add('solved', lambda o: learn.predict(o.X[o.test], o.name)[1])
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--archive', help='folder of the UCR archive; left out: the data sets bundled with aeon')
    parser.add_argument('--tasks', default=','.join(BUNDLED), help='names of data sets (default: %(default)s)')
    parser.add_argument('--seeds', default='0,1,2', help='comma-separated (default: %(default)s)')
    parser.add_argument('--encoders', default=','.join(ENCODERS), help='comma-separated (default: %(default)s)')
    parser.add_argument('--epochs', type=int, default=15, help='of training (default: %(default)s)')
    parser.add_argument('--lr', type=float, default=1e-3, help='largest learning rate (default: %(default)s)')
    parser.add_argument('--out', default='calibration.csv', help='CSV to write and to go on with (default: %(default)s)')
    args = parser.parse_args()
    out, names = Path(args.out), args.tasks.split(',')
    tasks = ucr_tasks(names, args.archive) if args.archive else bundled_tasks(names)
    for seed in map(int, args.seeds.split(',')):
        for name in args.encoders.split(','):
            if out.exists():
                df = pd.read_csv(out)
                if set(names) <= set(df[(df.seed == seed) & (df.encoder == name)].task): continue
            lines = run(tasks, name, seed, args)
            new = not out.exists()
            with out.open('a', newline='') as f:
                writer = csv.DictWriter(f, FIELDS)
                if new: writer.writeheader()
                writer.writerows(lines)
    df = pd.read_csv(out)
    print(df.groupby(['encoder','classifier'], sort=False)[['accuracy','error']].mean().round(3).to_string())


if __name__ == '__main__': main()
