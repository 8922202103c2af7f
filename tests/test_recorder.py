"What is measured on the test split is called so, and nothing is chosen by it."
import matplotlib.pyplot as plt
import pytest
from fastai.callback.all import CSVLogger, SaveModelCallback
from fastai.metrics import error_rate
from helpers import quiet_learner
from tsai_mtcs.test_utils import synth_dls


@pytest.mark.parametrize('held', [False,True])
def test_columns_name_their_split(held):
    learn,tables = quiet_learner(dls=synth_dls(valid_pct=.25*held), metrics=error_rate),[]
    learn.logger = tables.append
    learn.fit(1)
    shown = learn.recorder.metric_names
    assert list(shown[2:4]) == (['valid_loss','accuracy'] if held else ['test_loss','test_accuracy'])
    assert shown[6] == ('error_rate' if held else 'test_error_rate')
    assert len(tables[0]) == len(shown) and list(shown[-2:]) == ['matched','time']

def test_loaders_given_later_change_the_names():
    learn = quiet_learner()
    learn.fit(1)
    learn.dls = synth_dls(valid_pct=.25)
    learn.fit(1)
    assert learn.recorder.metric_names[2] == 'valid_loss'

def test_every_epoch_may_be_kept(tmp_path):
    learn = quiet_learner(path=tmp_path, cbs=[SaveModelCallback(every_epoch=True), CSVLogger()])
    learn.fit(2)
    assert {o.name for o in (tmp_path/'models').iterdir()} == {'model_0.pth','model_1.pth'}
    assert (tmp_path/'history.csv').read_text().startswith('epoch,train_loss,test_loss,test_accuracy')

def test_the_loss_of_the_test_split_is_drawn_under_its_name():
    plt.close('all') # fastai draws into the figure that is open
    learn = quiet_learner()
    learn.fit(2)
    names,ax = list(learn.recorder.metric_names),learn.recorder.plot_loss()
    assert [o.get_label() for o in ax.lines] == ['train','test'] and list(learn.recorder.metric_names) == names
    plt.close('all')

@pytest.mark.parametrize('split', ['train','valid','test'])
def test_a_split_by_name(split):
    assert synth_dls(valid_pct=.25).loader(split).dataset.split == split

@pytest.mark.parametrize('split,said', [
    ('valid', 'expected a validation split, found none'), ('tset', "'train', 'valid' or 'test', found 'tset'"), (2, 'found 2')])
def test_a_split_that_is_not_there(split, said):
    learn = quiet_learner()
    for f in (learn.validate_tasks, learn.svm_eval, learn.relevance, learn.task_similarity, lambda o: learn.show_results(split=o)):
        with pytest.raises(ValueError, match=said): f(split)
