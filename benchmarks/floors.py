#!/usr/bin/env python
"""The floors of training: how long the arithmetic and the traffic of a step take on hardware that does nothing else.

    python benchmarks/floors.py --archive UCRArchive_2018 --tasks UCR_TOP15 --epochs 5

Arithmetic: two operations a weight, tap and step of a series for the forward pass and twice that for the backward pass,
taps that fall outside a series left out. Traffic: what the backward pass cannot do without is written once and read once
(the two inputs of the convolutions of each block, and the embeddings), and the optimizer reads weights, gradients and two
moments and writes all but the gradients back. Nothing else, as if every operation between were fused.

The rates of this machine are measured (a product of two large matrices, a copy of a large array); those of an H100 SXM are
its data sheet's: 989 and 67 TFLOP/s for bfloat16 and float32, 3.35 TB/s. `step.py` prints what it measures as a fraction of
the floors.
"""
import argparse, time
from types import SimpleNamespace

import torch

from tsai_mtcs.encoders import TS2VecEncoder
from tsai_mtcs.callback.bf16 import emulates_bf16

H100 = dict(float32=67e12, bfloat16=989e12, bytes=3.35e12)
SIZE = dict(float32=4, bfloat16=2)


def formats(device):
    "The formats worth timing on a device: a processor that only emulates bfloat16 would take minutes to tell so"
    return [o for o in SIZE if o == 'float32' or not emulates_bf16(torch.device(device))]


def operations(n, encoder=None):
    "Operations of training on one step of a series of `n` steps"
    convs = [m for m in (encoder or TS2VecEncoder()).modules() if isinstance(m, torch.nn.Conv1d)]
    def taps(m): return 2*min(m.kernel_size[0]//2, (n-1)//m.dilation[0])+1
    return 6*sum(m.in_channels*m.out_channels*taps(m) for m in convs)


def traffic(dtype, hidden=64, feats=320, depth=10):
    "Bytes to write and read for one step of a series"
    return 2*SIZE[dtype]*(2*hidden*depth+hidden+feats+feats)


def floors(plan, lens, rates, dtype):
    "Seconds of the arithmetic and of the traffic of the batches of `plan`: pairs of a task's number and rows"
    weights = sum(p.numel() for p in TS2VecEncoder().parameters())
    ops = sum(len(rows)*lens[k]*operations(lens[k]) for k,rows in plan)
    moved = sum(len(rows)*lens[k] for k,rows in plan)*traffic(dtype)+len(plan)*weights*4*7
    return SimpleNamespace(ops=ops, moved=moved, arithmetic=ops/rates[dtype], bytes=moved/rates['bytes'])


def rates(device='cpu', n=2048):
    "Operations a second in each of `formats` and bytes a second, measured"
    def seconds(f, repeats=5):
        f()
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            f()
            if device != 'cpu': torch.cuda.synchronize()
            times.append(time.perf_counter()-start)
        return min(times)
    found = {}
    for name in formats(device):
        a,b = (torch.randn(n, n, device=device, dtype=getattr(torch, name)) for _ in range(2))
        found[name] = 2*n**3/seconds(lambda: a@b)
    big = torch.ones(2**27, device=device)
    out = torch.empty_like(big)
    return {**found, 'bytes':2*big.nbytes/seconds(lambda: out.copy_(big))}


def in_words(rates):
    "Rates to print"
    return ', '.join(f'{rates[o]/1e9:.0f} GFLOP/s in {o}' for o in SIZE if o in rates)+f', {rates["bytes"]/1e9:.1f} GB/s'


def table(plan, lens, rates):
    "Lines of a table: floors in each format whose rate is known"
    for dtype in [o for o in SIZE if o in rates]:
        f = floors(plan, lens, rates, dtype)
        yield (f'{dtype:9} {f.ops/1e9:10,.1f} GFLOP {f.moved/1e9:7.2f} GB   '
               f'arithmetic {f.arithmetic*1000:11,.2f} ms   bytes {f.bytes*1000:10,.2f} ms')


if __name__ == '__main__':
    from step import load
    from tsai_mtcs.schedules import epoch_plan
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--archive', help='folder of the UCR archive; left out: the data sets bundled with aeon')
    parser.add_argument('--tasks', default='UCR_TOP15', help='names of data sets, or UCR_SELECTED10, UCR_TOP15 (those that the folder has)')
    parser.add_argument('--epochs', type=int, default=5)
    parser.add_argument('--device', default='cpu')
    args = parser.parse_args()
    tasks = load(args)
    lens,plan = [o.spec.len for o in tasks],epoch_plan([len(o.train) for o in tasks], 32, 'proportional')
    here = rates(args.device)
    print(f'{len(tasks)} data sets, {len(plan)} steps an epoch, {args.epochs} epochs; this machine ({args.device}, '
          f'{torch.get_num_threads()} threads): {in_words(here)}')
    for name,rate in dict(here=here, H100=H100).items():
        for line in table(plan*args.epochs, lens, rate): print(f'{name:5} the whole run  {line}')
        for line in table([plan[0]], [sum(len(r)*lens[k] for k,r in plan)/sum(len(r) for _,r in plan)]*len(lens), rate):
            print(f'{name:5} a mean step     {line}')
