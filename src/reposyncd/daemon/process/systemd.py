"""systemd: notifications of how the service is, and the journal. The only module that imports systemd-python, which is
optional: without it nothing is sent."""

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
    """(systemd.daemon, systemd.journal), or None. Imported when first needed: it costs a few milliseconds."""
    try:
        return importlib.import_module("systemd.daemon"), importlib.import_module("systemd.journal")
    except ImportError:
        return None


def available() -> bool:
    """Whether systemd-python is installed."""
    return _library() is not None


def send(message: str, priority: int, fields: Mapping[str, str]) -> None:
    """Writes one entry of the journal, with these fields only. systemd-python's own logging handler would add the
    arguments of a record (CODE_ARGS). CODE_FILE is set so that the library does not look up the caller."""
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
    """Notifies systemd of how the service is (sd_notify(3)), if systemd started it and wants to know."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._wanted = bool(environ.get("NOTIFY_SOCKET")) and available()
        self._status = ""
        watchdog_us = int(environ.get("WATCHDOG_USEC") or 0)
        is_ours = environ.get("WATCHDOG_PID") in (None, "", str(os.getpid()))
        self.watchdog_s: float | None = (
            watchdog_us / _MICROSECONDS if self._wanted and watchdog_us and is_ours else None
        )
        """how many seconds systemd waits for `feed`; None: it does not wait"""

    @property
    def is_wanted(self) -> bool:
        """Whether systemd wants notifications."""
        return self._wanted

    def ready(self) -> None:
        """The service is ready, after its start or after a reload."""
        self._tell("READY=1")

    def status(self, text: str) -> None:
        """What the service is doing, in one line, which systemctl status shows."""
        if text != self._status:
            self._status = text
            self._tell(f"STATUS={text}")

    def extend_start(self, seconds: float) -> None:
        """The start takes longer: at most so many seconds from now."""
        self._tell(f"EXTEND_TIMEOUT_USEC={int(seconds * _MICROSECONDS)}")

    def reloading(self) -> None:
        """The service reads its configuration. Call `ready` when that is done."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """The service is about to end."""
        self._tell("STOPPING=1")

    def feed(self) -> None:
        """Resets the watchdog's timer."""
        self._tell("WATCHDOG=1")

    def _tell(self, text: str) -> None:
        library = _library() if self._wanted else None
        if library:
            with suppress(OSError):  # systemd does not listen any more, which is no reason to end
                library[0].notify(text)
