"""Fills a new manifest from an existing store: the collections name their repositories."""

from __future__ import annotations

from contextlib import suppress

from reposyncd.errors import CorruptStoreError, LethalOperationError, UsageError
from reposyncd.model import RootIdentity
from reposyncd.ports import VectorIndex
from reposyncd.store.manifest.catalog import Catalog, Repo

UNKNOWN_ROOT = RootIdentity(0, 0)
"""The identity of the root of a repository that is known only from its collection."""


def adopt(catalog: Catalog, index: VectorIndex, fingerprint: str) -> None:
    """Records the repositories that the collections name. If a repository has several collections, the one with this
    fingerprint serves, and the others are doomed. Their records are orphans until they are compared and claimed. Raises
    CorruptStoreError if the store cannot be opened."""
    try:
        collections = index.collections()
    except LethalOperationError as error:
        raise CorruptStoreError(f"the store cannot be opened: {error}") from error
    found = [
        (metadata.get("reposyncd_fingerprint", ""), name, metadata)
        for name, metadata in collections.items()
        if "reposyncd_repo" in metadata and "reposyncd_root" in metadata
    ]
    found.sort(key=lambda each: each[0] != fingerprint)
    repos: dict[str, Repo] = {repo.name: repo for repo in catalog.repos()}
    serving: set[str] = set()
    for made_by, collection, metadata in found:
        name, root = metadata["reposyncd_repo"], metadata["reposyncd_root"]
        if name not in repos:
            with suppress(UsageError):  # its root is recorded under another name
                repos[name] = catalog.add_repo(name, root, UNKNOWN_ROOT)
        if name in repos:
            catalog.adopt(repos[name], collection, made_by, "doomed" if name in serving else "serving")
            serving.add(name)
