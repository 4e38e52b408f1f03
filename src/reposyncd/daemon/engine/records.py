"""Reads and writes what is on record about the repositories, in the form that the engine needs."""

from __future__ import annotations

from reposyncd.app.operations import target
from reposyncd.app.workspace import Workspace
from reposyncd.daemon.engine.snapshots import Stored
from reposyncd.store.manifest.catalog import Catalog, Repo
from reposyncd.sync.repos import find


class Records:
    """Access to the manifest. For the engine's thread."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    @property
    def catalog(self) -> Catalog:
        """The repositories on record. Do not keep the object: the manifest may be rebuilt."""
        return self._workspace.catalog

    def find(self, repo: Repo) -> Repo:
        """The repository as it is on record now. If the manifest was rebuilt, it is recorded again. Raises
        StoreError."""
        found = find(self.catalog, repo.root, None)
        if found is None:
            found = self.catalog.add_repo(repo.name, repo.root, repo.identity)
        if repo.paused and not found.paused:
            found = self.catalog.set_paused(found, True)
        return found

    def stored(self, repo: Repo) -> Stored:
        """What the index has of a repository. Raises StoreError."""
        generation = self.catalog.serving(repo)
        if generation is None:
            return Stored()
        verdicts = tuple(self._workspace.manifest(generation).verdicts())
        collection, embedder = target(self._workspace, repo, generation) or (None, "")
        is_outdated = generation.fingerprint != self._workspace.fingerprint
        return Stored(collection, generation.files, generation.chunks, verdicts, embedder, is_outdated)

    def synced_at(self, repo: Repo) -> float | None:
        """When its last successful sync ended, seconds since the epoch; None if there was none. Raises StoreError."""
        for run in self._workspace.runs(repo):
            if run.outcome == "done" and run.finished_ns:
                return run.finished_ns / 1e9
        return None
