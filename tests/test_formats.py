"Files of the archive: labels as they are written, the same in every format; damage named with its line; what is no data set left out."
import shutil
from pathlib import Path

import aeon.datasets
import numpy as np
import pytest
from aeon.datasets import load_from_arff_file, load_from_ts_file, load_from_tsv_file
from tsai_mtcs.archive import archive_names, bundled_tasks, ucr_tasks
from tsai_mtcs.formats import read_file, same_labels

BUNDLED = Path(aeon.datasets.__file__).parent/'data'
HEAD = dict(tsv='', ts='@univariate true\n@classLabel true x y\n@data\n', arff='@relation toy\n@attribute t0 numeric\n@data\n')


def line(label, values, ext):
    values = list(map(str, values))
    return {'tsv':'\t'.join([label,*values]), 'ts':','.join(values)+':'+label, 'arff':','.join([*values,label])}[ext]+'\n'

def archive(folder, train, test, ext='tsv', test_ext=None):
    "An archive with one data set `Toy` of these labels"
    (folder/'Toy').mkdir(exist_ok=True)
    for part,labels in dict(TRAIN=train, TEST=test).items():
        (folder/f'Toy/Toy_{part}.{ext}').write_text(HEAD[ext]+''.join(line(o, (i,i+.5,i*i), ext) for i,o in enumerate(labels)))
    return folder

def labels_of(*args, **kwargs):
    t, = ucr_tasks('Toy', archive(*args, **kwargs), cache=False)
    return t.y.tolist()


@pytest.mark.parametrize('ext', HEAD)
@pytest.mark.parametrize('train,test,want', [
    (['1','2'], ['2','1'], ['1','2','2','1']), (['1.0','2.0'], ['2','1'], ['1','2','2','1']),
    (['1.0000000e+00','-1.0'], ['1','-1'], ['1','-1','1','-1']),
    (['001','1'], ['1','001'], ['001','1','1','001']), (['1_0','10'], ['10','1_0'], ['1_0','10','10','1_0']),
    (['A','a'], ['a','A'], ['A','a','a','A']),
    (['inf','1'], ['1','inf'], ['inf','1','1','inf']),
    (['Standing','Walking'], ['Walking','Standing'], ['Standing','Walking','Walking','Standing']),
    (['0.5','1.50'], ['1.5','0.50'], ['0.5','1.5','1.5','0.5'])], ids=str)
def test_labels_stay_what_the_file_says(tmp_path, ext, train, test, want): assert labels_of(tmp_path, train, test, ext) == want

def test_the_same_labels_from_every_format():
    names = [o.name for o in BUNDLED.iterdir() if all((o/f'{o.name}_TRAIN.{ext}').is_file() for ext in HEAD)]
    assert 'GunPoint' in names
    for name in names: assert len({tuple(same_labels([read_file(BUNDLED/name/f'{name}_TRAIN.{ext}')[1]])[0]) for ext in HEAD}) == 1

@pytest.mark.parametrize('file,theirs', [('GunPoint/GunPoint_TRAIN.tsv',load_from_tsv_file),
                                         ('GunPoint/GunPoint_TEST.ts',load_from_ts_file),
                                         ('GunPoint/GunPoint_TRAIN.arff',load_from_arff_file),
                                         ('PickupGestureWiimoteZ/PickupGestureWiimoteZ_TEST.ts',load_from_ts_file),
                                         ('JapaneseVowels/JapaneseVowels_TRAIN.ts',load_from_ts_file),
                                         ('BasicMotions/BasicMotions_TEST.ts',load_from_ts_file)])
def test_values_are_those_that_aeon_reads(file, theirs):
    (X,y),(X2,y2) = read_file(BUNDLED/file),theirs(str(BUNDLED/file))
    assert len(X) == len(X2) and all(np.array_equal(a, b, equal_nan=True) for a,b in zip(X, X2))
    assert [o.lower() for o in same_labels([y])[0]] == same_labels([y2])[0]

def test_bundled_labels_keep_their_case(): assert bundled_tasks('BasicMotions')[0].labels == ('Badminton','Running','Standing','Walking')

def test_variables_of_a_relational_arff(tmp_path):
    (tmp_path/'x.arff').write_text("@relation r\n@attribute relationalAtt relational\n@end relationalAtt\n@data\n'1,2,3\\n4,5,?',Left\n\n"
                                   "% between\n'6,7,8\\n9,10,11','Right'\n")
    X,y = read_file(tmp_path/'x.arff')
    np.testing.assert_array_equal(X, [[[1,2,3],[4,5,np.nan]],[[6,7,8],[9,10,11]]])
    assert y.tolist() == ['Left','Right']

@pytest.mark.parametrize('ext,text', [
    ('tsv', '\ufeff1\t1\t2\r\n\r\n2\t3\tNaN\r\n'), ('tsv', '1,1,2\n2,3,\x3f\n'), ('tsv', '1,1,2\n\n2,3,nan'),
    ('ts', '\ufeff# made by hand\n@problemName x\n\n@data\n# first\n1,2:1\n\n3,?:2\n'),
    ('ts', '@DATA\n1,2:1\n3,NaN:2'), ('arff', '\ufeff% c\n@relation x\n\n@data\n% c\n1,2,1\n\n3,?,2\n')], ids=range(6))
def test_what_is_no_damage(tmp_path, ext, text):
    file = tmp_path/f'x.{ext}'
    file.write_bytes(text.encode())
    X,y = read_file(file)
    np.testing.assert_array_equal(X, [[[1,2]],[[3,np.nan]]])
    assert y.tolist() == ['1','2']

@pytest.mark.parametrize('ext,text,said', [
    ('tsv', '1\t2\t3\n\n1\t2\tabc\n', "line 3: expected numbers, found 'abc'"),
    ('tsv', 'label\tt0\tt1\n1\t2\t3\n', "line 1: expected numbers, found 't0'"),
    ('tsv', '1\t2,5\t3\n', "line 1: expected numbers, found '2,5'"),
    ('tsv', '1 2 3\n', 'line 1: expected a label and values, parted by tabs'),
    ('tsv', '1\t2\t3\n1\t2\n', 'line 2: expected 2 separators as in line 1, found 1'),
    ('ts', '@data\n1,2:a\n1,abc:b\n', "line 3: expected numbers, found 'abc'"),
    ('ts', '@data\n1,2:a\n1,2_0:b\n', "line 3: expected numbers, found '2_0'"),
    ('ts', '@data\n1,,2:a\n', "line 2: expected numbers, found ''"),
    ('ts', '@timestamps true\n@data\n(2020-01-01,1),(2020-01-02,2):a\n', r'found time stamps \(@timestamps true\).*write the values alone'),
    ('ts', '@targetLabel true\n@data\n1,2:0.37\n', 'target of a regression.*make labels of it'),
    ('ts', '@data\n1,2:?\n', "line 2: expected a label, found '\\?'"),
    ('ts', '@equalLength true\n@data\n1,2:a\n1,2,3:b\n', 'line 4: expected 2 values, found 3'),
    ('ts', '@data\n1,2:3:a\n', 'line 2: expected 2 values, found 1'), ('ts', '1,2:a\n', 'no series'),
    ('arff', '@relation x\n@data\n1,x,a\n', "line 3: expected numbers, found 'x'"), ('arff', '', 'no series'),
    ('csv', '1,2\n', 'expected one of the formats tsv, ts, arff')])
def test_what_cannot_be_read_is_named_with_its_line(tmp_path, ext, text, said):
    file = tmp_path/f'x.{ext}'
    file.write_text(text)
    with pytest.raises(ValueError, match=said) as e: read_file(file)
    assert str(e.value).startswith(str(file))

def test_series_without_labels(tmp_path):
    (tmp_path/'x.ts').write_text('@classLabel false\n@data\n1,2:3,4\n5,6:7,8\n')
    X,y = read_file(tmp_path/'x.ts')
    assert y is None and X.tolist() == [[[1,2],[3,4]],[[5,6],[7,8]]]

def test_unequal_series(tmp_path):
    (tmp_path/'x.ts').write_text('@equalLength false\n@data\n1,2,3:a\n4:b\n')
    assert [o.tolist() for o in read_file(tmp_path/'x.ts')[0]] == [[[1,2,3]],[[4]]]


def test_names_of_a_downloaded_archive(tmp_path):
    for o in ('GunPoint','ItalyPowerDemand'): shutil.copytree(BUNDLED/o, tmp_path/o)
    shutil.copytree(BUNDLED/'GunPoint', tmp_path/'Missing_value_and_variable_length_datasets_adjusted/GunPoint')
    (tmp_path/'.cache').mkdir()
    (tmp_path/'README.txt').write_text('x')
    assert archive_names(tmp_path) == ['GunPoint','ItalyPowerDemand']
    assert [o.name for o in ucr_tasks(archive_names(tmp_path), tmp_path, cache=False)] == archive_names(tmp_path)
    for o in ('nowhere','.cache'):
        with pytest.raises(FileNotFoundError, match='expected'): archive_names(tmp_path/o)

def test_a_cache_of_an_older_version_is_made_anew(tmp_path, monkeypatch):
    from tsai_mtcs import archive as module
    folder,cache = archive(tmp_path, ['A','b'], ['b','A']),tmp_path/'cache'
    ucr_tasks('Toy', folder, cache=cache)
    monkeypatch.setattr(module, 'read_file', lambda path: pytest.fail('read again'))
    assert ucr_tasks('Toy', folder, cache=cache)[0].y.tolist() == ['A','b','b','A']
    monkeypatch.setattr(module, '_CACHE', module._CACHE+1)
    with pytest.raises(pytest.fail.Exception): ucr_tasks('Toy', folder, cache=cache)
