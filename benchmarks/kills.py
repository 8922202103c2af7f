#!/usr/bin/env python
"""Kill -9 at many moments, then go on: is everything as if nothing had happened?

    python benchmarks/kills.py --train 40 --benchmark 20 --save 80

`mtcs train` is killed at moments spread over a whole run and resumed: model and history have to be those of the run that nothing
disturbed, to the byte. `mtcs benchmark` is killed and started again: so have its results and tables. And a process that saves two
models over each other in turn is killed: one of the two has to be there, whole.

Data and encoder are tiny. One process imports everything once and forks a child a run, so a kill costs no start-up; for that,
nothing may start threads before the last fork. Needs a system that can fork. Exits 1 where anything differs.
"""
import os

os.environ.update(OMP_NUM_THREADS='1', MPLBACKEND='Agg')  # before torch and matplotlib are imported

import argparse, random, shutil, signal, sys, tempfile, time, warnings
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
import tsai_mtcs.all as mtcs
from tsai_mtcs.bench.methods import METHODS
from tsai_mtcs.cli import main
from tsai_mtcs.test_utils import synth_learner, write_archive

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument('--train', type=int, default=40, help='moments at which training is killed (default: %(default)s)')
parser.add_argument('--benchmark', type=int, default=20, help='moments at which a benchmark is killed (default: %(default)s)')
parser.add_argument('--save', type=int, default=80, help='moments at which saving is killed (default: %(default)s)')
parser.add_argument('--epochs', type=int, default=12)

TINY = dict(hidden=8, feats=16, depth=2)
SAME = ['method','task','seed','rows','accuracy','balanced_accuracy','macro_f1']
torch.set_num_threads(1)


def forked(f, after=None):
    "Run `f` in a child; kill it `after` so many seconds; its exit code (-9 for a killed one) and the seconds that it took"
    start,pid = time.perf_counter(),os.fork()
    if not pid:
        code = 70
        try:
            null = os.open(os.devnull, os.O_WRONLY)
            if not os.environ.get('KILLS_LOUD'): os.dup2(null, 1), os.dup2(null, 2)
            code = f() or 0
        finally: os._exit(code)
    if after is not None:
        time.sleep(after)
        os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), time.perf_counter()-start

def command(*line): return lambda: main(list(line))

def undisturbed(run, out):
    "Run twice, into `out` and beside it; the shorter time, so that most moments come before the end of a run"
    ended = [forked(run(o)) for o in (out, f'{out} again')]
    assert not any(code for code,_ in ended), 'a run that nothing disturbs failed; KILLS_LOUD=1 shows why'
    return min(seconds for _,seconds in ended)

def moments(n, seconds): return [seconds*(i+.5)/n for i in range(n)]


def kill_training(n, epochs):
    "How many killed and resumed runs left the files of the run that nothing disturbed"
    settings = ('--archive', 'archive', '--tasks', 'waves,machine', '--bs', '8', '--epochs', str(epochs), '--fit', 'one_cycle')
    run = lambda out: command('train', *settings, '--out', out)
    seconds = undisturbed(run, 'whole')
    kept = lambda out: [(Path(out)/o).read_bytes() for o in ('model.safetensors','history.csv','run.json')]
    want,equal,whole,killed = kept('whole'),0,0,0
    for i,after in enumerate(moments(n, seconds)):
        out = f'run{i}'
        killed += forked(run(out), after)[0] == -signal.SIGKILL
        resumed = (Path(out)/'run.json').exists()
        code,_ = forked(command('train', '--resume', '--out', out) if resumed else run(out))
        good = code == 0 and kept(out) == want
        if not good:
            print(f'train, killed after {after:.3f} of {seconds:.3f} s: exit code {code}, {"other files" if code == 0 else "not resumed"}',
                  flush=True)
        equal += good
        whole += not list(Path(out).glob('.*'))
    return dict(what='train', moments=n, killed=killed, equal=equal, tidy=whole, seconds=seconds)

def kill_benchmark(n):
    "How many killed and restarted benchmarks have the results and tables of the one that nothing disturbed"
    run = lambda out: command('benchmark', '--methods', 'mtl,mtl-single', '--tasks', 'waves,machine', '--archive', 'archive', '--seeds',
                              '0,1', '--out', out)
    seconds = undisturbed(run, 'bench')
    def kept(out):
        scores = mtcs.read_results(out)[SAME].sort_values(SAME[:3]).to_csv()
        return [scores, *((Path(out)/o).read_bytes() for o in ('table.md','table.csv','table.html','gains.csv'))]
    want,equal,killed = kept('bench'),0,0
    for i,after in enumerate(moments(n, seconds)):
        out = f'bench{i}'
        killed += forked(run(out), after)[0] == -signal.SIGKILL
        code,_ = forked(run(out))
        good = code == 0 and kept(out) == want
        if not good: print(f'benchmark, killed after {after:.3f} of {seconds:.3f} s: exit code {code}', flush=True)
        equal += good
    return dict(what='benchmark', moments=n, killed=killed, equal=equal, tidy=equal, seconds=seconds)

def kill_saving(n):
    "After how many kills one of the two models was there, whole"
    models = [synth_learner(seed, arch_config=dict(hidden=64, feats=320, depth=10)).model for seed in (0,1)]
    folder,rng = Path('model'),random.Random(0)
    start = time.perf_counter()
    for o in models: o.save_pretrained(folder)
    seconds = (time.perf_counter()-start)/2
    def save():
        while True:
            for o in models: o.save_pretrained(folder)
    same = lambda a, b: all(torch.equal(v, b[k]) for k,v in a.items()) and a.keys() == b.keys()
    equal = 0
    for _ in range(n):
        after = .005+4*seconds*rng.random()
        forked(save, after)
        try: state = mtcs.MTCSModel.from_pretrained(folder).state_dict()
        except Exception as e: print(f'saving, killed after {after:.3f} s: {type(e).__name__}: {e}', flush=True)
        else: equal += any(same(state, o.state_dict()) for o in models)
    models[0].save_pretrained(folder)
    return dict(what='save', moments=n, killed=n, equal=equal, tidy=n-len(list(folder.glob('.*.part'))), seconds=seconds)


if __name__ == '__main__':
    args = parser.parse_args()
    warnings.simplefilter('ignore')
    root = tempfile.mkdtemp()
    os.chdir(root)
    os.environ['XDG_CACHE_HOME'] = root
    write_archive(Path('archive'))
    mtcs.mtcs_learner = partial(mtcs.mtcs_learner, arch_config=TINY)
    for o in ('mtl','mtl-single'):
        METHODS[o] = replace(METHODS[o], settings={**METHODS[o].settings, 'arch_config':TINY, 'epochs':2, 'device':'cpu'})
    print(f'{"":10} moments  killed  as undisturbed  no .part left  seconds of a run')
    bad = 0
    for f,n in ((partial(kill_training, epochs=args.epochs), args.train), (kill_benchmark, args.benchmark), (kill_saving, args.save)):
        if not n: continue
        r = f(n)
        bad += r['equal'] < n
        print(f'{r["what"]:10} {r["moments"]:7} {r["killed"]:7} {r["equal"]:15} {r["tidy"]:14} {r["seconds"]:17.2f}', flush=True)
    shutil.rmtree(root)
    sys.exit(bad > 0)
