"What the commands print: short lines, tables that fit a screen of 80 columns, JSON, and as little as asked for."
import json
from functools import partial
from pathlib import Path

import pytest
import tsai_mtcs
import tsai_mtcs.all
from tsai_mtcs.cli import main
from tsai_mtcs.learner import mtcs_learner
from tsai_mtcs.test_utils import synth_tasks

NAME = 'a data set whose name is so long that no table on a screen has room for it'


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    "A folder to work in, with an archive of two data sets in it"
    folder = tmp_path_factory.mktemp('screen')
    for task,name in zip(synth_tasks(), ('waves',NAME)):
        (folder/'archive'/name).mkdir(parents=True)
        for split in ('train','test'):
            lines = ['\t'.join([str(task.y[i]), *map(str, task.X[i,0].tolist())]) for i in getattr(task, split)]
            (folder/'archive'/name/f'{name}_{split.upper()}.tsv').write_text('\n'.join(lines)+'\n')
    with pytest.MonkeyPatch.context() as m:
        m.setenv('XDG_CACHE_HOME', str(folder/'cache'))
        m.setattr(tsai_mtcs.all, 'mtcs_learner', partial(mtcs_learner, arch_config=dict(hidden=8, feats=16, depth=2)))
        yield folder

@pytest.fixture
def said(folder, monkeypatch, capsys):
    "Lines that a command prints"
    monkeypatch.chdir(folder)
    monkeypatch.setenv('COLUMNS', '80')
    def run(line):
        capsys.readouterr()
        assert main(line.split()) == 0
        return capsys.readouterr().out.splitlines()
    return run

def narrow(lines): return max(map(len, lines)) <= 80 and not any('\r' in o or '\x1b' in o for o in lines)


def test_a_run_prints_a_line_an_epoch_and_the_rest_fits_the_screen(said):
    lines = said('train --archive archive --epochs 3 --out run')
    assert [o.split('  ')[0] for o in lines[:3]] == ['epoch 1/3','epoch 2/3','epoch 3/3'] and len(lines) == 4 and narrow(lines)
    assert all('train_loss' in o and 'test_loss' in o and 'test_accuracy' in o and o.endswith(' s') for o in lines[:3])
    assert narrow(table := said('evaluate run')) and any(o.startswith('a data set whose') and '…' in o for o in table), table
    assert narrow(said('info run')) and narrow(said('tasks --archive archive')) and narrow(said('methods')) and narrow(said('groups run'))


def test_a_run_that_goes_on_says_what_is_left(said):
    said('train --archive archive --epochs 2 --out whole')
    assert said('train --resume --out whole')[0] == 'Epochs done: 2 of 2; left: 0'


def test_a_folder_is_added_and_what_was_trained_is_scored_as_before(said, folder, capsys):
    "The task that was added has no rows in the run, which says so"
    said('train --archive archive --arch kernels --out grown')
    before = said('evaluate grown --classifier ridge')
    for i in range(8):
        (folder/'水泵'/'ab'[i%2]).mkdir(parents=True, exist_ok=True)
        (folder/'水泵'/'ab'[i%2]/f'{i}.csv').write_text('\n'.join(str((t*(1+i%2)+i)%7) for t in range(40)))
    assert said('add grown --data 水泵')[0] == "8 series of 2 labels are learned as the task '水泵' of the model in grown"
    capsys.readouterr()
    assert main('evaluate grown --classifier ridge'.split()) == 0
    out,err = capsys.readouterr()
    assert out.splitlines() == before
    assert err.splitlines()[-1] == "The task '水泵', which was added to the model, is left out: the run has no rows of it"


def test_a_warning_takes_a_line(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    lines = [f'{i},{"train" if i%2 else "test"},{"ab"[i%2]},{(t*i)%5}' for i in range(8) for t in range(20)]
    Path('uneven.csv').write_text('\n'.join(['id,split,label,v', *lines]))
    assert main('tasks --data uneven.csv'.split()) == 0
    assert capsys.readouterr().err == ("mtcs: warning: task 'uneven': no training row has the label(s) 'a'; rows with them are counted as "
                                       "wrong\n")
    Path('other.csv').write_text('id,v\n1,2\n')
    assert main('tasks --data other.csv'.split()) == 2
    assert capsys.readouterr().err == "mtcs: other.csv: expected the column 'label', found id, v\n"


def test_json_and_quiet(said):
    assert len(said('train --archive archive --epochs 2 --out quiet --quiet')) == 1
    assert set(json.loads('\n'.join(said('evaluate quiet --json')))) == {'waves',NAME,'mean'}
    found = json.loads('\n'.join(said('info quiet --json')))
    assert found['epochs'] == 2 and [o['labels'] for o in found['tasks']] == [3,2] and 0 <= found['mean']['svm'] <= 1
    assert [o['name'] for o in json.loads('\n'.join(said('tasks --archive archive --json')))] == [NAME,'waves']
    assert {'mtcs','dtw'} <= {o['id'] for o in json.loads('\n'.join(said('methods --json')))}


def test_another_encoder(said):
    assert said('train --archive archive --arch kernels --out kernels') == ['The model is in kernels. To score it: mtcs evaluate kernels']
    assert json.loads('\n'.join(said('evaluate kernels --classifier ridge --json')))['mean']['heads'] > .9
    assert said('info kernels')[0].startswith('KernelEncoder') and not Path('kernels/checkpoint.pt').exists()
    assert said('train --archive archive --arch FCNPlus --epochs 1 --out fcn')[0].startswith('epoch 1/1')
    assert said('info fcn')[0].startswith('FCNPlus')
    assert main('train --archive archive --arch FCN --out none'.split()) == 2


def test_a_comparison_says_what_is_left(said):
    line = 'benchmark --methods dtw,kernels-single --archive archive --out jobs'
    lines = said(line)
    assert lines[0] == '4 jobs, 0 of them done, 4 left; the first one will tell how long they take' and narrow(lines)
    assert lines[4].startswith('job 4/4')
    assert said(line)[0] == '4 jobs, 4 of them done, 0 left; nothing is left to run'
    assert said(f'{line} --seeds 0,1')[0].startswith('8 jobs, 4 of them done, 4 left; about ')


def test_version(capsys):
    with pytest.raises(SystemExit) as e: main(['--version'])
    assert e.value.code == 0 and capsys.readouterr().out == f'mtcs {tsai_mtcs.__version__}\n'
