#!/usr/bin/env python
"""Speed of the SVM protocol, `fit_svm`, against scikit-learn's `GridSearchCV(SVC)` with the same grid and folds, in one run.

    python benchmarks/svm.py --archive UCRArchive_2018 --tasks ECG5000,Wafer,FordB --repeats 3

The embeddings are those of TS2Vec's encoder after `--steps` steps of joint training, for the solver's work depends on them.
Prints, a row a task, seconds of both (medians) for fit and prediction, the ratio, and whether both chose the same C and
score the same on the test split; and the peak memory of the process.

    python benchmarks/svm.py --synthetic 10000 --alone

takes as many synthetic rows of 320 feats and ten labels in place of data sets, and leaves scikit-learn's search out.
"""
import argparse, math, resource, statistics, time, warnings

import numpy as np
from fastai.torch_core import set_seed
from sklearn.datasets import make_classification
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC

from tsai_mtcs import archive
from tsai_mtcs.data import MultiTaskDataLoaders
from tsai_mtcs.evaluation import embed_rows
from tsai_mtcs.learner import mtcs_learner
from tsai_mtcs.svm import SVM_GRID, fit_svm

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument('--archive', help='folder of the UCR archive; left out: the data sets bundled with aeon')
parser.add_argument('--tasks', default='ACSF1,OSULeaf,ItalyPowerDemand', help='names of data sets')
parser.add_argument('--steps', type=int, default=100)
parser.add_argument('--repeats', type=int, default=3)
parser.add_argument('--synthetic', type=int, help='training rows of a synthetic task')
parser.add_argument('--alone', action='store_true', help="without scikit-learn's search")


def scikit_learn(Z, y):
    "The protocol as TS2Vec's code has it"
    if len(y) < 50 or len(y)//len(np.unique(y)) < 5: return SVC(C=math.inf, gamma='scale').fit(Z, y), math.inf
    search = GridSearchCV(SVC(gamma='scale', max_iter=10_000_000), dict(C=SVM_GRID), cv=5).fit(Z, y)
    return search.best_estimator_, search.best_params_['C']


def timed(fit, train, test):
    "Seconds, C and accuracy"
    start = time.perf_counter()
    clf,C = fit(*train)
    accuracy = (clf.predict(test[0]) == test[1]).mean()
    return time.perf_counter()-start, C, accuracy


def embedded(args):
    "Name, embeddings and labels of the training and of the test rows of each task"
    if args.synthetic:
        Z,y = make_classification(args.synthetic+1000, 320, n_informative=32, n_classes=10, class_sep=2., random_state=0)
        yield f'synthetic {args.synthetic}', (Z[1000:].astype(np.float32), y[1000:]), (Z[:1000].astype(np.float32), y[:1000])
        return
    names = args.tasks.split(',')
    tasks = archive.ucr_tasks(names, args.archive) if args.archive else archive.bundled_tasks(names)
    set_seed(0)
    dls = MultiTaskDataLoaders.from_tasks(tasks, schedule='uniform', steps=args.steps)
    learn = mtcs_learner(dls).to_bf16()
    with learn.no_bar(), learn.no_logging(): learn.fit(1)
    for k,name in enumerate(names): yield name, embed_rows(learn.model, dls.train_ds, k), embed_rows(learn.model, dls.test.dataset, k)


if __name__ == '__main__':
    args = parser.parse_args()
    warnings.simplefilter('ignore')
    print(f'{"task":28} rows  scikit-learn  fit_svm  times as fast  same C  same accuracy')
    total = [0., 0.]
    for name,train,test in embedded(args):
        runs = [(timed(scikit_learn, train, test) if not args.alone else (math.nan,)*3, timed(fit_svm, train, test))
                for _ in range(args.repeats)]
        a,b = (statistics.median(r[i][0] for r in runs) for i in (0, 1))
        (_,C,acc),(_,C2,acc2) = runs[0]
        total = [total[0]+a, total[1]+b]
        print(f'{name:28} {len(train[1]):5} {a:11.2f} s {b:7.2f} s {a/b:10.1f} {C == C2!s:>12} {acc == acc2!s:>10} ({acc2:.4f})',
              flush=True)
    print(f'{"all":28}       {total[0]:11.2f} s {total[1]:7.2f} s {total[0]/total[1]:10.1f}')
    print(f'peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/2**20:.2f} GiB')
