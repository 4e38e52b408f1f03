"""The history of syncs: what ran when, how far it got, and how it ended."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from reposyncd.model import SyncResult, Waiting
from reposyncd.store.manifest.catalog import Repo
from reposyncd.store.manifest.database import Database

RUNS_KEPT = 100
"""How many runs are kept for each repository: months of ordinary use, in a few kilobytes."""


@dataclass(frozen=True, slots=True)
class Run:
    """One sync. Times are nanoseconds since the epoch."""

    id: int
    kind: str
    started_ns: int
    finished_ns: int | None
    outcome: str
    """"running", "done", "interrupted" or "failed"; if the process of a run died, it stays "running" until the next
    run starts, which sets it to "interrupted" """
    files_done: int
    files_total: int
    chunks_done: int
    trouble: str | None
    """what the run is waiting for"""
    trouble_ns: int | None
    """since when it is waiting"""
    error: str | None
    result: dict[str, Any] | None
    """a SyncResult as JSON"""

    def to_dict(self, repo: Repo) -> dict[str, Any]:
        """The JSON form of a run of `repo`."""
        return {"repo": repo.name, **asdict(self)}


class History:
    """The runs in a manifest. Every method that writes is one durable transaction."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def start(self, repo: Repo, kind: str, now_ns: int) -> int:
        """Records that a run has begun, and returns its id. The caller is the only writer, so runs that have not ended
        are set to "interrupted"."""
        with self._db.transaction():
            self._db.run("UPDATE run SET outcome = 'interrupted' WHERE outcome = 'running'")
            id = self._db.insert("INSERT INTO run (repo, kind, started_ns) VALUES (?, ?, ?)", (repo.id, kind, now_ns))
            self._db.run(
                "DELETE FROM run WHERE repo = ? AND id NOT IN"
                " (SELECT id FROM run WHERE repo = ? ORDER BY id DESC LIMIT ?)",
                (repo.id, repo.id, RUNS_KEPT),
            )
        return id

    def ended_badly(self) -> bool:
        """Whether the end of some run was not recorded, because its process died."""
        return self._db.row("SELECT 1 FROM run WHERE outcome = 'running'") is not None

    def progress(self, id: int) -> tuple[int, int]:
        """(files, chunks) that the run has done; (0, 0) if the manifest was replaced since it began."""
        files_done, chunks_done = self._db.row("SELECT files_done, chunks_done FROM run WHERE id = ?", (id,)) or (0, 0)
        return files_done, chunks_done

    def expect(self, id: int, files_total: int) -> None:
        """Records how many files the run has to process."""
        with self._db.transaction():
            self._db.run("UPDATE run SET files_total = ? WHERE id = ?", (files_total, id))

    def note(self, id: int, waiting: Waiting | None) -> None:
        """Records what the run waits for; None if it does not wait."""
        with self._db.transaction():
            self._db.run("UPDATE run SET trouble = ?, trouble_ns = ? WHERE id = ?", (*(waiting or (None, None)), id))

    def finish(
        self, id: int, now_ns: int, outcome: str, result: SyncResult | None = None, error: str | None = None
    ) -> None:
        """Records how the run ended."""
        with self._db.transaction():
            self._db.run(
                "UPDATE run SET finished_ns = ?, outcome = ?, result = ?, error = ?, trouble = NULL, trouble_ns = NULL"
                " WHERE id = ?",
                (now_ns, outcome, None if result is None else json.dumps(result.to_dict()), error, id),
            )

    def runs(self, repo: Repo, limit: int = RUNS_KEPT) -> list[Run]:
        """The runs of the repository, newest first."""
        return [
            Run(*[*row[:-1], None if row[-1] is None else json.loads(row[-1])])
            for row in self._db.rows(
                "SELECT id, kind, started_ns, finished_ns, outcome, files_done, files_total, chunks_done, trouble,"
                " trouble_ns, error, result FROM run WHERE repo = ? ORDER BY id DESC LIMIT ?",
                (repo.id, limit),
            )
        ]
