"""The manifest's SQLite file: opens it for this user only, migrates it, and translates its errors.

Every method, here and in the modules that use this one, raises CorruptManifestError if the file is damaged, not a
database, or of a newer version; TransientStoreError if the disk is full or read-only, or the file is locked; and
StoreError otherwise.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from reposyncd.errors import CorruptManifestError, StoreError, TransientStoreError
from reposyncd.store.manifest.schema import MIGRATIONS, VERSION

BUSY_TIMEOUT_S = 30.0
"""How long a statement waits for a transaction of another connection. Our transactions take milliseconds."""

CORRUPT = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
"""Primary result codes for a file that is damaged, or is not a database."""

_TRANSIENT = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
}
_PRIMARY_CODE = 0xFF
"""The low byte of an extended result code is the primary one (sqlite.org/rescode.html)."""


class Database:
    """An open manifest file, created if absent (0600). It belongs to the thread that opened it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.is_suspect = False
        """whether damage was met since the file was opened, or since it was last found sound"""
        # Created here, because SQLite would apply the umask; its -wal and -shm files get the same mode. An existing
        # file is not opened: closing it would release the locks of this process's other connections to it
        # (sqlite.org/howtocorrupt.html, section 2.2).
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except FileExistsError:
            pass
        except OSError as error:
            raise TransientStoreError(f"{path}: {error.strerror}") from error
        with self._translated():
            self._connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        try:
            self._refuse_strange()
            for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
                self.row(f"PRAGMA {pragma}")
            self._migrate()
        except BaseException:
            self._connection.close()
            raise

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection. An open transaction is rolled back."""
        self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything in the block takes effect, or nothing does. Durable when the block ends. Cannot be nested."""
        self.run("BEGIN IMMEDIATE")
        try:
            yield
            self.run("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            raise

    def rows(self, sql: str, parameters: Sequence[object] = ()) -> list[Any]:
        """All rows of a query, as tuples."""
        with self._translated():
            return self._connection.execute(sql, parameters).fetchall()

    def each(self, sql: str, parameters: Sequence[object] = ()) -> Iterator[Any]:
        """The rows of a query one by one, as tuples."""
        with self._translated():
            yield from self._connection.execute(sql, parameters)

    def row(self, sql: str, parameters: Sequence[object] = ()) -> Any:
        """The first row, or None."""
        with self._translated():
            return self._connection.execute(sql, parameters).fetchone()

    def run(self, sql: str, parameters: Sequence[object] = ()) -> int:
        """Executes a statement and returns how many rows it changed."""
        with self._translated():
            return self._connection.execute(sql, parameters).rowcount

    def insert(self, sql: str, parameters: Sequence[object]) -> int:
        """Executes an INSERT and returns the new row's id."""
        with self._translated():
            return int(self._connection.execute(sql, parameters).lastrowid or 0)

    def run_many(self, sql: str, parameters: Iterable[Sequence[object]]) -> int:
        """Executes a statement once for each of many rows, and returns how many rows it changed in total."""
        with self._translated():
            return self._connection.executemany(sql, parameters).rowcount

    def _version(self) -> int:
        return int(self.row("PRAGMA user_version")[0])

    def check(self) -> None:
        """Reads the whole file, and raises CorruptManifestError if it contradicts itself. Takes about a second for each
        gigabyte."""
        found = self.row("PRAGMA quick_check(1)")
        self.is_suspect = found[0] != "ok"
        if self.is_suspect:
            raise CorruptManifestError(f"{self.path} is damaged: {found[0]}")

    def _refuse_strange(self) -> None:
        if self._version() > VERSION:
            raise CorruptManifestError(
                f"{self.path} was written by a newer reposyncd (its format is {self._version()}, this one knows "
                f"{VERSION})"
            )
        # The version is in the first page, which may be everything that is left.
        if self._version() and not self.row("SELECT 1 FROM sqlite_master WHERE name = 'incident'"):
            raise CorruptManifestError(f"{self.path} is damaged: tables are missing")

    def _migrate(self) -> None:
        if self._version() == VERSION:
            return
        with self.transaction():
            for step in MIGRATIONS[self._version() :]:  # read again: another process may have migrated the file
                for statement in _statements(step):
                    self.run(statement)
            self.run(f"PRAGMA user_version = {VERSION}")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            code = primary_code(error)
            message = f"{self.path}: {error}"
            if code in CORRUPT:
                self.is_suspect = True
                raise CorruptManifestError(message) from error
            raise (TransientStoreError if code in _TRANSIENT else StoreError)(message) from error


def primary_code(error: sqlite3.Error) -> int:
    """SQLite's primary result code; 0 if the error has none."""
    return getattr(error, "sqlite_errorcode", 0) & _PRIMARY_CODE


def set_aside(path: str, target: str) -> None:
    """Moves a manifest file to `target`, together with the files that SQLite keeps beside it. Nobody may have it
    open."""
    for suffix in ("-wal", "-shm", ""):  # the file itself comes last: until then, the next start finds the damage
        try:
            os.replace(path + suffix, target + suffix)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise TransientStoreError(f"{path}{suffix}: {error.strerror}") from error


def _statements(script: str) -> Iterator[str]:
    """The statements of a script. executescript would commit between them; after a crash, all or none must be there."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
