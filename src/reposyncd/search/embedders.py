"""Embedders other than the configured one. They embed queries for indexes that have not been rebuilt yet."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from reposyncd.errors import EmbedderUnavailableError


class QueryEmbedder(Protocol):
    """Computes the vectors of queries."""

    def embed(self, texts: Sequence[str]) -> list[tuple[float, ...]]:
        """The vectors. If it raises StoreError, it can be called again."""
        ...

    def close(self) -> None:
        """Ends it."""
        ...


class Embedders:
    """Creates embedders when they are needed, with `make`, which takes an embedder's identity, and keeps them.
    Thread-safe."""

    def __init__(self, make: Callable[[str], QueryEmbedder]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._made: dict[str, QueryEmbedder] | None = {}

    def embed(self, identity: str, query: str) -> Sequence[float]:
        """The vector of the query. Raises StoreError; EmbedderUnavailableError after `close`."""
        with self._lock:
            if self._made is None:
                raise EmbedderUnavailableError("the embedders were closed")
            if identity not in self._made:
                self._made[identity] = self._make(identity)
            embedder = self._made[identity]
        [vector] = embedder.embed([query])
        return vector

    def close(self) -> None:
        """Closes all embedders."""
        with self._lock:
            made, self._made = self._made or {}, None
        for embedder in made.values():
            embedder.close()
