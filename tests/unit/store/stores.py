"""A real store of collections that are empty, tiny and not so tiny, and another program that has it open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import chromadb
import numpy as np

from reposyncd.store.chroma.collections import ChromaCollections

SIZES = (0, 1, 2, 3, 300)
"""Records of the collections. Chroma persists no index of fewer than two."""

LOGGED = 5
"""Records of the collection that is in the log alone."""

VECTOR = [[1.0] * 8]


def fill(store: ChromaCollections, size: int) -> None:
    name = f"has-{size}"
    store.open(name, {"of": "the test"})
    vectors = np.eye(8, dtype=np.float32)[np.arange(size) % 8]
    ids = [f"{size}-{number}" for number in range(size)]
    store.upsert(name, ids, [f"text {id}" for id in ids], vectors, [{"line": n} for n in range(size)])


class Foreign:
    """Another program's client, open for the time of the block."""

    def __init__(self, store: Path) -> None:
        self._store = str(store)

    def __enter__(self) -> Foreign:
        self.client: Any = chromadb.PersistentClient(self._store)
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def of(self, size: int) -> Any:
        return self.client.get_collection(f"has-{size}", embedding_function=None)

    def read(self) -> None:
        for collection in self.client.list_collections():
            collection.count()
            collection.get(include=["documents", "metadatas", "embeddings"])
            collection.query(query_embeddings=VECTOR, n_results=1)
            collection.get(where_document={"$contains": "text"})


def read(store: Path) -> None:
    with Foreign(store) as foreign:
        foreign.read()
