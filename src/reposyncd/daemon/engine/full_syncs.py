"""The full scans that have made way for other work, and continue later as the same sync."""

from __future__ import annotations

from collections.abc import Callable

from reposyncd.errors import InterruptedSyncError, ReposyncError
from reposyncd.sync.runner import Sync


class FullSyncs:
    """At most one full scan for each repository, by root. For the engine's thread."""

    def __init__(self) -> None:
        self._open: dict[str, Sync] = {}
        self._requested: set[str] = set()

    def request_full(self, root: str) -> None:
        """The next full scan of this tree trusts nothing that is on record, and reads every file."""
        self._requested.add(root)

    def begin(self, root: str, make: Callable[[bool], Sync]) -> Sync:
        """Returns the sync to continue, or a new one. `make` gets whether the new one trusts nothing on record."""
        is_full = root in self._requested
        if is_full:
            self.end(root, InterruptedSyncError("a full sync was requested, which does the same and more"))
        if root not in self._open:
            self._open[root] = make(is_full)
            self._requested.discard(root)
        return self._open[root]

    def done(self, root: str) -> None:
        """Records that the sync has succeeded."""
        self._open.pop(root, None)

    def end(self, root: str, error: ReposyncError) -> None:
        """Ends the sync, if there is one, and records the error in the history. It is not continued."""
        if sync := self._open.pop(root, None):
            sync.end(error)

    def end_all(self, error: ReposyncError) -> None:
        """Ends all syncs. They are not continued."""
        for root in list(self._open):
            self.end(root, error)

    def restart_all(self, error: ReposyncError) -> None:
        """Ends all syncs. If one of them trusted nothing on record, the next one of its tree does not either."""
        self._requested |= {root for root, sync in self._open.items() if not sync.trusts}
        self.end_all(error)

    def forget(self, root: str, error: ReposyncError) -> None:
        """Ends the sync of a repository that was removed."""
        self.end(root, error)
        self._requested.discard(root)
