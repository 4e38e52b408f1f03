"""What every vector index promises, run on the one in memory and on every kind of store behind its process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from reposyncd.embedding import EmbedderSpec, create
from reposyncd.errors import CorruptStoreError
from reposyncd.model import Batch, ChunkRow, NewChunk, Record
from reposyncd.ports import RunningIndex
from reposyncd.store.memory import MemoryIndex
from reposyncd.store.process.supervisor import IndexProcess
from reposyncd.sync.plan import chunk_id, text_digest
from tests.contract import stores

HASHING = EmbedderSpec("hashing")
TREE = {"reposyncd_repo": "r"}


@pytest.fixture(scope="module", params=["memory", *stores.NAMES])
def index(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningIndex]:
    embedder = create(HASHING)
    if request.param == "memory":
        yield MemoryIndex(embedder.embed)
        return
    state: Path = tmp_path_factory.mktemp("state")
    process = IndexProcess(str(state), stores.address(request.param, state), HASHING, deadline_s=120)
    yield process
    process.close()


@pytest.fixture
def collection(index: RunningIndex, request: pytest.FixtureRequest) -> Iterator[str]:
    name = f"c-{request.node.name[:40].split('[')[0]}"
    index.open(name, TREE)
    yield name
    index.drop(name)


def row(path: str, text: str, occurrence: int = 0, start: int = 1) -> ChunkRow:
    digest = text_digest(text)
    end = start + text.count("\n")
    return ChunkRow(chunk_id("r", path, digest, occurrence), path, start, end, "", "text", digest)


def new(path: str, text: str, source: str | None = None) -> NewChunk:
    return NewChunk(row(path, text), text, source)


def store(index: RunningIndex, collection: str, *chunks: NewChunk) -> int:
    return index.apply(collection, Batch("r", chunks, ())).result().embedded


def records(index: RunningIndex, collection: str) -> dict[str, Record]:
    return {record.id: record for record in index.records(collection)}


def test_a_stored_chunk_is_a_record_with_text_metadata_and_the_embedders_vector(
    index: RunningIndex, collection: str
) -> None:
    chunk = new("src/a.py", "def open_door():\n    return 'ajar'\n")
    store(index, collection, chunk)
    [record] = index.records(collection)
    assert record.id == chunk.row.id
    assert record.text == chunk.text
    assert record.metadata == {
        "repo": "r",
        "path": "src/a.py",
        "start_line": 1,
        "end_line": 3,
        "language": "text",
        "symbol": "",
        "digest": text_digest(chunk.text),
    }
    np.testing.assert_allclose(record.vector, create(HASHING).embed([chunk.text])[0], atol=1e-6)


def test_storing_twice_is_storing_once(index: RunningIndex, collection: str) -> None:
    store(index, collection, new("a", "alpha\n"))
    before = records(index, collection)
    store(index, collection, new("a", "alpha\n"))
    assert records(index, collection) == before


def test_opening_tells_how_many_records_there_are(index: RunningIndex, collection: str) -> None:
    store(index, collection, new("a", "alpha\n"), new("b", "beta\n"))
    assert index.open(collection, TREE) == 2


def test_equal_texts_are_embedded_once_and_stored_each(index: RunningIndex, collection: str) -> None:
    assert store(index, collection, new("a", "same\n"), new("b", "same\n")) == 1
    assert len(index.ids(collection)) == 2


def test_a_chunk_with_a_source_takes_its_vector_and_is_not_embedded(index: RunningIndex, collection: str) -> None:
    first = new("a", "moved text\n")
    store(index, collection, first)
    second = new("b", "moved text\n", source=first.row.id)
    assert store(index, collection, second) == 0
    found = records(index, collection)
    assert found[first.row.id].vector == found[second.row.id].vector


def test_a_chunk_whose_source_is_gone_is_embedded_after_all(index: RunningIndex, collection: str) -> None:
    chunk = new("b", "its source is gone\n", source="0" * 32)
    assert store(index, collection, chunk) == 1
    np.testing.assert_allclose(
        records(index, collection)[chunk.row.id].vector,
        create(HASHING).embed([chunk.text])[0],
        atol=1e-6,
    )


def test_relabelling_changes_the_metadata_and_nothing_else(index: RunningIndex, collection: str) -> None:
    chunk = new("a", "moves down\n")
    store(index, collection, chunk)
    before = records(index, collection)[chunk.row.id]
    moved = row("a", chunk.text, start=40)
    assert index.apply(collection, Batch("r", (), (moved,))).result().embedded == 0
    after = records(index, collection)[chunk.row.id]
    assert after == before._replace(metadata=moved.metadata("r"))


def test_relabelling_what_is_absent_stores_nothing(index: RunningIndex, collection: str) -> None:
    index.apply(collection, Batch("r", (), (row("a", "never stored\n"),))).result()
    assert index.ids(collection) == set()


def test_deleted_records_are_gone_and_deleting_them_again_is_no_error(index: RunningIndex, collection: str) -> None:
    kept, gone = new("a", "kept\n"), new("a", "gone\n")
    store(index, collection, kept, gone)
    index.delete(collection, [gone.row.id, "f" * 32]).result()
    index.delete(collection, [gone.row.id]).result()
    assert index.ids(collection) == {kept.row.id}


def test_empty_calls_do_nothing(index: RunningIndex, collection: str) -> None:
    assert store(index, collection) == 0
    index.delete(collection, []).result()
    assert index.ids(collection) == set()
    assert index.query(collection, "anything", 3) == []


def test_more_records_than_one_call_of_chroma_takes_are_stored(index: RunningIndex, collection: str) -> None:
    chunks = [new("a", f"text number {n}\n") for n in range(6000)]
    store(index, collection, *chunks)
    assert index.ids(collection) == {chunk.row.id for chunk in chunks}
    index.delete(collection, [chunk.row.id for chunk in chunks]).result()
    assert index.ids(collection) == set()


def test_a_query_finds_the_nearest_first(index: RunningIndex, collection: str) -> None:
    store(
        index,
        collection,
        new("a", "def parse_toml(text): ...\n"),
        new("b", "class HttpServer: ...\n"),
        new("c", "the weather in spring\n"),
    )
    hits = index.query(collection, "http server class", 2)
    assert hits[0].path == "b"
    assert len(hits) == 2
    assert 1.0 >= hits[0].score >= hits[1].score


def test_operations_take_effect_in_the_order_of_their_calls(index: RunningIndex, collection: str) -> None:
    chunk = new("a", "there and back\n")
    stored = [index.apply(collection, Batch("r", (chunk,), ()))]
    deleted = [index.delete(collection, [chunk.row.id])]
    for _ in range(5):
        stored.append(index.apply(collection, Batch("r", (chunk,), ())))
        deleted.append(index.delete(collection, [chunk.row.id]))
    assert [outcome.result().embedded for outcome in stored] == [1] * 6
    deleted[-1].result()
    assert index.ids(collection) == set()


def test_a_collection_that_was_never_made_is_an_error_and_its_dropping_none(index: RunningIndex) -> None:
    index.drop("never-made")
    with pytest.raises(CorruptStoreError):
        index.ids("never-made")


def test_any_text_comes_back_as_it_was(index: RunningIndex, collection: str) -> None:
    texts = ["tab\tand\r\nreturn", "\u2028 separator \x7f \x01", "naïve 漢字 🎉 e\u0301", " ", "x" * 20_000]
    store(index, collection, *(new(f"f{n}", text) for n, text in enumerate(texts)))
    assert {record.text for record in index.records(collection)} == set(texts)


def test_the_first_operation_after_a_release_may_be_one_that_writes(index: RunningIndex, collection: str) -> None:
    kept, gone = new("a", "kept\n"), new("a", "gone\n")
    store(index, collection, kept, gone)
    index.release()
    index.delete(collection, [gone.row.id]).result()
    assert index.ids(collection) == {kept.row.id}
    index.release()
    index.drop(collection)
    assert collection not in index.collections()
