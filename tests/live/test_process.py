"""The service as systemd has it: what it tells, and what it does when it is told something or loses a part."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from reposyncd.app.client import Client
from reposyncd.daemon.process.supervision import RESTARTS_AT_MOST
from reposyncd.errors import BusyError, DaemonNotRunningError, OverloadedError, ReposyncError
from reposyncd.model import Applied, Batch
from reposyncd.store.memory import MemoryIndex
from tests.crash.faults import StoreLab, end, hung
from tests.live.service import HANGS_S, Live, live, many, result_of, until
from tests.live.test_limits import answers, has_begun
from tests.support import memory_index


class Systemd:
    """The socket that systemd gives a service to tell it how it is. It is read all the time, as systemd does: the
    kernel keeps ten messages, and then the service waits."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)
        self._lock = threading.Lock()
        self._waited_for = 0
        self.told: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while True:
            select.select([self._socket], [], [])
            self.drain()

    def wait_for(self, what: str) -> str:
        """The first message that has it, after the last one that was waited for."""

        def has_come() -> bool:
            while self._waited_for < len(self.told):
                self._waited_for += 1
                if what in self.told[self._waited_for - 1]:
                    return True
            return False

        until(has_come, f"{what} is told")
        return self.told[self._waited_for - 1]

    def drain(self) -> list[str]:
        """Everything that was told by now."""
        with self._lock:
            try:
                while True:
                    self.told.append(self._socket.recv(65_536).decode())
            except BlockingIOError:
                return self.told


@pytest.fixture
def systemd(tmp_path: Path) -> Systemd:
    pytest.importorskip("systemd", reason="systemd-python is not installed")
    return Systemd(tmp_path / "notify")


@pytest.fixture
def lab(tmp_path: Path) -> StoreLab:
    config = tmp_path / "config.toml"
    config.write_text("")
    lab = StoreLab(
        tmp_path / "tree",
        tmp_path / "state",
        variables={"REPOSYNCD_SOCKET": str(tmp_path / "s"), "REPOSYNCD_CONFIG": str(config)},
    )
    lab.state.mkdir(mode=0o700)
    lab.write(many(50))
    return lab


@contextmanager
def daemon(lab: StoreLab, *arguments: str) -> Iterator[tuple[Client, subprocess.Popen[str]]]:
    process = lab.start("daemon", "--log-format", "json", *arguments)
    client = Client(lab.variables["REPOSYNCD_SOCKET"])
    try:
        until(lambda: has_begun(client) or process.poll() is not None, "it has begun")
        yield client, process
    finally:
        end(process)


def stop(process: subprocess.Popen[str]) -> str:
    """What it had to say; it ends well."""
    process.terminate()
    _, said = process.communicate(timeout=HANGS_S)
    assert process.returncode == 0, said
    return said


def test_systemd_is_told_when_it_serves_what_it_does_and_that_it_stops(lab: StoreLab, systemd: Systemd) -> None:
    lab.variables["NOTIFY_SOCKET"] = str(systemd.path)
    with daemon(lab) as (client, process):
        systemd.wait_for("READY=1")
        client.request("POST", "/v1/sync", {"path": str(lab.root), "name": "lab"})
        systemd.wait_for("1 repository: 1 current")
        stop(process)
    systemd.wait_for("STOPPING=1")
    assert not any("WATCHDOG" in each for each in systemd.told)
    assert all("\n" not in each for each in systemd.told)


def test_a_new_configuration_is_taken_up_and_a_bad_one_refused(lab: StoreLab, systemd: Systemd) -> None:
    lab.variables["NOTIFY_SOCKET"] = str(systemd.path)
    config = Path(lab.variables["REPOSYNCD_CONFIG"])

    def reload() -> None:
        process.send_signal(signal.SIGHUP)
        reloading = systemd.wait_for("RELOADING=1")
        since_us = int(reloading.split("MONOTONIC_USEC=")[1])
        assert since_us <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        systemd.wait_for("READY=1")

    def paths() -> set[str]:
        client.request("POST", "/v1/flush", {})
        hits = client.request("POST", "/v1/search", {"query": "file", "limit": 100})["hits"]
        return {hit["path"].split("/")[0] for hit in hits}

    with daemon(lab) as (client, process):
        systemd.wait_for("READY=1")
        client.request("POST", "/v1/sync", {"path": str(lab.root), "name": "lab"})
        assert {"d7", "d8"} <= paths()
        config.write_text('[index]\nexclude = ["/d7/"]\n')
        reload()
        assert "d7" not in paths() and "d8" in paths()
        config.write_text("[index]\nexclude = 5\n")
        reload()
        assert "d7" not in paths()
        said = stop(process)
    assert '"event": "reloaded"' in said and "index.exclude" in said
    assert '"event": "refused"' in said and "line 2: index.exclude is 5" in said


def polling(pid: int) -> list[int]:
    """Threads of the process, but for the main one, that wait for one file descriptor (proc(5), wchan and syscall)."""
    found = []
    for thread in Path(f"/proc/{pid}/task").iterdir():
        _, *arguments = (thread / "syscall").read_text().split()
        if len(arguments) < 2 or int(thread.name) == pid:  # it runs at this moment
            continue
        if "poll_schedule" in (thread / "wchan").read_text() and int(arguments[1], 16) == 1:
            found.append(int(thread.name))
    return found


STALLED = '"event": "stalled"'


@pytest.mark.parametrize(
    ("part", "number", "calls"),
    [
        ("the API", 1, "epoll_wait"),
        ("the engine", 2, "restart_syscall,futex"),
        ("the watcher", 3, "restart_syscall,poll"),
        ("the index process", -1, "restart_syscall,poll"),
    ],
)
def test_the_watchdog_is_fed_until_one_thread_hangs(
    lab: StoreLab, systemd: Systemd, part: str, number: int, calls: str
) -> None:
    """`number` of the thread, in the order in which they begin, and what it waits in. The one that looks after the
    index process is told by that: it is there only when that is."""
    if os.geteuid() != 0:
        pytest.skip("only root may trace a process that is not its child")
    lab.variables |= {"NOTIFY_SOCKET": str(systemd.path), "WATCHDOG_USEC": "2000000"}
    process, client = lab.start("daemon", "--log-format", "json"), Client(lab.variables["REPOSYNCD_SOCKET"])
    with ExitStack() as ending:
        ending.callback(end, process)
        systemd.wait_for("READY=1")  # nobody has asked anything by now, which begins threads
        threads = sorted(map(int, os.listdir(f"/proc/{process.pid}/task")))
        client.request("POST", "/v1/sync", {"path": str(lab.root), "name": "lab"})
        if part == "the index process":
            until(lambda: len(polling(process.pid)) == 1, "one thread looks after it")
            threads = polling(process.pid)
        systemd.wait_for("WATCHDOG=1")
        systemd.wait_for("WATCHDOG=1")
        said: list[str] = []

        def read() -> None:
            assert process.stderr
            said.extend(process.stderr)

        threading.Thread(target=read, daemon=True).start()
        with hung(threads[number], calls):
            lab.write({"d1/f1.txt": "a change, which wakes it\n"})
            until(lambda: any(part in line for line in said if STALLED in line), "the hang is in the log")
            systemd.drain()
            before = len(systemd.told)
            if part == "the API":
                with pytest.raises(ReposyncError):
                    client.request("GET", "/v1/status", timeout_s=3)  # as long as three feeds would take
            else:  # the rest of it lives, and says what does not

                def report() -> dict[str, Any]:
                    found: dict[str, Any] = client.request("GET", "/v1/status")["daemon"]
                    return found

                until_s = report()["uptime_s"] + 3
                until(lambda: report()["uptime_s"] > until_s, "three feeds would have been due")
                assert any(part in problem for problem in report()["problems"])
            assert not any("WATCHDOG" in each for each in systemd.drain()[before:])
        # Another part may have been late too, where the machine is busy: this one is named once.
        assert [part in line for line in said if STALLED in line].count(True) == 1


def test_a_stop_in_the_middle_of_a_first_index_is_not_waited_for_and_nothing_is_done_twice(lab: StoreLab) -> None:
    lab.write({f"many/{number}.txt": f"file {number} of many\n" for number in range(4000)})
    with daemon(lab) as (client, process):
        client.request("POST", "/v1/repos", {"path": str(lab.root), "name": "lab"})

        def chunks() -> int:
            [repo] = client.request("GET", "/v1/status")["repos"]
            return int((repo["progress"] or {}).get("chunks", 0))

        until(lambda: chunks() > 500, "some of it is stored")
        children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
        for child in children:
            os.kill(int(child), signal.SIGSTOP)  # the batch under way takes for ever
        said = stop(process)
        assert '"event": "abandoned"' in said and '"event": "stopped"' in said
        until(lambda: not any(Path(f"/proc/{child}").exists() for child in children), "the index process is gone")
    stored = len(lab.committed())
    assert 500 < stored < 4050
    with daemon(lab) as (client, process):
        client.request("POST", "/v1/flush", {})
        [repo] = client.request("GET", "/v1/status")["repos"]
        assert repo["last_sync"]["chunks"]["embedded"] == 4050 - stored
        stop(process)
    lab.assert_equals_an_index_built_from_scratch()


def test_a_daemon_that_finds_another_says_so_with_its_own_exit_code(lab: StoreLab) -> None:
    with daemon(lab) as (_, first):
        lab.variables["REPOSYNCD_LOCK__TIMEOUT"] = "0"
        second = lab.run("daemon")
        assert second.returncode == 75
        assert f"another reposyncd service (process {first.pid})" in second.stderr


def test_a_bad_configuration_keeps_it_from_starting(lab: StoreLab) -> None:
    Path(lab.variables["REPOSYNCD_CONFIG"]).write_text("[wach]\n")
    assert lab.run("daemon").returncode == 78


# A part that dies ---------------------------------------------------------------------------------------


class Killer(MemoryIndex):
    """Ends the thread that stores the next so many batches, as a defect nobody thought of would."""

    def __init__(self) -> None:
        super().__init__(memory_index()._embed)
        self.deaths = 0

    def apply(self, collection: str, batch: Batch) -> Future[Applied]:
        if self.deaths:
            self.deaths -= 1
            raise SystemExit("a defect")
        return super().apply(collection, batch)


def mended(lab: Live) -> bool:
    """Whether the engine is there again; what it waits for is not waited for."""
    assert lab.daemon
    now = time.monotonic()
    while (again := lab.daemon.restart_dead(now)) is not None:
        now = again
    return lab.daemon.is_ready and not lab.daemon.has_ended


def test_an_engine_that_dies_is_seen_and_started_again_and_looks_at_everything(tmp_path: Path) -> None:
    lab = live(tmp_path)
    lab.index = killer = Killer()
    lab.write(many(20))
    with lab.running() as daemon:
        killer.deaths = 1
        lab.write({"d3/f3.txt": "a change that ends it\n"})
        until(lambda: daemon.has_ended, "the engine is dead")
        assert lab.status()["state"] == "failed"
        assert "the engine has died" in lab.status()["reason"]
        lab.write({"d4/f4.txt": "a change while there is no engine\n"})
        until(lambda: mended(lab), "there is another")
        lab.assert_current()
        assert any("restarted automatically" in each for each in daemon.status()["daemon"]["problems"])


def test_an_engine_that_dies_again_and_again_ends_the_service(tmp_path: Path) -> None:
    lab = live(tmp_path)
    lab.index = killer = Killer()
    lab.write(many(20))
    with lab.running() as daemon:
        killer.deaths = 10**6
        lab.write({"d3/f3.txt": "a change that ends it\n"})
        with pytest.raises(SystemExit):
            for _ in range(RESTARTS_AT_MOST + 1):
                until(lambda: daemon.has_ended, "the engine is dead")
                daemon.restart_dead(time.monotonic())
                until(lambda: mended(lab) or daemon.has_ended, "there is another, or was")
        lab.daemon = None
        daemon.stop()


def test_work_that_was_asked_of_an_engine_that_dies_fails(tmp_path: Path) -> None:
    lab = live(tmp_path)
    lab.index = killer = Killer()
    lab.write(many(20))
    with lab.running() as daemon:
        killer.deaths = 1
        lab.write({"d3/f3.txt": "a change that ends it\n"})
        work = daemon.flush(None)
        assert work.wait(HANGS_S)
        with pytest.raises(ReposyncError, match="try again"):
            work.result()
        until(lambda: daemon.has_ended, "the engine is dead")
        with pytest.raises(OverloadedError, match="try again"):
            result_of(daemon.flush(None))
        until(lambda: mended(lab), "there is another")
        lab.assert_current()


# A new configuration ------------------------------------------------------------------------------------


def test_what_a_new_configuration_excludes_leaves_the_index_and_comes_back(tmp_path: Path) -> None:
    lab = live(tmp_path)
    lab.write(many(60))
    with lab.running() as daemon:
        for exclude in ('["/d7/", "f1*"]', "[]"):
            lab.variables["REPOSYNCD_INDEX__EXCLUDE"] = exclude
            result_of(daemon.reconfigure(lab.config()))
            lab.assert_current()
            lab.write({"d9/f9.txt": f"still watched, with {exclude}\n"})
            lab.assert_current()


def test_a_flush_that_waits_outlives_a_new_configuration(tmp_path: Path) -> None:
    lab = live(tmp_path, REPOSYNCD_WATCH__SETTLE="60", REPOSYNCD_WATCH__MAX_WAIT="60")
    lab.write(many(20))
    with lab.running() as daemon:
        lab.variables |= {"REPOSYNCD_WATCH__SETTLE": "0.05", "REPOSYNCD_WATCH__MAX_WAIT": "0.5"}
        lab.write({"d3/f3.txt": "a change that would have waited a minute\n"})
        assert daemon.engine.watching.settle(HANGS_S)
        reloaded = daemon.reconfigure(lab.config())
        flush = daemon.flush(None)
        result_of(reloaded)
        assert result_of(flush)["repos"] == ["lab"]
        lab.until_current()
        lab.assert_current()


def test_another_model_is_built_beside_the_old_one_and_switched_to(lab: StoreLab) -> None:
    config = Path(lab.variables["REPOSYNCD_CONFIG"])
    environ = lab.environ()
    del environ["REPOSYNCD_EMBEDDING__MODEL"]
    config.write_text('[embedding]\nmodel = "hashing"\n')
    process = subprocess.Popen(
        [sys.executable, "-m", "reposyncd", "daemon"], env=environ, stderr=subprocess.PIPE, text=True
    )
    client = Client(lab.variables["REPOSYNCD_SOCKET"])

    def collection() -> str | None:
        [repo] = client.request("GET", "/v1/status")["repos"]
        return None if repo["state"] != "current" else repo["collection"]

    try:
        until(lambda: answers(client), "it answers")
        client.request("POST", "/v1/sync", {"path": str(lab.root), "name": "lab"})
        before = collection()
        config.write_text('[embedding]\nmodel = "static"\n')
        process.send_signal(signal.SIGHUP)
        until(lambda: collection() not in (None, before), "another collection serves")
        hits = client.request("POST", "/v1/search", {"query": "file 7", "limit": 3})["hits"]
        assert len(hits) == 3
        stop(process)
    finally:
        end(process)


def test_after_a_stop_nobody_answers(lab: StoreLab) -> None:
    with daemon(lab) as (client, process):
        stop(process)
        with pytest.raises(DaemonNotRunningError):
            client.request("GET", "/v1/status")
    assert not Path(lab.variables["REPOSYNCD_SOCKET"]).exists()


def test_a_new_configuration_gives_nothing_to_do_to_who_has_nothing_to_do(tmp_path: Path) -> None:
    lab = live(tmp_path)
    with lab.running() as daemon:
        result_of(daemon.verify(None, False))
        before = [each.due for each in daemon.engine.jobs.periodic]
        lab.variables["REPOSYNCD_LIMITS__NICE"] = "11"
        result_of(daemon.reconfigure(lab.config()))
        assert [each.due for each in daemon.engine.jobs.periodic] == before
        lab.assert_current()  # after whatever was due


def test_a_new_configuration_is_taken_up_by_the_engine_that_follows_a_dead_one(tmp_path: Path) -> None:
    lab = live(tmp_path)
    lab.index = killer = Killer()
    lab.write(many(20))
    with lab.running() as daemon:
        killer.deaths = 1
        lab.write({"d3/f3.txt": "a change that ends it\n"})
        until(lambda: daemon.has_ended, "the engine is dead")
        lab.variables["REPOSYNCD_INDEX__EXCLUDE"] = '["/d7/"]'
        result_of(daemon.reconfigure(lab.config()))
        until(lambda: mended(lab), "there is another")
        lab.assert_current()
        assert not any(path.startswith("d7/") for path in lab.paths())


def test_a_new_configuration_that_is_refused_leaves_the_log_as_it_was(lab: StoreLab) -> None:
    config = Path(lab.variables["REPOSYNCD_CONFIG"])
    with socket.socket() as taken, daemon(lab) as (client, process):
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        config.write_text(f'[log]\nlevel = "error"\n[api]\nlisten = "127.0.0.1:{taken.getsockname()[1]}"\n')
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGHUP)
        client.request("POST", "/v1/sync", {"path": str(lab.root), "name": "lab"})
        said = stop(process)
    assert '"event": "refused"' in said and '"event": "synced"' in said and '"event": "stopped"' in said


def test_of_two_new_configurations_in_a_row_the_last_one_counts(lab: StoreLab) -> None:
    config = Path(lab.variables["REPOSYNCD_CONFIG"])

    def paths() -> set[str]:
        client.request("POST", "/v1/flush", {})
        hits = client.request("POST", "/v1/search", {"query": "file", "limit": 100})["hits"]
        return {hit["path"].split("/")[0] for hit in hits}

    with daemon(lab) as (client, process):
        client.request("POST", "/v1/sync", {"path": str(lab.root), "name": "lab"})
        for directory in ("d7", "d8"):
            config.write_text(f'[index]\nexclude = ["/{directory}/"]\n')
            process.send_signal(signal.SIGHUP)
        until(lambda: "d7" in paths() and "d8" not in paths(), "the last one counts")
        stop(process)


def test_the_port_of_a_new_configuration_is_opened_and_one_that_is_taken_is_refused(tmp_path: Path) -> None:
    lab = live(tmp_path)
    lab.write(many(5))
    with socket.socket() as taken, lab.running() as daemon:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        taken.listen()
        lab.variables["REPOSYNCD_API__LISTEN"] = address
        with pytest.raises(BusyError, match=address):
            result_of(daemon.reconfigure(lab.config()))
        lab.assert_current()
        taken.close()
        result_of(daemon.reconfigure(lab.config()))
        with socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), HANGS_S) as client:
            client.sendall(b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 401 ")
