"Tables and pictures of a benchmark say the same whatever the order of methods."
from itertools import permutations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy.stats import wilcoxon
from tsai_mtcs.report import plot_pairwise


def frame(**methods):
    "Results of methods: accuracies of data sets, one a list's entry"
    return pd.DataFrame([dict(method=m, task=f'set{i}', seed=0, rows=10, accuracy=a) for m,acc in methods.items() for i,a in enumerate(acc)])

def p_values(results, **kwargs):
    "The text of the picture, in which its p-values are"
    fig = plot_pairwise(results, **kwargs)
    text = ' '.join(o.get_text() for ax in fig.axes for o in ax.texts)
    plt.close(fig)
    return text


@pytest.mark.parametrize('order', list(permutations(['good','bad'])))
def test_pairwise_is_two_sided(order):
    "12 wins of 12: p = 2/2^12, whichever method is the row"
    scores = dict(good=np.linspace(.8, .9, 12), bad=np.linspace(.5, .7, 12))
    text = p_values(frame(**{o: scores[o] for o in order}))
    assert wilcoxon(scores['good'], scores['bad']).pvalue == pytest.approx(2/2**12)
    assert '0.0005' in text and '1.0000' not in text and '0.0002' not in text

@pytest.mark.parametrize('order', list(permutations('abc')))
def test_pairwise_of_three_methods_permuted(order):
    rng = np.random.default_rng(0)
    scores = dict(zip('abc', rng.uniform(.4, .9, (3,14))+np.array([[0],[.05],[.1]])))
    text = p_values(frame(**{o: scores[o] for o in order}))
    for x,y in ('ab','ac','bc'): assert f'{wilcoxon(scores[x], scores[y]).pvalue:.4f}' in text

def test_pairwise_needs_as_many_data_sets_as_a_two_sided_test():
    six = dict(good=np.linspace(.8, .9, 6), bad=np.linspace(.5, .7, 6))
    assert f'{2/2**6:.4f}' in p_values(frame(**six))
    with pytest.raises(ValueError, match='at least 6 data sets'): plot_pairwise(frame(**{k: v[:5] for k,v in six.items()}))

def test_pairwise_of_equal_methods():
    acc = np.linspace(.5, .9, 8)
    text = p_values(frame(a=acc, b=acc))
    assert '0 / 8 / 0' in text and text.count('1.0000') == 2
