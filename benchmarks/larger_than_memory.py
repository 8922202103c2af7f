#!/usr/bin/env python
"""Memory and speed of a task that is a memory-mapped file, against the same steps on a part of it that is in memory.

    python benchmarks/larger_than_memory.py --folder /scratch --gb 5 --steps 100 --repeats 3

Writes a float32 file of `--gb` gigabytes to the folder, a piece at a time, and removes it in the end. Each run is a process
of its own, the two kinds in turn: it makes the task (checks and statistics read the whole file; the kernel is asked to drop
its pages first, so that they come from the disk), then trains two epochs of `--steps` steps and draws `--steps` batches
alone. Prints medians (least to most) of the times and of anonymous memory, `RssAnon`: what the process has allocated. Pages of the
file that the kernel keeps are its cache, which it drops when memory is short, and so don't count.
"""
import argparse, json, os, statistics, subprocess, sys, time, warnings
from pathlib import Path

import numpy as np
from fastai.callback.core import Callback
from memory import Peak

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument('--folder', required=True, help='where the file goes')
parser.add_argument('--gb', type=float, default=5., help='size of the file')
parser.add_argument('--part', type=float, default=.1, help='share of the rows that the runs in memory load')
parser.add_argument('--length', type=int, default=512, help='steps of a series')
parser.add_argument('--steps', type=int, default=100)
parser.add_argument('--repeats', type=int, default=3)
parser.add_argument('--run', choices=('memmap','memory'), help=argparse.SUPPRESS)


def write(path, gb, length, piece=8192):
    "Noise around one of four levels, the label's"
    n = int(gb*1e9/4/length)
    X,rng = np.lib.format.open_memmap(path, 'w+', np.float32, (n,1,length)),np.random.default_rng(0)
    for i in range(0, n, piece): X[i:i+piece] = rng.standard_normal((len(X[i:i+piece]),1,length), np.float32)+np.arange(i, min(i+piece, n))[:,None,None]%4
    X.flush()


def drop(path):
    "Ask the kernel to forget what it has read of the file"
    with path.open('rb') as f:
        os.fsync(f.fileno())
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


class Clock(Callback):
    "When each step began"
    order = -20
    def before_fit(self): self.at = []
    def before_batch(self): self.at.append(time.perf_counter())


def run(kind, args, path):
    "Start, train two epochs and draw batches; what was measured"
    from tsai_mtcs.data import MultiTaskDataLoaders
    from tsai_mtcs.learner import mtcs_learner
    from tsai_mtcs.tasks import Task
    found,start = {},time.perf_counter()
    with Peak() as peak:
        X = np.load(path, mmap_mode='r')
        if kind == 'memory': X = np.array(X[:int(args.part*len(X))])
        n = len(X)
        dls = MultiTaskDataLoaders.from_tasks(Task('noise', X, np.arange(n)%4, (range(n-n//10), range(n-n//10, n))), steps=args.steps, device='cpu')
        found['start, s'],started = time.perf_counter()-start,peak.most
        dls.loaders[1] = dls.valid.new(dls.valid.dataset.new_empty())  # training alone
        learn = mtcs_learner(dls, alpha=0., cbs=[clock := Clock()])
        for epoch in (1, 2):
            with learn.no_bar(), learn.no_logging(): learn.fit(1)
            found[f'a step of epoch {epoch}, ms'] = 1e3*statistics.mean(np.diff(clock.at))
        batches = iter(dls.train)
        next(batches)
        start = time.perf_counter()
        for _ in batches: pass
        found['a batch alone, ms'] = 1e3*(time.perf_counter()-start)/(args.steps-1)
    return {**found, 'memory after imports, MB': peak.before/1e6, 'peak to the start, MB': started/1e6, 'peak, MB': peak.most/1e6}


if __name__ == '__main__':
    args = parser.parse_args()
    path = Path(args.folder)/'larger_than_memory.npy'
    warnings.simplefilter('ignore')
    if args.run: sys.exit(print(json.dumps(run(args.run, args, path))))
    runs = dict(memmap=[], memory=[])
    try:
        write(path, args.gb, args.length)
        for _ in range(args.repeats):
            for kind,found in runs.items():
                drop(path)
                found.append(json.loads(subprocess.check_output([sys.executable, *sys.argv, '--run', kind], text=True).splitlines()[-1]))
    finally: path.unlink(missing_ok=True)
    said = lambda values: f'{statistics.median(values):8.2f} ({min(values):.2f} to {max(values):.2f})'
    print(f'{args.gb} GB of series of {args.length} steps; in memory {args.part*args.gb:.1f} GB of them; {os.environ.get("OMP_NUM_THREADS", "all")} threads')
    for what in runs['memmap'][0]: print(f'{what:28}', *(f'{kind} {said([o[what] for o in found]):30}' for kind,found in runs.items()))
    ratios = [b['a step of epoch 2, ms']/a['a step of epoch 2, ms'] for a,b in zip(runs['memmap'], runs['memory'])]
    print(f'throughput of the second epoch, memmap over memory: {said(ratios)}')
