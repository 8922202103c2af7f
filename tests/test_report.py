"Tables and pictures of a benchmark say the same whatever the order of methods."
from itertools import permutations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy.stats import wilcoxon
from tsai_mtcs.bench.report import paper_table, plot_pairwise, styled_report, task_gains, to_markdown, write_report


def frame(**methods):
    "Results of methods: accuracies of data sets, one a list's entry"
    return pd.DataFrame([dict(method=m, task=f'set{i}', seed=0, rows=10, accuracy=a) for m,acc in methods.items()
                         for i,a in enumerate(acc)])

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


# Near copies
COPIES = pd.DataFrame([[0,.48,0],[.003,0,0],[0,0,0]], ['x','y','z'], ['x','y','z'])

@pytest.fixture
def table():
    return paper_table(pd.DataFrame([dict(method=m, task=t, seed=0, rows=10, accuracy=a) for m,a in (('MTL',.5),('MTCS',.75))
                                     for t in 'xyz']))

def test_copied_data_sets_are_marked(table):
    text = to_markdown(table, copies=COPIES)
    rows,note = text.split('\n\n')
    assert [o.split('|')[1].strip() for o in rows.splitlines()[2:]] == ['x †','y †','z','mean of 3']
    assert note.startswith('† ') and 'x: 48% in y; y: under 1% in x.' in note and 'z:' not in note
    html = styled_report(table, 'Accuracy <all>', copies=COPIES).to_html()
    assert 'x †' in html and 'z †' not in html and '48% in y' in html and 'Accuracy &lt;all&gt;<br>' in html
    assert list(table.index) == ['x','y','z','mean of 3'], 'the table is as it was'

def test_only_copies_within_the_table_count(table):
    assert to_markdown(table.drop('y'), copies=COPIES) == to_markdown(table.drop('y'))
    assert '†' not in to_markdown(table, copies=COPIES*0) and '†' not in to_markdown(table)

def test_the_report_has_marks_and_the_csv_has_names(tmp_path):
    results = pd.DataFrame([dict(method=m, task=t, seed=0, rows=10, accuracy=.5) for m in ('MTL','MTCS') for t in 'xyz'])
    write_report(results, tmp_path, copies=COPIES)
    assert all('48% in y' in (tmp_path/o).read_text() for o in ('table.md','table.html')) and '†' not in (tmp_path/'table.csv').read_text()

def test_a_task_called_mean_keeps_its_row():
    results = pd.DataFrame([dict(method=m, task=t, seed=0, rows=10, accuracy=a) for m,a in (('mtl',.75),('mtl-single',.5))
                            for t in ('mean','x')])
    gains = task_gains(results)
    assert list(gains.index)[-1] == 'mean' and len(gains) == 3 and gains.gain.tolist() == [.25]*3
