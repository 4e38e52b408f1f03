"""A `git checkout` of a version a year away, and back, under a daemon: against the first index of the same tree.

    python -m benchmarks.checkout PATH [--here REVISION] [--there REVISION]

PATH is a git repository, and is cloned; by default the revisions are its HEAD and what that was a year before. The
first index is timed from the request to the answer, the index process's start included, and so is a `flush` from the
end of each checkout. Each answer means that every change of before is in the index. "embedded" is texts that became
vectors: what every commit of the daemon says that its batch has embedded, added up by a few lines around the daemon's
own (its status tells it of looks at the whole tree only, and a checkout need not be one). "changed" is files that
differ between the revisions. At either end the records, ids and metadata, are compared with those of an index made
from scratch in another state directory.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks.daemon import Daemon
from benchmarks.measure import reposyncd, run
from reposyncd import config
from reposyncd.assemble import Workspace

_YEAR = "1 year"

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
    date = _git(root, "log", "-1", "--format=%cI", revision)
    then = _git(root, "log", "-1", "--format=%H", f"--before={date} - {_YEAR}", revision)
    if not then:
        raise SystemExit(f"the history of {root} does not go back for {_YEAR}; name a revision with --there")
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


def _compare(state: str, root: str, where: str) -> None:
    with tempfile.TemporaryDirectory() as fresh:
        run(reposyncd("--state-dir", fresh, "sync", root))
        ours, theirs = _records(state), _records(fresh)
    verdict = "equal" if ours == theirs else "NOT EQUAL"
    differ = sum(ours[id] != theirs[id] for id in ours.keys() & theirs.keys())
    print(
        f"{where}: {verdict} to an index from scratch: {len(ours):,} and {len(theirs):,} records, "
        f"{len(ours.keys() ^ theirs.keys())} in one only, {differ} with other metadata",
        flush=True,
    )


def _measure(root: str, revisions: tuple[str, str], place: str) -> None:
    here, there = revisions
    counts = Path(place) / "embedded"
    counts.touch()
    changed = len(_git(root, "diff", "--name-only", here, there).splitlines())
    state = ""
    first_s = first = 0.0
    print(
        f"{'':>10} {'git, s':>8} {'current, s':>11} {'of first':>9} {'embedded':>9} {'of first':>9}"
        f" {'changed':>8} {'files':>7} {'chunks':>8}",
        flush=True,
    )
    for to in ("first", "there", "back"):
        with Daemon(place, program=("-c", _COUNTED, str(counts))) as daemon:
            state = daemon.state
            if to != "first":
                daemon.settle()
            before = _embedded(counts)
            started = time.perf_counter()
            git_s = 0.0
            if to == "first":
                daemon.index(root)
            else:
                _git(root, "checkout", "--quiet", there if to == "there" else here)
                git_s = time.perf_counter() - started
                daemon.flush()
            current_s = time.perf_counter() - started - git_s
            embedded = _embedded(counts) - before
            if to == "first":
                first_s, first = current_s, embedded
            repo = daemon.repo()
            print(
                f"{to:>10} {git_s:>8.2f} {current_s:>11.2f} {current_s / first_s:>9.2f} {embedded:>9,}"
                f" {embedded / first:>9.2f} {0 if to == 'first' else changed:>8,} {repo['files']:>7,}"
                f" {repo['chunks']:>8,}",
                flush=True,
            )
            daemon.settle()
        if to != "first":
            _compare(state, root, to)


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
        _measure(root, (here, there), place)


if __name__ == "__main__":
    main()
