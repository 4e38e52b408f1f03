"""The history of syncs: what ran when, how far it came and how it ended."""

from __future__ import annotations

import json
from dataclasses import dataclass

from reposyncd.model import SyncResult
from reposyncd.store.catalog import Repo
from reposyncd.store.database import Database

RUNS_KEPT = 100
"""Runs of a repo that are remembered: months of ordinary use, and a few kilobytes."""


@dataclass(frozen=True, slots=True)
class Run:
    """One sync. Times are nanoseconds since the epoch."""

    id: int
    kind: str
    started_ns: int
    finished_ns: int | None
    outcome: str
    """"running", "done", "interrupted" or "failed"; a run of a process that died stays "running" until the next
    run of its repo starts, which calls it "interrupted" """
    files_done: int
    files_total: int
    error: str | None


class History:
    """The runs of a state file. Every method that writes is one durable transaction."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def start(self, repo: Repo, kind: str, now_ns: int) -> int:
        """Records that a run began, and returns its id. Runs that never ended were interrupted."""
        with self._db.transaction():
            self._db.run("UPDATE run SET outcome = 'interrupted' WHERE repo = ? AND outcome = 'running'", (repo.id,))
            id = self._db.insert("INSERT INTO run (repo, kind, started_ns) VALUES (?, ?, ?)", (repo.id, kind, now_ns))
            self._db.run(
                "DELETE FROM run WHERE repo = ? AND id NOT IN"
                " (SELECT id FROM run WHERE repo = ? ORDER BY id DESC LIMIT ?)",
                (repo.id, repo.id, RUNS_KEPT),
            )
        return id

    def expect(self, id: int, files_total: int) -> None:
        """Records how many files the run has to deal with."""
        with self._db.transaction():
            self._db.run("UPDATE run SET files_total = ? WHERE id = ?", (files_total, id))

    def advance(self, id: int, files_done: int) -> None:
        """Records how far the run is."""
        with self._db.transaction():
            self._db.run("UPDATE run SET files_done = ? WHERE id = ?", (files_done, id))

    def finish(
        self, id: int, now_ns: int, outcome: str, result: SyncResult | None = None, error: str | None = None
    ) -> None:
        """Records how the run ended."""
        with self._db.transaction():
            self._db.run(
                "UPDATE run SET finished_ns = ?, outcome = ?, result = ?, error = ? WHERE id = ?",
                (now_ns, outcome, None if result is None else json.dumps(result.to_dict()), error, id),
            )

    def runs(self, repo: Repo) -> list[Run]:
        """The repo's runs, newest first."""
        return [
            Run(*row)
            for row in self._db.rows(
                "SELECT id, kind, started_ns, finished_ns, outcome, files_done, files_total, error"
                " FROM run WHERE repo = ? ORDER BY id DESC",
                (repo.id,),
            )
        ]
