"""A `git checkout` of a version a year away, and back, under a daemon: against the first index of the same tree.

    python -m benchmarks.checkout PATH [--here REVISION] [--there REVISION]

PATH is a git repository, and is cloned; by default the revisions are its HEAD and what that was a year before. The
first index is timed from the request to the answer, the index process's start included, and so is a `flush` from the
end of each checkout. Each answer means that every change of before is in the index. "embedded" is texts that became
vectors: what every commit of the daemon says that its batch has embedded, added up by a few lines around the daemon's
own (its status tells it of looks at the whole tree only, and a checkout need not be one). After each checkout the
records, ids and metadata, of a copy of the state are compared with those of an index made from scratch in another
state directory. The index process runs already when a checkout begins.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path

from benchmarks.daemon import Daemon
from benchmarks.measure import reposyncd, run
from reposyncd import config
from reposyncd.app.workspace import Workspace

_YEAR = timedelta(days=365)

_COUNTED = """
import os, sys
from reposyncd.sync.pipeline import Pipeline
commit, place = Pipeline._commit, sys.argv.pop(1)
def counted(self, *arguments):
    before = self.totals.embedded
    commit(self, *arguments)
    with open(place, "a") as file:
        print(self.totals.embedded - before, file=file)
Pipeline._commit = counted
from reposyncd.cli import main
main()
"""


def _git(root: str, *arguments: str) -> str:
    return subprocess.run(["git", "-C", root, *arguments], check=True, capture_output=True, text=True).stdout.strip()


def _a_year_before(root: str, revision: str) -> str:
    date = datetime.fromisoformat(_git(root, "log", "-1", "--format=%cI", revision)) - _YEAR
    then = _git(root, "log", "-1", "--format=%H", f"--before={date.isoformat()}", revision)
    if not then:
        raise SystemExit(f"the history of {root} does not go back for a year; name a revision with --there")
    return then


def _records(state: str) -> Mapping[str, int]:
    """The ids that are stored, each with a digest of its metadata. Nobody else has the state open."""
    with Workspace(config.load(os.environ, state_dir=state)) as workspace:
        [repo] = workspace.catalog.repos()
        [generation] = workspace.catalog.generations(repo)
        return workspace.index.labels(generation.collection)


def _embedded(counts: Path) -> int:
    """Texts that were embedded up to now."""
    return sum(map(int, counts.read_text().split()))


def _compare(state: str, root: str) -> str:
    """`state` must not change meanwhile."""
    with tempfile.TemporaryDirectory() as place:
        copy, fresh = str(Path(place) / "copy"), str(Path(place) / "fresh")
        shutil.copytree(state, copy, symlinks=True)
        run(reposyncd("--state-dir", fresh, "sync", root))
        ours, theirs = _records(copy), _records(fresh)
    differ = sum(ours[id] != theirs[id] for id in ours.keys() & theirs.keys())
    return (
        f"{'equal' if ours == theirs else 'NOT EQUAL'} to an index from scratch: {len(ours):,} and {len(theirs):,} "
        f"records, {len(ours.keys() ^ theirs.keys())} in one only, {differ} with other metadata"
    )


def _measure(root: str, here: str, there: str, place: str) -> None:
    counts = Path(place) / "embedded"
    counts.touch()
    first_s = first = 0.0
    print(
        f"{'':>10} {'git, s':>8} {'current, s':>11} {'of first':>9} {'embedded':>9} {'of first':>9} {'files':>7}"
        f" {'chunks':>8}",
        flush=True,
    )
    with Daemon(place, program=("-c", _COUNTED, str(counts))) as daemon:
        for to, revision in (("first", None), ("there", there), ("back", here)):
            before, began = _embedded(counts), time.perf_counter()
            if revision:
                _git(root, "checkout", "--quiet", revision)
            changed = time.perf_counter()
            if revision:
                daemon.flush()
            else:
                daemon.index(root)
            current_s, embedded = time.perf_counter() - changed, _embedded(counts) - before
            first_s, first = first_s or current_s, first or embedded
            repo = daemon.repo()
            print(
                f"{to:>10} {changed - began:>8.2f} {current_s:>11.2f} {current_s / first_s:>9.2f} {embedded:>9,}"
                f" {embedded / first:>9.2f} {repo['files']:>7,} {repo['chunks']:>8,}",
                flush=True,
            )
            daemon.settle()
            if revision:
                print(f"{'':>10} {_compare(daemon.state, root)}", flush=True)
        print(daemon.log())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path")
    parser.add_argument("--here", default="HEAD")
    parser.add_argument("--there", help="by default what --here was a year before")
    arguments = parser.parse_args()
    here = _git(arguments.path, "rev-parse", arguments.here)
    there = _git(arguments.path, "rev-parse", arguments.there or _a_year_before(arguments.path, here))
    with tempfile.TemporaryDirectory() as place:
        root = str(Path(place) / "tree")
        subprocess.run(["git", "clone", "--quiet", "--no-checkout", arguments.path, root], check=True)
        _git(root, "checkout", "--quiet", "--detach", here)
        for revision in (here, there):
            print(_git(root, "log", "-1", "--format=%h %cs %s", revision))
        print(f"{len(_git(root, 'diff', '--name-only', here, there).splitlines()):,} files differ")
        _measure(root, here, there, place)


if __name__ == "__main__":
    main()
