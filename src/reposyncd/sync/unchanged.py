"""Recognises a sync that has nothing to do. Cheap to import, because such a sync imports nothing else."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping

from reposyncd.model import ChunkCounts, DirectoryRow, FileCounts, SyncResult
from reposyncd.ports import Observer
from reposyncd.store.locks import STATE_LOCK, holder
from reposyncd.store.manifest.catalog import Repo
from reposyncd.store.manifest.manifest import Manifest
from reposyncd.store.state import State
from reposyncd.sync.listing import is_current, skips_of
from reposyncd.sync.stages import observed_scan
from reposyncd.tree.scan import Snapshot


def result_if_unchanged(
    state: State,
    repo: Repo,
    fingerprint: str,
    scan: Callable[[Mapping[str, DirectoryRow]], Snapshot],
    observer: Observer,
) -> SyncResult | None:
    """The result of a sync that has nothing to do, found without a lock, a child process or a write; None if there may
    be something to do. `fingerprint` is that of an index built now. `scan` compares the tree with what is on record."""
    started = time.monotonic()
    generations = state.catalog.generations(repo)
    if len(generations) != 1:
        return None
    [generation] = generations
    manifest = Manifest(state.db, generation)
    if not generation.checked or generation.fingerprint != fingerprint or manifest.intents():
        return None
    # While another process writes, the store is not as the last sync left it. Only that process knows its state.
    if holder(os.path.join(state.path, STATE_LOCK)) is None and state.recognise() is None:
        return None
    known = manifest.directories()
    listed = {path: row for path, row in known.items() if row is not None}
    snapshot = observed_scan(observer, repo.name, lambda: scan(listed))
    if snapshot.identity != repo.identity or not is_current(snapshot, known):
        return None
    return SyncResult(
        repo=repo.name,
        root=repo.root,
        files=FileCounts(
            total=generation.files,
            unchanged=generation.files,
            skipped=skips_of(known.values()),
            plain=sum(each.is_indexed for each in manifest.verdicts()),
        ),
        chunks=ChunkCounts(total=generation.chunks),
        bytes_read=0,
        duration_s=time.monotonic() - started,
    )
