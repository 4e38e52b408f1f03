"""systemd: notifications about the state of the service, and the journal. Only this module imports systemd-python. That
is optional: without it, nothing is sent."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from typing import Any

IDENTIFIER = "reposyncd"
"""SYSLOG_IDENTIFIER of the journal entries: `journalctl -t reposyncd`."""

_MICROSECONDS = 1_000_000


@cache
def _library() -> tuple[Any, Any] | None:
    """(systemd.daemon, systemd.journal), or None. Imported when first needed, since it takes a few milliseconds."""
    try:
        return importlib.import_module("systemd.daemon"), importlib.import_module("systemd.journal")
    except ImportError:
        return None


def available() -> bool:
    """Whether systemd-python is installed."""
    return _library() is not None


def send(message: str, priority: int, fields: Mapping[str, str]) -> None:
    """Writes one journal entry, with these fields only. systemd-python's own logging handler would add the arguments of
    a record (CODE_ARGS). CODE_FILE is set so that the library does not look up the caller."""
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
    """Notifies systemd of the state of the service (sd_notify(3)), if systemd started it and wants to be notified."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._wanted = bool(environ.get("NOTIFY_SOCKET")) and available()
        self._status = ""
        watchdog_us = int(environ.get("WATCHDOG_USEC") or 0)
        is_ours = environ.get("WATCHDOG_PID") in (None, "", str(os.getpid()))
        self.watchdog_s: float | None = (
            watchdog_us / _MICROSECONDS if self._wanted and watchdog_us and is_ours else None
        )
        """for how many seconds systemd waits for `feed`; None: it does not wait"""

    @property
    def is_wanted(self) -> bool:
        """Whether systemd wants notifications."""
        return self._wanted

    def ready(self) -> None:
        """The service is ready, after a start or a reload."""
        self._notify("READY=1")

    def status(self, text: str) -> None:
        """Sets the status line, which `systemctl status` shows."""
        if text != self._status:
            self._status = text
            self._notify(f"STATUS={text}")

    def extend_start(self, seconds: float) -> None:
        """Asks for more time to start: at most this many seconds from now."""
        self._notify(f"EXTEND_TIMEOUT_USEC={int(seconds * _MICROSECONDS)}")

    def reloading(self) -> None:
        """The service is reading its configuration. Call `ready` when that is done."""
        self._notify(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """The service is about to end."""
        self._notify("STOPPING=1")

    def feed(self) -> None:
        """Resets the watchdog's timer."""
        self._notify("WATCHDOG=1")

    def _notify(self, text: str) -> None:
        library = _library() if self._wanted else None
        if library:
            with suppress(OSError):  # systemd does not listen any more, which is no reason to stop
                library[0].notify(text)
