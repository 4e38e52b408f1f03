"""Entry point of the child processes: the index process with its embedder, and the chunking processes. Joins their
workers with what other rooms have: see `store.process.worker`, `embedding.process` and `chunking.worker`.
"""

from __future__ import annotations

import faulthandler
import fcntl
import os
import resource
import select
import signal
import sys
import threading
from contextlib import suppress
from multiprocessing.connection import Connection

ENTRY = "reposyncd.app.child"


def main(entry: str = ENTRY) -> None:
    """`python -P -m reposyncd.app.child store FD LIFELINE KIND ARGUMENT...`, or `... embed FD LIFELINE`, or
    `... chunk FD LIFELINE MEMORY_BYTES`, or `... salvage STORE MANIFEST FINGERPRINT TARGET`.

    KIND is that of the store, and the ARGUMENTs are those of its address. `entry` is the module that is run, this one
    or one that calls `main`: children of this process are started with it.
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
        _store(connection, int(lifeline), entry, *rest)
    elif role == "chunk":
        _die_with(int(lifeline))
        _chunk(connection, *rest)
    else:
        threading.Thread(target=_end_with, args=(int(lifeline),), name="lifeline", daemon=True).start()
        from reposyncd.embedding.process import serve

        serve(connection)


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


def _store(connection: Connection, lifeline: int, entry: str, kind: str, *arguments: str) -> None:
    from reposyncd.embedding.process import EmbedderProcess

    try:
        _, _, [spec] = connection.recv()
    except (EOFError, OSError):
        return  # the parent is gone
    embed = EmbedderProcess(spec, lifeline, entry)
    from reposyncd.app.stores import backend
    from reposyncd.store.process.worker import IndexWorker, news_of_waiting, serve

    serve(connection, IndexWorker(backend(kind, arguments, news_of_waiting(connection)), embed))


if __name__ == "__main__":
    main()
