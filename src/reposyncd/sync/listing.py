"""Compares the listing of a tree with what is on record. Cheap to import: a sync with nothing to do needs only this."""

from __future__ import annotations

from collections.abc import Iterable

from reposyncd.model import DirectoryRow
from reposyncd.paths import is_within
from reposyncd.tree.scan import Snapshot


def gone_directories(snapshot: Snapshot, known: Iterable[str]) -> list[str]:
    """The directories on record that no longer exist. Those in or below an unreadable directory do not count."""
    seen = snapshot.unchanged | {directory.path for directory in snapshot.changed}
    unknown = {error.path for error in snapshot.unreadable}
    return [path for path in known if path not in seen and not is_within(path, unknown)]


def skips_of(rows: Iterable[DirectoryRow | None]) -> dict[str, int]:
    """Counts the entries that have no chunks, by reason."""
    found: dict[str, int] = {}
    for row in rows:
        for reason, count in row.skipped.items() if row else ():
            found[reason] = found.get(reason, 0) + count
    return dict(sorted(found.items()))


def is_current(snapshot: Snapshot, known: Iterable[str]) -> bool:
    """Whether the listing alone proves that nothing has changed since it was recorded."""
    return not snapshot.changed and not snapshot.unreadable and not gone_directories(snapshot, known)
