#!/usr/bin/env python
"""Speed of training in several processes against one process that has all their threads, and what a step sends.

    python benchmarks/distributed.py --world 2 --steps 20 --repeats 3

Each run is a launch of its own, in turn, and times the training steps of one fit after a short one: start and validation are
left out. One process takes `--steps` batches, `--world` processes share them out, so all see the same series. Prints seconds
(median, least and most), the ratio, and the bytes of gradients that ring all-reduce sends from each rank in a step.
"""
import argparse, os, statistics, subprocess, sys, time, warnings

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument('--world', type=int, default=2, help='processes, with a thread each')
parser.add_argument('--steps', type=int, default=20, help='batches in all')
parser.add_argument('--bs', type=int, default=32)
parser.add_argument('--repeats', type=int, default=3)


def run(args):
    "Time the training of one fit; rank 0 prints it"
    import torch
    from fastai.callback.core import Callback
    from fastai.torch_core import num_distrib, rank_distrib, set_seed
    from tsai_mtcs.all import BUNDLED, MultiTaskDataLoaders, bundled_tasks, mtcs_learner
    class Clock(Callback):
        "Seconds of the training part of an epoch"
        def before_train(self): self.start = time.perf_counter()
        def after_train(self): self.seconds = time.perf_counter()-self.start
    torch.set_num_threads(1 if num_distrib() else args.world)
    set_seed(0)
    dls = MultiTaskDataLoaders.from_tasks(bundled_tasks(BUNDLED), bs=args.bs, device='cpu')
    dls.loaders[1] = dls.test.new(dls.test.dataset.new_empty())
    learn,clock = mtcs_learner(dls),Clock()
    with learn.no_bar(), learn.no_logging(), learn.distrib_ctx():
        learn.fit_steps(2*args.world)
        learn.fit_steps(args.steps, cbs=clock)
    if not rank_distrib(): print(clock.seconds, sum(o.numel() for o in learn.model.parameters()))
    if num_distrib(): torch.distributed.destroy_process_group()


def launch(args, world):
    "Seconds of one run, and the number of parameters"
    start = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', str(world)] if world > 1 else [sys.executable]
    own = ['--world', args.world, '--steps', args.steps, '--bs', args.bs]
    env = {**os.environ, 'MTCS_BENCHMARK_RUN':'1', 'OMP_NUM_THREADS':str(args.world//world), 'PYTHONWARNINGS':'ignore'}
    out = subprocess.run([*start, __file__, *map(str, own)], env=env, capture_output=True, text=True)
    if out.returncode: sys.exit(out.stderr)
    seconds,n = out.stdout.split()[-2:]
    return float(seconds),int(n)


def main(args):
    runs = [(launch(args, 1), launch(args, args.world)) for _ in range(args.repeats)]
    alone,shared = ([o[i][0] for o in runs] for i in range(2))
    show = lambda o: f'{statistics.median(o):.2f} ({min(o):.2f} to {max(o):.2f})'
    print(f'one process, {args.world} threads:      {show(alone)} s for {args.steps} batches of {args.bs}')
    print(f'{args.world} processes, a thread each: {show(shared)} s')
    print(f'times as fast:               {show([a/b for a,b in zip(alone, shared)])}')
    n = runs[0][0][1]
    print(f'{n:,} parameters: in a step each rank sends {n*4*2*(args.world-1)/args.world/1e6:.1f} MB')


if __name__ == '__main__':
    warnings.simplefilter('ignore')
    args = parser.parse_args()
    (run if os.environ.get('MTCS_BENCHMARK_RUN') else main)(args)
