"""The embedder's process, which the index process starts, and both ends of the socket between them.

Chroma's upsert holds the interpreter lock from beginning to end, so the embedder has an interpreter of its own: two
cores store and embed at the same time, and load at the same time.

The first message to the embedder's process is its spec. Each message after that is a list of texts, and is answered
with their vectors or with an error.
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
"""How many processes one request may cost. The second shows that the first did not end by accident."""

_EXIT_S = 5.0
"""How long a process may take to end after it has closed its socket: a crash is still written to the log then."""

ROLE = "embed"
"""What the entry module is to do."""


# In the index process -----------------------------------------------------------------------------------


class EmbedderProcess:
    """Embeds texts in a process of its own, which is started again when it has died. From any thread.

    `spec` is None for an embedder that is never asked. `entry` is the module that is run: with the arguments `ROLE`, a
    descriptor and `lifeline` it calls `serve`. `lifeline` is a descriptor whose end tells the process that it is not
    needed any more.
    """

    def __init__(self, spec: EmbedderSpec | None, lifeline: int, entry: str) -> None:
        self._spec = spec
        self._lifeline = lifeline
        self._entry = entry
        self._one_at_a_time = threading.Lock()  # answers are told apart by their order alone
        self._child: _Child | None = None
        self._start()

    def __call__(self, texts: list[str]) -> Vectors:
        """The vectors. Raises what `guarded.GuardedEmbedder` raises; LethalTextError when two processes have crashed
        with these texts; EmbedderLostError when somebody else has ended two of them, or none can be started."""
        with self._one_at_a_time:
            ends = crashes = 0
            how = ""
            while ends < _PROCESSES:
                child = self._child = self._child or self._started()
                try:
                    reply = child.ask(texts)
                except Exception:  # it has died, or its answers cannot be told apart any more
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
        """Starts a process before it is needed, if that can be done. If not, the next call says why."""
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
        with suppress(OSError):  # it is gone already, which `ask` finds out
            self._connection.send(spec)  # never an argument: it may hold a secret

    def ask(self, texts: list[str]) -> Vectors | ReposyncError:
        """The answer. Raises EOFError or OSError when the process is gone."""
        self._connection.send(texts)
        reply: Vectors | ReposyncError = self._connection.recv()
        return reply

    def reap(self) -> int:
        """Lets go of the process and returns its exit code. One that does not end is killed."""
        self._connection.close()
        try:
            return self._process.wait(_EXIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


# In the embedder's process ------------------------------------------------------------------------------


def serve(connection: Connection) -> None:
    """Answers until the other side is gone. No error of an embedder ends it."""
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
