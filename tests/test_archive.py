"The archive's folder and its cache: read once, read anew when a file has changed, never believed when it is damaged."
import os

import numpy as np
import pytest
from tsai_mtcs import archive as module
from tsai_mtcs.archive import archive_names, ucr_tasks
from tsai_mtcs.test_utils import write_archive

NAMES = ['waves','machine']


@pytest.fixture
def archive(tmp_path):
    write_archive(tmp_path/'archive')
    return tmp_path/'archive'

@pytest.fixture
def read(monkeypatch):
    "The names of the files of data sets that are read"
    seen,read_file = [],module.read_file
    def watched(path):
        seen.append(path.stem)
        return read_file(path)
    monkeypatch.setattr(module, 'read_file', watched)
    return seen

def load(archive, name='waves', **kwargs):
    task, = ucr_tasks(name, archive, **kwargs)
    return task

def alike(a, b):
    return (np.array_equal(a.X, b.X, equal_nan=True) and a.X.dtype == b.X.dtype and a.labels == b.labels and (a.y == b.y).all()
            and np.array_equal(a.train, b.train) and np.array_equal(a.test, b.test))


def test_a_data_set_is_read_once(archive, read, tmp_path):
    first = load(archive, cache=tmp_path/'cache')
    assert read == ['waves_TRAIN','waves_TEST'] and (tmp_path/'cache'/'waves.npz').is_file()
    again = load(archive, cache=tmp_path/'cache')
    assert len(read) == 2 and alike(first, again) and alike(first, load(archive, cache=False))

def test_a_changed_file_is_read_anew(archive, read, tmp_path):
    first = load(archive, cache=tmp_path/'cache')
    train = archive/'waves'/'waves_TRAIN.tsv'
    lines = train.read_text().splitlines(True)
    train.write_text(''.join(lines[:-1]))
    changed = load(archive, cache=tmp_path/'cache')
    assert len(read) == 4 and len(changed.train) == len(first.train)-1
    assert alike(changed, load(archive, cache=tmp_path/'cache')) and len(read) == 4

def test_a_file_of_the_same_size_and_a_later_time_is_read_anew(archive, read, tmp_path):
    load(archive, cache=tmp_path/'cache')
    test = archive/'waves'/'waves_TEST.tsv'
    os.utime(test, ns=(0, test.stat().st_mtime_ns+1))
    load(archive, cache=tmp_path/'cache')
    assert len(read) == 4

def test_archives_that_name_a_data_set_alike_do_not_mix(archive, read, tmp_path):
    "The other has the same times"
    first = load(archive, cache=tmp_path/'cache')
    other = tmp_path/'other'
    archive.rename(other)
    assert alike(first, load(other, cache=tmp_path/'cache')) and len(read) == 4

@pytest.mark.parametrize('damage', [lambda o: o[:len(o)//2], lambda o: b'', lambda o: b'no archive', lambda o: o[:100]+b'x'*50+o[150:]],
                         ids=['half','empty','text','overwritten'])
def test_a_damaged_cache_is_read_anew_and_replaced(archive, read, tmp_path, damage):
    first,cached = load(archive, cache=tmp_path/'cache'),tmp_path/'cache'/'waves.npz'
    whole = cached.read_bytes()
    cached.write_bytes(damage(whole))
    assert alike(first, load(archive, cache=tmp_path/'cache')) and len(read) == 4
    assert alike(first, load(archive, cache=tmp_path/'cache')) and len(read) == 4

def test_where_the_cache_is(archive, read, tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path/'xdg'))
    load(archive, cache=False)
    assert not (tmp_path/'xdg').exists()
    load(archive)
    assert (tmp_path/'xdg'/'tsai_mtcs'/'waves.npz').is_file()

def test_a_cache_that_cannot_be_written_is_no_error(archive, read, tmp_path):
    (tmp_path/'cache').write_text('a file, where a folder would be')
    assert alike(load(archive, cache=tmp_path/'cache'), load(archive, cache=False)) and len(read) == 4

def test_names_of_a_folder_and_what_it_lacks(archive):
    (archive/'half').mkdir()
    (archive/'half'/'half_TRAIN.tsv').write_text('1\t0\t0\n')
    assert set(NAMES) <= set(archive_names(archive)) and 'half' not in archive_names(archive)
    with pytest.raises(FileNotFoundError, match=r"'wavs' \(nearest there: waves\)"): load(archive, 'wavs', cache=False)
    with pytest.raises(ValueError, match=r"expected the name of a data set, found '\.\./archive'"): load(archive, '../archive')
