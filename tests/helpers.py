"What several test files need."
import os
import signal
import sys
import traceback

import numpy as np
import torch
from fastai.callback.fp16 import MixedPrecision
from fastai.callback.progress import ProgressCallback
from tsai_mtcs.tasks import Task
from tsai_mtcs.test_utils import synth_learner


def quiet(learn):
    "The learner, without table and progress bar"
    learn.remove_cb(ProgressCallback)
    learn.logger = lambda *args: None
    return learn

def quiet_learner(**kwargs):
    "`synth_learner` without table and progress bar"
    return quiet(synth_learner(**kwargs))

def weights(model):
    "A copy of all weights and buffers"
    return {k: v.clone() for k,v in model.state_dict().items()}

def same(a, b):
    "Whether two state dicts are equal to the bit"
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)

class CPUMixedPrecision(MixedPrecision):
    "fastai's callback, with autocast that a CPU has"
    def before_fit(self):
        super().before_fit()
        self.autocast = torch.autocast('cpu', torch.bfloat16)

def forked(f, log=os.devnull):
    "Start `f` in a fork of this process, which imports nothing again; what it says goes to `log`; its process id"
    sys.stdout.flush()
    pid = os.fork()
    if pid: return pid
    code = 70
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler) # a test run in the background hands down that it is ignored
        sys.stdout = sys.stderr = open(log, 'w')
        torch.set_num_threads(1) # threads of OpenMP don't survive a fork: a second one would be waited for without end
        code = f() or 0
    except BaseException: traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)

def exit_code(pid):
    "How a forked process ended: its exit code, or minus the signal that ended it"
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def random_task(name, n_train=12, n_test=6, vars=1, steps=20, labels=2, seed=0, **kwargs):
    "A task of noise, its labels in turn"
    rng,n = np.random.default_rng(seed),n_train+n_test
    return Task(name, rng.normal(size=(n,vars,steps)), [f'{name}{i%labels}' for i in range(n)],
                **{'splits':(range(n_train), range(n_train,n)), **kwargs})
