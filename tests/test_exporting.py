"A program made of a model gives the model's probabilities, for any number of series of any length."
import json
import subprocess
import sys

import numpy as np
import pytest
from tsai_mtcs.cli import main
from tsai_mtcs.encoders import MMoEEncoder
from tsai_mtcs.exporting import check_onnx, check_pt2, compare, describe_tasks, export_onnx, export_pt2
from tsai_mtcs.test_utils import synth_learner, synth_task, synth_tasks
from tsai_mtcs.data import MultiTaskDataLoaders

RUN = """
import sys
import numpy as np
import torch
files = {'tasks.json':''}
program = torch.export.load('waves.pt2', extra_files=files).module()
with torch.no_grad(): np.save('probs.npy', program(torch.from_numpy(np.load('X.npy'))).numpy())
assert 'sine' in files['tasks.json'] and not [o for o in sys.modules if o.startswith('tsai')]
"""

@pytest.fixture(scope='module')
def model(): return synth_learner().model.eval()


def test_a_program_runs_without_the_library(tmp_path, model):
    X = np.random.default_rng(0).normal(size=(4,1,57)).astype(np.float32)
    export_pt2(model, tmp_path/'waves.pt2', 'waves')
    np.save(tmp_path/'X.npy', X)
    subprocess.run([sys.executable, '-c', RUN], cwd=tmp_path, check=True)
    assert np.abs(np.load(tmp_path/'probs.npy')-model.predict(X, 'waves')[1]).max() < 1e-5


def test_experts_hidden_layers_and_several_variables(tmp_path):
    tasks = [synth_tasks()[0], synth_task('three', dict(a='sine', b='square', c='fast'), vars=3)]
    dls = MultiTaskDataLoaders.from_tasks(tasks, bs=16, device='cpu')
    model = synth_learner(dls=dls, arch=MMoEEncoder, n_layers=2, sharing=None).model.eval()
    for o in tasks: assert check_pt2(model, export_pt2(model, tmp_path/'model.pt2', o.name), o.name) < 1e-5
    with pytest.raises(ValueError, match='export them one by one'): export_pt2(model, tmp_path/'model.pt2')


@pytest.mark.parametrize('task', ['machine', None])
def test_onnx(tmp_path, model, task):
    for o in ('onnx','onnxscript','onnxruntime'): pytest.importorskip(o)
    import onnx
    file = export_onnx(model, tmp_path/'model.onnx', task)
    assert check_onnx(model, file, task) < 1e-5
    found, = (o.value for o in onnx.load(file).metadata_props if o.key == 'tasks')
    assert json.loads(found) == json.loads(describe_tasks(model, task))


def test_a_program_that_differs_is_refused(tmp_path, model):
    with pytest.raises(ValueError, match="differ from the model's by up to"):
        compare(model, lambda X,k: np.full((len(X), 3), 1/3), 'machine')
    with pytest.raises(ValueError, match="differ"): compare(model, lambda X,k: np.full((len(X), 3), np.nan), 'machine')


def test_the_command_writes_and_checks(tmp_path, model, monkeypatch, capsys):
    model.save_pretrained(tmp_path)
    file = tmp_path/'all.pt2'
    assert main(['export', str(tmp_path), '--pt2', str(file)]) == 0 and "differ from the model's by up to" in capsys.readouterr().out
    before = file.read_bytes()
    def differs(*args): raise ValueError('they differ')
    monkeypatch.setattr('tsai_mtcs.exporting.compare', differs)
    assert main(['export', str(tmp_path), '--pt2', str(file)]) == 2 and file.read_bytes() == before
