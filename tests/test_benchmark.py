"The comparison: jobs that are recorded once, whatever happens, and the commands over it."
import json
import os
import signal
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers import exit_code, forked
from joblib import parallel_config
from tsai_mtcs.bench.kinds import ClassifierMethod
from tsai_mtcs.bench.methods import METHODS
from tsai_mtcs.bench.records import FILE, read_failures, read_results
from tsai_mtcs.bench.runner import run_benchmark
from tsai_mtcs.cli import main
from tsai_mtcs.bench.report import paper_table, task_gains
from tsai_mtcs.test_utils import synth_tasks

SMALL = dict(arch_config=dict(hidden=8, feats=16, depth=3), device='cpu', epochs=2)
SAME = ['method','task','seed','rows','accuracy','balanced_accuracy','macro_f1']


class Majority:
    "The commonest label"
    def fit(self, X, y):
        self.label = np.bincount(y).argmax()
        return self
    def predict(self, X): return np.full(len(X), self.label)

class Broken(Majority):
    def fit(self, X, y): raise RuntimeError('expected a miracle')

def majority(seed): return Majority()
def broken(seed): return Broken()
MAJORITY = ClassifierMethod(id='majority', name='The commonest label', about='the commonest label', make=majority)
BROKEN = ClassifierMethod(id='broken', name='broken', about='fails', make=broken)

def small(id): return replace(METHODS[id], settings={**METHODS[id].settings, **SMALL})
def run(methods, out, **kwargs): return run_benchmark(methods, synth_tasks(), out=out, progress=False, **kwargs)
def ordered(df): return df[SAME].sort_values(SAME[:3]).reset_index(drop=True)
def lines(out): return (out/FILE).read_bytes().splitlines(True)


def test_a_row_a_method_task_and_seed(tmp_path):
    df = run([small('mtl'), MAJORITY], tmp_path, seeds=(0,2))
    jobs = [(m, t, s) for m in ('majority','mtl') for t in ('machine','waves') for s in (0,2)]
    assert sorted(map(tuple, df[SAME[:3]].values)) == jobs
    assert len(lines(tmp_path)) == 1+2*(1+2), 'a joint method has one job a seed, the other one a task and seed'
    assert {'python','torch','fastai','numpy','commit','device','peak_mb'} <= set(df.columns) and (df.peak_mb > 10).all()
    assert df[df.method == 'majority'].accuracy.tolist() == pytest.approx([.5,1/3]*2, abs=.1)

def test_finished_jobs_are_not_run_again(tmp_path):
    a = run([MAJORITY], tmp_path)
    first = lines(tmp_path)
    b = run([MAJORITY, small('mtl')], tmp_path, seeds=(0,1))
    assert lines(tmp_path)[:len(first)] == first and len(lines(tmp_path)) == len(first)+2+2
    pd.testing.assert_frame_equal(ordered(a), ordered(b[(b.method == 'majority') & (b.seed == 0)]))

def test_torn_line_is_one_job_more(tmp_path):
    want = run([MAJORITY], tmp_path, seeds=(0,1))
    (tmp_path/FILE).write_bytes((tmp_path/FILE).read_bytes()[:-30])
    assert len(read_results(tmp_path)) == 3
    pd.testing.assert_frame_equal(ordered(run([MAJORITY], tmp_path, seeds=(0,1))), ordered(want))
    assert all(json.loads(o) for o in lines(tmp_path)) and len(lines(tmp_path)) == 5

def test_failures_are_recorded_and_tried_again(tmp_path):
    assert len(run([BROKEN, MAJORITY], tmp_path)) == 2
    failed = read_failures(tmp_path)
    assert failed.message.tolist() == ['expected a miracle']*2 and failed.type.tolist() == ['RuntimeError']*2
    repaired = replace(BROKEN, make=majority)
    assert len(run([repaired, MAJORITY], tmp_path)) == 4 and not len(read_failures(tmp_path))

@pytest.mark.parametrize('backend', ['threading', pytest.param('loky', marks=pytest.mark.slow)])
def test_two_jobs_at_a_time_find_the_same(tmp_path, backend):
    "In threads, what draws no random numbers; in processes, which import everything anew, all"
    methods = ['dtw', MAJORITY if backend == 'threading' else small('mtl')]
    want = run(methods, tmp_path/'a')
    with parallel_config(backend): pd.testing.assert_frame_equal(ordered(run(methods, tmp_path/'b', n_jobs=2)), ordered(want))

class Killed(Majority):
    "Kills its process after a number of predictions"
    left = 0
    def predict(self, X):
        Killed.left -= 1
        if Killed.left < 0: os.kill(os.getpid(), signal.SIGKILL)
        return super().predict(X)

def test_killed_at_several_moments(tmp_path):
    "Each time it continues where it was, however little it had done"
    killed,done = replace(MAJORITY, make=lambda seed: Killed()),0
    for left in (0, 0, 1, 3, 10):
        Killed.left = left
        assert exit_code(forked(lambda: run([killed], tmp_path, seeds=range(10)))) == -signal.SIGKILL
        done += left
        assert len(lines(tmp_path)) == 1+done
    df = run([MAJORITY], tmp_path, seeds=range(10))
    assert len(df) == 20 and not df.duplicated(SAME[:3]).any() and len(lines(tmp_path)) == 21

@pytest.mark.parametrize('half', [1, .5, .01])
def test_killed_while_it_writes_a_line(tmp_path, half):
    whole = run([MAJORITY], tmp_path, seeds=range(3))
    *kept,last = lines(tmp_path)
    (tmp_path/FILE).write_bytes(b''.join(kept)+last[:max(1, int(half*len(last))-1)])
    pd.testing.assert_frame_equal(ordered(run([MAJORITY], tmp_path, seeds=range(3))), ordered(whole))

def test_records_keep_identifiers_and_tables_show_names(tmp_path):
    "A job that has ended is known by the identifier of its method, whatever tables call it"
    df = run([small('mtl-single'), MAJORITY], tmp_path)
    assert [o.get('method') for o in map(json.loads, lines(tmp_path)[1:])] == ['mtl-single']*2+['majority']*2
    assert list(paper_table(df).columns.unique(0)) == ['MTL, single','The commonest label']
    pd.testing.assert_frame_equal(run([replace(small('mtl-single'), name='Alone'), MAJORITY], tmp_path), df)
    assert len(lines(tmp_path)) == 5

def test_heads_methods(tmp_path):
    "Own heads are scored, those of random kernels by the seed of the job; settings reach the kernels"
    kernels = replace(METHODS['mtcs-kernels'], settings=dict(parts=['minirocket'], n_kernels=168, device='cpu'))
    df = run([small('mtcs-heads'), kernels, replace(METHODS['kernels-single'], settings=kernels.settings)], tmp_path, seeds=(0,1))
    assert len(df) == 3*2*2 and (df.accuracy > .8).all()
    (tasks,learn,_), = kernels.fit(synth_tasks(), 1).parts
    assert learn.model.backbone.config['seed'] == 1 and len(learn.model.backbone.parts) == 1
    with learn.no_bar(): own = learn.validate_tasks()
    found = df[(df.method == 'mtcs-kernels') & (df.seed == 1)].set_index('task').accuracy
    assert found.to_dict() == pytest.approx(own.accuracy[['waves','machine']].to_dict())

def test_heads_of_a_trained_model_are_recorded_beside_the_svm(tmp_path):
    df = run([small('mtl'), MAJORITY], tmp_path)
    (_,learn,_), = small('mtl').fit(synth_tasks(), 0).parts
    with learn.no_bar(): heads,svm = learn.validate_tasks(),learn.svm_eval()
    for o in df[df.method == 'mtl'].itertuples(): assert (o.head_accuracy, o.accuracy) == (heads.accuracy[o.task], svm.accuracy[o.task])
    assert df[df.method == 'majority'].head_accuracy.isna().all()

def test_settings_on_the_command_line(tmp_path, monkeypatch, capsys):
    "They reach the method and its record, and another setting needs another folder"
    monkeypatch.setitem(METHODS, 'mtcs-kernels', replace(METHODS['mtcs-kernels'], settings=dict(device='cpu')))
    line = ['benchmark','--methods','mtcs-kernels','--tasks','GunPoint','--out',str(tmp_path),'--set','n_kernels=84']
    assert main([*line, '--set', "parts=('minirocket',)"]) == 0
    record = json.loads(lines(tmp_path)[1])
    assert record['settings'] == dict(device='cpu', n_kernels=84, parts=['minirocket']) and record['scores'][0]['accuracy'] > .8
    capsys.readouterr()
    assert main([*line, '--set', "parts=('hydra',)"]) == 2 and 'name another folder' in capsys.readouterr().err

def test_table_and_gains(tmp_path):
    df = run([small('mtl'), small('mtl-single')], tmp_path, seeds=(0,1))
    table = paper_table(df)
    assert table.loc['waves',('MTL','mean')] == pytest.approx(df[(df.method == 'mtl') & (df.task == 'waves')].accuracy.mean())
    gains = task_gains(df)
    assert gains.gain['mean'] == pytest.approx(df[df.method == 'mtl'].accuracy.mean()-df[df.method == 'mtl-single'].accuracy.mean())

@pytest.mark.parametrize('args,said', [
    (['--methods','mtsc'], 'nearest: mtcs'),
    (['--methods','mtl,,mtcs'], 'separated by commas'),
    (['--methods','dtw','--tasks','GunPint'], 'nearest: GunPoint'),
    (['--methods','dtw','--seeds','one'], "found 'one'"),
    (['--methods','dtw','--set','epochs'], "name=value, such as epochs=15, found 'epochs'"),
    (['--methods','dtw','--archive','nowhere'], 'nowhere')])
def test_bad_arguments(tmp_path, capsys, args, said):
    assert main(['benchmark', *args, '--out', str(tmp_path/'out')]) == 2
    err = capsys.readouterr().err
    assert err.startswith('mtcs: ') and err.count('\n') == 1 and said in err and not (tmp_path/'out').exists()

def test_a_failed_job_is_told(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(METHODS, 'broken', BROKEN)
    assert main(['benchmark','--methods','broken,dtw','--tasks','GunPoint','--out',str(tmp_path)]) == 2
    out = capsys.readouterr()
    assert 'failed: broken on GunPoint, seed 0: RuntimeError: expected a miracle' in out.err and '1 of the jobs failed' in out.err
    assert '| GunPoint | **0.907** |' in out.out

def test_figure_goes_on_where_it_stopped(tmp_path, monkeypatch, capsys):
    archive,out,trained = tmp_path/'archive',tmp_path/'out',[]
    rows = np.random.default_rng(0).normal(size=(24,32)).cumsum(1)
    for name in ('a','b'):
        (archive/name).mkdir(parents=True)
        for part in ('TRAIN','TEST'): np.savetxt(archive/name/f'{name}_{part}.tsv', np.c_[np.arange(24)%3, rows], delimiter='\t')
    small = dict(device='cpu', arch_config=dict(hidden=8, feats=16, depth=3))
    for name,settings in {'ts2vec-joint':dict(steps=2), 'mtcs':dict(epochs=1)}.items():
        class Noted(type(METHODS[name])):
            def train(self, *args, **kwargs):
                trained.append(self.id)
                return super().train(*args, **kwargs)
        monkeypatch.setitem(METHODS, name, Noted(**{**vars(METHODS[name]), 'settings':{**METHODS[name].settings, **small, **settings}}))
    run = ['reproduce','figure2','--archive',str(archive),'--tasks','a,b','--out',str(out)]
    assert main(run) == 0 and trained == ['ts2vec-joint','mtcs'] and (out/'figure2.png').is_file()
    S = pd.read_csv(out/'figure2_mtcs_seed0.csv', index_col='task')
    assert list(S) == ['a','b'] and np.allclose(np.diag(S), 1) and np.allclose(S, S.T)
    (out/'figure2_mtcs_seed0.csv').unlink()
    assert main(run) == 0 and trained == ['ts2vec-joint','mtcs','mtcs']
    assert main([*run,'--tasks','b']) == 2 and 'is of a, b, this figure of b; name another folder' in capsys.readouterr().err

def test_data_sets_are_added_to_a_folder(tmp_path):
    "Single-task methods run for what is new alone; a joint method is another model with another list of tasks"
    waves,machine = synth_tasks()
    methods = [small('mtl'), MAJORITY]
    bench = lambda tasks, **kwargs: run_benchmark(methods, tasks, out=tmp_path, progress=False, **kwargs)
    first = bench([waves])
    assert len(first) == 2 and len(lines(tmp_path)) == 1+2
    both = bench([machine,waves])
    assert len(lines(tmp_path)) == 3+1+2, 'one line for the new data set, one job for it alone and one for both'
    of_models = [('majority','machine',1), ('majority','waves',1), ('mtl','machine',2), ('mtl','waves',2)]
    assert sorted(zip(both.method, both.task, both.n_tasks)) == of_models
    accuracy = lambda df: df.set_index(['method','task']).accuracy['majority','waves']
    assert accuracy(both) == accuracy(first)
    pd.testing.assert_frame_equal(read_results(tmp_path), both)
    before = lines(tmp_path)
    pd.testing.assert_frame_equal(bench([waves]), first)
    pd.testing.assert_frame_equal(bench([waves,machine]), both)
    assert lines(tmp_path) == before, 'nothing ran again'
    with pytest.raises(ValueError, match="another data set called 'waves'"): bench([synth_tasks(1)[0].hold_out(.3), machine])
    with pytest.raises(ValueError, match='valid_pct=0.0'): bench([waves], valid_pct=.2)

@pytest.mark.parametrize('line', [b'3', b'null', b'[]', b'{}', b'{"method":"mtl"}', b'\xff\x00', b'['*50_000, b'{"benchmark":1}',
    b'{"method":3,"name":"3","joint":true,"tasks":[],"seed":0,"settings":{},"scores":[]}'])
def test_a_line_that_is_no_record_is_named(tmp_path, line):
    run([MAJORITY], tmp_path)
    whole = lines(tmp_path)
    (tmp_path/FILE).write_bytes(b''.join([*whole[:2], line+b'\n', *whole[2:]]))
    for f in (lambda: read_results(tmp_path), lambda: run([MAJORITY], tmp_path)):
        with pytest.raises(ValueError, match='results.jsonl, line 3: expected a record'): f()

@pytest.mark.parametrize('kwargs,said', [(dict(valid_pct=1), 'below 1, found 1'), (dict(valid_pct=float('nan')), 'found nan'),
                                         (dict(valid_pct=-.1), 'found -0.1'), (dict(n_jobs=0), 'n_jobs')])
def test_wrong_arguments_create_nothing(tmp_path, kwargs, said):
    with pytest.raises(ValueError, match=said): run([MAJORITY], tmp_path/'out', **kwargs)
    assert not (tmp_path/'out').exists()
