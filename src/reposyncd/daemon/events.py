"""What the service tells its log: every kind of notice, with the message id by which one finds and alerts on it.

An id never changes its meaning, and is not used again (systemd.journal-fields(7), MESSAGE_ID).
"""

from __future__ import annotations

import logging
import traceback
from typing import Any, NamedTuple

from reposyncd.errors import ReposyncError, safe_message

LOGGER = "reposyncd"
"""The logger of all notices."""


class Notice(NamedTuple):
    """A kind of notice. `text` names its fields; those, and any others that it is said with, are in the log too."""

    name: str
    id: str
    level: int
    text: str


READY = Notice("ready", "3728305b26b04c25824e586cd033fc8e", logging.INFO, "serving on {socket}, index in {place}")
STOPPING = Notice("stopping", "f0967b2423724e0f9174a819647bd9cc", logging.INFO, "stopping on {reason}")
ABANDONED = Notice(
    "abandoned",
    "88318a3b13da461db007624814d57285",
    logging.WARNING,
    "what is under way takes too long and is cut off; it is done again at the next start, and nothing is lost",
)
STOPPED = Notice("stopped", "20bf98c3d4a54ac8956c5d5ca1a282b3", logging.INFO, "stopped")
RELOADED = Notice("reloaded", "3a518f9d33c542df9370a4a2abdd0044", logging.INFO, "configuration reloaded: {reason}")
REFUSED = Notice(
    "refused",
    "b9ae10e7bf5b4ae28a7515685211403d",
    logging.ERROR,
    "the new configuration is refused, and the old one stays: {reason}",
)
ADDED = Notice("added", "e4ca2c8c4909492f8eca6bb0d4613ca7", logging.INFO, "{repo}: is kept from now on: {path}")
REMOVED = Notice("removed", "40696f1076504526980af68d8d17b775", logging.INFO, "{repo}: is kept no longer: {path}")
PAUSED = Notice("paused", "f58b1a3c033b46729c90110c0679a761", logging.INFO, "{repo}: paused")
RESUMED = Notice("resumed", "5e0f3c00405d4cc9915d467729c8689d", logging.INFO, "{repo}: resumed")
SYNCED = Notice(
    "synced",
    "24f8593d112a46b5ab8466e0218d5d2a",
    logging.INFO,
    "{repo}: current: {files:,} files, {chunks:,} chunks ({added:,} added, {relabelled:,} moved, {deleted:,} deleted) "
    "in {duration_s:.1f} s",
)
UPDATED = Notice(
    "updated",
    "60af92d6b8d849b0a1e3df9a7d4cf7a1",
    logging.DEBUG,
    "{repo}: changes taken up: {added:,} chunks added, {relabelled:,} moved, {deleted:,} deleted in {duration_s:.3f} s",
)
LOCKED = Notice(
    "locked",
    "bfaf8f03739a4b3693e39198dd277b6d",
    logging.WARNING,
    "the state is held: {reason}",
)
FAILED = Notice(
    "failed",
    "de2b1a029f554c6dac749bd4fef9f646",
    logging.ERROR,
    "{repo}: cannot be brought up to date: {reason}; it is tried again",
)
MISSING = Notice("missing", "3929c1caf201454f88598f6ca493f3ec", logging.WARNING, "{repo}: {reason}")
WAITING = Notice("waiting", "fafa1ca291b94fae99d0cd6096a78bab", logging.WARNING, "{repo}: waiting: {reason}")
RECOVERED = Notice("recovered", "bc83f268f0304ffda95fff04c4796437", logging.INFO, "{repo}: it goes on after: {reason}")
UNWATCHED = Notice(
    "unwatched", "701ec569ad444d96b5f5240a79f3228c", logging.WARNING, "{repo}: not every change is seen: {reason}"
)
NOT_INDEXED = Notice(
    "not_indexed", "7924d52469ce4f22959607fc7eccf882", logging.WARNING, "{repo}: not indexed: {path}: {reason}"
)
DAMAGED = Notice(
    "damaged",
    "40843d7b485f4245994731c0380a8dd0",
    logging.ERROR,
    "the {what} was found damaged, and was made anew: {reason}; what was found is kept in {place}",
)
NOT_TIDIED = Notice(
    "not_tidied",
    "1e6eda4645cc41ed8b55ab0498cb63df",
    logging.WARNING,
    "{reason}; it is tried again after the next change. The index is right, and opens more slowly",
)
EVENTS_LOST = Notice(
    "events_lost",
    "a87730f4edae48d28de504e7a163f993",
    logging.WARNING,
    "file events were lost ({reason}); every tree is looked at as a whole",
)
DIED = Notice(
    "died", "daf092938f2549458b253d38056e231a", logging.ERROR, "{what} has died and is started again: {reason}"
)
STALLED = Notice(
    "stalled",
    "7364a8df23d14711a0b5c13381ac9d15",
    logging.CRITICAL,
    "{what} makes no progress; systemd's watchdog is not fed until it does",
)
DISCOVERY = Notice("discovery", "8edd5082206447be9de9389783988573", logging.WARNING, "discovery: {reason}")
UNEXPECTED = Notice(
    "unexpected", "a2bb135a296a4310b253d14571cb7481", logging.ERROR, "unexpected in {what}: {reason}\n{frames}"
)
NO_SYSTEMD = Notice(
    "no_systemd",
    "323e355d09414a6cab13fbb98ad1cdb3",
    logging.WARNING,
    "systemd-python is not installed: systemd is told nothing, so a unit of Type=notify fails, and log lines have no "
    "fields; install it with: pip install systemd-python",
)

NOTICES: tuple[Notice, ...] = tuple(each for each in list(globals().values()) if isinstance(each, Notice))

FRAMES = "frames"
"""The one field that has several lines."""

_FRAMES = 12
"""Of an unexpected error that are told: those nearest to it."""


def say(notice: Notice, **fields: Any) -> None:
    """Tells the log. From any thread. Never with what a file holds."""
    logging.getLogger(LOGGER).log(notice.level, notice.text, extra={"notice": notice, "fields": fields})


def say_unexpected(what: str, error: BaseException) -> None:
    """Tells of an error that nobody expected in `what`: its kind and where it was raised, never values."""
    say(UNEXPECTED, what=what, reason=safe_message(error), frames=frames(error))


def internal_error(what: str) -> ReposyncError:
    """What a client is told of an unexpected error in `what`. The log has the details; see `say_unexpected`."""
    return ReposyncError(f"internal error in {what}; the service's log has the details")


def frames(error: BaseException) -> str:
    """Where it was raised, a line for each frame: no source, no values."""
    return "\n".join(
        f"  {each.filename}:{each.lineno} in {each.name}"
        for each in traceback.extract_tb(error.__traceback__, -_FRAMES)
    )
