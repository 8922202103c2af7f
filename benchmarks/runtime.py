#!/usr/bin/env python
"""How large an environment is that only predicts, and does it give what the whole library gives?

    python benchmarks/runtime.py --torch 'torch==2.13.0+cpu' --out benchmarks/results/runtime.csv

Makes a fresh virtual environment of PyTorch, NumPy, safetensors and this checkout's wheel without its other requirements. The whole
library saves models of TS2Vec's encoder in the paper's size and of the kernel encoder. A process of the new environment loads them and
answers for some test rows of the bundled data sets. Sizes are those of `du`, in MiB, after that: pip and what Python has compiled are
parts of the environment. Seconds are of the process on one thread, those of the kernel encoder without Numba.
"""
import argparse, csv, json, subprocess, sys, tempfile
from pathlib import Path

import numpy as np

CHILD = """
import json, sys, time
start = time.process_time()
import numpy as np, torch
from tsai_mtcs.runtime import load_model
torch.set_num_threads(1)
imported = time.process_time()
model = load_model(sys.argv[1])
loaded = time.process_time()
probs = {name: model.predict(X, name)[1] for name,X in np.load('rows.npz').items()}
done = time.process_time()
np.savez(sys.argv[1]+'.npz', **probs)
peak = next(int(o.split()[1]) for o in open('/proc/self/status') if o.startswith('VmHWM'))/1024
print(json.dumps({'import, s':imported-start, 'load, s':loaded-imported, 'predict, s':done-loaded, 'most memory, MiB':peak}))
"""


def models(folder):
    "Save two models and some rows; their probabilities here"
    from tsai_mtcs.all import KernelEncoder, MultiTaskDataLoaders, TS2VecEncoder, bundled_tasks, mtcs_learner, set_seed
    tasks = bundled_tasks()
    dls = MultiTaskDataLoaders.from_tasks(tasks, device='cpu')
    rows = {o.name: np.asarray(o.X[o.test[:20]], np.float32) for o in tasks}
    np.savez(folder/'rows.npz', **rows)
    probs = {}
    for name,arch in (('ts2vec', TS2VecEncoder), ('kernels', KernelEncoder)):
        set_seed(0)
        learn = mtcs_learner(dls, arch)
        with learn.no_bar(): learn.fit_heads()
        learn.save_pretrained(folder/name)
        probs[name] = {o: learn.model.eval().predict(X, o)[1] for o,X in rows.items()}
    return probs


def output(*command, **kwargs): return subprocess.run(command, check=True, stdout=subprocess.PIPE, **kwargs).stdout


def environment(folder, torch, index):
    "Python of a fresh environment that has the runtime's requirements and this checkout's wheel"
    root = Path(__file__).parents[1]
    source,python = folder/'source',folder/'env'/'bin'/'python'
    source.mkdir()
    output('tar', '-x', '-C', source, input=output('git', 'archive', 'HEAD', cwd=root)) # as git has it: no leftover of a build
    output(sys.executable, '-m', 'pip', 'wheel', '--quiet', '--no-deps', '--wheel-dir', folder, source)
    output(sys.executable, '-m', 'venv', folder/'env')
    wheel, = folder.glob('tsai_mtcs*.whl')
    index = ['--extra-index-url', index] if index else []
    for packages in ([torch, 'numpy', 'safetensors', *index], ['--no-deps', wheel]):
        output(python, '-m', 'pip', 'install', '--quiet', '--no-cache-dir', *packages)
    return python


def size(path): return int(output('du', '-sm', path).split()[0])


def sizes(env):
    "MiB of the environment, of what Python has compiled in it, and of its largest packages"
    site, = env.glob('lib/python*/site-packages')
    parts = sorted(((size(o), o.name) for o in site.iterdir() if o.is_dir()), reverse=True)
    compiled = sum(o.stat().st_size for o in env.rglob('*.pyc'))/2**20
    return [('environment', size(env)), ('compiled files in it', round(compiled)),
            *((name, n) for n,name in parts if n >= 2 or name == 'tsai_mtcs')]


def answers(python, folder, probs):
    "Lines about each model in the fresh environment"
    lines = []
    for name,own in probs.items():
        # without PYTHONPATH, by which the checkout would stand in for the wheel
        found = json.loads(output(python, '-c', CHILD, name, cwd=folder, env={'OMP_NUM_THREADS':'1'}))
        with np.load(folder/f'{name}.npz') as there: difference = max(np.abs(there[o]-p).max() for o,p in own.items())
        found |= {'rows':sum(map(len, own.values())), 'largest difference of a probability':difference}
        lines += [(f'{name}: {k}', float(f'{v:.3g}')) for k,v in found.items()]
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--torch', default='torch', help="what pip is asked for, such as 'torch==2.13.0+cpu' (default: %(default)s)")
    parser.add_argument('--index', help="another index of packages, such as that of PyTorch's builds for the CPU")
    parser.add_argument('--out', help='CSV to write')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        python = environment(folder, args.torch, args.index)
        answered = answers(python, folder, models(folder))
        packages = output(python, '-m', 'pip', 'list', '--format', 'freeze').decode().split()
        lines = [*sizes(folder/'env'), *answered, ('packages', ' '.join(packages))]
    for name,value in lines: print(f'{name:50} {value}')
    if args.out:
        with open(args.out, 'w', newline='') as f: csv.writer(f).writerows([('what','value'), *lines])


if __name__ == '__main__': main()
