"""What is printed, and what becomes of it when nobody reads it any more, as after `| head -1`.

A command that only prints ends then, as if SIGPIPE had ended it. One that does something does it to the end, without a
word, and its exit code is that of what it did: those print with `say`.
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
"""Exit code of a command whose output nobody reads: what a shell makes of a program that SIGPIPE ended."""

_LOST = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG)
"""The errors of an output that is a file, and could not be written."""


def say(text: str, *, err: bool = False) -> None:
    """Prints a line of what was done, which goes unread if nobody reads it."""
    try:
        click.echo(text, err=err)
    except BrokenPipeError:
        drop(sys.stderr if err else sys.stdout)


def drop(stream: TextIO | None) -> None:
    """What is written to the stream from now on, and what it still holds, goes nowhere."""
    if stream is None:
        return
    nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.dup2(nowhere, stream.fileno())
    finally:
        os.close(nowhere)


@contextmanager
def printing() -> Iterator[None]:
    """Around whatever prints. Raises SystemExit(UNREAD) when nobody reads it any more, and ReposyncError when it is a
    file that cannot be written."""
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
