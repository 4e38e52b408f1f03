"""A sync that dies at a chosen step: `python -m tests.crash.victim ORDER`. See `faults.dying_sync`.

Steps are counted from outside, by wrapping what the commit protocol is made of: the manifest's transactions, the
operations of the index process (sent, and again answered), and what the caller does to directories.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from reposyncd.app import operations
from reposyncd.model import Batch, Progress
from reposyncd.store.manifest.database import Database
from reposyncd.store.process.operations import Operations
from tests.crash.faults import NAME, StoreLab, cut_power

ORDER = json.loads(sys.argv[1])


class Steps:
    """Counts, writes down, and strikes."""

    def __init__(self) -> None:
        self._log = os.open(ORDER["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._passed = 0
        if ORDER["after"] == 0:
            self._strike()

    def say(self, kind: str, what: str) -> None:
        os.write(self._log, f"{kind} {what}\n".encode())

    def passed(self, what: str) -> None:
        self._passed += 1
        self.say("step", what)
        if self._passed == ORDER["after"]:
            self._strike()

    def _strike(self) -> None:
        if ORDER["delay_s"]:
            timer = threading.Timer(ORDER["delay_s"], _die)
            timer.daemon = True  # a sync that is faster survives
            timer.start()
        else:
            _die()


def _die() -> NoReturn:
    if ORDER["cut"]:
        cut_power(Path(ORDER["cut"]))
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


class Answer:
    """A future whose answer is a step."""

    def __init__(self, future: Any, answered: Callable[[], None]) -> None:
        self._future = future
        self._answered: Callable[[], None] | None = answered

    def result(self, *arguments: Any) -> Any:
        value = self._future.result(*arguments)
        answered, self._answered = self._answered, None
        if answered:
            answered()
        return value


def wrap(steps: Steps) -> None:
    """From now on, steps are counted."""
    transaction = Database.transaction

    @contextmanager
    def counted(self: Database) -> Iterator[None]:
        with transaction(self):
            yield
        steps.passed("transaction")

    Database.transaction = counted  # type: ignore[method-assign]

    def wrap_operation(name: str) -> None:
        operation = getattr(Operations, name)

        def replaced(self: Operations, *arguments: Any) -> Any:
            if name == "apply":
                batch: Batch = arguments[1]
                for digest in {chunk.row.digest for chunk in batch.added if chunk.source is None}:
                    steps.say("text", digest)
            outcome = operation(self, *arguments)
            if hasattr(outcome, "result"):
                steps.passed(f"{name} sent")
                return Answer(outcome, lambda: steps.passed(f"{name} answered"))
            steps.passed(f"{name} answered")
            return outcome

        setattr(Operations, name, replaced)

    for name in ("open", "apply", "delete", "drop"):
        wrap_operation(name)

    def wrap_system(name: str) -> None:
        call = getattr(os, name)

        def replaced(*arguments: Any, **options: Any) -> Any:
            value = call(*arguments, **options)
            if arguments and str(arguments[0]).startswith(ORDER["state"]):
                steps.passed(f"{name} {os.path.basename(arguments[0])}")
            return value

        setattr(os, name, replaced)

    for name in ("mkdir", "rename", "replace", "symlink"):
        wrap_system(name)


def main() -> None:
    for path, value in ORDER["constants"].items():
        module, _, constant = path.rpartition(".")
        setattr(importlib.import_module(module), constant, value)
    steps = Steps()
    wrap(steps)
    lab = StoreLab(Path(ORDER["root"]), Path(ORDER["state"]), variables=ORDER["variables"])
    phase = ""

    def on_progress(progress: Progress) -> None:
        nonlocal phase
        if progress.phase != phase:
            phase = progress.phase
            steps.passed(f"phase {phase}")

    with lab.workspace() as workspace:
        result = operations.sync(workspace, str(lab.root), NAME, on_progress=on_progress)
    print(json.dumps(result.to_dict()))


if __name__ == "__main__":
    main()
