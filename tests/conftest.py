"No window for a figure; tests marked slow or cuda run only where they are wanted."
import os, sys

os.environ.setdefault('MPLBACKEND', 'Agg')  # before a test imports matplotlib
os.environ.setdefault('OMP_NUM_THREADS', '1')  # before a test imports torch: its data are small, and a fork must not find threads

import pytest


def pytest_addoption(parser):
    parser.addoption('--runslow', action='store_true', help='also run the tests marked slow')


def pytest_collection_modifyitems(config, items):
    marked = lambda name: [o for o in items if o.get_closest_marker(name)]
    if not config.getoption('--runslow'):
        for o in marked('slow'): o.add_marker(pytest.mark.skip(reason='slow: run with --runslow'))
    if marked('cuda'):
        import torch
        if not torch.cuda.is_available():
            for o in marked('cuda'): o.add_marker(pytest.mark.skip(reason='no GPU'))

@pytest.fixture(autouse=True, scope='module')
def one_thread():
    "Every file begins with one thread: with several, sums end in another digit, and a fork waits for threads that it doesn't have"
    import torch
    torch.set_num_threads(1)

@pytest.fixture(autouse=True)
def close_figures():
    "A test leaves no figures, where it has drawn any"
    yield
    if 'matplotlib.pyplot' in sys.modules: sys.modules['matplotlib.pyplot'].close('all')
