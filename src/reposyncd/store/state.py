"""An open state directory: the manifest and the store, and how damaged ones are replaced."""

from __future__ import annotations

import os
from collections.abc import Callable

from reposyncd.errors import CorruptManifestError, CorruptStoreError, ReposyncError
from reposyncd.ports import StoreAdmin
from reposyncd.store.files import free_quarantine
from reposyncd.store.manifest.catalog import Catalog, Incident
from reposyncd.store.manifest.database import Database, set_aside
from reposyncd.store.manifest.history import History

MANIFEST = "manifest.db"


class State:
    """The state directory at `path`, created if absent (0700), and the store that belongs to it. Raises ReposyncError
    if it cannot be used.

    The manifest is opened when it is first used, which may raise StoreError. A state belongs to one thread.
    """

    def __init__(self, path: str, store: StoreAdmin) -> None:
        make_private(path)
        self.path = path
        self.store = store
        self._db: Database | None = None
        self._checked = False

    @property
    def db(self) -> Database:
        """The open file of the manifest."""
        if self._db is None:
            self._db = Database(os.path.join(self.path, MANIFEST))
        return self._db

    @property
    def catalog(self) -> Catalog:
        """The repositories in the manifest."""
        return Catalog(self.db)

    def close(self) -> None:
        """Closes the manifest."""
        if self._db is not None:
            self._db.close()
            self._db = None
        self._checked = False

    def check(self) -> None:
        """If a process died during a sync, or a contradiction was found in the manifest, reads the whole manifest.
        Raises CorruptManifestError. The caller holds the state lock."""
        # Only asked once: a later run that has not ended may be our own, and continues.
        if self.db.is_suspect or (not self._checked and History(self.db).ended_badly()):
            self.db.check()
        self._checked = True

    def stamp(self) -> None:
        """Records the present store stamp: every record of the store is known. The caller holds the state lock."""
        stamp = self.store.stamp()
        if stamp and stamp != self.catalog.stamp():
            self.catalog.set_stamp(stamp)

    def recognise(self) -> str | None:
        """The store stamp, if one is on record and nobody has written to the store since. Writes nothing."""
        recorded = self.catalog.stamp()
        return self.store.recognise(recorded) if recorded else None

    def inspect(self, on_wait: Callable[[], None]) -> None:
        """See `StoreAdmin.inspect`; for all collections that are on record and needed."""
        catalog = self.catalog
        generations = [each for repo in catalog.repos() for each in catalog.generations(repo)]
        self.store.inspect([each.collection for each in generations if each.state != "doomed"], on_wait)

    def renew_manifest(self, error: CorruptManifestError, now_ns: int) -> None:
        """Moves a damaged manifest to the quarantine, and begins a new one. If it turns out to be sound, it stays.

        The caller holds the state lock.
        """
        self.close()
        try:
            self.db.check()
        except CorruptManifestError:
            self.close()
            target = free_quarantine(self.path, MANIFEST)
            set_aside(os.path.join(self.path, MANIFEST), target)
            self.catalog.add_incident(Incident(now_ns, "manifest", str(error), target))

    def renew_store(
        self, error: CorruptStoreError, now_ns: int, fingerprint: str, on_wait: Callable[[], None] = lambda: None
    ) -> None:
        """Moves the store to the quarantine and begins a new one. Every repository has to be stored again. Sound
        vectors of generations with this fingerprint are saved. `on_wait` is called now and then.

        The caller holds the state lock, and nobody has the store open.
        """
        target = self.store.quarantine()
        saved = self.store.salvage(target, self.db.path, fingerprint, on_wait)
        self.catalog.store_lost()
        self.catalog.add_incident(Incident(now_ns, "store", "; ".join(filter(None, [str(error), saved])), target))


def make_private(path: str) -> None:
    """Creates the directory, for this user only. Raises ReposyncError if that fails, or if another user owns it."""
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
        owner = os.stat(path).st_uid
    except OSError as error:
        raise ReposyncError(
            f"the state directory {path} cannot be created: {error.strerror}. Choose another with --state-dir or "
            "REPOSYNCD_STATE_DIR."
        ) from error
    if owner != os.geteuid():
        raise ReposyncError(
            f"the state directory {path} belongs to another user. Choose another with --state-dir or "
            "REPOSYNCD_STATE_DIR."
        )
