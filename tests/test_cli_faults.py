"Wrong arguments, damaged files and two processes at once: one line each, exit code 2, and nothing is left behind."
import json
import math
import os
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import tsai_mtcs.all
from helpers import quiet_learner
from safetensors.torch import load_file
from tsai_mtcs import exporting
from tsai_mtcs.cli import main
from tsai_mtcs.cli_files import read_series
from tsai_mtcs.cli_run import SETTINGS, read_run
from tsai_mtcs.learner import mtcs_learner
from tsai_mtcs.lock import locked
from tsai_mtcs.pretrained import read_header, save_file
from tsai_mtcs.test_utils import write_archive

TRAIN = 'train --archive archive --tasks waves,machine --epochs 1 --bs 16 --out run'


@pytest.fixture
def here(tmp_path, monkeypatch):
    "A folder to work in, with a small archive in it; the command trains a small encoder"
    write_archive(tmp_path/'archive')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path/'cache'))
    monkeypatch.setattr(tsai_mtcs.all, 'mtcs_learner', partial(mtcs_learner, arch_config=dict(hidden=8, feats=16, depth=2)))
    yield tmp_path
    plt.close('all')

@pytest.fixture
def refused(capsys):
    "A command that is refused in one line with these words, after what it reads from where"
    def check(line, *said):
        capsys.readouterr()
        assert main(line.split() if isinstance(line, str) else line) == 2
        err = ''.join(o for o in capsys.readouterr().err.splitlines(True) if not o.startswith('Data sets, as '))
        assert err.startswith('mtcs: ') and err.count('\n') == 1 and all(o in err for o in said), err
    return check


# Arguments
@pytest.mark.parametrize('wrong', [
    '--lr nan','--lr -1','--lr 0','--lr inf','--epochs 0','--epochs -3','--alpha inf','--alpha nan','--alpha -1','--tau nan','--tau -1',
    '--bs 0','--bs -8',
    '--valid-pct 1','--valid-pct -.1','--valid-pct nan','--seed -1','--seed 4294967296','--fit round','--schedule even',
    '--tasks waves,,machine','--tasks ,'])
def test_a_wrong_setting_is_refused_before_anything_is_created(here, refused, wrong):
    name,_ = wrong[2:].split()
    refused(f'{TRAIN} {wrong}', f"expected {name.replace('-','_')} to be")
    assert not Path('run').exists() and not Path('cache').exists()

@pytest.mark.parametrize('wrong', ['--lr fast','--epochs 1.5','--bs x','--seed 0x1'])
def test_what_is_no_number_is_wrong_usage(here, wrong):
    with pytest.raises(SystemExit) as e: main(f'{TRAIN} {wrong}'.split())
    assert e.value.code == 2 and not Path('run').exists()

def test_a_file_where_the_folder_should_be(here, refused):
    Path('run').write_text('')
    refused(TRAIN, 'found the file run')
    assert Path('run').read_text() == ''

def test_a_failed_run_leaves_a_folder_for_the_corrected_command(here, refused, monkeypatch):
    with monkeypatch.context() as m:
        m.setattr('tsai_mtcs.cli._fit', lambda *_: (_ for _ in ()).throw(ValueError('expected a miracle')))
        refused(TRAIN, 'expected a miracle')
    assert not Path('run').exists()
    assert main(TRAIN.split()) == 0

def test_overwrite(here, refused):
    assert main(TRAIN.split()) == 0
    before = Path('run/model.safetensors').read_bytes()
    Path('run/.model.safetensors.1.part').write_bytes(b'what a killed process left')
    refused(f'{TRAIN} --seed 1', '--resume', '--overwrite')
    assert Path('run/model.safetensors').read_bytes() == before and read_run('run')['seed'] == 0
    assert main(f'{TRAIN} --seed 1 --overwrite'.split()) == 0
    assert Path('run/model.safetensors').read_bytes() != before and read_run('run')['seed'] == 1 and not list(Path('run').glob('.*'))
    refused(f'{TRAIN} --overwrite --resume', 'found both')

def test_commands_need_a_task_where_the_model_has_several(here, refused):
    assert main(TRAIN.split()) == 0
    np.save('x.npy', np.zeros((3,32))+np.arange(32))
    refused('embed run x.npy', 'name one of: waves, machine')
    assert main('embed run --task waves x.npy'.split()) == 0 and np.load('x.embeddings.npy').shape == (3,16)
    refused('predict run --task wave x.npy', 'wave')
    Path('run/model.safetensors').write_bytes(Path('run/model.safetensors').read_bytes()[:1000])
    for line in ('embed run --task waves x.npy', 'predict run --task waves x.npy', 'evaluate run'): refused(line, 'model.safetensors')

def test_a_model_of_other_settings_than_run_json(here, refused, monkeypatch):
    assert main(TRAIN.split()) == 0
    with monkeypatch.context() as m:
        m.setattr(tsai_mtcs.all, 'mtcs_learner', partial(mtcs_learner, arch_config=dict(hidden=4, feats=8, depth=2)))
        refused('evaluate run', 'not the one that its run.json describes')
    refused(['evaluate','run','--n-jobs','0'], 'n_jobs')


def test_an_archive_as_it_is_downloaded(here):
    "Its folder of adjusted data sets and stray files are no data sets"
    for o in ('Missing_value_and_variable_length_datasets_adjusted/gait','.git','empty'): Path('archive',o).mkdir(parents=True)
    for o in ('README.md','machine/README.md','DataSummary.csv'): Path('archive',o).write_text('of the archive')
    assert main('train --archive archive --epochs 1 --out run'.split()) == 0 and main('evaluate run'.split()) == 0
    assert [o.split(',')[0] for o in Path('run/results.csv').read_text().splitlines()] == ['task','machine','waves','mean']

def test_an_archive_without_data_sets(here, refused):
    refused('train --archive cache --epochs 1 --out run', 'cache')
    Path('nothing').mkdir()
    refused('train --archive nothing --out run', 'no data set in nothing')
    refused('benchmark --methods mtl --archive nothing --out run', 'no data set in nothing')
    assert not Path('run').exists()

@pytest.mark.slow
def test_killed_at_some_moments():
    script = Path(__file__).parents[1]/'benchmarks'/'kills.py'
    done = subprocess.run([sys.executable, '-W', 'ignore', str(script), '--train', '3', '--benchmark', '2', '--save', '8', '--epochs', '5'],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout+done.stderr


# run.json
GOOD = {o: default for o,(default,*_) in SETTINGS.items()}
def changed(**kwargs): return json.dumps({**GOOD, **kwargs}).encode()
DAMAGED = dict(
    empty=b'', blank=b' \n', binary=os.urandom(200), utf16='{}'.encode('utf-16'), cut=json.dumps(GOOD).encode()[:-9],
    twice=json.dumps(GOOD).encode()*2, zeros=bytes(300),
    list=b'[1,2]', number=b'3', text=b'"run"', null=b'null', deep=b'['*100_000, object=b'{}',
    missing=json.dumps({k: v for k,v in GOOD.items() if k != 'lr'}).encode(),
    unknown=changed(speed=9), repeated=json.dumps(GOOD).encode()[:-1]+b',"lr":2}', nan=changed(lr=math.nan), inf=changed(alpha=math.inf),
    huge=json.dumps(GOOD).encode().replace(b'0.001', b'1e999'),
    negative=changed(lr=-1), zero=changed(epochs=0), big=changed(epochs=10**30), fraction=changed(epochs=2.5), true=changed(bs=True),
    texts=changed(lr='1e-3'), nulls=changed(lr=None),
    listed=changed(tasks=['waves']), nested=changed(seed=dict(a=1)), fit=changed(fit='round'), schedule=changed(schedule=7),
    archive=changed(archive=3), nul=changed(archive='a\0b'),
    names=changed(tasks=''), seed=changed(seed=2**40), pct=changed(valid_pct=1.))

@pytest.mark.parametrize('kind', DAMAGED)
def test_a_damaged_run_json_is_named(here, refused, kind):
    Path('run').mkdir()
    Path('run/run.json').write_bytes(DAMAGED[kind])
    for line in ('evaluate run', 'train --resume --out run'): refused(line, 'run.json: ')
    assert [o.name for o in Path('run').iterdir()] == ['run.json'] and Path('run/run.json').read_bytes() == DAMAGED[kind]

def test_a_folder_in_place_of_run_json(here, refused):
    Path('run/run.json').mkdir(parents=True)
    refused('evaluate run', 'found no run.json there')


# Two at once
HOLD = ('import os, sys\nfrom tsai_mtcs.lock import locked\nwith locked(sys.argv[1]):\n    print(os.getpid(), flush=True)\n    '
        'sys.stdin.read()')

@pytest.fixture
def holder(here):
    "The number of another process that holds the folder, and the process"
    assert main(TRAIN.split()) == 0 # what it has written so far
    p = subprocess.Popen([sys.executable, '-c', HOLD, 'run'], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    yield int(p.stdout.readline()), p
    p.kill()
    p.wait()

def test_the_second_run_is_refused_with_the_number_of_the_first(holder, refused):
    pid,p = holder
    for line in (TRAIN, f'{TRAIN} --overwrite', 'train --resume --out run',
                 'benchmark --methods dtw --tasks waves --archive archive --out run'):
        refused(line, f'run is in use: the process {pid} writes there')
    p.send_signal(signal.SIGKILL)
    p.wait()
    assert Path('run/.lock').exists() and main(f'{TRAIN} --overwrite'.split()) == 0 and not Path('run/.lock').exists()

def test_a_lock_ends_with_its_block(tmp_path):
    with pytest.raises(RuntimeError), locked(tmp_path/'a'): raise RuntimeError
    with locked(tmp_path/'a'), pytest.raises(BlockingIOError, match=f'the process {os.getpid()} writes there'):
        with locked(tmp_path/'a'): pass
    with locked(tmp_path/'a'): pass


# Series
@pytest.mark.parametrize('name,content,said', [
    ('x.npy', b'', 'found an empty file'), ('x.npy', b'1,2\n', 'found something else'), ('x.npy', np.float32(3), 'found shape ()'),
    ('x.npy', np.zeros((0,9)), 'found shape (0, 9)'),
    ('x.npy', np.array([[1,'a']], object), 'numbers'), ('x.npy', np.array([['a']]), 'dtype <U1'),
    ('x.npy', np.zeros(5), 'found shape (5,)'), ('x.npy', np.zeros((1,1,1,1)), 'found shape (1, 1, 1, 1)'),
    ('x.npy', np.array([[1.,2],[3,math.inf]]), 'infinite value in row 1'), ('x.npy', np.zeros((2,3), complex), 'complex'),
    ('x.csv', b'', 'found an empty file'), ('x.csv', b'\n \r\n', 'found an empty file'),
    ('x.csv', b't0,t1\n1,2\n', "line 1: expected numbers, found 't0'; if it is a header"),
    ('x.csv', b'1,2\n\n\n3,x\n', "line 4: expected numbers, found 'x'"),
    ('x.csv', b'1,2\n1_0,2\n', "line 2: expected numbers, found '1_0'"),
    ('x.csv', b'1,2\n3,inf\n', "line 2: found the infinite value 'inf'"),
    ('x.csv', b'1,1e999\n', "line 1: found the infinite value '1e999'"), ('x.csv', b'1,2\n,,\n', 'line 2: expected values, found none'),
    ('x.csv', b'1;2\n', "found '1;2'"),
    ('x.csv', '1,2\n'.encode('utf-16'), 'expected text in UTF-8'), ('x.csv', b'\x89PNG\r\n\x1a\n\xff', 'expected text in UTF-8')])
def test_what_is_no_series_is_named_with_its_file_and_line(here, name, content, said):
    if isinstance(content, bytes): Path(name).write_bytes(content)
    else: np.save(name, content)
    with pytest.raises(ValueError) as e: read_series(name)
    assert name in str(e.value) and said in str(e.value)

def test_a_header_that_claims_more_than_the_file_holds(here):
    np.save('x.npy', np.zeros((2,30)))
    data = Path('x.npy').read_bytes()
    Path('x.npy').write_bytes(data.replace(b'(2, 30), }', b'(2, 30000000000), }')[:len(data)])
    with pytest.raises(ValueError, match='x.npy: expected an array'): read_series('x.npy')

@pytest.mark.parametrize('name,content,X', [
    ('x.csv', '\ufeff1,2\r\n3,4\r\n', [[1,2],[3,4]]), ('x.tsv', '1,2,3\n4,5\n', [[1,2,3],[4,5]]), ('x.txt', '1 2\n3  4\n', [[1,2],[3,4]]),
    ('x.csv', '1, 2\n\n3, 4', [[1,2],[3,4]]),
    ('x.tsv', '1\t2\n3\t4\n', [[1,2],[3,4]])])
def test_text_as_it_comes(here, name, content, X):
    Path(name).write_bytes(content.encode())
    assert read_series(name) == (X, None)
    assert read_series(name, labelled=True) == ([x[1:] for x in X], [content.strip('\ufeff')[0], content.splitlines()[-1][0]])

def test_files_that_are_none(here):
    with pytest.raises(FileNotFoundError, match='found a folder'): read_series('archive')
    with pytest.raises(FileNotFoundError, match='found none'): read_series('nothing.csv')

def test_a_run_goes_on_with_its_own_settings(here, refused):
    assert main(TRAIN.split()) == 0
    refused('train --resume --epochs 77 --out run', 'epochs 77', '--overwrite')
    refused('train --resume --recipe paper --out run', 'sharing paper')
    assert main(f'{TRAIN} --resume'.split()) == 0 # the same ones may be repeated

def test_a_folder_of_others_says_what_it_makes_us_read(here, capsys):
    assert main(TRAIN.split()) == 0
    shutil.copytree('archive', 'elsewhere')
    Path('run/run.json').write_text(json.dumps(read_run('run') | dict(archive=str(here/'elsewhere'))))
    capsys.readouterr()
    assert main(['evaluate','run','--json']) == 0
    said = capsys.readouterr()
    assert said.err == f"Data sets, as run/run.json says: archive {here/'elsewhere'}\n" and json.loads(said.out)
    assert main(['evaluate','run','--quiet']) == 0 and not capsys.readouterr().err
    assert main(['groups','run']) == 0 and 'elsewhere' in capsys.readouterr().err
    assert main(['train','--resume','--out','run']) == 0 and 'elsewhere' in capsys.readouterr().err

@pytest.mark.parametrize('name,content', [
    ('results.csv','a,b\n1,2\n'), ('results.csv','task,svm\nx,\xff\n'), ('results.csv','task,svm\nx,1,2\n'),
    ('results.csv','task,svm\nx,y\n'), ('history.csv','a\n'+'x'*200_000), ('encoder',[1]), ('head',None), ('tasks',[dict(name='x')]),
    ('tasks',[dict(name='x', vars=1, len=2, labels=3)]), ('head',dict(feats='x')), ('head',dict(feats=[1]))])
def test_info_of_a_folder_that_was_written_to_do_harm(here, refused, name, content):
    quiet_learner().model.save_pretrained('run')
    if name.endswith('csv'): Path(f'run/{name}').write_bytes(content.encode('latin-1'))
    else:
        path = Path('run/model.safetensors')
        save_file(path, json.dumps(json.loads(read_header(path).text) | {name:content}), load_file(path))
    refused('info run')

def test_no_command_sends_what_a_file_holds_to_the_terminal(here, capsys):
    assert main(TRAIN.split()) == 0
    Path('run/run.json').write_text(json.dumps(read_run('run') | dict(archive='\x1b]0;owned\x07\x1b[2J')))
    for line in (['info','run'], ['evaluate','run']):
        main(line)
        said = capsys.readouterr()
        assert 'owned' in said.out+said.err and not {'\x1b','\x07'} & {*said.out,*said.err}

def test_an_export_that_fails_leaves_the_file_that_was_there(here, refused, monkeypatch):
    quiet_learner().model.save_pretrained('run')
    Path('folder.pt2').mkdir()
    refused('export run --pt2 folder.pt2', 'found the folder')
    Path('mine.pt2').write_text('what was there')
    def differs(*args): raise ValueError("the program's probabilities differ")
    monkeypatch.setattr(exporting, 'check_pt2', differs)
    refused('export run --pt2 mine.pt2', 'differ')
    assert Path('mine.pt2').read_text() == 'what was there' and not list(here.glob('.*'))
