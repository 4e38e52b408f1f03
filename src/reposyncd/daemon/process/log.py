"""The service's log: to the journal with fields, or to stderr for people (text) or programs (JSON).

A line is one line whatever a path or an error holds. What is repeated is said once, and then how often it was.
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

from reposyncd.daemon.events import FRAMES, LOGGER, Notice, frames
from reposyncd.daemon.process import systemd
from reposyncd.errors import safe_message
from reposyncd.text import printable

FORMATS = ("auto", "text", "json", "journal")
"""Of --log-format. "auto": the journal where systemd has connected stderr to it, else text."""

LEVELS = ("debug", "info", "warning", "error")
"""Of log.level."""

WINDOW_S = 60.0
"""A warning or an error that is said again within this time is counted, not written."""

_REMEMBERED = 200
"""Different warnings that are remembered at once; of more than that, some may be written twice."""

_PRIORITIES = {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6, logging.DEBUG: 7}
"""Levels of syslog(3)."""


class Line(NamedTuple):
    """What is written of a record: text on one line for each of its lines, and its fields as JSON has them."""

    at: float
    """seconds since the epoch"""
    level: int
    notice: Notice | None
    message: str
    fields: Mapping[str, Any]


def line_of(record: logging.LogRecord) -> Line:
    """The line of a record, of ours or of a library's: no control characters, no values of a traceback."""
    notice: Notice | None = getattr(record, "notice", None)
    given: dict[str, Any] = getattr(record, "fields", {})
    if notice:
        fields = {name: _shown_lines(value) if name == FRAMES else _shown(value) for name, value in given.items()}
        message = notice.text.format(**fields)
    else:
        fields, message = {"logger": record.name}, _shown(record.getMessage())
        if record.exc_info and (error := record.exc_info[1]):
            message = f"{record.name}: {_shown(safe_message(error))}\n{_shown_lines(frames(error))}"
    return Line(record.created, record.levelno, notice, message, fields)


def _shown(value: Any) -> Any:
    return printable(value) if isinstance(value, str) else value


def _shown_lines(text: str) -> str:
    return "\n".join(map(printable, text.split("\n")))


@dataclass(slots=True)
class _Burst:
    line: Line
    until: float
    count: int = 0


class Bursts:
    """Which lines are written, and which are counted. Pure: the clock (monotonic seconds) is an argument."""

    def __init__(self, window_s: float = WINDOW_S) -> None:
        self._window_s = window_s
        self._bursts: dict[tuple[int, str], _Burst] = {}

    def admit(self, line: Line, now: float) -> bool:
        """Whether to write it. Only warnings and worse are ever counted instead."""
        if line.level < logging.WARNING:
            return True
        key = (line.level, line.message)
        burst = self._bursts.get(key)
        if burst is None or now >= burst.until:
            if len(self._bursts) < _REMEMBERED:
                self._bursts[key] = _Burst(line, now + self._window_s)
            return True
        burst.count += 1
        return False

    def due(self, now: float) -> list[Line]:
        """What is to be said of those that were counted and whose time is over. They are forgotten."""
        over = [key for key, burst in self._bursts.items() if now >= burst.until]
        ended = [self._bursts.pop(key) for key in over]
        return [
            each.line._replace(
                message=f"{each.line.message} ({each.count:,} more times in {self._window_s:g} s)",
                fields={**each.line.fields, "count": each.count},
            )
            for each in ended
            if each.count
        ]

    @property
    def next_due(self) -> float | None:
        """When something is to be said; None if nothing is."""
        return min((each.until for each in self._bursts.values() if each.count), default=None)


class Log(logging.Handler):
    """Writes records with `write`. `on_counted` is called when something is to be said later: see `next_due`."""

    def __init__(self, write: Callable[[Line], None], on_counted: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self._write = write
        self._on_counted = on_counted
        self._bursts = Bursts()
        self._guard = threading.RLock()  # a signal may come in between, and its handler may have something to say

    def emit(self, record: logging.LogRecord) -> None:
        """Writes it, or counts it. What cannot be written is lost: the log must not end the service."""
        try:
            line = line_of(record)
            self.say_counted()
            with self._guard:
                waits = self._bursts.next_due
                if self._bursts.admit(line, time.monotonic()):
                    self._write(line)
            if waits is None and self._bursts.next_due is not None:
                self._on_counted()
        except Exception as error:
            _say_lost(error)

    def say_counted(self, now: float | None = None) -> None:
        """Writes how often those lines were repeated whose time is over (`now` infinite: of all). What cannot be
        written is lost."""
        try:
            with self._guard:
                for line in self._bursts.due(time.monotonic() if now is None else now):
                    self._write(line)
        except Exception as error:
            _say_lost(error)

    @property
    def next_due(self) -> float | None:
        """When `say_counted` has something to say, on the monotonic clock; None: it has nothing."""
        with self._guard:
            return self._bursts.next_due


def _say_lost(error: Exception) -> None:
    """On stderr, if that can be written to, without the line."""
    with suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(f"a log line was lost: {safe_message(error)}\n")


@contextmanager
def logging_to(log: Log, level: str) -> Iterator[None]:
    """Everything that is logged in this process goes to `log` while the context lasts."""
    root = logging.getLogger()
    root.addHandler(log)
    root.setLevel(logging.WARNING)  # of libraries
    logging.captureWarnings(True)
    set_level(level)
    try:
        yield
    finally:
        log.say_counted(float("inf"))
        root.removeHandler(log)
        logging.captureWarnings(False)


def set_level(level: str) -> None:
    """How much the service says: one of LEVELS."""
    logging.getLogger(LOGGER).setLevel(level.upper())


def writer(format: str, environ: Mapping[str, str], stream: TextIO) -> Callable[[Line], None]:
    """What writes lines in one of FORMATS. The journal without systemd-python: text, with its priority in front."""
    to_journal = format == "journal" or (format == "auto" and is_journal(environ, stream))
    if to_journal and systemd.available():
        return write_journal
    if to_journal:
        return lambda line: _write(stream, "".join(f"<{_priority(line)}>{each}\n" for each in line.message.split("\n")))
    if format == "json":
        return lambda line: _write(stream, as_json(line) + "\n")
    return lambda line: _write(stream, as_text(line) + "\n")


def is_journal(environ: Mapping[str, str], stream: TextIO) -> bool:
    """Whether the stream is the journal's (systemd.exec(5), JOURNAL_STREAM)."""
    try:
        found = os.fstat(stream.fileno())
        return environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"
    except (OSError, ValueError):
        return False


def as_text(line: Line) -> str:
    """For people: local time, level, message."""
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(line.at))
    return f"{at} {logging.getLevelName(line.level).lower()}: {line.message}"


def as_json(line: Line) -> str:
    """One object: time (seconds since the epoch), level, event (the notice's name, or null), message, its fields."""
    return json.dumps(
        {
            "time": round(line.at, 3),
            "level": logging.getLevelName(line.level).lower(),
            "event": line.notice.name if line.notice else None,
            "message": line.message,
            **{name: value for name, value in line.fields.items() if value is not None},
        },
        default=str,
    )


def write_journal(line: Line) -> None:
    """With a field REPOSYNCD_<NAME> for each of the line's, REPOSYNCD_EVENT, and MESSAGE_ID."""
    fields = {f"REPOSYNCD_{name.upper()}": str(value) for name, value in line.fields.items() if value is not None}
    if line.notice:
        fields |= {"MESSAGE_ID": line.notice.id, "REPOSYNCD_EVENT": line.notice.name}
    systemd.send(line.message, _priority(line), fields)


def _priority(line: Line) -> int:
    return _PRIORITIES.get(line.level, 6)


def _write(stream: TextIO, text: str) -> None:
    stream.write(text)
    stream.flush()
