#!/usr/bin/env python
"""A GPU beside the CPU: kernel features, heads in closed form, and training, each with the same results and timed in the same run.

    python benchmarks/gpu.py --archive UCRArchive_2018 --tasks UCR_TOP15 --out gpu.json

Parts (`--parts`):

    kernels   features of `KernelEncoder(parts=('multirocket','hydra'))` of some rows of each data set, on the CPU and on the GPU:
              the largest difference of a feature, before and after it is standardised, and seconds
    heads     five sites of five rows a label of `--site`, `fit_heads` on both: the largest difference of the test rows' probabilities
    training  `--epochs` epochs of `mtcs_learner(dls, sharing='paper')` through `learn.fit`, in float32 and in bfloat16: seconds of the
              whole fit, with whatever is done once, and of each epoch; an epoch without CUDA graphs; a step of the loop of `plain.py`
"""
import argparse, json, time, warnings
from copy import deepcopy
from pathlib import Path

import numpy as np
import plain
import torch
from fastai.callback.core import Callback
from fastai.torch_core import set_seed
from step import load

from tsai_mtcs.archive import ucr_tasks
from tsai_mtcs.bench.sites import deal_sites
from tsai_mtcs.callback.graphs import CUDAGraphs
from tsai_mtcs.data import MultiTaskDataLoaders
from tsai_mtcs.kernels import KernelEncoder
from tsai_mtcs.learner import mtcs_learner
from tsai_mtcs.schedules import epoch_plan

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument('--archive', required=True, help='folder of the UCR archive')
parser.add_argument('--tasks', default='UCR_TOP15', help='names of data sets, or UCR_SELECTED10, UCR_TOP15 (those that the folder has)')
parser.add_argument('--parts', default='kernels,heads,training', help='comma-separated (default: %(default)s)')
parser.add_argument('--rows', type=int, default=512, help='rows of each data set for `kernels`')
parser.add_argument('--site', default='FaceAll', help='data set for `heads`')
parser.add_argument('--epochs', type=int, default=5)
parser.add_argument('--plain-steps', type=int, default=100)
parser.add_argument('--device', default='cuda')
parser.add_argument('--out', default='gpu.json')


def timed(f, device):
    start = time.perf_counter()
    found = f()
    if device != 'cpu': torch.cuda.synchronize()
    return found, time.perf_counter()-start


def kernels(tasks, args):
    encoder = KernelEncoder(1, ('multirocket','hydra')).fit_rows(MultiTaskDataLoaders.from_tasks(tasks, device='cpu', check_copies=False))
    twin = deepcopy(encoder).to(args.device)
    seconds, most, raw = dict(cpu=0., gpu=0.), 0., 0.
    for o in tasks:
        x = torch.from_numpy(o.spec.scale(np.asarray(o.X[:args.rows])))
        for f, device in ((encoder, 'cpu'), (twin, args.device)): f(x[:2].to(device)) # compile, load
        own, t = timed(lambda: encoder(x), 'cpu')
        seconds['cpu'] += t
        theirs, t = timed(lambda: twin(x.to(args.device)).cpu(), args.device)
        seconds['gpu'] += t
        most = max(most, float((own-theirs).abs().max()))
        raw = max(raw, float(((own-theirs)*encoder.std).abs().max()))
    return dict(rows=sum(min(args.rows, len(o.X)) for o in tasks), **seconds, ratio=seconds['cpu']/seconds['gpu'], largest_difference=raw,
                largest_difference_standardised=most)


def heads(args):
    task, = ucr_tasks([args.site], args.archive)
    sites, _ = deal_sites(task, 5, 5, seed=0)
    probs, groups, seconds = [], [], {}
    for name, device in (('cpu','cpu'), ('gpu',args.device)):
        learn = mtcs_learner(MultiTaskDataLoaders.from_tasks(sites, device=device, check_copies=False), KernelEncoder)
        with learn.no_bar():
            seconds[name] = timed(learn.fit_heads, device)[1]
            probs.append(learn.predict(sites[0].X[sites[0].test], sites[0].name)[1])
        groups.append(learn.shared_heads.groups)
    return dict(**seconds, ratio=seconds['cpu']/seconds['gpu'], largest_difference=float(np.abs(probs[0]-probs[1]).max()),
                same_groups=bool((groups[0] == groups[1]).all()))


class Clock(Callback):
    "Seconds of each epoch"
    def before_fit(self): self.seconds = []
    def before_train(self): self.start = time.perf_counter()
    def after_train(self):
        float(self.learn.loss) # wait for the GPU
        self.seconds.append(round(time.perf_counter()-self.start, 3))


def training(tasks, args):
    def fit(epochs, bf16=False, graphs=True):
        set_seed(0)
        dls = MultiTaskDataLoaders.from_tasks(tasks, schedule='proportional', device=args.device, check_copies=False)
        learn = mtcs_learner(dls.unwatched(), sharing='paper', cbs=(clock := Clock()))
        if bf16: learn.to_bf16()
        if not graphs: learn.remove_cbs(CUDAGraphs)
        with learn.no_bar(), learn.no_logging(): seconds = timed(lambda: learn.fit(epochs), args.device)[1]
        name = ('bfloat16' if bf16 else 'float32')+('' if graphs else ', no graphs')
        found[name] = dict(epochs=epochs, seconds=seconds, each=clock.seconds)
        print(found, flush=True)
        return learn
    plan = epoch_plan([len(o.train) for o in tasks], 32, 'proportional')
    some = [plan[i] for i in sorted(np.random.default_rng(0).permutation(len(plan))[:args.plain_steps])]
    found = dict(data_sets=len(tasks), steps_an_epoch=len(plan))
    learn = fit(args.epochs)
    fit(1, graphs=False)
    model = plain.PlainModel(learn.dls.space.specs).load(learn.model).to(args.device)
    loaders, order = plain.loaders(tasks, some), [k for k, _ in some]
    found['plain, a step'] = timed(lambda: plain.train(model, loaders, order, .1, device=args.device), args.device)[1]/len(some)
    found['times as fast as plain'] = found['plain, a step']*len(plan)*args.epochs/found['float32']['seconds']
    print(found, flush=True)
    fit(args.epochs, bf16=True)
    return found


if __name__ == '__main__':
    args = parser.parse_args()
    warnings.simplefilter('ignore')
    out = Path(args.out)
    found = dict(torch=torch.__version__, threads=torch.get_num_threads(),
                 device=torch.cuda.get_device_name() if args.device != 'cpu' else 'cpu')
    tasks = load(args)
    for part in args.parts.split(','):
        found[part] = dict(kernels=lambda: kernels(tasks, args), heads=lambda: heads(args), training=lambda: training(tasks, args))[part]()
        print(part, json.dumps(found[part], indent=1), flush=True)
        out.write_text(json.dumps(found, indent=1))
