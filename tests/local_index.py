"""The index process's work on a real Chroma, done in this process: opened in milliseconds, and it counts what it does.

For tests of one thread. (Two copies of SQLite in one process do not see each other's locks; nothing here holds one
from one call to the next.)
"""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from reposyncd.embedding import EmbedderSpec, create
from reposyncd.ports import StoreAddress
from reposyncd.store.chroma.backend import EmbeddedBackend
from reposyncd.store.process.inline import InlineIndex
from reposyncd.store.process.worker import IndexWorker
from tests.support import until

_LOCK_TIMEOUT_S = 5.0
"""Nobody else holds the lock."""


def descriptors(path: str) -> set[str]:
    """Those of this process on files of the store at `path`."""
    place, found = os.path.realpath(path) + os.sep, set()
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            if os.readlink(f"/proc/self/fd/{number}").startswith(place):
                found.add(number)
    return found


def close(client: Any, path: str, before: set[str]) -> None:
    """Closes a client of Chroma, and returns when the descriptors are those from before. It closes its files when it
    likes, and with the first of them all locks that this process has on the database are gone."""
    client.close()
    until(lambda: descriptors(path) <= before, "the store is closed")


class LocalBackend(EmbeddedBackend):
    """Closed only when Chroma has closed its files."""

    def close(self) -> None:
        super().close()
        until(lambda: not descriptors(self.path), "the store is closed")


class LocalIndex(InlineIndex):
    """A `ports.RunningIndex` on the store at `path`, which may be a link. It stays open, as in a service, until
    `release`."""

    def __init__(self, path: str) -> None:
        super().__init__(
            lambda: IndexWorker(
                LocalBackend(os.path.realpath(path), _LOCK_TIMEOUT_S), create(EmbedderSpec("hashing")).embed
            )
        )
        self.compared: list[str] = []
        """collections whose records were all looked at"""
        self.logged: Counter[str] = Counter()
        """rows that were added to Chroma's log, by collection"""

    def submit(self, operation: str, *arguments: Any) -> Future[Any]:
        match operation:
            case "apply":
                collection, batch = arguments
                self.logged[collection] += len(batch.added) + len(batch.relabelled)
            case "delete":
                collection, ids = arguments
                self.logged[collection] += len(ids)
            case "drop":
                del self.logged[arguments[0]]
            case "labels":
                self.compared.append(arguments[0])
        return super().submit(operation, *arguments)

    def close(self) -> None:
        """It stays open."""

    abandon = close


class LocalMaintenance(LocalIndex):
    """A `maintenance.Process` on the store at an address; see `kinds.Start`."""

    def __init__(self, address: StoreAddress, log_name: str) -> None:
        super().__init__(address.arguments()[0])

    def close(self) -> None:
        self.release()
