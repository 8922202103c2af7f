"A saved model is whole, is what was saved, and can't do harm."
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import quiet_learner, same
from safetensors.torch import load, load_file, save
from torch import nn
from tsai.models.FCNPlus import FCNPlus
from tsai.models.HydraMultiRocketPlus import HydraMultiRocketPlus
from tsai.models.HydraPlus import HydraPlus
from tsai.models.XCMPlus import XCMPlus
from tsai_mtcs.archs import ARCHS, check_config, find_arch
from tsai_mtcs.arch_encoder import ArchEncoder
from tsai_mtcs.encoders import TS2VecEncoder, encoder_from_config
from tsai_mtcs.files import write_whole
from tsai_mtcs.heads import MultiHead
from tsai_mtcs.labels import LabelSpace
from tsai_mtcs.model import MTCSModel
from tsai_mtcs.pretrained import digest
from tsai_mtcs.tasks import Task, TaskSpec, TaskWarning

SPACE = LabelSpace([TaskSpec('gait', ('sit','walk','run'), 1, 20, (.1,), (1/3,)), TaskSpec('alarm', (0,1), 3, 20, (1.,2.,3.), (.5,.7,.9))])
X = np.random.default_rng(0).normal(1, 2, (9,1,20)).astype(np.float32)

def make_model(encoder=None, seed=0):
    torch.manual_seed(seed)
    encoder = encoder or TS2VecEncoder((1,3), hidden=8, feats=16, depth=2)
    return MTCSModel(encoder, MultiHead(SPACE, encoder.feats)).eval()

def rewrite(folder, change):
    "The file as whoever attacks would write it: changed, with the digest of what it holds now"
    file = folder/'model.safetensors'
    content = file.read_bytes()
    config = json.loads(json.loads(content[8:8+int.from_bytes(content[:8], 'little')])['__metadata__']['config'])
    state = load(content)
    change(config, state)
    text = json.dumps(config)
    file.write_bytes(save(state, metadata=dict(config=text, digest=digest(text, state))))

def refused(folder, match='not a whole saved model'):
    with pytest.raises(ValueError, match=match) as e: MTCSModel.from_pretrained(folder)
    assert str(folder/'model.safetensors') in str(e.value)


# Nothing is executed
ELSEWHERE = ['os.system','builtins.eval','tsai_mtcs.model.MTCSModel','tsai.models.FCN.exec_local','tsai.models.FCN.untar_data',
             'tsai.models.FCN.load_learner',
             'tsai.models.FCN.save_pickle','tsai.models.FCN.import_file_as_module','tsai.models.utils.no_such','tsai.models.no_such.Net',
             'tsai.models.all.FCNPlus',
             'tsai.models.HydraPlus.HydraPlus','FCNPlus','',None,['tsai.models.FCNPlus.FCNPlus'],{}]

@pytest.mark.parametrize('arch', ELSEWHERE, ids=str)
def test_architectures_from_elsewhere_are_refused(tmp_path, arch):
    folder,sign = make_model(ArchEncoder(FCNPlus, [(1,20),(3,20)], layers=[4,4,4])).save_pretrained(tmp_path/'m'),tmp_path/'executed'
    rewrite(folder, lambda config,_: config['encoder'].update(arch=arch, shapes=[[f'open({str(sign)!r}, "w")',4]]))
    refused(folder, "a file can't ask for the encoder")
    assert not sign.exists()

@pytest.mark.parametrize('arguments', [dict(pretrained=True), dict(weights_path='x'), dict(pretrained=True, weights_path='x'), dict(dls=1),
                                       dict(init='x'), dict(device='cuda'),
                                       dict(verbose=True), dict(custom_head='x'), dict(act='x'), dict(layers=[4,4,10**9]),
                                       dict(layers=[4,4,True]), dict(layers=4)], ids=str)
def test_only_sizes_are_taken(tmp_path, arguments):
    folder = make_model(ArchEncoder(FCNPlus, [(1,20),(3,20)], layers=[4,4,4])).save_pretrained(tmp_path)
    rewrite(folder, lambda config,_: config['encoder'].update(arguments))
    refused(folder, "can't set|is not a size")

@pytest.mark.parametrize('change', [dict(arch='MMoEEncoder', tasks=2, experts=10000),
                                    dict(arch='MMoEEncoder', tasks=2, experts=128, depth=24), dict(depth=10**7), dict(depth=24),
    dict(hidden=2**14, feats=2**14), dict(arch='tsai.models.LSTMPlus.LSTMPlus'), dict(vars=[1,10**7]), dict(vars=list(range(1, 3000)))],
    ids=lambda o: str(o)[:40])
def test_sizes_are_not_believed(tmp_path, change):
    folder = make_model().save_pretrained(tmp_path)
    rewrite(folder, lambda config,_: config['encoder'].update(change))
    before = torch.get_rng_state()
    refused(folder)
    assert torch.equal(before, torch.get_rng_state()), 'weights were drawn'

@pytest.mark.parametrize('shapes', [[[1,10**7],[3,20]], [[1,10**8]], [[10**6,20]], [[1,20]], []])
def test_shapes_are_not_believed(tmp_path, shapes):
    folder = make_model(ArchEncoder(find_arch('TSTPlus'), [(1,20),(3,20)], d_model=8, n_heads=2, n_layers=1)).save_pretrained(tmp_path)
    rewrite(folder, lambda config,_: config['encoder'].update(shapes=shapes))
    refused(folder)

@pytest.mark.parametrize('text', ['NaN','{"a":NaN}','['*10**6,'{"format":2,"format":2}','1'+'0'*10**4,'','[]','null'])
def test_json_traps(tmp_path, text):
    folder = make_model().save_pretrained(tmp_path)
    state = load_file(folder/'model.safetensors')
    (folder/'model.safetensors').write_bytes(save(state, metadata=dict(config=text, digest=digest(text, state))))
    refused(folder)

SPECS = [('std',[0.]), ('std',[-1.]), ('std',[]), ('mean',[0.,0.]), ('mean',[1]), ('mean','x'), ('labels',[]), ('labels',['a','a']),
         ('labels',[None,'a','b']),
         ('labels',[['a'],'b','c']), ('vars',2), ('vars',True), ('len',0), ('len',-1), ('name',''), ('name','alarm'), ('name',1),
         ('more',1)]
@pytest.mark.parametrize('key,value', SPECS, ids=str)
def test_tasks_are_not_believed(tmp_path, key, value):
    folder = make_model().save_pretrained(tmp_path)
    rewrite(folder, lambda config,_: config['tasks'][0].update({key: value}))
    refused(folder)

@pytest.mark.parametrize('format', [-1, 0, 1, 3, None, '2', True])
def test_other_formats(tmp_path, format):
    folder = make_model().save_pretrained(tmp_path)
    rewrite(folder, lambda config,_: config.update(format=format))
    refused(folder, 'found format')

@pytest.mark.parametrize('kind', ['folder','fifo','link','nothing'])
def test_what_is_no_file(tmp_path, kind):
    file = tmp_path/'m/model.safetensors'
    file.parent.mkdir()
    if kind == 'folder': file.mkdir()
    if kind == 'fifo': os.mkfifo(file)
    if kind == 'link': file.symlink_to(make_model().save_pretrained(tmp_path/'other')/'model.safetensors')
    with pytest.raises(FileNotFoundError if kind == 'nothing' else ValueError, match=str(tmp_path/'m')):
        MTCSModel.from_pretrained(tmp_path/'m')

def fuzz(count, seed):
    out = subprocess.run([sys.executable, '-W', 'ignore', Path(__file__).with_name('fuzz_saved_models.py'), str(count), str(seed)],
                         check=True, capture_output=True, text=True).stdout
    found = json.loads(out.splitlines()[-1])
    assert not found['bad_count'] and not found.get('other') and found['refused']+found['loaded'] == count, found
    assert found['slowest'] < 5 and found['grown_gb'] < 1 and found['loaded'] > count/50 and found['refused'] > count/2

def test_no_mutation_does_harm(): fuzz(100, 0)

@pytest.mark.slow
@pytest.mark.parametrize('seed', range(1, 4))
def test_no_mutation_does_harm_at_length(seed): fuzz(2500, seed)


# Damage is found
def test_every_flipped_bit_of_the_weights_is_found(tmp_path):
    folder = make_model().save_pretrained(tmp_path)
    file,rng = folder/'model.safetensors',np.random.default_rng(0)
    content = file.read_bytes()
    start = 8+int.from_bytes(content[:8], 'little')
    for i in rng.integers(start, len(content), 40):
        damaged = bytearray(content)
        damaged[i] ^= 1 << int(rng.integers(8))
        file.write_bytes(damaged)
        refused(folder, 'the digest is not that of its content')

@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_weights_that_are_not_finite(tmp_path, value):
    folder = make_model().save_pretrained(tmp_path/'m')
    rewrite(folder, lambda _,state: state['head.last.weight'].fill_(value))
    refused(folder, 'NaN or infinity in head.last.weight')
    model = make_model()
    model.head.last.weight.data[0,0] = value
    with pytest.raises(ValueError, match='NaN or infinity in head.last.weight'): model.save_pretrained(tmp_path/'n')
    assert not (tmp_path/'n').exists()

@pytest.mark.parametrize('change', [lambda s: s.pop('head.last.weight'), lambda s: s.update(more=torch.zeros(1)),
                                    lambda s: s.update({'head.last.weight':torch.zeros(5,17)}),
                                    lambda s: s.update({'head.last.weight':torch.zeros(5,16).double()})],
                                    ids=['missing','more','shape','type'])
def test_other_tensors_than_described(tmp_path, change):
    folder = make_model().save_pretrained(tmp_path)
    rewrite(folder, lambda _,state: change(state))
    refused(folder, 'is missing|belongs to no part|expected head.last.weight as')

def test_weights_of_another_model_are_refused(tmp_path):
    a,b = (make_model(seed=i).save_pretrained(tmp_path/str(i)) for i in range(2))
    content = (a/'model.safetensors').read_bytes()
    size = 8+int.from_bytes(content[:8], 'little')
    (a/'model.safetensors').write_bytes(content[:size]+(b/'model.safetensors').read_bytes()[size:])
    refused(a, 'digest')

KILLED = '''
import os, signal, sys
from tsai_mtcs.files import write_whole
with write_whole(sys.argv[1]) as f:
    f.write(b'half')
    f.flush()
    os.kill(os.getpid(), signal.SIGKILL)
'''
def test_a_killed_process_leaves_the_old_file_and_the_next_clears_up(tmp_path):
    file = tmp_path/'model.safetensors'
    file.write_bytes(b'whole')
    subprocess.run([sys.executable, '-c', KILLED, file], capture_output=True)
    assert file.read_bytes() == b'whole' and len(list(tmp_path.iterdir())) == 2
    other = tmp_path/f'.model.safetensors.elsewhere.{2**22+1}-1.part' # of another machine, where the process may run
    other.touch()
    with write_whole(file) as f: f.write(b'new')
    assert {o.name for o in tmp_path.iterdir()} == {file.name, other.name} and file.read_bytes() == b'new'


# What is saved is what is loaded
SMALL = dict(FCNPlus=dict(layers=[4,4,8]), InceptionTimePlus=dict(nf=2, depth=3), ResNetPlus=dict(nf=4),
             TSTPlus=dict(d_model=8, n_heads=2, d_ff=8), XCMPlus=dict(nf=4),
             XResNet1dPlus=dict(expansion=1, layers=[1,1,1,1]), XceptionTimePlus=dict(nf=2))
def small(name): return SMALL.get(name, {} if 'ConvTran' in name else dict(hidden_size=16))

@pytest.mark.parametrize('name', ARCHS)
def test_every_listed_architecture_is_kept(tmp_path, name):
    model = make_model(ArchEncoder(find_arch(name), [(1,20),(3,20)], **small(name)))
    before = torch.get_rng_state()
    twin = MTCSModel.from_pretrained(model.save_pretrained(tmp_path))
    assert torch.equal(before, torch.get_rng_state())
    assert same(model.state_dict(), twin.state_dict()) and not any(o.is_meta for o in [*twin.parameters(), *twin.buffers()])
    assert (twin.backbone.feats, twin.backbone.fixed_len) == (model.backbone.feats, model.backbone.fixed_len)
    np.testing.assert_array_equal(model.predict(X, 'gait')[1], twin.predict(X, 'gait')[1])
    twin(torch.randn(2,3,20)).sum().backward()

FULL = dict(ConvTranPlus=dict(d_model=16, dim_ff=16, encoder_dropout=.1),
            FCNPlus=dict(layers=[8]*3, kss=[7,5,3], separable=True, zero_norm=True, residual=True),
    InceptionTimePlus=dict(nf=4, depth=3, ks=[7,5,3], bottleneck=True, residual=True, separable=True, conv_dropout=.1, zero_norm=True),
    ResNetPlus=dict(nf=8, ks=[7,5,3], separable=True, zero_norm=True), XCMPlus=dict(nf=8, window_perc=.5),
    XResNet1dPlus=dict(expansion=1, layers=[1]*4, ks=3),
    TSTPlus=dict(max_seq_len=20, n_layers=2, d_model=16, n_heads=2, d_k=4, d_v=4, d_ff=16, attn_dropout=.1, dropout=.1, res_attention=False,
                 pre_norm=True, learn_pe=False),
    XceptionTimePlus=dict(nf=4, ks=20, bottleneck=False, residual=False, zero_norm=True),
    RNNPlus=dict(hidden_size=[8,8], n_layers=2, bias=False, rnn_dropout=.1, bidirectional=True),
    RNNAttentionPlus=dict(hidden_size=8, rnn_layers=2, bias=True, rnn_dropout=.1, bidirectional=True, encoder_layers=2, n_heads=2, d_k=None,
                          d_v=None, d_ff=8, encoder_dropout=.1),
    RNN_FCNPlus=dict(hidden_size=8, rnn_layers=2, bias=True, cell_dropout=.1, rnn_dropout=.1, bidirectional=True, conv_layers=[8]*3,
                     kss=[7,5,3], se=4))
@pytest.mark.parametrize('name', FULL)
def test_every_listed_size_is_one(name):
    assert set(FULL[name]) == set(ARCHS[name].sizes)
    encoder = ArchEncoder(find_arch(name), [(1,30),(3,30)], **FULL[name])
    assert check_config(json.loads(json.dumps(encoder.config)))[0] == name
    with torch.device('meta'): twin = encoder_from_config(encoder.config)
    assert (twin.feats, twin.fixed_len) == (encoder.feats, encoder.fixed_len)
    assert {k: v.shape for k,v in twin.state_dict().items()} == {k: v.shape for k,v in encoder.state_dict().items()}

def test_tied_weights_stay_tied(tmp_path):
    model = make_model(ArchEncoder(XCMPlus, [(1,20),(3,20)], nf=4))
    twin = MTCSModel.from_pretrained(model.save_pretrained(tmp_path/'m'))
    count = lambda o: len(list(o.parameters()))
    assert count(twin) == count(model) < len(list(model.named_parameters(remove_duplicate=False)))
    rewrite(tmp_path/'m', lambda _,state: state['backbone.backbone.conv1d.0.weight'].add_(1))
    refused(tmp_path/'m', 'with which it is one')

@pytest.mark.parametrize('arch,sizes', [(HydraPlus, dict(g=4)), (HydraMultiRocketPlus, dict(num_features=1000))])
def test_state_outside_the_state_dict_is_found(tmp_path, arch, sizes):
    model = make_model(ArchEncoder(arch, [(1,20),(3,20)], **sizes))
    before = torch.get_rng_state()
    with pytest.raises(ValueError, match=f'{arch.__name__} keeps state outside its `state_dict`.*export'): model.check_rebuilds()
    with pytest.raises(ValueError, match="a file can't ask for the encoder.*export"): model.save_pretrained(tmp_path/'m')
    assert not (tmp_path/'m').exists() and torch.equal(before, torch.get_rng_state())

class Counting(nn.Module):
    feats = 4
    def __init__(self, seen=0):
        super().__init__()
        self.config,self.lin,self.seen = dict(seen=seen),nn.Linear(1, 4),seen
    def forward(self, x): return self.lin(x.mean((1,2))[:,None])*(1+self.seen)

def test_an_encoder_of_ones_own():
    model = make_model(Counting())
    model.check_rebuilds()
    model.backbone.seen = 3
    with pytest.raises(ValueError, match='Counting keeps state outside'): model.check_rebuilds()
    del model.backbone.config
    model.check_rebuilds()

def test_a_model_in_double_precision_says_so(tmp_path):
    with pytest.raises(ValueError, match='torch.float32.*found torch.float64'): make_model().double().save_pretrained(tmp_path)


# Several at once
def test_threads_get_what_one_gets():
    model = make_model(TS2VecEncoder((1,3), hidden=8, feats=16, depth=2, mask='binomial')).train()
    model.head.eval() # a part of the model that is in a mode of its own stays there
    want,got = model.predict(X, 'gait')[1],[]
    def work():
        for _ in range(15): got.append((model.predict(X, 'gait')[1] == want).all() and np.array_equal(model.embed(X, 'gait'), z))
    z = model.embed(X, 'gait')
    threads = [threading.Thread(target=work) for _ in range(6)]
    for o in threads: o.start()
    for o in threads: o.join()
    assert len(got) == 90 and all(got) and model.training and model.backbone.training and not model.head.training

def test_a_row_alone_embeds_as_among_others():
    learn = quiet_learner()
    z = learn.embed(X*3, 'waves')
    np.testing.assert_allclose(learn.embed(X[2:3]*3, 'waves'), z[2:3], rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match='name one of: waves, machine'): learn.embed(X)
    one = MTCSModel(TS2VecEncoder(hidden=8, feats=16, depth=2), MultiHead(LabelSpace(SPACE.specs[:1]), 16))
    np.testing.assert_array_equal(one.embed(X), one.embed(X, 'gait'))
    new = Task('new', X*3, [0,1,0]*3, splits=(range(6), range(6, 9)))
    np.testing.assert_allclose(learn.embed(new), learn.model.in_batches(learn.model.embedding, new.spec.scale(new.X)), rtol=1e-5)

@pytest.mark.parametrize('n,warns', [(9, True), (10, False), (20, False), (40, False), (41, True)])
def test_series_of_another_length_are_told(recwarn, n, warns):
    make_model().predict(np.ones((2,1,n)), 'gait')
    told = [o for o in recwarn if o.category is TaskWarning]
    assert len(told) == warns and all(f'up to 20 steps, these have up to {n}' in str(o.message) for o in told)
