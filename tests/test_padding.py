"A series has one embedding, whatever stands beside it in a batch, and missing values count per variable."
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import quiet_learner
from tsai.models.InceptionTimePlus import InCoordTime
from tsai.models.TransformerRNNPlus import TransformerLSTMPlus
from tsai.models.TSSequencerPlus import TSSequencerPlus
from tsai_mtcs.archs import ARCHS, find_arch
from tsai_mtcs.archive import bundled_tasks
from tsai_mtcs.selfsup.tloss import CausalEncoder
from tsai_mtcs.selfsup.tst import TSTEncoder
from tsai_mtcs.selfsup.tstcc import TSTCCEncoder
from tsai_mtcs.data import MultiTaskDataLoaders
from tsai_mtcs.arch_encoder import ArchEncoder
from tsai_mtcs.encoders import DilatedConv, MMoEEncoder, TS2VecEncoder
from tsai_mtcs.heads import MultiHead
from tsai_mtcs.labels import LabelSpace
from tsai_mtcs.model import MTCSModel
from tsai_mtcs.tasks import Task

ANY_LEN = [name for name,o in ARCHS.items() if not o.one_len]
OWN = dict(TS2VecEncoder=lambda vars: TS2VecEncoder(vars, hidden=8, feats=16, depth=4),
           MMoEEncoder=lambda vars: MMoEEncoder(vars, tasks=2, hidden=8, feats=16, depth=3))
SELFSUP = dict(tloss=lambda vars: CausalEncoder(vars, hidden=8, reduced=8, feats=16, depth=3),
               tst=lambda vars: TSTEncoder(vars, 40, 16, depth=2, heads=2, ff=16),
               tstcc=lambda vars: TSTCCEncoder(vars, feats=16, hidden=(8,8)))

def make(name, vars=3):
    torch.manual_seed(0)
    if name in ARCHS: enc = ArchEncoder(find_arch(name), [(vars,40)])
    else: enc = {**OWN, **SELFSUP}[name](vars)
    for o in enc.buffers():
        if o.is_floating_point(): o += torch.rand_like(o)*.1
    return enc.eval()


# Companions
@pytest.mark.parametrize('name', [*OWN, *ANY_LEN])
@torch.no_grad()
def test_a_series_alone_and_beside_longer_ones(name):
    enc,x = make(name),torch.randn(6, 3, 40)
    lens = [40,25,9,25,4,1]
    for o,n in zip(x, lens): o[:,n:] = torch.nan
    together = enc(x)
    for i,n in enumerate(lens):
        alone = enc(x[i:i+1,:,:n])
        torch.testing.assert_close(together[i:i+1], alone, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(enc(F.pad(x[i:i+1], (0,60), value=torch.nan)), alone, rtol=1e-4, atol=1e-5)

@pytest.mark.parametrize('name', [o for o in ARCHS if o not in ANY_LEN])
@torch.no_grad()
def test_one_length_stays_one_length(name):
    enc,x = make(name),torch.randn(4, 3, 40)
    x[0,:,20:] = torch.nan
    torch.testing.assert_close(enc(x)[:1], enc(x[:1]), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match='expected series of 40 steps, found 20'): enc(x[...,:20])

@pytest.mark.parametrize('arch', [TSSequencerPlus, InCoordTime, TransformerLSTMPlus])
def test_architectures_that_mix_rows_are_refused(arch):
    with pytest.raises(ValueError, match=f'{arch.__name__} mixes the rows of a batch'): ArchEncoder(arch, [(1,30)])

@pytest.mark.filterwarnings('ignore::tsai_mtcs.tasks.TaskWarning')
def test_a_label_does_not_change_beside_a_longer_series():
    task = bundled_tasks('GunPoint')[0]
    torch.manual_seed(0)
    enc = TS2VecEncoder(hidden=16, feats=32)
    model = MTCSModel(enc, MultiHead(LabelSpace([task.spec]), 32)).eval()
    X = task.X[task.test]
    want = model.predict(X, 'GunPoint')[1]
    longer = np.full((len(X)+1, 1, 400), np.nan, np.float32)
    longer[:-1,:,:X.shape[-1]],longer[-1] = X,np.resize(X[0], 400)
    np.testing.assert_allclose(model.predict(longer, 'GunPoint')[1][:-1], want, rtol=1e-4, atol=1e-5)

def test_training_reads_padding_as_zeros_and_learns():
    X = [np.random.default_rng(i).normal(i%2, 1, 20+i%7) for i in range(40)]
    task = Task('short', X, np.arange(40)%2, splits=(range(30), range(30, 40)))
    learn = quiet_learner(dls=MultiTaskDataLoaders.from_tasks([task], bs=10, device='cpu'), arch='FCNPlus',
                          arch_config=dict(layers=[4,4,8]))
    learn.fit(1)
    p = learn.predict(X, 'short')[1]
    np.testing.assert_allclose(learn.predict(X[:1], 'short')[1], p[:1], rtol=1e-4, atol=1e-5)


# Nothing changes where nothing is missing
class PlainBlocks(TS2VecEncoder):
    "The encoder without masks between the blocks"
    def steps(self, x):
        z = self.inputs[str(x.shape[1])](x.transpose(1,2)).transpose(1,2)
        return self.blocks(z),torch.ones(len(x), 1, x.shape[-1], dtype=torch.bool)

@pytest.mark.parametrize('grad', [False, True])
def test_whole_series_embed_as_before_to_the_bit(grad):
    enc = make('TS2VecEncoder', 1)
    plain = PlainBlocks(1, hidden=8, feats=16, depth=4).eval()
    plain.load_state_dict(enc.state_dict())
    x = torch.randn(5, 1, 60)
    with torch.set_grad_enabled(grad): assert torch.equal(enc(x), plain(x))

def test_gradients_are_those_of_the_series_alone():
    enc,x = make('TS2VecEncoder').double(),torch.randn(1, 3, 15, dtype=torch.double)
    grads = []
    for o in (x, F.pad(x, (0,20), value=torch.nan)):
        enc.zero_grad()
        enc(o).square().sum().backward()
        grads.append([p.grad.clone() for p in enc.parameters()])
    for a,b in zip(*grads): torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


# Missing values
@pytest.mark.parametrize('name', [*OWN, *SELFSUP, 'InceptionTimePlus','GRUPlus'])
@torch.no_grad()
def test_a_missing_value_is_the_mean_and_its_step_stays(name):
    enc,x = make(name),torch.randn(4, 3, 40)
    gaps = torch.rand(x.shape) < .2
    gaps[:,0] &= ~gaps[:,1:].all(1) # every step holds something
    torch.testing.assert_close(enc(x.masked_fill(gaps, torch.nan)), enc(x.masked_fill(gaps, 0)), rtol=1e-5, atol=1e-6)

@pytest.mark.parametrize('vars', [6,12])
def test_gaps_in_many_variables_keep_the_steps(vars):
    x = torch.randn(20, vars, 100)
    x[torch.rand(x.shape) < .2] = torch.nan
    held = TS2VecEncoder(vars, hidden=4, feats=8, depth=2).eval().steps(x)[1]
    assert held.float().mean() > .999

@torch.no_grad()
def test_a_step_without_any_value_is_zeros_to_every_convolution():
    enc,x = make('TS2VecEncoder'),torch.randn(2, 3, 40)
    seen = []
    for o in enc.modules():
        if isinstance(o, DilatedConv) and o.kernel_size[0] > 1:
            o.register_forward_pre_hook(lambda m, args: seen.append(args[0][...,20:25].abs().max().item()))
    x[:,:,20:25] = torch.nan
    enc(x)
    assert len(seen) == 10 and set(seen) == {0.}
