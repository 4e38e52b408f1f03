"""The chunking processes live and die; their caller does not, and loses no file."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import xxhash

from reposyncd.child_process import ChildProcess
from reposyncd.chunking import pool as pools
from reposyncd.chunking import process as processes
from reposyncd.chunking import verdict
from reposyncd.chunking.chunker import chunk_plainly, chunk_text
from reposyncd.chunking.pool import ChunkingPool
from reposyncd.errors import ChunkerLostError, TransientStoreError, UncutError
from reposyncd.model import Cut
from tests.corpus import CORPUS, folded
from tests.support import HANGS_S, until

MEMORY_BYTES = 1 << 30

CODE = "def f():\n    return 1\n"
STALLS = folded("<li><p><td><font>", 1_000_000)
"""As .html: for minutes."""


UNNAMED = signal.SIGRTMIN + 6
"""A real-time signal, for which Python has no name."""


class Asked:
    """A pool, and what it tells of deaths."""

    def __init__(self, state: Path, idle_s: float = 600.0, memory_bytes: int = MEMORY_BYTES) -> None:
        self.deaths: list[str] = []
        self.pool = ChunkingPool(str(state), memory_bytes=memory_bytes, idle_s=idle_s, on_death=self.deaths.append)

    def begin(self, path: str, text: str) -> Future[Cut]:
        data = text.encode()
        return self.pool.begin(path, data, xxhash.xxh3_128_hexdigest(data))

    def cut(self, path: str, text: str) -> Cut:
        return self.begin(path, text).result(HANGS_S)

    def who_cuts(self, path: str) -> int:
        """The process that is at that file by now."""
        found: list[int] = []

        def look() -> bool:
            found[:] = [pid for pid, each in self.pool.busy.items() if each == path]
            return bool(found)

        until(look, f"{path} is being cut")
        return found[0]


@pytest.fixture
def asked(tmp_path: Path) -> Iterator[Asked]:
    asked = Asked(tmp_path)
    yield asked
    asked.pool.close()


def _has_died(asked: Asked, times: int) -> bool:
    return len(asked.deaths) == times


def text_of(cut: Cut) -> str:
    return "".join(chunk.text for chunk in cut.chunks)


def test_a_file_is_cut_as_in_this_process(asked: Asked) -> None:
    assert asked.cut("a/b.py", CODE) == Cut(chunk_text("a/b.py", CODE))
    assert len(asked.pool.pids) == 1


def test_the_process_measures_how_long_a_file_takes(asked: Asked) -> None:
    assert 0 < asked.cut("a/b.py", CODE).duration_s < HANGS_S


def test_a_file_without_text_has_the_reason(asked: Asked) -> None:
    assert asked.pool.begin("a", b"\x7fELF\0\0", "0").result(HANGS_S).skip == "binary"


def test_a_file_that_stalls_its_grammar_is_cut_as_plain_lines_and_says_why(asked: Asked) -> None:
    found = asked.cut("a.html", STALLS)
    assert found.chunks == chunk_plainly("a.html", STALLS)
    assert found.verdict == "it takes more than 2.0 s of CPU time"
    assert not asked.deaths  # it was killed by the pool, and did not die by itself


def test_a_file_that_crashes_its_grammar_is_cut_as_plain_lines_after_the_second_time(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verdict, "LEAST_S", verdict.MOST_S)  # it crashes a moment before its limit
    text = CORPUS["crash/strings.c"]
    found = asked.cut("a.c", text)
    assert found.chunks == chunk_plainly("a.c", text)
    assert "died of SIGSEGV" in (found.verdict or "")
    assert len(asked.deaths) == 2


def test_a_file_that_stalls_keeps_no_other_from_being_cut(asked: Asked) -> None:
    """Stopped, they stall for ever."""
    stopped = []
    for number in range(pools.SLOW_AT_MOST + 3):
        asked.begin(f"{number}.html", STALLS)
        pid = asked.who_cuts(f"{number}.html")
        os.kill(pid, signal.SIGSTOP)
        stopped.append(pid)
        assert asked.cut(f"{number}.py", CODE).chunks
    assert len(asked.pool.pids) <= pools.SLOW_AT_MOST + 1


def test_a_process_that_hangs_is_killed_and_one_hang_is_no_verdict(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "HANG_S", 0.5)
    text = "int x;\n" * 100_000
    future = asked.begin("a.c", text)
    os.kill(asked.who_cuts("a.c"), signal.SIGSTOP)
    assert future.result(HANGS_S) == Cut(chunk_text("a.c", text))


def test_a_process_that_is_stopped_by_somebody_is_held_against_no_file(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "HANG_S", 0.5)
    text = CORPUS["crash/strings.c"][:200_000]
    cut = asked.begin("a.c", text)
    stopped: set[int] = set()
    for number in (1, 2):
        until(lambda: cut.done() or asked.pool.busy.keys() - stopped, "it is being cut")
        pid = asked.who_cuts("a.c")
        os.kill(pid, signal.SIGSTOP)
        stopped.add(pid)
        until(lambda: asked.pool.pids and not stopped & set(asked.pool.pids), "it was killed")
        assert len(stopped) == number
    assert cut.result(HANGS_S).verdict is None


def test_a_process_that_cannot_be_started_while_another_is_being_killed_costs_no_later_file(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill = processes.ChunkingProcess.kill

    def fail(*arguments: object, **named: object) -> ChildProcess:
        monkeypatch.setattr(processes, "ChildProcess", ChildProcess)
        raise TransientStoreError("there are no descriptors left")

    def kill_and_let_the_next_start_fail(process: processes.ChunkingProcess, on_killed: Callable[[], None]) -> None:
        kill(process, on_killed)
        monkeypatch.setattr(processes.ChunkingProcess, "kill", kill)
        monkeypatch.setattr(processes, "ChildProcess", fail)

    def begin_all() -> list[Future[Cut]]:
        return [*(asked.begin(f"{number}.html", STALLS) for number in range(3)), asked.begin("a.py", CODE)]

    monkeypatch.setattr(processes.ChunkingProcess, "kill", kill_and_let_the_next_start_fail)
    first = begin_all()
    assert [type(each.exception(HANGS_S)) for each in first] == [ChunkerLostError] * 4
    asked.pool.release()
    for _ in range(2):
        assert all(each.result(HANGS_S).chunks for each in begin_all())


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS])
def test_a_file_whose_process_is_killed_once_is_cut_as_ever(asked: Asked, sent: signal.Signals) -> None:
    text = "int x;\n" * 100_000
    future = asked.begin("a.c", text)
    os.kill(asked.who_cuts("a.c"), sent)
    assert future.result(HANGS_S) == Cut(chunk_text("a.c", text))
    assert [death.split(" (")[0] for death in asked.deaths] == [f"died of {sent.name}"]


def test_so_is_one_whose_process_dies_of_a_signal_without_a_name(asked: Asked) -> None:
    text = "int x;\n" * 100_000
    future = asked.begin("a.c", text)
    os.kill(asked.who_cuts("a.c"), UNNAMED)
    assert future.result(HANGS_S) == Cut(chunk_text("a.c", text))
    assert asked.deaths == [f"died of signal {UNNAMED}"]


def test_a_file_whose_process_somebody_kills_every_time_is_left_for_later_without_a_verdict(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    future = asked.begin("a.html", STALLS)
    while not future.done():
        for pid in asked.pool.busy:
            with suppress(ProcessLookupError):  # it has been reaped
                os.kill(pid, signal.SIGKILL)
    with pytest.raises(UncutError, match="died of SIGKILL, 4 times; it will be retried"):
        future.result()
    assert asked.cut("a.py", CODE).verdict is None


def test_so_is_one_that_is_given_up_and_asked_for_again_between_the_kills(asked: Asked) -> None:
    for number in range(verdict.LOSSES):
        asked.pool.release()
        cut = asked.begin("a.html", STALLS)
        os.kill(asked.who_cuts("a.html"), signal.SIGKILL)
        until(partial(_has_died, asked, number + 1), "its death is told")
    with pytest.raises(UncutError, match="4 times; it will be retried"):
        cut.result(HANGS_S)


def test_a_file_that_takes_all_memory_is_cut_as_plain_lines(tmp_path: Path) -> None:
    asked = Asked(tmp_path, memory_bytes=40 << 20)
    try:
        text = "".join(f"int value_{number} = {number};\n" for number in range(35_000))
        found = asked.cut("a.c", text)
        assert text_of(found) == text
        assert found.verdict
        assert "2 times" in found.verdict
    finally:
        asked.pool.close()


def test_a_decoder_that_raises_costs_its_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Injected where Python imports from: no text is known by now that makes one raise."""
    trap = tmp_path / "trap" / "charset_normalizer"
    trap.mkdir(parents=True)
    (trap / "__init__.py").write_text("def from_bytes(data):\n    raise ValueError('password = hunter2')\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(trap.parent), *filter(None, [os.environ.get("PYTHONPATH")])]))
    asked = Asked(tmp_path)
    try:
        broken = "Größe, naïveté, señor, Ærø, übung, déjà vu, Åse, þorn\n" * 20
        found = asked.pool.begin("a.txt", broken.encode("latin-1"), "0").result(HANGS_S)
        assert found == Cut(skip=found.skip, verdict="it raises ValueError; as plain lines too, it raises ValueError")
        assert found.skip == "quarantined"
        assert asked.cut("a.py", CODE).chunks
    finally:
        asked.pool.close()


def test_what_nobody_waits_for_goes_on_and_is_there_when_it_is_asked_for_again(asked: Asked) -> None:
    asked.begin("a.html", STALLS)
    asked.who_cuts("a.html")
    asked.pool.release()
    until(lambda: all(task.future.done() for task in asked.pool._queue._tasks.values()), "it is cut as plain lines")
    again = asked.begin("a.html", STALLS)
    assert again.done()
    assert "CPU time" in (again.result().verdict or "")


def test_what_nobody_waits_for_and_was_not_begun_is_forgotten(asked: Asked) -> None:
    asked.begin("a.html", STALLS)
    os.kill(asked.who_cuts("a.html"), signal.SIGSTOP)
    behind = [asked.begin(f"{number}.html", STALLS + str(number)) for number in range(20)]
    asked.pool.release()
    assert asked.cut("a.py", CODE).chunks
    assert len(asked.pool._queue._tasks) <= 1 + pools.SLOW_AT_MOST + 1
    assert sum(not each.done() for each in behind) >= 20 - pools.SLOW_AT_MOST - 1


def test_idle_processes_leave_and_the_next_file_starts_another(tmp_path: Path) -> None:
    asked = Asked(tmp_path, idle_s=0.2)
    try:
        assert asked.cut("a.py", CODE).chunks
        until(lambda: not asked.pool.pids, "it has left")
        assert asked.cut("b.py", CODE).chunks
        assert not asked.deaths
    finally:
        asked.pool.close()


def test_closing_ends_every_process_and_fails_what_is_not_cut(asked: Asked) -> None:
    future = asked.begin("a.html", STALLS)
    handle = os.pidfd_open(asked.who_cuts("a.html"))
    asked.pool.close()
    with pytest.raises(ChunkerLostError, match="closed"):
        future.result(HANGS_S)
    with pytest.raises(ChunkerLostError, match="closed"):
        asked.begin("b.py", CODE)
    assert select.select([handle], [], [], HANGS_S)[0] == [handle]
    os.close(handle)
    assert not asked.deaths


def test_a_process_that_cannot_be_started_is_an_error_that_may_pass_and_no_verdict(tmp_path: Path) -> None:
    asked = Asked(tmp_path / "nowhere")
    with pytest.raises(ChunkerLostError, match="could not be started"):
        asked.cut("a.py", CODE)
    (tmp_path / "nowhere").mkdir()
    assert asked.cut("a.py", CODE).verdict is None
    asked.pool.close()


def test_processes_that_die_before_they_are_ready_are_an_error_that_may_pass(tmp_path: Path) -> None:
    asked = Asked(tmp_path, memory_bytes=1 << 20)  # too little to load anything
    with pytest.raises(ChunkerLostError, match="could not be started: it exited with code"):
        asked.cut("a.py", CODE)
    asked.pool.close()


@pytest.mark.parametrize("state", ["at work", "stopped"])
def test_a_process_does_not_outlive_its_parent(tmp_path: Path, state: str) -> None:
    script = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from tests.unit.chunking.test_pool import Asked, STALLS\n"
        f"asked = Asked(Path({str(tmp_path)!r}))\n"
        "asked.begin('a.html', STALLS)\n"
        "pid = asked.who_cuts('a.html')\n"
        f"if {state!r} == 'stopped': os.kill(pid, signal.SIGSTOP)\n"
        "print(pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    ) as parent:
        assert parent.stdout
        handle = os.pidfd_open(int(parent.stdout.readline()))
        parent.kill()
        parent.wait()
        assert select.select([handle], [], [], HANGS_S)[0] == [handle]
        os.close(handle)
