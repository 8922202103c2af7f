"What the README shows can be copied, block after block, into a fresh Python."
import re
from pathlib import Path

import pytest

TEXT = (Path(__file__).parents[1]/'README.md').read_text()
BLOCKS = re.findall(r'```python\n(.*?)```', TEXT, re.S)
SMALL = {'from_tasks(five))': 'from_tasks(five), arch_config=dict(hidden=8, feats=16, depth=2))', 'fit_one_cycle(15)': 'fit_one_cycle(1)'}


def run(blocks):
    "The names that are there after the blocks"
    found = {}
    for o in blocks: exec(o, found)
    return found

def check(found):
    learn = found['learn']
    assert len(learn.dls.space.names) == 6 and learn.model.space.names[-1] == found['new'].name
    assert learn.report('GunPoint').shape == (4,4)

def test_the_python_blocks_run():
    blocks = []
    for o in BLOCKS:
        for old,new in SMALL.items(): o = o.replace(old, new)
        blocks.append(o)
    assert blocks[1] != BLOCKS[1]
    check(run(blocks))

@pytest.mark.slow
def test_the_python_blocks_run_as_they_stand(): check(run(BLOCKS))

def test_it_is_short(): assert len(TEXT.splitlines()) <= 90
