"""Embedders other than the configured one. They embed queries for an index that is still to be rebuilt."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from reposyncd.errors import EmbedderUnavailableError


class QueryEmbedder(Protocol):
    """What is asked for the vectors of queries."""

    def embed(self, texts: Sequence[str]) -> list[tuple[float, ...]]:
        """The vectors. Raises a StoreError, and can be asked again."""
        ...

    def close(self) -> None:
        """Ends it."""
        ...


class Embedders:
    """Makes embedders as they are needed, with `make`, which takes the identity of one, and keeps them. For any
    thread."""

    def __init__(self, make: Callable[[str], QueryEmbedder]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._made: dict[str, QueryEmbedder] | None = {}

    def embed(self, identity: str, query: str) -> Sequence[float]:
        """The query's vector. Raises a StoreError; EmbedderUnavailableError after `close`."""
        with self._lock:
            if self._made is None:
                raise EmbedderUnavailableError("the embedders were closed")
            if identity not in self._made:
                self._made[identity] = self._make(identity)
            embedder = self._made[identity]
        [vector] = embedder.embed([query])
        return vector

    def close(self) -> None:
        """Ends them all."""
        with self._lock:
            made, self._made = self._made or {}, None
        for embedder in made.values():
            embedder.close()
