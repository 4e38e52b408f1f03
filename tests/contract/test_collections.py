"""What every store of records promises, run on the one in memory and on every kind of store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from reposyncd.errors import CorruptStoreError
from reposyncd.model import ChunkRow
from reposyncd.ports import Collections, label
from reposyncd.store.memory import MemoryCollections
from tests.contract import stores

ABOUT = {"reposyncd_repo": "r"}

DIMENSION = 8

Vector = np.ndarray[Any, np.dtype[np.float32]]


@pytest.fixture(scope="module", params=["memory", *stores.NAMES])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collections]:
    if request.param == "memory":
        yield MemoryCollections()
        return
    with stores.opened(request.param, tmp_path_factory.mktemp("state")) as collections:
        yield collections


@pytest.fixture
def name(store: Collections, request: pytest.FixtureRequest) -> Iterator[str]:
    name = f"c-{request.node.name[:40].split('[')[0]}-1"
    store.open(name, ABOUT)
    yield name
    store.drop(name)


def axis(number: int) -> Vector:
    return np.array([number % DIMENSION == each for each in range(DIMENSION)], np.float32)


def metadata(number: int, line: int = 1) -> dict[str, str | int]:
    return ChunkRow(f"{number:032x}", f"{number}.py", line, line, "", "python", "0" * 32).metadata("r")


def put(store: Collections, name: str, numbers: Sequence[int]) -> list[str]:
    """Records of these numbers: the vector of each is an axis. Returns their ids."""
    ids = [f"{number:032x}" for number in numbers]
    vectors = np.stack([axis(number) for number in numbers])
    store.upsert(name, ids, [f"text {number}" for number in numbers], vectors, [metadata(n) for n in numbers])
    return ids


def test_a_collection_is_listed_with_the_metadata_it_was_last_opened_with(store: Collections, name: str) -> None:
    assert store.collections()[name] == ABOUT
    assert store.open(name, {"reposyncd_repo": "another"}) == 0
    assert store.collections()[name] == {"reposyncd_repo": "another"}


def test_opening_keeps_the_records_and_counts_them(store: Collections, name: str) -> None:
    put(store, name, range(3))
    assert store.open(name, ABOUT) == store.count(name) == 3


def test_a_record_comes_back_whole(store: Collections, name: str) -> None:
    [id] = put(store, name, [5])
    [record] = store.records(name)
    assert (record.id, record.text, record.metadata) == (id, "text 5", metadata(5))
    np.testing.assert_allclose(record.vector, axis(5), atol=1e-6)


def test_a_record_that_is_stored_again_is_replaced(store: Collections, name: str) -> None:
    [id] = put(store, name, [1])
    store.upsert(name, [id], ["another text"], axis(2)[None, :], [metadata(1, line=9)])
    [record] = store.records(name)
    assert (record.text, record.metadata) == ("another text", metadata(1, line=9))
    np.testing.assert_allclose(record.vector, axis(2), atol=1e-6)


def test_an_update_changes_the_metadata_and_nothing_else(store: Collections, name: str) -> None:
    ids = put(store, name, [1, 2])
    [before] = store.records(name, ids[:1])
    store.update(name, ids[:1], [metadata(1, line=40)])
    assert store.records(name, ids[:1]) == [before._replace(metadata=metadata(1, line=40))]
    assert store.labels(name) == {ids[0]: label(metadata(1, line=40)), ids[1]: label(metadata(2))}


def test_an_update_of_what_is_absent_stores_nothing(store: Collections, name: str) -> None:
    store.update(name, ["f" * 32], [metadata(1)])
    assert store.ids(name) == set()


def test_deleted_records_are_gone_and_absent_ones_are_no_error(store: Collections, name: str) -> None:
    kept, gone = put(store, name, [1, 2])
    store.delete(name, [gone, "f" * 32])
    store.delete(name, [gone])
    assert store.ids(name) == {kept}


def test_only_what_exists_is_returned(store: Collections, name: str) -> None:
    ids = put(store, name, [1, 2])
    assert [record.id for record in store.records(name, [ids[1], "f" * 32])] == [ids[1]]
    [(id, vector)] = store.vectors(name, [ids[0], "f" * 32]).items()
    assert id == ids[0]
    np.testing.assert_allclose(vector, axis(1), atol=1e-6)


def test_empty_calls_do_nothing(store: Collections, name: str) -> None:
    store.upsert(name, [], [], np.zeros((0, DIMENSION), np.float32), [])
    store.update(name, [], [])
    store.delete(name, [])
    assert store.records(name, []) == []
    assert store.vectors(name, []) == {}
    assert store.query(name, axis(1), 3) == []
    store.probe(name)


def test_a_query_finds_the_nearest_first(store: Collections, name: str) -> None:
    put(store, name, range(4))
    wanted = axis(2) * np.float32(0.9) + axis(1) * np.float32(0.4)
    hits = store.query(name, wanted / np.linalg.norm(wanted), 2)
    assert [hit.path for hit in hits] == ["2.py", "1.py"]
    assert 1.0 >= hits[0].score > hits[1].score > 0


def test_more_records_than_chroma_takes_in_one_call_are_stored_and_deleted(store: Collections, name: str) -> None:
    ids = put(store, name, range(6000))
    assert store.ids(name) == set(ids)
    assert len(store.records(name)) == len(store.vectors(name, ids)) == 6000
    store.delete(name, ids)
    assert store.count(name) == 0


def test_a_sound_collection_passes_its_probe(store: Collections, name: str) -> None:
    put(store, name, range(3))
    store.probe(name)


def test_a_dropped_collection_is_gone_and_dropping_it_again_is_no_error(store: Collections) -> None:
    store.open("dropped", ABOUT)
    put(store, "dropped", [1])
    store.drop("dropped")
    store.drop("dropped")
    assert "dropped" not in store.collections()
    assert store.open("dropped", ABOUT) == 0
    store.drop("dropped")


ABSENT = "never-made"


@pytest.mark.parametrize(
    "operation",
    [
        lambda store: store.ids(ABSENT),
        lambda store: store.count(ABSENT),
        lambda store: store.labels(ABSENT),
        lambda store: store.records(ABSENT),
        lambda store: store.records(ABSENT, ["0" * 32]),
        lambda store: store.vectors(ABSENT, ["0" * 32]),
        lambda store: store.probe(ABSENT),
        lambda store: store.query(ABSENT, axis(1), 3),
        lambda store: put(store, ABSENT, [1]),
        lambda store: store.update(ABSENT, ["0" * 32], [metadata(0)]),
        lambda store: store.delete(ABSENT, ["0" * 32]),
    ],
)
def test_an_operation_on_a_collection_that_does_not_exist_is_an_error(
    store: Collections, operation: Callable[[Collections], object]
) -> None:
    with pytest.raises(CorruptStoreError):
        operation(store)
    assert ABSENT not in store.collections()


def test_a_record_that_somebody_else_has_stored_is_no_hit(store: Collections, name: str) -> None:
    put(store, name, [1])
    store.upsert(name, ["theirs"], ["text"], axis(2)[None, :], [{"note": "of another program"}])
    assert [hit.path for hit in store.query(name, axis(2), 2)] == ["1.py"]
