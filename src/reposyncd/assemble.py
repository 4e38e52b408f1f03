"""Joins the rooms: the one place that knows which implementation stands behind which port."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from reposyncd.errors import ReposyncError, RootMissingError, UsageError
from reposyncd.model import ChunkCounts, DirectoryRow, FileCounts, Hit, Progress, RootIdentity, SyncResult, signed64
from reposyncd.store.catalog import Catalog, Generation, Repo
from reposyncd.store.database import Database
from reposyncd.store.manifest import Manifest
from reposyncd.sync.compare import is_current
from reposyncd.tree.ignore import IgnoreRules
from reposyncd.tree.scan import Snapshot, scan

if TYPE_CHECKING:
    from reposyncd.config import Config
    from reposyncd.ports import VectorIndex

_RECORDS = "records 1"
"""The form of ids and metadata in Chroma. A change of it rebuilds every index."""


class Workspace:
    """An open state directory (made if absent, 0700), on which one operation after another is done.

    `index` is by default the index process over the embedded Chroma; `now_ns` is the wall clock, nanoseconds.
    Raises ReposyncError if the directory cannot be used.
    """

    def __init__(
        self,
        config: Config,
        environ: Mapping[str, str] = os.environ,
        *,
        index: VectorIndex | None = None,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._config = config
        self._environ = environ
        self._now_ns = now_ns
        _private_directory(config.state_dir)
        self._db = Database(os.path.join(config.state_dir, "manifest.db"))
        self._catalog = Catalog(self._db)
        self._index = index

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the index process and closes the manifest."""
        if self._index:
            self._index.close()
        self._db.close()

    @property
    def index(self) -> VectorIndex:
        """The index, not necessarily started."""
        if self._index is None:
            from reposyncd.store.process import IndexProcess

            self._index = IndexProcess(
                self._config.state_dir,
                self.chroma_dir,
                self._config.embedding.model,
                lock_timeout_s=self._config.lock.timeout,
                # Waiting for the lock is part of an operation, and has a time of its own.
                deadline_s=self._config.store.deadline + self._config.lock.timeout,
            )
        return self._index

    @property
    def chroma_dir(self) -> str:
        """Where the embedded store is."""
        return os.path.join(self._config.state_dir, "chroma")

    @property
    def catalog(self) -> Catalog:
        """The repos that are indexed."""
        return self._catalog

    def fingerprint(self) -> str:
        """Of everything that decides what the records of a given file are."""
        from reposyncd.chunking.identity import fingerprint as chunker
        from reposyncd.embedding import identity_of
        from reposyncd.tree import VERSION as tree
        from reposyncd.versions import installed_versions

        decoder = "charset_normalizer"
        tree = f"{tree} {decoder}={installed_versions([decoder])[decoder]}"
        return f"{_RECORDS}; {tree}; {chunker()}; {identity_of(self._config.embedding.model)}"

    def manifest(self, generation: Generation) -> Manifest:
        """What is recorded of a generation."""
        return Manifest(self._db, generation)

    def sync(
        self,
        path: str,
        name: str | None = None,
        *,
        full: bool = False,
        on_progress: Callable[[Progress], None] = lambda progress: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> SyncResult:
        """Brings the index of the tree at `path` up to date; see `reposyncd.sync_repository`.

        `on_progress` and `should_stop` are called from this thread, often, and must be quick.
        """
        root = _root(path)
        repo = self._find(root, name)
        if repo and not full and (result := self._if_current(repo)):
            return result
        with self._state_lock():
            # What another sync did while this one waited counts, so the tree is listed again.
            repo = self._find(root, name) or self._add(root, name)
            from reposyncd.chunking.chunker import chunk_text
            from reposyncd.sync.run import Context, sync_repo

            self.index.start()
            context = Context(
                db=self._db,
                index=self.index,
                chunker=chunk_text,
                fingerprint=self.fingerprint(),
                scan=self._scan,
                max_file_size=self._config.index.max_file_size,
                now_ns=self._now_ns,
                on_progress=on_progress,
                should_stop=should_stop,
            )
            return sync_repo(context, repo, full=full)

    def search(self, query: str, repo: str | None, limit: int) -> tuple[Hit, ...]:
        """The chunks nearest to the query, best first, of one repo or of all."""
        from reposyncd.search.query import search

        wanted = self.fingerprint()
        repos = [each for each in self._catalog.repos() if repo in (None, each.name)]
        if not repos:
            known = ", ".join(each.name for each in self._catalog.repos())
            raise UsageError(
                f'there is no repository "{repo}"; there is: {known}'
                if known
                else "nothing is indexed yet; index a directory with: reposyncd sync PATH"
            )
        collections = [
            generation.collection
            for each in repos
            for generation in self._catalog.generations(each)
            if generation.fingerprint == wanted and generation.state == "serving"
        ]
        if not collections:
            raise UsageError(
                f"{', '.join(each.name for each in repos)}: indexed by another version or with another model; "
                "build the index anew with: reposyncd sync " + repos[0].root
            )
        return search(self.index, collections, query, limit)

    def _if_current(self, repo: Repo) -> SyncResult | None:
        """The result of a sync that has nothing to do, found without a lock, a child or a write; else None."""
        started = time.monotonic()
        generations = self._catalog.generations(repo)
        if len(generations) != 1:
            return None
        [generation] = generations
        manifest = Manifest(self._db, generation)
        if generation.fingerprint != self.fingerprint() or manifest.intents():
            return None
        if generation.chunks and not self._store_is_there():
            return None
        known = manifest.directories()
        snapshot = self._scan(repo, known)
        if snapshot.identity != repo.identity or not is_current(snapshot, known):
            return None
        skipped: dict[str, int] = {}
        for row in known.values():
            for reason, count in row.skipped.items() if row else ():
                skipped[reason] = skipped.get(reason, 0) + count
        return SyncResult(
            repo=repo.name,
            root=repo.root,
            files=FileCounts(total=generation.files, unchanged=generation.files, skipped=dict(sorted(skipped.items()))),
            chunks=ChunkCounts(total=generation.chunks),
            bytes_read=0,
            duration_s=time.monotonic() - started,
        )

    def _store_is_there(self) -> bool:
        """Told without opening it, or importing what would."""
        return self._index is not None or os.path.exists(os.path.join(self.chroma_dir, "chroma.sqlite3"))

    def _scan(self, repo: Repo, known: Mapping[str, DirectoryRow | None]) -> Snapshot:
        limit = self._config.index.max_file_size
        rules = IgnoreRules.for_root(repo.root, self._config.index.exclude, self._environ, salt=str(limit))
        return scan(
            repo.root,
            rules,
            {path: row for path, row in known.items() if row is not None},
            now_ns=self._now_ns(),
            max_file_size=limit,
            exclude_dirs=frozenset({os.path.realpath(self._config.state_dir)}),
        )

    def _find(self, root: str, name: str | None) -> Repo | None:
        for repo in self._catalog.repos():
            if repo.root == root:
                if name not in (None, repo.name):
                    raise UsageError(f'{root} is indexed already, under the name "{repo.name}"')
                return repo
        return None

    def _add(self, root: str, name: str | None) -> Repo:
        name = name if name is not None else os.path.basename(root) or "root"
        if not name or not name.isprintable() or "/" in name:
            raise UsageError(f"{name!r} cannot be a repository's name; choose another with --name")
        stat = os.stat(root)
        identity = RootIdentity(signed64(stat.st_dev), signed64(stat.st_ino))
        for other in self._catalog.repos():
            if (other.name, other.identity) == (name, identity) and not os.path.lexists(other.root):
                return self._catalog.move(other, root)
        return self._catalog.add_repo(name, root, identity)

    def _state_lock(self) -> AbstractContextManager[None]:
        from reposyncd.store.locks import state_lock

        return state_lock(self._config.state_dir, self._config.lock.timeout)


def _root(path: str) -> str:
    """The directory as an absolute path without symbolic links."""
    root = os.path.realpath(path)
    if not os.path.isdir(root):
        what = "is not a directory" if os.path.lexists(path) else "does not exist"
        raise RootMissingError(f"{path} {what}")
    try:
        root.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{root!r}: the path is not valid UTF-8, so no record could name it") from None
    return root


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
