"Relevance of labels and similarity of tasks: their values, and what the pictures show."
import numpy as np
import pandas as pd
import pytest
import torch
from helpers import quiet_learner
from matplotlib.patches import Rectangle
from tsai_mtcs.similarity import covariance_similarity, plot_relevance, relevance_frame, task_similarity


@pytest.fixture(scope='module')
def learn(): return quiet_learner()

def frame(sizes=(2,3,2), high=()):
    "Relevance 1 of all labels of different tasks, 3 for the pairs `high`"
    index = pd.MultiIndex.from_tuples([(f'task {k}', i) for k,n in enumerate(sizes) for i in range(n)], names=('task','label'))
    owner = index.get_level_values(0).to_numpy()
    R = (owner[:,None] != owner).astype(float)
    for i,j in high: R[i,j] = R[j,i] = 3
    return pd.DataFrame(R, index, index)

def frames(ax): return sorted((int(o.get_y()+.5), int(o.get_x()+.5)) for o in ax.patches if isinstance(o, Rectangle))


def test_relevance_is_equation_4_over_its_mean_on_the_series_of_both_tasks(learn):
    ds,space,names = learn.dls.train_ds,learn.dls.space,learn.dls.space.names
    R = relevance_frame(learn.model, ds)
    with torch.no_grad(): logits = [learn.model.eval()(torch.from_numpy(ds.series(k)[:])) for k in range(2)]
    a,b = (space.block(o) for o in names)
    means = []
    for z in logits:
        p,q = z[:,a].softmax(1).double(),z[:,b].softmax(1).double()
        A = p.T@q/len(p)
        means.append(A/A.mean())
    np.testing.assert_allclose(R.loc[names[0],names[1]], sum(means)/2, atol=1e-5)
    pd.testing.assert_frame_equal(learn.relevance(), R)

def test_similarity_is_that_of_the_embeddings_of_a_split(learn):
    ds = learn.dls.loader('test').dataset
    Z = [learn.embed(learn.dls.test.dataset.store.X[k].numpy()[ds.rows[k]], name) for k,name in enumerate(learn.dls.space.names)]
    S = task_similarity(learn.model, ds)
    np.testing.assert_allclose(S.to_numpy()[0,1], covariance_similarity(*Z), atol=1e-6)
    pd.testing.assert_frame_equal(learn.task_similarity('test'), S)


def test_one_half_of_the_label_space_with_frames_above_tau():
    ax = plot_relevance(frame(high=[(0,2),(1,6)]))
    assert frames(ax) == [(0,2),(1,6)] and ax.get_title('left') == '2 pairs of labels above 2 times the mean'
    cells,grey = (o.get_array() for o in ax.images)
    assert (~np.ma.getmaskarray(cells)).sum() == 2*3+2*2+3*2 and np.ma.getmaskarray(cells)[np.tril_indices(7)].all()
    assert (~np.ma.getmaskarray(grey)).sum() == 4+9+4
    assert [o.get_text() for o in ax.get_xticklabels()] == ['0','1','0','1','2','0','1']
    assert [o.get_text() for o in ax.texts] == ['task 0','task 1','task 2']
    assert [o.get_text() for o in ax.figure.legends[0].texts] == ['above 2 times the mean','labels of one task']

@pytest.mark.parametrize('high,tau,title', [
    ((), 2, 'no pairs of labels above 2 times the mean'), ([(0,2)], 2.5, '1 pair of labels above 2.5 times the mean')])
def test_the_title_counts(high, tau, title): assert plot_relevance(frame(high=high), tau=tau).get_title('left') == title

def test_two_tasks_are_rows_and_columns():
    ax = plot_relevance(frame(high=[(0,4)]), 'task 1', 'task 0')
    assert frames(ax) == [(2,0)] and (ax.get_ylabel(),ax.get_xlabel()) == ('task 1','task 0')
    assert [o.get_text() for o in ax.figure.legends[0].texts] == ['above 2 times the mean'], 'no grey where none is shown'

def test_one_task_beside_all():
    ax = plot_relevance(frame(), 'task 1')
    assert ax.images[0].get_array().shape == (3,7) and [o.get_text() for o in ax.get_xticklabels()][:2] == ['task 0: 0','task 0: 1']

def test_many_labels_go_by_the_names_of_their_tasks():
    ax = plot_relevance(frame([4]*40))
    assert not len(ax.get_xticks()) and [o.get_text() for o in ax.texts] == [f'task {k}' for k in range(40)]
    ax = plot_relevance(frame([4]*40), 'task 3')
    assert [o.get_text() for o in ax.get_xticklabels()] == [f'task {k}' for k in range(40)]

def test_an_unknown_task_is_refused_before_anything_is_computed(learn, monkeypatch):
    monkeypatch.setattr('tsai_mtcs.inspected_learner.relevance_frame', lambda *_: pytest.fail('computed'))
    with pytest.raises(ValueError, match='known: waves, machine'): learn.plot_relevance('waves', 'machines')
