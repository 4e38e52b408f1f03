"""The parent's side of the index process: starts it, talks to it, kills it when it is late, starts it again."""

from __future__ import annotations

import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from reposyncd.errors import StoreBusyError, TransientStoreError
from reposyncd.model import Applied, Batch, Hit, Record

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
"""What the child inherits. Chroma takes settings, class names among them, from any variable it knows."""

_ENTRY = "reposyncd.child"
"""Named, not imported: it joins this room with another."""

_ATTEMPTS = 3
"""Tries of one request: each may cost a child. A request that kills three is not going to succeed."""

_LAST_WORDS = 2000
"""Characters of the log in which its last line is looked for."""

_LEAVE_S = 2.0
"""How long the child may take to leave by itself when asked to."""


@dataclass(slots=True)
class _Request:
    operation: str
    arguments: tuple[Any, ...]
    future: Future[Any] = field(default_factory=Future)
    attempts: int = 0
    trouble: TransientStoreError | None = None
    """what it ended with the last time, if the child could still tell"""


class IndexProcess:
    """A `ports.VectorIndex` whose work is done by a child process.

    The child is started by the first operation (or `start`). When it dies, an operation takes longer than
    `deadline_s`, or fails in a way that may pass (a full disk), the child is killed and started again, and what was
    not answered is sent again in order: operations are idempotent. An operation fails with TransientStoreError when
    it has cost three children. A lock that another program holds fails it at once: it has been waited for.

    Operations may be called from any thread. `close` ends the child; it also ends when this process does.
    """

    def __init__(
        self, state_dir: str, chroma_dir: str, embedder: str, *, lock_timeout_s: float, deadline_s: float
    ) -> None:
        self._state_dir = state_dir
        self._arguments = [chroma_dir, embedder, repr(lock_timeout_s)]
        self._deadline_s = deadline_s
        self._lock = threading.Lock()
        self._waiting: deque[_Request] = deque()
        self._child: _Child | None = None
        self._closed = False

    # VectorIndex ----------------------------------------------------------------------------------------

    def open(self, collection: str, metadata: Mapping[str, str]) -> int:
        return int(self._submit("open", collection, dict(metadata)).result())

    def apply(self, collection: str, batch: Batch) -> Future[Applied]:
        return self._submit("apply", collection, batch)

    def delete(self, collection: str, ids: Sequence[str]) -> Future[None]:
        return self._submit("delete", collection, list(ids))

    def drop(self, collection: str) -> None:
        self._submit("drop", collection).result()

    def ids(self, collection: str) -> set[str]:
        found: set[str] = self._submit("ids", collection).result()
        return found

    def records(self, collection: str) -> list[Record]:
        found: list[Record] = self._submit("records", collection).result()
        return found

    def query(self, collection: str, text: str, limit: int) -> list[Hit]:
        found: list[Hit] = self._submit("query", collection, text, limit).result()
        return found

    # The child's life -----------------------------------------------------------------------------------

    @property
    def pid(self) -> int | None:
        """The child's process id while it runs."""
        with self._lock:
            return self._child.process.pid if self._child else None

    def start(self) -> None:
        """Starts the child now, so that its imports overlap with the caller's own work."""
        with self._lock:
            self._ensure_child()

    def close(self) -> None:
        """Ends the child and waits until it is gone. What is not answered by then fails."""
        with self._lock:
            self._closed = True
            child, self._child = self._child, None
            waiting, self._waiting = list(self._waiting), deque()
        if child:
            child.end()
        for request in waiting:
            request.future.set_exception(TransientStoreError("the index process was closed"))

    def _submit(self, operation: str, *arguments: Any) -> Future[Any]:
        request = _Request(operation, arguments)
        with self._lock:
            if self._closed:
                raise TransientStoreError("the index process was closed")
            child = self._ensure_child()
            self._waiting.append(request)
            child.send(request)
        return request.future

    def _ensure_child(self) -> _Child:
        if self._child is None:
            child = _Child(self._state_dir, self._arguments)
            try:
                threading.Thread(target=self._receive, args=(child,), name="index-replies", daemon=True).start()
            except RuntimeError as error:
                child.kill()
                raise TransientStoreError(f"the index process could not be started: {error}") from error
            self._child = child
        return self._child

    def _receive(self, child: _Child) -> None:
        """Resolves futures until the child is dead; then starts the next one with what is left."""
        late = False
        while True:
            try:
                # Replies come in order, so the time between two of them is the time of one operation.
                started = time.monotonic()
                while not child.connection.poll(1.0):
                    with self._lock:
                        busy = bool(self._waiting)
                    if not busy:
                        started = time.monotonic()
                    elif time.monotonic() - started > self._deadline_s:
                        late = True
                        raise EOFError
                number, succeeded, value = child.connection.recv()
            except Exception:
                break  # its end, or an answer that cannot be read: either way it is replaced, and asked again
            with self._lock:
                if not self._waiting or id(self._waiting[0]) != number:
                    break  # closed meanwhile
                if isinstance(value, TransientStoreError) and not isinstance(value, StoreBusyError):
                    self._waiting[0].trouble = value
                    break  # the child leaves too: its client is of no use any more
                request = self._waiting.popleft()
            if succeeded:
                request.future.set_result(value)
            else:
                request.future.set_exception(value)
        child.kill()
        child.connection.close()
        self._recover(child, "was killed: no answer within its deadline" if late else child.epitaph())

    def _recover(self, child: _Child, cause: str) -> None:
        with self._lock:
            if self._closed or self._child is not child:
                return
            self._child = None
            failed: _Request | None = None
            if self._waiting:
                # The first unanswered request is what it was doing; the others only waited behind it.
                self._waiting[0].attempts += 1
                if self._waiting[0].attempts >= _ATTEMPTS:
                    failed = self._waiting.popleft()
            orphans: list[_Request] = []
            if self._waiting:
                try:
                    successor = self._ensure_child()
                except Exception:  # whatever it was, nobody may be left waiting
                    orphans, self._waiting = list(self._waiting), deque()
                else:
                    for request in self._waiting:
                        successor.send(request)
        if failed:
            failed.future.set_exception(
                failed.trouble
                or TransientStoreError(
                    f"the index process {cause}, {_ATTEMPTS} times in the same operation ({failed.operation}); "
                    f"see {child.log_path}"
                )
            )
        for request in orphans:
            request.future.set_exception(
                TransientStoreError(f"the index process {cause}, and could not be started again")
            )


def _environment() -> dict[str, str]:
    environ = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    if places := os.environ.get("PYTHONPATH"):
        # Relative places are relative to this process's working directory, which is not the child's.
        environ["PYTHONPATH"] = os.pathsep.join(os.path.abspath(place) for place in places.split(os.pathsep) if place)
    return environ


class _Child:
    """One life of the index process."""

    def __init__(self, state_dir: str, arguments: Sequence[str]) -> None:
        self.log_path = os.path.join(state_dir, "index-process.log")
        try:
            self._start(state_dir, arguments)
        except (OSError, RuntimeError) as error:  # no descriptors, processes or threads left
            raise TransientStoreError(f"the index process could not be started: {error}") from error

    def _start(self, state_dir: str, arguments: Sequence[str]) -> None:
        self._socket, theirs = socket.socketpair()
        log = -1
        try:
            log = os.open(self.log_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            self.process = subprocess.Popen(
                # -P: the working directory is no place to import from.
                [sys.executable, "-P", "-m", _ENTRY, "store", str(theirs.fileno()), *arguments],
                pass_fds=[theirs.fileno()],
                # Chroma reads .env in the working directory: never that of an indexed repository.
                cwd=state_dir,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # A Ctrl-C at the terminal is the parent's to handle.
                start_new_session=True,
            )
        except BaseException:
            self._socket.close()
            raise
        finally:
            theirs.close()
            if log >= 0:
                os.close(log)
        self._outgoing: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        try:
            self.connection = Connection(os.dup(self._socket.fileno()))
            threading.Thread(target=self._send_all, name="index-requests", daemon=True).start()
        except BaseException:
            self.kill()
            raise

    def send(self, request: _Request) -> None:
        """Sends when the child has room; never blocks."""
        self._outgoing.put(request)

    def _send_all(self) -> None:
        try:
            while request := self._outgoing.get():
                self.connection.send((id(request), request.operation, request.arguments))
        except OSError:
            return  # it died; the thread that receives sees that too, and acts

    def end(self) -> None:
        """Lets the child leave, and kills it if it does not."""
        self._outgoing.put(None)
        # Not close: the thread that receives is waiting on it, and closes it when it sees the end.
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        try:
            self.process.wait(_LEAVE_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """Ends the child at once; safe at any moment."""
        # The embedder is of the same group. While the child is not waited for, the number is its own.
        if self.process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._outgoing.put(None)
        self._socket.close()

    def epitaph(self) -> str:
        """How it died."""
        code = self.process.returncode
        how = f"died of {signal.Signals(-code).name}" if code < 0 else f"left with exit code {code}"
        try:
            with open(self.log_path, encoding="utf-8", errors="replace") as log:
                last = [line.strip() for line in log.read()[-_LAST_WORDS:].splitlines() if line.strip()][-1:]
        except OSError:
            last = []
        return f"{how} ({last[0]})" if last else how
