"The runtime imports PyTorch, NumPy and safetensors, nothing else, and gives what the whole library gives."
import subprocess
import sys

import numpy as np
import pytest
from tsai_mtcs.encoders import MMoEEncoder
from tsai_mtcs.headers import read_plain_header
from tsai_mtcs.kernels import KernelEncoder
from tsai_mtcs.test_utils import synth_learner

CHILD = """
import sys

from importlib.machinery import PathFinder

class Without(PathFinder):
    "Finds nothing of what isn't the library, PyTorch, NumPy and safetensors"
    names = {'fastai','fastcore','fastprogress','fasttransform','tsai','sklearn','pandas','aeon','scipy','matplotlib','numba','joblib',
             'plum','pyts','PIL','torchvision','IPython','nbdev'}
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition('.')[0] in cls.names else super().find_spec(name, path, target)

sys.meta_path = [Without if o is PathFinder else o for o in sys.meta_path]
import numpy as np
import torch
from tsai_mtcs.runtime import load_model
torch.set_num_threads(1)
model,X = load_model('model'),np.load('X.npy')
labels,probs = model.predict(X, 'waves')
np.savez('found.npz', labels=labels, probs=probs, Z=model.embed(X, 'waves'), unequal=model.predict([X[0], X[1,:,:25]], 'waves')[1])
model.save_pretrained('again')
"""

def without(folder, model, X):
    "What the runtime makes of the series, in a process that can't import the rest"
    model.save_pretrained(folder/'model')
    np.save(folder/'X.npy', X)
    run = subprocess.run([sys.executable, '-c', CHILD], cwd=folder, text=True, capture_output=True)
    assert not run.returncode, run.stderr
    return np.load(folder/'found.npz')

@pytest.fixture
def X(): return np.random.default_rng(0).normal(size=(5,1,32))


@pytest.mark.parametrize('arch', [dict(), dict(arch=MMoEEncoder, n_layers=2, sharing=None)])
def test_equal_to_the_bit(tmp_path, X, arch):
    model = synth_learner(**arch).model.eval()
    found,(labels,probs) = without(tmp_path, model, X),model.predict(X, 'waves')
    assert (found['labels'] == labels).all() and (found['probs'] == probs).all()
    assert (found['Z'] == model.embed(X, 'waves')).all()
    assert (found['unequal'] == model.predict([X[0], X[1,:,:25]], 'waves')[1]).all()
    again,first = (read_plain_header(tmp_path/o/'model.safetensors') for o in ('again','model'))
    assert again == first # with a digest over all tensors


def test_kernels_are_equal_but_for_rounding(tmp_path, X):
    model = synth_learner(arch=KernelEncoder, arch_config=dict(n_kernels=840)).fit_heads().model
    found = without(tmp_path, model, X)
    assert np.abs(found['Z']-model.embed(X, 'waves')).max() < 1e-3
    assert np.abs(found['probs']-model.predict(X, 'waves')[1]).max() < 1e-4


def test_an_encoder_of_tsai_says_what_is_missing(tmp_path, X):
    synth_learner(arch='FCNPlus', arch_config={}).save_pretrained(tmp_path/'model')
    np.save(tmp_path/'X.npy', X)
    run = subprocess.run([sys.executable, '-c', CHILD], cwd=tmp_path, text=True, capture_output=True)
    assert "its encoder needs tsai, which isn't installed" in run.stderr.splitlines()[-1]
