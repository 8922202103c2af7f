"Which batches CUDA graphs are recorded and replayed for, with stand-ins for CUDA; what they compute is in test_cuda.py."
from contextlib import nullcontext

import pytest
import torch
from fastai.callback.core import Callback
from fastai.callback.hook import ActivationStats
from helpers import quiet_learner
from tsai_mtcs.callback import graphs
from tsai_mtcs.callback.graphs import CUDAGraphs


class OnGPU(torch.Tensor):
    "A tensor that says it is on a GPU"
    @property
    def is_cuda(self): return True

class ToGPU(Callback):
    order = 15 # after fastai's cast
    def before_batch(self): self.learn.xb = (self.xb[0].as_subclass(OnGPU),)

class StandIn:
    "A graph that computes nothing when it is replayed, and a stream"
    def __init__(self, *args): pass
    def capture_begin(self, **kwargs): pass
    def capture_end(self): pass
    def replay(self): pass
    def wait_stream(self, other): pass

@pytest.fixture
def recorded(monkeypatch):
    "The shapes that are recorded"
    shapes = []
    class Kept(graphs.Recording):
        def __init__(self, encoder, x, *args):
            super().__init__(encoder, x, *args)
            shapes.append(tuple(x.shape))
    def nothing(*args): return None
    instead = dict(Stream=StandIn, CUDAGraph=StandIn, current_stream=StandIn, stream=lambda o: nullcontext(), graph_pool_handle=tuple,
                   get_rng_state=nothing, set_rng_state=nothing)
    for name,o in instead.items(): monkeypatch.setattr(torch.cuda, name, o)
    monkeypatch.setattr(graphs, 'Recording', Kept)
    return shapes

def learner(*cbs, after=1, **kwargs): return quiet_learner(cbs=[ToGPU(), CUDAGraphs(after), *cbs], **kwargs)

def test_a_shape_is_recorded_once_and_freed_after_the_fit(recorded):
    learn = learner()
    learn.fit(3)
    assert sorted(recorded) == [(16,1,32), (16,1,40)]
    for cb in learn._grab_cbs(CUDAGraphs): assert not cb._recordings and cb._encoder is None
    assert 'forward' not in vars(learn.model.backbone)

def test_a_shape_that_comes_rarely_is_not_recorded(recorded):
    learner(after=50).fit(2)
    assert not recorded

def test_a_callback_of_ones_own_takes_the_place_of_the_learners(recorded):
    quiet_learner(cbs=ToGPU()).fit(1, cbs=CUDAGraphs(after=0, most=1))
    assert len(recorded) == 1

def test_a_setting_that_changes_is_recorded_anew(recorded):
    class Schedule(Callback):
        def before_epoch(self): self.model.backbone.dropout = .1*self.epoch
    learner(Schedule(), after=0).fit(3)
    assert len(recorded) == 3*2

def test_weights_that_are_replaced_are_recorded_anew(recorded):
    class Replace(Callback):
        def before_epoch(self):
            conv = self.model.backbone.blocks[0].conv1
            conv.weight = torch.nn.Parameter(conv.weight.detach().clone())
    learner(Replace(), after=0).fit(2)
    assert len(recorded) == 2*2

@pytest.mark.parametrize('how', ['frozen', 'hooked', 'compiled', 'own forward', 'not recordable'])
def test_other_encoders_take_the_ordinary_way(recorded, how):
    learn = learner(*[ActivationStats()]*(how == 'hooked'), after=0)
    encoder = learn.model.backbone
    if how == 'frozen': learn.freeze()
    if how == 'compiled': encoder._compiled_call_impl = encoder._call_impl
    if how == 'own forward': encoder.forward = type(encoder).forward.__get__(encoder)
    if how == 'not recordable': encoder.recordable = False
    learn.fit(1)
    assert not recorded and ('forward' in vars(encoder)) == (how == 'own forward')

def test_an_error_frees_the_recordings_and_a_state_has_none(recorded):
    class Cut(Callback):
        order = 90
        def after_batch(self):
            cb = self.learn._grab_cbs(CUDAGraphs)[-1]
            if not cb._recordings: return
            assert not cb.__getstate__()['_recordings'] and cb.__getstate__()['_stream'] is None
            raise KeyboardInterrupt
    learn = learner(Cut())
    with pytest.raises(KeyboardInterrupt): learn.fit(3)
    assert recorded and not any(cb._recordings for cb in learn._grab_cbs(CUDAGraphs)) and 'forward' not in vars(learn.model.backbone)
