"What works on a fastai learner works on this one."
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from fastai.callback.core import Callback
from fastai.callback.fp16 import MixedPrecision
from fastai.callback.mixup import MixUp
from fastai.callback.schedule import *  # noqa: F403 (adds lr_find, fit_one_cycle, … to Learner)
from fastai.callback.tracker import EarlyStoppingCallback, ReduceLROnPlateau, SaveModelCallback, TrackerCallback
from fastai.interpret import ClassificationInterpretation
from fastai.learner import load_learner
from fastai.metrics import F1Score, error_rate
from fastai.torch_core import set_seed, trainable_params
from helpers import CPUMixedPrecision, quiet, quiet_learner, random_task, same, weights
from tsai.models.FCNPlus import FCNPlus
from tsai.models.InceptionTimePlus import InceptionTimePlus
from tsai.models.ResNetPlus import ResNetPlus
from tsai.models.TSTPlus import TSTPlus
from tsai_mtcs.archive import bundled_tasks
from tsai_mtcs.data import MultiTaskDataLoaders
from tsai_mtcs.encoders import TS2VecEncoder
from tsai_mtcs.evaluation import class_scores
from tsai_mtcs.learner import mtcs_learner
from tsai_mtcs.tasks import Task
from tsai_mtcs.test_utils import synth_dls, synth_learner, synth_task, synth_tasks

COLUMNS = ['epoch','train_loss','test_loss','test_accuracy','waves','machine','matched','time'] # without a validation split
HELD = ['epoch','train_loss','valid_loss','accuracy',*COLUMNS[4:]]


@pytest.fixture(scope='module')
def trained():
    "A learner for the tests that change nothing of it"
    learn = quiet_learner(sharing='paper', tau=1.2)
    learn.fit(8, 1e-2)
    return learn

def loaders(tasks, **kwargs): return MultiTaskDataLoaders.from_tasks(tasks, **{'bs':16, 'device':'cpu', **kwargs})


# Training
FITS = dict(fit=lambda o: o.fit(2, 1e-2), fit_one_cycle=lambda o: o.fit_one_cycle(2, 1e-2), fine_tune=lambda o: o.fine_tune(1, 1e-2),
            fit_flat_cos=lambda o: o.fit_flat_cos(2, 1e-2), fit_sgdr=lambda o: o.fit_sgdr(2, 1, 1e-2))

@pytest.mark.parametrize('fit', FITS)
def test_fits_train_everything(fit):
    learn = quiet_learner()
    before = weights(learn.model)
    FITS[fit](learn)
    assert all(not torch.equal(before[k], v) for k,v in learn.model.state_dict().items())
    assert np.isfinite(learn.recorder.values).all()

@pytest.mark.parametrize('valid_pct', [0.,.25])
def test_tasks_without_a_test_split_train_and_are_not_tested(valid_pct):
    bare = [Task(o.name, o.X, o.y, dict(train=o.train)) for o in synth_tasks()]
    fits = []
    for tasks in (synth_tasks(), bare):
        learn = quiet_learner(dls=loaders(tasks, valid_pct=valid_pct))
        learn.fit(2, 1e-2)
        fits.append(weights(learn.model))
    assert same(*fits)
    for look in (learn.validate_tasks, learn.svm_eval, learn.show_results if not valid_pct else learn.validate_tasks):
        with pytest.raises(ValueError, match='expected rows in the test split, found none: give the tasks such rows'): look()
    assert learn.recorder.values[-1][1] is None if not valid_pct else learn.validate_tasks('valid').rows['waves'] == 8

def test_one_task_of_two_has_a_test_split():
    waves,machine = synth_tasks()
    learn = quiet_learner(dls=loaders([waves, Task('machine', machine.X, machine.y, (machine.train,[]))]))
    learn.fit(1)
    assert list(learn.validate_tasks().index) == ['waves','mean'] == list(learn.svm_eval().index)

def test_training_learns(trained): assert trained.validate_tasks().accuracy.min() > .8

def test_table():
    learn,rows = quiet_learner(),[]
    learn.logger = rows.append
    learn.fit(2)
    learn.fit(1)
    assert list(learn.recorder.metric_names) == COLUMNS and len(learn.metrics) == 4
    assert [o[0] for o in rows] == [0,1,0] and {len(o) for o in rows} == {len(COLUMNS)}
    last = dict(zip(COLUMNS, rows[-1]))
    df = learn.validate_tasks()
    for name,column in (('waves','waves'), ('machine','machine'), ('mean','test_accuracy')):
        assert np.isclose(last[column], df.accuracy[name])
    assert np.isclose(last['test_loss'], np.average(df.loss[:-1], weights=df.rows[:-1]))

@pytest.mark.parametrize('n,columns', [(1,0), (16,16), (17,0)])
def test_columns_of_tasks_while_they_are_few(n, columns):
    learn = quiet_learner(dls=loaders([random_task(f't{i}', seed=i) for i in range(n)]))
    learn.fit(1)
    assert list(learn.recorder.metric_names[3:-2]) == ['test_accuracy']+[f't{i}' for i in range(columns)]

def test_scores_of_unequal_labels_and_of_one_that_training_lacks():
    "Balanced accuracy counts the labels that occur; rows of an unknown label are one more, always wrong"
    y = ['a']*9+['b']*3+['a']*6+['b']*2+['c']*2
    task = Task('gait', np.random.default_rng(0).normal(size=(22,1,20)), y, (range(12), range(12,22)))
    learn = quiet_learner(dls=loaders([task, random_task('alarm')]))
    learn.fit(2, 1e-2)
    df = learn.validate_tasks()
    for t in (task, random_task('alarm')):
        want = class_scores(t.y[t.test].astype(str), learn.predict(t.X[t.test], t.name)[0].astype(str))
        assert df.loc[t.name,['accuracy','balanced_accuracy']].tolist() == pytest.approx([want['accuracy'], want['balanced_accuracy']])
    assert df.balanced_accuracy['mean'] == pytest.approx(df.balanced_accuracy[:2].mean()) and df.rows.tolist()[:2] == [10,6]

def test_same_seed_same_result():
    runs = []
    for seed in (0,0,1):
        learn = quiet_learner(seed=seed)
        learn.fit_one_cycle(2)
        runs.append(weights(learn.model))
    assert same(runs[0], runs[1]) and not same(runs[0], runs[2])

def test_freeze_trains_heads_alone():
    learn = quiet_learner()
    learn.freeze()
    before = weights(learn.model)
    learn.fit(1)
    for k,v in learn.model.state_dict().items(): assert torch.equal(v, before[k]) == k.startswith('backbone'), k
    learn.unfreeze()
    learn.fit(1)
    assert not any(torch.equal(v, before[k]) for k,v in learn.model.state_dict().items())

def test_discriminative_rates():
    learn = quiet_learner()
    learn.fit(1, slice(1e-4,1e-2))
    assert [o['lr'] for o in learn.opt.hypers] == pytest.approx([1e-4,1e-2])
    assert [len(list(o)) for o in learn.opt.param_lists] == [len(list(m.parameters())) for m in (learn.model.backbone, learn.model.head)]

def test_lr_find_leaves_the_model_as_it_was(tmp_path):
    learn = quiet_learner(path=tmp_path)
    before = weights(learn.model)
    found = learn.lr_find(num_it=30)
    assert 0 < found.valley < 10 and same(before, weights(learn.model))
    learn.fit(1)

def test_arguments_of_learner():
    learn = quiet_learner(wd=.3, lr=.02, splitter=trainable_params, moms=(.9,.8,.9), train_bn=False)
    learn.fit(1)
    assert [(o['wd'],o['lr']) for o in learn.opt.hypers] == [(.3,.02)]
    assert learn.moms == (.9,.8,.9) and not learn.train_bn

def test_user_metrics():
    def peak(pred, y): return pred.max(1).values.abs().mean()
    learn = quiet_learner(metrics=peak)
    learn.fit(1)
    assert list(learn.recorder.metric_names) == COLUMNS[:6]+['test_peak']+COLUMNS[6:]
    learn.model.eval()
    def own(x, y): return learn.model(x)[:,learn.dls.space.block(learn.dls.decode(y)[0][0])] # what a metric sees: the logits of y's task
    with torch.no_grad(): want = sum(peak(own(x, y), y).item()*len(x) for x,y in learn.dls.valid)/len(learn.dls.valid_ds)
    assert learn.recorder.values[0][5] == pytest.approx(want, rel=1e-5)

def test_mixup():
    learn = quiet_learner(cbs=MixUp())
    loss,before = learn.loss_func,weights(learn.model)
    learn.fit(2)
    assert learn.loss_func is loss and loss.reduction == 'mean'
    assert np.isfinite(learn.recorder.values).all() and not same(before, weights(learn.model))

@pytest.mark.filterwarnings('ignore')
def test_mixed_precision():
    "Convolutions in half precision and weights in float32, with nearly the same result; `to_fp32` ends it"
    seen = []
    plain,learn = (quiet_learner(sharing='paper', tau=1.2, cbs=cbs) for cbs in (None, CPUMixedPrecision()))
    learn.model.register_forward_hook(lambda module, args, out: seen.append(out.dtype) if module.training else None)
    for o in (plain, learn): o.fit(1)
    assert set(seen) == {torch.bfloat16} and {o.dtype for o in learn.model.parameters()} == {torch.float32}
    assert np.allclose(learn.recorder.losses, plain.recorder.losses, rtol=.05) and not same(weights(plain.model), weights(learn.model))
    assert not learn.to_fp32()._grab_cbs(MixedPrecision)
    seen.clear()
    learn.fit(1)
    assert set(seen) == {torch.float32}

def test_resumed_fit_ends_as_if_nothing_had_happened(tmp_path):
    "Three epochs, or one that is saved and two that another learner adds"
    make = lambda seed=0: quiet_learner(seed=seed, dls=synth_dls(), sharing='paper',
                                        arch_config=dict(hidden=8, feats=16, depth=3, dropout=0), path=tmp_path)
    whole,first,second = make(),make(),make(1)
    whole.fit(3)
    first.fit(1)
    first.save('cut')
    second.load('cut')
    second.dls.train.epoch = first.dls.train.epoch
    rows = []
    second.logger = rows.append
    second.fit(3, start_epoch=1)
    assert same(weights(whole.model), weights(second.model))
    assert [o[0] for o in rows] == [1,2]
    assert [o[1:] for o in second.recorder.values] == [o[1:] for o in whole.recorder.values[1:]]  # the smoothed train_loss begins anew

@pytest.mark.parametrize('kw,said', [({}, 'matched, pull 0.5'), (dict(sharing='paper', alpha=.2), 'paper, alpha 0.2, tau 2.0'),
                                     (dict(sharing='paper', partners=2), 'paper, partners 2, alpha 0.1, tau 2.0'),
                                     (dict(sharing=None), 'none')])
def test_a_learner_says_what_it_is_made_of(kw, said):
    learn = quiet_learner(**kw)
    n = sum(o.numel() for o in learn.model.backbone.parameters())
    assert repr(learn).splitlines() == ['MTCSLearner of 2 tasks with 5 labels', '  tasks:   waves (2 labels), machine (3 labels)',
        f'  encoder: TS2VecEncoder, 16 feats, {n:,} weights', '  heads:   1 layer', f'  sharing: {said}']
    learn.freeze()
    assert ' weights, frozen' in repr(learn) and 'solved by fit_heads' in repr(quiet_learner().fit_heads(strength=0))

def test_loaders_say_what_they_hold():
    assert repr(synth_dls(valid_pct=.3)).splitlines() == ['MultiTaskDataLoaders of 2 tasks with 5 labels, on cpu',
        '  tasks: waves (2 labels), machine (3 labels)',
        "  train: 45 rows in 4 steps an epoch, up to 16 at a time; schedule 'proportional'",
        '  valid: 19 rows', '  test:  32 rows']
    assert '  valid: none; a fit shows the test split' in repr(synth_dls())
    assert '  train: 0 rows\n' in repr(synth_dls().new_empty())
    many = MultiTaskDataLoaders.from_tasks([random_task(f't{i}', n_train=4, n_test=2) for i in range(9)], device='cpu')
    assert repr(many).splitlines()[1].endswith('t5 (2 labels) and 3 more')

@pytest.mark.parametrize('fit', ['fit','fit_one_cycle','fit_flat_cos','fit_sgdr','fit_recipe','fine_tune'])
@pytest.mark.parametrize('start', [-1, 1.5, None, 4, 7])
def test_a_fit_that_would_train_no_epoch_is_refused(fit, start):
    learn = quiet_learner()
    before = weights(learn.model)
    args = (2,2) if fit == 'fit_sgdr' else (4,) # two cycles of two epochs; `fit_sgdr` doubles the length of each: six epochs
    start = 6 if fit == 'fit_sgdr' and start == 4 else start
    if fit == 'fine_tune' and start is None: return # its way to say that none was given
    with pytest.raises(ValueError, match='start_epoch'): getattr(learn, fit)(*args, start_epoch=start)
    assert same(before, weights(learn.model)) and all(o.requires_grad for o in learn.model.parameters())

def test_fine_tuning_that_is_cut_off_leaves_the_encoder_trainable():
    learn = quiet_learner()
    class Stop(Callback):
        def after_step(self): raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): learn.fine_tune(1, cbs=Stop())
    before = weights(learn.model)
    learn.fit(1)
    assert all(not torch.equal(before[k], v) for k,v in learn.model.state_dict().items())

def test_the_size_of_the_encoder_and_of_the_heads():
    learn = quiet_learner(arch_config=dict(vars=1, hidden=4, feats=8, depth=2), n_layers=2, sharing=None)
    assert learn.embed(synth_tasks()[0]).shape == (48,8) and len(learn.model.backbone.blocks) == 2+1
    assert learn.model.head(torch.zeros(3,8)).shape == (3,5) and learn.model.head.config['n_layers'] == 2

@pytest.mark.parametrize('kw', [dict(relevance='cosine'), dict(relevance='covariance'), dict(pairs='target'), dict(distance='l2'),
                                dict(alpha=.5), dict(tau=.5)], ids=str)
def test_settings_of_the_sharing_loss_change_what_it_trains(kw):
    def trained(**kwargs):
        learn = quiet_learner(**{'sharing':'paper', 'tau':1.1, **kwargs})
        learn.fit(1, 1e-2)
        return weights(learn.model)
    assert same(trained(), trained()) and not same(trained(), trained(**kw))

def test_user_loss():
    class Loss(torch.nn.CrossEntropyLoss): activation = staticmethod(torch.sigmoid)
    learn = quiet_learner(loss_func=Loss())
    learn.fit(1)
    assert torch.allclose(learn.get_preds()[0], learn.get_preds(act=lambda o: o)[0].sigmoid())


# Evaluation
def test_validate_is_the_mean_loss(trained):
    with torch.no_grad(): sums = [(trained.loss_func(trained.model.eval()(x), y)*len(y), len(y)) for x,y in trained.dls.valid]
    assert trained.validate()[0] == pytest.approx((sum(o for o,_ in sums)/sum(n for _,n in sums)).item(), rel=1e-5)

@pytest.mark.parametrize('split', ['train','test'])
def test_validate_tasks_is_what_predict_gets_right(trained, split):
    df = trained.validate_tasks(split)
    assert list(df.index) == ['waves','machine','mean']
    for t in synth_tasks():
        rows = getattr(t, split)
        labels,probs = trained.predict(t.X[rows], t.name)
        loss = -np.log(probs[np.arange(len(rows)),t.codes[rows]]).mean()
        assert df.rows[t.name] == len(rows)
        assert df.accuracy[t.name] == pytest.approx((labels == t.y[rows]).mean())
        assert df.loss[t.name] == pytest.approx(loss, rel=1e-4)
    assert df.accuracy['mean'] == pytest.approx(df.accuracy.iloc[:2].mean())
    one = trained.validate_tasks(split, 'machine')
    assert list(one.index) == ['machine','mean'] and one.loc['machine'].tolist() == pytest.approx(df.loc['machine'].tolist())
    with pytest.raises(ValueError, match='nope'): trained.validate_tasks(split, ['nope'])

def test_record_of_the_fit_outlives_an_evaluation():
    learn = quiet_learner()
    learn.fit(3)
    want = list(map(list, learn.recorder.values))
    for look in (learn.validate, learn.validate_tasks, learn.get_preds, learn.svm_eval): look()
    assert list(map(list, learn.recorder.values)) == want
    assert len(learn.plot_training().axes[0].lines[0].get_xdata()) == 3

def test_get_preds_keeps_order_and_width(trained):
    probs,y = trained.get_preds()
    assert probs.shape == (32,5)
    space,start = trained.dls.space,0
    for t in synth_tasks():
        block,rows = space.block(t.name),slice(start, start+len(t.test))
        assert torch.equal(y[rows], torch.tensor(t.codes[t.test])+block.start)
        np.testing.assert_allclose(probs[rows,block], trained.predict(t.X[t.test], t.name)[1], atol=1e-6)
        start = rows.stop

@pytest.mark.parametrize('ds_idx', [0,1,2])
def test_get_preds_of_each_split(trained, ds_idx):
    _,y = trained.get_preds(ds_idx=ds_idx)
    want = [trained.dls.space.offsets[k]+t.codes[t.test if ds_idx else t.train] for k,t in enumerate(synth_tasks())]
    assert y.tolist() == np.concatenate(want).tolist()

def test_get_preds_with_everything(trained):
    x,probs,y,decoded,loss = trained.get_preds(with_input=True, with_decoded=True, with_loss=True)
    assert [tuple(o.shape) for o in x] == [(1,32)]*16+[(1,40)]*16
    assert torch.allclose(loss, -probs[range(32),y].log(), atol=1e-5)
    truth,guess = trained.dls.decode(y),trained.dls.decode(decoded)
    assert [o for o,_ in truth] == [o for o,_ in guess]
    assert np.mean([a == b for a,b in zip(truth, guess)]) == pytest.approx(trained.validate_tasks().accuracy.iloc[:2].mean())
    assert torch.equal(trained.get_preds(with_decoded=True)[2], decoded)
    view = trained.get_preds(dl=trained.dls['machine'].valid, with_input=True)
    assert view[0].shape == (16,1,40) and torch.equal(view[2], y[16:])

def test_get_preds_of_new_series(trained):
    t = synth_tasks()[1]
    probs,_ = trained.get_preds(dl=trained.dls.test_dl(t.X[:7], 'machine'))
    np.testing.assert_allclose(probs[:,trained.dls.space.block('machine')], trained.predict(t.X[:7], 'machine')[1], atol=1e-6)

def test_predict_one_task_or_many_rows_alike(trained):
    X = synth_tasks()[0].X
    labels,probs = trained.predict(X, 'waves')
    one = [trained.predict(X[i:i+1], 'waves') for i in range(len(X))]
    assert labels.tolist() == [o[0][0] for o in one]
    np.testing.assert_allclose(probs, np.concatenate([o[1] for o in one]), atol=1e-6)

@pytest.mark.parametrize('n_layers', [1,2])
def test_summary_counts_all_weights(n_layers):
    learn = quiet_learner(sharing='paper', n_layers=n_layers)
    total = sum(o.numel() for o in learn.model.parameters())
    assert f'Total params: {total:,}\n' in str(learn.summary())

def test_show_results(trained):
    for task in (None,'machine'):
        axs = trained.show_results(max_n=6, task=task, ncols=2).axes
        titles = [(ax.get_title(), ax.title.get_color()) for ax in axs if ax.get_title()]
        assert len(titles) == 6 and {o.split(':')[0] for o,_ in titles} == ({'waves','machine'} if task is None else {'machine'})
        for text,color in titles: assert (color == 'green') == (len(set(text.split(': ')[1].split(' / '))) == 1)
    t = synth_tasks()[1]
    guess,_ = trained.predict(t.X[t.test[:6]], 'machine')
    assert [o for o,_ in titles] == [f'machine: {a} / {b}' for a,b in zip(t.y[t.test], guess)]

def test_show_batch(trained):
    trained.dls.show_batch(max_n=4)
    want = [f'{t.name}: {t.y[t.train[i]]}' for i in range(2) for t in synth_tasks()]
    assert [ax.get_title() for ax in plt.gcf().axes if ax.get_title()] == want
    trained.dls.show_batch(trained.dls['waves'].train.one_batch(), max_n=3)
    assert {ax.get_title().split(':')[0] for ax in plt.gcf().axes} == {'waves'}

def test_interpretation(trained):
    it = ClassificationInterpretation.from_learner(trained)
    cm,df = it.confusion_matrix(),trained.validate_tasks()
    assert cm.shape == (5,5) and cm.sum() == 32 and (cm[:2,2:] == 0).all() and (cm[2:,:2] == 0).all()
    assert np.trace(cm[:2,:2])/16 == pytest.approx(df.accuracy['waves'])
    assert len(it.top_losses(3)[0]) == 3
    it.plot_confusion_matrix()
    assert [o.get_text() for o in plt.gca().get_xticklabels()] == [str(o) for o in trained.dls.vocab]


def test_metrics_of_fastai_see_the_labels_of_a_row_s_own_task():
    "Beside the other task's, the logits of the right label would seldom be the highest"
    learn = quiet_learner(metrics=[error_rate, F1Score(average='micro')])
    learn.fit(8, 1e-2)
    *_,error,f1,matched = learn.validate()
    df = learn.validate_tasks()
    assert error == pytest.approx(1-(df.accuracy*df.rows)[:2].sum()/df.rows[:2].sum()) and f1 == pytest.approx(1-error)


# Saving
def test_save_and_load(tmp_path):
    make = lambda seed: quiet_learner(seed=seed, dls=synth_dls(), path=tmp_path)
    a,b = make(0),make(1)
    a.fit_one_cycle(1)
    a.save('model')
    b.load('model')
    torch.load(tmp_path/'models/model.pth', weights_only=True)  # needs no pickle, so no trust
    assert same(weights(a.model), weights(b.model))
    for learn in (a,b):
        set_seed(0)
        learn.dls.train.epoch = 5
        learn.fit(1)
    assert same(weights(a.model), weights(b.model)), "the optimizer's state was not taken up"

def test_export(tmp_path):
    learn = quiet_learner(path=tmp_path)
    learn.fit(1)
    learn.export('learner.pkl')
    with pytest.warns(UserWarning): twin = load_learner(tmp_path/'learner.pkl')
    for t in synth_tasks():
        for a,b in zip(learn.predict(t.X, t.name), twin.predict(t.X, t.name)): assert (a == b).all()
        assert (learn.embed(t) == twin.embed(t)).all()
        dl = twin.dls.test_dl(t.X, t.name, y=t.y)
        assert torch.equal(twin.get_preds(dl=dl)[0], learn.get_preds(dl=dl)[0])
        assert twin.validate(dl=dl) == learn.validate(dl=dl)
    assert twin.dls.vocab == learn.dls.vocab and len(twin.dls.train_ds) == 0
    learn.fit(1)

def test_exported_file_holds_no_series(tmp_path):
    sizes = []
    for steps in (32,4096):
        learn = quiet_learner(dls=loaders([random_task('a', 40, 40, steps=steps)]), path=tmp_path)
        learn.fit(1)
        learn.export('learner.pkl')
        sizes.append((tmp_path/'learner.pkl').stat().st_size)
    assert abs(sizes[1]-sizes[0]) < 10_000


# Callbacks that choose
class Keep(Callback):
    "Keeps the weights of every epoch"
    order = 59
    def before_fit(self): self.kept = []
    def after_epoch(self): self.kept.append(weights(self.model))

@pytest.mark.parametrize('monitor,best', [('accuracy',np.argmax), ('valid_loss',np.argmin), ('waves',np.argmax)])
def test_best_epoch_is_kept(tmp_path, monitor, best):
    learn = quiet_learner(dls=synth_dls(valid_pct=.4), path=tmp_path, cbs=[Keep(), SaveModelCallback(monitor=monitor)])
    learn.fit(5, .1)
    column = [o[HELD.index(monitor)-1] for o in learn.recorder.values]
    assert same(weights(learn.model), learn.keep.kept[best(column)])

def test_early_stopping(tmp_path):
    learn = quiet_learner(dls=synth_dls(valid_pct=.3), sharing=None, path=tmp_path)
    learn.fit(9, 0., cbs=EarlyStoppingCallback(patience=2))
    assert len(learn.recorder.values) == 3

@pytest.mark.parametrize('monitor', ['valid_loss','accuracy','machine'])
@pytest.mark.parametrize('cls', [SaveModelCallback, EarlyStoppingCallback, ReduceLROnPlateau, TrackerCallback])
def test_nothing_is_chosen_on_the_test_split(cls, monitor):
    learn = quiet_learner()
    before = weights(learn.model)
    for fit in (lambda **kw: learn.fit(1, **kw), lambda **kw: learn.fit_one_cycle(1, **kw)):
        with pytest.raises(ValueError, match=f"choose by '{monitor}', which is measured on the test split; hold out.*valid_pct"):
            fit(cbs=cls(monitor))
    own = quiet_learner(cbs=cls(monitor))
    with pytest.raises(ValueError, match='test split'): own.fit(1)
    assert same(before, weights(learn.model)) and same(before, weights(own.model))
    learn.fit(1)
    assert not same(before, weights(learn.model)), 'the refused callback was left behind'

@pytest.mark.parametrize('cb',
    [lambda: SaveModelCallback('train_loss'), lambda: SaveModelCallback('cls_loss'), lambda: SaveModelCallback(every_epoch=True),
                                lambda: EarlyStoppingCallback('train_loss'), lambda: ReduceLROnPlateau('train_loss')])
def test_what_does_not_look_at_the_test_split_may_choose(tmp_path, cb):
    learn = quiet_learner(path=tmp_path, sharing='paper')
    learn.fit(2, cbs=cb())
    assert len(learn.recorder.values) == 2

def test_a_view_is_guarded_too():
    with pytest.raises(ValueError, match='test split'): quiet_learner(dls=synth_dls()['waves']).fit(1, cbs=SaveModelCallback())


# Encoders and shapes
ARCHS = {InceptionTimePlus: dict(nf=4), FCNPlus: dict(layers=[8,8,8], kss=[5,3,3]), ResNetPlus: dict(nf=4),
         TSTPlus: dict(d_model=16, n_heads=2, n_layers=1, d_ff=16)}

@pytest.mark.parametrize('arch', ARCHS)
def test_architectures_of_tsai(arch):
    tasks = [synth_task('waves', dict(a='sine', b='square')),
             synth_task('more', dict(c='fast', d='square'), steps=32 if arch is TSTPlus else 45)]
    learn = quiet_learner(dls=loaders(tasks), arch=arch, arch_config=ARCHS[arch])
    before = weights(learn.model)
    learn.fit_one_cycle(1)
    learn.freeze()
    learn.fit(1)
    assert np.isfinite(learn.recorder.values).all() and not same(before, weights(learn.model))
    t = tasks[1]
    labels,probs = learn.predict(t.X[t.test], 'more')
    assert learn.validate_tasks().accuracy['more'] == pytest.approx((labels == t.y[t.test]).mean())
    assert len(learn.svm_eval()) == 3

def test_architecture_of_one_length_is_refused_for_several():
    with pytest.raises(ValueError, match=r'TSTPlus is built for one length, and the tasks have 32, 40 steps; take .* or resample'):
        synth_learner(arch=TSTPlus, arch_config=ARCHS[TSTPlus])

def test_encoder_of_ones_own():
    class Mean(torch.nn.Module):
        feats = 3
        def __init__(self):
            super().__init__()
            self.lin = torch.nn.Linear(1, 3)
        def forward(self, x): return self.lin(x.mean(-1))
    learn = quiet(mtcs_learner(synth_dls(), Mean()))
    learn.fit(1)
    assert learn.embed(synth_tasks()[0]).shape == (48,3)

def part(name, n=16):
    "Some rows of a bundled data set, of all its labels"
    t, = bundled_tasks(name)
    rows = [o[np.linspace(0, len(o)-1, n).astype(int)] for o in (t.train, t.test)]
    return Task(name, t.X[np.concatenate(rows)], t.y[np.concatenate(rows)], splits=(range(n), range(n,2*n)))

@pytest.mark.parametrize('arch,config', [(TS2VecEncoder, dict(hidden=8, feats=16, depth=3)), (InceptionTimePlus, dict(nf=2))])
def test_tasks_of_1_6_and_12_variables_and_unequal_length(arch, config):
    tasks = [part(o) for o in ('PickupGestureWiimoteZ','BasicMotions','JapaneseVowels')]
    assert [o.X.shape[1] for o in tasks] == [1,6,12] and np.isnan(tasks[0].X).any() and np.isnan(tasks[2].X).any()
    learn = quiet_learner(dls=loaders(tasks), arch=arch, arch_config=config)
    learn.fit(1)
    assert np.isfinite(learn.recorder.values).all() and all(o.isfinite().all() for o in learn.model.state_dict().values())
    for t in tasks:
        labels,probs = learn.predict(t.X[t.test], t.name)
        assert np.isfinite(probs).all() and learn.validate_tasks().accuracy[t.name] == pytest.approx((labels == t.y[t.test]).mean())
    assert np.isfinite(learn.svm_eval().accuracy).all()


def test_a_loss_or_metric_given_later_sees_each_task_by_itself():
    from fastai.losses import CrossEntropyLossFlat
    from fastai.metrics import accuracy
    learn = quiet_learner()
    before = learn.validate()[0]
    learn.loss_func = CrossEntropyLossFlat()
    assert abs(learn.validate()[0]-before) < 1e-5
    learn.metrics.append(accuracy)
    learn.fit(1)
    assert 0 <= learn.recorder.values[-1][-1] <= 1
