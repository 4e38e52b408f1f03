"""What the commit protocol costs in a first index: the very same sync with it, and without.

    python -m benchmarks.protocol_cost [PATH] [--rounds N]

Without it, the manifest is written with synchronous=OFF, and no intent is recorded before a batch or dropped after it:
one transaction a batch, that waits for no disk. What is recorded of files and chunks is the same. Both have the real
index process and the default model. Timed is a whole sync in this process, the start of the index process included,
until all is committed; the checkpoint is left out. Each round has both, in turns first.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from benchmarks.measure import median
from reposyncd import config
from reposyncd.app import operations
from reposyncd.app.workspace import Workspace
from reposyncd.model import Progress
from reposyncd.store.manifest.database import Database
from reposyncd.store.manifest.manifest import Manifest


@dataclass(slots=True)
class Sync:
    """seconds; `transactions` are all of the manifest's, `commits` the ends of them, in which it waits for the disk."""

    wall_s: float = 0.0
    processor_s: float = 0.0
    """of this process alone, without the index process"""
    transactions_s: float = 0.0
    commits_s: float = 0.0
    transactions: int = 0
    chunks: int = 0


def _timed(sync: Sync) -> AbstractContextManager[object]:
    """Counts and times what the manifest does inside transactions."""
    original, run = Database.transaction, Database.run

    @contextlib.contextmanager
    def transaction(self: Database) -> Iterator[None]:
        started = time.perf_counter()
        try:
            with original(self):
                yield
        finally:
            sync.transactions_s += time.perf_counter() - started
            sync.transactions += 1

    def timed_run(self: Database, sql: str, parameters: tuple[object, ...] = ()) -> int:
        if sql != "COMMIT":
            return run(self, sql, parameters)
        started = time.perf_counter()
        try:
            return run(self, sql, parameters)
        finally:
            sync.commits_s += time.perf_counter() - started

    return patch.multiple(Database, transaction=transaction, run=timed_run)


def _without_protocol() -> AbstractContextManager[object]:
    """No intents, and no waiting for the disk."""
    opened = Database.__init__

    def open_(self: Database, path: str) -> None:
        opened(self, path)
        self.row("PRAGMA synchronous = OFF")

    stack = contextlib.ExitStack()
    stack.enter_context(patch.object(Database, "__init__", open_))
    stack.enter_context(patch.object(Manifest, "begin", lambda self, added, relabelled: None))
    stack.enter_context(patch.object(Manifest, "_drop_intents", lambda self, ids: None))
    return stack


def _sync(path: str, protocol: bool) -> Sync:
    sync = Sync()
    ended: list[tuple[float, float]] = []

    def on_progress(progress: Progress) -> None:
        if progress.phase == "checkpoint":
            ended.append((time.perf_counter(), time.process_time()))

    with tempfile.TemporaryDirectory() as state, contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.nullcontext() if protocol else _without_protocol())
        stack.enter_context(_timed(sync))
        started = time.perf_counter(), time.process_time()
        with Workspace(config.load(os.environ, state_dir=state)) as workspace:
            # Only the checkpoint is stopped: the sync has ended when it is told of.
            result = operations.sync(workspace, path, on_progress=on_progress, should_stop=lambda: bool(ended))
            ended.append((time.perf_counter(), time.process_time()))
        sync.wall_s, sync.processor_s = (end - start for start, end in zip(started, ended[0], strict=True))
        sync.chunks = result.chunks.total
    return sync


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", nargs="?", default=str(Path(__file__).parent.parent))
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    _sync(str(Path(__file__).parent), True)  # imports, and what the system caches
    rounds: list[tuple[Sync, Sync]] = []
    for number in range(arguments.rounds):
        both = {protocol: _sync(arguments.path, protocol) for protocol in (number % 2 == 0, number % 2 == 1)}
        rounds.append((both[True], both[False]))
        print(f"  with {both[True].wall_s:6.2f} s   without {both[False].wall_s:6.2f} s", file=sys.stderr)
    ratios = [ours.wall_s / bare.wall_s for ours, bare in rounds]
    print(f"{'chunks':>8} {'with / without':>16} {'of medians':>12}   of each round")
    of_medians = median([ours.wall_s for ours, _ in rounds]) / median([bare.wall_s for _, bare in rounds])
    each = " ".join(f"{ratio:.3f}" for ratio in ratios)
    print(f"{rounds[0][0].chunks:>8} {median(ratios):>16.3f} {of_medians:>12.3f}   {each}")
    head = ("", "sync, s", "processor, s", "transactions", "in them, s", "of the sync", "in COMMIT, s")
    print(("\n{:>8}" + " {:>14}" * 6).format(*head))
    for name, syncs in zip(("with", "without"), zip(*rounds, strict=True), strict=True):
        wall, inside = median([sync.wall_s for sync in syncs]), median([sync.transactions_s for sync in syncs])
        print(
            f"{name:>8} {wall:>14.2f} {median([sync.processor_s for sync in syncs]):>14.2f}"
            f" {syncs[0].transactions:>14} {inside:>14.3f} {inside / wall:>13.1%}"
            f"  {median([sync.commits_s for sync in syncs]):>13.3f}"
        )


if __name__ == "__main__":
    main()
