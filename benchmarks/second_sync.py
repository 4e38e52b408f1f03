"""A sync with nothing to do against `git status` on the same tree, whole processes.

    python -m benchmarks.second_sync PATH [--state-dir DIR] [--rounds N]

PATH must be a git work tree. A sync with nothing to do never opens the vector store, so the first one, which is not
timed, records everything and stores no vector: a large tree is ready in minutes. With --state-dir it is done once.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

from benchmarks.measure import median, reposyncd, run
from reposyncd import config
from reposyncd.app import operations
from reposyncd.app.workspace import Workspace
from reposyncd.model import Applied, Batch
from reposyncd.store.memory import MemoryIndex


@contextlib.contextmanager
def _state(given: str | None) -> Iterator[str]:
    if given:
        yield given
        return
    with tempfile.TemporaryDirectory() as place:
        yield place


class _Nowhere(MemoryIndex):
    """Takes everything and keeps nothing."""

    def __init__(self) -> None:
        super().__init__(embed=lambda texts: None)  # type: ignore[arg-type, return-value]

    def apply(self, collection: str, batch: Batch) -> Future[Applied]:
        done: Future[Applied] = Future()
        done.set_result(Applied(0, 0))
        return done


def _record(path: str, state: str) -> None:
    """Records everything of `path` in the manifest, beside a real store that has the records of one small file only."""
    with tempfile.TemporaryDirectory() as small:
        Path(small, "a.txt").write_text("for the store to be one\n")
        run(reposyncd("--state-dir", state, "sync", small))
    with Workspace(config.load(os.environ, state_dir=state), index=_Nowhere()) as workspace:
        operations.sync(workspace, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path")
    parser.add_argument("--state-dir")
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    with _state(arguments.state_dir) as state:
        sync = reposyncd("--state-dir", state, "sync", arguments.path)
        if not (Path(state) / "manifest.db").exists():
            _record(arguments.path, state)
        run(sync)
        pairs = [(run(sync).wall_s, run(["git", "status"], cwd=arguments.path).wall_s) for _ in range(arguments.rounds)]
    ours, gits = (median(times) for times in zip(*pairs, strict=True))
    print(f"{'second sync, s':>16} {'git status, s':>16} {'ratio of medians':>18} {'median of ratios':>18}")
    print(f"{ours:>16.3f} {gits:>16.3f} {ours / gits:>18.2f} {median([a / b for a, b in pairs]):>18.2f}")


if __name__ == "__main__":
    main()
