"The library's rooms: small modules, imports that run one way, nothing patched on from elsewhere."
import ast
from graphlib import TopologicalSorter
from pathlib import Path
from statistics import median

import pytest

LIB = Path(__file__).parents[1]/'tsai_mtcs'
FILES = {'.'.join(p.relative_to(LIB).with_suffix('').parts): p for p in LIB.rglob('*.py') if p.stem not in ('_modidx','__init__','all')}
TREES = {name: ast.parse(p.read_text()) for name,p in FILES.items()}
LAYERS = ['learner','estimator','selfsup','bench','test_utils','cli'] # from here on, each may use those before it; all else stands below


def imported(name):
    "The modules of the library that a module imports, at its top or in a function; and the imports that name nothing"
    package,found,bare = name.split('.')[:-1],set(),[]
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import): bare += [o.name for o in node.names if o.name.startswith('tsai_mtcs.')]
        if not isinstance(node, ast.ImportFrom) or not (node.level or (node.module or '').startswith('tsai_mtcs')): continue
        up = package[:len(package)-node.level+1] if node.level else []
        module = '.'.join([*up, node.module]) if node.level else node.module.removeprefix('tsai_mtcs').lstrip('.')
        found |= {module} if module in TREES else {f'{module}.{o.name}'.lstrip('.') for o in node.names} & set(TREES)
    return found,bare

def layer(name):
    room = name.split('.')[0]
    room = 'cli' if room.startswith('cli') or name == 'bench.cli' else room
    return LAYERS.index(room)+1 if room in LAYERS else 0


@pytest.mark.parametrize('name', FILES)
def test_a_module_is_small(name): assert len(FILES[name].read_text().splitlines()) <= 250

def test_half_of_the_modules_are_shorter_than_a_page(): assert median(len(p.read_text().splitlines()) for p in FILES.values()) <= 130

def test_imports_run_in_no_circle(): list(TopologicalSorter({name: imported(name)[0] for name in TREES}).static_order())

@pytest.mark.parametrize('name', FILES)
def test_imports_run_downwards(name):
    above = {o for o in imported(name)[0] if layer(o) > layer(name)}
    assert not above

@pytest.mark.parametrize('name', FILES)
def test_nothing_is_imported_for_its_side_effect(name): assert not imported(name)[1]

@pytest.mark.parametrize('name', FILES)
def test_only_classes_of_the_module_itself_are_patched(name):
    own = {o.name for o in TREES[name].body if isinstance(o, ast.ClassDef)}
    for f in ast.walk(TREES[name]):
        if not isinstance(f, ast.FunctionDef): continue
        if not any('patch' in ast.unparse(o).split('(')[0].split('.') for o in f.decorator_list): continue
        assert ast.unparse(f.args.args[0].annotation) in own, f.name
