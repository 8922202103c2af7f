"The picture of a fit: what stands on which axes, and under which name."
import numpy as np
import pandas as pd
import pytest
from helpers import quiet_learner
from tsai_mtcs.history import history_frame, plot_training
from tsai_mtcs.test_utils import synth_dls


def history(n=5, **kwargs):
    return pd.DataFrame({**dict(train_loss=np.linspace(2, 1, n), test_loss=np.linspace(2, 1.1, n), test_accuracy=np.linspace(.4, .8, n),
                         waves=np.linspace(.4, .8, n), cls_loss=np.linspace(2, 1, n), sharing_loss=np.linspace(0, 1e-3, n)), **kwargs})

def titles(fig): return [o.get_title() for o in fig.axes]


def test_losses_the_sharing_loss_and_accuracies_have_axes_of_their_own():
    fig = plot_training(history(), ['waves'])
    assert titles(fig) == ['loss','sharing loss, in training','accuracy on the test split']
    named = [[o.get_text() for o in ax.texts] for ax in fig.axes]
    assert named == [['train_loss','cls_loss','test_loss'], ['sharing_loss'], ['test_accuracy','waves']]
    np.testing.assert_array_equal(fig.axes[0].lines[1].get_ydata(), history().test_loss)
    np.testing.assert_array_equal(fig.axes[0].lines[1].get_xdata(), range(1, 6))

@pytest.mark.parametrize('n', [1,2,5,40])
def test_epochs_are_whole_numbers(n):
    ticks = plot_training(history(n)).axes[0].get_xticks()
    assert len(ticks) and (ticks == np.round(ticks)).all()

def test_names_at_the_ends_keep_their_distance_inside_the_axes():
    tasks = [f't{i}' for i in range(16)]
    ax = plot_training(history(**{o: np.linspace(.1, .79+.001*i, 5) for i,o in enumerate(tasks)}), tasks).axes[-1]
    heights,(low,high) = [o.get_position()[1] for o in ax.texts],ax.get_ylim()
    assert np.diff(heights).min() > .05*(high-low) and low <= heights[0] and heights[-1] <= high

@pytest.mark.parametrize('held', [False,True])
def test_what_a_fit_was_watched_on(held):
    learn = quiet_learner(dls=synth_dls(valid_pct=.25*held))
    learn.fit(2)
    frame,fig = history_frame(learn.recorder),learn.plot_training()
    assert list(frame)[:3] == (['train_loss','valid_loss','accuracy'] if held else ['train_loss','test_loss','test_accuracy'])
    assert f'accuracy on the {"validation" if held else "test"} split' in titles(fig)

def test_no_axes_for_what_nothing_was_recorded_of():
    assert titles(plot_training(history(sharing_loss=0., test_accuracy=None, test_loss=None).drop(columns='waves'))) == ['loss']
