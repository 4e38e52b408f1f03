"""What the tests beside this file break things with: a sync that kills itself, disks that fail, locks that are held.

Nothing here needs a hook in the program: the sync that dies is wrapped from outside (`tests.crash.victim`), the rest
is done to files, mounts and processes.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from reposyncd.app import operations
from reposyncd.app.workspace import Workspace
from reposyncd.model import Progress, Record, SyncResult
from reposyncd.ports import RunningIndex
from reposyncd.store.process.supervisor import IndexProcess
from tests.support import Lab, config_for, later_ns, until

PROJECT = Path(__file__).parents[2]
"""Where `tests` can be imported from."""

NAME = "lab"

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system needs root")

EXT4_IOC_SHUTDOWN = 0x8004587D
WITHOUT_FLUSHING_THE_JOURNAL = (2).to_bytes(4, sys.byteorder)

NO_CONSTANTS: Mapping[str, int] = {}

SMALL_BATCHES = {"reposyncd.sync.pipeline.BATCH_CHUNKS": 100}
"""So that a small tree takes many."""

HANGS_S = 300
"""When a program that a test has started counts as hung; nothing is measured by it."""


def number_from(variable: str, default: int) -> int:
    """How often, from the environment."""
    return int(os.environ.get(variable, default))


def seeded() -> random.Random:
    """Moments differ from run to run; REPOSYNCD_TEST_SEED brings those of one run back, as far as they are ours."""
    seed = os.environ.get("REPOSYNCD_TEST_SEED") or os.urandom(4).hex()
    print(f"REPOSYNCD_TEST_SEED={seed}")
    return random.Random(seed)


# The lab ------------------------------------------------------------------------------------------------


@dataclass
class StoreLab(Lab):
    """A lab whose index is Chroma in its own process; each workspace has one of its own."""

    def workspace(self, index: RunningIndex | None = None) -> Workspace:
        return Workspace(
            config_for(self.state, **self.variables), {"HOME": "/nonexistent"}, index=index, now_ns=later_ns
        )

    def sync_watched(self, on_progress: Callable[[IndexProcess, Progress], None]) -> SyncResult:
        """A sync during which `on_progress`, called often, may do what it likes to the index process."""
        with self.workspace() as workspace:
            index = workspace.index
            assert isinstance(index, IndexProcess)
            return operations.sync(
                workspace, str(self.root), NAME, on_progress=lambda progress: on_progress(index, progress)
            )

    def records(self) -> dict[str, Record]:
        with self.workspace() as workspace:
            return _records(workspace)

    def mend(self, *, full: bool = False) -> SyncResult:
        """One sync, and the oracle on what the same index process says then."""
        with self.workspace() as workspace:
            result = operations.sync(workspace, str(self.root), NAME, full=full)
            found = _Found(self.root, self.state, variables=self.variables, found=_records(workspace))
        assert not result.errors
        found.assert_equals_an_index_built_from_scratch()
        return result

    def committed(self) -> set[str]:
        """Digests of the texts that are on record as stored; no store is opened for that."""
        with self.workspace() as workspace:
            return {
                row.digest
                for repo in workspace.catalog.repos()
                for generation in workspace.catalog.generations(repo)
                for row in workspace.manifest(generation).all_chunks()
            }

    def environ(self) -> dict[str, str]:
        """For the program, run as a process of its own on this state."""
        return {
            **os.environ,
            "REPOSYNCD_STATE_DIR": str(self.state),
            "REPOSYNCD_EMBEDDING__MODEL": "hashing",
            **self.variables,
        }

    def start(self, *arguments: str, before: Sequence[str] = ()) -> subprocess.Popen[str]:
        """`reposyncd ARGUMENTS` as a process; `before` runs it."""
        return subprocess.Popen(
            [*before, sys.executable, "-m", "reposyncd", *arguments],
            env=self.environ(),
            cwd=self.state.parent,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, before: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        """`reposyncd ARGUMENTS`, to its end."""
        process = self.start(*arguments, before=before)
        try:
            out, err = process.communicate(timeout=HANGS_S)
        finally:
            end(process)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def sync_command(self) -> tuple[str, ...]:
        return ("sync", str(self.root), "--name", NAME, "--json")


@dataclass
class _Found(Lab):
    """The lab of records that were read already."""

    found: dict[str, Record] = field(default_factory=dict)

    def records(self) -> dict[str, Record]:
        return self.found


def _records(workspace: Workspace) -> dict[str, Record]:
    [repo] = workspace.catalog.repos()
    [serving] = [each for each in workspace.catalog.generations(repo) if each.state == "serving"]
    return {record.id: record for record in workspace.index.records(serving.collection)}


def end(process: subprocess.Popen[Any]) -> None:
    """Kills a process that a test has started, if it still runs, and waits until it is gone."""
    if process.poll() is None:
        process.kill()
    process.communicate()


def set_constants(monkeypatch: pytest.MonkeyPatch, constants: Mapping[str, int]) -> None:
    """For a sync in this process."""
    for path, value in constants.items():
        monkeypatch.setattr(path, value)


def children(pid: int) -> list[int]:
    """The processes that a process has started, whichever of its threads did; none if it is gone."""
    found: list[int] = []
    with suppress(FileNotFoundError, ProcessLookupError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with suppress(FileNotFoundError, ProcessLookupError):
                found += [int(each) for each in (thread / "children").read_text().split()]
    return found


def is_gone(pid: int) -> bool:
    """Whether the process has ended; whoever inherited it may not have asked for its exit code yet."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state in "ZX"


def wait_until(condition: Callable[[], bool]) -> None:
    """Returns when the condition holds; it is asked again and again, as often as others leave the processor."""
    while not condition():
        os.sched_yield()


# A sync that dies ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Report:
    """What is known of a sync that was to die."""

    died: bool
    steps: tuple[str, ...]
    """of the commit protocol, as far as it came"""
    sent: frozenset[str]
    """digests of texts that were sent to be embedded"""
    result: Mapping[str, Any]
    """the SyncResult if it did not die"""


def dying_sync(
    lab: StoreLab,
    *,
    after: int | None = None,
    delay_s: float = 0,
    cut: Path | None = None,
    constants: Mapping[str, int] = NO_CONSTANTS,
) -> Report:
    """A sync in a process of its own that dies `delay_s` seconds after that many steps; it survives if it is faster.

    It kills itself with SIGKILL; with `cut`, the file system of that directory loses its power just before. Module
    constants are set first: {"reposyncd.sync.pipeline.BATCH_CHUNKS": 6}. The index process is left to end by itself.
    """
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory) / "log"
        order = {
            "root": str(lab.root),
            "state": str(lab.state),
            "variables": lab.variables,
            "log": str(log),
            "after": after,
            "delay_s": delay_s,
            "cut": None if cut is None else str(cut),
            "constants": dict(constants),
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.victim", json.dumps(order)],
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            out, err = process.communicate(timeout=HANGS_S)
        finally:
            end(process)
        said = [line.partition(" ")[::2] for line in log.read_text().splitlines()] if log.exists() else []
    # After a power cut, what the victim does until it is dead may fail.
    assert process.returncode in (0, -signal.SIGKILL) or cut, err
    return Report(
        died=process.returncode != 0,
        steps=tuple(what for kind, what in said if kind == "step"),
        sent=frozenset(what for kind, what in said if kind == "text"),
        result=json.loads(out) if process.returncode == 0 else {},
    )


# Disks --------------------------------------------------------------------------------------------------


def sh(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def functions(*names: str) -> str:
    """A module in which each function is a chunk or two."""
    return "\n".join(
        f"def {name}(argument):\n" + "".join(f"    step_{n} = {name}.{n} + argument\n" for n in range(40))
        for name in names
    )


def many_files(n: int) -> dict[str, str | bytes | None]:
    """About two chunks each."""
    return {f"d{i % 7}/{i}.py": functions(f"f{i}", f"g{i}") for i in range(n)}


@contextmanager
def mounted(place: Path, *arguments: str) -> Iterator[Path]:
    """A file system mounted for the time of the block."""
    place.mkdir(exist_ok=True)
    sh("mount", *arguments, str(place))
    try:
        yield place
    finally:
        sh("umount", "--lazy", str(place))


def remount(place: Path, options: str) -> None:
    sh("mount", "-o", f"remount,{options}", str(place))


class Ext4:
    """An ext4 file system in a file, mounted through a loop device."""

    def __init__(self, image: Path, place: Path, size: str) -> None:
        self._image = image
        self.place = place
        place.mkdir()
        sh("truncate", "--size", size, str(image))
        sh("mkfs.ext4", "-q", "-F", str(image))
        self.mount()

    def mount(self) -> None:
        # Mounting with -o loop lets the loop device go by itself when the file system is unmounted.
        sh("mount", "-o", "loop", str(self._image), str(self.place))

    def cut(self) -> None:
        cut_power(self.place)

    def power_up(self) -> None:
        """After a cut: everybody who has files open on it dies, and it is mounted anew."""
        wait_until(self._unmounted)
        self.mount()

    def _unmounted(self) -> bool:
        """Who is being started or ended at this moment may still be in the way."""
        self.end_users()
        return subprocess.run(["umount", str(self.place)], capture_output=True).returncode == 0

    def end_users(self) -> None:
        """Ends the processes that work in it: those of an index that a cut left behind."""
        for pid in _users(self.place):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def close(self) -> None:
        self.end_users()
        sh("umount", "--lazy", str(self.place))
        self._image.unlink()


def cut_power(place: Path) -> None:
    """What is not on the disk of this file system now never will be."""
    directory = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.ioctl(directory, EXT4_IOC_SHUTDOWN, WITHOUT_FLUSHING_THE_JOURNAL)
    finally:
        os.close(directory)


def _users(place: Path) -> list[int]:
    """Processes, this one apart, that have their working directory or an open file in the place."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with suppress(OSError):
            links = [entry / "cwd", *(entry / "fd").iterdir()]
            if any(_leads_into(link, place) for link in links):
                found.append(int(entry.name))
    return found


def _leads_into(link: Path, place: Path) -> bool:
    with suppress(OSError):
        return Path(os.readlink(link)).is_relative_to(place)
    return False


# Other programs -----------------------------------------------------------------------------------------

_HOLD = {
    "flock": """
import fcntl, sys
file = open(sys.argv[1], "a")
fcntl.flock(file, fcntl.LOCK_EX)
""",
    "sqlite": """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
""",
    "sqlite-journal": """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size = 1")  # pages are written before the transaction ends
connection.execute("BEGIN IMMEDIATE")
connection.execute("CREATE TABLE spill AS SELECT * FROM embedding_metadata")
connection.execute("DELETE FROM embeddings")
""",
}


_FOR_EVER_US = 900_000_000
"""A quarter of an hour."""


@contextmanager
def hung(thread: int, calls: str) -> Iterator[None]:
    """These system calls take for ever in this one thread while the context lasts: such as Python makes without its
    lock, which would stop every thread. It hangs in one of them already when the context begins. As root, of any
    process that this machine's kernel runs."""
    tracer = subprocess.Popen(
        ["strace", "-o", "/dev/null", "-e", f"inject={calls}:delay_enter={_FOR_EVER_US}", "-p", str(thread)],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert tracer.stderr
        said = tracer.stderr.readline()
        assert "attached" in said, said
        stopped = [False]

        def hangs() -> bool:
            """It is stopped for longer than the tracer takes to look at a call."""
            stopped.append("State:\tt" in Path(f"/proc/{thread}/status").read_text())
            return all(stopped[-5:])

        until(hangs, "it hangs")
        yield
    finally:
        tracer.terminate()
        tracer.communicate()


class Holder:
    """Another program that holds a lock until it is released, or killed."""

    def __init__(self, kind: str, path: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _HOLD[kind] + "print('held', flush=True)\nsys.stdin.read()\n", str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout
        assert self._process.stdout.readline() == "held\n"

    def release(self) -> None:
        """Returns when the lock is free. Again and again, if need be."""
        self._process.communicate()

    def kill(self) -> None:
        end(self._process)

    def __enter__(self) -> Holder:
        return self

    def __exit__(self, *_: object) -> None:
        end(self._process)


def fingerprint(directory: Path) -> dict[str, bytes]:
    """Every file of a directory with its content, the lock file apart."""
    directory = directory.resolve()
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != ".chroma.lock"
    }


def copy_state(source: Path, target: Path) -> None:
    """A state directory as it was, in place of what is there."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, symlinks=True)
