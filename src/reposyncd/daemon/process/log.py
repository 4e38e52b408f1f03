"""The log of the service: to the journal, with fields, or to stderr, as text for people or as JSON for programs.

A path or an error cannot forge a second entry, whatever it contains. A repeated warning is written once, and later how
often it was repeated.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, NamedTuple, TextIO

from reposyncd.daemon.events import FRAMES, LOGGER, LogEvent, frames
from reposyncd.daemon.process import systemd
from reposyncd.errors import safe_message
from reposyncd.text import printable

FORMATS = ("auto", "text", "json", "journal")
"""Values of --log-format. "auto" means the journal if systemd has connected stderr to it, else text."""

LEVELS = ("debug", "info", "warning", "error")
"""Values of log.level."""

WINDOW_S = 60.0
"""For how many seconds a repeated warning or error is counted instead of written."""

_REMEMBERED = 200
"""How many different warnings are remembered. If there are more, some may be written twice."""

_PRIORITIES = {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6, logging.DEBUG: 7}
"""The priorities of syslog(3), by level."""


class LogEntry(NamedTuple):
    """What is written for a record: a message without control characters, and fields with JSON types."""

    at: float
    """seconds since the epoch"""
    level: int
    event: LogEvent | None
    message: str
    fields: Mapping[str, Any]


def entry_of(record: logging.LogRecord) -> LogEntry:
    """The entry for a record of the service or of a library, without control characters or values of a traceback."""
    event: LogEvent | None = getattr(record, "log_event", None)
    given: dict[str, Any] = getattr(record, "fields", {})
    if event:
        fields = {name: _shown_lines(value) if name == FRAMES else _shown(value) for name, value in given.items()}
        message = event.text.format(**fields)
    else:
        fields, message = {"logger": record.name}, _shown(record.getMessage())
        if record.exc_info and (error := record.exc_info[1]):
            message = f"{record.name}: {_shown(safe_message(error))}\n{_shown_lines(frames(error))}"
    return LogEntry(record.created, record.levelno, event, message, fields)


def _shown(value: Any) -> Any:
    return printable(value) if isinstance(value, str) else value


def _shown_lines(text: str) -> str:
    return "\n".join(map(printable, text.split("\n")))


@dataclass(slots=True)
class _Burst:
    entry: LogEntry
    until: float
    count: int = 0


class Bursts:
    """Decides which entries are written and which are counted. Pure: the clock (monotonic seconds) is an argument."""

    def __init__(self, window_s: float = WINDOW_S) -> None:
        self._window_s = window_s
        self._bursts: dict[tuple[int, str], _Burst] = {}

    def admit(self, entry: LogEntry, now: float) -> bool:
        """Whether to write the entry. Only warnings and errors are counted instead."""
        if entry.level < logging.WARNING:
            return True
        key = (entry.level, entry.message)
        burst = self._bursts.get(key)
        if burst is None or now >= burst.until:
            if len(self._bursts) < _REMEMBERED:
                self._bursts[key] = _Burst(entry, now + self._window_s)
            return True
        burst.count += 1
        return False

    def due(self, now: float) -> list[LogEntry]:
        """The entries that say how often others were repeated, for those whose window has ended. Forgets these."""
        over = [key for key, burst in self._bursts.items() if now >= burst.until]
        ended = [self._bursts.pop(key) for key in over]
        return [
            each.entry._replace(
                message=f"{each.entry.message} ({each.count:,} more times in {self._window_s:g} s)",
                fields={**each.entry.fields, "count": each.count},
            )
            for each in ended
            if each.count
        ]

    @property
    def next_due(self) -> float | None:
        """When `due` has the next entry; None: never."""
        return min((each.until for each in self._bursts.values() if each.count), default=None)


class Log(logging.Handler):
    """Writes records with `write`. Calls `on_counted` when `next_due` changes from None to a time."""

    def __init__(self, write: Callable[[LogEntry], None], on_counted: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self._write = write
        self._on_counted = on_counted
        self._bursts = Bursts()
        self._guard = threading.RLock()  # re-entrant: a signal handler may log while this thread is logging

    def emit(self, record: logging.LogRecord) -> None:
        """Writes or counts a record. An entry that cannot be written is lost: the log must not stop the service."""
        try:
            entry = entry_of(record)
            self.write_counts()
            with self._guard:
                waits = self._bursts.next_due
                if self._bursts.admit(entry, time.monotonic()):
                    self._write(entry)
            if waits is None and self._bursts.next_due is not None:
                self._on_counted()
        except Exception as error:
            _report_lost(error)

    def write_counts(self, now: float | None = None) -> None:
        """Writes how often entries were repeated whose window has ended; with an infinite `now`, for all of them. An
        entry that cannot be written is lost."""
        try:
            with self._guard:
                for entry in self._bursts.due(time.monotonic() if now is None else now):
                    self._write(entry)
        except Exception as error:
            _report_lost(error)

    @property
    def next_due(self) -> float | None:
        """When `write_counts` has something to write, on the monotonic clock; None: never."""
        with self._guard:
            return self._bursts.next_due


def _report_lost(error: Exception) -> None:
    """Reports on stderr, if possible, that an entry was lost, without its content."""
    with suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(f"a log entry was lost: {safe_message(error)}\n")


@contextmanager
def logging_to(log: Log, level: str) -> Iterator[None]:
    """Sends everything that this process logs to `log`, for as long as the context lasts."""
    root = logging.getLogger()
    root.addHandler(log)
    root.setLevel(logging.WARNING)  # for libraries
    logging.captureWarnings(True)
    set_level(level)
    try:
        yield
    finally:
        log.write_counts(float("inf"))
        root.removeHandler(log)
        logging.captureWarnings(False)


def set_level(level: str) -> None:
    """Sets the lowest level that the service logs: one of LEVELS."""
    logging.getLogger(LOGGER).setLevel(level.upper())


def writer(format: str, environ: Mapping[str, str], stream: TextIO) -> Callable[[LogEntry], None]:
    """The function that writes entries in one of FORMATS. Without systemd-python, the journal gets text with the
    priority in front."""
    to_journal = format == "journal" or (format == "auto" and is_journal(environ, stream))
    if to_journal and systemd.available():
        return write_journal
    if to_journal:
        return lambda entry: _write(
            stream, "".join(f"<{_priority(entry)}>{each}\n" for each in entry.message.split("\n"))
        )
    if format == "json":
        return lambda entry: _write(stream, as_json(entry) + "\n")
    return lambda entry: _write(stream, as_text(entry) + "\n")


def is_journal(environ: Mapping[str, str], stream: TextIO) -> bool:
    """Whether the stream is connected to the journal (systemd.exec(5), JOURNAL_STREAM)."""
    try:
        found = os.fstat(stream.fileno())
        return environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"
    except (OSError, ValueError):
        return False


def as_text(entry: LogEntry) -> str:
    """The entry for people: local time, level, message."""
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry.at))
    return f"{at} {logging.getLevelName(entry.level).lower()}: {entry.message}"


def as_json(entry: LogEntry) -> str:
    """The entry as a JSON object: time (seconds since the epoch), level, event (its name, or null), message, and the
    entry's fields."""
    return json.dumps(
        {
            "time": round(entry.at, 3),
            "level": logging.getLevelName(entry.level).lower(),
            "event": entry.event.name if entry.event else None,
            "message": entry.message,
            **{name: value for name, value in entry.fields.items() if value is not None},
        },
        default=str,
    )


def write_journal(entry: LogEntry) -> None:
    """Sends the entry to the journal, with REPOSYNCD_EVENT, MESSAGE_ID, and REPOSYNCD_<NAME> for each of its
    fields."""
    fields = {f"REPOSYNCD_{name.upper()}": str(value) for name, value in entry.fields.items() if value is not None}
    if entry.event:
        fields |= {"MESSAGE_ID": entry.event.id, "REPOSYNCD_EVENT": entry.event.name}
    systemd.send(entry.message, _priority(entry), fields)


def _priority(entry: LogEntry) -> int:
    return _PRIORITIES.get(entry.level, 6)


def _write(stream: TextIO, text: str) -> None:
    stream.write(text)
    stream.flush()
