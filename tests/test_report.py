"Tables and pictures of a benchmark say the same whatever the order of methods."
import re
from itertools import permutations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata, wilcoxon
from tsai_mtcs.bench.report import (format_table, paper_table, plot_cd, plot_pairwise, styled_report, task_gains, to_markdown,
                                    write_report)


def results(*rows):
    "Results as `read_results` gives them: rows of method, task and accuracy"
    return pd.DataFrame([dict(method=m, task=t, seed=0, rows=10, accuracy=a) for m,t,a in rows])

def frame(**methods):
    "Results of methods: accuracies of data sets, one a list's entry"
    return results(*((m, f'set{i}', a) for m,acc in methods.items() for i,a in enumerate(acc)))

def texts(fig):
    "All texts of a picture"
    return [o.get_text() for ax in fig.axes for o in ax.texts]

def p_values(results, **kwargs):
    "The text of the picture, in which its p-values are"
    fig = plot_pairwise(results, **kwargs)
    plt.close(fig)
    return ' '.join(texts(fig))


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
    return paper_table(results(*((m, t, a) for m,a in (('MTL',.5),('MTCS',.75)) for t in 'xyz')))

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
    write_report(results(*((m, t, .5) for m in ('MTL','MTCS') for t in 'xyz')), tmp_path, copies=COPIES)
    assert all('48% in y' in (tmp_path/o).read_text() for o in ('table.md','table.html'))
    assert '†' not in (tmp_path/'table.csv').read_text()

def test_a_task_called_mean_keeps_its_row():
    gains = task_gains(results(*((m, t, a) for m,a in (('mtl',.75),('mtl-single',.5)) for t in ('mean','x'))))
    assert list(gains.index)[-1] == 'mean' and len(gains) == 3 and gains.gain.tolist() == [.25]*3


# Pictures: what is drawn
def ranks_drawn(fig):
    "The mean rank that stands beside the name of each method"
    words = texts(fig)
    return {name: float(rank) for rank,name in zip(words, words[1:]) if re.fullmatch(r'\d\.\d{4}', rank)}

def bars(fig):
    "From which rank to which one the bars over methods that do not differ reach; the axis has rank 1 at 0.75 and rank 3 at 0.25"
    thick = [o.get_xdata() for ax in fig.axes for o in ax.lines if o.get_linewidth() == 2.5]
    return [sorted(1+(.75-x)/.25 for x in line) for line in thick]

def test_cd_diagram_has_mean_ranks_and_joins_equals():
    rng = np.random.default_rng(3)
    base = rng.uniform(.5, .8, 14)
    scores = dict(best=base+.1, middle=base+.05, worst=base)
    fig = plot_cd(frame(**scores))
    assert ranks_drawn(fig) == dict(best=1, middle=2, worst=3) and bars(fig) == [], 'each differs from each'
    plt.close(fig)
    scores['worst'] = scores['middle']+rng.normal(0, 1e-3, 14)
    ranks = rankdata(-np.array(list(scores.values())), axis=0).mean(1)
    fig = plot_cd(frame(**scores))
    assert ranks_drawn(fig) == pytest.approx(dict(zip(scores, ranks)), abs=1e-4)
    (left,right), = bars(fig)
    assert left == pytest.approx(min(ranks[1:]), abs=.15) and right == pytest.approx(max(ranks[1:]), abs=.15), 'the bar leaves the best out'
    plt.close(fig)

def test_pairwise_shows_differences_in_the_order_of_means():
    rng = np.random.default_rng(0)
    scores = dict(low=rng.uniform(.4, .5, 12))
    scores['high'] = scores['low']+rng.uniform(.05, .15, 12)
    fig = plot_pairwise(frame(**scores))
    ax = next(o for o in fig.axes if o.images)
    difference = (scores['high']-scores['low']).mean()
    np.testing.assert_allclose(ax.images[0].get_array(), [[0,difference],[-difference,0]], atol=1e-9)
    assert [o.get_text().split('\n')[0] for o in ax.get_yticklabels()] == ['high','low']
    assert f'{difference:.4f}\n12 / 0 / 0' in ' '.join(texts(fig)) and f'{-difference:.4f}\n0 / 0 / 12' in ' '.join(texts(fig))
    plt.close(fig)

def test_pictures_and_tables_call_methods_by_name():
    rows = frame(**{'mtl-single':np.linspace(.5, .7, 12), 'mtl':np.linspace(.6, .9, 12), 'dtw':np.linspace(.4, .5, 12)})
    rows['name'] = rows.method.map({'mtl-single':'MTL, single', 'mtl':'MTL', 'dtw':'1-NN DTW'})
    fig = plot_cd(rows)
    assert ranks_drawn(fig) == {'MTL':1, 'MTL, single':2, '1-NN DTW':3}
    plt.close(fig)
    assert list(format_table(paper_table(rows))) == ['MTL, single','MTL','1-NN DTW']
    fig = plot_pairwise(rows)
    ticks = next(o for o in fig.axes if o.images).get_yticklabels()
    assert [o.get_text().split('\n')[0] for o in ticks] == ['MTL','MTL, single','1-NN DTW']
    plt.close(fig)
    assert task_gains(rows).gain['mean'] == pytest.approx(.15)

def test_the_report_is_of_the_metric_asked_for(tmp_path):
    rows = frame(mtl=[.5]*12, dtw=[.4]*12).assign(head_accuracy=[.25]*12+[np.nan]*12)
    assert write_report(rows, tmp_path, 'head_accuracy')[0] == ['results.csv','table.md','table.csv','table.html']
    text = (tmp_path/'table.md').read_text()
    assert '**0.250**' in text and 'dtw' not in text and '0.500' not in text
    assert len(pd.read_csv(tmp_path/'results.csv')) == 24
    with pytest.raises(ValueError, match="expected results with 'head_accuracy', found accuracy"): paper_table(rows[12:], 'head_accuracy')

def test_the_best_of_a_row_is_bold_in_every_form():
    table = paper_table(results(('a','x',.5), ('b','x',.75), ('a','y',.75), ('b','y',.25)))
    lines = to_markdown(table).splitlines()[2:]
    assert lines == ['| x | 0.500 | **0.750** |', '| y | **0.750** | 0.250 |', '| mean of 2 | **0.625** | 0.500 |']
    styles = styled_report(table)._compute().ctx
    bold = {cell for cell,props in styles.items() if ('font-weight','bold') in props}
    assert bold == {(0,1),(1,0),(2,0)}
