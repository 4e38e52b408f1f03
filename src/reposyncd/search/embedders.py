"""Embedders other than the one that is configured: for an index that another one made, until it is rebuilt."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from reposyncd.errors import StoreError, TransientStoreError
from reposyncd.ports import RunningIndex


class Embedders:
    """Vectors of queries by embedders, by name. `make` makes an index that has the embedder of that name; nothing but
    that is asked of it. For any thread."""

    def __init__(self, make: Callable[[str], RunningIndex]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._made: dict[str, RunningIndex] | None = {}

    def embed(self, name: str, query: str) -> Sequence[float]:
        """The query's vector. Raises a StoreError; TransientStoreError after `close`."""
        with self._lock:
            if self._made is None:
                raise TransientStoreError("the embedders were closed")
            if name not in self._made:
                self._made[name] = self._make(name)
            index = self._made[name]
        try:
            [vector] = index.embed([query])
        except StoreError:
            self._drop(name, index)
            raise
        return vector

    def close(self) -> None:
        """Ends them all."""
        with self._lock:
            made, self._made = self._made or {}, None
        for index in made.values():
            index.close()

    def _drop(self, name: str, index: RunningIndex) -> None:
        with self._lock:
            if self._made and self._made.get(name) is index:
                del self._made[name]
        index.close()
