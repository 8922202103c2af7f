"Data sets as people have them, and groups that stay together."
import sys
from inspect import signature

import numpy as np
import pandas as pd
import pytest

from tsai_mtcs.doors import aeon_rows, folder_rows, frame_rows
from tsai_mtcs.series import TaskWarning
from tsai_mtcs.splits import folds
from tsai_mtcs.tasks import Task


@pytest.fixture
def table():
    "Twenty runs of ten machines, a line a second"
    rng,lines = np.random.default_rng(0),[]
    for run in range(20):
        label = 'ab'[run//10]
        for t in range(12+run%3):
            lines.append((f'r{run}', pd.Timestamp('2024-03-01')+pd.Timedelta(seconds=t), rng.normal()+(label == 'b')*5, rng.normal(), label,
                          f'm{run%10}'))
    return pd.DataFrame(lines, columns=['run','at','heat','load','state','machine'])

COLUMNS = dict(id='run', label='state', time='at')


class TestFrame:
    def test_a_series_a_run(self, table):
        task = Task.from_frame(table, 'pump', **COLUMNS)
        assert task.X.shape == (20,2,14) and task.labels == ('a','b') and task.name == 'pump'
        lines = table[table.run == 'r4']
        assert np.allclose(task.X[4,:,:len(lines)], lines[['heat','load']].to_numpy().T) and np.isnan(task.X[4,:,len(lines):]).all()

    def test_order_of_lines_is_that_of_time(self, table):
        a,b = (Task.from_frame(o, 'pump', values='heat', **COLUMNS) for o in
               (table, table.sample(frac=1, random_state=0).sort_values('run', key=lambda s: s.str[1:].astype(int), kind='stable')))
        assert np.array_equal(a.X, b.X, equal_nan=True)

    def test_csv_file(self, table, tmp_path):
        table.to_csv(tmp_path/'pump.csv', index=False)
        a,b = (Task.from_frame(o, 'pump', **COLUMNS) for o in (table, tmp_path/'pump.csv'))
        assert np.allclose(a.X, b.X, equal_nan=True) and (a.y == b.y).all()

    @pytest.mark.parametrize('name', ['PUMP.CSV','pump.csv.gz'])
    def test_names_of_files(self, table, tmp_path, name):
        table.to_csv(tmp_path/name, index=False)
        assert Task.from_frame(tmp_path/name, 'pump', **COLUMNS).X.shape == (20,2,14)

    @pytest.mark.parametrize('content', [b'', b'\xff\xfe\x00\x01,\x00', b'run,at,state,heat\na,1,x,2\na,1,x,2,3,4,5\n'])
    def test_a_file_that_is_no_table(self, tmp_path, content):
        (tmp_path/'pump.csv').write_bytes(content)
        with pytest.raises(ValueError, match=r"pump\.csv: can't be read as a table"):
            Task.from_frame(tmp_path/'pump.csv', 'pump', **COLUMNS)

    @pytest.mark.parametrize('form', [lambda t: t-t.min(), lambda t: t.dt.to_period('s'), lambda t: t.dt.tz_localize('UTC'), str,
                                      lambda t: (t-t.min()).dt.total_seconds()])
    def test_times_of_all_kinds(self, table, form):
        other = table.assign(at=table['at'].map(form) if form is str else form(table['at']))
        a,b = (Task.from_frame(o, 'pump', resample='2s', **COLUMNS) for o in (table, other))
        assert np.array_equal(a.X, b.X, equal_nan=True)

    def test_dates_have_one_order_of_day_and_month(self):
        "The first series alone could be of January or of March"
        lines = [(run, f'0{d}/01/2024' if run == 'a' else f'{d+12}/01/2024', float(d), run) for run in 'ab' for d in (1,2,3)]
        df = pd.DataFrame(lines, columns=['run','at','heat','state'])
        with pytest.raises(ValueError, match="time stamps in the column 'at'"): Task.from_frame(df, 'pump', **COLUMNS)

    def test_numbers_as_text_are_named(self, table):
        text = table.assign(heat=table.heat.map('{:.3f}'.format).str.replace('.', ','))
        with pytest.warns(TaskWarning, match=r"the column\(s\) 'heat' hold numbers as text, and are left out"):
            task = Task.from_frame(text, 'pump', **COLUMNS)
        assert task.X.shape[1] == 1

    def test_a_row_a_series_is_another_form(self, table):
        with pytest.warns(TaskWarning, match='a single time step'): Task.from_frame(table.drop_duplicates('run'), 'pump', **COLUMNS)

    def test_parquet_file(self, table, tmp_path, monkeypatch):
        (tmp_path/'pump.parquet').write_bytes(b'PAR1')
        monkeypatch.setattr(pd, 'read_parquet', lambda path: table)
        assert Task.from_frame(tmp_path/'pump.parquet', 'pump', **COLUMNS).X.shape == (20,2,14)
        def missing(path): raise ImportError('no engine')
        monkeypatch.setattr(pd, 'read_parquet', missing)
        with pytest.raises(ImportError, match='pip install pyarrow'): Task.from_frame(tmp_path/'pump.parquet', 'pump', **COLUMNS)

    @pytest.mark.parametrize('width', ['2s', pd.Timedelta('2s')])
    def test_resampled_by_averages(self, table, width):
        task = Task.from_frame(table, 'pump', values='heat', resample=width, **COLUMNS)
        heat = table[table.run == 'r0'].heat.to_numpy()
        assert np.allclose(task.X[0,0,:6], heat.reshape(6, 2).mean(1), atol=1e-6)

    def test_resampled_by_a_number_leaves_gaps(self):
        df = pd.DataFrame(dict(run=['a']*4+['b']*4, t=[0,.5,1,4, 10,11,12,14], v=[1.,3,5,7, 1,2,3,4], y=['x']*4+['z']*4))
        task = Task.from_frame(pd.concat((df, df.assign(run=df.run+'2'))), 'pump', id='run', label='y', time='t', values='v', resample=1)
        assert np.allclose(task.X[0,0], [2,5,np.nan,np.nan,7], equal_nan=True)
        assert np.allclose(task.X[1,0], [1,2,3,np.nan,4], equal_nan=True)

    def test_uneven_times_are_said(self, table):
        with pytest.warns(TaskWarning, match='20 of 20 series have uneven times'):
            Task.from_frame(table[table.index%5 != 3], 'pump', **COLUMNS)

    def test_machines_stay_on_one_side(self, table):
        task = Task.from_frame(table, 'pump', groups='machine', **COLUMNS)
        assert not {task.groups[i] for i in task.train} & {task.groups[i] for i in task.test} and len(task.test) == 4

    def test_split_by_column(self, table):
        part = table.run.map(lambda o: 'test' if int(o[1:])%2 else 'train')
        task = Task.from_frame(table.assign(part=part), 'pump', split='part', **COLUMNS)
        assert task.test.tolist() == list(range(1, 20, 2))
        with pytest.raises(ValueError, match="'train', 'valid' or 'test' in the column of the split, found 'tset'"):
            Task.from_frame(table.assign(part='tset'), 'pump', split='part', **COLUMNS)

    @pytest.mark.parametrize('change,kwargs,what', [
        (dict(), dict(values='pressure'), "expected the column 'pressure'"),
        (dict(run=None), {}, 'found none in'),
        (dict(at=None), {}, 'expected a time in every line of the series'),
        (dict(heat='warm'), dict(values='heat'), "expected numbers in the column 'heat'"),
        (dict(heat=1j), dict(values='heat'), "expected numbers in the column 'heat', found complex128"),
        (dict(at='morning'), {}, "numbers or time stamps in the column 'at', found 'morning'"),
        (dict(), dict(resample='soon'), "such as '10s', found 'soon'"),
        (dict(), dict(resample='1ns'), "expected a wider step than '1ns': a series would have 11,000,000,000 steps for its 12 lines"),
        (dict(), dict(resample='-1s'), 'a width above 0')])
    def test_what_it_refuses(self, table, change, kwargs, what):
        with pytest.raises(ValueError, match=what): Task.from_frame(table.assign(**change), 'pump', **COLUMNS, **kwargs)

    def test_other_things_than_a_table(self, table):
        for df,what in ((table.set_index(['run','at']), r'in the index: df\.reset_index\(\) makes it a column'), ([1], 'found a list'),
                        (pd.concat([table, table[['heat']]], axis=1), "several called 'heat'")):
            with pytest.raises(ValueError, match=what): Task.from_frame(df, 'pump', **COLUMNS)


class TestFolder:
    @pytest.fixture
    def folder(self, tmp_path):
        rng = np.random.default_rng(0)
        for label in ('ball','inner'):
            (tmp_path/'bearing'/label).mkdir(parents=True)
            for i in range(5): np.save(tmp_path/'bearing'/label/f'{i}.npy', rng.normal(size=(2,30+i)))
        return tmp_path/'bearing'

    def test_label_from_the_folder(self, folder):
        task = Task.from_folder(folder)
        assert task.name == 'bearing' and task.X.shape == (10,2,34) and task.labels == ('ball','inner') and len(task.test) == 2

    def test_hidden_files_are_none_and_folders_within_a_label_are_of_it(self, folder):
        "As those that notebooks leave, and as recordings of several days"
        for name in ('.ipynb_checkpoints','ball/.cache','ball/monday'): (folder/name).mkdir()
        for name in ('.ipynb_checkpoints/0.npy','ball/.cache/0.npy','ball/._0.npy','ball/monday/9.NPY'):
            (folder/name).write_bytes((folder/'ball'/'0.npy').read_bytes())
        task = Task.from_folder(folder)
        assert task.labels == ('ball','inner') and len(task.y) == 11 and (task.y == 'ball').sum() == 6

    def test_a_table_that_lacks_a_file(self, folder):
        table = pd.DataFrame(dict(file=['ball/0.npy',None], label=['a','b']))
        with pytest.raises(ValueError, match='a file in every line of the table, found none in 1'): Task.from_folder(folder, table=table)

    def test_label_group_and_split_from_a_table(self, folder, tmp_path):
        files = [f'{o}/{i}.npy' for o in ('ball','inner') for i in range(5)]
        pd.DataFrame(dict(file=files, label=[i%2 for i in range(10)], group=['m']*5+['n']*5,
                          split=['train']*5+['test']*5)).to_csv(tmp_path/'table.csv', index=False)
        task = Task.from_folder(folder, 'pump', table=tmp_path/'table.csv')
        assert task.labels == (0,1) and task.test.tolist() == [5,6,7,8,9] and set(task.groups[task.test]) == {'n'}

    def test_sound_needs_its_reader(self, folder, monkeypatch):
        (folder/'ball'/'5.wav').write_bytes(b'RIFF')
        monkeypatch.setitem(sys.modules, 'soundfile', None)
        with pytest.raises(ImportError, match='pip install soundfile'): Task.from_folder(folder)

    def test_sound(self, folder):
        soundfile = pytest.importorskip('soundfile')
        for label in ('ball','inner'): soundfile.write(folder/label/'6.wav', np.zeros((40,2)), 100)
        assert Task.from_folder(folder, pattern='*').X.shape == (12,2,40)

    @pytest.mark.parametrize('bad', [b'', b'\x93NUMPY', b'text'])
    def test_a_damaged_file_is_named(self, folder, bad):
        (folder/'ball'/'3.npy').write_bytes(bad)
        with pytest.raises(ValueError, match="3.npy: can't be read as a series"): Task.from_folder(folder)

    def test_what_it_refuses(self, folder, tmp_path):
        with pytest.raises(FileNotFoundError, match='expected a folder of series'): Task.from_folder(tmp_path/'none')
        with pytest.raises(ValueError, match='found none'): Task.from_folder(folder, pattern='*.csv')
        with pytest.raises(ValueError, match='columns file and label'): Task.from_folder(folder, table=pd.DataFrame(dict(name=['a'])))
        with pytest.raises(FileNotFoundError, match='x.npy'):
            Task.from_folder(folder, table=pd.DataFrame(dict(file=['x.npy'], label=['a'])))


class TestAeon:
    def test_its_loaders_and_back(self):
        from aeon.datasets import load_basic_motions
        (X,y),(X_test,y_test) = load_basic_motions(split='train'),load_basic_motions(split='test')
        task = Task.from_aeon(X, y, 'BasicMotions', X_test=X_test, y_test=y_test)
        assert len(task.train) == len(X) and len(task.test) == len(X_test)
        for split,want,labels in (('train', X, y), ('test', X_test, y_test)):
            back = task.to_aeon(split)
            assert np.allclose(back[0], want, atol=1e-5) and (back[1] == labels).all()

    def test_unequal_lengths_there_and_back(self):
        X = [np.random.default_rng(i).normal(size=(3,20+i)) for i in range(10)]
        task = Task.from_aeon(X, list('ab')*5, 'motion')
        back,_ = task.to_aeon()
        assert all(np.allclose(a, X[i], atol=1e-6) for a,i in zip(back, task.train))


def test_a_task_a_fold():
    X,y,machine = np.random.default_rng(0).normal(size=(40,1,20)),list('ab')*20,np.repeat(np.arange(10), 4)
    tasks = [Task('pump', X, y, o, groups=machine) for o in folds(np.array(y), 5, machine)]
    assert sorted(i for o in tasks for i in o.test) == list(range(40))
    for o in tasks: assert not set(machine[o.train]) & set(machine[o.test])

def test_groups_hold_when_a_part_is_held_out():
    machine = np.repeat(np.arange(12), 4)
    task = Task('pump', np.random.default_rng(0).normal(size=(48,1,20)), list('ab')*24, groups=machine).hold_out(.25)
    parts = [set(machine[o]) for o in (task.train, task.valid, task.test)]
    assert sum(map(len, parts)) == 12 and all(parts)


@pytest.mark.parametrize('door', ['frame','folder','aeon'])
def test_a_door_shows_all_of_its_arguments(door):
    rows = dict(frame=frame_rows, folder=folder_rows, aeon=aeon_rows)[door]
    assert set(signature(getattr(Task, f'from_{door}')).parameters) == {*signature(rows).parameters, 'name'}

def test_a_split_that_there_is_not():
    task = Task('a', np.zeros((4,1,9))+np.arange(4)[:,None,None], list('abab'), splits='train')
    with pytest.raises(ValueError, match="'train', 'valid' or 'test', found 'tset'"): task.to_aeon('tset')

def test_a_task_of_one_label_is_said():
    with pytest.warns(TaskWarning, match="task 'a': all rows have the label 'x'; there is nothing to tell apart"):
        Task('a', np.random.default_rng(0).normal(size=(6,1,9)), ['x']*6)
