#!/usr/bin/env python
"""What the sharing loss costs of a training step, differentiated by autograd and by a gradient written out by hand.

    OMP_NUM_THREADS=1 python benchmarks/sharing_loss.py --archive UCRArchive_2018 --tasks UCR_TOP15

Prints CPU milliseconds (median, least and most): of a training step of the paper's model, a batch of each data set in turn; of the
relevance of its labels; and of the loss with its backward pass, in both ways, which give the same value and gradient. What is
compared with the step is what writing the gradient by hand would save.
"""
import argparse, statistics, time, warnings
from pathlib import Path

import torch
from fastai.torch_core import set_seed

from tsai_mtcs import archive
from tsai_mtcs.data import MultiTaskDataLoaders
from tsai_mtcs.learner import mtcs_learner
from tsai_mtcs.sharing import label_relevance, sharing_loss

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument('--archive', help='folder of the UCR archive; left out: the data sets bundled with aeon')
parser.add_argument('--tasks', default='UCR_TOP15', help='names of data sets, or UCR_SELECTED10, UCR_TOP15 (those that the folder has)')
parser.add_argument('--rounds', type=int, default=3, help='batches of each data set')


def load(args):
    if not args.archive: return archive.bundled_tasks()
    names = getattr(archive, args.tasks, None) or args.tasks.split(',')
    return archive.ucr_tasks([o for o in names if (Path(args.archive)/o).is_dir()], args.archive)


class ByHand(torch.autograd.Function):
    "The quadratic form of `sharing_loss`, whose gradient is twice the product that its value needs"
    @staticmethod
    def forward(ctx, W, A):
        G = A.sum(1, keepdim=True)*W-A@W
        ctx.save_for_backward(G)
        return (W*G).sum()

    @staticmethod
    def backward(ctx, grad): return 2*grad*ctx.saved_tensors[0],None


def by_hand(weight, relevance, space, tau=2.):
    with torch.no_grad():
        S = (relevance > tau).to(torch.int8)
        each = 1/space.size.double()
        A = each[:,None]*(S+S.T).double()*each
    return (ByHand.apply(weight.double(), A)/weight.shape[1]).to(weight.dtype)


def cpu_ms(f):
    start = time.process_time()
    out = f()
    return 1e3*(time.process_time()-start),out

def said(ms): return f'{statistics.median(ms):9.2f} ms ({min(ms):.2f} to {max(ms):.2f})'


if __name__ == '__main__':
    args = parser.parse_args()
    warnings.simplefilter('ignore')
    set_seed(0)
    dls = MultiTaskDataLoaders.from_tasks(load(args), recipe='paper', steps=args.rounds+1, device='cpu', check_copies=False)
    learn = mtcs_learner(dls)
    model,space = learn.model.train(),dls.space
    opt = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def step(x, y):
        logits = model(x)
        loss = learn.loss_func(logits, y)+.1*sharing_loss(model.head.weight, label_relevance(logits, space), space)
        loss.backward()
        opt.step()
        opt.zero_grad()
        return logits.detach()

    def differentiated(f, R):
        weight = model.head.weight.detach().requires_grad_()
        loss = f(weight, R, space)
        loss.backward()
        return loss.detach(),weight.grad

    views = [iter(dls[name].train) for name in space.names]
    times = {o: [] for o in ('step','relevance','autograd','by hand')}
    for _ in range(args.rounds+1): # the first one warms up
        for view in views:
            ms,logits = cpu_ms(lambda: step(*next(view)))
            times['step'].append(ms)
            ms,R = cpu_ms(lambda: label_relevance(logits, space))
            times['relevance'].append(ms)
            found = {}
            for name,f in (('autograd',sharing_loss), ('by hand',by_hand)):
                ms,found[name] = cpu_ms(lambda: differentiated(f, R))
                times[name].append(ms)
            for a,b in zip(*found.values()): torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-12)
    times = {name: ms[len(views):] for name,ms in times.items()}
    print(f'{len(views)} data sets, {len(space)} labels, {args.rounds*len(views)} steps, torch {torch.__version__}, '
          f'{torch.get_num_threads()} threads')
    for name,ms in times.items(): print(f'{name:10}{said(ms)}  {sum(ms)/sum(times["step"]):7.2%} of the steps')
    saved = (sum(times['autograd'])-sum(times['by hand']))/sum(times['step'])
    print(f'a gradient by hand saves {saved:.2%} of the steps')
