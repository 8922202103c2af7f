"Memory of this process, sampled while something runs."
import threading
from pathlib import Path


def anonymous():
    "Bytes of anonymous memory: what the process allocated, which the kernel can't drop as it can pages of a file"
    line = next(o for o in Path('/proc/self/status').read_text().splitlines() if o.startswith('RssAnon'))
    return int(line.split()[1])*1024


class Peak:
    "The most anonymous memory within a `with` block, looked at every `every` seconds"
    def __init__(self, every=.005): self.every,self.done = every,threading.Event()
    def __enter__(self):
        self.before = self.most = anonymous()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()
        return self

    def watch(self):
        while not self.done.wait(self.every): self.most = max(self.most, anonymous())

    def __exit__(self, *args):
        self.done.set()
        self.thread.join()
        self.most = max(self.most, anonymous())
