"""The repositories on record, and the generations of their indexes."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from reposyncd.errors import UsageError
from reposyncd.model import RootIdentity, Skip
from reposyncd.store.manifest.database import Database

_COLLECTION_SLUG = 48
"""Characters of a repository's name in the name of its collection. Chroma allows 512; people read fewer."""

_NEVER_NS = -(1 << 63)
"""The recording time of a file whose stat proves nothing: earlier than any real time. SQLite's smallest integer."""

_GENERATION = "SELECT id, collection, fingerprint, state, files, chunks, checked FROM generation"


@dataclass(frozen=True, slots=True)
class Repo:
    """An indexed tree."""

    id: int
    name: str
    root: str
    """absolute, without symbolic links"""
    identity: RootIdentity
    paused: bool = False
    missing_s: float = 0.0
    """how long a running service has found the root missing, in seconds"""


@dataclass(frozen=True, slots=True)
class Generation:
    """One build of a repository's index."""

    id: int
    collection: str
    fingerprint: str
    state: str
    """"building", "serving" or "doomed" """
    files: int
    """indexed files"""
    chunks: int
    """live chunks"""
    checked: int
    """1: the collection's ids are known to be those of the chunk rows; 0: they have to be compared"""


@dataclass(frozen=True, slots=True)
class Incident:
    """A store or manifest that was damaged and replaced by a new one."""

    at_ns: int
    """nanoseconds since the epoch"""
    what: str
    """"store" or "manifest" """
    reason: str
    place: str
    """where the damaged files are kept"""


class Catalog:
    """The repositories and generations of a manifest. Every method that writes is one durable transaction. There are
    more than 25 methods because there are so many transactions."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def repos(self) -> list[Repo]:
        """Every repository, by name."""
        return self._repos("NOT removed")

    def removed(self) -> list[Repo]:
        """The removed repositories whose collections have not been deleted yet."""
        return self._repos("removed")

    def _repos(self, condition: str) -> list[Repo]:
        rows = self._db.rows(
            f"SELECT id, name, root, device, inode, paused, missing_s FROM repo WHERE {condition} ORDER BY name"
        )
        return [
            Repo(id, name, root, RootIdentity(device, inode), bool(paused), missing_s)
            for id, name, root, device, inode, paused, missing_s in rows
        ]

    def add_repo(self, name: str, root: str, identity: RootIdentity) -> Repo:
        """A new repository. Raises UsageError if another one has its name or its root."""
        with self._db.transaction():
            for other in self.repos():
                if other.name == name:
                    raise UsageError(f'the name "{name}" is taken by {other.root}; choose another with --name')
                if other.root == root:
                    raise UsageError(f'{root} is already indexed, under the name "{other.name}"')
            id = self._db.insert(
                "INSERT INTO repo (name, root, device, inode) VALUES (?, ?, ?, ?)", (name, root, *identity)
            )
            self._db.run("DELETE FROM declined WHERE root = ?", (root,))
        return Repo(id, name, root, identity)

    def set_identity(self, repo: Repo, identity: RootIdentity) -> Repo:
        """Records which directory the root is."""
        with self._db.transaction():
            self._db.run("UPDATE repo SET device = ?, inode = ? WHERE id = ?", (*identity, repo.id))
        return replace(repo, identity=identity)

    def move(self, repo: Repo, root: str) -> Repo:
        """Records that the same tree is now at `root`."""
        with self._db.transaction():
            self._db.run("UPDATE repo SET root = ? WHERE id = ?", (root, repo.id))
        return replace(repo, root=root)

    def set_paused(self, repo: Repo, paused: bool) -> Repo:
        """Records whether the repository is paused."""
        with self._db.transaction():
            self._db.run("UPDATE repo SET paused = ? WHERE id = ?", (paused, repo.id))
        return replace(repo, paused=paused)

    def set_missing(self, repo: Repo, seconds: float) -> Repo:
        """Records how long the root has been missing."""
        with self._db.transaction():
            self._db.run("UPDATE repo SET missing_s = ? WHERE id = ?", (seconds, repo.id))
        return replace(repo, missing_s=seconds)

    def remove(self, repo: Repo, *, decline: bool) -> None:
        """Marks the repository as removed: its collections have to be deleted, and then it is forgotten. `decline`: it
        is not discovered again."""
        with self._db.transaction():
            # Another repository can use the name and the root at once.
            self._db.run(
                "UPDATE repo SET removed = 1, name = name || char(0) || id, root = root || char(0) || id WHERE id = ?",
                (repo.id,),
            )
            if decline:
                self._db.run("INSERT OR IGNORE INTO declined (root) VALUES (?)", (repo.root,))

    def forget_repo(self, repo: Repo) -> None:
        """Forgets a removed repository whose collections are deleted."""
        with self._db.transaction():
            self._db.run("DELETE FROM repo WHERE id = ? AND removed", (repo.id,))

    def declined(self) -> set[str]:
        """Roots that are not discovered again."""
        return {root for (root,) in self._db.rows("SELECT root FROM declined")}

    def generations(self, repo: Repo) -> list[Generation]:
        """The generations of the repository, oldest first."""
        return [Generation(*row) for row in self._db.rows(f"{_GENERATION} WHERE repo = ? ORDER BY id", (repo.id,))]

    def serving(self, repo: Repo) -> Generation | None:
        """The generation that searches use; None before the first index is begun."""
        return next((each for each in self.generations(repo) if each.state == "serving"), None)

    def unchecked(self) -> set[str]:
        """Roots of the repositories that have no serving collection whose records are known to match the manifest."""
        rows = self._db.rows(
            "SELECT root FROM repo WHERE NOT EXISTS"
            " (SELECT 1 FROM generation WHERE generation.repo = repo.id AND state = 'serving' AND checked)"
        )
        return {root for (root,) in rows}

    def generation(self, id: int) -> Generation:
        """The generation as it is now."""
        return Generation(*self._db.row(f"{_GENERATION} WHERE id = ?", (id,)))

    def leaves_out(self, repo: Repo, path: str) -> bool:
        """Whether the repository is indexed, but not this directory (relative to its root), because it is ignored or is
        a worktree that is left out."""
        serving = self.serving(repo)
        return (
            serving is not None
            and bool(serving.checked)
            and self._db.row(
                "SELECT 1 FROM directory WHERE generation = ? AND path = ? AND json_extract(skipped, ?) IS NULL",
                (serving.id, path, f"$.{Skip.WORKTREE}"),
            )
            is None
        )

    def add_generation(self, repo: Repo, fingerprint: str, state: str) -> Generation:
        """A new, empty generation. The name of its collection ends with random digits, so that no leftover of a crash
        has the same name."""
        with self._db.transaction():
            id = self._db.insert(
                "INSERT INTO generation (repo, collection, fingerprint, state) VALUES (?, ?, ?, ?)",
                (repo.id, collection_name(repo.name, os.urandom(4).hex()), fingerprint, state),
            )
        return self.generation(id)

    def switch(self, repo: Repo, to: Generation) -> Generation:
        """Makes `to` the serving generation, and dooms all others of the repository."""
        with self._db.transaction():
            self._db.run("UPDATE generation SET state = 'doomed' WHERE repo = ?", (repo.id,))
            self._db.run("UPDATE generation SET state = 'serving' WHERE id = ?", (to.id,))
        return self.generation(to.id)

    def set_checked(self, generation: Generation, checked: bool) -> None:
        """Records whether the collection's ids are known to be those of the chunk rows."""
        with self._db.transaction():
            self._db.run("UPDATE generation SET checked = ? WHERE id = ?", (checked, generation.id))

    def invalidate(self, repo: Repo) -> None:
        """Invalidates everything on record about the repository: every directory has to be listed, every file to be
        read, and all records to be compared. If a sync is interrupted, what it has proven stays proven for the next
        one."""
        of_repo = "IN (SELECT id FROM generation WHERE repo = ?)"
        with self._db.transaction():
            self._db.run(
                "UPDATE file SET recorded_ns = ? WHERE directory IN"
                f" (SELECT id FROM directory WHERE generation {of_repo})",
                (_NEVER_NS, repo.id),
            )
            self._db.run(f"UPDATE directory SET signature = NULL WHERE generation {of_repo}", (repo.id,))
            self._db.run("UPDATE generation SET checked = 0 WHERE repo = ?", (repo.id,))

    def adopt(self, repo: Repo, collection: str, fingerprint: str, state: str) -> None:
        """Records a generation of which only the collection is left. Its records are orphans until they are claimed."""
        with self._db.transaction():
            self._db.run(
                "INSERT OR IGNORE INTO generation (repo, collection, fingerprint, state) VALUES (?, ?, ?, ?)",
                (repo.id, collection, fingerprint, state),
            )

    def stamp(self) -> str | None:
        """The store stamp when every record was known; "" if it may have changed since, None before the first one."""
        row = self._db.row("SELECT seal FROM store")
        return None if row is None else str(row[0])

    def set_stamp(self, stamp: str) -> None:
        """Records that the store has this stamp, and that every record in it is known."""
        with self._db.transaction():
            self._db.run("INSERT OR REPLACE INTO store (id, seal) VALUES (1, ?)", (stamp,))

    def forget_stamp(self) -> None:
        """Records that another program may have written to the store: the ids of every collection are compared."""
        with self._db.transaction():
            self._db.run("UPDATE generation SET checked = 0")
            self._db.run("INSERT OR REPLACE INTO store (id, seal) VALUES (1, '')")

    def store_lost(self) -> None:
        """Records that the store is new and empty: every repository has to be stored again."""
        with self._db.transaction():
            self._db.run("DELETE FROM generation")
            self._db.run("INSERT OR REPLACE INTO store (id, seal) VALUES (1, '')")

    def add_incident(self, incident: Incident) -> None:
        """Records damage. Of each kind, only the last incident is kept."""
        with self._db.transaction():
            self._db.run("DELETE FROM incident WHERE what = ?", (incident.what,))
            self._db.run(
                "INSERT INTO incident (at_ns, what, reason, place) VALUES (?, ?, ?, ?)",
                (incident.at_ns, incident.what, incident.reason, incident.place),
            )

    def incidents(self) -> list[Incident]:
        """The damage on record, oldest first."""
        return [Incident(*row) for row in self._db.rows("SELECT at_ns, what, reason, place FROM incident ORDER BY id")]

    def doom(self, generation: Generation) -> None:
        """Dooms the generation: its collection has to be deleted, and then it is forgotten."""
        with self._db.transaction():
            self._db.run("UPDATE generation SET state = 'doomed' WHERE id = ?", (generation.id,))

    def forget(self, generation: Generation) -> None:
        """Forgets a generation whose collection is deleted, with everything recorded about it."""
        with self._db.transaction():
            self._db.run("DELETE FROM generation WHERE id = ?", (generation.id,))


def collection_name(repo: str, suffix: str) -> str:
    """A name that Chroma accepts: 3 to 512 of [a-zA-Z0-9._-], with a letter or digit at both ends."""
    slug = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in repo)
    return f"{slug[:_COLLECTION_SLUG].strip('._-') or 'repo'}-{suffix}"
