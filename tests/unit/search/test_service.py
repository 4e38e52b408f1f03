"""A search over several collections, and what it does when the store changes under it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from reposyncd.embedding import EmbedderSpec, create
from reposyncd.errors import (
    CorruptStoreError,
    EmbedderUnavailableError,
    LethalOperationError,
    LethalTextError,
    RefusedTextError,
    StoreBusyError,
    StoreError,
    TransientStoreError,
    UsageError,
)
from reposyncd.model import Hit, Notice
from reposyncd.search.select import Selection, Target
from reposyncd.search.service import SearchService
from reposyncd.store.memory import MemoryIndex

HIT = Hit("lab", "a.py", 1, 2, "", "python", "", 0.5, "a = 1\n")


class Index(MemoryIndex):
    """Answers a query with hits of scores that are told beforehand, by collection, or with an error."""

    def __init__(self) -> None:
        super().__init__(create(EmbedderSpec("hashing")).embed)
        self.scores: dict[str, list[float]] = {}
        self.errors: list[StoreError] = []
        self.wanted: list[str | Sequence[float]] = []

    def query(self, collection: str, wanted: str | Sequence[float], limit: int) -> list[Hit]:
        self.wanted.append(wanted)
        if self.errors:
            raise self.errors.pop(0)
        return [replace(HIT, path=collection, score=score) for score in self.scores[collection]]


@pytest.fixture
def index() -> Index:
    return Index()


def embed(name: str, query: str) -> tuple[float, ...] | None:
    return None if name == "own" else (float(len(name)),)


def service(index: Index, damages: list[StoreError] | None = None) -> SearchService:
    def on_damage(error: StoreError) -> str:
        if damages is not None:
            damages.append(error)
        return f"damaged: {error}"

    return SearchService(lambda: index, embed, on_damage)


def selection(*collections: str, embedder: str = "own") -> Selection:
    return Selection(tuple(Target(each, embedder) for each in collections), ())


def test_hits_of_several_collections_are_merged_best_first(index: Index) -> None:
    index.scores = {"one": [0.9, 0.2], "two": [0.5]}
    found = service(index).search("query", 2, lambda: selection("one", "two"), lambda: selection("one"))
    assert [(hit.path, hit.score) for hit in found.hits] == [("one", 0.9), ("two", 0.5)]
    assert found.is_complete


def test_each_collection_is_asked_with_the_embedder_that_made_it(index: Index) -> None:
    index.scores = {"one": [], "two": []}
    targets = Selection((Target("one", "own"), Target("two", "other")), (Notice("two", "old", is_left_out=True),))
    found = service(index).search("query", 2, lambda: targets, lambda: targets)
    assert index.wanted == ["query", (5.0,)]
    assert found.to_dict() == {"hits": [], "complete": False, "notices": [{"repo": "two", "text": "old"}]}


@pytest.mark.parametrize("error", [TransientStoreError("replaced"), CorruptStoreError("torn")])
def test_a_search_that_fails_is_done_again_on_what_serves_by_then(index: Index, error: StoreError) -> None:
    index.scores, index.errors = {"new": [0.5]}, [error]
    found = service(index).search("query", 1, lambda: selection("old"), lambda: selection("new"))
    assert [hit.path for hit in found.hits] == ["new"]


@pytest.mark.parametrize(
    "error",
    [
        StoreBusyError("locked"),
        LethalTextError("it crashes"),
        EmbedderUnavailableError("away"),
        RefusedTextError("too long"),
    ],
)
def test_what_would_fail_again_is_not_tried_again(index: Index, error: StoreError) -> None:
    index.errors = [error]
    with pytest.raises(type(error)):
        service(index).search("query", 1, lambda: selection("one"), lambda: selection("one"))
    assert len(index.wanted) == 1


@pytest.mark.parametrize(
    "errors", [[CorruptStoreError("torn"), CorruptStoreError("torn")], [LethalOperationError("it crashes")]]
)
def test_damage_is_passed_on_and_the_person_told_what_becomes_of_it(index: Index, errors: list[StoreError]) -> None:
    index.errors, last = list(errors), errors[-1]
    damages: list[StoreError] = []
    with pytest.raises(CorruptStoreError, match=f"damaged: {last}"):
        service(index, damages).search("query", 1, lambda: selection("one"), lambda: selection("one"))
    assert damages == [last]


def test_what_cannot_be_selected_is_told_as_it_is(index: Index) -> None:
    def select() -> Selection:
        raise UsageError("nothing is indexed yet")

    with pytest.raises(UsageError, match="nothing is indexed yet"):
        service(index).search("query", 1, select, select)


def test_a_blank_query_finds_nothing_but_a_usage_error(index: Index) -> None:
    with pytest.raises(UsageError, match="the query is blank"):
        service(index).search(" ", 1, lambda: selection("one"), lambda: selection("one"))
    assert index.wanted == []
