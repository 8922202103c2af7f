"What was trained stays: a run that goes on, one that replaces another, the demo, and two data sets added at once."
import os
import signal
from functools import partial
from pathlib import Path

import pytest
import torch
import tsai_mtcs.all
from helpers import exit_code, forked
from tsai_mtcs.cli import main
from tsai_mtcs.cli_run import read_run
from tsai_mtcs.headers import read_description
from tsai_mtcs.learner import mtcs_learner
from tsai_mtcs.test_utils import synth_learner, synth_task, write_archive

TRAIN = 'train --archive archive --tasks waves,machine --epochs 2 --bs 8 --out run'
OTHER = 'train --archive archive --tasks machine --epochs 2 --bs 8 --overwrite --out run'
small_learner = partial(mtcs_learner, arch_config=dict(hidden=8, feats=16, depth=2))


@pytest.fixture
def here(tmp_path, monkeypatch):
    "A folder to work in, with a small archive and a file of labelled series in it; the command trains a small encoder"
    write_archive(tmp_path/'archive')
    task = synth_task('pump', dict(a='sine', b='square'), n=24)
    (tmp_path/'pump.csv').write_text('\n'.join(','.join([o, *map(str, x[0])]) for o,x in zip(task.y, task.X)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path/'cache'))
    monkeypatch.setattr(tsai_mtcs.all, 'mtcs_learner', small_learner)
    return tmp_path

@pytest.fixture
def refused(capsys):
    "A command that is refused with these words"
    def check(line, *said):
        capsys.readouterr()
        assert main(line.split()) == 2
        err = capsys.readouterr().err
        assert all(o in err.splitlines()[-1] for o in said), err
    return check

def files(folder='run'): return {str(o.relative_to(folder)): o.read_bytes() for o in Path(folder).rglob('*') if o.is_file()}
def names(folder='run'): return [o['name'] for o in read_description(folder)['tasks']]

def killed(line, at, signum=signal.SIGKILL, log=os.devnull):
    "Run the command in a process of its own, which sends itself a signal when the function named `at` is called"
    def run():
        m = pytest.MonkeyPatch()
        m.setattr(at, lambda *_, **__: os.kill(os.getpid(), signum))
        return main(line.split())
    return exit_code(forked(run, log))


# A run that goes on
@pytest.mark.parametrize('arch', ['ts2vec','kernels'])
def test_a_finished_run_goes_on_and_keeps_what_was_added(here, arch):
    assert main(f'{TRAIN} --arch {arch}'.split()) == 0 and main('add run --data pump.csv'.split()) == 0
    before = Path('run/model.safetensors').read_bytes()
    assert main('train --resume --out run'.split()) == 0
    assert names() == ['waves','machine','pump'] and Path('run/model.safetensors').read_bytes() == before

def test_a_run_with_epochs_left_replaces_no_model(here, refused):
    assert main(TRAIN.split()) == 0 and main('add run --data pump.csv'.split()) == 0
    Path('run/checkpoint.pt').unlink()
    before = files()
    refused('train --resume --out run', '0 of 2 epochs', 'waves, machine, pump', 'another folder')
    assert files() == before
    Path('run/model.safetensors').unlink()
    assert main('train --resume --out run'.split()) == 0 and names() == ['waves','machine']

def test_killed_before_the_pictures_a_run_goes_on_to_draw_them(here):
    assert killed(TRAIN, 'tsai_mtcs.cli.picture_run') == -signal.SIGKILL and not Path('run/history.csv').exists()
    before = Path('run/model.safetensors').read_bytes()
    assert main('train --resume --out run'.split()) == 0 and Path('run/history.csv').exists()
    assert Path('run/model.safetensors').read_bytes() == before


# A run that replaces another
def test_a_run_that_fails_leaves_the_one_that_it_would_replace(here, refused):
    assert main(TRAIN.split()) == 0
    before = files()
    refused(f'{OTHER} --lr 1e30', 'finite')
    assert files() == before and not Path('run/.new').exists()

def test_a_run_that_is_stopped_leaves_the_other_until_it_is_finished(here, refused):
    assert main(TRAIN.split()) == 0
    before = files()
    assert killed(OTHER, 'tsai_mtcs.cli._fit', signal.SIGINT, here/'log') == 130
    assert killed('train --resume --out run', 'tsai_mtcs.cli.picture_run') == -signal.SIGKILL and Path('run/.new/checkpoint.pt').exists()
    assert {k: v for k,v in files().items() if k[0] != '.'} == before
    refused('add run --data pump.csv', 'train --resume --out run', 'run/.new')
    assert main('evaluate run'.split()) == 0
    assert main('train --resume --out run'.split()) == 0
    assert names() == ['machine'] and read_run('run')['tasks'] == 'machine' and set(files()) == set(before)
    assert len(torch.load('run/checkpoint.pt', weights_only=True)['tasks']) == 1

@pytest.mark.parametrize('moment', range(7))
def test_killed_while_a_run_takes_the_place_of_another(here, moment, monkeypatch):
    assert main(TRAIN.split()) == 0
    def run():
        m,seen,replace = pytest.MonkeyPatch(),[],os.replace
        def stop(source, target):
            if Path(target).parent.name == 'run' and Path(source).parent.name == '.new':
                if len(seen) == moment: os.kill(os.getpid(), signal.SIGKILL)
                seen.append(target)
            return replace(source, target)
        m.setattr(os, 'replace', stop)
        return main(OTHER.split())
    assert exit_code(forked(run)) in (-signal.SIGKILL, 0)
    assert names() in (['machine'], ['waves','machine'])
    main('train --resume --out run'.split())
    assert names() == ['machine'] and read_run('run')['tasks'] == 'machine' and not Path('run/.new').exists()
    assert main('evaluate run'.split()) == 0

def test_what_stands_in_a_folder_beside_a_run_that_is_replaced_stays(here, refused):
    assert main(f'{TRAIN} --arch kernels'.split()) == 0
    Path('run/mine.txt').touch()
    assert killed(OTHER, 'tsai_mtcs.cli._fit') == -signal.SIGKILL and names() == ['waves','machine']
    for o in ('model.safetensors','relevance.png','run.json'): Path('run', o).unlink()
    refused('train --archive archive --epochs 1 --out run', 'holds a run already')
    assert main('train --resume --out run'.split()) == 0 and names() == ['machine'] and Path('run/mine.txt').exists()


# The demo
def test_the_demo_refuses_a_run_that_is_not_its_own(here, refused, monkeypatch):
    monkeypatch.setattr('tsai_mtcs.cli._sites_demo', lambda: pytest.fail("it was started"))
    assert main(TRAIN.split()) == 0
    before = files()
    refused('demo --out run', "another run than the demo's", '--out')
    synth_learner().save_pretrained('model')
    refused('demo --out model', "another run than the demo's")
    assert files() == before and names('model') == ['waves','machine']

def test_the_demo_again_keeps_what_was_added(here, monkeypatch):
    monkeypatch.setattr('tsai_mtcs.cli._sites_demo', lambda: (None, None))
    monkeypatch.setattr('tsai_mtcs.cli._write_sites', lambda *_: None)
    monkeypatch.setattr('tsai_mtcs.cli.DEMO', dict(epochs=1, archive='archive'))
    assert main('demo --out demo'.split()) == 0 and main('add demo --data pump.csv'.split()) == 0
    assert main('demo --out demo'.split()) == 0 and names('demo') == ['machine','waves','pump']


# Data sets that are added
def test_of_two_that_add_at_once_one_is_refused_before_it_reads_the_model(here, refused, monkeypatch):
    synth_learner().save_pretrained('model')
    Path('fan.csv').write_bytes(Path('pump.csv').read_bytes())
    known_labels = tsai_mtcs.all.known_labels
    def meanwhile(*args):
        monkeypatch.setattr(tsai_mtcs.all, 'known_labels', known_labels)
        refused('add model --data fan.csv', f'model is in use: the process {os.getpid()} writes there')
        return known_labels(*args)
    monkeypatch.setattr(tsai_mtcs.all, 'known_labels', meanwhile)
    assert main('add model --data pump.csv'.split()) == 0 and main('add model --data fan.csv'.split()) == 0
    assert names('model') == ['waves','machine','pump','fan']

def test_adding_replaces_no_other_model(here, refused):
    for o in ('model','other'): synth_learner().save_pretrained(o)
    before = files('other')
    refused('add model --data pump.csv --out other', 'other holds a model or a run already')
    assert files('other') == before
    assert main('add model --data pump.csv --out ./model'.split()) == 0 and names('model') == ['waves','machine','pump']
