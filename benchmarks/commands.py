#!/usr/bin/env python
"""How long the `mtcs` command and imports take, and how long the log of a training run is.

    git worktree add /tmp/before COMMIT
    python benchmarks/commands.py --repeats 5 --against /tmp/before

With `--against`, another checkout of this repository is measured in turn with this one. Each measurement is a process of its own.
"""
import argparse, os, statistics, subprocess, sys, tempfile, time
from pathlib import Path

MTCS = 'import sys; from tsai_mtcs.cli import main; sys.exit(main())'
LINES = {
    'import torch': ['import torch'],
    'import fastai.callback.all': ['import fastai.callback.all'],
    'import tsai_mtcs.all': ['import tsai_mtcs.all'],
    'import tsai_mtcs.runtime': ['import tsai_mtcs.runtime'],
    'mtcs --help': [MTCS, '--help'],
    'mtcs train --archive nowhere': [MTCS, 'train', '--archive', 'nowhere', '--out', 'new'],
    'mtcs train --tasks GunPiont': [MTCS, 'train', '--tasks', 'GunPiont', '--out', 'new'],
    'mtcs evaluate nowhere': [MTCS, 'evaluate', 'nowhere'],
    'mtcs predict nowhere': [MTCS, 'predict', 'nowhere', '--task', 'A', 'x.npy'],
    'mtcs benchmark --methods mtsc': [MTCS, 'benchmark', '--methods', 'mtsc', '--out', 'new'],
    'mtcs reproduce, no archive': [MTCS, 'reproduce', 'table2', '--archive', 'nowhere', '--out', 'new']}
TRAIN = [MTCS, 'train', '--tasks', 'GunPoint,ItalyPowerDemand,PickupGestureWiimoteZ', '--epochs', '5', '--bs', '8', '--out', 'run']

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument('--repeats', type=int, default=5)
parser.add_argument('--against', help='another checkout to measure in turn with this one')


def run(checkout, args, folder):
    "Seconds and output of a process that runs in `folder` with the library of a checkout"
    start = time.perf_counter()
    done = subprocess.run([sys.executable, '-c', *args], cwd=folder, capture_output=True, env={**os.environ, 'PYTHONPATH':str(checkout)})
    return time.perf_counter()-start,done.stdout+done.stderr,done.stderr.decode().strip().splitlines()[-1:]

def log(checkout):
    "What a training run writes to its log"
    with tempfile.TemporaryDirectory() as folder: return run(checkout, TRAIN, folder)[1]


if __name__ == '__main__':
    args = parser.parse_args()
    checkouts = dict(here=Path(__file__).parents[1], **({'before':Path(args.against).resolve()} if args.against else {}))
    seconds = {(line,name): [] for line in LINES for name in checkouts}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(args.repeats):
            for (line,name),found in seconds.items():
                took,_,said = run(checkouts[name], LINES[line], folder)
                found.append(took if 'No module' not in ''.join(said) else float('nan'))
    for (line,name),found in seconds.items():
        print(f'{line:32} {name:8} {statistics.median(found):6.2f} s ({min(found):.2f} to {max(found):.2f})')
    for name,checkout in checkouts.items():
        text = log(checkout)
        print(f'log of five epochs, {name:8} {len(text):8,} bytes, longest line {max(map(len, text.decode().splitlines())):,} characters')
