"""The plain alternative that the benchmarks compare with: the paper's method as one would first write it in PyTorch.

The same encoder with every tap of every convolution computed, a DataLoader per data set over numpy rows, an nn.Linear
per task, and a double loop over pairs of tasks for the sharing loss. It is correct: given the same weights and batches,
and no dropout, its losses are those of the library.
"""
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Block(nn.Module):
    def __init__(self, n_in, n_out, dilation, last):
        super().__init__()
        self.conv1 = nn.Conv1d(n_in, n_out, 3, padding=dilation, dilation=dilation)
        self.conv2 = nn.Conv1d(n_out, n_out, 3, padding=dilation, dilation=dilation)
        self.shortcut = nn.Conv1d(n_in, n_out, 1) if last else nn.Identity()

    def forward(self, x): return self.conv2(F.gelu(self.conv1(F.gelu(x)))) + self.shortcut(x)


class PlainEncoder(nn.Module):
    "TS2Vec's encoder of univariate series: `(bs, 1, len) -> (bs, feats)`"
    def __init__(self, hidden=64, feats=320, depth=10, dropout=.1):
        super().__init__()
        self.input = nn.Linear(1, hidden)
        self.blocks = nn.Sequential(*(Block(hidden, feats if i == depth else hidden, 2**i, i == depth) for i in range(depth+1)))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        missing = x.isnan()
        z = self.input(x.nan_to_num().transpose(1, 2)).transpose(1, 2).masked_fill(missing, 0)
        return self.dropout(self.blocks(z)).masked_fill(missing, -torch.inf).amax(-1)


class PlainModel(nn.Module):
    "An encoder and a linear classifier a task"
    def __init__(self, specs, dropout=.1):
        super().__init__()
        self.encoder = PlainEncoder(dropout=dropout)
        self.heads = nn.ModuleList(nn.Linear(320, len(o.labels), bias=False) for o in specs)

    def load(self, model):
        "Take the weights of an `MTCSModel`"
        state = {k.replace('inputs.1.', 'input.'): v for k,v in model.backbone.state_dict().items()}
        self.encoder.load_state_dict(state)
        with torch.no_grad():
            for head,name in zip(self.heads, model.space.names): head.weight.copy_(model.head.weight[model.space.block(name)])
        return self


def sharing(heads, z, tau):
    "Equations 3 to 6, task pair by task pair"
    with torch.no_grad(): probs = [head(z).softmax(1) for head in heads]
    loss = 0.
    for k in range(len(heads)):
        for j in range(len(heads)):
            if j == k: continue
            A = torch.einsum('bq,bp->qp', probs[k], probs[j])/len(z)
            relevant = A.numel()*A/A.sum() > tau
            distance = ((heads[k].weight[:,None]-heads[j].weight[None])**2).mean(-1)
            loss = loss + (relevant*distance).sum()/A.numel()
    return loss


def loaders(tasks, plan):
    "A DataLoader a task over its training rows, in the batches of `plan`"
    loaders = []
    for k,task in enumerate(tasks):
        rows = task.train
        data = TensorDataset(torch.from_numpy(task.spec.scale(task.X[rows])), torch.from_numpy(task.codes[rows]))
        loaders.append(DataLoader(data, batch_sampler=[r.tolist() for t,r in plan if t == k]))
    return loaders


def train(model, loaders, order, alpha=.1, tau=2., lr=1e-3, device='cpu'):
    "One epoch: a batch of each task in `order`; the losses of the steps"
    opt,losses = torch.optim.AdamW(model.parameters(), lr=lr),[]
    # Zeros, not None: AdamW steps the heads of other tasks too, as it does the rows of one matrix.
    for p in model.parameters(): p.grad = torch.zeros_like(p)
    batches = [iter(o) for o in loaders]
    model.train()
    for k in order:
        x,y = (o.to(device) for o in next(batches[k]))
        z = model.encoder(x)
        loss = F.cross_entropy(model.heads[k](z), y)
        if alpha: loss = loss + alpha*sharing(model.heads, z, tau)
        opt.zero_grad(set_to_none=False)
        loss.backward()
        opt.step()
        losses.append(loss.item())
    return losses


@torch.no_grad()
def embed(model, X, bs=32, device='cpu'):
    "Embeddings of scaled series `(n, 1, len)`"
    model.eval()
    return torch.cat([model.encoder(o.to(device)).cpu() for o in torch.from_numpy(X).split(bs)]).numpy()
