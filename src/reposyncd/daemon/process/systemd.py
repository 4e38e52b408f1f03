"""systemd: what it is told of the service, and its journal. The only module that imports systemd-python, which is
optional: without it nothing is told."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from typing import Any

IDENTIFIER = "reposyncd"
"""SYSLOG_IDENTIFIER of the journal's entries: `journalctl -t reposyncd`."""

_MICROSECONDS = 1_000_000


@cache
def _library() -> tuple[Any, Any] | None:
    """(systemd.daemon, systemd.journal), or None. Imported when it is asked for: it costs a few milliseconds."""
    try:
        return importlib.import_module("systemd.daemon"), importlib.import_module("systemd.journal")
    except ImportError:
        return None


def available() -> bool:
    """Whether systemd-python is there."""
    return _library() is not None


def send(message: str, priority: int, fields: Mapping[str, str]) -> None:
    """One entry of the journal. Only what is given goes there: not the arguments of a record, which systemd-python's
    logging handler would add as CODE_ARGS. CODE_FILE is given so that the place of this call is not looked up."""
    library = _library()
    if library:
        _, journal = library
        journal.send(
            message,
            PRIORITY=str(priority),
            SYSLOG_IDENTIFIER=IDENTIFIER,
            CODE_FILE=IDENTIFIER,
            **fields,
        )


class Notifier:
    """Tells systemd how the service is (sd_notify(3)), if it started the service and wants to know."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._wanted = bool(environ.get("NOTIFY_SOCKET")) and available()
        self._status = ""
        watchdog_us = int(environ.get("WATCHDOG_USEC") or 0)
        is_ours = environ.get("WATCHDOG_PID") in (None, "", str(os.getpid()))
        self.watchdog_s: float | None = (
            watchdog_us / _MICROSECONDS if self._wanted and watchdog_us and is_ours else None
        )
        """how long systemd waits for `feed`; None: it does not"""

    @property
    def is_wanted(self) -> bool:
        """Whether anybody listens."""
        return self._wanted

    def ready(self) -> None:
        """It is up; or up again, after a reload."""
        self._tell("READY=1")

    def status(self, text: str) -> None:
        """What it is doing, on one line; shown by systemctl status."""
        if text != self._status:
            self._status = text
            self._tell(f"STATUS={text}")

    def extend_start(self, seconds: float) -> None:
        """The start takes longer: so long from now on at most."""
        self._tell(f"EXTEND_TIMEOUT_USEC={int(seconds * _MICROSECONDS)}")

    def reloading(self) -> None:
        """It reads its configuration; `ready` says that it has."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """It is on its way out."""
        self._tell("STOPPING=1")

    def feed(self) -> None:
        """The watchdog."""
        self._tell("WATCHDOG=1")

    def _tell(self, text: str) -> None:
        library = _library() if self._wanted else None
        if library:
            with suppress(OSError):  # nobody listens any more; that is no reason to end
                library[0].notify(text)
