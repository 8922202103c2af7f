"A fit that is resumed from a checkpoint is the fit that was never interrupted; a damaged checkpoint is refused"
import io, os, pickle
from functools import partial

import numpy as np
import pytest
import torch
from fastai import optimizer as fo
from fastai.callback.core import Callback
from fastai.callback.progress import CSVLogger
from fastai.callback.schedule import *  # noqa: F403 (adds fit_one_cycle, … to Learner)
from fastai.callback.mixup import MixUp
from fastai.callback.tracker import EarlyStoppingCallback, ReduceLROnPlateau, SaveModelCallback
from fastai.callback.training import GradientAccumulation, GradientClip
from fastai.metrics import F1Score, RocAuc
from helpers import quiet_learner, same, weights
from tsai_mtcs.callback.averaging import AverageWeights
from tsai_mtcs.callback.bf16 import BFloat16
from tsai_mtcs.callback.checkpoint import Checkpoint, read_checkpoint, read_history
from tsai_mtcs.data import MultiTaskDataLoaders
from tsai_mtcs.optimizers import Adam, AdamW, RAdam
from tsai_mtcs.rng import rng_state
from tsai_mtcs.series import TaskWarning
from tsai_mtcs.statefile import write_state
from tsai_mtcs.test_utils import synth_dls, synth_tasks

TINY = dict(hidden=4, feats=8, depth=2)
EPOCHS = 4


class Cut(Callback):
    "Ctrl-C in the middle of the third epoch"
    order = 200
    def after_batch(self):
        if self.training and self.epoch == 2 and self.iter == 1: raise KeyboardInterrupt

def per_label(pred, y): return pred.float().mean(0)

def make(path, seed=0, opt_func=AdamW, cbs=(), **kwargs):
    path.mkdir(exist_ok=True)
    return quiet_learner(seed=seed, dls=synth_dls(valid_pct=.3, path=path), arch_config=TINY, lr=3e-2, opt_func=opt_func,
                         cbs=[o() for o in cbs], **kwargs)

def outcome(learn, path):
    "All that a fit leaves"
    return dict(history=read_history(path),
                values=[[None if o is None else np.asarray(o, float).tolist() for o in row] for row in learn.recorder.values],
                losses=[float(o) for o in learn.recorder.losses], best=[getattr(cb, 'best', None) for cb in learn.cbs],
                rng=rng_state()['torch'])

def check_resumes(tmp_path, fit, **kwargs):
    "Three learners: one that is never interrupted, one that is, and one that resumes it"
    whole = make(tmp_path/'whole', **kwargs)
    fit(whole, cbs=Checkpoint(tmp_path/'whole'/'run.pt'))
    cut = make(tmp_path/'cut', **kwargs)
    with pytest.raises(KeyboardInterrupt): fit(cut, cbs=[Checkpoint(tmp_path/'cut'/'run.pt'), Cut()])
    on = make(tmp_path/'cut', seed=7, **kwargs)
    torch.rand(9)
    start = on.resume(tmp_path/'cut'/'run.pt')
    assert start == 2
    fit(on, cbs=Checkpoint(tmp_path/'cut'/'run.pt'), start_epoch=start)
    assert same(weights(whole.model), weights(on.model))
    want,got = (outcome(o, tmp_path/d/'run.pt') for o,d in ((whole,'whole'), (on,'cut')))
    assert want['history'].to_csv() == got['history'].to_csv() and len(got['history']) == EPOCHS
    assert torch.equal(want.pop('rng'), got.pop('rng'))
    for k in ('values','losses','best'): assert want[k] == got[k], k
    return whole,on

def flat(learn, **kwargs): learn.fit(EPOCHS, **kwargs)
def cycle(learn, **kwargs): learn.fit_one_cycle(EPOCHS, 5e-2, **kwargs)
def flat_cos(learn, **kwargs): learn.fit_flat_cos(EPOCHS, 3e-2, **kwargs)
FITS = dict(flat=flat, cycle=cycle, flat_cos=flat_cos)

OPTS = dict(adamw=AdamW, adam=Adam, radam=RAdam, f_adam=fo.Adam, f_radam=fo.RAdam, f_sgd=fo.SGD, f_momentum=partial(fo.SGD, mom=.9),
            f_lamb=fo.Lamb, f_ranger=fo.ranger,
            f_rmsprop=fo.RMSProp, f_qhadam=fo.QHAdam, f_larc=fo.Larc, torch_sgd=partial(fo.OptimWrapper, opt=torch.optim.SGD))
CALLBACKS = dict(save=[partial(SaveModelCallback, monitor='accuracy')], reduce=[partial(ReduceLROnPlateau, patience=1, min_delta=.05)],
                 accumulate=[partial(GradientAccumulation, 24)],
                 mean=[AverageWeights], late_mean=[partial(AverageWeights, start=.5)], mixup=[MixUp], clip=[partial(GradientClip, .1)],
                 bf16=[BFloat16],
                 several=[partial(SaveModelCallback, monitor='machine'), partial(ReduceLROnPlateau, min_delta=.05),
                          partial(GradientAccumulation, 40), AverageWeights])
COMBINATIONS = [(o, {'f_momentum':'cycle', 'f_ranger':'flat_cos'}.get(o, 'flat'), None) for o in OPTS]
COMBINATIONS += [('adamw', 'flat', o) for o in CALLBACKS]
SLOW = [(o, f, None) for o in OPTS for f in ('cycle',) if o != 'f_momentum'][:4]+[
    ('f_adam', 'cycle', 'several'), ('f_ranger', 'flat', 'accumulate'), ('f_lamb', 'flat', 'reduce'),
        ('f_sgd', 'cycle', 'save'), ('f_radam', 'cycle', 'mean'), ('adamw', 'flat_cos', 'several')]

@pytest.mark.parametrize('opt,fit,cbs', [*COMBINATIONS, *[pytest.param(*o, marks=pytest.mark.slow) for o in SLOW]], ids=str)
def test_ends_as_if_nothing_had_happened(tmp_path, opt, fit, cbs):
    check_resumes(tmp_path, FITS[fit], opt_func=OPTS[opt], cbs=CALLBACKS.get(cbs, ()))

def test_metrics_that_give_arrays(tmp_path):
    whole,_ = check_resumes(tmp_path, flat, metrics=[per_label, F1Score(average=None), F1Score(average='macro'), RocAuc()])
    i = list(whole.recorder.metric_names).index('per_label')-1
    assert len(whole.recorder.values[-1][i]) == whole.dls.c
    last = read_history(tmp_path/'whole'/'run.pt').iloc[-1]
    assert len(last['f1_score']) == whole.dls.c
    assert last['f1_score 2'] == pytest.approx((np.mean(last['f1_score'][:2])+np.mean(last['f1_score'][2:]))/2)

@pytest.mark.parametrize('kw',
    [dict(sharing='paper', relevance='covariance'), dict(sharing='paper', partners=2), dict(sharing='paper', n_layers=2)], ids=str)
def test_settings_of_the_sharing_loss(tmp_path, kw): check_resumes(tmp_path, flat, **kw)

def test_frozen_parts_stay_frozen(tmp_path):
    def fit(learn, **kwargs):
        if not learn.continuation: learn.freeze()
        learn.fit(EPOCHS, **kwargs)
    _,on = check_resumes(tmp_path, fit)
    assert not any(o.requires_grad for o in on.model.backbone.parameters()) and on.opt.frozen_idx == 1

def test_early_stopping_goes_on_waiting(tmp_path):
    def fit(learn, **kwargs): learn.fit(EPOCHS, 0., **kwargs)
    kw = dict(cbs=[partial(EarlyStoppingCallback, patience=3)])
    whole,on = make(tmp_path/'whole', **kw),None
    fit(whole)
    cut = make(tmp_path/'cut', **kw)
    with pytest.raises(KeyboardInterrupt): fit(cut, cbs=[Checkpoint(tmp_path/'run.pt'), Cut()])
    on = make(tmp_path/'cut', seed=7, **kw)
    fit(on, start_epoch=on.resume(tmp_path/'run.pt'))
    assert on.early_stopping.wait == whole.early_stopping.wait == 3 and len(on.recorder.values) == len(whole.recorder.values)

def test_a_log_keeps_its_lines(tmp_path):
    whole,on = check_resumes(tmp_path, flat, cbs=[CSVLogger])
    text = lambda learn: [o.rsplit(',', 1)[0] for o in (learn.path/'history.csv').read_text().splitlines()]
    assert text(whole) == text(on) and len(text(on)) == EPOCHS+1

def test_state_that_cannot_be_kept_is_refused_before_training(tmp_path):
    class Odd(Callback):
        def state_dict(self): return dict(inner=dict(f=len))
    learn = make(tmp_path)
    before = weights(learn.model)
    with pytest.raises(ValueError, match=r"can't keep the state of the fit\['cbs'\]\['odd'\]\['inner'\]\['f'\], a builtin"):
        learn.fit(1, cbs=[Checkpoint(tmp_path/'run.pt'), Odd()])
    assert same(before, weights(learn.model)) and not (tmp_path/'run.pt').exists()

def test_weights_that_are_not_finite_are_not_written(tmp_path):
    class Spoil(Callback):
        def after_train(self):
            if self.epoch == 2: self.model.head.weight.data[0,0] = torch.nan
    learn = make(tmp_path)
    with pytest.raises(ValueError, match='epoch 2, which is not written.*expected finite weights, found NaN'):
        learn.fit(4, cbs=[Checkpoint(tmp_path/'run.pt'), Spoil()])
    assert read_checkpoint(tmp_path/'run.pt')['epochs'] == 2


# What is refused
@pytest.fixture(scope='module')
def run(tmp_path_factory):
    "A checkpoint after one of two epochs, its bytes and its state"
    path = tmp_path_factory.mktemp('run')/'run.pt'
    class Stop(Callback):
        def before_epoch(self):
            if self.epoch: raise KeyboardInterrupt
    learn = make(path.parent)
    with pytest.raises(KeyboardInterrupt): learn.fit(2, cbs=[Checkpoint(path), Stop()])
    return path,path.read_bytes(),read_checkpoint(path)

def saved(o):
    f = io.BytesIO()
    torch.save(o, f)
    return f.getvalue()

class Evil:
    def __reduce__(self): return (exec, ("raise SystemExit('executed')",))

def flipped(b, at): return b[:at]+bytes([b[at]^0x10])+b[at+1:]

DAMAGED = {**{f'cut at {f}': (lambda b, f=f: b[:int(len(b)*f)]) for f in (0, .01, .5, .9, .999)},
           **{f'a flipped byte at {f}': (lambda b, f=f: flipped(b, int((len(b)-1)*f))) for f in np.linspace(0, 1, 9)},
           'a pickle': lambda b: pickle.dumps(dict(epochs=1)), 'a pickle that executes': lambda b: pickle.dumps(Evil()),
           'a file of torch that executes': lambda b: saved(Evil()),
           'text': lambda b: b'epochs: 1', 'weights alone': lambda b: saved(dict(weight=torch.ones(2))),
           'more at its end': lambda b: b+b'\0', 'twice': lambda b: b+b}

@pytest.mark.parametrize('how', DAMAGED)
def test_a_damaged_file_is_refused(tmp_path, run, how):
    path = tmp_path/'run.pt'
    path.write_bytes(DAMAGED[how](run[1]))
    learn = make(tmp_path)
    before = weights(learn.model)
    for f in (learn.resume, read_history):
        with pytest.raises(ValueError, match=r'run\.pt: not a whole checkpoint'): f(path)
    assert same(before, weights(learn.model))

def without(state, name): return {k: v for k,v in state.items() if k != name}
def nan_weights(state): return {**state, 'model': {k: v*torch.nan if v.is_floating_point() else v for k,v in state['model'].items()}}
OTHERS = {**{f'no {o}': partial(lambda o, s: without(s, o), o) for o in ('model','opt','epochs','rng','history','settings')},
          'epochs as text': lambda s: {**s, 'epochs':'1'},
          'negative epochs': lambda s: {**s, 'epochs':-1}, 'a model that is a list': lambda s: {**s, 'model':[1]},
          'a newer format': lambda s: {**s, 'format':99}, 'weights of NaN': nan_weights,
          'no weights': lambda s: {**s, 'model':{}},
          'another shape': lambda s: {**s, 'model': {k: v[...,:1] if v.ndim else v for k,v in s['model'].items()}},
          'no state of the optimizer': lambda s: {**s, 'opt':{}}, 'random numbers of nothing': lambda s: {**s, 'rng':{}}}

@pytest.mark.parametrize('how', OTHERS)
def test_a_state_that_lacks_something_is_refused(tmp_path, run, how):
    path = tmp_path/'run.pt'
    write_state(path, OTHERS[how](run[2]))
    learn = make(tmp_path)
    before = weights(learn.model)
    with pytest.raises(ValueError, match=r'run\.pt: '): learn.resume(path)
    assert same(before, weights(learn.model))

def with_value(state, value, *path):
    "The state with another value at a place"
    return value if not path else {**state, path[0]: with_value(state[path[0]], value, *path[1:])}

@pytest.mark.parametrize('value,path', [
    ('x', ('opt','state',3,'exp_avg')), (None, ('opt','state',3,'exp_avg')), (torch.zeros(3), ('opt','state',3,'exp_avg_sq')),
    (torch.tensor(torch.nan), ('opt','state',3,'step')),
    ([1,2], ('tasks',)), ([['waves',1]], ('tasks',)), ([[1,1,[]]], ('tasks',))], ids=str)
def test_a_state_with_something_else_is_refused(tmp_path, run, value, path):
    write_state(tmp_path/'run.pt', with_value(run[2], value, *path))
    with pytest.raises(ValueError, match=r'run\.pt: '): make(tmp_path).resume(tmp_path/'run.pt')

@pytest.mark.parametrize('memory', [dict(fname='../elsewhere'), dict(learn=1), dict(before_fit='x')], ids=str)
def test_a_file_does_not_set_where_a_callback_writes(tmp_path, memory):
    path,cbs = tmp_path/'run.pt',lambda: [Checkpoint(tmp_path/'run.pt'), SaveModelCallback('train_loss')]
    with pytest.raises(KeyboardInterrupt): make(tmp_path).fit(4, cbs=[*cbs(), Cut()])
    state = read_checkpoint(path)
    state['memory']['save_model'] |= memory
    write_state(path, state)
    learn = make(tmp_path)
    with pytest.raises(ValueError, match=f'does not remember {[*memory][0]}'): learn.fit(4, cbs=cbs(), start_epoch=learn.resume(path))

def test_a_pipe_keeps_nobody_waiting(tmp_path):
    (tmp_path/'models').mkdir()
    for path in (tmp_path/'run.pt', tmp_path/'models'/'run.pth'): os.mkfifo(path)
    learn = make(tmp_path)
    with pytest.raises(ValueError, match='no regular file'): learn.resume(tmp_path/'run.pt')
    with pytest.raises(ValueError, match='no regular file'): learn.load('run')

@pytest.mark.parametrize('content,said', [([1,2], 'weights of another model'),
    (dict(model=Evil()), 'holds more than weights, which loading would have to execute')], ids=['a list','code'])
def test_load_says_what_a_file_is(tmp_path, content, said):
    (tmp_path/'models').mkdir()
    torch.save(content, tmp_path/'models'/'other.pth')
    with pytest.raises(ValueError, match=said) as e: make(tmp_path).load('other')
    assert 'weights_only' not in str(e.value)

def test_a_folder_or_nothing(tmp_path):
    learn = make(tmp_path)
    with pytest.raises(ValueError, match='not a whole checkpoint'): learn.resume(tmp_path)
    with pytest.raises(FileNotFoundError, match='found none; start the fit anew'): learn.resume(tmp_path/'none.pt')

@pytest.mark.parametrize('kw,match', [(dict(arch_config=dict(hidden=8, feats=8, depth=2)), 'another model or optimizer'),
                                      (dict(opt_func=fo.Adam), 'another model or optimizer'),
                                      (dict(dls=MultiTaskDataLoaders.from_tasks(synth_tasks()[::-1], device='cpu')),
                                       "expected 'waves' as number 0, found 'machine'; give them the same order"),
                                      (dict(dls=MultiTaskDataLoaders.from_tasks(synth_tasks()[:1], device='cpu')),
                                       "expected 'machine' as number 1, found no task")])
def test_another_learner_is_refused(tmp_path, run, kw, match):
    learn = quiet_learner(**{'dls':synth_dls(path=tmp_path), 'arch_config':TINY, **kw})
    before = weights(learn.model)
    with pytest.raises(ValueError, match=match): learn.resume(run[0])
    assert same(before, weights(learn.model))

@pytest.mark.parametrize('fit,match', [(lambda o: o.fit(3, start_epoch=1), 'with epochs=2, as in the interrupted fit, found 3'),
                                       (lambda o: o.fit(2), 'expected start_epoch=1, found 0'),
                                       (lambda o: o.fit(2, 1e-4, start_epoch=1), r'with lr=\[0.03, 0.03\].*found \[0.0001, 0.0001\]')])
def test_another_fit_is_refused(tmp_path, run, fit, match):
    learn = make(tmp_path, seed=3)
    learn.resume(run[0])
    before = weights(learn.model)
    with pytest.raises(ValueError, match=match): fit(learn)
    assert same(before, weights(learn.model))

def test_a_fit_that_was_refused_can_be_tried_again(tmp_path, run):
    "With the same end, although random numbers were drawn in between"
    ends = []
    for refused in (False,True):
        learn = make(tmp_path, seed=3)
        start = learn.resume(run[0])
        if refused:
            with pytest.raises(ValueError, match='with epochs=2'): learn.fit(3, start_epoch=start)
            torch.rand(9)
        learn.fit(2, start_epoch=start)
        assert learn.continuation is None and len(learn.recorder.values) == 2
        ends.append(weights(learn.model))
    assert same(*ends)

def test_a_fit_that_is_done_says_so(tmp_path):
    "A script may be run again: what was trained stays"
    whole,learn,path = make(tmp_path),make(tmp_path, seed=3),tmp_path/'run.pt'
    whole.fit(2, cbs=Checkpoint(path))
    assert learn.resume(path) == 2
    with pytest.warns(TaskWarning, match='all 2 epochs are done; nothing is left to train'): learn.fit(2, start_epoch=2)
    assert same(weights(whole.model), weights(learn.model))
    with pytest.raises(ValueError, match='expected start_epoch to be below the 2 epochs'): learn.fit(2, start_epoch=2)

def test_a_lacking_callback_is_refused(tmp_path):
    path = tmp_path/'run.pt'
    make(tmp_path, cbs=[AverageWeights]).fit(1, cbs=Checkpoint(path))
    learn = make(tmp_path)
    learn.resume(path)
    with pytest.raises(ValueError, match=r'expected the callback\(s\) average_weights'): learn.fit(1, start_epoch=1)


@pytest.mark.parametrize('name,error,match', [('.', ValueError, 'found the folder'),
                                              ('closed/run.pt', PermissionError, 'can be written to')])
def test_a_place_where_no_file_can_be_is_refused_before_training(tmp_path, monkeypatch, name, error, match):
    learn = make(tmp_path)
    before = weights(learn.model)
    monkeypatch.setattr(os, 'access', lambda path, mode: path.name != 'closed') # root may write everywhere
    with pytest.raises(error, match=match): learn.fit(1, cbs=Checkpoint(tmp_path/name))
    assert same(before, weights(learn.model))


# A checkpoint belongs to a fit: nothing else reads or replaces the file
def test_looking_at_a_learner_leaves_the_checkpoint_of_its_fit(tmp_path):
    path = tmp_path/'last.pt'
    learn = quiet_learner(cbs=Checkpoint(path))
    learn.fit(2)
    before = path.read_bytes()
    for look in (learn.validate, learn.validate_tasks, learn.get_preds): look()
    learn.lr_find(num_it=20, show_plot=False)
    assert path.read_bytes() == before and len(read_history(path)) == 2
    learn.fit_heads()
    assert learn.opt is None and len(learn.get_preds()[0])

@pytest.mark.parametrize('name,value', [('lr', None), ('lr', [1e-3]), ('lr', float('nan')), ('lr', 1e300), ('lr', -1.), ('lr', True),
                                        ('betas', .9), ('betas', (.9,.9,.9)), ('betas', (.9,None)), ('eps', 'x'), ('amsgrad', True),
                                        ('capturable', True), ('fused', 1)])
def test_settings_of_an_optimizer_that_are_damaged_are_refused_before_training(tmp_path, interrupted_once, name, value):
    state = read_checkpoint(interrupted_once)
    state['opt']['param_groups'][0][name] = value
    write_state(tmp_path/'bad.pt', state)
    learn = quiet_learner()
    before = weights(learn.model)
    with pytest.raises(ValueError, match=f"optimizer's {name} to be like"): learn.resume(tmp_path/'bad.pt')
    assert same(before, weights(learn.model))
    learn.fit(1) # with an optimizer of its own

@pytest.mark.parametrize('name', ['lr','betas','eps']) # for others PyTorch has a default
def test_settings_of_an_optimizer_that_are_missing_are_refused_before_training(tmp_path, interrupted_once, name):
    state = read_checkpoint(interrupted_once)
    del state['opt']['param_groups'][0][name]
    write_state(tmp_path/'bad.pt', state)
    with pytest.raises(ValueError, match=f"optimizer's {name} to be like"): quiet_learner().resume(tmp_path/'bad.pt')

@pytest.fixture(scope='module')
def interrupted_once(tmp_path_factory):
    "A checkpoint of the first of two epochs"
    path,learn = tmp_path_factory.mktemp('settings')/'c.pt',quiet_learner()
    class Stop(Callback):
        order = 90
        def after_epoch(self): raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): learn.fit(2, cbs=[Checkpoint(path), Stop()])
    return path

def test_a_checkpoint_of_before_the_fused_optimizers_goes_on(tmp_path, interrupted_once):
    state = read_checkpoint(interrupted_once)
    for o in state['opt']['param_groups']: o['fused'] = None
    write_state(tmp_path/'old.pt', state)
    learn = quiet_learner()
    learn.resume(tmp_path/'old.pt')
    assert all(o['fused'] for o in learn.opt.opt.param_groups)


# Heads that `fit_heads` has solved have a bias
@pytest.mark.parametrize('n_layers', [1,2])
def test_weights_and_checkpoints_after_fit_heads_go_into_a_new_learner(tmp_path, n_layers):
    def new(seed): return make(tmp_path, seed=seed, n_layers=n_layers, sharing=None)
    learn = new(0)
    learn.fit(1)
    learn.save('trained')
    learn.fit_heads(strength=1.).fit(2, cbs=Checkpoint(tmp_path/'ck.pt'))
    learn.save('solved')
    for load in (lambda o: o.load('solved'), lambda o: o.resume(tmp_path/'ck.pt')):
        again = new(1)
        again.create_opt()
        load(again)
        assert same(weights(again.model), weights(learn.model))
        assert {id(p) for p in again.opt.all_params().itemgot(0)} == {id(p) for p in again.model.parameters()}
        assert len(again.opt.state_dict()['state']) == len(learn.opt.state_dict()['state'])
    again = new(2)
    again.load('solved')
    again.fit(1)
    again.load('trained')
    assert again.model.head.config == new(0).model.head.config
    again.fit(1)

def test_a_checkpoint_of_another_optimizer_leaves_trainable_what_was(tmp_path):
    frozen = make(tmp_path)
    frozen.freeze()
    frozen.fit(1, cbs=Checkpoint(tmp_path/'ck.pt'))
    learn = make(tmp_path, opt_func=fo.Adam)
    with pytest.raises(ValueError, match='another model or optimizer'): learn.resume(tmp_path/'ck.pt')
    assert all(p.requires_grad for p in learn.model.parameters())

def test_a_file_of_another_encoder_leaves_heads_and_optimizer_and_says_what_differs(tmp_path, run):
    other = make(tmp_path, sharing=None)
    other.fit_heads(strength=1.).fit(1, cbs=Checkpoint(tmp_path/'ck.pt'))
    other.save('other')
    learn = quiet_learner(dls=synth_dls(path=tmp_path), arch_config=dict(TINY, hidden=8), sharing=None)
    learn.fit(1)
    head, opt, before = learn.model.head, learn.opt, weights(learn.model)
    for load in (lambda: learn.load('other'), lambda: learn.resume(tmp_path/'ck.pt')):
        with pytest.raises(ValueError, match=r'size mismatch for backbone.*\[4.*\[8'): load()
        assert learn.model.head is head and learn.opt is opt and same(before, weights(learn.model))
    learn.fit(1)
