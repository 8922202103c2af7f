"""Damages saved models in many ways, as somebody would who wants them to do harm, and watches what reading them does.

    python fuzz_saved_models.py COUNT SEED: prints a JSON object of what happened, and lists what should not have."""
import json
import random
import resource
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load, save
from tsai.models.FCNPlus import FCNPlus
from tsai.models.RNNPlus import LSTMPlus
from tsai.models.TSTPlus import TSTPlus
from tsai.models.XCMPlus import XCMPlus
from tsai_mtcs.archs import ARCHS, find_arch
from tsai_mtcs.arch_encoder import ArchEncoder
from tsai_mtcs.encoders import MMoEEncoder, TS2VecEncoder
from tsai_mtcs.heads import MultiHead
from tsai_mtcs.kernels import KernelEncoder
from tsai_mtcs.labels import LabelSpace
from tsai_mtcs.model import MTCSModel
from tsai_mtcs.pretrained import digest
from tsai_mtcs.tasks import TaskSpec

SHAPES = [(1,20),(3,20)]
def kernels():
    "A kernel encoder as if it had seen rows"
    encoder = KernelEncoder((1,3), 'minirocket', n_kernels=84)
    encoder.std.fill_(1.)
    return encoder

ENCODERS = [lambda: TS2VecEncoder((1,3), hidden=4, feats=8, depth=2),
            lambda: MMoEEncoder((1,3), tasks=2, experts=2, hidden=4, feats=8, depth=1),
            lambda: ArchEncoder(FCNPlus, SHAPES, layers=[4,4,8], kss=[7,5,3]),
            lambda: ArchEncoder(LSTMPlus, SHAPES, hidden_size=8, n_layers=2, bidirectional=True),
            lambda: ArchEncoder(TSTPlus, SHAPES, d_model=8, n_heads=2, n_layers=1, d_ff=8), lambda: ArchEncoder(XCMPlus, SHAPES, nf=4),
            kernels]
HARMFUL = ['tsai.models.FCN.exec_local','tsai.models.FCN.untar_data','tsai.models.FCN.load_learner','tsai.models.FCN.save_pickle',
           'tsai.models.utils.build_ts_model',
           'tsai.models.FCN.import_file_as_module','builtins.eval','os.system','torch.load','tsai.models.FCNPlus.nn','tsai.models.FCN.FCN',
           'tsai.models.all.FCNPlus',
           'tsai.models.HydraPlus.HydraPlus','tsai.models.TSSequencerPlus.TSSequencerPlus','tsai.models.TabModel.TabModel','FCNPlus',
           'MTCSModel','__import__','TS2VecEncoder',
           'MMoEEncoder', *(f'tsai.models.{o.module}.{name}' for name,o in ARCHS.items())]
ARGUMENTS = ['pretrained','weights_path','dls','init','device','verbose','arch_config','custom_head','act','act_kwargs','norm',
             'feature_extractor','cut','d','patch_len',
             'coord','c_in','c_out','seq_len','n_layers','n_heads','experts','depth','hidden','tasks','shapes','vars','layers','nf','self',
             '__class__','']
VALUES = [None, True, False, 0, -1, 1, 2, 3, 20, 64, 65, 10**4, 10**7, 2**31, 2**63, 10**30, 10**3000, -0., .5, 1., 1.5, -1e308, 1e-320, '',
          'x', '1', 'a'*10**5, '\0',
          '../../etc/passwd', 'http://127.0.0.1:9/', [], [[]], {}, {'tuple':[1]}, {'tuple':None}, [1]*10**5, [[1,10**7]], [['print(1)',4]],
          [1,3], [3,1], [1.,1.],
          [0.,1.,2.], ['a','a'], [None], {'a':{}}, [[[[[[[[1]]]]]]]], *HARMFUL]
TRAPS = ['NaN','Infinity','-Infinity','1e999','['*10**5+']'*10**5,'{"a":'*5000+'1'+'}'*5000,'1'+'0'*5000,'{"a":1,"a":2}',r'"\ud800"','',
         'nul','\x00','"']


# The file as whoever attacks would write it
def write(text, state, **meta): return save(state, metadata=dict(format='pt', config=text, digest=digest(text, state), **meta))

def places(o, path=()):
    "Every place in a description"
    yield path
    if isinstance(o, (dict,list)):
        for k,v in (o.items() if isinstance(o, dict) else enumerate(o)): yield from places(v, (*path,k))

def at(o, path):
    for k in path: o = o[k]
    return o

def change_field(rng, config, state):
    path = rng.choice([o for o in places(config) if o])
    at(config, path[:-1])[path[-1]] = rng.choice(VALUES)
    return write(json.dumps(config), state)

def change_encoder(rng, config, state):
    encoder = config['encoder']
    for _ in range(rng.choice((1,1,2))): encoder[rng.choice(ARGUMENTS+[*encoder])] = rng.choice(VALUES)
    if rng.random() < .5: encoder['arch'] = rng.choice(HARMFUL)
    return write(json.dumps(config), state)

def rename_or_drop(rng, config, state):
    path = rng.choice([o for o in places(config) if o])
    parent = at(config, path[:-1])
    value = parent.pop(path[-1])
    if isinstance(parent, dict) and rng.random() < .5: parent[rng.choice(ARGUMENTS)] = value
    return write(json.dumps(config), state)

def repeat(rng, config, state):
    path = rng.choice([o for o in places(config) if o and isinstance(at(config, o[:-1]), list)])
    at(config, path[:-1]).extend([at(config, path)]*rng.choice((1,2,1000)))
    return write(json.dumps(config), state)

def trap(rng, config, state):
    path = rng.choice([o for o in places(config)])
    if not path: return write(rng.choice(TRAPS), state)
    at(config, path[:-1])[path[-1]] = '@'
    return write(json.dumps(config).replace('"@"', rng.choice(TRAPS)), state)

def change_tensor(rng, config, state):
    name = rng.choice([*state])
    o = state[name]
    change = rng.choice(['nan','inf','new','type','flat','turn','grow','empty','drop','rename','more'])
    if change in ('nan','inf'): state[name] = torch.full_like(o, float(change)) if o.is_floating_point() else o
    elif change == 'new': state[name] = torch.rand(o.shape).to(o.dtype) # a variance is not negative
    elif change == 'type': state[name] = o.to(rng.choice([torch.float16,torch.float64,torch.int8,torch.bfloat16,torch.bool]))
    elif change == 'flat': state[name] = o.flatten().clone()
    elif change == 'turn': state[name] = o.transpose(0, -1).contiguous() if o.ndim else o
    elif change == 'grow': state[name] = torch.cat([o.reshape(1, -1)]*rng.choice((2,100)))
    elif change == 'empty': state[name] = torch.zeros(0)
    elif change == 'more': state[rng.choice(['x','backbone.more','head.last.bias','__metadata_','a'*1000])] = o.clone()
    else:
        del state[name]
        if change == 'rename': state[name[::-1]] = o
    return write(json.dumps(config), state)

def change_metadata(rng, config, state):
    text = json.dumps(config)
    meta = dict(format='pt', config=text, digest=digest(text, state))
    key = rng.choice([*meta])
    if rng.random() < .5: meta[key] = rng.choice(['','x','0'*64,text[:-1],text*2])
    else: del meta[key]
    return save(state, metadata=meta)

def change_header(rng, config, state):
    "Another length, or other types, shapes and places than the tensors have"
    content = write(json.dumps(config), state)
    n = int.from_bytes(content[:8], 'little')
    if rng.random() < .3: return rng.choice([0, 1, n-1, n+1, 2**23, 2**24, 2**31, 2**63, 2**64-1]).to_bytes(8, 'little')+content[8:]
    header = json.loads(content[8:8+n])
    o = header[rng.choice([k for k in header if k != '__metadata__'])]
    key = rng.choice([*o])
    o[key] = rng.choice([[0,2**40], [2**40,2**41], [8,4], [-1,3], [1,10**7], [2**32,2**32], [], 'F64', 'F8', 'C64', None, 4])
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, 'little')+text+content[8+n:]

def change_bytes(rng, config, state):
    "Damage without another digest"
    content = bytearray(write(json.dumps(config), state))
    how = rng.choice(['flip','flip','flip','cut','more','zeros','noise','start'])
    if how == 'flip': content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    elif how == 'cut': del content[rng.randrange(len(content)):]
    elif how == 'more': content += rng.randbytes(rng.choice((1,8,1000)))
    elif how == 'zeros':
        i = rng.randrange(len(content))
        content[i:i+100] = bytes(len(content[i:i+100]))
    elif how == 'noise': content = rng.randbytes(rng.choice((0,7,8,9,1000)))
    else: content = content[rng.randrange(16):]
    return bytes(content)

MUTATIONS = [*[change_field]*5, *[change_encoder]*4, *[change_tensor]*3, *[trap]*2, *[change_header]*2, *[change_bytes]*2,
             rename_or_drop, repeat, change_metadata]


# What it does
WATCHED = ('open','import','exec','compile','socket.','subprocess.','os.','pickle.','marshal.','shutil.','ctypes.','urllib.','webbrowser.',
           'pty.','ftplib.','http.')
HARMLESS = ('os.listdir','os.scandir')

class Watch:
    "Everything that Python says it does while a model is read"
    def __init__(self):
        self.seen,self.path = None,None
        sys.addaudithook(self.hook)

    def hook(self, event, args):
        if self.seen is None or not event.startswith(WATCHED) or event in HARMLESS: return
        if event == 'open' and str(args[0]) == self.path and args[1] in ('r','rb'): return
        self.seen.append(f'{event} {str(args[0])[:80]}')

    def notices(self):
        self.seen = []
        exec(compile('open(__file__).close()', '', 'exec'), dict(__file__=__file__))
        found,self.seen = self.seen,None
        return {o.split()[0] for o in found} == {'compile','exec','open'}

    def read(self, folder):
        self.path,self.seen = str(folder/'model.safetensors'),[]
        start = time.perf_counter()
        try: return MTCSModel.from_pretrained(folder)
        except Exception as e: return e
        finally: self.took,self.found,self.seen = time.perf_counter()-start,self.seen,None

def is_itself(model, content):
    "Whether a model has the numbers, labels and settings that the file has"
    n = int.from_bytes(content[:8], 'little')
    config,state = json.loads(json.loads(content[8:8+n])['__metadata__']['config']),load(content)
    untuple = lambda o: tuple(map(untuple, o['tuple'])) if isinstance(o, dict) else o
    mine = model.state_dict()
    same = mine.keys() == state.keys() and all(torch.equal(mine[k], state[k]) and mine[k].dtype == state[k].dtype for k in state)
    specs = [TaskSpec(**{**o, 'labels':tuple(map(untuple, o['labels'])), 'mean':tuple(o['mean']), 'std':tuple(o['std'])})
             for o in config['tasks']]
    settings = {k: v for k,v in config['encoder'].items() if k != 'vars'}
    return (same and specs == list(model.space.specs) and settings.items() <= model.backbone.config.items()
            and config['head'] == model.head.config)

def answers(model):
    "Whether it predicts, or says why it can't, for every task"
    for spec in model.space.specs:
        x = np.random.default_rng(0).normal(size=(2,spec.vars,20)).astype(np.float32)
        try: probs = model.predict(x, spec.name)[1]
        except ValueError: continue
        if not np.isfinite(probs).all() or probs.shape != (2,len(spec.labels)): return False
    return True

def make_models():
    torch.manual_seed(0)
    space = LabelSpace([TaskSpec('gait', ('sit','walk','run'), 1, 20, (.1,), (1/3,)),
                        TaskSpec('alarm', ((0,'off'),(1,'on')), 3, 20, (1.,2.,3.), (.5,.7,.9))])
    for make in ENCODERS:
        encoder = make()
        yield MTCSModel(encoder, MultiHead(space, encoder.feats, n_layers=2, bias=True)).eval()

def main(count, seed):
    warnings.simplefilter('ignore')
    for name in ARCHS: find_arch(name) # so that nothing remains to import
    folder,rng,bad,outcomes,slowest = Path(tempfile.mkdtemp())/'m',random.Random(seed),[],Counter(),0.
    watch,path = Watch(),folder/'model.safetensors'
    assert watch.notices(), 'the watch sees nothing'
    originals = []
    for model in make_models():
        model.save_pretrained(folder)
        originals.append(path.read_bytes())
        assert is_itself(watch.read(folder), originals[-1]) # the second reading imports nothing any more
        assert is_itself(watch.read(folder), originals[-1]) and not watch.found, watch.found
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for i in range(count):
        content = rng.choice(originals)
        n = int.from_bytes(content[:8], 'little')
        config,state = json.loads(json.loads(content[8:8+n])['__metadata__']['config']),load(content)
        mutate = rng.choice(MUTATIONS)
        content = mutate(rng, config, state)
        path.write_bytes(content)
        got = watch.read(folder)
        slowest = max(slowest, watch.took)
        said = isinstance(got, ValueError) and str(path) in str(got)
        outcomes['refused' if said else 'loaded' if isinstance(got, MTCSModel) else 'other'] += 1
        problem = (watch.found or (watch.took > 5 and f'{watch.took:.1f} s')
                   or (isinstance(got, Exception) and not said and repr(got)[:200])
                   or (isinstance(got, MTCSModel) and not (is_itself(got, content) and answers(got)) and 'other numbers than the file has'))
        if problem: bad.append(f'{i} {mutate.__name__}: {problem}')
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss-before)/2**20
    print(json.dumps(dict(outcomes, slowest=round(slowest, 3), grown_gb=round(grown, 3), bad=bad[:20], bad_count=len(bad))))

if __name__ == '__main__': main(int(sys.argv[1]), int(sys.argv[2]))
