"The `mtcs` command as a user meets it: runs, faults and interruptions"
import json, os, resource, shutil, signal
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import tsai_mtcs.all
from helpers import exit_code, forked

from tsai_mtcs.cli import main
from tsai_mtcs.cli_files import read_series
from tsai_mtcs.learner import mtcs_learner
from tsai_mtcs.test_utils import synth_learner, synth_task, synth_tasks, write_archive

EPOCHS = 6
TRAIN = f'train --archive archive --tasks waves,machine --epochs {EPOCHS} --fit one_cycle --bs 8 --out'


small_learner = partial(mtcs_learner, arch_config=dict(hidden=8, feats=16, depth=2))

def ended(line, log, signum=None, batch=0):
    "Exit code of the command in a process of its own, which sends itself a signal at the batch of this number"
    def stopping(*args, **kwargs):
        learn = small_learner(*args, **kwargs)
        seen = []
        def stop(*args):
            seen.append(0)
            if signum and len(seen) > batch: os.kill(os.getpid(), signum)
        learn.model.register_forward_hook(stop)
        return learn
    def run():
        tsai_mtcs.all.mtcs_learner = stopping
        return main(line.split())
    return exit_code(forked(run, log))

def same_weights(a, b):
    a,b = (torch.load(o/'checkpoint.pt', weights_only=True)['model'] for o in (a, b))
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    "A folder to work in, with a small archive of text files in it"
    folder = tmp_path_factory.mktemp('cli')
    write_archive(folder/'archive')
    with pytest.MonkeyPatch.context() as m:
        m.setenv('XDG_CACHE_HOME', str(folder/'cache'))
        m.setattr(tsai_mtcs.all, 'mtcs_learner', small_learner)
        yield folder


@pytest.fixture(scope='module')
def whole(folder):
    "A run that nothing disturbed"
    with pytest.MonkeyPatch.context() as m:
        m.chdir(folder)
        assert main(f'{TRAIN} whole'.split()) == 0
    return folder/'whole'


@pytest.fixture
def resume(folder, monkeypatch):
    "Continue a run in this process"
    monkeypatch.chdir(folder)
    return lambda name: main(f'train --resume --out {name}'.split())


def test_a_run_leaves_what_it_names(whole):
    assert {'run.json','checkpoint.pt','model.safetensors','history.csv','training.png','relevance.png'} <= {
        o.name for o in whole.iterdir()}
    assert list(pd.read_csv(whole/'history.csv').epoch) == list(range(EPOCHS))
    assert not list(whole.glob('*.part'))


def test_ctrl_c_then_resume_ends_as_if_nothing_had_happened(folder, whole, resume):
    assert ended(f'{TRAIN} cut', folder/'log', signal.SIGINT, 30) == 130
    assert (folder/'log').read_text().endswith('mtcs: stopped; to go on: mtcs train --resume --out cut\n')
    assert 1 <= torch.load(folder/'cut'/'checkpoint.pt', weights_only=True)['epochs'] < EPOCHS
    assert resume('cut') == 0 and same_weights(whole, folder/'cut')
    assert list(pd.read_csv(folder/'cut'/'history.csv').epoch) == list(range(EPOCHS))


def test_killed_at_several_moments_then_resume_ends_as_if_nothing_had_happened(folder, whole, resume):
    for line,batch in ((f'{TRAIN} killed', 25), *(('train --resume --out killed', o) for o in (0, 1, 13, 20))):
        assert ended(line, folder/'log', signal.SIGKILL, batch) == -signal.SIGKILL
    assert resume('killed') == 0 and same_weights(whole, folder/'killed')
    assert list(pd.read_csv(folder/'killed'/'history.csv').epoch) == list(range(EPOCHS))


def test_killed_before_the_first_checkpoint(folder, whole, resume):
    assert ended(f'{TRAIN} early', folder/'log', signal.SIGKILL) == -signal.SIGKILL
    assert not (folder/'early'/'checkpoint.pt').exists() and resume('early') == 0 and same_weights(whole, folder/'early')


def test_full_disk_keeps_the_last_checkpoint(folder, whole, resume):
    "A limit on the size of a file stands for a full disk: after the first epochs, no checkpoint can be written"
    assert ended(f'{TRAIN} full', folder/'log', signal.SIGKILL, 30) == -signal.SIGKILL
    before = (folder/'full'/'checkpoint.pt').read_bytes()

    def resumed():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, 5_000))
        return main('train --resume --out full'.split())
    assert exit_code(forked(resumed, folder/'log')) == 2
    err = (folder/'log').read_text()
    assert 'mtcs: ' in err.splitlines()[-1] and 'File too large' in err.splitlines()[-1]
    assert (folder/'full'/'checkpoint.pt').read_bytes() == before
    assert not list((folder/'full').glob('*.part'))
    assert resume('full') == 0 and same_weights(whole, folder/'full')


def test_evaluate_predict_embed(folder, whole, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert main(['evaluate', str(whole)]) == 0
    table = pd.read_csv(whole/'results.csv', index_col='task')
    assert list(table.index) == ['waves','machine','mean'] and table.svm['mean'] > .9
    np.save(folder/'new.npy', np.random.default_rng(0).normal(size=(3,1,32)))
    assert main(['predict', str(whole), '--task', 'waves', str(folder/'new.npy'), '--out', str(folder/'labels.csv')]) == 0
    labels = pd.read_csv(folder/'labels.csv')
    assert list(labels.columns) == ['row','label','sine','square'] and np.allclose(labels[['sine','square']].sum(axis=1), 1, atol=1e-4)
    assert main(['embed', str(whole), str(folder/'new.npy'), '--out', str(folder/'Z.npy'), '--task', 'waves']) == 0
    assert np.load(folder/'Z.npy').shape == (3,16)
    capsys.readouterr()


@pytest.mark.parametrize('line,said', [
    ('train --tasks GunPiont --out new', 'nearest: GunPoint'),
    ('train --tasks GunPoint --fit round --out new', 'known: flat, one_cycle'),
    ('train --tasks GunPoint --schedule even --out new', 'known: proportional'),
    ('train --tasks GunPoint --out {whole}', '--resume'),
    ('train --resume --out nowhere', 'found no run.json'),
    ('train --archive nowhere --out new', 'found none'),
    ('evaluate nowhere', 'found no run.json'),
    ('predict nowhere --task GunPoint {x}', 'found no model.safetensors'),
    ('predict {whole} --task wave {x}', 'known: waves, machine'),
    ('predict {whole} --task waves {x}', "1 variable(s), found series of 2"),
    ('embed {whole} --task waves {x}', 'variable(s), found series of 2'),
    ('embed {whole} {x}', 'name one of: waves, machine'),
    ('embed {whole} nothing.npy', 'found none')])
def test_errors_take_one_line(whole, tmp_path, monkeypatch, capsys, line, said):
    monkeypatch.chdir(tmp_path)
    np.save('x.npy', np.zeros((3,2,20)))
    assert main(line.format(whole=whole, x='x.npy').split()) == 2
    err = capsys.readouterr().err
    assert err.startswith('mtcs: ') and err.count('\n') == 1 and said in err
    assert not Path('new').exists()


@pytest.mark.parametrize('line', ['', 'fly', 'train', 'predict run x.npy'])
def test_wrong_usage_exits_2(line):
    with pytest.raises(SystemExit) as e: main(line.split())
    assert e.value.code == 2


@pytest.mark.parametrize('command', ['demo','train','evaluate','predict','embed'])
def test_help_has_an_example(command, capsys):
    with pytest.raises(SystemExit) as e: main([command, '--help'])
    assert e.value.code == 0 and f'mtcs {command}' in capsys.readouterr().out.split('example:')[1]


def test_damaged_model_and_checkpoint(folder, whole, tmp_path, monkeypatch, capsys):
    for o in ('archive','whole'): shutil.copytree(folder/o, tmp_path/{'whole':'run'}.get(o, o))
    monkeypatch.chdir(tmp_path)
    np.save('x.npy', np.zeros((3,32)))
    for name,line in (('model.safetensors','predict run --task waves x.npy'), ('checkpoint.pt','train --resume --out run')):
        (tmp_path/'run'/name).write_bytes((whole/name).read_bytes()[:1000])
        assert main(line.split()) == 2
        assert 'not a whole' in capsys.readouterr().err


def test_read_series(tmp_path):
    f = tmp_path/'x.csv'
    f.write_text('1,2,3\n4,,6,7\n')
    X,y = read_series(f)
    assert y is None and X[0] == [1,2,3] and np.isnan(X[1][1]) and len(X[1]) == 4
    f.write_text('a\t1\t2\nb\t3\tNaN\n')
    X,y = read_series(f, labelled=True)
    assert y == ['a','b'] and X[0] == [1,2]
    f.write_text('1 2\n3 x\n')
    with pytest.raises(ValueError, match="line 2: expected numbers, found 'x'"): read_series(f)


def test_groups_are_a_table_json_and_a_picture(folder, whole, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert main(['groups', 'whole']) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80
    assert main(['groups', 'whole', '--json', '--out', 'groups.png']) == 0
    assert all(set(o) == {'group','task','label','strength','rows'} for o in json.loads(capsys.readouterr().out))
    assert (folder/'groups.png').read_bytes()[:4] == b'\x89PNG'
    assert main(['groups', 'whole', '--out', 'groups.txt']) == 2 and '.png' in capsys.readouterr().err
    assert main(['groups', 'archive']) == 2 and 'no run.json' in capsys.readouterr().err

def test_a_task_is_added_and_used(tmp_path, capsys):
    synth_learner().save_pretrained(tmp_path/'model')
    task = synth_task('new', dict(a='sine', b='square'), n=24)
    (tmp_path/'pump.csv').write_text('\n'.join(','.join([o, *map(str, x[0])]) for o,x in zip(task.y, task.X)))
    assert main(['add', str(tmp_path/'model'), '--data', str(tmp_path/'pump.csv'), '--out', str(tmp_path/'grown')]) == 0
    assert "learned as the task 'pump'" in capsys.readouterr().out
    assert main(['predict', str(tmp_path/'grown'), str(tmp_path/'pump.csv'), '--task', 'pump', '--labelled']) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == 'row,label,a,b' and sum(o.split(',')[1] == y for o,y in zip(lines[1:], task.y)) > 18
    assert main(['add', str(tmp_path/'model'), '--data', str(tmp_path/'none.csv')]) == 2


def test_training_on_a_table_of_ones_own(tmp_path, capsys):
    waves = synth_tasks()[0]
    lines = pd.DataFrame([(i, t, str(o), x) for i,(row,o) in enumerate(zip(waves.X[:,0], waves.y)) for t,x in enumerate(row)],
                         columns=['id','time','label','heat'])
    lines.to_csv(tmp_path/'pump.csv', index=False)
    assert main(['train', '--data', str(tmp_path/'pump.csv'), '--epochs', '1', '--out', str(tmp_path/'run')]) == 0
    assert main(['train', '--data', str(tmp_path/'none.csv'), '--out', str(tmp_path/'other')]) == 2
    assert 'found no file' in capsys.readouterr().err and not (tmp_path/'other'/'run.json').exists()
