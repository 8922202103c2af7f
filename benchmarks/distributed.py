#!/usr/bin/env python
"""Speed of training in several processes against one, and what a step sends.

    python benchmarks/distributed.py --world 2 --steps 20 --repeats 3

Compares one process of one thread, one of `--world` threads, and `--world` processes of a thread each. Each run is a launch of
its own, in turn, and times the training steps of one fit after a short one: start and validation are left out. All see the same
`--steps` batches. Prints seconds and CPU seconds over all processes (median, least and most), and the bytes of gradients that
ring all-reduce sends from each rank in a step. CPU seconds hold on a machine that has other work, seconds don't.
"""
import argparse, os, statistics, subprocess, sys, time, warnings

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument('--world', type=int, default=2, help='processes, or threads of one')
parser.add_argument('--steps', type=int, default=20, help='batches in all')
parser.add_argument('--bs', type=int, default=32)
parser.add_argument('--repeats', type=int, default=3)


def run(args):
    "Time the training of one fit; rank 0 prints seconds, CPU seconds of all ranks, and the number of parameters"
    import torch
    from fastai.callback.core import Callback
    from fastai.torch_core import num_distrib, rank_distrib, set_seed
    from tsai_mtcs.archive import BUNDLED, bundled_tasks
    from tsai_mtcs.data import MultiTaskDataLoaders
    from tsai_mtcs.learner import mtcs_learner
    class Clock(Callback):
        "Seconds and CPU seconds of the training part of an epoch"
        def now(self): return torch.tensor([time.perf_counter(), time.process_time()], dtype=torch.float64)
        def before_train(self): self.start = self.now()
        def after_train(self): self.spent = self.now()-self.start
    torch.set_num_threads(int(os.environ['OMP_NUM_THREADS']))
    set_seed(0)
    loaders = lambda n: MultiTaskDataLoaders.from_tasks(bundled_tasks(BUNDLED), bs=args.bs, schedule='uniform', steps=n,
                                                        device='cpu').unwatched()
    learn,clock = mtcs_learner(loaders(2*args.world)),Clock()
    with learn.no_bar(), learn.no_logging():
        with learn.distrib_ctx(): learn.fit(1)
        learn.dls = loaders(args.steps)
        with learn.distrib_ctx(): learn.fit(1, cbs=clock)
    seconds,cpu = clock.spent
    if num_distrib(): torch.distributed.all_reduce(cpu)
    if not rank_distrib(): print(float(seconds), float(cpu), sum(o.numel() for o in learn.model.parameters()))
    if num_distrib(): torch.distributed.destroy_process_group()


def launch(args, processes, threads):
    "Seconds and CPU seconds of one run, and the number of parameters"
    start = ([sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', str(processes)] if processes > 1
             else [sys.executable])
    own = ['--world', args.world, '--steps', args.steps, '--bs', args.bs]
    env = {**os.environ, 'MTCS_BENCHMARK_RUN':'1', 'OMP_NUM_THREADS':str(threads), 'PYTHONWARNINGS':'ignore'}
    out = subprocess.run([*start, __file__, *map(str, own)], env=env, capture_output=True, text=True)
    if out.returncode: sys.exit(out.stderr)
    return [float(o) for o in out.stdout.split()[-3:]]


def main(args):
    settings = [(1,1), (1,args.world), (args.world,1)]
    runs = [[launch(args, *o) for o in settings] for _ in range(args.repeats)]
    show = lambda o: f'{statistics.median(o):.2f} ({min(o):.2f} to {max(o):.2f})'
    for i,(processes,threads) in enumerate(settings):
        seconds,cpu,n = zip(*(o[i] for o in runs))
        print(f'processes {processes}, threads of each {threads}: {show(seconds)} s, {show(cpu)} CPU s for '
              f'{args.steps} batches of {args.bs}')
    print(f'{n[0]:,.0f} parameters: in a step each rank sends {n[0]*4*2*(args.world-1)/args.world/1e6:.1f} MB')


if __name__ == '__main__':
    warnings.simplefilter('ignore')
    args = parser.parse_args()
    (run if os.environ.get('MTCS_BENCHMARK_RUN') else main)(args)
