"""Entry point of the child processes: the index process with its embedder, and the chunking processes. Joins their
workers with what other rooms have: see `store.worker` and `chunking.worker`.

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
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from reposyncd.errors import ReposyncError

if TYPE_CHECKING:
    from reposyncd.embedding.base import Embedder, Vectors


def main() -> None:
    """`python -P -m reposyncd.child store FD LIFELINE CHROMA_DIR EMBEDDER LOCK_TIMEOUT_S`, or `... embed FD LIFELINE
    EMBEDDER`, or `... chunk FD LIFELINE MEMORY_BYTES`."""
    faulthandler.enable()  # a crash in native code leaves a stack in the log
    os.umask(0o077)
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


def _store(connection: Connection, lifeline: int, chroma_dir: str, embedder: str, lock_timeout_s: str) -> None:
    embed = _start_embedder(embedder, lifeline)
    os.close(lifeline)
    from reposyncd.store.worker import Index, serve

    def tell(kind: str, value: object) -> None:
        connection.send((None, kind, value))

    serve(connection, Index(chroma_dir, embed, float(lock_timeout_s), tell))


def _start_embedder(name: str, lifeline: int) -> Callable[[list[str]], Vectors]:
    ours, theirs = socket.socketpair()
    with theirs:
        subprocess.Popen(
            [sys.executable, "-P", "-m", "reposyncd.child", "embed", str(theirs.fileno()), str(lifeline), name],
            pass_fds=[theirs.fileno(), lifeline],
        )
    connection = Connection(ours.detach())

    one_at_a_time = threading.Lock()  # answers are told apart by their order alone

    def embed(texts: list[str]) -> Vectors:
        try:
            with one_at_a_time:
                connection.send(texts)
                reply = connection.recv()
        except (EOFError, OSError):
            # The parent takes the death of either for that of both, and starts both again.
            os._exit(1)
        if isinstance(reply, ReposyncError):
            raise reply
        vectors: Vectors = reply
        return vectors

    return embed


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
