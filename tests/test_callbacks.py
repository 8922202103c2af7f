"An error at any moment leaves the process as it was; wrong arguments are refused; callbacks, losses and metrics see each task by itself"
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fastai.callback.core import CancelBatchException, CancelFitException, Callback
from fastai.callback.hook import ActivationStats
from fastai.callback.mixup import MixUp
from fastai.callback.progress import CSVLogger
from fastai.callback.schedule import *  # noqa: F403 (adds lr_find, fit_one_cycle, … to Learner)
from fastai.callback.tracker import ReduceLROnPlateau, SaveModelCallback
from fastai.learner import Learner, load_learner
from fastai.losses import BCEWithLogitsLossFlat, CrossEntropyLossFlat, FocalLossFlat, LabelSmoothingCrossEntropyFlat, MSELossFlat
from fastai.metrics import CohenKappa, F1Score, MatthewsCorrCoef, RocAuc, accuracy
from helpers import CPUMixedPrecision, quiet, quiet_learner, same, weights
from sklearn import metrics as skm
from tsai_mtcs.callback.averaging import AverageWeights
from tsai_mtcs.callback.bf16 import BFloat16
from tsai_mtcs.callback.checkpoint import Checkpoint
from tsai_mtcs.data import MultiTaskDataLoaders
from tsai_mtcs.learner import mtcs_learner
from tsai_mtcs.rng import rng_state
from tsai_mtcs.callback.sharing import MTCSLoss
from tsai_mtcs.test_utils import synth_dls, synth_task, synth_tasks

TINY = dict(hidden=4, feats=8, depth=2)
NAN,INF = float('nan'),float('inf')

def tiny(**kwargs): return quiet_learner(**{'arch_config':TINY, **kwargs})
def reversed_dls(): return MultiTaskDataLoaders.from_tasks(synth_tasks()[::-1], bs=16, device='cpu')


# An error at any moment
class Fails(Callback):
    "Raise in one event, in training or in validation"
    def __init__(self, event, error, training=True, order=0): self.event,self.error,self.in_training,self.order = event,error,training,order
    def __call__(self, event):
        if event == self.event and (self.training == self.in_training
                                    or event in ('before_fit','before_epoch','before_train','before_validate')):
            raise self.error

def hooks(model): return sum(len(m._forward_hooks)+len(m._forward_pre_hooks) for m in model.modules())

SETTINGS = dict(bf16=dict(cbs=[BFloat16]), fp16=dict(cbs=[CPUMixedPrecision]), covariance=dict(relevance='covariance'),
                partners=dict(partners=2, three=True), mean=dict(cbs=[AverageWeights]),
                matched=dict(sharing='matched', at=(0.,.5)), mixup=dict(cbs=[MixUp]),
                all=dict(cbs=[BFloat16, AverageWeights, MixUp], relevance='covariance', partners=2, three=True))
EVENTS = ['before_fit','before_epoch','before_train','before_batch','after_pred','after_loss','before_backward','before_step',
          'after_step','after_batch']
VALID_EVENTS = ['before_validate','before_batch','after_pred','after_loss','after_batch']
MOMENTS = [*((o, True) for o in EVENTS), *((o, False) for o in VALID_EVENTS),
           *((o, None) for o in ('forward','loss','metric','validate','validate begins','get_preds begins'))]

def learner(cbs=(), three=False, sharing='paper', **kwargs):
    tasks = [*synth_tasks(), synth_task('third', dict(a='fast', b='sine'), seed=9)] if three else synth_tasks()
    dls = MultiTaskDataLoaders.from_tasks(tasks, bs=16, seed=0, device='cpu')
    return quiet_learner(dls=dls, arch_config=TINY, cbs=[o() for o in cbs], sharing=sharing,
                         **(dict(tau=1.1) if sharing == 'paper' else {}), **kwargs)

def cut_off(learn, moment, training, error):
    "A fit that ends with an error at a moment"
    def fail(*args): raise error
    if moment == 'forward': handle,f = learn.model.backbone.register_forward_hook(fail),lambda: learn.fit(1)
    elif moment == 'loss': learn.loss_func.forward,f = fail,lambda: learn.fit(1)
    elif moment == 'metric': learn.metrics,f = [fail],lambda: learn.fit(1)
    elif moment == 'validate': f = lambda: learn.validate(cbs=Fails('after_pred', error, False))
    elif moment == 'validate begins': f = lambda: learn.validate(cbs=Fails('before_fit', error))
    elif moment == 'get_preds begins': f = lambda: learn.get_preds(cbs=Fails('before_epoch', error), with_loss=True)
    else: f = lambda: learn.fit(1, cbs=Fails(moment, error, training, 200))
    with pytest.raises(type(error)): f()
    if moment == 'forward': handle.remove()
    if moment == 'loss': del learn.loss_func.forward

def check_closed(learn, moment, training, error):
    learn.fit(1, 0.)
    learn.model.backbone.eval() # a mode that isn't that of the whole model
    learn.model.head.train()
    model,loss,logger,metrics = learn.model,learn.loss_func,learn.logger,learn.metrics
    head,modes = model.head,[m.training for m in model.modules()]
    n,cbs,raw = hooks(learn.model),list(learn.cbs),[]
    class Watch(Callback):
        "The weights of the last step"
        order = 300
        def after_train(self): raw.append(weights(self.learn.model))
    learn.add_cb(Watch())
    cut_off(learn, moment, training, error)
    learn.remove_cb(learn.watch)
    learn.metrics = metrics
    assert not torch.is_autocast_enabled('cpu') and torch.autocast_increment_nesting() == 1
    torch.autocast_decrement_nesting()
    assert hooks(learn.model) == n and not getattr(head, 'sparse', False) and list(learn.cbs) == cbs
    assert learn.model is model and learn.loss_func is loss and learn.logger is logger
    assert [m.training for m in learn.model.modules()] == modes
    assert all(p.grad is None for p in learn.model.parameters()) and all(o.run for o in learn.cbs) and not learn.lock.locked()
    if raw: assert same(weights(learn.model), raw[-1])
    learn.fit(1)
    assert np.isfinite(learn.recorder.values[-1][0])

@pytest.mark.parametrize('moment,training', MOMENTS)
def test_ctrl_c_leaves_nothing_open(moment, training): check_closed(learner(**SETTINGS['all']), moment, training, KeyboardInterrupt())

@pytest.mark.parametrize('moment,training', [('forward',None), ('after_pred',False), ('loss',None), ('before_step',True)])
@pytest.mark.parametrize('name', [o for o in SETTINGS if o != 'all'])
def test_an_error_leaves_nothing_open(name, moment, training):
    check_closed(learner(**SETTINGS[name]), moment, training, RuntimeError('out of memory'))

@pytest.mark.slow
@pytest.mark.parametrize('moment,training', MOMENTS)
@pytest.mark.parametrize('error', [KeyboardInterrupt(), RuntimeError('out of memory')], ids=repr)
@pytest.mark.parametrize('name', SETTINGS)
def test_nothing_is_left_open(name, error, moment, training): check_closed(learner(**SETTINGS[name]), moment, training, error)

@pytest.mark.parametrize('error', [CancelBatchException, CancelFitException])
def test_a_cancelled_step_leaves_nothing_open(error):
    learn = learner(**SETTINGS['all'])
    learn.fit(1, cbs=Fails('after_pred', error(), order=5))
    assert not torch.is_autocast_enabled('cpu') and not getattr(learn.model.head, 'sparse', False) and not hooks(learn.model)

def test_a_fit_after_ctrl_c_is_that_of_the_same_weights():
    "No gradient of the step that was not taken is left"
    a,b = tiny(),tiny()
    with pytest.raises(KeyboardInterrupt): a.fit(1, cbs=Fails('before_step', KeyboardInterrupt()))
    b.dls.train.epoch = a.dls.train.epoch
    for learn in (a,b):
        torch.manual_seed(1)
        learn.fit(1, reset_opt=True)
    assert same(weights(a.model), weights(b.model))

def test_an_interrupted_search_for_a_rate_leaves_the_weights(tmp_path):
    learn = tiny(path=tmp_path)
    before,epoch,state = weights(learn.model),learn.dls.train.epoch,rng_state()['torch']
    class Stop(Callback):
        def after_step(self):
            if self.train_iter == 9: raise KeyboardInterrupt
    learn.add_cb(Stop())
    with pytest.raises(KeyboardInterrupt): learn.lr_find(show_plot=False)
    assert same(before, weights(learn.model)) and learn.dls.train.epoch == epoch and torch.equal(rng_state()['torch'], state)
    assert not list((tmp_path/'models').iterdir())

def test_a_fit_after_an_interrupted_search_shares_and_writes_its_checkpoint(tmp_path):
    "Both callbacks leave a search out by switching themselves off, which fastai takes back only after a fit that ends"
    learn = quiet_learner(cbs=Checkpoint(tmp_path/'last.pt'), path=tmp_path)
    learn.add_cb(Fails('after_step', KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt): learn.lr_find(show_plot=False)
    learn.remove_cb(learn.fails)
    learn.fit(1, 1e-2)
    assert learn.recorder.values[-1][-1] == learn.matched_sharing.matched() == 4 and (tmp_path/'last.pt').exists()

@pytest.mark.parametrize('error', [ValueError('no data'), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize('order', [-30,65,2001])
def test_a_callback_that_fails_at_the_beginning_leaves_no_file_and_no_hook_open(tmp_path, order, error):
    learn = quiet_learner(cbs=[CSVLogger(), ActivationStats()], path=tmp_path)
    with pytest.raises(type(error)): learn.fit(1, cbs=Fails('before_fit', error, order=order))
    log = vars(learn.csv_logger).get('file')
    assert (log is None or log.closed) and not hooks(learn.model)
    learn.fit(1)
    assert len((tmp_path/'history.csv').read_text().splitlines()) == 2

def test_show_results_keeps_the_mode():
    learn = tiny()
    learn.model.forward = lambda x: 1/0
    with pytest.raises(ZeroDivisionError): learn.show_results()
    assert learn.model.training
    plt.close('all')


# Searching for a rate, and lowering it
@pytest.mark.parametrize('opt_func', ['default','fastai'])
def test_a_search_for_a_rate_changes_nothing_of_the_fit(tmp_path, opt_func):
    from fastai.optimizer import Adam
    fits = []
    for find in (False,True):
        learn = tiny(path=tmp_path, **({} if opt_func == 'default' else dict(opt_func=Adam)))
        if find: learn.lr_find(num_it=20, show_plot=False)
        learn.fit(2)
        fits.append((weights(learn.model), learn.recorder.values))
    assert same(fits[0][0], fits[1][0]) and fits[0][1] == fits[1][1]

def test_reduce_lr_on_plateau_reduces():
    learn = tiny(dls=synth_dls(valid_pct=.3))
    learn.fit(4, 1e-2, cbs=ReduceLROnPlateau(patience=1, min_delta=9., factor=10))
    rates = [o for i,o in enumerate(learn.recorder.lrs) if i == 0 or o != learn.recorder.lrs[i-1]]
    assert rates == pytest.approx([1e-2,1e-3,1e-4])
    assert [g['lr'] for g in learn.opt.opt.param_groups] == pytest.approx([1e-5]*2) and type(learn.opt.opt.param_groups[0]['lr']) is float


def test_looking_at_a_model_is_no_epoch(tmp_path, capsys):
    "The best model in the file, and what the callback remembers, stay as they were"
    learn = tiny(dls=synth_dls(valid_pct=.3), path=tmp_path, cbs=SaveModelCallback(monitor='accuracy'))
    learn.fit(2, 1e-2)
    file,best,cbs = (tmp_path/'models'/'model.pth').read_bytes(),learn.save_model.best,list(learn.cbs)
    learn.model.head.weight.data.zero_()
    before = weights(learn.model)
    capsys.readouterr()
    for look in (learn.validate, learn.validate_tasks, learn.get_preds): look()
    assert (tmp_path/'models'/'model.pth').read_bytes() == file and learn.save_model.best == best and list(learn.cbs) == cbs
    assert same(before, weights(learn.model)) and 'Better model' not in capsys.readouterr().out


# Arguments that make no sense
@pytest.mark.parametrize('fit', [lambda o: o.fit(1, NAN), lambda o: o.fit(1, -1e-3), lambda o: o.fit(1, INF),
    lambda o: o.fit(1, slice(1e-4, NAN)), lambda o: o.fit(1, [1e-3,-1e-3]), lambda o: o.fit(1, '0.1'),
    lambda o: o.fit(0), lambda o: o.fit(-1), lambda o: o.fit(1.5), lambda o: o.fit(True), lambda o: o.fit(1, wd=-.1),
    lambda o: o.fit(1, wd=NAN), lambda o: o.fit_one_cycle(1, NAN),
    lambda o: o.fit_one_cycle(0), lambda o: o.fit_one_cycle(1, slice(None, -1e-3)), lambda o: o.fine_tune(1, NAN), lambda o: o.fine_tune(0),
    lambda o: o.fine_tune(1, freeze_epochs=-1),
    lambda o: o.fit_flat_cos(1, INF), lambda o: o.fit_sgdr(0, 1), lambda o: o.fit_sgdr(1, 1, NAN), lambda o: o.lr_find(start_lr=NAN),
    lambda o: o.lr_find(1e-7, -1.)])
def test_rates_and_epochs_are_checked_before_training(fit):
    learn = tiny()
    before = weights(learn.model)
    with pytest.raises(ValueError, match='expected (n_epoch|epochs|freeze_epochs|n_cycles|lr|lr_max|base_lr|start_lr|end_lr|wd) to be a '
                                         '(whole|finite) number of at least'):
        fit(learn)
    assert same(before, weights(learn.model)) and all(o.requires_grad for o in learn.model.parameters()) and learn.dls.train.epoch == 0

def test_the_learner_s_own_rate_is_checked():
    with pytest.raises(ValueError, match='expected lr to be a finite number'): tiny(lr=NAN).fit(1)
    with pytest.raises(ValueError, match='expected wd to be a finite number'): tiny(wd=-1.).fit(1)

@pytest.mark.parametrize('name', ['alpha','tau'])
@pytest.mark.parametrize('value', [NAN,INF,-INF,-1.])
def test_alpha_and_tau_are_finite(name, value):
    for f in (MTCSLoss, lambda **kwargs: tiny(sharing='paper', **kwargs)):
        with pytest.raises(ValueError, match=f'expected a finite {name} of at least 0, found {value}'): f(**{name:value})

@pytest.mark.parametrize('name,near',
    [('spliter','splitter'), ('metric','metrics'), ('arch_confg','arch_config'), ('optfunc','opt_func'), ('weight_decay',None)])
def test_unknown_arguments_are_named(name, near):
    with pytest.raises(ValueError,
                       match=f'mtcs_learner has no argument `{name}`: '+(f'did you mean `{near}`' if near else 'known: .*splitter')):
        mtcs_learner(synth_dls(), **{name:1})


# Loaders of other tasks
def relabelled():
    a,b = synth_tasks()
    b = synth_task('machine', dict(humming='fast', smooth='sine', jammed='square'), steps=40, seed=1)
    return MultiTaskDataLoaders.from_tasks([a,b], device='cpu')

@pytest.mark.parametrize('dls,match', [(reversed_dls, "expected 'waves' as number 0, found 'machine'; give them the same order"),
    (lambda: MultiTaskDataLoaders.from_tasks(synth_tasks()[:1], device='cpu'), "expected 'machine' as number 1, found no task"),
    (relabelled, "other labels of the task 'machine': expected 'smooth', found 'jammed'")])
def test_loaders_of_other_tasks_are_refused(dls, match):
    learn,other = tiny(),dls()
    own = learn.dls
    with pytest.raises(ValueError, match=match): learn.dls = other
    for f in (lambda: learn.validate(dl=other.valid), lambda: learn.get_preds(dl=other.valid)):
        with pytest.raises(ValueError, match=match): f()
    assert learn.dls is own
    learn.fit(1)

def test_other_loaders_of_the_same_tasks_train_the_same_heads():
    learn = tiny()
    learn.dls = synth_dls(seed=5, bs=8)
    learn.fit(1)
    learn.dls = learn.dls['waves']
    before = weights(learn.model)
    learn.fit(1, wd=0.)
    block = learn.dls.space.block('machine')
    assert len(learn.validate_tasks()) == 2 and not same(before, weights(learn.model)) and before['head.last.weight'][block].shape == (3,8)

def test_weights_of_tasks_in_another_order_are_refused(tmp_path):
    a = tiny(path=tmp_path)
    a.save('a')
    b = tiny(path=tmp_path, dls=reversed_dls())
    before = weights(b.model)
    with pytest.raises(ValueError, match=r"a\.pth has other tasks than the model: expected 'machine' as number 0, found 'waves'"):
        b.load('a')
    assert same(before, weights(b.model))

def test_damaged_weights_are_refused(tmp_path):
    learn = tiny(path=tmp_path)
    learn.fit(1)
    file = learn.save('a')
    whole,before = file.read_bytes(),weights(learn.model)
    at = whole.index(learn.model.head.weight.detach().numpy().tobytes())
    for data in (whole[:at+3]+bytes([whole[at+3]^64])+whole[at+4:], whole[:len(whole)//2], b''):
        file.write_bytes(data)
        with pytest.raises(ValueError, match=r'a\.pth'): learn.load('a')
    with pytest.raises(FileNotFoundError, match='expected saved weights'): learn.load('none')
    nan = tiny(path=tmp_path)
    nan.model.head.weight.data[0] = torch.nan
    nan.save('nan')
    with pytest.raises(ValueError, match=r'nan\.pth: expected finite weights, found NaN or infinity in head.last.weight'): learn.load('nan')
    tiny(path=tmp_path, arch_config=dict(hidden=8, feats=16, depth=2)).save('larger')
    with pytest.raises(ValueError, match=r'larger\.pth: weights of another model'): learn.load('larger')
    assert same(before, weights(learn.model))

def test_a_learner_without_data_says_so(tmp_path):
    learn = tiny(path=tmp_path)
    learn.export('learner.pkl')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        again = quiet(load_learner(tmp_path/'learner.pkl'))
    before = weights(again.model)
    for fit in (lambda: again.fit(1), lambda: again.fit_one_cycle(1), lambda: again.fine_tune(1)):
        with pytest.raises(ValueError, match=r'expected training rows, found none.*learn\.dls = MultiTaskDataLoaders'): fit()
    assert same(before, weights(again.model)) and all(o.requires_grad for o in again.model.parameters())
    again.dls = synth_dls()
    again.fit(1)
    assert not same(before, weights(again.model))


# Losses and metrics of fastai
@pytest.mark.parametrize('loss', [CrossEntropyLossFlat, torch.nn.CrossEntropyLoss, lambda: F.cross_entropy,
                                  lambda: LabelSmoothingCrossEntropyFlat(eps=0.), lambda: FocalLossFlat(gamma=0.)])
def test_losses_of_fastai_are_equation_2(loss):
    a,b = tiny(),tiny(loss_func=loss())
    assert b.validate()[0] == pytest.approx(a.validate()[0], rel=1e-5)
    for learn in (a,b):
        torch.manual_seed(0)
        learn.fit(1, 1e-3)
    for k,v in weights(a.model).items(): assert torch.allclose(v, b.model.state_dict()[k], atol=1e-4), k
    assert b.get_preds(with_loss=True)[2].shape == (32,)

def test_a_loss_does_not_push_other_tasks_down():
    "A softmax over all labels would: the gradient of other tasks' rows is exactly 0"
    learn = tiny(loss_func=LabelSmoothingCrossEntropyFlat(), sharing=None)
    x,y = learn.dls['waves'].train.one_batch()
    learn.loss_func(learn.model(x), y).backward()
    grad = learn.model.head.weight.grad
    assert grad[:2].abs().sum() > 0 and (grad[2:] == 0).all()

def test_probabilities_of_a_loss_of_fastai_are_a_distribution_a_task():
    probs = tiny(loss_func=CrossEntropyLossFlat()).get_preds()[0]
    assert torch.allclose(probs[:,:2].sum(1), torch.ones(32)) and torch.allclose(probs[:,2:].sum(1), torch.ones(32))

def test_class_weights():
    w = torch.tensor([1.,2,3,4,5])
    learn = tiny(loss_func=CrossEntropyLossFlat(weight=w))
    with torch.no_grad():
        want = [F.cross_entropy(learn.model.eval()(x)[:,s:e], y-s, weight=w[s:e]) for (x,y),(s,e) in zip(learn.dls.valid, ((0,2),(2,5)))]
    assert learn.validate()[0] == pytest.approx(float(sum(want))/2, rel=1e-5)
    for n in (2,3,6):
        with pytest.raises(ValueError, match=fr"each of the 5 labels \(2 of 'waves', 3 of 'machine'\).*found {n}"):
            tiny(loss_func=CrossEntropyLossFlat(weight=torch.ones(n)))

@pytest.mark.parametrize('loss', [BCEWithLogitsLossFlat, MSELossFlat, lambda: torch.nn.CrossEntropyLoss(reduction='none')])
def test_other_losses_are_refused(loss):
    with pytest.raises(ValueError, match='expected a loss'): tiny(loss_func=loss())

def test_metrics_of_fastai_are_the_mean_over_tasks():
    own = [F1Score(average='macro'), CohenKappa(), MatthewsCorrCoef(), RocAuc(), accuracy]
    learn = tiny(metrics=own)
    learn.fit(2, 1e-2)
    row = dict(zip(learn.recorder.metric_names[1:], learn.recorder.values[-1]))
    want = {}
    for t in synth_tasks():
        labels,probs = learn.predict(t.X[t.test], t.name)
        y,p = t.codes[t.test],probs.argmax(1)
        auc = skm.roc_auc_score(y, probs[:,1]) if len(t.labels) == 2 else skm.roc_auc_score(y, probs, multi_class='ovr')
        for k,v in dict(f1_score=skm.f1_score(y, p, average='macro'), cohen_kappa_score=skm.cohen_kappa_score(y, p),
                        matthews_corrcoef=skm.matthews_corrcoef(y, p),
                        roc_auc_score=auc, accuracy=(y == p).mean()).items(): want.setdefault(k, []).append(v)
    for k,v in want.items(): assert row[f'test_{k}'] == pytest.approx(np.mean(v), abs=1e-6), k

def test_a_metric_leaves_predictions_alone():
    seen = []
    class Look(Callback):
        order = 45 # after the tally
        def after_batch(self): seen.append(self.pred.isfinite().all())
    tiny().fit(1, cbs=Look())
    assert all(seen)


# get_preds as fastai has it
def test_get_preds_has_the_arguments_of_fastai():
    import inspect
    assert list(inspect.signature(type(tiny()).get_preds).parameters)[:10] == list(inspect.signature(Learner.get_preds).parameters)[:10]
    learn = tiny()
    x,probs,y = learn.get_preds(1, None, True)
    assert len(x) == 32 and probs.shape == (32,5) and len(y) == 32
    assert torch.equal(learn.get_preds(1, None, False, True)[2], learn.get_preds(with_decoded=True)[2])

def test_get_preds_of_a_training_loader_is_in_the_order_of_the_rows():
    learn = tiny()
    a,b = learn.get_preds(dl=learn.dls.train),learn.get_preds(0)
    assert torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) and learn.dls.train.epoch == 0


# Names of tsai
def test_names_of_tsai():
    import tsai.all  # noqa: F401 (adds its own to Learner)
    learn,t = tiny(),synth_tasks()[1]
    known = [o for o in dir(Learner) if (getattr(getattr(Learner, o), '__module__', None) or '').startswith('tsai.')]
    assert {'get_X_preds','feature_importance','step_importance','top_losses','plot_top_losses','show_probas','plot_confusion_matrix',
            'calibrate_model'} <= set(known)
    probs,y,labels,loss = learn.get_X_preds(t.X, t.y, with_loss=True, task='machine')
    assert labels == list(learn.predict(t.X, 'machine')[0]) and y.tolist() == t.codes.tolist() and probs.shape == (48,3)
    assert torch.allclose(loss, -probs[range(48),y].log(), atol=1e-5)
    one = learn.get_X_preds(t.X[:5], task='machine')
    assert one[1] is None and len(one) == 3
    with pytest.raises(ValueError, match='task=…, one of: waves, machine'): learn.get_X_preds(t.X)
    working = {'get_X_preds','top_losses','plot_top_losses','show_batch','remove_all_cbs','one_batch','plot_metrics'}
    for name in set(known)-working:
        with pytest.raises(NotImplementedError, match=f"tsai's {name} knows one data set, and this learner has several; "):
            getattr(learn, name)()
    learn.show_batch()
    learn.fit(1)
    learn.plot_metrics()
    plt.close('all')

def test_events_reach_methods_and_attributes_of_callbacks_in_their_order():
    class Late(Callback):
        order = 5
        def after_pred(self): seen.append('late')
    class Early(Callback):
        order = -5
    class Own(Callback):
        def __call__(self, event_name): seen.append('own') if event_name == 'after_pred' else None
    seen,early = [],Early()
    learn = quiet_learner(cbs=[Late(), Own(), early])
    early.after_pred = lambda: seen.append('early')
    learn.fit_steps(2)
    assert seen[:6] == ['early','own','late']*2
    with pytest.raises(ValueError, match="no event 'after_all'"): learn('after_all')
