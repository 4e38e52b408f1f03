"""Another program that uses the store by way of an unmodified Chroma: a process of its own, with locks of its own."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any


class Foreign:
    """Opens the store at `path` for each thing that it does, and closes it again. Ends with this process."""

    def __init__(self) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._connection, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def read(self, path: str) -> None:
        """Every collection."""
        self._do(read, path)

    def write(self, path: str, which: int, how: str) -> tuple[str, str, set[str]] | None:
        """Changes the first record ("label", "delete"), or adds one ("add"). Of which repository, in which collection,
        and the texts that it has then; None if there was no record."""
        found: tuple[str, str, set[str]] | None = self._do(write, path, which, how)
        return found

    def _do(self, what: Callable[..., Any], *arguments: Any) -> Any:
        self._connection.send((what, arguments))
        found = self._connection.recv()
        if isinstance(found, Exception):
            raise found
        return found


def read(collections: list[Any]) -> None:
    for collection in collections:
        collection.get(include=["documents", "metadatas", "embeddings"])
        found = collection.get(limit=1, include=["embeddings"])
        if found["ids"]:
            collection.query(query_embeddings=found["embeddings"], n_results=1)


def write(collections: list[Any], which: int, how: str) -> tuple[str, str, set[str]] | None:
    collection = collections[which % len(collections)]
    got = collection.get(include=["documents", "embeddings"])
    if not got["ids"]:
        return None
    if how == "label":
        collection.update(ids=got["ids"][:1], metadatas=[{"end_line": 99}])
    elif how == "delete":
        collection.delete(ids=got["ids"][:1])
    else:
        collection.add(ids=["f" * 32], documents=["theirs"], embeddings=got["embeddings"][:1])
    texts = set(collection.get(include=["documents"])["documents"])
    return collection.metadata["reposyncd_repo"], collection.name, texts


def _serve(connection: Connection) -> None:
    import chromadb

    while True:
        try:
            what, (path, *arguments) = connection.recv()
        except EOFError:
            return
        client: Any = chromadb.PersistentClient(path)
        try:
            names = [each.name for each in client.list_collections()]
            found = what([client.get_collection(name, embedding_function=None) for name in names], *arguments)
        except Exception as error:
            found = error
        client.close()
        connection.send(found)
