#!/usr/bin/env python
"""How long a prediction takes: the model, the programs that are exported from it, and one that is quantised.

    python benchmarks/latency.py --repeats 20

The model has TS2Vec's encoder in the paper's size, heads solved in closed form, and the bundled data sets as tasks. Ways that need
onnxruntime are left out where it isn't installed. Each way serves series of GunPoint, 150 steps, one at a time and a thousand at once;
the ways take turns. A thousand are timed once in ten rounds.
"""
import argparse, logging, os, statistics, tempfile, time, warnings
from pathlib import Path

import numpy as np
import torch

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument('--repeats', type=int, default=20)
parser.add_argument('--threads', type=int, default=1)
TASK = 'GunPoint'


def make_model():
    "A model whose heads are worth something, and the test rows of the task"
    from tsai_mtcs.all import MultiTaskDataLoaders, bundled_tasks, mtcs_learner, set_seed
    tasks = bundled_tasks()
    set_seed(0)
    learn = mtcs_learner(MultiTaskDataLoaders.from_tasks(tasks, device='cpu'))
    with learn.no_bar(): learn.fit_heads()
    task = next(o for o in tasks if o.name == TASK)
    return learn.model.eval(),np.asarray(task.X[task.test], np.float32),task.y[task.test]

def session(file, threads):
    "Runs an ONNX program"
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    program = onnxruntime.InferenceSession(str(file), options, providers=['CPUExecutionProvider'])
    return lambda X: program.run(None, {'series':X})[0]

def ways_of(model, folder, threads):
    "Name → function of series, and size of its file in MB"
    from tsai_mtcs.exporting import export_onnx, export_pt2
    program = torch.export.load(export_pt2(model, folder/'model.pt2', TASK)).module()
    @torch.no_grad()
    def exported(X): return program(torch.from_numpy(X)).numpy()
    model.save_pretrained(folder)
    ways = {'predict': (lambda X: model.predict(X, TASK)[1], 'model.safetensors'), 'torch.export': (exported, 'model.pt2')}
    try: from onnxruntime.quantization import quantize_dynamic
    except ImportError: return ways
    export_onnx(model, folder/'model.onnx', TASK)
    ways['onnxruntime'] = session(folder/'model.onnx', threads),'model.onnx'
    for name,ops in (('all',None), ('linear layers',['MatMul','Gemm'])):
        file = folder/f'{name}.onnx'
        try:
            quantize_dynamic(folder/'model.onnx', file, op_types_to_quantize=ops)
            ways[f'quantised: {name}'] = session(file, threads),file.name
        except Exception as e: print(f'quantised: {name}: left out, {type(e).__name__}: {str(e).splitlines()[0]}')
    return ways

def timed(f, X):
    start = time.perf_counter()
    out = f(X)
    return time.perf_counter()-start,out


if __name__ == '__main__':
    args = parser.parse_args()
    warnings.simplefilter('ignore')
    logging.disable() # of the quantiser, about tensors that it leaves alone
    torch.set_num_threads(args.threads)
    model,X,y = make_model()
    labels = model.space.specs[model.space.task(TASK)].labels
    many = np.concatenate([X]*(1000//len(X)+1))[:1000]
    with tempfile.TemporaryDirectory() as folder:
        ways = ways_of(model, Path(folder), args.threads)
        took = {(name,n): [] for name in ways for n in (1, 1000)}
        for f,_ in ways.values(): f(X[:1]), f(many[:100])
        for i in range(args.repeats):
            for name,(f,_) in ways.items():
                took[name,1].append(timed(f, X[i%len(X)][None])[0])
                if i%10 == 0: took[name,1000].append(timed(f, many)[0])
        print(f'{os.cpu_count()} cores, {args.threads} thread(s), torch {torch.__version__}')
        print(f'{"":26} {"one series":>26} {"1,000 series":>24} {"MB":>6} {"accuracy":>9} {"difference":>11}')
        wanted = ways['predict'][0](X)
        for name,(f,file) in ways.items():
            probs = f(X)
            def said(n, unit):
                s = [o*unit for o in took[name,n]]
                return f'{statistics.median(s):.2f} ({min(s):.2f} to {max(s):.2f})'
            accuracy = np.mean([labels[i] == o for i,o in zip(probs.argmax(1), y)])
            size = (Path(folder)/file).stat().st_size/1e6
            print(f'{name:26} {said(1, 1e3)+" ms":>26} {said(1000, 1)+" s":>24} {size:6.1f} {accuracy:9.3f} '
                  f'{np.abs(probs-wanted).max():11.1e}')
