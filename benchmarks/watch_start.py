"""Watching a large tree for the first time, against watchdog's own recursive watch of it.

    python -m benchmarks.watch_start PATH [--ignored 100000] [--rounds 3]

PATH is copied with hard links (its files are only read), and gets a directory of so many directories that its
.gitignore names. Every number is from a process of its own: time from before the first watch until all are there, and
memory as growth of the resident size over it, after all imports. "ours" lists the tree and watches each directory
before that is listed, as the daemon does; "scan alone" is the same without watches, since a daemon has to look at the
tree in any case. "watchdog" is `Observer().schedule(..., recursive=True)` and its start. Watches are counted by the
kernel (/proc/self/fdinfo); where the limit is reached the count says how far it went.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from benchmarks.measure import median

_LIMIT = Path("/proc/sys/fs/inotify/max_user_watches")
_IGNORED = "ignored"
_IN_ONE = 1000
"""Directories in each directory of the ignored one."""

_COMMON = """
import gc, json, os, sys, time
from reposyncd.daemon.resources import return_memory
root, cookies = sys.argv[1:]
def resident(): return next(int(l.split()[1]) * 1024 for l in open("/proc/self/status") if l.startswith("VmRSS"))
def watches():
    found = 0
    for name in os.listdir("/proc/self/fdinfo"):
        try:
            found += open("/proc/self/fdinfo/" + name).read().count("inotify wd:")
        except OSError:
            pass
    return found
def tell(started, before):
    seconds = time.perf_counter() - started
    return_memory()
    print(json.dumps([seconds, resident() - before, watches()]))
"""

_OURS = (
    _COMMON
    + """
from reposyncd.daemon.engine.watching import Watching
from reposyncd.model import WHOLE, RootIdentity
from reposyncd.store.manifest.catalog import Repo
from reposyncd.tree.ignore import IgnoreRules
from reposyncd.tree.scan import scan
def look(observer):
    rules = IgnoreRules.for_root(root, (), os.environ)
    return scan(root, rules, {}, now_ns=time.time_ns(), max_file_size=1048576, observer=observer)
def unexpected(*what): print("unexpected:", *what, file=sys.stderr)
before, started = resident(), time.perf_counter()
if cookies != "-":
    watching = Watching(os.path.dirname(cookies), on_hint=lambda *hint: None, on_lost=unexpected, on_death=unexpected)
    watching.ensure()
    watching.scan(Repo(1, "tree", root, RootIdentity(0, 0)), WHOLE, look)
else:
    look(None)
ended = time.perf_counter()
gc.collect()
tell(started + (time.perf_counter() - ended), before)
os._exit(0)
"""
)

_WATCHDOG = (
    _COMMON
    + """
from watchdog.events import FileSystemEventHandler
from watchdog.observers import Observer
before, started = resident(), time.perf_counter()
observer = Observer()
try:
    observer.schedule(FileSystemEventHandler(), root, recursive=True)
    observer.start()
except OSError as error:
    print(error, file=sys.stderr)
ended = time.perf_counter()
gc.collect()
tell(started + (time.perf_counter() - ended), before)
sys.stdout.flush()
os._exit(0)
"""
)


class _Cost(NamedTuple):
    seconds: float
    bytes: float
    watches: int


def _run(script: str, root: str, cookies: str) -> _Cost:
    command = [sys.executable, "-c", script, root, cookies]
    # Memory is what is in use: all of them run with the daemon's allocator, and give back what they can.
    env = {**os.environ, "PYTHONMALLOC": "malloc", "MALLOC_ARENA_MAX": "2"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=env)
    return _Cost(*json.loads(done.stdout.strip().splitlines()[-1]))


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:  # another file system
        shutil.copy2(source, target, follow_symlinks=False)


def _build(path: str, root: Path, ignored: int) -> None:
    shutil.copytree(path, root, symlinks=True, copy_function=_link)
    rules = root / ".gitignore"
    before = rules.read_text() if rules.exists() else ""
    rules.unlink(missing_ok=True)  # it is a name of the original
    rules.write_text(f"{before}\n/{_IGNORED}/\n")
    made = 0
    while made < ignored:
        outer = root / _IGNORED / f"d{made}"
        outer.mkdir(parents=True)
        made += 1
        for number in range(min(_IN_ONE, ignored - made)):
            (outer / f"d{number}").mkdir()
            made += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path")
    parser.add_argument("--ignored", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        root, cookies = Path(place) / "tree", str(Path(place) / "cookies")
        _build(arguments.path, root, arguments.ignored)
        directories = sum(1 for _ in os.walk(root)) - 1
        print(f"{directories:,} directories, {_LIMIT.name} is {int(_LIMIT.read_text()):,}", flush=True)
        costs: dict[str, list[_Cost]] = {"ours": [], "scan alone": [], "watchdog": []}
        for _ in range(arguments.rounds):
            costs["scan alone"].append(_run(_OURS, str(root), "-"))
            costs["ours"].append(_run(_OURS, str(root), cookies))
            costs["watchdog"].append(_run(_WATCHDOG, str(root), "-"))
    print(f"{'':>12} {'time, s':>8} {'memory, MB':>11} {'watches':>9}   medians of {arguments.rounds}")
    middle = {}
    for what, found in costs.items():
        cost = middle[what] = _Cost(*(median(values) for values in zip(*found, strict=True)))  # type: ignore[arg-type]
        print(f"{what:>12} {cost.seconds:>8.2f} {cost.bytes / 1e6:>11.1f} {int(cost.watches):>9,}")
    ours, theirs = middle["ours"], middle["watchdog"]
    ratios = [their / our for our, their in zip(ours, theirs, strict=True)]
    print(f"watchdog / ours: time {ratios[0]:.1f}, memory {ratios[1]:.1f}, watches {ratios[2]:.1f}")


if __name__ == "__main__":
    main()
