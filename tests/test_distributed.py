"Fits of two processes on this CPU: equal to one process, and what happens when one is killed"
import os, signal, socket, subprocess, sys, time

import distributed_fits
import pandas as pd
import pytest
import torch
import torch._dynamo  # noqa: F401 (what a first step imports: here, and not in every fork)
from distributed_fits import ALIKE
from helpers import forked, same
from tsai_mtcs.cli import main
from tsai_mtcs.test_utils import write_archive

pytest.importorskip('accelerate', reason="needs the extra 'distributed'")
import psutil  # accelerate requires it

MTCS = [sys.executable, '-c', 'import sys; from tsai_mtcs.cli import main; sys.exit(main(sys.argv[1:]))']
TRAIN = ['train','--archive','archive','--tasks','waves,machine','--epochs','8','--bs','8','--out','run']
RESUME = ['train','--resume','--out','run']
WAIT = 240 # seconds after which a hang is a failure


def start(f, folder):
    "Fork two processes that find each other as those of `torchrun` do, which would import everything anew; their ids"
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    def rank(r):
        os.environ.update(RANK=str(r), LOCAL_RANK=str(r), WORLD_SIZE='2', LOCAL_WORLD_SIZE='2',
                          MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
        return f()
    return [forked(lambda r=r: rank(r), folder/f'rank{r}.log') for r in range(2)]

def end(pids, folder):
    "The exit codes of both processes and what they print"
    codes,stop = {},time.monotonic()+WAIT
    while len(codes) < 2:
        for o in set(pids)-set(codes):
            if time.monotonic() > stop: os.kill(o, signal.SIGKILL)
            pid,status = os.waitpid(o, os.WNOHANG)
            if pid: codes[o] = os.waitstatus_to_exitcode(status)
        time.sleep(.02)
    return [codes[o] for o in pids],[(folder/f'rank{r}.log').read_text() for r in range(2)]

def wait_for(path, ended):
    "Until a file is there: a process that has ended, or a hang, is a failure"
    stop = time.monotonic()+WAIT
    while not path.exists():
        assert not ended() and time.monotonic() < stop, f'{path.name} was never written'
        time.sleep(.02)

def launch(*args, cwd=None):
    "Start `mtcs` in two processes with `torchrun`, on a free port"
    env = {**os.environ, 'OMP_NUM_THREADS':'1', 'CUDA_VISIBLE_DEVICES':'', 'PYTHONWARNINGS':'ignore', 'MPLBACKEND':'Agg'}
    torchrun = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', '2', '--no-python']
    return subprocess.Popen([*torchrun, *MTCS, *args], cwd=cwd, env=env, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)

@pytest.fixture(scope='module')
def ranks(tmp_path_factory):
    "What each of two processes has after all fits of distributed_fits.py"
    folder = tmp_path_factory.mktemp('ranks')
    codes,said = end(start(lambda: distributed_fits.main(folder), folder), folder)
    assert codes == [0,0], said
    return [torch.load(folder/f'rank{r}.pt', weights_only=False) for r in range(2)]


@pytest.mark.parametrize('name', ALIKE)
def test_two_processes_are_one_with_the_combined_batch(ranks, name):
    got,want = ranks[0][name],ALIKE[name]()
    for k,v in want['weights'].items(): assert torch.allclose(got['weights'][k], v, atol=1e-4), k
    for k,v in want['figures'].items(): assert got['figures'][k] == pytest.approx(v, abs=1e-4), k
    smooth = 0.
    for i,(loss,a,b) in enumerate(zip(got['losses'], want['unsmoothed'][::2], want['unsmoothed'][1::2], strict=True), 1):
        smooth = .98*smooth+.02*(a+b)/2
        assert loss == pytest.approx(smooth/(1-.98**i), abs=1e-4)

def test_ranks_agree(ranks):
    a,b = ranks
    for name in a:
        if name != 'refusals': assert same(a[name]['weights'], b[name]['weights']), name
    for name in ALIKE: assert a[name]['figures'] == b[name]['figures'] and a[name]['losses'] == b[name]['losses'], name

def test_what_is_read_within_the_context_is_what_is_read_after_it(ranks):
    for o in ranks:
        o = o['reads']
        assert o['inside'] == pytest.approx(o['after'], abs=1e-6)
        assert o['rows'][0] == o['rows'][1] and o['tables'] and o['preds'] and o['n'] == 16+16+9

def test_a_resumed_fit_ends_as_if_nothing_had_happened(ranks):
    for o in ranks: assert o['resumed']['cut_differs'] and same(o['resumed']['weights'], o['resumed']['on'])

def test_random_numbers_differ(ranks): assert ranks[0]['draws']['drawn'] != ranks[1]['draws']['drawn']

def test_pretext_steps_are_shared(ranks): assert [o['pretext']['steps'] for o in ranks] == [3,3]

def test_refusals(ranks):
    for o in ranks:
        seeds,metric,finder = o['refusals']['said']
        assert 'train seed of 0 on rank 0 and 1 on rank 1' in seeds and 'the metric range' in metric
        assert 'run it in a single process' in finder


@pytest.fixture
def folder(tmp_path, monkeypatch):
    "A folder to work in, with a small archive of text files in it"
    write_archive(tmp_path/'archive')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path/'cache'))
    return tmp_path

def is_cut(run):
    "Whether a run has begun and not ended"
    epochs = torch.load(run/'checkpoint.pt', weights_only=True)['epochs']
    return 1 <= epochs < 8 and not (run/'model.safetensors').exists()

def is_whole(run): return (run/'model.safetensors').exists() and list(pd.read_csv(run/'history.csv').epoch) == list(range(8))

def test_a_killed_rank_ends_the_job_which_can_go_on(folder):
    "Rank 1 is killed after the first epoch; two processes go on from the checkpoint of rank 0"
    pids = start(lambda: main(TRAIN), folder)
    zero = psutil.Process(pids[0])
    wait_for(folder/'run'/'checkpoint.pt', lambda: zero.status() == psutil.STATUS_ZOMBIE)
    os.kill(pids[1], signal.SIGKILL)
    (zero,one),said = end(pids, folder)
    assert zero > 0 and one == -signal.SIGKILL and is_cut(folder/'run'), said

    codes,said = end(start(lambda: main(RESUME), folder), folder)
    assert codes == [0,0], said
    assert [o.count('The model is in run') for o in said] == [1,0] and is_whole(folder/'run')

@pytest.mark.slow
def test_torchrun_ends_a_job_of_which_a_rank_is_killed(folder):
    p = launch(*TRAIN, cwd=folder)
    wait_for(folder/'run'/'checkpoint.pt', lambda: p.poll() is not None)
    for o in psutil.Process(p.pid).children():
        if o.environ().get('RANK') == '1': o.kill()
    _,err = p.communicate(timeout=WAIT)
    assert p.returncode != 0 and 'ChildFailedError' in err and is_cut(folder/'run')

    p = launch(*RESUME, cwd=folder)
    out,err = p.communicate(timeout=WAIT)
    assert p.returncode == 0, err
    assert out.count('The model is in run') == 1 and is_whole(folder/'run')

def test_without_accelerate(monkeypatch):
    from tsai_mtcs.callback.distributed import make_accelerator
    monkeypatch.setitem(sys.modules, 'accelerate', None)
    with pytest.raises(ImportError, match=r"pip install 'tsai_mtcs\[distributed\]'"): make_accelerator(cpu=True)
