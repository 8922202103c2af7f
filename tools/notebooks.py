"""Run notebooks as tests: `python tools/notebooks.py [NOTEBOOK ...] [--workers N]`, without names all that are in nbs.

Each has a process of its own, so that what one patches can't change the next, and several run at the same time.
Importing the library takes longer than most notebooks: it is done once, and the processes are forked from there.
"""
import argparse, os, sys, tempfile
from pathlib import Path

root = Path(__file__).resolve().parents[1]


def all_notebooks():
    "Every notebook in nbs, but those in hidden folders or in folders such as _docs"
    found = sorted((root/'nbs').rglob('*.ipynb'))
    return [o for o in found if not any(part[0] in '._' for part in o.relative_to(root).parts)]


def run_notebook(notebook, test_nb, skip_flags):
    "Run `notebook` in this process, which it ends: with status 0 if the notebook passes"
    passed, seconds = test_nb(notebook, skip_flags=skip_flags, basepath=root)
    if passed: print(f'{notebook.name}: {seconds:.0f} secs')
    sys.exit(not passed)


def run_all(notebooks, workers):
    "Run `notebooks`, `workers` at the same time, showing what each says when it ends; returns those that failed"
    import nbdev.config, tsai_mtcs.all  # noqa: F401
    from nbdev.test import test_nb
    skip_flags = nbdev.config.get_config().tst_flags.split()
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
    failed = run_all(args.notebooks or all_notebooks(), args.workers)
    if failed: sys.exit('These notebooks failed:\n' + '\n'.join(f'  {o.relative_to(root)}' for o in failed))
