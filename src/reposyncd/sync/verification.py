"""Verifies one repository in steps: what is compared, and what a repair removes."""

from __future__ import annotations

import random
from collections.abc import Callable, Generator
from dataclasses import dataclass

from reposyncd.errors import CorruptStoreError, RefusedRootError, RootMissingError
from reposyncd.model import FileError, Progress
from reposyncd.ports import VectorIndex
from reposyncd.store.manifest.catalog import Generation, Repo
from reposyncd.store.manifest.manifest import Manifest
from reposyncd.store.state import State
from reposyncd.sync.pipeline import recover
from reposyncd.sync.repos import find
from reposyncd.sync.verify import Steps, Verification, Verifier
from reposyncd.tree.scan import Snapshot


@dataclass(frozen=True, slots=True)
class RepoVerification:
    """Verifies one repository. The caller holds the state lock, and may sync the repository between two steps."""

    state: State
    index: VectorIndex
    check_root: Callable[[Repo], object]
    """raises RefusedRootError for a repository that must not be indexed"""
    scan: Callable[[Repo], Snapshot]
    """lists the whole tree, and treats nothing as unchanged"""
    embeds: Callable[[Generation], bool]
    """whether the index has the embedder of this generation: vectors of another model are not compared"""
    max_file_size: int
    """bytes"""
    now_ns: Callable[[], int]
    on_progress: Callable[[Progress], None]
    should_stop: Callable[[], bool]

    def steps(self, repo: Repo, *, repair: bool) -> Steps:
        """Compares records, manifest and files of the repository.

        `repair` removes what a full sync would not notice. The caller then runs that sync, which corrects the rest. If
        the store or the manifest is too damaged to be compared, that is CorruptStoreError, or with `repair` a finding.
        If the repository gets another generation in the meantime, the comparison starts again.
        """
        while True:
            try:
                current = find(self.state.catalog, repo.root, None)  # in a new manifest, it has another id
                if current is None:
                    return Verification(repo.name, repo.root, errors=[FileError("", "it is not indexed any more")])
                found = yield from self._once(current, repair)
            except (RootMissingError, RefusedRootError) as error:
                return Verification(repo.name, repo.root, errors=[FileError("", str(error))])
            except CorruptStoreError:
                if not repair:
                    raise
                return Verification(repo.name, repo.root, counts={"damaged": 1})
            if found:
                return found

    def _once(self, repo: Repo, repair: bool) -> Generator[None, None, Verification | None]:
        """Returns None if another generation or another manifest has to be compared now."""
        self.check_root(repo)
        db = self.state.db
        db.check()
        yield
        if self.state.db is not db:
            return None
        generation = self.state.catalog.serving(repo)
        if generation is None:
            errors = [FileError("", f"nothing of it is indexed yet; build the index with: reposyncd sync {repo.root}")]
            return Verification(repo.name, repo.root, errors=errors)
        self.state.store.ensure()
        if generation.collection not in self.index.collections():
            return Verification(repo.name, repo.root, counts={"damaged": 1})
        self.state.store.check()
        yield
        if self.state.db is not db or not self._serves(repo, generation):
            return None
        manifest = Manifest(db, generation)
        self.index.probe(generation.collection)
        recover(repo.name, generation.collection, manifest, self.index)
        verifier = Verifier(
            repo=repo,
            generation=generation,
            manifest=manifest,
            index=self.index,
            scan=lambda: self.scan(repo),
            max_file_size=self.max_file_size,
            now_ns=self.now_ns,
            on_progress=self.on_progress,
            should_stop=self.should_stop,
            random=random.Random(),  # noqa: S311 - a sample, not a secret
            embeds=self.embeds(generation),
        )
        found = Verification(repo.name, repo.root)
        for _ in verifier.verify(found):
            yield
            if self.state.db is not db or not self._serves(repo, generation):
                return None
            recover(repo.name, generation.collection, manifest, self.index)  # a sync in between may have been cut off
        if repair and found.bad:
            self.state.catalog.set_checked(generation, False)
            self.index.delete(generation.collection, sorted(found.bad)).result()
        return found

    def _serves(self, repo: Repo, generation: Generation) -> bool:
        serving = self.state.catalog.serving(repo)
        return serving is not None and serving.id == generation.id
