"""The index process lives and dies; its caller does not."""

from __future__ import annotations

import errno
import os
import select
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from reposyncd.embedding import EmbedderSpec
from reposyncd.errors import (
    EmbedderLostError,
    InterruptedSyncError,
    LethalOperationError,
    LethalTextError,
    PermanentStoreError,
    StoreError,
    TransientStoreError,
)
from reposyncd.model import Batch, ChunkRow, NewChunk, Waiting
from reposyncd.ports import Deferred
from reposyncd.store.kinds import NO_STORE
from reposyncd.store.process.supervisor import IndexProcess
from reposyncd.store.process.worker import portable
from tests.crash.faults import PROJECT, children
from tests.support import index_process
from tests.unit.store.other_program import HOLDS_FLOCK, other_program

HASHING = EmbedderSpec("hashing")


def make(state: Path, deadline_s: float = 120) -> IndexProcess:
    return index_process(state, lock_timeout_s=0.3, deadline_s=deadline_s)


@pytest.fixture
def process(tmp_path: Path) -> Iterator[IndexProcess]:
    process = make(tmp_path)
    process.open("c-1", {"reposyncd_repo": "r"})
    yield process
    process.close()


def batch(n: int, size: int = 300) -> Batch:
    rows = [ChunkRow(f"{n:016x}{i:016x}", f"f{n}", i + 1, i + 1, "", "text", "0" * 32) for i in range(size)]
    return Batch("r", tuple(NewChunk(row, f"text {n} {row.start_line}\n") for row in rows), ())


def test_a_killed_child_is_replaced_and_what_it_left_is_done_again(process: IndexProcess) -> None:
    pid = process.pid
    outcomes = [process.apply("c-1", batch(n)) for n in range(4)]
    assert pid
    os.kill(pid, signal.SIGKILL)
    for outcome in outcomes:
        outcome.result()
    assert process.pid != pid
    assert len(process.ids("c-1")) == 1200


def test_a_request_that_could_not_be_sent_is_sent_to_another_child(
    process: IndexProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once: the child that did not get it will never answer."""
    pid, send = process.pid, Connection.send
    failed: list[Any] = []

    def fail_once(self: Connection, message: Any) -> None:
        if not failed:
            failed.append(message)
            raise OSError(errno.ENOBUFS, "No buffer space available")
        send(self, message)

    monkeypatch.setattr(Connection, "send", fail_once)
    process._deadline_s = 3600  # nobody waits for that here
    assert process.apply("c-1", batch(1)).result().embedded == 300
    assert failed and process.pid != pid


def test_a_child_that_does_not_answer_within_its_deadline_is_replaced(tmp_path: Path) -> None:
    # The deadline must leave a slow machine time to import Chroma, and end the stopped child nevertheless.
    process = make(tmp_path, deadline_s=30)
    process.open("c-1", {"reposyncd_repo": "r"})
    pid = process.pid
    assert pid
    os.kill(pid, signal.SIGSTOP)
    try:
        process._deadline_s = 2
        outcome = process.apply("c-1", batch(1))
        while process.pid == pid:
            os.sched_yield()
        process._deadline_s = 60
        outcome.result()
        assert len(process.ids("c-1")) == 300
    finally:
        process.close()


def test_an_idle_child_that_dies_is_replaced_at_the_next_call(process: IndexProcess) -> None:
    process.apply("c-1", batch(1)).result()
    pid = process.pid
    assert pid
    os.kill(pid, signal.SIGKILL)
    assert len(process.ids("c-1")) == 300


def test_a_request_that_kills_every_child_fails_and_names_the_log(tmp_path: Path) -> None:
    process = index_process(tmp_path, "no such model", lock_timeout_s=1, deadline_s=60)
    try:
        with pytest.raises(Exception, match="no such model"):
            process.query("c-1", "text", 1)
    finally:
        process.close()


def test_the_child_leaves_when_its_parent_is_killed(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from tests.support import index_process\n"
        f"p = index_process(Path({str(tmp_path)!r}), lock_timeout_s=1, deadline_s=60)\n"
        "p.open('c-1', {'a': 'b'})\n"
        "print(p.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=PROJECT
    ) as parent:
        assert parent.stdout
        child = int(parent.stdout.readline())
        handle = os.pidfd_open(child)
        parent.kill()
        parent.wait()
        # The descriptor of a process becomes readable when it ends.

        assert select.select([handle], [], [], 60)[0] == [handle]
        os.close(handle)


def test_a_lock_held_by_another_program_delays_and_then_refuses(process: IndexProcess, tmp_path: Path) -> None:
    import fcntl

    with (tmp_path / "chroma" / ".chroma.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(TransientStoreError, match=r"another program has held .*\.chroma\.lock"):
            process.apply("c-1", batch(1)).result()
        fcntl.flock(lock, fcntl.LOCK_UN)
        process.apply("c-1", batch(2)).result()
    assert len(process.ids("c-1")) == 300


def test_only_the_observer_of_an_operation_is_told_what_it_waits_for(tmp_path: Path) -> None:
    others: list[Waiting | None] = []
    process = index_process(tmp_path, on_wait=others.append)
    process.open("c-1", {"a": "b"})
    others.clear()
    told: list[str] = []
    with other_program(HOLDS_FLOCK, tmp_path / "chroma" / ".chroma.lock"):

        def on_wait(waiting: Waiting | None) -> None:
            if waiting:
                told.append(waiting.reason)
                raise InterruptedSyncError("stopped")

        with pytest.raises(InterruptedSyncError):
            process.observed(on_wait).apply("c-1", batch(1)).result()
    assert told == [f"another program holds {tmp_path / 'chroma' / '.chroma.lock'}"]
    assert others == []
    assert len(process.ids("c-1")) == 300  # the operation goes on without its caller
    process.close()


def test_a_process_without_a_store_embeds_and_does_nothing_else(tmp_path: Path) -> None:
    process = IndexProcess(str(tmp_path), NO_STORE, HASHING, deadline_s=120)
    try:
        [vector] = process.embed(["text"])
        assert len(vector) > 1
        with pytest.raises(PermanentStoreError, match="has no store"):
            process.ids("c-1")
        assert not (tmp_path / "chroma").exists()
    finally:
        process.close()


def test_a_state_directory_that_is_deleted_is_an_error_and_no_hang(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    process = make(state)
    process.open("c-1", {"a": "b"})
    shutil.rmtree(state)
    assert process.pid
    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(TransientStoreError):
        process.ids("c-1")
    process.close()


def test_everything_it_writes_is_private(process: IndexProcess, tmp_path: Path) -> None:
    process.apply("c-1", batch(1)).result()
    for path in [tmp_path / "chroma", *(tmp_path / "chroma").rglob("*"), tmp_path / "index-process.log"]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_the_child_takes_no_settings_from_the_environment_or_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trap = tmp_path / "repository"
    trap.mkdir()
    (trap / ".env").write_text("CHROMA_API_IMPL=evil.Class\n")
    (trap / "chromadb.py").write_text("raise SystemExit('code of the repository was run')\n")
    monkeypatch.chdir(trap)
    monkeypatch.setenv("CHROMA_API_IMPL", "evil.Class")
    state = tmp_path / "state"
    state.mkdir()
    process = make(state)
    assert process.open("c-1", {"a": "b"}) == 0
    process.close()


def test_closing_fails_what_is_not_answered_and_refuses_what_comes_later(tmp_path: Path) -> None:
    process = make(tmp_path)
    outcome = process.apply("c-1", batch(1))
    process.close()
    with pytest.raises(TransientStoreError, match="closed"):
        outcome.result()
    with pytest.raises(TransientStoreError, match="closed"):
        process.apply("c-1", batch(2))


def strike_twice(process: IndexProcess, number: int, outcome: Deferred[Any]) -> None:
    """The child that is to do this, and the one after it, get the signal before they have answered."""
    pids: list[int] = []
    future = outcome.future  # type: ignore[attr-defined]
    while not future.done():
        if (pid := process.pid) and pid not in pids and len(pids) < 2:
            pids.append(pid)
            while ignores(pid, number):
                os.sched_yield()
            os.kill(pid, number)
    assert len(pids) == 2


def ignores(pid: int, number: int) -> bool:
    """Python ignores an interrupt until the child's first lines have run."""
    with suppress(FileNotFoundError, ProcessLookupError):
        status = Path(f"/proc/{pid}/status").read_text()
        masks = [int(line.split()[1], 16) for line in status.splitlines() if line.startswith(("SigIgn", "SigCgt"))]
        return number == signal.SIGINT and any(mask >> (number - 1) & 1 for mask in masks)
    return False


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE])
def test_an_operation_that_crashes_every_child_fails_and_the_next_ones_do_not(
    process: IndexProcess, number: signal.Signals
) -> None:
    process.release()
    outcome = process.apply("c-1", batch(1))
    behind = process.apply("c-1", batch(2))
    strike_twice(process, number, outcome)
    with pytest.raises(LethalOperationError, match=rf"died of {number.name}.*2 times in the same operation \(apply\)"):
        outcome.result()
    behind.result()
    assert {id[:16] for id in process.ids("c-1")} == {f"{2:016x}"}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_an_operation_in_which_somebody_ends_every_child_is_one_to_be_tried_again(
    process: IndexProcess, number: signal.Signals
) -> None:
    process.release()
    outcomes = [process.apply("c-1", batch(n)) for n in range(2)]
    strike_twice(process, number, outcomes[0])
    for outcome in outcomes:
        with pytest.raises(TransientStoreError, match=rf"died of {number.name}, and that 2 times") as raised:
            outcome.result()
        assert not isinstance(raised.value, LethalOperationError)
    process.apply("c-1", batch(1)).result()
    assert len(process.ids("c-1")) == 300


def embedders(process: IndexProcess) -> list[int]:
    return [] if process.pid is None else children(process.pid)


@pytest.mark.parametrize(("number", "kind"), [(signal.SIGSEGV, LethalTextError), (signal.SIGKILL, EmbedderLostError)])
def test_an_embedder_that_dies_twice_of_a_batch_fails_it_and_says_nothing_of_the_store(
    process: IndexProcess, number: signal.Signals, kind: type[StoreError]
) -> None:
    process.apply("c-1", batch(0, size=1)).result()  # it is loaded
    pid = process.pid
    ended: list[int] = []
    outcome = process.apply("c-1", batch(1, size=20_000))
    future = outcome.future  # type: ignore[attr-defined]
    while not future.done():
        for each in embedders(process):
            if each not in ended:
                ended.append(each)
                os.kill(each, number)
    with pytest.raises(kind, match=f"the embedder died of {number.name}, 2 times with the same texts"):
        outcome.result()
    assert process.pid == pid
    process.apply("c-1", batch(2)).result()
    assert {id[:16] for id in process.ids("c-1")} == {f"{n:016x}" for n in (0, 2)}


def test_an_embedder_that_is_killed_once_is_started_again_and_nobody_notices(process: IndexProcess) -> None:
    process.apply("c-1", batch(0, size=1)).result()
    pid, [embedder] = process.pid, embedders(process)
    os.kill(embedder, signal.SIGKILL)
    assert process.apply("c-1", batch(1)).result().embedded == 300
    assert process.pid == pid
    assert embedder not in embedders(process)


def test_a_child_that_somebody_has_stopped_past_its_deadline_is_not_taken_for_one_that_hangs(tmp_path: Path) -> None:
    process = make(tmp_path, deadline_s=60)
    process.open("c-1", {"reposyncd_repo": "r"})
    process._deadline_s = 2
    stopped: list[int] = []
    outcome = process.apply("c-1", batch(1))
    future = outcome.future  # type: ignore[attr-defined]
    try:
        while not future.done():
            if (pid := process.pid) and pid not in stopped:
                stopped.append(pid)
                os.kill(pid, signal.SIGSTOP)
        with pytest.raises(TransientStoreError, match="no reply within its deadline") as raised:
            outcome.result()
        assert not isinstance(raised.value, LethalOperationError)
    finally:
        process.abandon()


def test_an_idle_child_leaves_and_the_next_operation_starts_another(tmp_path: Path) -> None:
    process = index_process(tmp_path, lock_timeout_s=1, idle_s=0.5)
    try:
        process.open("c-1", {"a": "b"})
        process.apply("c-1", batch(1)).result()
        while process.pid:
            os.sched_yield()
        assert len(process.ids("c-1")) == 300
    finally:
        process.close()


def test_a_child_that_hangs_with_the_interpreter_lock_does_not_outlive_its_parent(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from tests.support import index_process\n"
        f"p = index_process(Path({str(tmp_path)!r}), lock_timeout_s=1, deadline_s=60)\n"
        "p.open('c-1', {'a': 'b'})\n"
        "os.kill(p.pid, signal.SIGSTOP)\n"  # as good as hanging: it cannot see anything any more
        "print(p.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=PROJECT
    ) as parent:
        assert parent.stdout
        handle = os.pidfd_open(int(parent.stdout.readline()))
        parent.kill()
        parent.wait()
        assert select.select([handle], [], [], 60)[0] == [handle]
        os.close(handle)


def test_after_an_error_that_may_pass_everything_that_waits_fails_and_a_new_child_is_tried(
    process: IndexProcess, tmp_path: Path
) -> None:
    database = tmp_path / "chroma" / "chroma.sqlite3"
    aside = tmp_path / "aside"
    process.release()
    database.rename(aside)
    database.mkdir()  # which SQLite is unable to open
    with pytest.raises(TransientStoreError):
        process.ids("c-1")
    database.rmdir()
    aside.rename(database)
    assert process.ids("c-1") == set()


def test_a_released_store_is_opened_again_wherever_it_is_by_then(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    (tmp_path / "chroma").symlink_to("one")
    process = make(tmp_path)
    try:
        process.open("c-1", {"a": "b"})
        (tmp_path / "chroma").unlink()
        (tmp_path / "chroma").symlink_to("two")
        assert process.collections().keys() == {"c-1"}  # the one that is open is the one that is asked
        process.release()
        assert process.collections() == {}
    finally:
        process.close()


def test_what_a_file_holds_is_in_the_log_of_the_index_process_and_in_no_error(
    process: IndexProcess, tmp_path: Path
) -> None:
    refused = batch(1, size=1)
    row = replace(refused.added[0].row, symbol={"password": "hunter2"})  # type: ignore[arg-type]
    outcome = process.apply("c-1", refused._replace(added=(NewChunk(row, "text"),)))
    with pytest.raises(PermanentStoreError, match=r"refuses: \w+$"):
        outcome.result()
    log = tmp_path / "index-process.log"
    assert "hunter2" in log.read_text()
    process.release()
    process.start()
    before = log.with_name("index-process.log.old")
    assert "hunter2" in before.read_text()
    assert {stat.S_IMODE(path.stat().st_mode) for path in (log, before)} == {0o600}


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (KeyError("password = hunter2"), "KeyError$"),
        (UnicodeEncodeError("utf-8", "password = hunter2", 0, 1, "why"), "UnicodeEncodeError$"),
        (OSError(28, "No space left on device", "/store"), "OSError: .* No space left on device: '/store'$"),
    ],
)
def test_of_an_error_that_nobody_foresaw_only_what_names_no_content_is_told(error: Exception, told: str) -> None:
    with pytest.raises(StoreError, match=f"^apply failed in the index process; see its log: {told}"):
        raise portable("apply", error)


@pytest.mark.parametrize(
    "error", [OSError(5, "Input/output error"), MemoryError(), ImportError("cannot read file data")]
)
def test_what_a_machine_in_trouble_makes_python_raise_may_pass(error: Exception) -> None:
    assert type(portable("apply", error)) is TransientStoreError
