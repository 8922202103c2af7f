"The loaders: which rows come when, and that nothing else has a say in it."
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import quiet_learner
from tsai.data.preprocessing import TSStandardize
from tsai.data.transforms import TSMagScale
from tsai_mtcs.data import MultiTaskDataLoaders
from tsai_mtcs.loader import MultiTaskDL
from tsai_mtcs.schedules import SCHEDULES, batch_counts, epoch_plan
from tsai_mtcs.tasks import Task, TaskWarning

TRAIN = dict(long=70, single=1, exact=32, short=20)  # rows; with bs=16 last batches of 6, 1, 16, 4


def numbered(name, n_train, n_test=9, steps=5):
    "A task whose series hold their row number, so that a row is known wherever it turns up"
    n = n_train+n_test
    X = np.broadcast_to(np.arange(n, dtype=np.float32)[:,None,None], (n,1,steps)).copy()
    return Task(name, X, [i%2 for i in range(n)] if n_train > 1 else [0]*n, splits=(range(n_train), range(n_train,n)))

def make_tasks(): return [numbered(name, n, steps=5+i) for i,(name,n) in enumerate(TRAIN.items())]
def make_dls(**kwargs):
    return MultiTaskDataLoaders.from_tasks(make_tasks(), **{'bs':16, 'schedule':'proportional', 'device':'cpu', **kwargs})

def rows(x, y, space):
    "Task and row numbers of a batch; checks that it comes from one task, and that its labels are those of its rows"
    (spec,) = (o for o in space.specs if o.len == x.shape[-1])
    name = spec.name
    numbers = np.rint(x[:,0,0].numpy()*spec.std[0]+spec.mean[0]).astype(int)
    want = space.offsets[space.task(name)]+numbers%len(spec.labels)
    assert y.tolist() == want.tolist()
    if numbers.tolist() == [0,0]: numbers = numbers[:1] # the one row of a task comes twice in a batch
    return name, numbers.tolist()

def epoch(dl): return [rows(x, y, dl.space) for x,y in dl]
def by_task(batches): return {name: sorted(r for o,b in batches if o == name for r in b) for name in {o for o,_ in batches}}


@pytest.mark.parametrize('seed', range(3))
def test_every_row_once_an_epoch_in_batches_of_one_task(seed):
    dl = make_dls(seed=seed).train
    epochs = [epoch(dl) for _ in range(3)]
    for batches in epochs:
        assert by_task(batches) == {name: list(range(n)) for name,n in TRAIN.items()}
        assert sorted(len(r) for _,r in batches) == sorted([16]*4+[6]+[1]+[16]*2+[16,4])
    assert epochs[0] != epochs[1] and by_task(epochs[0]) == by_task(epochs[1])
    assert all([r for o,b in epochs[0] if o == name for r in b] != list(range(n)) for name,n in TRAIN.items() if n > 1)
    assert len({tuple(name for name,_ in batches) for batches in epochs}) > 1, 'tasks come in the same order in every epoch'

def test_evaluation_goes_through_the_rows_in_order():
    dl = make_dls().test
    assert [o for _,b in epoch(dl) for o in b] == [n+i for n in TRAIN.values() for i in range(9)]
    assert epoch(dl) == epoch(dl)
    assert [x.shape[0] for x,_ in make_dls(val_bs=4).test] == [4,4,1]*4

@pytest.mark.parametrize('bs', [1,3,16,100])
@pytest.mark.parametrize('schedule', SCHEDULES)
def test_len_is_what_comes(schedule, bs):
    dls = make_dls(schedule=schedule, bs=bs, temperature=3.)
    for _ in range(6): assert len(list(dls.train)) == len(dls.train) > 0
    assert len(list(dls.valid)) == len(dls.valid)

@pytest.mark.parametrize('seed', range(5))
@pytest.mark.parametrize('schedule', SCHEDULES)
def test_len_of_random_tasks(schedule, seed):
    rng = np.random.default_rng(seed)
    n,bs = rng.integers(1, 300, rng.integers(1, 30)),int(rng.integers(1, 50))
    lens = {len(epoch_plan(n, bs, schedule, temperature=rng.uniform(.5, 9), seed=(seed,i))) for i in range(5)}
    assert lens == {batch_counts(n, bs, schedule, 2.).sum()}

@pytest.mark.parametrize('schedule', SCHEDULES)
@pytest.mark.parametrize('bs', [2,3,4,16])
def test_no_training_batch_of_one_row(schedule, bs):
    "A BatchNorm needs two: a last batch of one row joins the one before, and a task's only row comes twice"
    tasks = [numbered(f'{i}', n, steps=5+i) for i,n in enumerate((1,2,bs,bs+1,2*bs+1,3*bs+2))]
    dls = MultiTaskDataLoaders.from_tasks(tasks, bs=bs, schedule=schedule, device='cpu')
    for _ in range(2):
        sizes = [len(y) for _,y in dls.train]
        assert min(sizes) >= 2 and len(sizes) == len(dls.train) and max(sizes) <= bs+1
    if schedule == 'proportional': assert by_task(epoch(dls.train)) == {o.name: list(range(len(o.train))) for o in tasks}
    assert sorted(len(y) for _,y in dls.test)[0] == (9%(2*bs) or 2*bs), 'evaluation takes rows as they come'

def test_a_batchnorm_over_embeddings_trains():
    class Encoder(torch.nn.Module):
        feats = 4
        def __init__(self):
            super().__init__()
            self.layers = torch.nn.Sequential(torch.nn.Linear(1, 4), torch.nn.BatchNorm1d(4))
        def forward(self, x): return self.layers(x.mean(-1))
    for schedule in SCHEDULES:
        learn = quiet_learner(dls=make_dls(bs=3, schedule=schedule), arch=Encoder()) # 70, 1, 32 and 20 rows
        learn.fit(1)
        assert np.isfinite(learn.recorder.values).all()

def test_one_row_at_a_time_where_asked_for(): assert [len(y) for _,y in make_dls(bs=1).train] == [1]*sum(TRAIN.values())

def test_plans_are_those_of_before():
    "Where no batch of one row is, a seeded plan is made of the same draws as ever"
    rng = np.random.default_rng((3,1))
    rng.random()
    rows = [np.split(rng.permutation(n), range(16, n, 16)) for n in (70,32)]
    order = rng.permutation(np.repeat([0,1], [5,2]))
    want = [(k, rows[k].pop(0).tolist()) for k in order]
    assert [(k, r.tolist()) for k,r in epoch_plan([70,32], 16, 'proportional', seed=(3,1))] == want

@pytest.mark.parametrize('schedule', ['uniform','temperature','round_robin'])
def test_oversampled_rows_come_equally_often(schedule):
    "Pass after pass: in an epoch, one row of a task is drawn at most once more than another"
    for batches in (epoch(make_dls(schedule=schedule, temperature=4.).train) for _ in range(2)):
        for name,drawn in by_task(batches).items():
            times = np.bincount(drawn, minlength=TRAIN[name])
            assert times.max()-times.min() <= 1, (name, times)

def test_round_robin_takes_turns():
    names = [name for name,_ in epoch(make_dls(schedule='round_robin').train)]
    assert names == [*TRAIN]*(len(names)//4)

@pytest.mark.parametrize('n', [[3200,320,32], [7,900,64,1]])
def test_limits_of_the_temperature(n):
    assert batch_counts(n, 32, 'temperature', np.inf).tolist() == batch_counts(n, 32, 'uniform').tolist()
    mean = lambda *args: np.mean([batch_counts(n, 32, *args, u=u) for u in np.linspace(0, 1, 500, endpoint=False)], axis=0)
    total = batch_counts(n, 32, 'proportional').sum()
    assert np.allclose(mean('temperature', 1.), total*np.array(n)/sum(n), atol=.01)
    assert np.allclose(mean('temperature', 2.), total*np.sqrt(n)/np.sqrt(n).sum(), atol=.01)
    assert np.allclose(mean('temperature', 1e9), total/len(n), atol=.01)

@pytest.mark.parametrize('schedule,temperature',
                         [('uniform',2.), ('temperature',1.), ('temperature',np.inf), ('round_robin',2.), ('proportional',2.)])
def test_view_of_one_task_under_every_schedule(schedule, temperature):
    view = make_dls(schedule=schedule, temperature=temperature)['short']
    assert by_task(epoch(view.train)).keys() == {'short'} and len(view.train) == 2


@pytest.mark.parametrize('schedule', SCHEDULES)
def test_seed_alone_decides(schedule):
    a,b,other = (make_dls(seed=s, schedule=schedule).train for s in (3,3,4))
    want = [epoch(a) for _ in range(3)]
    for i in range(3):
        torch.manual_seed(i)
        np.random.seed(i)
        b.one_batch()
        assert epoch(b) == want[i]
    assert epoch(other) != want[0]

def test_drawing_batches_leaves_global_numpy_alone():
    np.random.seed(0)
    want = np.random.rand()
    np.random.seed(0)
    list(make_dls().train)
    assert np.random.rand() == want

def test_epoch_can_be_taken_up():
    a,b = make_dls().train,make_dls().train
    list(a), list(a)
    b.epoch = 2
    assert epoch(a) == epoch(b)

@pytest.mark.parametrize('schedule', ['proportional','uniform'])
def test_workers_give_the_same_batches(schedule):
    alone,workers = (make_dls(num_workers=n, schedule=schedule).train for n in (0,2))
    for _ in range(2):
        pairs = list(zip(alone, workers, strict=True))
        assert all(torch.equal(a, b) for one,two in pairs for a,b in zip(one, two))
    workers.one_batch()
    assert epoch(alone) == epoch(workers)


def test_view_of_one_task():
    dls = make_dls()
    view = dls['short']
    assert [by_task(epoch(o)) for o in view.loaders] == [dict(short=list(range(20)))]+[dict(short=list(range(20,29)))]*2
    assert view.vocab == dls.vocab and view.c == dls.c and view.train.bs == 16 and view.path == dls.path
    assert sum(len(dls[name].train_ds) for name in TRAIN) == len(dls.train_ds)
    assert len(view['long'].train_ds) == 0
    assert view.train.shuffle and not view.valid.shuffle

@pytest.mark.parametrize('schedule', SCHEDULES)
def test_new_loader_draws_as_the_old_one_did(schedule):
    dl = make_dls(schedule=schedule, seed=7, temperature=5.).train
    want = epoch(dl)
    assert epoch(dl.new()) == want
    rows = lambda seed: epoch(make_dls(schedule=schedule, seed=seed, temperature=5.)['long'].train)
    assert rows(8) != rows(7)

def test_dataset_gives_its_rows():
    ds = make_dls().train_ds
    got = [rows(x[None], y[None], ds.space) for x,y in (ds[i] for i in range(len(ds)))]
    assert got == [(name, [i]) for name,n in TRAIN.items() for i in range(n)]
    assert torch.equal(ds[-1][0], ds[len(ds)-1][0])
    with pytest.raises(IndexError): ds[len(ds)]

def test_new_empty_keeps_the_tasks_and_not_the_rows():
    dls = make_dls()
    empty = dls.new_empty()
    assert [len(o.dataset) for o in empty.loaders] == [0,0,0] and empty.vocab == dls.vocab
    assert sum(o.untyped_storage().nbytes() for o in (*empty.train_ds.store.X, *empty.train_ds.store.y)) == 0
    x,_ = empty.test_dl(np.full((2,5), 3.), 'long').one_batch()
    assert np.allclose(x*dls.space.specs[0].std[0]+dls.space.specs[0].mean[0], 3)
    assert len(dls.train_ds) == sum(TRAIN.values())

def test_test_dl_scales_and_labels_as_the_task():
    dls,t = make_dls(),make_tasks()[3]
    dl = dls.test_dl(t.X[t.test], 'short', y=t.y[t.test], bs=4)
    assert epoch(dl) == [('short',[20,21,22,23]), ('short',[24,25,26,27]), ('short',[28])]
    with pytest.warns(TaskWarning, match="no label 'none'"): new = dls.test_dl(t.X[:2], 'short', y=[1,'none'])
    assert dls.decode(next(iter(new))[1]) == [('short',1), ('short',None)]
    assert all(o is None for _,o in dls.decode(next(iter(dls.test_dl(t.X[:2], 'short')))[1]))
    assert len(dls.valid_ds) == 36

def test_pickled_loaders_go_on_as_they_were():
    dls = make_dls(seed=5)
    list(dls.train)
    twin = pickle.loads(pickle.dumps(dls))
    assert epoch(twin.train) == epoch(dls.train) and epoch(twin.test) == epoch(dls.test)

def test_memory_is_shared_with_the_tasks():
    ts = make_tasks()
    dls = MultiTaskDataLoaders.from_tasks(ts, device='cpu')
    for dl in (*dls.loaders, dls['long'].train):
        for t,x in zip(ts, dl.dataset.store.X): assert np.shares_memory(t.X, x.numpy())
    before = ts[0].X.copy()
    for x,_ in dls.train: x += 1
    assert (ts[0].X == before).all(), 'a batch that is changed in place changed its task'

@pytest.mark.parametrize('seed', range(3))
def test_held_out_part(seed):
    dls,plain = (make_dls(valid_pct=p, seed=seed) for p in (.25,0.))
    train,valid = by_task(epoch(dls.train)),by_task(epoch(dls.valid))
    for name,n in TRAIN.items(): assert sorted(train[name]+valid.get(name, [])) == list(range(n))
    assert {k: len(v) for k,v in valid.items()} == dict(long=18, exact=8, short=4)
    assert plain.monitors_test and not dls.monitors_test
    assert by_task(epoch(dls.test)) == by_task(epoch(plain.test)) == by_task(epoch(plain.valid))
    for spec in dls.space.specs: assert np.isclose(spec.mean[0], np.mean(train[spec.name]))

@pytest.mark.parametrize('argument', ['after_batch','batch_tfms'])
def test_transforms_see_the_batches_they_are_made_for(argument):
    "tsai's random transforms are for training batches, also those of a view"
    for name in ('long','short'):
        plain,scaled = (make_dls(**{argument:o})[name] for o in (None, TSMagScale(magnitude=1.)))
        same = [all(torch.equal(a, b) for (a,_),(b,_) in zip(*o, strict=True)) for o in zip(plain.loaders, scaled.loaders)]
        assert same == [False,True,True]

@pytest.mark.parametrize('tfm', [TSStandardize(by_sample=True), lambda x: 2*x, [TSMagScale(), TSStandardize()]],
                         ids=['standardize','function','second'])
@pytest.mark.parametrize('argument', ['after_batch','batch_tfms'])
def test_transforms_that_predictions_would_lack_are_refused(argument, tfm):
    with pytest.raises(ValueError, match='act in training alone.*before they are made a Task, or make it a part of the encoder'):
        make_dls(**{argument:tfm})
    with pytest.raises(ValueError, match='act in training alone'): MultiTaskDL(make_dls().train_ds, **{argument:tfm})
    with pytest.raises(ValueError, match='act in training alone'): make_dls().train.new(**{argument:tfm})

REFUSED = dict(shedule='schedule', vaild_pct='valid_pct', temprature='temperature', batch_size='bs', drop_last='one row joins',
               after_item='before they are made a Task', before_batch='before they are made a Task', weights='schedule',
               splits='belong to the tasks',
               persistent_workers='start anew', item_tfms='before they', xyz='known: tasks, recipe, bs')

@pytest.mark.parametrize('name', REFUSED)
def test_arguments_that_nothing_honours_are_refused(name):
    with pytest.raises(ValueError, match=f'from_tasks has no argument `{name}`: .*{REFUSED[name]}'): make_dls(**{name:1})
    with pytest.raises(ValueError, match=f'MultiTaskDL has no argument `{name}`'): MultiTaskDL(make_dls().train_ds, **{name:1})

def test_loader_arguments_are_honoured_and_kept_by_new():
    dl = make_dls(timeout=5, num_workers=1, batch_tfms=TSMagScale()).train.new(bs=3)
    assert (dl.timeout, dl.fake_l.num_workers, dl.bs, len(dl.after_batch.fs), dl.shuffle) == (5, 1, 3, 1, True)

def test_a_loader_without_rows_does_not_train_in_silence():
    dls = make_dls().new_empty()
    assert [len(o) for o in dls.loaders] == [0,0,0] and list(dls.valid) == []
    with pytest.raises(ValueError, match='expected rows in the train split, found none: give the tasks such rows'): next(iter(dls.train))
    for schedule in SCHEDULES: assert len(make_dls(schedule=schedule).train.new(make_dls().train_ds.new_empty())) == 0

@pytest.mark.parametrize('labels', [('a','b'), (0,1), (.5,1.5), (True,False), ((1,'a'),(2,'b'))], ids=str)
@pytest.mark.parametrize('given', [list, lambda y: np.array(y) if not isinstance(y[0], tuple) else y, iter, pd.Series],
                         ids=['list','array','iterator','pandas'])
def test_new_series_with_labels_of_any_kind(labels, given):
    t = Task('kinds', np.random.default_rng(0).normal(size=(20,1,9)), list(labels)*10)
    dls,y = MultiTaskDataLoaders.from_tasks(t, device='cpu'),[labels[i] for i in (0,1,1)]
    assert dls.decode(next(iter(dls.test_dl(t.X[:3], 'kinds', given(y))))[1]) == [('kinds',o) for o in y]

def test_new_series_with_labels_of_another_kind():
    dls,t = make_dls(),make_tasks()[3]
    with pytest.warns(TaskWarning, match="task 'short' has no label '0', '1'; known: 0, 1; rows with it are counted as wrong"):
        dls.test_dl(t.X[:2], 'short', ['0','1'])
    with pytest.raises(ValueError, match='found 2 series and 3 labels'): dls.test_dl(t.X[:2], 'short', [0,1,0])
    with pytest.raises(ValueError, match='row 1 has no label'): dls.test_dl(t.X[:2], 'short', [0,None])


def ranks_of(**kwargs):
    "The training loaders of two ranks"
    dls = [make_dls(**kwargs).train for _ in range(2)]
    for r,dl in enumerate(dls): dl.rank,dl.world = r,2
    return dls

@pytest.mark.parametrize('schedule,bs', [('proportional',16), ('proportional',13), ('uniform',16), ('round_robin',7)])
def test_ranks_share_the_batches(schedule, bs):
    "Each batch goes to one rank; where the number of batches is odd, the first comes twice"
    ranks,alone = ranks_of(schedule=schedule, bs=bs),make_dls(schedule=schedule, bs=bs).train
    for _ in range(3):
        want,parts = epoch(alone),[epoch(o) for o in ranks]
        assert [len(o) for o in parts] == [len(o) for o in ranks] == [(len(want)+1)//2]*2
        assert sorted(sum(parts, [])) == sorted(want+want[:len(want)%2])

def test_ranks_with_workers():
    ranks = ranks_of(bs=9, num_workers=2)
    assert by_task(epoch(ranks[0])+epoch(ranks[1])) == {name: list(range(n)) for name,n in TRAIN.items()}

def test_a_new_loader_is_whole():
    assert len(ranks_of()[1].new()) == len(make_dls().train)

def test_transforms_that_join_a_loader_later_are_looked_at_too():
    dls = make_dls()
    dls.valid.after_batch.add(TSStandardize(by_sample=True))
    with pytest.raises(ValueError, match='act in training alone.*TSStandardize'): dls.valid.one_batch()

@pytest.mark.parametrize('sizes', [dict(bs=0), dict(bs=8.), dict(bs='8'), dict(val_bs=-1), dict(val_bs=2.5)], ids=str)
def test_batches_have_a_whole_number_of_rows(sizes):
    with pytest.raises(ValueError, match=f'found bs={[*sizes.values()][0]!r}'): make_dls(**sizes)
