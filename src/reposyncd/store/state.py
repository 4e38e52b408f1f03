"""An open state directory: the manifest, the store's place, and what is done when one of them is damaged."""

from __future__ import annotations

import os
from collections.abc import Callable

from reposyncd.errors import CorruptManifestError, CorruptStoreError, ReposyncError
from reposyncd.store.chroma.directory import StoreDirectory, quarantined
from reposyncd.store.chroma.stamp import Stamp, recognise, take
from reposyncd.store.manifest.catalog import Catalog, Incident
from reposyncd.store.manifest.database import Database, set_aside
from reposyncd.store.manifest.history import History

MANIFEST = "manifest.db"


class State:
    """The state directory at `path`, made if absent (0700). Raises ReposyncError if it cannot be used.

    The manifest is opened when it is first asked for; that may raise a StoreError. A state belongs to one thread.
    """

    def __init__(self, path: str) -> None:
        _private_directory(path)
        self.path = path
        self.place = StoreDirectory(path)
        self._db: Database | None = None
        self._checked = False

    @property
    def db(self) -> Database:
        """The manifest's file, open."""
        if self._db is None:
            self._db = Database(os.path.join(self.path, MANIFEST))
        return self._db

    @property
    def catalog(self) -> Catalog:
        """The repos in it."""
        return Catalog(self.db)

    def close(self) -> None:
        """Closes the manifest."""
        if self._db is not None:
            self._db.close()
            self._db = None
        self._checked = False

    def check(self) -> None:
        """Reads the whole manifest, if a process died in a run of it, or if anybody met a contradiction in it: perhaps
        in a place that the caller does not come by. Raises CorruptManifestError. The caller holds the state lock."""
        # Once for runs: one that has not ended may later be our own, to be gone on with.
        if self.db.is_suspect or (not self._checked and History(self.db).ended_badly()):
            self.db.check()
        self._checked = True

    def stamp(self) -> None:
        """Every record of the store is known as it is now. The caller holds the state lock."""
        if current := self.place.current():
            stamp = take(current)
            if stamp != self.catalog.stamp():
                self.catalog.set_stamp(stamp)

    def recognise(self) -> Stamp | None:
        """The store's stamp, if it has one on record and nobody has written to it since. Writes nothing."""
        recorded, current = self.catalog.stamp(), self.place.current()
        return recognise(recorded, current) if recorded and current else None

    def renew_manifest(self, error: CorruptManifestError, now_ns: int) -> None:
        """Moves a manifest that is damaged to the quarantine and begins another. One that turns out to be sound stays.

        The caller holds the state lock.
        """
        self.close()
        try:
            self.db.check()
        except CorruptManifestError:
            self.close()
            target = quarantined(self.path, MANIFEST)
            set_aside(os.path.join(self.path, MANIFEST), target)
            self.catalog.add_incident(Incident(now_ns, "manifest", str(error), target))

    def renew_store(
        self, error: CorruptStoreError, now_ns: int, salvage: Callable[[str], str] = lambda store: ""
    ) -> None:
        """Moves the store to the quarantine and begins another: every repo is to be stored anew. `salvage` is told
        where the old one is, takes from it what is sound, and says how much that is.

        The caller holds the state lock, and nobody has the store open.
        """
        target = self.place.quarantine()
        kept = salvage(target)
        self.catalog.store_lost()
        self.catalog.add_incident(Incident(now_ns, "store", "; ".join(filter(None, [str(error), kept])), target))


def _private_directory(path: str) -> None:
    """Makes the directory for this user alone; one that is there must be ours."""
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
        owner = os.stat(path).st_uid
    except OSError as error:
        raise ReposyncError(
            f"the state directory {path} cannot be made: {error.strerror}. Choose another with --state-dir or "
            "REPOSYNCD_STATE_DIR."
        ) from error
    if owner != os.geteuid():
        raise ReposyncError(
            f"the state directory {path} belongs to another user. Choose another with --state-dir or "
            "REPOSYNCD_STATE_DIR."
        )
