"""Printing, also when nobody reads the output any more, as after `| head -1`.

A command that only prints ends then, as if SIGPIPE had killed it. A command that does something prints with `say`: it
goes on in silence, and its exit code says how the work ended.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import click

from reposyncd.errors import ReposyncError

UNREAD = 128 + signal.SIGPIPE
"""Exit code of a command whose output nobody reads. It is the one that a shell reports for a death by SIGPIPE."""

_LOST = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG)
"""Errors of an output that is a file and cannot be written."""


def say(text: str, *, err: bool = False) -> None:
    """Prints a line. If nobody reads the output any more, nothing happens."""
    try:
        click.echo(text, err=err)
    except BrokenPipeError:
        drop(sys.stderr if err else sys.stdout)


def drop(stream: TextIO | None) -> None:
    """Discards what the stream still holds and what is written to it later."""
    if stream is None:
        return
    nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.dup2(nowhere, stream.fileno())
    finally:
        os.close(nowhere)


@contextmanager
def printing() -> Iterator[None]:
    """A context for everything that prints. Raises SystemExit(UNREAD) if nobody reads the output any more, and
    ReposyncError if the output is a file that cannot be written."""
    try:
        yield
    except BrokenPipeError:
        drop(sys.stdout)
        drop(sys.stderr)
        raise SystemExit(UNREAD) from None
    except OSError as error:
        if error.errno not in _LOST or error.filename is not None:
            raise
        drop(sys.stdout)  # else the interpreter tries again when it ends
        raise ReposyncError(f"the output cannot be written: {error.strerror}") from None
