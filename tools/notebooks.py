"""Run notebooks as tests: `python tools/notebooks.py [NOTEBOOK ...] [--workers N]`, without names all that are in nbs.

Each has a process of its own, so that what one patches or seeds can't change the next, and several run at the same time.
Importing what the library builds on takes longer than most notebooks run. It is done once, and the processes are forked
from there. fastai, tsai and the library are not among it: they patch, and a notebook sees what it imports itself.
"""
import argparse, gc, importlib, os, sys, tempfile, traceback
from pathlib import Path

root = Path(__file__).resolve().parents[1]
SLOW_IMPORTS = ('aeon.transformations.collection.convolution_based','fastprogress','fasttransform','matplotlib.pyplot','nbdev.test',
                'pandas','safetensors.torch','scipy.stats','sklearn.ensemble','torch._dynamo','torchvision')


def all_notebooks():
    "Every notebook in nbs, but those in hidden folders or in folders such as _docs; the tutorials, which take longest, come first"
    found = sorted((root/'nbs').rglob('*.ipynb'), reverse=True)
    return [o for o in found if not any(part[0] in '._' for part in o.relative_to(root).parts)]


def run_notebook(notebook, test_nb, skip_flags):
    "Run `notebook` in this process, which it ends: with status 0 if the notebook passes"
    passed = False
    try:
        passed, seconds = test_nb(notebook, skip_flags=skip_flags, basepath=root)
        if passed: print(f'{notebook.name}: {seconds:.0f} secs')
    except BaseException: traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(not passed)  # to take all modules down takes two seconds, longer than most notebooks run


def run_all(notebooks, workers):
    "Run `notebooks`, `workers` at the same time, showing what each says when it ends; returns those that failed"
    for o in SLOW_IMPORTS: importlib.import_module(o)
    from nbdev.config import get_config
    from nbdev.test import test_nb
    skip_flags = get_config().tst_flags.split()
    gc.freeze()  # the garbage collector of a fork would touch, and so copy, all that it has from here
    waiting, running, failed = list(notebooks), {}, []
    while waiting or running:
        if waiting and len(running) < workers:
            notebook, output = waiting.pop(0), tempfile.TemporaryFile('w+', errors='replace')
            sys.stdout.flush()
            pid = os.fork()
            if not pid:
                os.dup2(output.fileno(), 1)
                os.dup2(output.fileno(), 2)
                run_notebook(notebook, test_nb, skip_flags)
            running[pid] = notebook, output
            continue
        pid, status = os.wait()
        notebook, output = running.pop(pid)
        output.seek(0)
        said = output.read().rstrip()
        output.close()
        if status:
            failed.append(notebook)
            code = os.waitstatus_to_exitcode(status)
            print(f'{said}\nFAILED: {notebook.relative_to(root)}' + (f', ended by signal {-code}' if code < 0 else ''), flush=True)
        else: print(said.rpartition('\n')[2], flush=True)
    return failed


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('notebooks', nargs='*', type=lambda o: Path(o).resolve(), metavar='NOTEBOOK')
    parser.add_argument('--workers', type=int, default=2, help='notebooks that run at the same time')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix='notebooks') as folder:
        os.environ['TMPDIR'] = tempfile.tempdir = folder  # what notebooks write to temporary folders goes with it
        failed = run_all(args.notebooks or all_notebooks(), args.workers)
    if failed: sys.exit('These notebooks failed:\n' + '\n'.join(f'  {o.relative_to(root)}' for o in failed))
