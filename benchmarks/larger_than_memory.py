#!/usr/bin/env python
"""Memory and speed of a task that is a memory-mapped file, against the same steps on a part of it that is in memory.

    python benchmarks/larger_than_memory.py --folder /scratch --gb 5 --steps 20 --repeats 5

Writes a float32 file of `--gb` gigabytes to the folder, a piece at a time, and removes it in the end. A first process measures
memory: it makes the task (checks and statistics read the whole file; the kernel is asked to drop its pages before, so that
they come from the disk) and trains. A second one measures speed: after an epoch of `--steps` steps each, epochs from the
file and from memory in turn, then batches alone. Memory is `RssAnon`, what the process has allocated: pages of the file that
the kernel keeps are its cache, which it drops when memory is short, and so don't count. Prints medians (least to most).
"""
import argparse, json, os, statistics, subprocess, sys, time, warnings
from collections import deque
from pathlib import Path

import numpy as np
from memory import Peak

from tsai_mtcs.data import MultiTaskDataLoaders
from tsai_mtcs.learner import mtcs_learner
from tsai_mtcs.tasks import Task

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument('--folder', required=True, help='where the file goes')
parser.add_argument('--gb', type=float, default=5., help='size of the file')
parser.add_argument('--part', type=float, default=.1, help='fraction of the rows that is loaded for comparison')
parser.add_argument('--length', type=int, default=512, help='steps of a series')
parser.add_argument('--steps', type=int, default=20)
parser.add_argument('--repeats', type=int, default=5)
parser.add_argument('--run', choices=('memory','speed'), help=argparse.SUPPRESS)


def write(path, gb, length, piece=8192):
    "Noise around one of four levels, the label's"
    n = int(gb*1e9/4/length)
    X,rng = np.lib.format.open_memmap(path, 'w+', np.float32, (n,1,length)),np.random.default_rng(0)
    for i in range(0, n, piece):
        X[i:i+piece] = rng.standard_normal((len(X[i:i+piece]),1,length), np.float32)+np.arange(i, min(i+piece, n))[:,None,None]%4
    X.flush()
    with path.open('rb') as f:
        os.fsync(f.fileno())
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def make_task(X): return Task('noise', X, np.arange(len(X))%4, (range(len(X)-len(X)//10), range(len(X)-len(X)//10, len(X))))

def make_learner(task, steps):
    dls = MultiTaskDataLoaders.from_tasks(task, schedule='proportional', steps=steps, device='cpu')
    return mtcs_learner(dls.unwatched(), sharing=None)

def fit(learn):
    with learn.no_bar(), learn.no_logging(): learn.fit(1)

def timed(f, *args):
    start = time.perf_counter()
    f(*args)
    return time.perf_counter()-start

def draw(learn):
    "Seconds to draw the batches of an epoch once it is planned"
    batches = iter(learn.dls.train)
    next(batches)
    return timed(deque, batches, 0)


def measure_memory(path, args):
    "Bytes of anonymous memory after imports, to the start and to the end of training; seconds to start"
    with Peak() as peak:
        start = time.perf_counter()
        learn = make_learner(make_task(np.load(path, mmap_mode='r')), args.steps)
        seconds,started = time.perf_counter()-start,peak.most
        fit(learn)
    return dict(start=seconds, imports=peak.before, started=started, peak=peak.most)


def measure_speed(path, args):
    "Seconds of epochs and of batches alone, from the file and from memory"
    X = np.load(path, mmap_mode='r')
    learners = dict(file=make_learner(make_task(X), args.steps),
                    memory=make_learner(make_task(np.array(X[:int(args.part*len(X))])), args.steps))
    for learn in learners.values(): fit(learn)
    fits = [{name: timed(fit, learn) for name,learn in learners.items()} for _ in range(args.repeats)]
    for learn in learners.values(): learn.dls.train.steps = 1001
    return dict(step=fits, batch=[{name: draw(learn) for name,learn in learners.items()} for _ in range(args.repeats)])


if __name__ == '__main__':
    args = parser.parse_args()
    path = Path(args.folder)/'larger_than_memory.npy'
    warnings.simplefilter('ignore')
    if args.run: sys.exit(print(json.dumps(dict(memory=measure_memory, speed=measure_speed)[args.run](path, args))))
    child = lambda run: json.loads(subprocess.check_output([sys.executable, *sys.argv, '--run', run], text=True).splitlines()[-1])
    try:
        write(path, args.gb, args.length)
        memory,speed = child('memory'),child('speed')
    finally: path.unlink(missing_ok=True)
    print(f'{args.gb} GB of series of {args.length} steps; {args.part*args.gb:.1f} GB of them in memory; {memory["start"]:.1f} s to check '
          'the file, take its statistics and make a learner')
    mb = {k: v/1e6 for k,v in memory.items()}
    print('anonymous memory: {imports:.0f} MB after imports, {started:.0f} MB to the start, {peak:.0f} MB in all'.format(**mb))
    said = lambda values: f'{statistics.median(values):8.2f} ({min(values):.2f} to {max(values):.2f})'
    for what,runs in speed.items():
        n = args.steps if what == 'step' else 1000
        for name in ('file','memory'): print(f'a {what} from {name:6}, ms', said([1e3*o[name]/n for o in runs]))
        print(f'a {what}, memory over file   ', said([o['memory']/o['file'] for o in runs]))
