"`from tsai_mtcs.all import *` gives the whole library, and of fastai its callbacks, `load_learner` and `set_seed`"
import warnings

with warnings.catch_warnings(): # fastai compiles functions by `torch.jit.script`, whose end PyTorch announces to everybody
    warnings.filterwarnings('ignore', '`torch.jit.script`', FutureWarning)
    from fastai.callback.all import *
from fastai.learner import load_learner
from fastai.torch_core import set_seed

from .series import TaskWarning, as_series, check_values, series_stats
from .splits import stratified
from .specs import TaskSpec
from .tasks import *
from .lazy import *
from .near_copies import copied_fraction, near_copies
from .formats import read_file
from .archive import *
from .labels import *
from .recipes import *
from .schedules import *
from .datasets import MultiTaskDataset, SeriesStore, sample_rows
from .showing import *
from .loader import MultiTaskDL
from .data import *
from .pooling import *
from .inputs import InputProjections
from .archs import ARCHS
from .arch_encoder import ArchEncoder
from .encoders import *
from .kernels import KernelEncoder
from .heads import *
from .losses import *
from .metrics import *
from .calibration import *
from .sharing import *
from .callback.sharing import MTCSLoss
from .ridge import Ridge, Rows
from .matching import *
from .solve import *
from .label_groups import *
from .shared_heads import *
from .model import *
from .closed_form import *
from .callback.metrics import *
from .callback.recorder import *
from .callback.bf16 import *
from .callback.graphs import CUDAGraphs
from .rng import *
from .callback.checkpoint import *
from .callback.averaging import *
from .callback.balancing import LossBalancing
from .callback.surgery import GradientSurgery
from .callback.distributed import *
from .svm import *
from .evaluation import *
from .history import *
from .similarity import *
from .safe_learner import SafeLearner
from .encoder_learner import *
from .partners import *
from .callback.matched import *
from .growing import add_task, known_labels, remove_task, update_task, with_task
from .grown_dls import dls_within, with_old_rows
from .inspection import *
from .helping import helping_frame, plot_helping
from .task_view import task_learner
from .inspected_learner import *
from .learner import *
from .exporting import export_onnx, export_pt2
from .estimator import MTCSClassifier
from .selfsup.pretext import *
from .selfsup.ts2vec import ts2vec_learner, ts2vec_steps
from .selfsup.tloss import tloss_combined, tloss_learner, tloss_steps
from .selfsup.tnc import tnc_learner, tnc_steps
from .selfsup.tstcc import tstcc_learner
from .selfsup.tst import tst_learner
from .bench.kinds import ClassifierMethod, EncoderMethod, HeadsMethod, KernelsMethod, Method
from .bench.methods import METHODS
from .bench.published import published
from .bench.sites import *
from .bench.records import read_failures, read_results
from .bench.runner import run_benchmark
from .bench.report import *
