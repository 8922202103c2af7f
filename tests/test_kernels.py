"Kernel features against plain loops and aeon, and the encoder: whole in its state, blind to companions, threads and padding."
import os, subprocess, sys
from functools import cache
from itertools import combinations

import numpy as np
import pytest
import torch
from aeon.transformations.collection.convolution_based import MiniRocket
from helpers import quiet, random_task, same, weights
from safetensors.torch import load_file

from tsai_mtcs.all import KernelEncoder, MTCSModel, MultiTaskDataLoaders, bundled_tasks, build_encoder, mtcs_learner
from tsai_mtcs.encoders import encoder_from_config
from tsai_mtcs.hydra_features import hydra_features
from tsai_mtcs.kernel_features import TAPS, dilations, rocket_features
from tsai_mtcs.kernels import HydraPart, RocketPart, held
from tsai_mtcs.lengths import common_steps

ALL = 'multirocket','hydra'


def loaders(*tasks): return MultiTaskDataLoaders.from_tasks(tasks, device='cpu')

def fitted(tasks=None, parts=ALL, n_kernels=336, **kwargs):
    tasks = tasks or [random_task('a', steps=30), random_task('b', vars=3, steps=47, seed=1)]
    return KernelEncoder([o.spec.vars for o in tasks], parts, n_kernels, **kwargs).fit_rows(loaders(*tasks))

@cache
def standard():
    "An encoder for one and for three variables, fitted once"
    return fitted()

def rows(n=4, vars=1, steps=30, seed=5): return torch.from_numpy(np.random.default_rng(seed).normal(size=(n,vars,steps)).astype(np.float32))

def convolved(x, weights, d):
    "The output at each step, term by term, zero outside the series"
    return np.array([sum(weights[i]*x[t+(i-4)*d] for i in range(9) if 0 <= t+(i-4)*d < len(x)) for t in range(len(x))])

def longest(above):
    best = run = 0
    for o in above:
        run = run+1 if o else 0
        best = max(best, run)
    return best


@pytest.mark.parametrize('compiled', [True, False])
@pytest.mark.parametrize('diff,steps', [(False,29), (True,29), (False,14)]) # of 14 the second has 9, where dilations end
def test_poolings_of_every_kernel_are_those_of_plain_loops(compiled, diff, steps):
    part = RocketPart([1], torch.Generator().manual_seed(0), diff, 252, pools=4)
    X = rows(2, steps=steps, seed=1).cumsum(-1)
    part.fit(lambda: X[0])
    x = X.diff() if diff else X
    lens = torch.tensor([x.shape[-1], x.shape[-1]-5])
    got = rocket_features(x, lens, part.exponents, part.counts, torch.zeros(3, 28, dtype=torch.long), part.biases, 4, compiled)
    expected,dils = np.zeros((2, 4, 252)),dilations(part.exponents, lens)
    for r in range(2):
        for f in range(252): # three groups, a bias a kernel
            g,k = divmod(f, 84)
            w,s = np.full(9, -1.),x[r,0,:lens[r]].numpy()
            w[TAPS[k]] = 2
            c = convolved(s.astype(float), w, dils[r,g])
            edge = 4*dils[r,g] if (k+g)%2 else 0
            c = c[edge:len(c)-edge]
            above = c > part.biases[f].item()
            some = max(above.sum(), 1)
            expected[r,:,f] = (above.mean(), (c-part.biases[f].item())[above].sum()/some,
                               np.flatnonzero(above).sum()/some/len(c), longest(above)/len(c))
    off = np.abs(got.numpy().reshape(expected.shape)-expected)
    assert np.median(off) < 1e-6 and (off > 1e-4).mean() < .01 # a value that equals its bias may round to either side of it

@pytest.mark.parametrize('compiled', [True, False])
def test_hydra_counts_are_those_of_plain_loops(compiled):
    part = HydraPart([1], torch.Generator().manual_seed(0), groups=3, kernels=4, n_dilations=2)
    x,lens = rows(2, steps=26, seed=2),torch.tensor([26, 21])
    got = hydra_features(x, lens, part.exponents, torch.zeros(2, 3, dtype=torch.long), part.weights, compiled).view(2, 2, 3, 2, 4)
    dils = dilations(part.exponents, lens)
    for r,d,g in np.ndindex(2, 2, 3):
        s = x[r,0,:lens[r]].numpy().astype(float)
        z = np.stack([convolved(s, w, dils[r,d]) for w in part.weights[d,g].numpy().astype(float)])
        most = [z.max(0)[z.argmax(0) == k].sum()/len(s) for k in range(4)]
        least = [(z.argmin(0) == k).mean() for k in range(4)]
        np.testing.assert_allclose(got[r,d,g]**2, [np.maximum(most, 0), least], atol=1e-5)

def test_features_are_aeons_for_the_same_kernels():
    for task in bundled_tasks(['GunPoint', 'ItalyPowerDemand']):
        X = task.X[:30]
        theirs = MiniRocket(2000, random_state=0).fit(X)
        _,_,dils,counts,biases = theirs.parameters
        reach = np.log((X.shape[-1]-1)/8)
        got = rocket_features(torch.from_numpy(X), torch.full((30,), X.shape[-1]), torch.from_numpy(np.log(dils)/reach), counts.tolist(),
                              torch.zeros(len(dils), 28, dtype=torch.long), torch.from_numpy(biases))
        np.testing.assert_allclose(got, theirs.transform(X), atol=1e-6)

def test_kernels_are_the_84_with_three_taps_of_two():
    assert [tuple(o) for o in TAPS] == list(combinations(range(9), 3))

@pytest.mark.parametrize('vars', [1, 3])
def test_compiled_loop_and_tensors_give_the_same(vars, monkeypatch):
    encoder,x = standard(),rows(6, vars, 50)
    x[2,:,37:] = torch.nan
    compiled = encoder.raw(x)
    for o in ('rocket_features','hydra_features'):
        f = getattr(sys.modules['tsai_mtcs.kernels'], o)
        monkeypatch.setattr(f'tsai_mtcs.kernels.{o}', lambda *args, f=f: f(*args, compiled=False))
    torch.testing.assert_close(encoder.raw(x), compiled, atol=1e-5, rtol=1e-5)


def test_state_gives_the_same_features_in_another_process(tmp_path):
    task,other = random_task('a', steps=30),random_task('b', vars=3, steps=47, seed=1)
    learn = quiet(mtcs_learner(loaders(task, other), fitted([task, other])))
    learn.save_pretrained(tmp_path)
    x = rows(5, 3, 41)
    np.save(tmp_path/'x.npy', x.numpy())
    code = ("import sys, numpy as np, torch; from tsai_mtcs.model import MTCSModel; "
            "m = MTCSModel.from_pretrained(sys.argv[1]); np.save(sys.argv[1]+'/z.npy', "
            "m.backbone(torch.from_numpy(np.load(sys.argv[1]+'/x.npy'))).numpy())")
    subprocess.run([sys.executable, '-W', 'ignore', '-c', code, str(tmp_path)], check=True,
                   env={**os.environ, 'NUMBA_CACHE_DIR':str(tmp_path)}) # compiled anew, which must not change how sums round
    assert np.load(tmp_path/'z.npy').tobytes() == learn.model.backbone(x).numpy().tobytes()
    state = load_file(tmp_path/'model.safetensors')
    assert any(o.endswith('biases') for o in state) and any(o.endswith('weights') for o in state)

def test_config_gives_every_shape():
    encoder = standard()
    bare = encoder_from_config(encoder.config)
    with pytest.raises(ValueError, match='fit_rows'): bare(rows())
    assert not bare.fitted
    bare.load_state_dict(encoder.state_dict())
    assert bare.fitted and torch.equal(bare(rows()), encoder(rows()))
    assert not list(encoder.parameters()) and encoder(rows()).shape == (4, encoder.feats)

def test_the_seed_decides_and_training_rows_alone_are_seen():
    task = random_task('a', steps=30)
    first = fitted([task])
    task.X[task.test] += 100
    assert same(weights(first), weights(fitted([task])))
    assert not torch.equal(first.state_dict()['mean'], fitted([task], seed=1).state_dict()['mean'])
    task.X[task.train[0]] += 1
    task._spec = None
    assert not torch.equal(first.state_dict()['mean'], fitted([task]).state_dict()['mean'])

def test_tasks_count_alike():
    small,large = random_task('small', n_train=5, steps=30),random_task('large', n_train=80, steps=30, seed=1)
    encoder = fitted([small, large])
    raw = [encoder.raw(torch.from_numpy(o.spec.scale(o.X[o.train]))).double().mean(0) for o in (small,large)]
    torch.testing.assert_close(encoder.mean.double(), sum(raw)/2, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('vars', [1, 3])
def test_companions_and_padding_do_not_matter(vars):
    encoder,x = standard(),rows(5, vars, 60)
    x[1,:,41:] = torch.nan
    x[3,:,9:] = torch.nan
    z = encoder(x)
    for i,n in enumerate((60, 41, 60, 9, 60)): assert torch.equal(encoder(x[i:i+1,:,:n])[0], z[i]), i
    assert torch.equal(encoder(x.flip(0)).flip(0), z)
    assert encoder(x[:0]).shape == (0, encoder.feats)

def test_missing_values_count_as_their_mean():
    encoder,x = standard(),rows(2, 3, 40)
    filled = x.clone()
    x[0,1,5:9],filled[0,1,5:9] = torch.nan,0
    x[1,2,30:],filled[1,2,30:] = torch.nan,0 # the series goes on in other variables
    assert torch.equal(encoder(x), encoder(filled))

@pytest.mark.parametrize('steps', [1, 2, 5, 8])
def test_a_series_shorter_than_a_kernel_ends_in_its_mean(steps):
    x = rows(3, 1, steps)
    assert torch.equal(standard()(x), standard()(torch.nn.functional.pad(x, (0, 9-steps)))) and not torch.equal(*standard()(x[:2]))

@pytest.mark.parametrize('steps', [9, 10, 11, 17, 18])
def test_short_series_at_either_side_of_a_dilation(steps):
    "Dilations are rounded down, so that a kernel fits: the last step then counts, and nothing beyond it"
    encoder,x = standard(),rows(2, 1, steps)
    assert all((dilations(o.exponents, torch.tensor([steps])) == (2 if steps > 16 else 1)).any() for o in encoder.parts)
    assert all((dilations(o.exponents, torch.tensor([steps])) <= (steps-1)//8).all() for o in encoder.parts)
    moved = x.clone()
    moved[...,-1] += 1
    assert (encoder(moved) != encoder(x)).any(1).all()

def test_features_of_a_series_without_values_and_of_zeros():
    encoder,first = standard(),standard().parts[0]
    empty = encoder(torch.full((1, 1, 30), torch.nan))
    assert torch.equal(empty, encoder(torch.zeros(1, 1, 9)))
    zeros = encoder.raw(torch.zeros(1, 1, 30))[0]
    assert torch.equal(zeros[:len(first.biases)], (first.biases < 0).float()) # outputs of 0 exceed negative biases

def test_a_constant_data_set_has_the_features_of_its_mean():
    task = random_task('a')
    task.X[:] = 1
    encoder = fitted([task])
    assert (encoder(torch.from_numpy(task.spec.scale(task.X))) == 0).all() and (encoder(rows()) != 0).any(1).all()

def test_flat_series_lose_to_the_first_kernel_of_each_group():
    part = HydraPart([1], torch.Generator().manual_seed(0))
    inside = hydra_features(torch.full((1, 1, 400), .3), torch.tensor([400]), part.exponents[:1], torch.zeros(1, 32, dtype=torch.long),
                            part.weights[:1])
    assert (inside.view(32, 2, 8)[:,1,0]**2 > .97).all() # all but where a kernel looks beyond the ends

@pytest.mark.parametrize('vars', [1, 3])
def test_threads_do_not_matter(vars):
    encoder,x,threads = standard(),rows(7, vars, 50),torch.get_num_threads()
    x[1,:,41:] = torch.nan
    try:
        found = []
        for n in (1, 2, 3, 16):
            torch.set_num_threads(n)
            found.append(encoder(x))
    finally: torch.set_num_threads(threads)
    assert all(torch.equal(o, found[0]) for o in found)

def test_bfloat16_and_subclasses_change_nothing():
    encoder,x = standard(),rows()
    with torch.autocast('cpu', torch.bfloat16): assert torch.equal(encoder(x), encoder(x.double()))
    assert type(encoder(x)) is torch.Tensor and not encoder(x.requires_grad_()).requires_grad


def test_a_learner_trains_the_heads_alone():
    tasks = [random_task('a', steps=30, labels=2), random_task('b', vars=3, steps=47, labels=3, seed=1)]
    learn = quiet(mtcs_learner(loaders(*tasks), fitted(tasks)))
    before = weights(learn.model)
    learn.fit(1)
    changed = {k for k,v in learn.model.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {'head.last.weight'}
    labels,probs = learn.predict(tasks[1].X[:2], 'b')
    assert len(labels) == 2 and probs.shape == (2, 3)

def test_build_encoder_knows_it():
    for arch in (KernelEncoder, 'KernelEncoder'):
        assert build_encoder(arch, [(1, 30), (3, 47)], n_kernels=84).vars == [1, 3]

@pytest.mark.parametrize('args,message', [
    (dict(parts='rocket'), "expected parts of minirocket, multirocket, hydra, found 'rocket'"),
    (dict(parts=()), 'found none'),
])
def test_bad_parts(args, message):
    with pytest.raises(ValueError, match=message): KernelEncoder(**args)

def test_other_variables_than_built_for():
    with pytest.raises(ValueError, match=r'expected series of 1 or 3 variable\(s\), found 2'): standard()(rows(2, 2))

def test_held_ends_with_the_last_value():
    x = torch.full((2, 2, 12), torch.nan)
    x[0,1,10] = x[1,0,3] = 1.
    series,lens = held(x)
    assert lens.tolist() == [11, 10] and series.shape == (2, 2, 12) and not series.isnan().any()

@pytest.mark.slow
def test_real_data_survive_saving(tmp_path):
    tasks = bundled_tasks()
    dls = MultiTaskDataLoaders.from_tasks(tasks, device='cpu')
    learn = quiet(mtcs_learner(dls, KernelEncoder(1, ALL).fit_rows(dls)))
    learn.save_pretrained(tmp_path)
    back = MTCSModel.from_pretrained(tmp_path)
    for o in tasks: assert np.array_equal(back.embed(o.X[:20], o.name), learn.embed(o.X[:20], o.name))

OUT_OF_RANGE = {'parts.0.exponents':12., 'parts.1.exponents':-1., 'parts.0.signal':10**7, 'parts.1.signal':-1, 'parts.0.mix.3.chosen':3,
                'std':0.}

@pytest.mark.parametrize('name', OUT_OF_RANGE)
def test_no_state_leads_compiled_loops_out_of_their_arrays(name):
    encoder = fitted(n_kernels=84)
    state = weights(encoder)
    state[name].view(-1)[-1] = OUT_OF_RANGE[name]
    with pytest.raises(ValueError, match=f'expected {name} within'): encoder.load_state_dict(state)

def test_no_dilation_exceeds_a_series():
    assert (dilations(torch.tensor([12.,-3.,.5]), [65]) == [[8,1,2]]).all()

def test_a_file_can_not_ask_for_signals_of_a_million_variables():
    config = dict(arch='KernelEncoder', vars=list(range(16321,16385)), parts=['hydra'], n_kernels=None, seed=0, steps=None)
    with pytest.raises(ValueError, match='vars='): encoder_from_config(config)
    encoder_from_config({**config, 'vars':[1,1000]})


@pytest.mark.parametrize('kwargs', [dict(steps=-1), dict(steps=3.5), dict(steps=True), dict(steps=10**9), dict(steps='x'),
                                    dict(n_kernels=0), dict(n_kernels=3.7), dict(seed=-1), dict(seed='a'), dict(vars=0),
                                    dict(vars=[]), dict(vars='1')])
def test_sizes_that_a_saved_model_could_not_have_are_refused(kwargs):
    with pytest.raises(ValueError, match='is not a size that KernelEncoder takes'): KernelEncoder(**kwargs)

def test_numbers_of_numpy_are_sizes():
    config = KernelEncoder(np.int64(1), 'minirocket', np.int64(84), np.int64(3), np.int64(20)).config
    assert config == KernelEncoder(1, 'minirocket', 84, 3, 20).config and {type(o) for o in config['vars']} == {int}

def test_unknown_parts_of_any_type():
    with pytest.raises(ValueError, match='expected parts of'): KernelEncoder(parts=[['hydra']])

def test_lengths_beyond_what_a_file_may_hold_are_left_alone():
    assert common_steps([10**7, 1.5*10**7]) == 0 and common_steps([20, 30]) == 25
