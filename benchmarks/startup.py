#!/usr/bin/env python
"""Time and memory to load data sets from the cache of `ucr_tasks`, and to make loaders of them.

    python benchmarks/startup.py --archive UCRArchive_2018 --n 128 --repeats 3

Where the archive's folder has fewer than `--n` data sets, they are loaded again under other names. The cache is a temporary
folder, filled first. Each run is a process of its own; memory is the peak of anonymous memory, less what the process had
before, over the size of the series.
"""
import argparse, json, statistics, subprocess, sys, tempfile, time, warnings
from pathlib import Path

from memory import Peak

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument('--archive', required=True, help='folder of the UCR archive')
parser.add_argument('--n', type=int, default=128, help='data sets to load')
parser.add_argument('--repeats', type=int, default=3)
parser.add_argument('--run', help=argparse.SUPPRESS)


def link(archive, folder, n):
    "Fill `folder` with links to the archive's data sets, under as many names as are wanted"
    sets = sorted(o for o in archive.iterdir() if o.is_dir())
    for i in range(n):
        source,name = sets[i%len(sets)],f'{sets[i%len(sets)].name}{i//len(sets) or ""}'
        (folder/name).mkdir(parents=True)
        for o in source.glob(f'{source.name}_T*'): (folder/name/o.name.replace(source.name, name, 1)).symlink_to(o.resolve())


def run(folder):
    "Load from the cache, then make loaders; what was measured"
    from tsai_mtcs.archive import ucr_tasks
    from tsai_mtcs.data import MultiTaskDataLoaders
    names,found = sorted(o.name for o in (folder/'archive').iterdir()),{}
    with Peak() as peak:
        start = time.perf_counter()
        tasks = ucr_tasks(names, folder/'archive', cache=folder/'cache')
        found['load, s'] = time.perf_counter()-start
        loaded,start = peak.most,time.perf_counter()
        MultiTaskDataLoaders.from_tasks(tasks, device='cpu')
        found['loaders, s'] = time.perf_counter()-start
    size = sum(o.X.nbytes for o in tasks)
    return {**found, 'series, MB': size/1e6, 'memory over their size, loading': (loaded-peak.before)/size,
            'memory over their size, loaders too': (peak.most-peak.before)/size}


if __name__ == '__main__':
    args = parser.parse_args()
    warnings.simplefilter('ignore')
    if args.run: sys.exit(print(json.dumps(run(Path(args.run)))))
    with tempfile.TemporaryDirectory() as folder:
        link(Path(args.archive), Path(folder)/'archive', args.n)
        child = lambda: json.loads(subprocess.check_output([sys.executable, *sys.argv, '--run', folder], text=True).splitlines()[-1])
        print(f'{args.n} data sets; {child()["load, s"]:.1f} s to fill the cache')
        runs = [child() for _ in range(args.repeats)]
    for what in runs[0]:
        values = [o[what] for o in runs]
        print(f'{what:36} {statistics.median(values):8.2f} ({min(values):.2f} to {max(values):.2f})')
