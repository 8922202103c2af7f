"On a GPU: the same results as on a CPU, and the same fit with CUDA graphs as without."
import numpy as np
import pytest
import torch
from fastai.callback.training import GradientAccumulation
from helpers import quiet
from tsai_mtcs.bench.sites import deal_sites
from tsai_mtcs.callback.graphs import CUDAGraphs
from tsai_mtcs.data import MultiTaskDataLoaders
from tsai_mtcs.datasets import SeriesStore
from tsai_mtcs.kernels import KernelEncoder
from tsai_mtcs.learner import mtcs_learner
from tsai_mtcs.tasks import Task
from tsai_mtcs.test_utils import synth_task

pytestmark = pytest.mark.cuda
WAVES = dict(sine='sine', square='square', fast='fast')

@pytest.fixture(autouse=True)
def exact():
    "Convolutions in float32: PyTorch's default on a GPU, TF32, has ten bits"
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False): yield

def tasks(missing=False):
    made = [synth_task(f'task {i}', WAVES, n=70, steps=40+8*i, seed=i) for i in range(3)]
    if not missing: return made
    def gaps(o):
        X = o.X.copy()
        X[::3,:,5:9], X[::4,:,-6:] = np.nan, np.nan
        return Task(o.name, X, [o.labels[i] for i in o.codes], splits=(o.train, o.test))
    return [gaps(o) for o in made]

def learner(device, missing=False, **kwargs):
    torch.manual_seed(0)
    dls = MultiTaskDataLoaders.from_tasks(tasks(missing), bs=16, device=device, check_copies=False).unwatched()
    return quiet(mtcs_learner(dls, **{'arch_config':dict(hidden=16, feats=32, depth=4), **kwargs}))

class Losses(CUDAGraphs):
    "Keep the losses of a fit; with `most=0` nothing is recorded"
    def before_fit(self):
        super().before_fit()
        self.losses,self.recorded = [],0
    def after_loss(self): self.losses.append(self.learn.loss.detach())
    def after_batch(self): self.recorded = len(self._recordings)

def losses(learn, most, epochs=3, **kwargs):
    cb = Losses(after=1, most=most)
    torch.manual_seed(1)
    learn.remove_cbs(CUDAGraphs).fit(epochs, cbs=cb, **kwargs)
    assert (cb.recorded > 2) == (most > 0)
    return torch.stack(cb.losses).cpu()

@pytest.mark.parametrize('kwargs', [dict(sharing=None), dict(sharing='paper'), dict(pull=.5), dict(sharing='paper', relevance='covariance'),
                                    dict(arch_config=dict(hidden=16, feats=32, depth=4, mask='binomial')),
                                    dict(arch='MMoEEncoder', arch_config=dict(hidden=16, feats=32, depth=3, experts=2))])
@pytest.mark.parametrize('missing', [False, True])
def test_a_fit_with_graphs_is_the_fit_without(kwargs, missing):
    with_graphs,without = (losses(learner('cuda', missing, **kwargs), most) for most in (256, 0))
    torch.testing.assert_close(with_graphs, without, rtol=1e-4, atol=1e-5)

def test_in_bfloat16_too():
    with_graphs,without = (losses(learner('cuda').to_bf16(), most) for most in (256, 0))
    torch.testing.assert_close(with_graphs, without, rtol=.02, atol=.02)

def test_gradients_add_up():
    with_graphs,without = (losses(learner('cuda', cbs=GradientAccumulation(48)), most) for most in (256, 0))
    torch.testing.assert_close(with_graphs, without, rtol=1e-4, atol=1e-5)

def test_a_cpu_gives_the_losses_of_a_gpu():
    one = dict(sharing='paper', arch_config=dict(hidden=16, feats=32, depth=4, dropout=0.))
    cb = Losses(most=0)
    cpu = learner('cpu', **one)
    cpu.remove_cbs(CUDAGraphs).fit(3, cbs=cb)
    torch.testing.assert_close(losses(learner('cuda', **one), 256), torch.stack(cb.losses), rtol=1e-3, atol=1e-4)

def test_weights_that_are_replaced_are_recorded_anew():
    learn = learner('cuda').remove_cbs(CUDAGraphs).add_cb(CUDAGraphs(after=1))
    learn.fit(2)
    kept = learn.model.backbone.blocks[0].conv1.weight
    learn.model.backbone.blocks[0].conv1.weight = torch.nn.Parameter(kept.detach().clone())
    learn.opt = None
    learn.fit(2)
    assert not torch.equal(kept, learn.model.backbone.blocks[0].conv1.weight)
    assert not learn.cuda_graphs._recordings and 'forward' not in vars(learn.model.backbone)

def test_an_error_leaves_the_encoder_as_it_was():
    learn = learner('cuda').remove_cbs(CUDAGraphs).add_cb(CUDAGraphs(after=1))
    def cut(*args):
        if learn.cuda_graphs._recordings: raise KeyboardInterrupt
    hook = learn.model.head.register_forward_hook(cut)
    with pytest.raises(KeyboardInterrupt): learn.fit(1)
    hook.remove()
    assert 'forward' not in vars(learn.model.backbone)
    assert not learn.cuda_graphs._recordings and learn.cuda_graphs._stream is None
    learn.fit(2)

def test_a_late_backward_pass_is_refused():
    learn = learner('cuda')
    learn.fit(1)
    cb = CUDAGraphs(after=1)
    with learn.added_cbs(cb):
        learn.model.train()
        cb.before_fit()
        x = learn.dls.train.one_batch()[0]
        learn.xb = (x,)
        learn.training = True
        def run():
            with cb.around_model(): return learn.model(x)
        run().sum().backward()
        first,second = run(),run()
        second.sum().backward(retain_graph=True)
        with pytest.raises(RuntimeError, match='one backward pass'): second.sum().backward()
        with pytest.raises(RuntimeError, match='before the forward pass of the next'): first.sum().backward()

def test_no_step_waits_for_the_gpu():
    learn = learner('cuda', sharing='paper')
    class Strict(CUDAGraphs):
        def before_batch(self):
            if self.epoch: torch.cuda.set_sync_debug_mode('error')
        def after_step(self): torch.cuda.set_sync_debug_mode('default')
    try: learn.remove_cbs(CUDAGraphs).fit(3, cbs=Strict(after=1))
    finally: torch.cuda.set_sync_debug_mode('default')

def test_kernels_give_the_features_of_a_cpu():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 1, 130)).cumsum(-1).astype(np.float32)
    X[::5,:,100:] = np.nan
    task = Task('walks', X, np.arange(40)%2, splits=(range(30), range(30, 40)))
    for parts in ('minirocket', ('multirocket','hydra')):
        encoder = KernelEncoder(1, parts).fit_rows(MultiTaskDataLoaders.from_tasks([task], device='cpu'))
        x = torch.from_numpy(task.spec.scale(X))
        cpu = encoder(x)
        gpu = encoder.to('cuda')(x.cuda()).cpu()
        torch.testing.assert_close(gpu, cpu, rtol=1e-4, atol=1e-4)

@pytest.mark.parametrize('class_weights', [None, 'balanced'])
def test_solved_heads_are_those_of_a_cpu(class_weights):
    sites,_ = deal_sites(synth_task('waves', WAVES, n=90), n=3, rows=6, seed=0)
    found = []
    for device in ('cpu','cuda'):
        dls = MultiTaskDataLoaders.from_tasks(sites, device=device, check_copies=False)
        learn = quiet(mtcs_learner(dls, KernelEncoder)).fit_heads(10., class_weights=class_weights)
        assert learn.model.head.weight.device.type == device
        found.append((learn.shared_heads.groups, learn.model.predict(sites[0].X, sites[0].name)[1]))
    assert np.array_equal(found[0][0], found[1][0]) and (found[0][0] >= 0).any()
    np.testing.assert_allclose(found[0][1], found[1][1], atol=1e-4)

def test_a_task_is_added_on_a_gpu():
    first,second,new = tasks()
    dls = MultiTaskDataLoaders.from_tasks([first, second], device='cuda', check_copies=False)
    learn = quiet(mtcs_learner(dls, KernelEncoder)).fit_heads().add_task(new)
    assert (learn.predict(new.X[new.test], new.name)[0] == np.array(new.labels)[new.codes[new.test]]).mean() > .8
    learn.who_helps_whom(n_folds=2)

def test_rows_that_stay_on_disk_reach_the_gpu(tmp_path):
    made = tasks()
    np.save(tmp_path/'x.npy', made[0].X)
    mapped = Task('mapped', np.load(tmp_path/'x.npy', mmap_mode='r'), [made[0].labels[i] for i in made[0].codes],
                  splits=(made[0].train, made[0].test))
    dls = MultiTaskDataLoaders.from_tasks([mapped, made[1]], bs=16, device='cuda', check_copies=False).unwatched()
    quiet(mtcs_learner(dls, arch_config=dict(hidden=8, feats=16, depth=3))).fit(1)
    assert {x.device.type for x,_ in dls.train} == {'cuda'} and isinstance(dls.train_ds.store, SeriesStore)
