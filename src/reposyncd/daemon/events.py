"""The log of the service: every kind of event, with the message id by which it can be found.

An id never changes its meaning, and is never used again (systemd.journal-fields(7), MESSAGE_ID).
"""

from __future__ import annotations

import logging
import traceback
from typing import Any, NamedTuple

from reposyncd.errors import ReposyncError, safe_message

LOGGER = "reposyncd"
"""The logger of all events."""


class LogEvent(NamedTuple):
    """A kind of event. `text` names its fields. The log entry has these fields, and any others that are given."""

    name: str
    id: str
    level: int
    text: str


READY = LogEvent("ready", "3728305b26b04c25824e586cd033fc8e", logging.INFO, "serving on {socket}, index in {place}")
STOPPING = LogEvent("stopping", "f0967b2423724e0f9174a819647bd9cc", logging.INFO, "stopping on {reason}")
ABANDONED = LogEvent(
    "abandoned",
    "88318a3b13da461db007624814d57285",
    logging.WARNING,
    "the work under way takes too long and is cancelled; the next start repeats it, and nothing is lost",
)
STOPPED = LogEvent("stopped", "20bf98c3d4a54ac8956c5d5ca1a282b3", logging.INFO, "stopped")
RELOADED = LogEvent("reloaded", "3a518f9d33c542df9370a4a2abdd0044", logging.INFO, "configuration reloaded: {reason}")
REFUSED = LogEvent(
    "refused",
    "b9ae10e7bf5b4ae28a7515685211403d",
    logging.ERROR,
    "the new configuration is refused; the old one stays in effect: {reason}",
)
ADDED = LogEvent("added", "e4ca2c8c4909492f8eca6bb0d4613ca7", logging.INFO, "{repo}: now keeping {path} indexed")
REMOVED = LogEvent(
    "removed", "40696f1076504526980af68d8d17b775", logging.INFO, "{repo}: no longer keeping {path} indexed"
)
PAUSED = LogEvent("paused", "f58b1a3c033b46729c90110c0679a761", logging.INFO, "{repo}: paused")
RESUMED = LogEvent("resumed", "5e0f3c00405d4cc9915d467729c8689d", logging.INFO, "{repo}: resumed")
SYNCED = LogEvent(
    "synced",
    "24f8593d112a46b5ab8466e0218d5d2a",
    logging.INFO,
    "{repo}: current: {files:,} files, {chunks:,} chunks ({added:,} added, {relabelled:,} moved, {deleted:,} deleted) "
    "in {duration_s:.1f} s",
)
UPDATED = LogEvent(
    "updated",
    "60af92d6b8d849b0a1e3df9a7d4cf7a1",
    logging.DEBUG,
    "{repo}: changes indexed: {added:,} chunks added, {relabelled:,} moved, {deleted:,} deleted in {duration_s:.3f} s",
)
LOCKED = LogEvent(
    "locked",
    "bfaf8f03739a4b3693e39198dd277b6d",
    logging.WARNING,
    "the state directory is in use: {reason}",
)
FAILED = LogEvent(
    "failed",
    "de2b1a029f554c6dac749bd4fef9f646",
    logging.ERROR,
    "{repo}: the sync failed and will be retried: {reason}",
)
MISSING = LogEvent("missing", "3929c1caf201454f88598f6ca493f3ec", logging.WARNING, "{repo}: {reason}")
WAITING = LogEvent("waiting", "fafa1ca291b94fae99d0cd6096a78bab", logging.WARNING, "{repo}: waiting: {reason}")
RECOVERED = LogEvent("recovered", "bc83f268f0304ffda95fff04c4796437", logging.INFO, "{repo}: recovered from: {reason}")
UNWATCHED = LogEvent(
    "unwatched",
    "701ec569ad444d96b5f5240a79f3228c",
    logging.WARNING,
    "{repo}: some changes are not noticed at once: {reason}",
)
NOT_INDEXED = LogEvent(
    "not_indexed", "7924d52469ce4f22959607fc7eccf882", logging.WARNING, "{repo}: not indexed: {path}: {reason}"
)
DAMAGED = LogEvent(
    "damaged",
    "40843d7b485f4245994731c0380a8dd0",
    logging.ERROR,
    "the {what} was damaged and has been rebuilt: {reason}; the damaged one is in {place}",
)
NOT_TIDIED = LogEvent(
    "not_tidied",
    "1e6eda4645cc41ed8b55ab0498cb63df",
    logging.WARNING,
    "{reason}; it is retried after the next change. Until then the index is correct, but opens more slowly",
)
EVENTS_LOST = LogEvent(
    "events_lost",
    "a87730f4edae48d28de504e7a163f993",
    logging.WARNING,
    "file events were lost ({reason}); all trees are scanned",
)
DIED = LogEvent(
    "died", "daf092938f2549458b253d38056e231a", logging.ERROR, "{what} died and is being restarted: {reason}"
)
STALLED = LogEvent(
    "stalled",
    "7364a8df23d14711a0b5c13381ac9d15",
    logging.CRITICAL,
    "{what} makes no progress; systemd's watchdog is not notified until it does",
)
DISCOVERY = LogEvent("discovery", "8edd5082206447be9de9389783988573", logging.WARNING, "discovery: {reason}")
UNEXPECTED = LogEvent(
    "unexpected", "a2bb135a296a4310b253d14571cb7481", logging.ERROR, "unexpected error in {what}: {reason}\n{frames}"
)
NO_SYSTEMD = LogEvent(
    "no_systemd",
    "323e355d09414a6cab13fbb98ad1cdb3",
    logging.WARNING,
    "systemd-python is not installed: systemd is not notified, so a unit of Type=notify fails, and log entries have no "
    "fields; install it with: pip install systemd-python",
)

LOG_EVENTS: tuple[LogEvent, ...] = tuple(each for each in list(globals().values()) if isinstance(each, LogEvent))

FRAMES = "frames"
"""The only field that may have several lines."""

_FRAMES = 12
"""How many frames of an unexpected error are logged: the last ones."""


def log_event(event: LogEvent, **fields: Any) -> None:
    """Writes an event to the log. From any thread. The fields must not contain file content."""
    logging.getLogger(LOGGER).log(event.level, event.text, extra={"log_event": event, "fields": fields})


def log_unexpected(what: str, error: BaseException) -> None:
    """Logs an error in `what` that nobody expected: its kind, and where it was raised, without values."""
    log_event(UNEXPECTED, what=what, reason=safe_message(error), frames=frames(error))


def internal_error(what: str) -> ReposyncError:
    """The error that a client gets for an unexpected error in `what`. The log has the details; see
    `log_unexpected`."""
    return ReposyncError(f"internal error in {what}; the service's log has the details")


def frames(error: BaseException) -> str:
    """Where the error was raised: a line for each frame, without source code and values."""
    return "\n".join(
        f"  {each.filename}:{each.lineno} in {each.name}"
        for each in traceback.extract_tb(error.__traceback__, -_FRAMES)
    )
