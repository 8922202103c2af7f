"Help, wrong paths and wrong choices are answered before anything heavy is imported."
import json
import subprocess
import sys

import pytest
from tsai_mtcs.cli import make_parser
from tsai_mtcs.cli_run import settings_of, write_run
from tsai_mtcs.test_utils import synth_learner

HEAVY = ('torch','numpy','pandas','fastai','fastcore','fastprogress','tsai','sklearn','aeon','scipy','matplotlib','safetensors','numba')

CHILD = f"""
import json, sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from tsai_mtcs.cli import main
for line in sys.stdin.read().splitlines():
    with redirect_stderr(StringIO()) as said, redirect_stdout(said):
        try: code = main(line.split())
        except SystemExit as e: code = e.code
    print(json.dumps((code, said.getvalue(), [o for o in {HEAVY} if o in sys.modules])))
"""

LINES = {
    '--help': (0, 'examples:'),
    'train --help': (0, '--epochs'),
    'fly': (2, 'invalid choice'),
    'train --archive nowhere --out new': (2, 'found none'),
    'train --tasks GunPiont --out new': (2, 'nearest: GunPoint'),
    'train --data none.csv --out new': (2, 'found no file'),
    'train --lr nan --out new': (2, 'expected lr to be'),
    'train --resume --out nowhere': (2, 'found no run.json'),
    'train --out trained': (2, 'holds a run already'),
    'train --resume --epochs 99 --out trained': (2, 'epochs 99'),
    'train --resume --recipe paper --out trained': (2, 'epochs 5'),
    'evaluate nowhere': (2, 'found no run.json'),
    'evaluate model --classifier tree': (2, 'invalid choice'),
    'groups nowhere': (2, 'found no run.json'),
    'groups nowhere --out groups.txt': (2, '.png'),
    'predict nowhere --task waves x.csv': (2, 'found no model.safetensors'),
    'predict model --task wave x.csv': (2, 'known: waves, machine'),
    'predict model --task waves none.csv': (2, 'found none'),
    'embed model x.csv': (2, 'name one of: waves, machine'),
    'add nowhere --data x.csv': (2, 'found no model.safetensors'),
    'add model --data none.csv': (2, 'found none'),
    'add model --data x.csv --name waves': (2, '--update learns these rows too'),
    'export model': (2, 'found none'),
    'export model --onnx model.pt': (2, '.onnx file'),
    'export model --pt2 model.pt2 --task wave': (2, 'known: waves, machine'),
    'info nowhere': (2, 'found no model.safetensors'),
    'info model': (0, 'TS2VecEncoder, 16 feats'),
    'tasks --archive nowhere': (2, 'found none'),
    'methods': (0, 'multirocket-hydra  random kernels, a ridge classifier'),
    'methods --json': (0, 'random kernels for all tasks, heads solved in closed form'),
    'benchmark --methods mtsc --out new': (2, 'nearest: mtcs'),
    'benchmark --methods mtcs --archive nowhere --out new': (2, 'found none'),
    'reproduce table2 --archive nowhere --out new': (2, 'found none'),
    'reproduce table2 --out new': (2, '--archive PATH')}


def test_an_answer_needs_nothing_heavy(tmp_path):
    synth_learner().save_pretrained(tmp_path/'model')
    (tmp_path/'x.csv').write_text('1,2,3\n')
    (tmp_path/'trained').mkdir()
    write_run(tmp_path/'trained', settings_of(make_parser().parse_args(['train','--out','trained'])))
    (tmp_path/'trained'/'history.csv').touch()
    out = subprocess.run([sys.executable, '-c', CHILD], input='\n'.join(LINES), cwd=tmp_path, text=True, capture_output=True)
    assert not out.stderr and not (tmp_path/'new').exists()
    for (line,(code,words)),found in zip(LINES.items(), map(json.loads, out.stdout.splitlines()), strict=True):
        assert found[0] == code and words in found[1] and not found[2], line


@pytest.mark.parametrize('module', ['tsai_mtcs','tsai_mtcs.cli','tsai_mtcs.bench.cli'])
def test_the_modules_of_the_command_are_light(module):
    code = f"import sys, {module}; print(*[o for o in {HEAVY} if o in sys.modules])"
    assert not subprocess.run([sys.executable, '-c', code], text=True, capture_output=True, check=True).stdout.strip()


def test_the_library_is_imported_without_a_warning():
    run = subprocess.run([sys.executable, '-W', 'default', '-c', 'from tsai_mtcs.all import *'], text=True, capture_output=True, check=True)
    assert 'FutureWarning' not in run.stderr
