"""The listing of a tree against what is on record. Cheap to import: a sync with nothing to do gets no further."""

from __future__ import annotations

from collections.abc import Iterable

from reposyncd.model import DirectoryRow, is_below
from reposyncd.tree.scan import Snapshot


def gone_directories(snapshot: Snapshot, known: Iterable[str]) -> list[str]:
    """Directories on record that are not in the snapshot, those apart of which it knows nothing."""
    seen = snapshot.unchanged | {directory.path for directory in snapshot.changed}
    unknown = {error.path for error in snapshot.unreadable}
    return [path for path in known if path not in seen and not is_below(path, unknown)]


def skips_of(rows: Iterable[DirectoryRow | None]) -> dict[str, int]:
    """Entries of directories that have no chunks, by reason."""
    found: dict[str, int] = {}
    for row in rows:
        for reason, count in row.skipped.items() if row else ():
            found[reason] = found.get(reason, 0) + count
    return dict(sorted(found.items()))


def is_current(snapshot: Snapshot, known: Iterable[str]) -> bool:
    """Whether the listing alone proves that nothing differs from what is on record."""
    return not snapshot.changed and not snapshot.unreadable and not gone_directories(snapshot, known)
