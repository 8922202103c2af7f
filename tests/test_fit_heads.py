"""Heads in closed form: through the learner, the saved model and fastai's ways, and exact where the notebooks only show it."""
import numpy as np
import pytest
import torch
from fastai.callback.tracker import SaveModelCallback
from fastai.learner import load_learner
from helpers import quiet, quiet_learner

from tsai_mtcs import closed_form, shared_heads
from tsai_mtcs.all import KernelEncoder, MTCSModel, MultiTaskDataLoaders, Task, bundled_tasks, deal_sites, mtcs_learner
from tsai_mtcs.closed_form import solve_heads
from tsai_mtcs.ridge import Ridge, Rows
from tsai_mtcs.shared_heads import ALONE, STRENGTHS, UNJUDGED, Draw, choose, fold_numbers, share_heads
from tsai_mtcs.solve import Coupling, coupled_penalties, shrunk_means
from tsai_mtcs.test_utils import synth_dls, synth_task

SMALL = dict(parts='minirocket', n_kernels=840)


@pytest.fixture(scope='module')
def power(): return bundled_tasks('ItalyPowerDemand')[0]


@pytest.fixture(scope='module')
def sites(power): return deal_sites(power, n=3, rows=6, seed=1)


def make(tasks, arch=KernelEncoder, config=SMALL):
    return mtcs_learner(MultiTaskDataLoaders.from_tasks(tasks, check_copies=False), arch, arch_config=config)


def probs(learn, o): return learn.predict(o.X[o.test[:40]], o.name)[1]


@pytest.fixture(scope='module')
def fitted(sites):
    learn = make(sites[0])
    with learn.no_bar(): return learn.fit_heads()


def single_rows(centres, gen):
    X = centres+.3*torch.randn(*centres.shape, generator=gen, dtype=torch.float64)
    return Rows(X, torch.arange(len(X)), len(X), torch.ones(len(X), dtype=torch.float64))


@pytest.mark.parametrize('n_labels,n_feats', [(4,500),(6,8),(8,8),(8,500),(15,500)])
def test_tasks_of_a_single_row_a_label_are_matched_only_beyond_chance(n_labels, n_feats):
    gen = torch.Generator().manual_seed(1)
    centres = torch.randn(11, n_labels, n_feats, generator=gen, dtype=torch.float64)
    strangers = [single_rows(o, gen) for o in centres[:10]]
    assert (share_heads(strangers).groups < 0).all()
    found = share_heads([*(single_rows(centres[10], gen) for _ in range(4)), *strangers]).groups
    sites, others = found[:4*n_labels].reshape(4, n_labels), found[4*n_labels:]
    assert (others < 0).all() and (sites >= 0).mean() > .9
    assert (sites[:,None] == sites).mean() > .8


def test_single_rows_have_a_penalty_by_which_new_rows_are_told_apart():
    gen = torch.Generator().manual_seed(0)
    centres = torch.randn(10, 3000, generator=gen)
    rows, new = (Rows(centres+4*torch.randn(10, 3000, generator=gen), torch.arange(10), 10, torch.ones(10)) for _ in range(2))
    weight, bias = Ridge(rows).head
    assert ((new.X@weight+bias).argmax(1) == new.y).float().mean() > .8


def test_a_sensor_that_is_dead_leaves_labels_as_likely_as_they_are_frequent():
    "All embeddings are equal: nothing tells the labels apart, and nothing is divided by 0"
    learn = make([Task('dead', np.ones((12,1,30)), list('ab')*6, splits='train')])
    with learn.no_bar(): learn.fit_heads()
    assert np.allclose(learn.predict(np.ones((3,1,30)), 'dead')[1], .5)

def test_namesakes_are_found(fitted, sites):
    frame = fitted.label_groups()
    meaning = {o.name: m for o, m in zip(*sites)}
    assert len(frame) == 6 and frame.group.nunique() == 2 and (frame.rows == 6).all() and frame.strength.between(0, 1).all()
    for _, g in frame.groupby('group'): assert len({meaning[t][label] for t, label in zip(g.task, g.label)}) == 1


def test_tasks_of_the_same_recordings_are_held_out_together():
    y = torch.tensor([2, 0, 0, 1, 2, 1, 0, 2, 2, 1])
    X, weight, renamed = torch.zeros(10, 1), torch.ones(10), torch.tensor([1, 2, 0])
    fold = fold_numbers(Rows(X, y, 3, weight), 3, seed=0)
    assert torch.equal(fold, fold_numbers(Rows(X, renamed[y], 3, weight), 3, seed=0))
    assert not torch.equal(fold, fold_numbers(Rows(X, y, 3, weight), 3, seed=1))


def test_two_labels_that_exclude_each_other_are_equally_relevant(fitted):
    A = fitted.shared_heads.relevance
    assert A[0, 2] == A[1, 3] > .3
    assert A[0, 3] == A[1, 2] < .1
    assert A[2, 0] == A[0, 2]


def test_saved_exported_and_loaded_answer_alike(fitted, sites, tmp_path):
    o = sites[0][1]
    want = probs(fitted, o)
    model = MTCSModel.from_pretrained(fitted.save_pretrained(tmp_path/'model'))
    np.testing.assert_allclose(model.predict(o.X[o.test[:40]], o.name)[1], want, atol=1e-6)
    fitted.export(tmp_path/'learner.pkl')
    np.testing.assert_allclose(probs(load_learner(tmp_path/'learner.pkl'), o), want, atol=1e-6)
    again = make(sites[0])
    with again.no_bar(): np.testing.assert_allclose(probs(again.fit_heads(), o), want, atol=1e-6)  # deterministic


def test_heads_go_on_training(sites):
    learn = make(sites[0])
    with learn.no_bar(), learn.no_logging():
        learn.fit(1, 1e-5)
        learn.fit_heads()
        before = learn.validate_tasks().loss['mean']
        learn.fit(1, 1e-6)
        assert learn.validate_tasks().loss['mean'] < before+.05


def test_a_stranger_keeps_its_head(sites):
    other, = bundled_tasks('GunPoint')
    learn = make([*sites[0], other])
    with learn.no_bar():
        shared = probs(learn.fit_heads(), other)
        assert other.name not in set(learn.label_groups().task)
        np.testing.assert_allclose(probs(learn.fit_heads(strength=0.), other), shared, atol=1e-6)


def test_interrupted_it_leaves_the_old_heads(fitted, sites, monkeypatch):
    head, found = fitted.model.head, fitted.shared_heads
    def stop(*args, **kwargs): raise KeyboardInterrupt
    monkeypatch.setattr(closed_form, 'share_heads', stop)
    with pytest.raises(KeyboardInterrupt): fitted.fit_heads()
    assert fitted.model.head is head and fitted.shared_heads is found


@pytest.mark.parametrize('known,match', [
    (dict(same=[(('nowhere',0), ('ItalyPowerDemand 1',0))]), "no task 'nowhere'"),
    (dict(same=[(('ItalyPowerDemand 1',7), ('ItalyPowerDemand 2',0))]), 'has no label 7'),
    (dict(never=[(('ItalyPowerDemand 1',0), ('ItalyPowerDemand 1',1))]), 'labels of two tasks'),
    (dict(prior=-np.ones((3,3))), 'numbers from 0 on'), (dict(prior=np.ones(3)), 'found shape'),
    (dict(class_weights='even'), "'balanced'"), (dict(strength=-1.), 'strength of at least 0'),
    (dict(strength=float('nan')), 'strength of at least 0')])
def test_what_makes_no_sense_is_refused(fitted, known, match):
    with pytest.raises(ValueError, match=match): fitted.fit_heads(**known)


def test_known_labels_and_priors_decide(sites):
    learn, (a, b, _) = make(sites[0]), sites[0]
    names = [(o.name, o.labels[0]) for o in (a, b)]
    with learn.no_bar():
        for same in (True, False):
            learn.fit_heads(**{'same' if same else 'never': [tuple(names)]})
            group = learn.label_groups().set_index(['task','label']).group
            assert (group.get(names[0], -1) == group.get(names[1], -2)) == same
        learn.fit_heads(prior=np.zeros((3, 3)))
        assert not len(learn.label_groups())


def test_balanced_weights_help_the_rare_label():
    gen = np.random.default_rng(0)
    y = np.repeat([0, 1], [90, 6])
    X = gen.normal(size=(96, 1, 40))+.35*y[:, None, None]*np.sin(np.arange(40))
    task = Task('rare', X, y, splits=(range(0, 96, 2), range(1, 96, 2)))
    learn = make([task])
    with learn.no_bar():
        recall = []
        for o in (None, 'balanced'):
            guess = learn.fit_heads(class_weights=o).predict(task.X[task.test], 'rare')[0]
            recall.append((guess[y[task.test] == 1] == 1).mean())
    assert recall[1] >= recall[0]


def random_rows(n, feats, n_labels, gen):
    return Rows(torch.randn(n, feats, generator=gen, dtype=torch.float64), torch.arange(n)%n_labels, n_labels,
                torch.rand(n, generator=gen, dtype=torch.float64)+.5)


def dense(ridges, groups, strength, pooled):
    "Every head from one matrix over all labels' weights"
    of_task = np.split(groups, np.cumsum([o.rows.n_labels for o in ridges])[:-1])
    linked = [k for k, o in enumerate(of_task) if (o >= 0).any()]
    part, scale = [ridges[k] for k in linked], float(torch.stack([ridges[k].scale for k in linked]).mean())
    means = shrunk_means(part)
    penalty = coupled_penalties(part, [of_task[k] for k in linked], means)[pooled]
    owner, flat = np.repeat(np.arange(len(part)), [o.rows.n_labels for o in part]), np.concatenate([of_task[k] for k in linked])
    F, c, b = part[0].rows.X.shape[1]+1, strength*scale, []
    M = np.zeros((len(owner), F, len(owner), F))
    for p, k in enumerate(owner):
        rows = part[k].rows
        X, u = np.concatenate((rows.X-means[k], np.full((len(rows.X), 1), scale**.5)), 1), rows.weight.numpy()[:, None]
        M[p, :, p] += X.T@(u*X)+penalty*float(part[k].scale)*np.eye(F)
        b.append(X.T@(u[:, 0]*rows.targets[:, p-list(owner).index(k)].numpy()))
        same = np.flatnonzero((flat == flat[p]) & (flat[p] >= 0))
        for q in same:
            M[p, :, p] += c/len(same)*np.eye(F)
            M[p, :, q] -= c/len(same)*np.eye(F)
    w = np.linalg.solve(M.reshape(len(owner)*F, -1), np.concatenate(b)).reshape(-1, F).T
    return {k: (w[:-1, owner == i], scale**.5*w[-1, owner == i]-means[i].numpy()@w[:-1, owner == i]) for i, k in enumerate(linked)}


@pytest.mark.parametrize('seed', range(8))
def test_coupled_heads_equal_a_dense_solve(seed):
    gen, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    feats = int(rng.integers(3, 25)) if seed < 6 else 250  # more than twice the rows: solved in the space that these span
    ridges = [Ridge(random_rows(int(rng.integers(4, 40)), feats, int(rng.integers(2, 5)), gen), float(10**rng.uniform(-2, 1)))
              for _ in range(int(rng.integers(2, 5)))]
    groups = [1+rng.permutation(5)[:o.rows.n_labels] for o in ridges]
    for o in groups:
        o[rng.random(len(o)) < .3] = -1  # labels without a group
        o[0] = 0  # and one that connects all tasks
    groups = np.concatenate(groups)
    pooled = bool(seed%2)
    ours = Coupling(ridges, groups).heads(3., pooled, tol=1e-13)
    for k, (w, b) in dense(ridges, groups, 3., pooled).items():
        np.testing.assert_allclose(ours[k][0], w, rtol=1e-7, atol=1e-8)
        np.testing.assert_allclose(ours[k][1], b, rtol=1e-7, atol=1e-8)


def test_sizes_at_the_edge():
    gen = torch.Generator().manual_seed(0)
    for tasks in ([random_rows(3, 5, 3, gen)], [random_rows(4, 5, 1, gen), random_rows(2, 5, 2, gen)],
                  [random_rows(2, 50, 2, gen) for _ in range(3)]):
        for o in (share_heads(tasks), share_heads(tasks, strength=2.)):
            assert all(torch.isfinite(w).all() and torch.isfinite(b).all() for w, b in o.heads)


def test_trained_heads_keep_half_of_the_say():
    "Logits are the mean of the solved heads' and of the trained ones, drawn to the mean of their group; solving again changes nothing"
    sites,_ = deal_sites(synth_task('waves', dict(sine='sine', square='square', fast='fast'), n=90), n=3, rows=6, seed=0)
    def learner():
        torch.manual_seed(0)
        dls = MultiTaskDataLoaders.from_tasks(sites, bs=9, schedule='uniform', steps=30, device='cpu', check_copies=False)
        return quiet(mtcs_learner(dls, arch_config=dict(hidden=8, feats=16, depth=3), sharing=None))
    learn = learner()
    learn.fit(4, 1e-2)
    W = learn.model.head.weight.detach().clone()
    solved,found = solve_heads(learn.model, learn.dls.train_ds, strength=1.)
    assert (found.groups >= 0).all()
    mean = torch.stack([W[found.groups == g].mean(0) for g in found.groups])
    for _ in range(2):
        learn.fit_heads(strength=1.)
        torch.testing.assert_close(learn.model.head.weight.detach(), (solved.weight+mean)/2)
        torch.testing.assert_close(learn.model.head.last.bias.detach(), solved.last.bias/2)
    early = learner()
    early.fit(1, 1e-6)  # more errors on rows that it has seen than solved heads make on rows left out: it has no say
    early.fit_heads(strength=1.)
    torch.testing.assert_close(early.model.head.weight.detach(), solve_heads(early.model, early.dls.train_ds, strength=1.)[0].weight)
    untrained = learner().fit_heads(strength=1.)
    again,_ = solve_heads(untrained.model, untrained.dls.train_ds, strength=1.)
    torch.testing.assert_close(untrained.model.head.weight, again.weight)

def test_looking_for_a_learning_rate_trains_no_heads(tmp_path):
    learn = quiet_learner(path=tmp_path)
    learn.lr_find(num_it=4, show_plot=False)
    assert learn.trained_head is None
    found = learn.fit_heads(strength=1.).shared_heads
    learn.lr_find(num_it=9, stop_div=False, show_plot=False)
    assert learn.shared_heads is found and 'solved by fit_heads' in repr(learn)

def test_groups_are_those_of_the_weights_that_there_are(tmp_path):
    learn = quiet_learner(path=tmp_path)
    looks = lambda: [learn.label_groups(), learn.who_helps_whom(n_folds=2)] and learn.shared_heads
    found = looks()
    assert looks() is found and 'heads:   1 layer' in repr(learn)  # found once, and nothing is solved by looking
    learn.save('untrained')
    learn.fit(1)
    assert looks() is not found
    solved = learn.fit_heads().shared_heads
    assert looks() is solved and 'solved by fit_heads' in repr(learn)
    learn.fit(1)
    assert looks() is not solved and 'heads:   1 layer' in repr(learn)
    learn.save('trained')
    found = looks()
    learn.load('trained')
    assert learn.trained_head is None and looks() is not found

def test_only_a_fit_that_takes_a_step_has_trained_heads():
    learn = quiet_learner().fit_heads(strength=1.)
    found, head = learn.shared_heads, learn.model.head
    with pytest.raises(ValueError, match='n_epoch'): learn.fit(-1)
    assert learn.trained_head is None and learn.shared_heads is found
    learn.fit(1)
    assert learn.trained_head is head

def test_the_best_epoch_s_heads_are_trained_ones(tmp_path):
    "`SaveModelCallback` loads them at the end of the fit"
    learn = quiet_learner(path=tmp_path, dls=synth_dls(valid_pct=.3))
    learn.fit(2, cbs=SaveModelCallback())
    assert learn.trained_head is learn.model.head

def test_where_rows_are_many_every_fold_decides_and_fewer_heads_are_tried(monkeypatch):
    gen = torch.Generator().manual_seed(0)
    kinds = torch.randn(3, 20, generator=gen, dtype=torch.float64)
    def task(n):
        y = torch.arange(n)%3
        return Rows(kinds[y]+1.2*torch.randn(n, 20, generator=gen, dtype=torch.float64), y, 3, torch.ones(n, dtype=torch.float64))
    rows,seen = [task(9), task(12)],{}
    def keep(losses, few, near):
        seen.update(losses)
        return choose(losses, few, near)
    monkeypatch.setattr(shared_heads, 'choose', keep)
    few = share_heads(rows)
    assert len(seen) == 1+4*2*2
    seen.clear()
    monkeypatch.setattr(shared_heads, 'MANY', 20)
    many = share_heads(rows)
    assert set(seen) == {ALONE, Draw(STRENGTHS[0])}
    assert {len(o) for o in seen.values()} == {3+4} # a label of three rows is held out in three folds, one of four in four
    assert (few.groups >= 0).all() and few.choices[0]['tasks'] == many.choices[0]['tasks'] == [0,1]
    seen.clear()
    wrong = share_heads(rows, same=[(0,4),(1,3),(2,5)], never=[(0,3),(1,4)]) # accuracy falls: two folds are enough
    assert {len(o) for o in seen.values()} == {2+2} and wrong.groups.tolist() == [0,1,2, 1,0,2] # what is told stands
    assert wrong.choices[0]['strength'] == UNJUDGED.strength

FALLS = (.8,.9,.7,.9)
@pytest.mark.parametrize('loss, accuracy, few, many', [(FALLS, (.8,.8,.8,.8), True, False), (FALLS, (.9,.9,.8,.9), True, True),
                                                       (FALLS, (.8,.8,.8,.7), True, False), ((1.,1.,.9,1.2), (.7,.7,.7,.7), False, False)])
def test_few_rows_speak_by_loss_and_accuracy_together_many_by_each(loss, accuracy, few, many):
    shared = Draw(STRENGTHS[0])
    def lines(loss, right): return np.array([(o, 1., r) for o,r in zip(loss, right)])
    losses = {ALONE: lines((1.,1.1,1.,1.1), [.8]*4), shared: lines(loss, accuracy)}
    assert [choose(losses, o) == shared for o in (True,False)] == [few, many]
