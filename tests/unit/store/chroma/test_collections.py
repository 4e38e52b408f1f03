from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from chromadb.errors import InternalError, InvalidArgumentError

from reposyncd.errors import CorruptStoreError, PermanentStoreError, StoreError, TransientStoreError
from reposyncd.model import ChunkRow
from reposyncd.store.chroma.collections import ChromaCollections, _translated


def test_a_collection_says_of_itself_what_it_was_last_opened_with(tmp_path: Path) -> None:
    store = ChromaCollections(str(tmp_path))
    store.open("c-1", {"reposyncd_root": "/old"})
    store.open("c-1", {"reposyncd_root": "/new"})
    [collection] = store._client.list_collections()
    assert collection.metadata == {"reposyncd_root": "/new"}


def test_nothing_is_persisted_at_a_moment_that_was_not_chosen(tmp_path: Path) -> None:
    store = ChromaCollections(str(tmp_path))
    store.open("c-1", {"a": "b"})
    [collection] = store._client.list_collections()
    assert collection.configuration_json["hnsw"]["sync_threshold"] == 10_000_000
    assert collection.configuration_json["hnsw"]["space"] == "cosine"


def test_chromas_errors_become_ours(tmp_path: Path) -> None:
    store = ChromaCollections(str(tmp_path))
    with pytest.raises(CorruptStoreError, match="has lost a collection"):
        store.ids("nothing")
    store.open("c-1", {"a": "b"})
    store.upsert("c-1", ["1"], ["text"], np.ones((1, 4), np.float32), [{"a": 1}])
    with pytest.raises(PermanentStoreError, match="refuses"):
        store.upsert("c-1", ["2"], ["text"], np.ones((1, 5), np.float32), [{"a": 1}])


def test_a_record_that_another_program_has_put_there_is_no_hit_and_stops_no_search(tmp_path: Path) -> None:
    store = ChromaCollections(str(tmp_path))
    store.open("c-1", {"a": "b"})
    vectors = np.eye(3, 4, dtype=np.float32)
    ours = ChunkRow("0" * 32, "a.py", 1, 2, "", "python", "0" * 32).metadata("r") | {"note": "of somebody else"}
    store.upsert("c-1", ["1", "2"], ["ours", "theirs"], vectors[:2], [ours, {"a": 1}])
    [collection] = store._client.list_collections()
    collection.add(ids=["3"], embeddings=vectors[2:])  # no text, no metadata
    assert [hit.text for hit in store.query("c-1", vectors[1], 3)] == ["ours"]


@pytest.mark.parametrize(
    ("error", "ours", "told"),
    [
        (
            InternalError("error returned from database: (code: 5) database is locked"),
            TransientStoreError,
            "Chroma cannot write now: InternalError: database is locked",
        ),
        (
            InternalError("Error executing plan: Error creating reader: Error loading hnsw index"),
            CorruptStoreError,
            "Chroma contradicts itself: InternalError: Error executing plan: Error loading hnsw index",
        ),
        (InternalError("invalid type: string 'password = hunter2'"), CorruptStoreError, "itself: InternalError$"),
        (
            InvalidArgumentError("Collection expecting embedding with dimension of 4, got 5"),
            PermanentStoreError,
            "Chroma refuses: InvalidArgumentError: expecting embedding with dimension$",
        ),
        (ValueError("Expected a str, got password = hunter2"), PermanentStoreError, "Chroma refuses: ValueError$"),
    ],
)
def test_an_error_says_what_is_wrong_with_the_store_and_nothing_of_what_is_stored(
    error: Exception, ours: type[StoreError], told: str
) -> None:
    with pytest.raises(ours, match=told), _translated():
        raise error
