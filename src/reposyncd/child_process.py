"""A child process, as its parent sees it: how it starts, the socket to it, its log file, and how it ended."""

from __future__ import annotations

import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from multiprocessing.connection import Connection
from types import MappingProxyType
from typing import Any

from reposyncd.errors import TransientStoreError

_ENVIRONMENT = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "PYTHONDONTWRITEBYTECODE",
)
"""The variables that a child inherits. All others are left out: Chroma takes settings from any variable that it knows,
even the names of classes to load."""

_ENTRY = "reposyncd.app.child"
"""The module that the child runs. It imports rooms above this one, so it is named here and not imported."""

_LOG_TAIL = 20_000
"""How many characters at the end of the log file are searched for the cause of death."""

_OLD_LOG = ".old"
"""Suffix of the log file of the previous child."""

_FATAL = "Fatal Python error: "
"""How a message of Python's fault handler begins."""

_CRASHES = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE, signal.SIGSYS})
"""Signals that a process gets because of its own faults. Any other signal comes from outside: SIGKILL from the kernel
when memory is short, SIGTERM from a person."""

_OUT_OF_MEMORY = ("memory allocation of", "MemoryError", "std::bad_alloc", "Cannot allocate memory")
"""What Rust, Python and C++ write before they abort because there is no memory. That is not a crash of the child."""

_BLOCKED = "TtD"
"""States (proc(5)) in which a process cannot run: stopped (T, t), or waiting for a disk (D)."""

GRACEFUL_EXIT_S = 2.0
"""How long a child has to exit by itself after it was asked to, in seconds."""

Message = tuple[int, str, tuple[Any, ...]]
"""(number, operation, arguments)"""


class ChildProcess:
    """A running child. Any thread may call `send` and `kill`. One thread, the receiver, calls `poll`, `receive` and
    `reap`.

    The constructor starts the child. It raises TransientStoreError if the system has no file descriptors, processes or
    threads left.
    """

    def __init__(
        self,
        role: str,
        what: str,
        state_dir: str,
        log_name: str,
        arguments: Sequence[str],
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """`role` tells `reposyncd.app.child` what to do, `what` names the child in error messages, and `environment`
        has variables that the child gets in addition to those that it inherits."""
        self._role = role
        self._environment = environment
        self.log_path = os.path.join(state_dir, log_name)
        self._outgoing: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        try:
            self._start(state_dir, arguments)
        except (OSError, RuntimeError) as error:
            why = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else error
            raise TransientStoreError(f"{what} could not be started: {why}") from error

    @property
    def pid(self) -> int:
        """The child's process id. It is also the id of its process group, which contains the processes that it
        started."""
        return self._process.pid

    @property
    def returncode(self) -> int:
        """The exit status, as `subprocess` reports it. Valid after `reap`."""
        return int(self._process.returncode)

    def cpu_s(self) -> float:
        """CPU time that the child has used, in seconds. Raises OSError if it is gone."""
        # Linux's id of the clock of a process: MAKE_PROCESS_CPUCLOCK in the kernel's posix-timers.h, CPUCLOCK_SCHED.
        return time.clock_gettime((~self._process.pid << 3) | 2)

    def send(self, message: Message) -> None:
        """Queues a message, which is sent when the child has room for it. Never blocks."""
        self._outgoing.put(message)

    def poll(self, timeout_s: float) -> bool:
        """Waits up to `timeout_s` for a reply, or for the end of the child. Returns whether either has come."""
        return self._connection.poll(timeout_s)

    def receive(self) -> Any:
        """The next reply. Raises EOFError or OSError when the child is gone."""
        return self._connection.recv()

    def end(self, exit_s: float = GRACEFUL_EXIT_S) -> None:
        """Asks the child to exit, and kills it after `exit_s` if it has not."""
        self._outgoing.put(None)
        # Shut down, not closed: the receiver still reads from it, and reaps the child when it reads the end.
        self._shut_down()
        try:
            self._process.wait(exit_s)
        except subprocess.TimeoutExpired:
            self._kill()

    def kill(self) -> None:
        """Kills the child and does not wait. Must not be called during or after `reap`."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def reap(self, exit_s: float = 0.0) -> None:
        """Waits up to `exit_s` for the child to exit, kills it if it has not, and closes everything.

        Called once, by the receiver, after `receive` has raised. A child that exits closes its connection first.
        """
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(exit_s)
        self._kill()
        self._outgoing.put(None)
        self._shut_down()  # so that a pending send fails
        self._sender.join()
        self._connection.close()
        self._socket.close()
        os.close(self._lifeline)

    def exit_reason(self) -> str:
        """Describes how the child ended. From its log, this quotes only messages of Python's fault handler, which
        contain no file content."""
        fatal = [line.strip() for line in self._log_tail().splitlines() if line.startswith(_FATAL)]
        how = how_it_ended(self._process.returncode)
        return f"{how} ({fatal[-1]})" if fatal else how

    def has_crashed(self) -> bool:
        """Whether the child crashed. Not if a signal from outside ended it, or if it ran out of memory."""
        tail = self._log_tail()
        return has_crashed(self.returncode) and not any(sign in tail for sign in _OUT_OF_MEMORY)

    def is_blocked(self) -> bool:
        """Whether the child, or one of its own children, cannot run: it is stopped, or waits for a disk."""
        return any(_state(pid) in _BLOCKED for pid in (self.pid, *_children(self.pid)))

    def _log_tail(self) -> str:
        try:
            with open(self.log_path, encoding="utf-8", errors="replace") as log:
                return log.read()[-_LOG_TAIL:]
        except OSError:
            return ""

    def _start(self, state_dir: str, arguments: Sequence[str]) -> None:
        with ExitStack() as failed, ExitStack() as started:
            self._socket, theirs = socket.socketpair()
            failed.callback(self._socket.close)
            started.callback(theirs.close)
            # A pipe that nobody writes to. When this process ends, the child reads the end of the pipe.
            lifeline, self._lifeline = os.pipe()
            failed.callback(os.close, self._lifeline)
            started.callback(os.close, lifeline)
            self._rotate_log()
            log = os.open(self.log_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            started.callback(os.close, log)
            self._connection = Connection(os.dup(self._socket.fileno()))
            failed.callback(self._connection.close)
            self._process = subprocess.Popen(
                # -P: do not import from the working directory.
                [sys.executable, "-P", "-m", _ENTRY, self._role, str(theirs.fileno()), str(lifeline), *arguments],
                pass_fds=[theirs.fileno(), lifeline],
                # Chroma reads .env in the working directory, which must not be an indexed repository.
                cwd=state_dir,
                env={**inherited(), **self._environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Only the parent handles Ctrl-C at the terminal.
                start_new_session=True,
            )
            failed.callback(self._kill)
            self._sender = threading.Thread(target=self._send_all, name=f"{self._role}-requests", daemon=True)
            self._sender.start()
            failed.pop_all()

    def _rotate_log(self) -> None:
        """Renames the log file of the previous child instead of overwriting it, because error messages refer to it."""
        with suppress(FileNotFoundError):
            if os.path.getsize(self.log_path):
                os.replace(self.log_path, self.log_path + _OLD_LOG)

    def _send_all(self) -> None:
        try:
            while message := self._outgoing.get():
                self._connection.send(message)
        except OSError:
            self._shut_down()  # the child died; without this, the receiver would wait until the deadline
        except BaseException:
            self._shut_down()  # the message cannot be sent; without this, the receiver would wait forever
            raise

    def _shut_down(self) -> None:
        """Ends the connection in both directions, so that the receiver reads the end."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def _kill(self) -> None:
        # The process id cannot be reused until somebody has waited for the child.
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def has_crashed(code: int) -> bool:
    """Whether a process with this exit status (as `subprocess` reports it) crashed: it died of a signal that it caused
    itself."""
    return -code in _CRASHES


def how_it_ended(code: int) -> str:
    """Describes an exit status (as `subprocess` reports it)."""
    if code >= 0:
        return f"exited with code {code}"
    named = -code in signal.Signals.__members__.values()  # most real-time signals have no name
    return f"died of {signal.Signals(-code).name if named else f'signal {-code}'}"


def _children(pid: int) -> list[int]:
    """The children of all threads of the process."""
    found: list[int] = []
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError), open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as children:
                found += map(int, children.read().split())
    return found


def _state(pid: int) -> str:
    """The state of the process, a letter of proc(5); "Z" if it is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
            return stat.read().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def inherited() -> dict[str, str]:
    """The environment that a child inherits."""
    environ = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    if paths := os.environ.get("PYTHONPATH"):
        # Relative paths are relative to this process's working directory, and the child has another one.
        environ["PYTHONPATH"] = os.pathsep.join(os.path.abspath(path) for path in paths.split(os.pathsep) if path)
    return environ
