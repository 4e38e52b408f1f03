"""The manifest: what is stored of one generation, file by file and chunk by chunk.

Properties that this module maintains, whenever the process may die:

- Every method that writes is one transaction, durable when it returns.
- A record that may be in Chroma and is not a live `chunk` row is named by an `intent` row.
- A directory's signature is set only while every file of that listing is recorded. Recording or deleting a file of the
  directory clears it in the same transaction.
- `generation.files` and `.chunks` count the indexed files and the live chunks.

One process writes at a time (`locks.state_lock`); any number may read. Digests and ids are 32 hex digits
outside and 16 bytes inside.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reposyncd.model import WHOLE, ChunkRow, DirectoryRow, FileRow, FileStat, Scope, Skip, Verdict
from reposyncd.store.manifest.catalog import Generation
from reposyncd.store.manifest.commits import Commit, FileCommit, Intents
from reposyncd.store.manifest.database import Database

_SQL_VARIABLES = 500
"""How many values one IN list has: less than the 999 that the oldest SQLite builds allow."""

_DIRECTORIES = "SELECT path, signature, rules, files, skipped, pruned FROM directory"

_JOINED = "directory JOIN file ON file.directory = directory.id JOIN chunk ON chunk.file = file.id"


@dataclass(slots=True)
class _Tally:
    """How a transaction changes the generation's counts."""

    files: int = 0
    chunks: int = 0
    directories: dict[str, int] = field(default_factory=dict)
    """row ids that were already looked up"""


class Manifest:
    """What is recorded about one generation."""

    def __init__(self, db: Database, generation: Generation) -> None:
        self._db = db
        self._generation = generation.id

    # What is recorded -----------------------------------------------------------------------------------

    def directories(self, scope: Scope = WHOLE) -> dict[str, DirectoryRow | None]:
        """The directories on record, by path; None for those whose files must be compared one by one."""
        rows: list[Any] = []
        if scope.is_whole:
            rows = self._db.rows(f"{_DIRECTORIES} WHERE generation = ?", (self._generation,))
        else:
            for path in scope.flat | scope.trees:
                rows += self._db.rows(f"{_DIRECTORIES} WHERE generation = ? AND path = ?", (self._generation, path))
            for path in scope.trees:  # "0" is the character after "/"
                between = (self._generation, f"{path}/", f"{path}0")
                rows += self._db.rows(f"{_DIRECTORIES} WHERE generation = ? AND path > ? AND path < ?", between)
        nothing: dict[str, int] = {}
        return {
            path: None
            if signature is None
            else DirectoryRow(
                signature,
                rules,
                files,
                nothing if skipped == "{}" else json.loads(skipped),
                () if pruned == "[]" else tuple(json.loads(pruned)),
            )
            for path, signature, rules, files, skipped, pruned in rows
        }

    def files(self, directory: str) -> dict[str, FileRow]:
        """The recorded files of one directory, by path."""
        prefix = directory + "/" if directory else ""
        rows = self._db.rows(
            "SELECT name, size, mtime_ns, ctime_ns, inode, recorded_ns, digest, skip, verdict, judged"
            " FROM directory JOIN file ON file.directory = directory.id WHERE generation = ? AND path = ?",
            (self._generation, directory),
        )
        return {
            prefix + name: FileRow(
                prefix + name,
                FileStat(*stat),
                recorded_ns,
                digest.hex(),
                None if skip is None else Skip(skip),
                verdict,
                judged,
            )
            for name, *stat, recorded_ns, digest, skip, verdict, judged in rows
        }

    def chunks(self, path: str) -> list[ChunkRow]:
        """The live chunks of a file, in the order of lines."""
        rows = self._db.rows(
            "SELECT chunk.id, start_line, end_line, symbol, language, chunk.digest"
            f" FROM {_JOINED} WHERE generation = ? AND path = ? AND name = ? ORDER BY start_line, end_line, chunk.id",
            (self._generation, *split_path(path)),
        )
        return [
            ChunkRow(id.hex(), path, start, end, symbol, language, digest.hex())
            for id, start, end, symbol, language, digest in rows
        ]

    def all_chunks(self) -> Iterator[ChunkRow]:
        """Every live chunk, in no particular order. Nothing may be written before the last one is read."""
        rows = self._db.each(
            "SELECT path, name, chunk.id, start_line, end_line, symbol, language, chunk.digest"
            f" FROM {_JOINED} WHERE generation = ?",
            (self._generation,),
        )
        for path, name, id, start, end, symbol, language, digest in rows:
            yield ChunkRow(id.hex(), f"{path}/{name}" if path else name, start, end, symbol, language, digest.hex())

    def sources(self, digests: Iterable[str]) -> dict[str, str]:
        """For each of these digests that some live chunk has, the id of one such chunk."""
        wanted = [bytes.fromhex(digest) for digest in digests]
        found: dict[str, str] = {}
        for start in range(0, len(wanted), _SQL_VARIABLES):
            part = wanted[start : start + _SQL_VARIABLES]
            rows = self._db.rows(
                f"SELECT chunk.digest, max(chunk.id) FROM {_JOINED}"
                f" WHERE generation = ? AND chunk.digest IN ({','.join('?' * len(part))}) GROUP BY chunk.digest",
                (self._generation, *part),
            )
            found.update((digest.hex(), id.hex()) for digest, id in rows)
        return found

    def verdicts(self) -> list[Verdict]:
        """The files that are cut as plain lines, or left out, until they change, with the reasons."""
        rows = self._db.rows(
            "SELECT path, name, skip IS NULL, verdict FROM file CROSS JOIN directory ON directory.id = file.directory"
            " WHERE verdict IS NOT NULL AND generation = ? ORDER BY path, name",
            (self._generation,),
        )
        return [
            Verdict(f"{path}/{name}" if path else name, bool(is_indexed), verdict)
            for path, name, is_indexed, verdict in rows
        ]

    def intents(self) -> Intents:
        """What was begun in the collection and not finished."""
        kinds: dict[str, list[tuple[str, str]]] = {"pending": [], "doomed": [], "relabelled": []}
        for kind, id, path in self._db.rows(
            "SELECT kind, id, path FROM intent WHERE generation = ?", (self._generation,)
        ):
            kinds[kind].append((id.hex(), path))
        return Intents(
            pending=tuple(id for id, _ in kinds["pending"]),
            doomed=tuple(id for id, _ in kinds["doomed"]),
            relabelled=tuple(kinds["relabelled"]),
        )

    # The commit protocol --------------------------------------------------------------------------------

    def begin(self, added: Iterable[ChunkRow], relabelled: Iterable[ChunkRow]) -> None:
        """Step 1: records that these chunks may be in the store, and that the metadata of those records may differ from
        their rows."""
        with self._db.transaction():
            self._intend("pending", ((row.id, row.path) for row in added))
            self._intend("relabelled", ((row.id, row.path) for row in relabelled))

    def commit(self, commit: Commit) -> None:
        """Step 3: replaces rows of files and chunks, removes fulfilled intents, and dooms leftovers."""
        tally = _Tally()
        with self._db.transaction():
            for file in commit.files:
                self._put_file(file, tally)
            for row in commit.touched:
                self._touch(row, tally)
            for path in commit.gone:
                self._delete_file(path, tally)
            self._drop_intents(commit.done)
            self._intend("doomed", commit.doomed)
            self._count(tally)
            if run := commit.run:
                self._db.run(
                    "UPDATE run SET files_done = ?, chunks_done = ? WHERE id = ?",
                    (run.files_done, run.chunks_done, run.id),
                )

    def forget(self, ids: Sequence[str]) -> None:
        """Step 4, after the doomed records are deleted, and the end of a recovery: removes their intents."""
        with self._db.transaction():
            self._drop_intents(ids)

    def invalidate(self, paths: Iterable[str]) -> None:
        """Forgets that these files are stored, so that they are read and stored again. Their records become orphans,
        and the ids have to be compared."""
        tally = _Tally()
        with self._db.transaction():
            for path in paths:
                self._delete_file(path, tally)
            self._count(tally)

    def put_directories(self, complete: Mapping[str, DirectoryRow], gone: Iterable[str]) -> None:
        """Sets the signatures of directories of which all files are recorded, and forgets those that are gone.

        If a directory is gone but still has recorded files (they could not be deleted yet), it stays.
        """
        with self._db.transaction():
            self._db.run_many(
                "INSERT INTO directory (generation, path, signature, rules, files, skipped, pruned)"
                " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (generation, path) DO UPDATE SET"
                " signature = excluded.signature, rules = excluded.rules, files = excluded.files,"
                " skipped = excluded.skipped, pruned = excluded.pruned",
                [
                    (
                        self._generation,
                        path,
                        row.signature,
                        row.rules,
                        row.files,
                        json.dumps(dict(row.skipped)),
                        json.dumps(row.pruned),
                    )
                    for path, row in complete.items()
                ],
            )
            self._db.run_many(
                "DELETE FROM directory WHERE generation = ? AND path = ?"
                " AND NOT EXISTS (SELECT 1 FROM file WHERE file.directory = directory.id)",
                [(self._generation, path) for path in gone],
            )

    # Inside a transaction -------------------------------------------------------------------------------

    def _directory(self, path: str, tally: _Tally) -> int:
        """The row of the directory, created if absent. Clears its signature, because something in it is changing."""
        if path not in tally.directories:
            [id] = self._db.row(
                "INSERT INTO directory (generation, path) VALUES (?, ?)"
                " ON CONFLICT (generation, path) DO UPDATE SET signature = NULL RETURNING id",
                (self._generation, path),
            )
            tally.directories[path] = id
        return tally.directories[path]

    def _put_file(self, file: FileCommit, tally: _Tally) -> None:
        row = file.row
        directory, name = split_path(row.path)
        key = (self._directory(directory, tally), name)
        values = (*row.stat, row.recorded_ns, bytes.fromhex(row.digest), row.skip, row.verdict, row.judged)
        before = self._db.row("SELECT id, skip FROM file WHERE directory = ? AND name = ?", key)
        if before is None:
            id = self._db.insert(
                "INSERT INTO file (directory, name, size, mtime_ns, ctime_ns, inode, recorded_ns, digest, skip,"
                " verdict, judged) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (*key, *values),
            )
        else:
            id, skip = before
            self._db.run(
                "UPDATE file SET size = ?, mtime_ns = ?, ctime_ns = ?, inode = ?, recorded_ns = ?, digest = ?,"
                " skip = ?, verdict = ?, judged = ? WHERE id = ?",
                (*values, id),
            )
            tally.files -= skip is None
            tally.chunks -= self._db.run("DELETE FROM chunk WHERE file = ?", (id,))
        tally.files += row.skip is None
        tally.chunks += len(file.chunks)
        self._db.run_many(
            "INSERT INTO chunk (file, id, start_line, end_line, symbol, language, digest) VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    id,
                    bytes.fromhex(c.id),
                    c.start_line,
                    c.end_line,
                    c.symbol,
                    c.language,
                    bytes.fromhex(c.digest),
                )
                for c in file.chunks
            ],
        )

    def _touch(self, row: FileRow, tally: _Tally) -> None:
        directory, name = split_path(row.path)
        self._db.run(
            "UPDATE file SET size = ?, mtime_ns = ?, ctime_ns = ?, inode = ?, recorded_ns = ?, judged = ?"
            " WHERE directory = ? AND name = ?",
            (*row.stat, row.recorded_ns, row.judged, self._directory(directory, tally), name),
        )

    def _delete_file(self, path: str, tally: _Tally) -> None:
        directory, name = split_path(path)
        before = self._db.row(
            "SELECT id, skip FROM file WHERE directory = ? AND name = ?",
            (self._directory(directory, tally), name),
        )
        if before is not None:
            id, skip = before
            tally.files -= skip is None
            tally.chunks -= self._db.run("DELETE FROM chunk WHERE file = ?", (id,))
            self._db.run("DELETE FROM file WHERE id = ?", (id,))

    def _intend(self, kind: str, records: Iterable[tuple[str, str]]) -> None:
        self._db.run_many(
            "INSERT OR REPLACE INTO intent (generation, id, kind, path) VALUES (?, ?, ?, ?)",
            [(self._generation, bytes.fromhex(id), kind, path) for id, path in records],
        )

    def _drop_intents(self, ids: Iterable[str]) -> None:
        self._db.run_many(
            "DELETE FROM intent WHERE generation = ? AND id = ?",
            [(self._generation, bytes.fromhex(id)) for id in ids],
        )

    def _count(self, tally: _Tally) -> None:
        self._db.run(
            "UPDATE generation SET files = files + ?, chunks = chunks + ? WHERE id = ?",
            (tally.files, tally.chunks, self._generation),
        )


def split_path(path: str) -> tuple[str, str]:
    """("a/b", "c") for "a/b/c"; ("", "c") for "c"."""
    directory, _, name = path.rpartition("/")
    return directory, name
