"""Printing, also if the output was closed, as by `| head -1`.

A command that only prints then ends as if SIGPIPE had killed it. A command that does something prints with `say`: it
continues silently, and its exit code says how the work ended.
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
"""Exit code if the output was closed. A shell reports the same code for a death by SIGPIPE."""

_LOST = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG)
"""Errors of an output that is a file that cannot be written."""


def say(text: str, *, err: bool = False) -> None:
    """Prints a line. Does nothing if the output was closed."""
    try:
        click.echo(text, err=err)
    except BrokenPipeError:
        drop(sys.stderr if err else sys.stdout)


def drop(stream: TextIO | None) -> None:
    """Discards what the stream still holds, and everything that is written to it later."""
    if stream is None:
        return
    nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.dup2(nowhere, stream.fileno())
    finally:
        os.close(nowhere)


@contextmanager
def printing() -> Iterator[None]:
    """A context for everything that prints. Raises SystemExit(UNREAD) if the output was closed, and ReposyncError if
    the output is a file that cannot be written."""
    try:
        yield
    except BrokenPipeError:
        drop(sys.stdout)
        drop(sys.stderr)
        raise SystemExit(UNREAD) from None
    except OSError as error:
        if error.errno not in _LOST or error.filename is not None:
            raise
        drop(sys.stdout)  # without this, the interpreter tries again when it ends
        raise ReposyncError(f"the output cannot be written: {error.strerror}") from None
