"""Entry point of the child processes: the index process with its embedder, and the chunking processes. Joins their
workers with what other rooms have: see `store.process.worker` and `chunking.worker`.

Chroma's upsert holds the interpreter lock from beginning to end, so the embedder has an interpreter of its own:
two cores store and embed at the same time, and load at the same time.
"""

from __future__ import annotations

import faulthandler
import fcntl
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from reposyncd.child_process import has_crashed, how_it_ended
from reposyncd.errors import EmbedderLostError, LethalTextError, ReposyncError

if TYPE_CHECKING:
    from reposyncd.embedding.base import Embedder, Vectors


_LIVES = 2
"""Embedders that one request may cost. The second shows that it was no accident."""

_DIES_S = 5.0
"""How long a process that has let go of its socket may take to end."""


def main() -> None:
    """`python -P -m reposyncd.app.child store FD LIFELINE EMBEDDER KIND ARGUMENT...`, or `... embed FD LIFELINE
    EMBEDDER`, or `... chunk FD LIFELINE MEMORY_BYTES`, or `... salvage STORE MANIFEST FINGERPRINT TARGET`.

    KIND is that of the store, and the ARGUMENTs are those of its address.
    """
    faulthandler.enable()  # a crash in native code leaves a stack in the log
    # An interrupt that somebody sends ends it, as any signal does; raised as an error it would be the operation's.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.umask(0o077)
    if sys.argv[1] == "salvage":
        from reposyncd.store.chroma.salvaging import main as salvage

        salvage(*sys.argv[2:])
        return
    role, fd, lifeline, *rest = sys.argv[1:]
    connection = Connection(int(fd))
    if role == "store":
        _store(connection, int(lifeline), *rest)
    elif role == "chunk":
        _die_with(int(lifeline))
        _chunk(connection, *rest)
    else:
        threading.Thread(target=_end_with, args=(int(lifeline),), name="lifeline", daemon=True).start()
        _embed(connection, *rest)


def _end_with(lifeline: int) -> None:
    """Ends the whole group of processes when the one that started it is gone, even if Chroma hangs: it holds the
    interpreter lock of its process meanwhile, so that no thread there could see it."""
    os.read(lifeline, 1)
    os.killpg(0, signal.SIGKILL)


def _die_with(lifeline: int) -> None:
    """The kernel kills this process when the one that started it is gone, whatever this one does: a grammar holds the
    interpreter lock, so that no thread here could see it, and one that is stopped handles no other signal."""
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([lifeline], [], [], 0)[0]:
        sys.exit()  # it is gone already


def _chunk(connection: Connection, memory_bytes: str) -> None:
    _, allowed = resource.getrlimit(resource.RLIMIT_DATA)
    limit = int(memory_bytes) if allowed == resource.RLIM_INFINITY else min(int(memory_bytes), allowed)
    with suppress(OSError, ValueError):  # a sandbox may refuse it; time is limited nevertheless
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    from reposyncd.chunking.worker import serve
    from reposyncd.tree.read import classify

    with suppress(EOFError, OSError):
        serve(connection, classify)


def _store(connection: Connection, lifeline: int, embedder: str, kind: str, *arguments: str) -> None:
    embed = _Embedding(embedder, lifeline)
    from reposyncd.app.stores import backend
    from reposyncd.store.process.worker import IndexWorker, news_of_waiting, serve

    serve(connection, IndexWorker(backend(kind, arguments, news_of_waiting(connection)), embed))


class _Embedding:
    """The embedder, a process of its own: started again when it has died, and asked again.

    Who kills it says nothing of the store, so the index process stays. Raises LethalTextError when it has crashed
    twice of the same texts, EmbedderLostError when it was ended from outside as often, or cannot be started.
    """

    def __init__(self, name: str, lifeline: int) -> None:
        self._name = name
        self._lifeline = lifeline
        self._one_at_a_time = threading.Lock()  # answers are told apart by their order alone
        self._start()

    def __call__(self, texts: list[str]) -> Vectors:
        with self._one_at_a_time:
            ends, crashes, how = 0, 0, ""
            while ends < _LIVES:
                try:
                    self._connection.send(texts)
                    reply = self._connection.recv()
                except (EOFError, OSError):
                    code = self._bury()
                    ends, crashes, how = ends + 1, crashes + has_crashed(code), how_it_ended(code)
                    sys.stderr.write(f"the embedder {how}\n")
                    self._start()
                    continue
                if isinstance(reply, ReposyncError):
                    raise reply
                vectors: Vectors = reply
                return vectors
        kind = LethalTextError if crashes == _LIVES else EmbedderLostError
        raise kind(f"the embedder {how}, {_LIVES} times with the same texts")

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._connection = Connection(ours.detach())
            arguments = ["embed", str(theirs.fileno()), str(self._lifeline), self._name]
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "reposyncd.app.child", *arguments],
                    pass_fds=[theirs.fileno(), self._lifeline],
                )
            except OSError as error:
                raise EmbedderLostError(f"the embedder could not be started: {error.strerror}") from error

    def _bury(self) -> int:
        """Its return code. One that has let go of its socket and lives is killed: a crash that is being written to
        the log takes a moment longer than the socket."""
        self._connection.close()
        try:
            return self._process.wait(_DIES_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


def _embed(connection: Connection, name: str) -> None:
    """Answers lists of texts with their vectors, or with an error, until the other side is gone."""
    from reposyncd.embedding import create

    made: list[Embedder] = []

    def embed(texts: list[str]) -> Vectors:
        if not made:
            made.append(create(name))
        return made[0].embed(texts)

    with suppress(Exception):  # whoever asks first is told
        if name:  # "" for a process that is never to embed
            embed(["loaded before it is needed"])
    with suppress(EOFError, OSError):
        while True:
            texts = connection.recv()
            try:
                connection.send(embed(texts))
            except ReposyncError as error:
                connection.send(error)


if __name__ == "__main__":
    main()
