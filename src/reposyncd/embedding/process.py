"""The embedder's process, which the index process starts, and both ends of the socket between them.

Chroma's upsert holds the interpreter lock from beginning to end, so the embedder has a process of its own. Thus two
cores can store and embed at the same time, and load at the same time.

The first message to the embedder's process is its spec. Each further message is a list of texts. The reply is their
vectors, or an error.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from reposyncd.child_process import has_crashed, how_it_ended
from reposyncd.errors import EmbedderLostError, LethalTextError, PermanentStoreError, ReposyncError

if TYPE_CHECKING:
    from reposyncd.embedding.base import Vectors
    from reposyncd.embedding.guarded import GuardedEmbedder
    from reposyncd.embedding.spec import EmbedderSpec

_PROCESSES = 2
"""How many processes one request may use. The second one shows that the first did not end by accident."""

_EXIT_S = 5.0
"""How long a process may take to end after it has closed its socket. It still writes a crash to the log then."""

ROLE = "embed"
"""The role that is passed to the entry module."""


# In the index process -----------------------------------------------------------------------------------


class EmbedderProcess:
    """Embeds texts in a process of its own, which is started again after it has died. From any thread.

    `spec` is None for an embedder that is never used. `entry` is the module to run: with the arguments `ROLE`, a
    descriptor and `lifeline`, it calls `serve`. When the other end of the descriptor `lifeline` is closed, the process
    is not needed any more.
    """

    def __init__(self, spec: EmbedderSpec | None, lifeline: int, entry: str) -> None:
        self._spec = spec
        self._lifeline = lifeline
        self._entry = entry
        self._one_at_a_time = threading.Lock()  # replies are only identified by their order
        self._child: _Child | None = None
        self._start()

    def __call__(self, texts: list[str]) -> Vectors:
        """The vectors. Raises what `guarded.GuardedEmbedder` raises; LethalTextError if two processes have crashed with
        these texts; EmbedderLostError if two were ended from outside, or none can be started."""
        with self._one_at_a_time:
            ends = crashes = 0
            how = ""
            while ends < _PROCESSES:
                child = self._child = self._child or self._started()
                try:
                    reply = child.ask(texts)
                except Exception:  # it has died, or its replies can no longer be assigned to requests
                    code = child.reap()
                    ends, crashes, how = ends + 1, crashes + has_crashed(code), how_it_ended(code)
                    sys.stderr.write(f"the embedder {how}\n")
                    self._child = None
                    self._start()
                    continue
                if isinstance(reply, ReposyncError):
                    raise reply
                return reply
        kind = LethalTextError if crashes == _PROCESSES else EmbedderLostError
        raise kind(f"the embedder {how}, {_PROCESSES} times with the same texts")

    def _start(self) -> None:
        """Starts a process before it is needed, if possible. If not, the next call raises the reason."""
        with suppress(EmbedderLostError):
            self._child = self._started()

    def _started(self) -> _Child:
        try:
            return _Child(self._spec, self._lifeline, self._entry)
        except OSError as error:
            raise EmbedderLostError(f"the embedder could not be started: {error.strerror}") from error


class _Child:
    """One process. Raises OSError if it cannot be started."""

    def __init__(self, spec: EmbedderSpec | None, lifeline: int, entry: str) -> None:
        ours, theirs = socket.socketpair()
        self._connection = Connection(ours.detach())
        with theirs:
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", entry, ROLE, str(theirs.fileno()), str(lifeline)],
                    pass_fds=[theirs.fileno(), lifeline],
                )
            except OSError:
                self._connection.close()
                raise
        with suppress(OSError):  # it is gone already, which `ask` notices
            self._connection.send(spec)  # not as an argument, because it may contain a secret

    def ask(self, texts: list[str]) -> Vectors | ReposyncError:
        """The reply. Raises EOFError or OSError when the process is gone."""
        self._connection.send(texts)
        reply: Vectors | ReposyncError = self._connection.recv()
        return reply

    def reap(self) -> int:
        """Waits for the process to end, kills it if it does not, and returns its exit code."""
        self._connection.close()
        try:
            return self._process.wait(_EXIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


# In the embedder's process ------------------------------------------------------------------------------


def serve(connection: Connection) -> None:
    """Answers requests until the other side is gone. No error of an embedder ends it."""
    from reposyncd.embedding.guarded import GuardedEmbedder

    with suppress(EOFError, OSError):
        spec: EmbedderSpec | None = connection.recv()
        embedder = GuardedEmbedder(spec) if spec else None
        if embedder:
            embedder.start()
        while True:
            texts: list[str] = connection.recv()
            connection.send(_answer(embedder, texts))


def _answer(embedder: GuardedEmbedder | None, texts: list[str]) -> Vectors | ReposyncError:
    if embedder is None:
        return PermanentStoreError("this process has no embedder")
    try:
        return embedder.embed(texts)
    except ReposyncError as error:
        return error
