"The encoder's arithmetic, embeddings, and files that hold a model and execute nothing."
import math
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import quiet_learner, same
from torch import nn
from tsai.models.InceptionTimePlus import InceptionTimePlus
from tsai_mtcs.arch_encoder import ArchEncoder
from tsai_mtcs.encoders import ConvBlock, DilatedConv, MMoEEncoder, TS2VecEncoder
from tsai_mtcs.heads import MultiHead, MultiTaskLoss
from tsai_mtcs.labels import LabelSpace
from tsai_mtcs.model import MTCSModel
from tsai_mtcs.pooling import masked_max
from tsai_mtcs.tasks import Task, TaskSpec
from tsai_mtcs.test_utils import synth_tasks

X = np.random.default_rng(0).normal(1, 2, (9,1,30)).astype(np.float32)


def make_space():
    return LabelSpace([TaskSpec('gait', ('sit','walk','run'), 1, 30, (.1,), (1/3,)),
                       TaskSpec('alarm', ((0,'off'),(1,'on')), 3, 24, (1.,2.,3.), (.5,.7,.9))])
ENCODERS = dict(ts2vec=lambda: TS2VecEncoder(vars=(1,3), hidden=8, feats=16, depth=4),
                inception=lambda: ArchEncoder(InceptionTimePlus, [(1,30),(3,24)], nf=4))

def make_model(encoder, seed=0, **kwargs):
    "A model with weights and statistics other than those of a new one"
    torch.manual_seed(seed)
    backbone = ENCODERS[encoder]()
    model = MTCSModel(backbone, MultiHead(make_space(), backbone.feats, **kwargs))
    with torch.no_grad():
        for name,o in model.named_buffers():
            if 'running' in name: o += torch.rand_like(o)*.1
    return model.eval()


# Saving
READ = '''
import sys, numpy as np
from tsai_mtcs.model import MTCSModel
X,out = np.load('X.npy'),{}
for name in sys.argv[1:]:
    m = MTCSModel.from_pretrained(name)
    labels,out[name+'_probs'] = m.predict(X, 'gait')
    assert m.predict(np.repeat(X, 3, 1), 'alarm')[0][0] in m.space.specs[1].labels
    out[name+'_labels'],out[name+'_embed'] = labels.astype(str),m.embed(X, 'gait')
np.savez('out.npz', **out)
'''

def test_model_in_a_new_process_is_the_same_to_the_bit(tmp_path):
    models = {name: make_model(name, n_layers=n, bias=n == 2) for n,name in enumerate(ENCODERS, 1)}
    for name,m in models.items(): m.save_pretrained(tmp_path/name)
    np.save(tmp_path/'X.npy', X)
    subprocess.run([sys.executable, '-W', 'ignore', '-c', READ, *models], cwd=tmp_path, check=True)
    with np.load(tmp_path/'out.npz') as out:
        for name,m in models.items():
            labels,probs = m.predict(X, 'gait')
            assert (out[name+'_probs'] == probs).all() and (out[name+'_labels'] == labels).all()
            assert (out[name+'_embed'] == m.embed(X, 'gait')).all()

@pytest.mark.parametrize('encoder', ENCODERS)
def test_saved_model_has_every_weight_and_setting(tmp_path, encoder):
    model = make_model(encoder)
    twin = MTCSModel.from_pretrained(model.save_pretrained(tmp_path))
    assert same(model.state_dict(), twin.state_dict()) and not twin.training
    assert twin.space.specs == model.space.specs and twin.backbone.config == model.backbone.config and twin.head.config == model.head.config
    assert {o.name for o in tmp_path.iterdir()} == {'model.safetensors'}

class Bomb:
    def __init__(self, path): self.path = path
    def __reduce__(self): return open, (str(self.path), 'w')

@pytest.mark.parametrize('how', ['pickle','torch'])
def test_nothing_in_a_folder_is_executed(tmp_path, how):
    folder,sign = make_model('ts2vec').save_pretrained(tmp_path/'m'),tmp_path/'executed'
    with (folder/'model.safetensors').open('wb') as f: (pickle.dump if how == 'pickle' else torch.save)(Bomb(sign), f)
    with pytest.raises(ValueError, match='not a whole saved model'): MTCSModel.from_pretrained(folder)
    assert not sign.exists()
    with (folder/'model.safetensors').open('rb') as f:
        if how == 'pickle': pickle.load(f).close()
        else: torch.load(f, weights_only=False).close()
    assert sign.exists(), 'the file would not have done anything'

@pytest.mark.parametrize('label', [frozenset((1,2)), b'text', (1,None)])
def test_labels_that_json_cannot_hold_are_refused(tmp_path, label):
    space = LabelSpace([TaskSpec('gait', (label,'other'), 1, 30, (0.,), (1.,))])
    with pytest.raises(ValueError, match='expected labels of text, numbers or tuples.*export'):
        MTCSModel(TS2VecEncoder(hidden=4, feats=8, depth=1), MultiHead(space, 8)).save_pretrained(tmp_path/'m')
    assert not (tmp_path/'m').exists()

@pytest.mark.parametrize('labels', [(0,1), ('0','1'), (0.5,1.0), (True,False), (('a',1),('b',(2,'c'))), (0,'0')], ids=str)
def test_labels_keep_their_type(tmp_path, labels):
    model = MTCSModel(TS2VecEncoder(hidden=4, feats=8, depth=1), MultiHead(LabelSpace([TaskSpec('gait', labels, 1, 30, (0.,), (1.,))]), 8))
    twin = MTCSModel.from_pretrained(model.save_pretrained(tmp_path))
    assert [(type(o),o) for o in twin.space.specs[0].labels] == [(type(o),o) for o in labels]
    assert set(twin.predict(X, 'gait')[0]) <= set(labels)


# The official checkpoints of TS2Vec
def official(vars, hidden=8, feats=16, depth=4):
    "A state dict with the names and shapes that TS2Vec's averaged model saves"
    state = {'n_averaged': torch.tensor(5), 'module.input_fc.weight': torch.randn(hidden, vars),
             'module.input_fc.bias': torch.randn(hidden)}
    for i in range(depth+1):
        n,name = feats if i == depth else hidden,f'module.feature_extractor.net.{i}.'
        for conv,n_in in (('conv1',hidden), ('conv2',n)):
            state[f'{name}{conv}.conv.weight'],state[f'{name}{conv}.conv.bias'] = torch.randn(n, n_in, 3)/5,torch.randn(n)
    return {**state, f'{name}projector.weight': torch.randn(feats, hidden, 1), f'{name}projector.bias': torch.randn(feats)}

def plain_conv(x, w, b, d):
    "A dilated convolution of `(len, n_in)` by its definition, zeros around the series"
    out = np.tile(b, (len(x),1))
    for t in range(len(x)):
        for k in (-1,0,1):
            if 0 <= t+k*d < len(x): out[t] += w[:,:,k+1]@x[t+k*d]
    return out

def gelu(x): return x*(1+np.vectorize(math.erf)(x/math.sqrt(2)))/2

def plain_encoding(state, x, depth=4, leaky=True):
    "What TS2Vec computes of one series `(len, vars)` in float64, an embedding a step; unless `leaky`, missing steps count as zeros"
    s = {k.removeprefix('module.'): v.double().numpy() for k,v in state.items()}
    z = np.nan_to_num(x)@s['input_fc.weight'].T+s['input_fc.bias']
    missing = np.isnan(x).all(1)
    z[missing] = 0
    hold = lambda u: u if leaky else np.where(missing[:,None], 0, u)
    for i in range(depth+1):
        name = f'feature_extractor.net.{i}.'
        conv = lambda u, o: plain_conv(u, s[f'{name}{o}.conv.weight'], s[f'{name}{o}.conv.bias'], 2**i)
        short = z@s[name+'projector.weight'][:,:,0].T+s[name+'projector.bias'] if name+'projector.weight' in s else z
        z = conv(gelu(hold(conv(gelu(hold(z)), 'conv1'))), 'conv2')+short
    return z

@pytest.mark.parametrize('vars,n', [(1,5), (1,40), (3,17)])
def test_official_checkpoint(tmp_path, vars, n):
    torch.manual_seed(n)
    state = official(vars)
    torch.save(state, tmp_path/'ts2vec.pkl')
    x = np.random.default_rng(n).normal(size=(2,n,vars))
    x[0,-2:] = np.nan
    x[1,3,0] = np.nan # one of the variables, where there are several
    want = np.stack([plain_encoding(state, o) for o in x])
    series = torch.tensor(x).transpose(1,2)
    leaky,own = (TS2VecEncoder.from_ts2vec(tmp_path/'ts2vec.pkl', pool_padding=o).double() for o in (True,False))
    np.testing.assert_allclose(leaky.steps(series)[0].detach().transpose(1,2), want, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(leaky(series).detach(), want.max(1), rtol=1e-10, atol=1e-12)
    held = np.stack([plain_encoding(state, o, leaky=False) for o in x])
    np.testing.assert_allclose(own(series).detach(), [o[~np.isnan(v).all(1)].max(0) for o,v in zip(held, x)], rtol=1e-10, atol=1e-12)
    assert not own.training and own.config['depth'] == 4 and own.config['vars'] == [vars]

@pytest.mark.parametrize('content', [{}, {'other': torch.ones(2)}])
def test_other_files_are_no_checkpoint(tmp_path, content):
    torch.save(content, tmp_path/'ts2vec.pkl')
    with pytest.raises(ValueError, match="expected a checkpoint of TS2Vec with 'input_fc.weight', found"):
        TS2VecEncoder.from_ts2vec(tmp_path/'ts2vec.pkl')


# Convolutions
@pytest.mark.parametrize('kernel_size', [1,3,5,7])
@pytest.mark.parametrize('n', [1,2,8,9,16,17,25,60])
@pytest.mark.parametrize('dilation', [1,8])
def test_taps_left_out_change_nothing(kernel_size, n, dilation):
    torch.manual_seed(n)
    conv = DilatedConv(3, 4, dilation, kernel_size).double()
    x,results = torch.randn(2, 3, n, dtype=torch.double),[]
    for f in (conv, lambda x: nn.Conv1d.forward(conv, x)):
        x = x.detach().requires_grad_()
        out = f(x)
        grads = torch.autograd.grad((out*torch.linspace(1, 2, out.numel(), dtype=torch.double).view_as(out)).sum(),
                                    (x, conv.weight, conv.bias))
        results.append((out.detach(), *grads))
    for a,b in zip(*results): torch.testing.assert_close(a, b, rtol=1e-13, atol=1e-13)

def test_block_is_two_convolutions_and_a_shortcut():
    block,x = ConvBlock(3, 5, 2).double(),torch.randn(2, 3, 11, dtype=torch.double)
    conv = lambda u, o: F.conv1d(u, o.weight, o.bias, padding=2, dilation=2)
    torch.testing.assert_close(block(x), conv(F.gelu(conv(F.gelu(x), block.conv1)), block.conv2)
                               +F.conv1d(x, block.shortcut.weight, block.shortcut.bias))

def test_encoder_of_the_paper():
    enc = TS2VecEncoder()
    assert len(enc.blocks) == 11 and [o.conv1.dilation[0] for o in enc.blocks] == [2**i for i in range(11)]
    assert enc.feats == 320 and enc.inputs['1'].out_features == 64 and sum(o.numel() for o in enc.parameters()) == 637_248


# Padding
def test_masked_max():
    z,held = torch.randn(50, 4, 13),torch.rand(50, 1, 13) < .3
    held[0] = False
    for out,row,keep in zip(masked_max(z, held), z, held[:,0]):
        assert torch.equal(out, row[:,keep].amax(1) if keep.any() else torch.zeros(4))

def test_missing_values_leave_gradients_finite():
    enc,x = make_model('ts2vec').backbone.train(),torch.randn(4, 1, 20)
    x[0,0,5:8],x[1],x[2,0,10:] = torch.nan,torch.nan,torch.nan
    enc(x).sum().backward()
    assert all(o.grad.isfinite().all() for n,o in enc.named_parameters() if o.grad is not None)


# Heads
@pytest.mark.parametrize('n_layers,bias', [(1,False), (1,True), (2,False), (3,True)])
def test_each_task_has_a_classifier_of_its_own(n_layers, bias):
    head,z = MultiHead(make_space(), 6, n_layers, bias).double(),torch.randn(4, 6, dtype=torch.double)
    out = head(z)
    assert out.shape == (4,5) and head.weight.shape == (5,6)
    for k,name in enumerate(head.space.names):
        block,h = head.space.block(name),z
        for layer in head.hidden: h = F.gelu(F.linear(h, layer.weight[k], layer.bias[k]))
        torch.testing.assert_close(out[:,block], F.linear(h, head.weight[block], head.last.bias[block] if bias else None))
        used = torch.autograd.grad(out[:,block].sum(), list(head.parameters()), retain_graph=True)
        other = [g[1-k] if len(g) == 2 else g[[i for i in range(5) if i not in range(5)[block]]] for g in used]
        assert all((g == 0).all() for g in other), 'a classifier answers to the loss of another task'

@pytest.mark.parametrize('smoothing', [0.,.2])
@pytest.mark.parametrize('reduction', ['mean','sum','none'])
def test_loss_is_cross_entropy_over_the_labels_of_the_task(reduction, smoothing):
    space,logits = make_space(),torch.randn(20, 5)*3
    for name in space.names:
        block = space.block(name)
        y = torch.randint(block.start, block.stop, (20,))
        got = MultiTaskLoss(space, reduction, smoothing)(logits, y)
        torch.testing.assert_close(got, F.cross_entropy(logits[:,block], y-block.start, reduction=reduction, label_smoothing=smoothing))
        assert (space.argmax(logits, y) == logits[:,block].argmax(1)+block.start).all()


# Embeddings
@pytest.mark.parametrize('encoder', ENCODERS)
def test_embeddings_do_not_depend_on_the_batches(encoder):
    model = make_model(encoder)
    want = model.embed(X, task='gait')
    assert want.shape == (9,16) and want.dtype == np.float32
    for steps in (1, 30, 31, 95, 269, 270, 2**20):
        np.testing.assert_allclose(model.embed(X, task='gait', chunk=steps), want, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(model.embed(X, task='gait', chunk=95), model.embed(X, task='gait', chunk=95))

@pytest.mark.parametrize('n,steps', [(1,64), (7,64), (30,64), (64,64), (65,64), (200,64)])
def test_batches_hold_no_more_steps_than_allowed(n, steps):
    model,seen = make_model('ts2vec'),[]
    model.backbone.register_forward_pre_hook(lambda m, args: seen.append(args[0].shape))
    model.embed(np.random.default_rng(0).normal(size=(10,1,n)), task='gait', chunk=steps)
    assert sum(o[0] for o in seen) == 10 and {o[2] for o in seen} == {n}
    assert all(o[0] == 1 or o[0]*o[2] <= steps for o in seen)
    assert len(seen) == -(-10//max(1, steps//n))

def test_embeddings_leave_the_model_as_it_was():
    model = make_model('ts2vec').train()
    a,b = model.embed(X, 'gait'),model.embed(X, 'gait')
    assert model.training and model.backbone.training and (a == b).all()
    assert all(o.grad is None for o in model.parameters())

def test_series_are_scaled_by_the_task_they_are_of():
    model = make_model('ts2vec')
    spec = model.space.specs[0]
    raw = lambda x: model.backbone(torch.tensor(x, dtype=torch.float32)).detach().numpy()
    np.testing.assert_allclose(model.embed(X, task='gait'), raw((X-spec.mean[0])/spec.std[0]), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match='name one of: gait, alarm.*make a `Task` of them'): model.embed(X)
    t = Task('new', X, [0,1,0]*3, splits=(range(6), range(6,9)))
    np.testing.assert_allclose(model.embed(t), raw((X-X[:6].mean())/X[:6].std()), rtol=1e-4, atol=1e-5)

def test_probabilities_are_a_distribution_over_the_labels_of_the_task():
    model = make_model('ts2vec')
    labels,probs = model.predict(X, 'gait')
    z = torch.tensor(model.embed(X, task='gait')).double()@model.head.weight[:3].double().T
    np.testing.assert_allclose(probs, z.softmax(1).detach(), rtol=1e-4)
    assert labels.tolist() == [('sit','walk','run')[i] for i in probs.argmax(1)]


# A mixture of experts
def test_experts_train_predict_and_are_kept(tmp_path):
    learn = quiet_learner(arch=MMoEEncoder, arch_config=dict(experts=2, hidden=8, feats=16, depth=3))
    gates = learn.model.backbone.gates.weight.clone()
    learn.fit(2, 1e-2)
    assert not torch.equal(gates, learn.model.backbone.gates.weight)
    t = synth_tasks()[1]
    z = learn.embed(t.X, 'machine')
    assert z.shape == (len(t.X),16) and not np.allclose(z, learn.embed(t.X, 'waves'))
    np.testing.assert_array_equal(z, learn.embed(t))
    with pytest.raises(ValueError, match='name one of: waves, machine'): learn.embed(t.X)
    assert learn.svm_eval().shape[0] == 3 and len(learn.validate_tasks()) == 3 and learn.relevance().shape == (5,5)
    model = MTCSModel.from_pretrained(learn.save_pretrained(tmp_path))
    np.testing.assert_array_equal(model.predict(t.X, 'machine')[1], learn.predict(t.X, 'machine')[1])

def test_each_head_reads_its_own_mixture():
    learn = quiet_learner(arch=MMoEEncoder, arch_config=dict(experts=2, hidden=8, feats=16, depth=3))
    model,x = learn.model.eval(),torch.randn(4,1,30)
    z,logits = model.backbone(x),model(x)
    for k,name in enumerate(model.space.names):
        block = model.space.block(name)
        torch.testing.assert_close(logits[:,block], z[:,k]@model.head.weight[block].T)
