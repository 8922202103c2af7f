#!/usr/bin/env python
"""Settings of TNC, TS-TCC and TST that nobody published for the UCR archive, compared on held-out training rows.

    python benchmarks/choices.py --archive UCRArchive_2018 --tasks ChlorineConcentration,ECG5000,TwoPatterns --n-jobs 2 --bf16 --out choices --table benchmarks/results/choices.csv

A quarter of the training rows is held out and scored by the SVM, the test split isn't looked at. What a name doesn't say is as in
`METHODS`. A run that has ended is kept in the folder and isn't run again.
"""
import argparse
from dataclasses import replace
from pathlib import Path

from tsai_mtcs.archive import ucr_tasks
from tsai_mtcs.baselines.methods import METHODS
from tsai_mtcs.benchmark import run_benchmark

CANDIDATES = {
    'TNC': {'as it is':{}, 'windows of a quarter':dict(share=.25), 'w 0.2':dict(w=.2), 'mean of the windows':dict(pool='mean')},
    'TS-TCC': {'as it is':{}, 'views of Epilepsy':dict(scale=.001, jitter=.001, max_segments=5, future=10), '160 epochs':dict(epochs=160)},
    'TST': {'10 epochs':dict(epochs=10), '40 epochs':dict(epochs=40)},
}

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument('--archive', required=True, help='folder of the UCR archive')
parser.add_argument('--tasks', default='ChlorineConcentration,ECG5000,TwoPatterns')
parser.add_argument('--methods', default=','.join(CANDIDATES))
parser.add_argument('--seeds', default='0')
parser.add_argument('--valid-pct', type=float, default=.25)
parser.add_argument('--n-jobs', type=int)
parser.add_argument('--bf16', action='store_true')
parser.add_argument('--out', required=True, help='folder of the runs')
parser.add_argument('--table', type=Path, help='CSV file to write: a row a candidate, a column a data set')

if __name__ == '__main__':
    args = parser.parse_args()
    methods = [replace(METHODS[o], name=f'{o}, {name}', settings={**METHODS[o].settings, **settings}) for o in args.methods.split(',') for name,settings in CANDIDATES[o].items()]
    results = run_benchmark(methods, ucr_tasks(args.tasks.split(','), args.archive), list(map(int, args.seeds.split(','))), args.out, args.n_jobs, args.bf16, args.valid_pct)
    table = results.pivot_table(index='method', columns='task', values='accuracy', sort=False)
    table['mean'] = table.mean(axis=1)
    print(table.round(3).to_string())
    if args.table: table.round(4).to_csv(args.table)
