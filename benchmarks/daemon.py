"""The daemon as its users run it: a child with a state directory and a socket of its own, until it is told to stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import tree
from reposyncd.app.client import Client
from reposyncd.daemon.engine.schedule import QUIET_S

_START_S = 30.0
_STOP_S = 60.0
_CURRENT_S = 1800.0
_POLL_S = 0.05

_TIDY_S = QUIET_S + 3.0
"""Idle for so long, it has made the checkpoint that was due: it thinks of one after QUIET_S."""

PROGRAM = ("-m", "reposyncd")


class Daemon:
    """A context manager: started when it is made, ended with SIGTERM, and killed if it does not end.

    `place` is an existing directory, in which the state directory "state" and the socket are. `environ` is set for it,
    in place of any other REPOSYNCD_ variable. `program` is how the interpreter is to run it.
    """

    def __init__(self, place: str, environ: Mapping[str, str] = {}, program: Sequence[str] = PROGRAM) -> None:
        self.state = str(Path(place) / "state")
        socket = str(Path(place) / "socket")
        self._log = Path(place) / "daemon.log"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("REPOSYNCD_")}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, *program, "--state-dir", self.state, "daemon"],
                env={**inherited, "REPOSYNCD_SOCKET": socket, **environ},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.client = Client(socket, self.state)
        try:
            self._wait_for(self.client.running, _START_S, "it answers")
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Daemon:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return self._process.pid

    def stop(self) -> None:
        """May be called again."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def log(self) -> str:
        """What it said."""
        return self._log.read_text(errors="replace").strip()

    def status(self) -> dict[str, Any]:
        return self.client.request("GET", "/v1/status")

    def repo(self) -> dict[str, Any]:
        """The state of the one repository that it keeps."""
        [repo] = self.status()["repos"]
        return dict(repo)

    def index(self, path: str) -> dict[str, Any]:
        """Adds the tree and waits until it is indexed; what the first look at it did."""
        return self.client.request("POST", "/v1/sync", {"path": path})

    def flush(self) -> None:
        """Returns when every change of before is in the index."""
        self.client.request("POST", "/v1/flush")

    def settle(self) -> None:
        """Waits until all is current and nothing is left to do, a checkpoint neither."""
        idle_since = time.monotonic()

        def is_settled() -> bool:
            nonlocal idle_since
            status = self.status()
            # "degraded" is a tree that not every change can be seen of; it is as current as it will be.
            is_current = all(repo["state"] in ("current", "degraded") for repo in status["repos"])
            if not (is_current and status["daemon"]["state"] == "idle"):
                idle_since = time.monotonic()
            return time.monotonic() - idle_since >= _TIDY_S

        self._wait_for(is_settled, _CURRENT_S, "it is current and idle")

    def wait_for_lonely(self, timeout_s: float) -> None:
        """Waits until the index process is gone."""
        self._wait_for(lambda: tree(self.pid) == [self.pid], timeout_s, "its index process has left")

    def _wait_for(self, condition: Callable[[], bool], timeout_s: float, what: str) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            if self._process.poll() is not None:
                raise SystemExit(f"the daemon ended with {self._process.returncode} before {what}\n{self.log()}")
            if time.monotonic() >= deadline:
                raise SystemExit(f"not within {timeout_s:g} s: {what}\n{self.log()}")
            time.sleep(_POLL_S)
