"""The service as its users run it: a child process with a state directory and a socket of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.measure import tree
from reposyncd.app.client import Client
from reposyncd.app.remote import RemoteApp
from reposyncd.daemon.engine.schedule import QUIET_S

if TYPE_CHECKING:
    from reposyncd.app import messages

_START_S = 30.0
_STOP_S = 60.0
_CURRENT_S = 1800.0
_POLL_S = 0.05

_CHECKPOINT_S = QUIET_S + 3.0
"""After so long without work, a checkpoint that was due is done: the service begins it after QUIET_S."""

PROGRAM = ("-m", "reposyncd")


class Daemon:
    """A context manager: starts the service, and stops it with SIGTERM, or kills it if it does not stop.

    `place` is an existing directory, which gets the state directory "state" and the socket. The service gets `environ`
    instead of the REPOSYNCD_ variables of this process. `program` are the interpreter's arguments.
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
        self.app = RemoteApp(Client(socket, self.state))
        try:
            self._wait_for(self.app.is_running, _START_S, "it answers")
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
        """What the service has logged."""
        return self._log.read_text(errors="replace").strip()

    def status(self) -> messages.Status:
        return self.app.status()

    def repo(self) -> messages.RepoStatus:
        """The state of the only repository."""
        [repo] = self.status()["repos"]
        return repo

    def index(self, path: str) -> messages.SyncResult:
        """Adds the tree, waits until it is indexed, and returns what the first sync did."""
        return self.app.sync(path, None, full=False).result()

    def flush(self) -> None:
        """Returns when every change that was made before is in the index."""
        self.app.flush(None).result()

    def settle(self) -> None:
        """Waits until everything is current and nothing is left to do, not even a checkpoint."""
        idle_since = time.monotonic()

        def is_settled() -> bool:
            nonlocal idle_since
            status = self.status()
            # "degraded": some changes of the tree give no event; it is as current as it can be.
            is_current = all(repo["state"] in ("current", "degraded") for repo in status["repos"])
            if not (is_current and status["daemon"]["state"] == "idle"):
                idle_since = time.monotonic()
            return time.monotonic() - idle_since >= _CHECKPOINT_S

        self._wait_for(is_settled, _CURRENT_S, "it is current and idle")

    def wait_for_lonely(self, timeout_s: float) -> None:
        """Waits until the index process is gone."""
        self._wait_for(lambda: tree(self.pid) == [self.pid], timeout_s, "its index process has left")

    def _wait_for(self, condition: Callable[[], bool], timeout_s: float, what: str) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            if self._process.poll() is not None:
                raise SystemExit(f"the service ended with {self._process.returncode} before {what}\n{self.log()}")
            if time.monotonic() >= deadline:
                raise SystemExit(f"not within {timeout_s:g} s: {what}\n{self.log()}")
            time.sleep(_POLL_S)
