#!/usr/bin/env python
"""The accuracy tables with the kernel encoder and heads in closed form, aeon's MultiROCKET-Hydra beside them.

    python benchmarks/tables.py --archive UCRArchive_2018 --out benchmarks/results/tables.csv

Two tables: the paper's 15 large data sets (top15) and the 10 for which sharing was made (selected10), as far as the archive's folder
has them, on the archive's split, all rows. Methods:

    aeon     `MultiRocketHydraClassifier` of each data set by itself, a process each
    kernel   one `KernelEncoder(parts=('multirocket','hydra'))` and one model for the whole table, a process: its lines are `shared`, what
             `fit_heads` gives, and `alone`, heads for which nothing is shared

A line of the CSV is a data set, seed and method: accuracy on the test rows, wall time, CPU time and the largest memory of the process;
for the kernel encoder those three are in a line of their own, `(all)`. A run that is started again continues after the last line. With
`--tasks`, the model is one of these data sets alone: give it a CSV of its own.
"""
import argparse, csv, json, os, resource, subprocess, sys, time
from pathlib import Path

import numpy as np
import pandas as pd

FIELDS = ['table','task','seed','method','accuracy','seconds','cpu_seconds','peak_gb']
NAMES = dict(top15='UCR_TOP15', selected10='UCR_SELECTED10')


def load(names, path):
    from tsai_mtcs.archive import ucr_tasks
    return ucr_tasks(names, path)


def filled(X):
    "Series without gaps, for aeon's classifier takes none: straight lines across them"
    if not np.isnan(X).any(): return X
    return pd.DataFrame(X.reshape(-1, X.shape[-1])).interpolate(axis=1, limit_direction='both').to_numpy().reshape(X.shape)


def aeon(names, path, seed, threads):
    "Accuracy of one data set"
    from aeon.classification.convolution_based import MultiRocketHydraClassifier
    task, = load(names, path)
    X, y = filled(np.asarray(task.X)), task.codes
    classifier = MultiRocketHydraClassifier(random_state=seed, n_jobs=threads).fit(X[task.train], y[task.train])
    return {(task.name, 'aeon'): float((classifier.predict(X[task.test]) == y[task.test]).mean())}


def kernel(names, path, seed, threads, device=None):
    "Accuracies of all data sets, heads drawn together and before that"
    import torch
    from tsai_mtcs.all import KernelEncoder, MultiTaskDataLoaders, mtcs_learner
    from tsai_mtcs.closed_form import training_rows
    from tsai_mtcs.ridge import Ridge
    from tsai_mtcs.shared_heads import share_heads
    torch.set_num_threads(threads)
    tasks = load(names, path)
    dls = MultiTaskDataLoaders.from_tasks(tasks, check_copies=False, seed=seed, device=device)
    model = mtcs_learner(dls, KernelEncoder, arch_config=dict(parts=('multirocket','hydra'), seed=seed)).model
    rows, (centre, scale) = training_rows(model, dls.train_ds.need_rows())
    found = share_heads(rows, seed=seed)
    for o in found.choices: print('  ', [names[k] for k in o['tasks']], {k: v for k, v in o.items() if k != 'tasks'}, file=sys.stderr)
    print('  ', *({'tasks': [names[k] for k in o['tasks']], 'within': o['within']} for o in found.places), file=sys.stderr)
    drawn = {k for o in [*found.places, *(o for o in found.choices if o['strength'])] for k in o['tasks']}
    heads = {'shared': found.heads, 'alone': [Ridge(r).head if k in drawn else h for k, (r, h) in enumerate(zip(rows, found.heads))]}
    del rows
    right = {}
    for k, o in enumerate(tasks):
        guesses = {way: [] for way in heads}
        for part in torch.from_numpy(o.test).split(1000):
            Z = (torch.from_numpy(model.embed(o.X[part.numpy()], o.name)).to(centre.device)-centre)/scale
            for way, h in heads.items(): guesses[way].append((Z.to(h[k][0])@h[k][0]+h[k][1]).argmax(1).cpu())
        for way, g in guesses.items(): right[o.name, way] = float((torch.cat(g).numpy() == o.codes[o.test]).mean())
    return right


def child(args):
    "One run in this process; its lines as JSON on the standard output"
    job, start = json.loads(args.job), time.perf_counter()
    own = dict(device=args.device) if job['method'] == 'kernel' else {}
    found = globals()[job['method']](job['tasks'], args.archive, job['seed'], args.threads, **own)
    use = resource.getrusage(resource.RUSAGE_SELF)
    cost = dict(seconds=time.perf_counter()-start, cpu_seconds=use.ru_utime+use.ru_stime, peak_gb=use.ru_maxrss/2**20)
    lines = [dict(task=task, method=method, accuracy=a) for (task, method), a in found.items()]
    if len(lines) == 1: lines[0] |= cost
    else: lines.append(dict(task='(all)', method='shared', **cost))
    print(json.dumps([dict(o, table=job['table'], seed=job['seed']) for o in lines]))


def done(out):
    "Table, task, seed and method of the lines that there are"
    if not out.exists(): return set()
    with out.open(newline='') as f: return {(o['table'], o['task'], int(o['seed']), o['method']) for o in csv.DictReader(f)}


def jobs(args):
    "Runs in order: all seeds of a table after each other, the small data sets first"
    from tsai_mtcs import archive
    have = set(archive.archive_names(args.archive))
    for table in args.tables.split(','):
        names = getattr(archive, NAMES[table])
        lacking = [o for o in names if o not in have]
        print(f"{table}: {len(names)-len(lacking)} of {len(names)} data sets", *(f'{o} is missing' for o in lacking), sep='; ', flush=True)
        if args.tasks: names = [o for o in names if o in args.tasks.split(',')]
        names = sorted(set(names) & have, key=lambda o: sum(p.stat().st_size for p in (Path(args.archive)/o).iterdir()))
        for seed in map(int, args.seeds.split(',')):
            for method in args.methods.split(','):
                for part in [names] if method == 'kernel' else [[o] for o in names]:
                    yield dict(table=table, tasks=part, seed=seed, method=method)


def summary(out):
    "Mean accuracy of each table, method and seed, and what it took"
    df = pd.read_csv(out)
    cost = df.groupby(['table','seed','method'], sort=False).agg(dict(seconds='sum', cpu_seconds='sum', peak_gb='max'))
    scored = df[df.task != '(all)']
    for table, part in scored.groupby('table', sort=False):
        wide = part.pivot_table(index='task', columns='method', values='accuracy')
        print(f'\n{table}: accuracy, mean over seeds', wide.round(4).to_string(), sep='\n')
    mean = scored.groupby(['table','seed','method'], sort=False).agg(accuracy=('accuracy','mean'), tasks=('task','nunique'))
    print('', mean.join(cost).round(4).to_string(), sep='\n')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--archive', required=True, help='folder of the UCR archive')
    parser.add_argument('--tables', default='selected10,top15', help='comma-separated (default: %(default)s)')
    parser.add_argument('--tasks', help='only these data sets of the tables, comma-separated')
    parser.add_argument('--methods', default='kernel,aeon', help='comma-separated (default: %(default)s)')
    parser.add_argument('--seeds', default='0,1,2', help='comma-separated (default: %(default)s)')
    parser.add_argument('--threads', type=int, default=os.cpu_count(), help='threads of either (default: all cores, %(default)s)')
    parser.add_argument('--device', help='of the kernel encoder (default: a GPU if there is one)')
    parser.add_argument('--out', default='tables.csv', help='CSV to write and to go on with (default: %(default)s)')
    parser.add_argument('--job', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.job: return child(args)
    out = Path(args.out)
    for job in jobs(args):
        method = 'shared' if job['method'] == 'kernel' else job['method']
        if all((job['table'], o, job['seed'], method) in done(out) for o in job['tasks']): continue
        print(job, flush=True)
        given = ['--archive', args.archive, '--threads', str(args.threads), *(['--device', args.device] if args.device else [])]
        command = [sys.executable, __file__, *given, '--job', json.dumps(job)]
        lines = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])
        new = not out.exists()
        with out.open('a', newline='') as f:
            writer = csv.DictWriter(f, FIELDS)
            if new: writer.writeheader()
            writer.writerows({k: round(v, 5) if isinstance(v, float) else v for k, v in o.items()} for o in lines)
        for o in lines: print('  ', *(f'{v:.4g}' if isinstance(v, float) else v for v in o.values()), flush=True)
    summary(out)


if __name__ == '__main__': main()
