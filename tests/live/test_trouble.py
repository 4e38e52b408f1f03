"""What the service owes those who wait for it and those who read its status when something goes wrong underneath."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from reposyncd.app.client import Client
from reposyncd.daemon.engine import unreadable
from reposyncd.daemon.engine.loop import Engine
from reposyncd.daemon.engine.watching import Watching
from reposyncd.daemon.events import EVENTS_LOST, log_event
from reposyncd.daemon.process.log import Log, logging_to, writer
from reposyncd.daemon.process.systemd import Notifier
from reposyncd.errors import CorruptManifestError, DaemonNotRunningError, OverloadedError, ReposyncError
from reposyncd.store.locks import state_lock
from reposyncd.tree import read
from reposyncd.tree.inotify import Inotify
from tests.crash.faults import StoreLab, end
from tests.live.service import HANGS_S, Live, live, many, result_of, until
from tests.live.test_limits import answers
from tests.live.test_process import daemon, mended
from tests.support import write


@pytest.fixture
def lab(tmp_path: Path) -> Live:
    lab = live(tmp_path)
    lab.write({"a.py": "one = 1\n", "b/c.py": "two = 2\n"})
    return lab


# What small work meets ----------------------------------------------------------------------------------


def test_a_new_directory_that_cannot_be_watched_is_told_and_looked_at_on_a_timer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = live(tmp_path, REPOSYNCD_WATCH__POLL="1")
    lab.write({"a.py": "one = 1\n"})
    add = Inotify.add

    def short(self: Inotify, path: bytes) -> int:
        if b"/fd/" in path and os.readlink(path.removesuffix(b"/.")).endswith(b"/new"):
            raise OSError(errno.ENOSPC, "no watch is left")
        return add(self, path)

    with lab.running():
        monkeypatch.setattr(Inotify, "add", short)
        lab.write({"new/b.py": "two = 2\n"})
        until(lambda: lab.status()["state"] == "degraded", "it is told")
        assert lab.status()["watch"]["unwatched"] == 1
        lab.write({"new/b.py": "two = 22\n"})  # gives no event
        lab.flush()
        assert lab.text_of("new/b.py") == "two = 22\n"
        lab.write({"new/b.py": "two = 222\n"})
        until(lambda: lab.text_of("new/b.py") == "two = 222\n", "found without being asked for")
        monkeypatch.undo()
        until(lambda: lab.status()["state"] == "current", "it heals")


def test_a_file_that_cannot_be_read_is_told_until_it_can_and_tried_again_without_an_event(
    lab: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unreadable, "RETRY_FIRST_S", 0.2)
    readable = read._read

    def ill(fd: int, path: str, limit: int) -> Any:
        if path == "b/c.py":
            raise OSError(errno.EIO, "Input/output error")
        return readable(fd, path, limit)

    with lab.running():
        monkeypatch.setattr(read, "_read", ill)
        lab.write({"b/c.py": "two = 22\n"})
        until(lambda: lab.status()["errors"], "it is told")
        error = {"path": "b/c.py", "error": "cannot be read: Input/output error"}
        lab.until_current()
        for _ in range(3):  # however often it was tried before
            assert lab.flush()["errors"] == [error] == lab.status()["errors"]
        lab.write({"a.py": "one = 11\n"})
        assert lab.flush()["errors"] == [error]
        monkeypatch.setattr(read, "_read", readable)
        until(lambda: lab.text_of("b/c.py") == "two = 22\n", "tried again")
        until(lambda: not lab.status()["errors"], "it is not told any more")
        lab.assert_current()


# An engine that dies ------------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", ["sync", "flush"])
def test_who_waits_is_answered_when_the_engine_dies_after_the_work(
    lab: Live, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    with lab.running() as daemon:
        coverage = Watching.coverage

        def fatal(self: Watching, root: str) -> Any:
            monkeypatch.setattr(Watching, "coverage", coverage)
            raise MemoryError

        monkeypatch.setattr(Watching, "coverage", fatal)
        lab.write({"a.py": "one = 11\n"})
        work = daemon.sync(str(lab.root), None, False) if asked == "sync" else daemon.flush(None)
        assert work.wait(HANGS_S)
        with pytest.raises(OverloadedError, match="try again"):
            work.result()
        until(lambda: mended(lab), "there is another")
        lab.assert_current()


def test_who_asked_for_what_the_engine_dies_of_is_answered(lab: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    with lab.running() as daemon:

        def fatal(path: str, name: str | None) -> Any:
            raise SystemExit

        monkeypatch.setattr(daemon.engine.jobs.tracking, "add", fatal)
        work = daemon.add(str(lab.root), None)
        assert work.wait(HANGS_S)
        with pytest.raises(ReposyncError, match="internal error"):
            work.result()
        until(lambda: daemon.has_ended, "the engine is dead")
        until(lambda: mended(lab), "there is another")
        lab.assert_current()


def test_while_a_new_engine_opens_the_state_nothing_is_called_current(
    lab: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    with lab.running() as daemon:
        may_begin = threading.Event()
        begin = Engine._begin

        def slow(self: Engine) -> None:
            assert may_begin.wait(HANGS_S)
            begin(self)

        monkeypatch.setattr(Engine, "_begin", slow)
        kill(daemon.engine, monkeypatch)
        until(lambda: daemon.has_ended, "the engine is dead")
        daemon.status()
        daemon.restart_dead(time.monotonic())
        daemon.restart_dead(time.monotonic() + 60)
        assert not daemon.has_ended
        try:
            assert lab.status()["state"] == "pending"
            assert daemon.status()["daemon"]["state"] == "the engine is starting"
            with pytest.raises(OverloadedError, match="try again"):
                result_of(daemon.search("one", None, 1))
            lab.write({"a.py": "one = 11\n"})
            flush = daemon.flush("lab")
            until(lambda: flush.progress()["pending"], "it is told what is waited for")
            assert flush.progress()["pending"] == [{"repo": "lab", "paths": [], "why": "the engine is starting"}]
            assert not flush.wait(0)
        finally:
            may_begin.set()
        assert result_of(flush)["repos"] == ["lab"]
        assert lab.text_of("a.py") == "one = 11\n"
        until(lambda: lab.status()["state"] == "current", "it has begun")
        lab.assert_current()


def test_an_engine_that_follows_a_dead_one_waits_for_who_has_taken_the_state_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = live(tmp_path, REPOSYNCD_LOCK__TIMEOUT="0")
    lab.write({"a.py": "one = 1\n"})
    with lab.running() as daemon:
        kill(daemon.engine, monkeypatch)
        until(lambda: daemon.has_ended, "the engine is dead")
        with state_lock(str(lab.state), 0):
            daemon.restart_dead(time.monotonic())
            daemon.restart_dead(time.monotonic() + 60)
            until(lambda: daemon.waits_for_lock, "it waits")
            status = lab.status()  # though nobody asked while the one of before lived
            assert (status["state"], status["chunks"]) == ("pending", 1)
            assert daemon.waits_for_lock in status["reason"]
            lab.write({"a.py": "one = 11\n"})
        until(lambda: lab.status()["state"] == "current", "it has begun")
        assert not daemon.has_ended
        lab.assert_current()


def test_a_service_that_waits_for_the_state_tells_what_is_on_record_and_that_it_begins(lab: Live) -> None:
    with lab.running():
        pass
    client = Client(lab.config().socket, lab.config().state_dir)
    with ExitStack() as holding, ThreadPoolExecutor() as threads:
        holding.enter_context(state_lock(str(lab.state), 0))
        starting = threads.submit(lab.start)
        try:
            until(lambda: answers(client), "it answers")
            until(lambda: lab.daemon and lab.daemon.waits_for_lock, "it waits for the state")
            why = f"process {os.getpid()} is writing to {lab.state}"
            report = client.request("GET", "/v1/status")
            assert report["daemon"]["starting"]
            assert why in report["daemon"]["state"]
            [repo] = client.request("GET", "/v1/repos")["repos"]
            assert (repo["name"], repo["state"], repo["files"]) == ("lab", "pending", 2)
            assert why in repo["reason"]
            with pytest.raises(ReposyncError, match=f"starting; {why}"):
                client.request("GET", "/v1/health")
            with pytest.raises(DaemonNotRunningError, match=why):  # who asks can do without it
                client.request("POST", "/v1/search", {"query": "one"})
            lab.write({"b/c.py": "two = 22\n"})
            told: list[dict[str, Any]] = []
            flushed = threads.submit(client.request, "POST", "/v1/flush", {}, told.append)
            until(lambda: told and told[-1]["pending"], "who waits is told")
            assert [each["repo"] for each in told[-1]["pending"]] == ["lab"]
            assert why in told[-1]["trouble"]
            holding.close()
            assert flushed.result(HANGS_S)["repos"] == ["lab"]
            assert lab.text_of("b/c.py") == "two = 22\n"
            assert not client.request("GET", "/v1/status")["daemon"]["starting"]
            assert client.request("GET", "/v1/health")["healthy"]
        finally:
            holding.close()
            starting.result(HANGS_S)
            lab.stop()


def kill(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """It dies of what nobody foresaw."""

    def fatal(*_: object) -> Any:
        raise KeyError("a line of a file")

    monkeypatch.setattr(engine.jobs, "next", fatal)
    engine.registry.wake()


# Who asks while the engine hangs ------------------------------------------------------------------------


def test_status_and_tickets_are_answered_while_the_engine_hangs_with_its_lock(lab: Live) -> None:
    with lab.running() as daemon:
        client = Client(lab.config().socket)
        may_go_on, holds = threading.Event(), threading.Event()

        def hang() -> None:
            with daemon.engine.registry._lock:
                holds.set()
                assert may_go_on.wait(HANGS_S)

        thread = threading.Thread(target=hang)
        daemon.status()
        thread.start()
        assert holds.wait(HANGS_S)
        try:
            assert client.request("GET", "/v1/status")["repos"][0]["name"] == "lab"
            assert daemon.engine.progress()["phase"] == "scan"
            assert daemon.is_busy  # nobody knows
            daemon.engine.stop()
        finally:
            may_go_on.set()
            thread.join()
        until(lambda: daemon.has_ended, "it has heard that it is to stop")


# The process --------------------------------------------------------------------------------------------


@pytest.fixture
def program(tmp_path: Path) -> StoreLab:
    lab = StoreLab(
        tmp_path / "tree",
        tmp_path / "state",
        variables={"REPOSYNCD_SOCKET": str(tmp_path / "s"), "REPOSYNCD_CONFIG": str(tmp_path / "config.toml")},
    )
    (tmp_path / "config.toml").touch()
    lab.state.mkdir(mode=0o700)
    lab.write(many(5))
    return lab


def test_a_stop_is_obeyed_while_nobody_reads_the_log(program: StoreLab) -> None:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    process = subprocess.Popen(
        [sys.executable, "-m", "reposyncd", "daemon"], env=program.environ(), stderr=writer, stdin=subprocess.DEVNULL
    )
    try:
        until(lambda: answers(Client(program.variables["REPOSYNCD_SOCKET"])), "it answers")
        fill(writer)
        process.terminate()
        assert process.wait(HANGS_S) == 0
    finally:
        end(process)
        os.close(reader)
        os.close(writer)


def fill(pipe: int) -> None:
    os.set_blocking(pipe, False)
    for size in (100, 1):
        try:
            while True:
                os.write(pipe, b"x" * size)
        except BlockingIOError:
            continue
    os.set_blocking(pipe, True)


def test_a_second_signal_ends_it_at_once(program: StoreLab) -> None:
    with daemon(program) as (client, process):
        client.request("POST", "/v1/repos", {"path": str(program.root), "name": "lab"})
        client.request("POST", "/v1/flush", {})
        of_it = ["pgrep", "-P", str(process.pid), "-f", "reposyncd.app.child store"]
        [child] = subprocess.run(of_it, capture_output=True, text=True).stdout.split()
        os.kill(int(child), signal.SIGSTOP)  # so that the batch under way takes for ever
        program.write({"d1/f1.txt": "a change\n"})

        def files() -> int:  # and not the second look at what was before, which finds none
            [repo] = client.request("GET", "/v1/status")["repos"]
            return int((repo["progress"] or {}).get("total", 0))

        until(files, "a batch is under way")
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGHUP)  # which is none
        said = ""
        while '"event": "stopping"' not in said:
            assert process.stderr
            said += process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(HANGS_S) == 128 + signal.SIGTERM


def test_it_begins_when_a_sync_that_holds_the_state_is_done(program: StoreLab) -> None:
    program.variables |= {"REPOSYNCD_LOCK__TIMEOUT": "0"}
    program.sync()
    with program.workspace() as workspace, workspace.state_lock():
        process = program.start("daemon", "--log-format", "json")
        said = ""
        while '"event": "locked"' not in said:
            assert process.stderr
            said += process.stderr.readline()
        assert f"process {os.getpid()}" in said
    client = Client(program.variables["REPOSYNCD_SOCKET"])
    try:
        until(lambda: answers(client), "it answers")
    finally:
        process.terminate()
        assert process.wait(HANGS_S) == 0


def test_a_stop_is_obeyed_while_it_waits_for_the_state(program: StoreLab) -> None:
    program.variables |= {"REPOSYNCD_LOCK__TIMEOUT": "0"}
    program.sync()
    with program.workspace() as workspace, workspace.state_lock():
        process = program.start("daemon", "--log-format", "json")
        assert process.stderr and '"event": "locked"' in process.stderr.readline()
        process.terminate()
        assert process.wait(HANGS_S) == 0


def test_a_hangup_before_it_is_ready_is_obeyed_when_it_is(program: StoreLab) -> None:
    program.variables |= {"REPOSYNCD_LOCK__TIMEOUT": "0"}
    program.sync()
    with program.workspace() as workspace, workspace.state_lock():
        process = program.start("daemon", "--log-format", "json")
        until(lambda: _ignores_hangup(process.pid), "it has begun")
        process.send_signal(signal.SIGHUP)
        Path(program.variables["REPOSYNCD_CONFIG"]).write_text('[log]\nlevel = "debug"\n')
    try:
        said = ""
        while '"event": "reloaded"' not in said:
            assert process.stderr
            line = process.stderr.readline()
            assert line, f"it ended with {process.wait()}: {said}"
            said += line
    finally:
        end(process)


def _ignores_hangup(pid: int) -> bool:
    """Whether SIGHUP is blocked or handled (proc(5))."""
    bit = 1 << (signal.SIGHUP - 1)
    masks = [line.split()[1] for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line[:3] == "Sig"]
    _, _, blocked, _, handled = masks  # not those that are ignored: the tests may run without a terminal
    return any(int(mask, 16) & bit for mask in (blocked, handled))


def test_a_service_that_cannot_go_on_says_so_without_values(program: StoreLab, tmp_path: Path) -> None:
    script = (
        "import sys; from reposyncd.daemon.service import Daemon\n"
        "def restart_dead(self, now): raise KeyError('a line of a file')\n"
        "Daemon.restart_dead = restart_dead\n"
        "from reposyncd.cli import main\n"
        "sys.argv = ['reposyncd', 'daemon']; main()\n"
    )
    environ = program.environ() | {"PYTHONMALLOC": "malloc"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environ, capture_output=True, text=True, timeout=HANGS_S, check=False
    )
    assert done.returncode == 1
    assert "KeyError" in done.stderr and "a line of a file" not in done.stderr


# The log and systemd ------------------------------------------------------------------------------------


class Full(io.StringIO):
    """A file on a disk that is full."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_log_that_cannot_be_written_ends_nothing() -> None:
    log = Log(writer("text", {}, Full()))
    with logging_to(log, "info"):
        for _ in range(3):
            log_event(EVENTS_LOST, reason="a storm")
        log.write_counts(float("inf"))


def test_a_notify_socket_that_is_gone_ends_nothing(tmp_path: Path) -> None:
    pytest.importorskip("systemd", reason="systemd-python is not installed")
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")})
    assert notifier.is_wanted
    notifier.ready()
    notifier.feed()


def test_after_the_manifest_was_made_anew_every_repository_is_known_by_its_new_number(
    lab: Live, tmp_path: Path
) -> None:
    others = {name: tmp_path / name for name in ("one", "two")}
    with lab.running() as daemon:
        for name, root in others.items():
            write(root, {"a.txt": f"{name}\n"})
            result_of(daemon.sync(str(root), name, False))
        result_of(daemon.remove("lab"))  # so that the numbers of the others change
        result_of(daemon.pause("two"))  # so that nothing is done for it

        def renew() -> dict[str, Any]:
            state = daemon.engine.workspace._state
            state.close()
            (lab.state / "manifest.db").write_bytes(b"no database " * 1000)
            state.renew_manifest(CorruptManifestError("damaged"), 0)
            return {}

        result_of(daemon.engine.ask(renew))
        write(others["one"], {"a.txt": "one, saved\n"})
        result_of(daemon.flush("one"))
        numbers = result_of(
            daemon.engine.ask(lambda: {repo.name: repo.id for repo in daemon.engine.workspace.catalog.repos()})
        )
        assert numbers.keys() == others.keys()
        assert numbers == {each.name: each.repo.id for each in daemon.engine.registry.named(None)}
        paused = result_of(
            daemon.engine.ask(lambda: {repo.name: repo.paused for repo in daemon.engine.workspace.catalog.repos()})
        )
        assert paused == {"one": False, "two": True}
