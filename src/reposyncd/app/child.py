"""Entry point of the child processes: the index process with its embedder, and the chunking processes. Connects their
workers with other rooms; see `store.process.worker`, `embedding.process` and `chunking.worker`.
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
    """`python -P -m reposyncd.app.child store FD LIFELINE`, or `... embed FD LIFELINE`, or
    `... chunk FD LIFELINE MEMORY_BYTES`, or `... salvage STORE MANIFEST FINGERPRINT TARGET`.

    Which store and which embedder, the first message on the socket FD says. `entry` is the module that runs: this one,
    or one that calls `main`. The children of this process are started with the same module.
    """
    faulthandler.enable()  # a crash in native code leaves a stack trace in the log
    # An interrupt from outside ends the process, as any signal does. As an exception, it would fail the operation.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.umask(0o077)
    if sys.argv[1] == "salvage":
        from reposyncd.store.chroma.salvaging import main as salvage

        salvage(*sys.argv[2:])
        return
    role, fd, lifeline, *rest = sys.argv[1:]
    connection = Connection(int(fd))
    if role == "store":
        _store(connection, int(lifeline), entry)
    elif role == "chunk":
        _die_with(int(lifeline))
        _chunk(connection, *rest)
    else:
        threading.Thread(target=_end_with, args=(int(lifeline),), name="lifeline", daemon=True).start()
        from reposyncd.embedding.process import serve

        serve(connection)


def _end_with(lifeline: int) -> None:
    """Ends the whole process group when the parent is gone, even if Chroma hangs: Chroma holds the interpreter lock of
    its process in the meantime, so that no thread in that process could notice."""
    os.read(lifeline, 1)
    os.killpg(0, signal.SIGKILL)


def _die_with(lifeline: int) -> None:
    """Has the kernel kill this process when the parent is gone, whatever this process is doing: a grammar holds the
    interpreter lock, so that no thread here could notice, and a stopped process handles no other signal."""
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([lifeline], [], [], 0)[0]:
        sys.exit()  # the parent is gone already


def _chunk(connection: Connection, memory_bytes: str) -> None:
    _, allowed = resource.getrlimit(resource.RLIMIT_DATA)
    limit = int(memory_bytes) if allowed == resource.RLIM_INFINITY else min(int(memory_bytes), allowed)
    with suppress(OSError, ValueError):  # a sandbox may refuse this; CPU time is limited in any case
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    from reposyncd.chunking.worker import serve
    from reposyncd.tree.read import classify

    with suppress(EOFError, OSError):
        serve(connection, classify)


def _store(connection: Connection, lifeline: int, entry: str) -> None:
    from reposyncd.embedding.process import EmbedderProcess

    try:
        _, _, [spec, [kind, *arguments]] = connection.recv()
    except (EOFError, OSError):
        return  # the parent is gone
    embed = EmbedderProcess(spec, lifeline, entry)
    from reposyncd.app.stores import backend
    from reposyncd.store.process.worker import IndexWorker, serve, wait_notifier

    serve(connection, IndexWorker(backend(kind, arguments, wait_notifier(connection)), embed))


if __name__ == "__main__":
    main()
