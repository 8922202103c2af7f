#!/usr/bin/env python
"""Many sites, a vocabulary each: how much of the way to harmonised labels does classifier sharing go by itself?

    python benchmarks/sites.py --archive UCRArchive_2018 --tasks SwedishLeaf,FaceAll --sites 5 --rows 5 --seeds 0,1,2 --out sites.csv

Deals the training rows of a data set out to sites, `--rows` a label each, and renames the labels at random for each site. Ways:

    alone       every site by itself: heads in closed form (deep: heads trained together without sharing), nothing shared
    paper       the sharing loss as printed (deep only: it acts through steps of gradient descent)
    unmatched   no labels matched, but what varies within labels shared by tasks in one place (kernel only)
    shared      `fit_heads` (deep: training with `sharing='matched'`), which has to find out which labels mean the same
    harmonised  one classifier of all rows, as if somebody had matched the labels by hand: the ceiling

The method `kernel` is the kernel encoder, `deep` a small TS2Vec encoder, trained for `--steps` steps. Each way of it is scored by the
heads that were trained and again, as `alone, solved` and so on, after `fit_heads` (alone and harmonised without matches). With `--peer`,
aeon's MultiRocketHydraClassifier of each site by itself stands beside them, as a method of its own.

The test rows are dealt out too, so that the mean over the sites is over the whole test split. A run that is started again goes on.
"""
import argparse, csv, time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from aeon.classification.convolution_based import MultiRocketHydraClassifier

from tsai_mtcs.all import KernelEncoder, MultiTaskDataLoaders, mtcs_learner, set_seed, ucr_tasks
from tsai_mtcs.bench.sites import deal_sites, harmonised_task, site_accuracy

DEEP = dict(hidden=32, feats=128, depth=5)
KEY = ['task','seed','method','rows','sites','overlap','distort','strangers']
FIELDS = [*KEY, 'way','accuracy','seconds','right','wrong','possible']


def filled(X):
    "Series with straight lines where values are missing"
    return pd.DataFrame(X.reshape(-1, X.shape[-1])).interpolate(axis=1, limit_direction='both').to_numpy().reshape(X.shape)


def distorted(X, rng):
    "Series as another site would have measured them: gain, offset, noise, stretched and cut, another sampling rate"
    gain, offset, noise = rng.uniform(.7, 1.4), rng.normal(), rng.uniform(0, .15)
    stretch, rate, n = rng.uniform(.9, 1.1), rng.uniform(.75, 1.25), X.shape[-1]
    steps = np.arange(0, n-1, 1/rate)/stretch
    steps = steps[steps <= n-1]
    whole, at = filled(X).reshape(-1, n), np.clip(steps.astype(int), 0, n-2)
    out = whole[:, at]*(1-(steps-at))+whole[:, at+1]*(steps-at)
    return (gain*out+offset+noise*rng.normal(size=out.shape)).reshape(*X.shape[:-1], -1)


def matches(learn, truth):
    "Pairs of labels in one group that mean the same, that don't, and pairs of sites' labels that do"
    meaning = [truth.get(o) for o in learn.dls.vocab]
    groups = learn.shared_heads.groups
    same = np.array([[a is not None and a == b for b in meaning] for a in meaning])
    task = np.array([o for o, _ in learn.dls.vocab])
    other = np.triu(task[:, None] != task, 1)
    found = other & (groups[:, None] == groups) & (groups >= 0)
    return int((found & same).sum()), int((found & ~same).sum()), int((other & same).sum())


def timed(f):
    start = time.perf_counter()
    return f(), time.perf_counter()-start


def learner(tasks, method, args, seed, encoder=KernelEncoder, sharing=None):
    "A learner of tasks: kernels as they are, or TS2Vec's encoder after some steps"
    set_seed(seed)
    dls = MultiTaskDataLoaders.from_tasks(tasks, seed=seed, schedule='uniform', steps=args.steps, check_copies=False).unwatched()
    if method == 'kernel': return mtcs_learner(dls, encoder, arch_config=dict(seed=seed))
    learn = mtcs_learner(dls, arch_config=DEEP, sharing=sharing)
    with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(1, 1e-3)
    return learn


def solve(learn, strength, seed, within=None):
    "Seconds of `fit_heads`"
    with learn.no_bar(): return timed(lambda: learn.fit_heads(strength=strength, within=within, seed=seed))[1]


def kernel_ways(made, truth, args, seed):
    "Way, learner, data sets that it says something of, seconds and matches, for heads in closed form"
    sites = [o for own, _ in made.values() for o in own]
    learn, features = timed(lambda: learner(sites, 'kernel', args, seed))
    for way, strength, within in (('alone', 0., 0.), ('unmatched', 0., None), ('shared', None, None)):
        seconds = solve(learn, strength, seed, within)
        yield way, learn, made, features+seconds, matches(learn, truth) if strength is None else None
    for name in together(made):
        top = learner([harmonised_task(name, *made[name])], 'kernel', args, seed, learn.model.backbone)
        yield 'harmonised', top, [name], solve(top, 0., seed), None


def deep_ways(made, truth, args, seed):
    "The same for trained encoders, by the heads that were trained and by solved ones"
    sites = [o for own, _ in made.values() for o in own]
    def scored_twice(way, learn, names, seconds, strength):
        yield way, learn, names, seconds, None
        seconds += solve(learn, strength, seed, within=strength) # alone, nothing is shared
        yield f'{way}, solved', learn, names, seconds, matches(learn, truth) if strength is None else None
    for way, sharing, strength in (('alone', None, 0.), ('paper', 'paper', None), ('shared', 'matched', None)):
        yield from scored_twice(way, *timed_learner(sites, args, seed, sharing, made), strength)
    for name in together(made):
        yield from scored_twice('harmonised', *timed_learner([harmonised_task(name, *made[name])], args, seed, None, [name]), 0.)


def timed_learner(tasks, args, seed, sharing, names):
    learn, seconds = timed(lambda: learner(tasks, 'deep', args, seed, sharing=sharing))
    return learn, names, seconds


def together(made): return [o for o, (own, _) in made.items() if len(own) > 1]


def peer(sites, seed):
    "Mean accuracy of aeon's classifier of each site by itself, and seconds"
    right, start = [], time.perf_counter()
    for o in sites:
        X, codes = np.asarray(o.X), o.codes
        if np.isnan(X).any(): X = filled(X)
        classifier = MultiRocketHydraClassifier(random_state=seed, n_jobs=torch.get_num_threads()).fit(X[o.train], codes[o.train])
        right.append((classifier.predict(X[o.test]) == codes[o.test]).mean())
    return dict(accuracy=np.mean(right), seconds=time.perf_counter()-start)


def run(families, strangers, args, rows, seed, method):
    "Lines of the table for one model of all sites of some data sets, and of strangers"
    made = {o.name: deal_sites(o, args.sites, rows, args.overlap, seed, distorted if args.distort else None) for o in families}
    made |= {o.name: deal_sites(o, 1, rows, seed=seed) for o in strangers}
    if method == 'peer': return [dict(task=name, way='aeon', **peer(own, seed)) for name, (own, _) in made.items()]
    truth = {(o.name, label): (name, meaning) for name, dealt in made.items() for o, m in zip(*dealt) for label, meaning in m.items()}
    lines = []
    for way, learn, names, seconds, found in (kernel_ways if method == 'kernel' else deep_ways)(made, truth, args, seed):
        for name in names:
            sites, meanings = made[name]
            with learn.no_bar(): accuracy = site_accuracy(learn, sites, meanings if way.startswith('harmonised') else None).mean()
            right, wrong, possible = found or ('', '', '')
            lines.append(dict(task=name, way=way, accuracy=accuracy, seconds=seconds, right=right, wrong=wrong, possible=possible))
    return lines


def summary(df):
    "A row a data set: accuracy of every way, and the part of the gap between alone and harmonised that sharing closes"
    table = df.pivot_table(index='task', columns='way', values='accuracy', sort=False)
    table.loc['mean'] = table.mean()
    if 'shared' not in table: return table.round(3)
    if 'harmonised, solved' in table: table['closed, solved'] = (table['shared, solved']-table.alone)/(table.harmonised-table.alone)
    if 'harmonised' in table: table['closed'] = (table.shared-table.alone)/(table.harmonised-table.alone)
    else: table['gain'] = table.shared-table.alone
    return table.round(3)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--archive', required=True, help='folder of the UCR archive')
    parser.add_argument('--tasks', required=True, help='data sets, comma-separated')
    parser.add_argument('--sites', type=int, default=5, help='sites of each (default: %(default)s)')
    parser.add_argument('--rows', default='5',
                        help='training rows a label at a site, comma-separated; 0: all, shared out (default: %(default)s)')
    parser.add_argument('--seeds', default='0,1,2', help='comma-separated (default: %(default)s)')
    parser.add_argument('--methods', default='kernel', help='kernel, deep (default: %(default)s)')
    parser.add_argument('--steps', type=int, default=400, help='steps of the deep method (default: %(default)s)')
    parser.add_argument('--peer', action='store_true', help="aeon's MultiRocketHydraClassifier of each site by itself, too")
    parser.add_argument('--overlap', type=float, default=1., help='part of the labels that each site knows (default: all)')
    parser.add_argument('--distort', action='store_true',
                        help='each site measures with a gain, offset, noise, speed and sampling rate of its own')
    parser.add_argument('--strangers', default='', help='unrelated data sets in the same model, one site each, comma-separated')
    parser.add_argument('--together', action='store_true', help='all data sets in one model; with --strangers always')
    parser.add_argument('--threads', type=int, default=None, help="PyTorch's threads")
    parser.add_argument('--out', required=True, help='CSV to write and to go on with')
    args = parser.parse_args()
    if args.threads: torch.set_num_threads(args.threads)
    out, split = Path(args.out), lambda o: [x for x in o.split(',') if x]
    families, strangers = (ucr_tasks(split(o), args.archive) if o else [] for o in (args.tasks, args.strangers))
    groups = [families] if args.together or strangers else [[o] for o in families]
    done = pd.read_csv(out, keep_default_na=False) if out.exists() else pd.DataFrame(columns=FIELDS)
    done = {tuple(map(str, o)) for o in done[KEY].to_numpy()}
    for rows in map(int, split(args.rows)):
        for method in [*split(args.methods), *['peer']*args.peer]:
            for group in groups:
                for seed in map(int, split(args.seeds)):
                    key = dict(seed=seed, method=method, rows=rows, sites=args.sites, overlap=args.overlap, distort=args.distort,
                               strangers=len(strangers))
                    if all(tuple(str({'task': o.name, **key}[f]) for f in KEY) in done for o in group): continue
                    lines = run(group, strangers, args, rows, seed, method)
                    new = not out.exists()
                    with out.open('a', newline='') as f:
                        writer = csv.DictWriter(f, FIELDS)
                        if new: writer.writeheader()
                        writer.writerows({**o, **key} for o in lines)
                    print(summary(pd.DataFrame(lines)).to_string(), flush=True)
    df = pd.read_csv(out)
    for key, part in df.groupby([o for o in KEY if o not in ('task','seed')], sort=False):
        print(f"\n{dict(zip([o for o in KEY if o not in ('task','seed')], key))}, mean over {part.seed.nunique()} seeds")
        print(summary(part).to_string())


if __name__ == '__main__': main()
