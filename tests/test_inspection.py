"What can be looked at in one task of a learner, and on its view."
import numpy as np
import pytest
import torch
from fastai.interpret import ClassificationInterpretation, Interpretation
from helpers import quiet, quiet_learner, random_task, same, weights
from sklearn.metrics import balanced_accuracy_score, classification_report
from tsai_mtcs.data import MultiTaskDataLoaders
from tsai_mtcs.inspection import occlusion_frame, task_answers
from tsai_mtcs.kernels import KernelEncoder
from tsai_mtcs.learner import mtcs_learner
from tsai_mtcs.tasks import Task
from tsai_mtcs.test_utils import synth_learner, synth_task, synth_tasks


@pytest.fixture(scope='module')
def trained():
    "A learner for the tests that change nothing of it"
    learn = quiet_learner()
    learn.fit(6, 1e-2)
    return learn

@pytest.fixture(scope='module')
def machine(): return synth_tasks()[1]

def kernels(*tasks):
    dls = MultiTaskDataLoaders.from_tasks(tasks, device='cpu')
    return quiet(mtcs_learner(dls, KernelEncoder, arch_config=dict(n_kernels=420, parts='minirocket'))).fit_heads()

@pytest.fixture(scope='module')
def bump():
    rng = np.random.default_rng(0)
    X,y = rng.normal(0, .1, (90,2,48)).astype(np.float32),np.arange(90)%2
    X[y == 1,1,8:16] += 2
    return kernels(Task('bump', X, [('flat','bump')[o] for o in y], splits=(range(60), range(60,90))), synth_tasks()[0])

@pytest.fixture(scope='module')
def view(trained): return quiet(trained.for_task('machine'))

@pytest.fixture(scope='module')
def sites():
    "Two places that mean the same by their labels, one of few rows, and one of noise"
    kinds = dict(x='sine', y='square', z='fast')
    few,many = synth_task('few', kinds, n=18, seed=1),synth_task('many', dict(a='square', b='fast', c='sine'), n=150, seed=2)
    return kernels(few, many, random_task('noise', labels=2, steps=32))


class TestReport:
    @pytest.mark.parametrize('split', ['train','test'])
    def test_is_scikit_learns(self, trained, machine, split):
        rows = getattr(machine, split)
        y,guess = machine.y[rows],trained.predict(machine.X[rows], 'machine')[0]
        want = classification_report(y, guess, output_dict=True, zero_division=np.nan)
        df = trained.report('machine', split)
        assert list(df.index) == ['humming','smooth','stuck','mean','weighted mean'] and df.rows['mean'] == len(rows)
        for name in df.index[:3]:
            np.testing.assert_allclose(df.loc[name], [want[name][o] for o in ('precision','recall','f1-score','support')])
        assert df.recall['mean'] == pytest.approx(balanced_accuracy_score(y, guess))

    def test_unknown_labels_count_as_wrong(self):
        X,y = synth_task('a', dict(s='sine', f='fast'), n=40).X,['s','f']*20
        y[-1] = 'new'
        learn = kernels(Task('a', X, y, splits=(range(30), range(30,40))), synth_tasks()[0])
        df,scores = learn.report('a'),learn.validate_tasks().loc['a']
        assert df.index[2] is None and df.rows.iloc[2] == 1 and df.recall.iloc[2] == 0
        assert df.recall['mean'] == pytest.approx(scores.balanced_accuracy)
        assert df.recall['weighted mean'] == pytest.approx(scores.accuracy)
        assert learn.plot_confusion('a').confusion_matrix.sum() == 9
        last = learn.top_losses('a', None).iloc[-1]
        assert last.label is None and last.row == 39 and np.isnan(last.loss)

    @pytest.mark.parametrize('labels', [(0,1), (('a',1),('b',2)), (True,False)])
    def test_labels_of_any_kind(self, labels):
        task = Task('t', synth_task('t', dict(a='sine', b='fast')).X, [labels[i%2] for i in range(48)], splits=(range(32), range(32,48)))
        learn = kernels(task, synth_tasks()[0])
        assert set(learn.report('t').index[:2]) == set(labels)
        learn.plot_confusion('t', normalize='true')
        learn.plot_top_losses('t', 2)

    @pytest.mark.parametrize('look', ['report','plot_confusion','top_losses','plot_top_losses','occlusion','plot_occlusion','for_task'])
    def test_says_what_is_wrong(self, trained, machine, look):
        f = getattr(trained, look)
        with pytest.raises(ValueError, match="there is no task 'pump'; known: waves, machine"): f('pump')
        with pytest.raises(ValueError, match='expected a validation split, found none'): f('waves', split='valid')
        with pytest.raises(ValueError, match=r'expected the name of a task first, .* learn.for_task\(name\)'): f(machine.X)


class TestTopLosses:
    def test_are_the_losses_of_the_rows(self, trained, machine):
        df = trained.top_losses('machine', 5)
        probs = trained.predict(machine.X[df.row], 'machine')[1]
        np.testing.assert_allclose(df.loss, -np.log(probs[range(5),machine.codes[df.row]]), rtol=1e-4)
        np.testing.assert_allclose(df.probability, probs.max(1), rtol=1e-4)
        assert list(df.label) == list(machine.y[df.row]) and (np.diff(df.loss) <= 0).all() and set(df.row) <= set(machine.test)
        assert trained.top_losses('machine', None).loss.mean() == pytest.approx(trained.validate_tasks().loss['machine'], rel=1e-4)

    def test_picture_shows_the_series_as_measured(self, trained, machine):
        fig,df = trained.plot_top_losses('machine', 4),trained.top_losses('machine', 4)
        shown = [ax for ax in fig.axes if ax.lines]
        for ax,o in zip(shown, df.itertuples()):
            np.testing.assert_allclose(ax.lines[0].get_ydata(), machine.X[o.row,0], rtol=1e-5)
            assert ax.get_title() == f'label {o.label}, predicted {o.predicted}, loss {o.loss:.2f}'
        assert len(shown) == 4


class TestOcclusion:
    @pytest.mark.parametrize('fill', [0., np.nan])
    def test_finds_what_was_put_there(self, bump, fill):
        both = bump.occlusion('bump', by='both', window=8, fill=fill)
        assert len(both) == 12 and both.loc[both.loss.idxmax(),['variable','start','stop']].tolist() == [1,8,16]
        assert bump.occlusion('bump', by='variable').loss.argmax() == 1
        time = bump.occlusion('bump', window=8)
        assert time.start[time.loss.argmax()] == 8 and set(time.variable) == {'all'} and list(time.stop) == list(range(8,49,8))

    def test_is_the_loss_of_covered_series(self, bump):
        ds,model = bump.dls.test.dataset,bump.model
        X = ds.series(0)[:].copy()
        codes,before = task_answers(model, ds, 'bump')
        X[:,:,5:10] = 0
        after = task_answers(model, ds, 'bump', X)[1]
        loss = [-np.log(o[range(30),codes].clip(1e-12)).mean() for o in (before,after)]
        right = [(o.argmax(1) == codes).mean() for o in (before,after)]
        row = bump.occlusion('bump', window=5).iloc[1]
        assert row.loss == pytest.approx(loss[1]-loss[0]) and row.accuracy == right[1]-right[0]

    def test_few_rows_of_many(self, bump): assert len(bump.occlusion('bump', window=24, max_rows=5)) == 2

    @pytest.mark.parametrize('by, axes', [('time',2), ('variable',1), ('both',2)])
    def test_pictures(self, bump, by, axes): assert len(bump.plot_occlusion('bump', by).axes) == axes

    def test_wrong_choices(self, bump):
        with pytest.raises(ValueError, match="expected to cover 'time', 'variable' or 'both', found 'step'"): bump.occlusion('bump', 'step')
        with pytest.raises(ValueError, match='window to be a whole number of at least 1, found 0'): bump.occlusion('bump', window=0)

    def test_series_of_unequal_length_stay_as_long_as_they_are(self):
        rng = np.random.default_rng(0)
        X = [rng.normal(size=(1,n)) for n in rng.integers(10, 30, 40)]
        learn = kernels(Task('short', X, ['a','b']*20, splits=(range(20), range(20,40))), synth_tasks()[0])
        df = occlusion_frame(learn.model, learn.dls.test.dataset, 'short', window=5)
        assert np.isfinite(df.loss).all()
        learn.plot_occlusion('short', window=5)


def test_nothing_changes_the_model(trained):
    before = weights(trained.model)
    trained.report('waves')
    trained.occlusion('waves')
    trained.who_helps_whom()
    trained.for_task('waves').validate()
    assert same(before, weights(trained.model)) and len(trained.recorder.values) == 6


class TestView:
    def test_answers_as_the_learner_does(self, trained, view, machine):
        loss,accuracy = view.validate()
        scores = trained.validate_tasks().loc['machine']
        assert accuracy == pytest.approx(scores.accuracy) and loss == pytest.approx(scores.loss, rel=1e-4)
        assert view.dls.vocab == ['humming','smooth','stuck'] and view.dls.c == 3
        np.testing.assert_allclose(view.dls.valid_ds[:][0], machine.X[machine.test], rtol=1e-6)

    def test_fastai_interprets_it(self, trained, view):
        losses,rows = Interpretation.from_learner(view).top_losses(3)
        df = trained.top_losses('machine', 3)
        np.testing.assert_allclose(losses, df.loss, rtol=1e-4)
        assert trained.dls.test.dataset.rows[1][rows.tolist()].tolist() == list(df.row)
        it = ClassificationInterpretation.from_learner(view)
        assert (it.confusion_matrix() == trained.plot_confusion('machine').confusion_matrix).all()
        it.plot_confusion_matrix()
        it.print_classification_report()

    def test_tsai_reads_it(self, trained, view, machine):
        import tsai.all  # noqa: F401 (adds its own to Learner)
        X,y = machine.X[machine.test],machine.y[machine.test]
        labels,want = trained.predict(X, 'machine')
        probs,_,found = view.get_X_preds(X)
        np.testing.assert_allclose(probs, want, atol=1e-6)
        assert list(found) == list(labels)
        assert view.top_losses(X, y, 3)[1] == [list(machine.test).index(o) for o in trained.top_losses('machine', 3).row]
        view.plot_top_losses(X, y, 3)
        df = view.feature_importance(X.copy(), y, verbose=False, show_chart=False)
        assert set(df.Feature) == {'BASELINE','var_0'}
        assert len(view.step_importance(X.copy(), y, n_steps=20, verbose=False, show_chart=False)) == 3
        view.show_probas()
        view.plot_confusion_matrix()

    def test_what_tsais_loaders_cannot_hold_is_refused(self):
        X = 1e6+1e-3*np.random.default_rng(0).normal(size=(40,1,20))
        learn = kernels(Task('level', X, ['a','b']*20, splits=(range(20), range(20,40))), synth_tasks()[0])
        with pytest.raises(ValueError, match='expected series that float32 can hold'): learn.for_task('level')


class TestHelping:
    def test_rows_and_columns(self, sites):
        df = sites.who_helps_whom()
        assert list(df) == ['rows','alone','together','few','many','noise'] and list(df.index) == ['few','many','noise']
        assert df.rows.tolist() == [12,100,12] and np.isnan(np.diag(df[list(df.index)])).all()
        assert (df.loc['noise',['few','many']] == 0).all() and (df['noise'].dropna() == 0).all()
        assert df.together['noise'] == df.alone['noise']

    def test_of_two_that_share_the_gain_is_that_of_the_other(self, sites):
        sites.fit_heads(strength=10.)
        df = sites.who_helps_whom()
        assert df.loc['few','many'] == pytest.approx(df.together['few']-df.alone['few']) and df.together['few'] >= df.alone['few']
        assert df.loc['few','many'] > 0 or df.alone['few'] == 1

    def test_what_is_known_is_kept(self, sites):
        sites.fit_heads(strength=10., never=[(('few',a), ('many',b)) for a in 'xyz' for b in 'abc'])
        df = sites.who_helps_whom()
        assert (df.together == df.alone).all() and len(sites.shared_heads.known['never']) == 9

    def test_same_seed_same_result(self, sites): assert sites.who_helps_whom().equals(sites.who_helps_whom())

    def test_picture(self, sites):
        ax = sites.plot_who_helps_whom()
        assert [o.get_text() for o in ax.get_xticklabels()] == ['few','many','noise']
        assert ax.get_yticklabels()[0].get_text().startswith('few')


def test_looking_leaves_torchs_random_numbers_alone(trained):
    torch.manual_seed(1)
    want = torch.rand(1)
    torch.manual_seed(1)
    trained.occlusion('waves')
    trained.who_helps_whom()
    assert torch.rand(1) == want

def test_an_exported_learner_predicts_as_before(tmp_path):
    learn = quiet(synth_learner())
    learn.for_task('waves')
    learn.path = tmp_path
    learn.export('x.pkl')
    assert (tmp_path/'x.pkl').exists()


class TestWhatMakesNoSense:
    @pytest.mark.parametrize('f', [
        lambda o: o.top_losses('waves', -1), lambda o: o.top_losses('waves', 2.5), lambda o: o.plot_top_losses('waves', 0),
        lambda o: o.occlusion('waves', window=2.5), lambda o: o.occlusion('waves', window=0), lambda o: o.occlusion('waves', max_rows=-1)])
    def test_numbers_that_are_no_counts(self, trained, f):
        with pytest.raises(ValueError, match='whole number of at least 1'): f(trained)

    @pytest.mark.parametrize('n', [0, 1, 2.5])
    def test_folds(self, trained, n):
        with pytest.raises(ValueError, match='n_folds to be a whole number of at least 2'): trained.who_helps_whom(n_folds=n)

    def test_more_folds_than_rows_are_as_many_as_rows(self):
        learn = quiet_learner(dls=MultiTaskDataLoaders.from_tasks([random_task('p'), random_task('q', seed=1)], device='cpu', bs=8))
        assert learn.who_helps_whom(n_folds=10**6).equals(learn.who_helps_whom(n_folds=6)) # of six rows a label

    def test_a_record_before_training(self):
        for f in (quiet_learner().best_epochs, quiet_learner().plot_training):
            with pytest.raises(ValueError, match='fit the learner first'): f()
