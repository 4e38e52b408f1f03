"""One life of a child process, seen from its parent: the child, the socket to it, its log, its end."""

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
"""What a child inherits. Chroma takes settings, class names among them, from any variable it knows."""

_ENTRY = "reposyncd.app.child"
"""Named, not imported: it joins rooms above this one."""

_LAST_WORDS = 20_000
"""Characters of the log in which the cause of a death is looked for."""

_BEFORE = ".old"
"""What the name of the log before this one ends in."""

_FATAL = "Fatal Python error: "
"""Begins what Python's fault handler writes."""

_CRASHES = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE, signal.SIGSYS})
"""What a process dies of by what it does itself. Any other signal was sent to it: SIGKILL by the kernel when memory is
short, SIGTERM by a person."""

_OUT_OF_MEMORY = ("memory allocation of", "MemoryError", "std::bad_alloc", "Cannot allocate memory")
"""What Rust, Python and C++ say before they abort for want of memory, which is nobody's fault."""

_HELD = "TtD"
"""States of a process (proc(5)) that does not run: stopped by somebody, or waiting for a disk."""

LEAVE_S = 2.0
"""How long the child may take to leave by itself when asked to."""

Message = tuple[int, str, tuple[Any, ...]]
"""(number, operation, arguments)"""


class ChildProcess:
    """A running child. `send` and `kill` may be called from any thread, `poll` and `receive` from one.

    Raises TransientStoreError if there are no descriptors, processes or threads left to start it with.
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
        """`role` is what `reposyncd.app.child` is to do; `what` names it in errors; `environment` is what it has beside
        what it inherits."""
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
        """The child's process id, and that of its group, in which are those that it has started."""
        return self._process.pid

    @property
    def returncode(self) -> int:
        """As subprocess has it. Of one that was buried."""
        return int(self._process.returncode)

    def cpu_s(self) -> float:
        """Processor time that it has used. Raises OSError when it is gone."""
        # Linux's number of a process's clock: MAKE_PROCESS_CPUCLOCK in the kernel's posix-timers.h, CPUCLOCK_SCHED.
        return time.clock_gettime((~self._process.pid << 3) | 2)

    def send(self, message: Message) -> None:
        """Sends when the child has room; never blocks."""
        self._outgoing.put(message)

    def poll(self, timeout_s: float) -> bool:
        """Whether there is an answer, or an end, to be received."""
        return self._connection.poll(timeout_s)

    def receive(self) -> Any:
        """The next answer. Raises EOFError or OSError when the child is gone."""
        return self._connection.recv()

    def end(self, leave_s: float = LEAVE_S) -> None:
        """Lets the child leave, and kills it if it has not after so long."""
        self._outgoing.put(None)
        # Not close: the thread that receives is waiting on it, and buries the child when it sees the end.
        self._hang_up()
        try:
            self._process.wait(leave_s)
        except subprocess.TimeoutExpired:
            self._kill()

    def kill(self) -> None:
        """Kills it, and does not wait. Not when somebody may be burying it."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def reap(self, leave_s: float = 0.0) -> None:
        """Kills the child if it lives after so long, and lets go of everything. By the thread that receives, at its
        end. One that leaves closes its connection before it has left."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(leave_s)
        self._kill()
        self._outgoing.put(None)
        self._hang_up()  # a send that waits for room fails
        self._sender.join()
        self._connection.close()
        self._socket.close()
        os.close(self._lifeline)

    def exit_reason(self) -> str:
        """How it died. Of its own last words only those of Python's fault handler, which name no content."""
        last = [line.strip() for line in self._last_words().splitlines() if line.startswith(_FATAL)]
        how = how_it_ended(self._process.returncode)
        return f"{how} ({last[-1]})" if last else how

    def has_crashed(self) -> bool:
        """Whether it died of what it did, as far as can be told: not of a signal from outside, nor for want of
        memory."""
        words = self._last_words()
        return has_crashed(self.returncode) and not any(sign in words for sign in _OUT_OF_MEMORY)

    def is_held(self) -> bool:
        """Whether the child, or one of its own, is kept from running: stopped, or waiting for a disk."""
        return any(_state(pid) in _HELD for pid in (self.pid, *_children(self.pid)))

    def _last_words(self) -> str:
        try:
            with open(self.log_path, encoding="utf-8", errors="replace") as log:
                return log.read()[-_LAST_WORDS:]
        except OSError:
            return ""

    def _start(self, state_dir: str, arguments: Sequence[str]) -> None:
        with ExitStack() as failed, ExitStack() as started:
            self._socket, theirs = socket.socketpair()
            failed.callback(self._socket.close)
            started.callback(theirs.close)
            # Nobody writes to it: its end tells the child that this process is gone.
            lifeline, self._lifeline = os.pipe()
            failed.callback(os.close, self._lifeline)
            started.callback(os.close, lifeline)
            self._keep_log()
            log = os.open(self.log_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            started.callback(os.close, log)
            self._connection = Connection(os.dup(self._socket.fileno()))
            failed.callback(self._connection.close)
            self._process = subprocess.Popen(
                # -P: the working directory is no place to import from.
                [sys.executable, "-P", "-m", _ENTRY, self._role, str(theirs.fileno()), str(lifeline), *arguments],
                pass_fds=[theirs.fileno(), lifeline],
                # Chroma reads .env in the working directory: never that of an indexed repository.
                cwd=state_dir,
                env={**inherited(), **self._environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # A Ctrl-C at the terminal is the parent's to handle.
                start_new_session=True,
            )
            failed.callback(self._kill)
            self._sender = threading.Thread(target=self._send_all, name=f"{self._role}-requests", daemon=True)
            self._sender.start()
            failed.pop_all()

    def _keep_log(self) -> None:
        """What the last child had to say stays beside the log of this one: errors refer to it."""
        with suppress(FileNotFoundError):
            if os.path.getsize(self.log_path):
                os.replace(self.log_path, self.log_path + _BEFORE)

    def _send_all(self) -> None:
        try:
            while message := self._outgoing.get():
                self._connection.send(message)
        except OSError:
            self._hang_up()  # it died, or a send failed, and its answer would be waited for until its deadline
        except BaseException:
            self._hang_up()  # what cannot be sent would be waited for for ever
            raise

    def _hang_up(self) -> None:
        """The thread that receives sees an end, and acts."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def _kill(self) -> None:
        # While the child is not waited for, its number is its own.
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def has_crashed(code: int) -> bool:
    """Whether a process with this return code, as subprocess has it, died of what it did itself."""
    return -code in _CRASHES


def how_it_ended(code: int) -> str:
    """The return code of a process, in words."""
    if code >= 0:
        return f"left with exit code {code}"
    named = -code in signal.Signals.__members__.values()  # most real-time signals are not
    return f"died of {signal.Signals(-code).name if named else f'signal {-code}'}"


def _children(pid: int) -> list[int]:
    """Each thread has those that it has started."""
    found: list[int] = []
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError), open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as children:
                found += map(int, children.read().split())
    return found


def _state(pid: int) -> str:
    """The letter of proc(5); "Z" for a process that is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
            return stat.read().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def inherited() -> dict[str, str]:
    """The environment of a child."""
    environ = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    if places := os.environ.get("PYTHONPATH"):
        # Relative places are relative to this process's working directory, which is not the child's.
        environ["PYTHONPATH"] = os.pathsep.join(os.path.abspath(place) for place in places.split(os.pathsep) if place)
    return environ
