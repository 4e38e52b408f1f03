"""A query to ranked chunks, over one or several repositories. Commands and the service search with this."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from reposyncd.errors import (
    CorruptStoreError,
    EmbedderUnavailableError,
    LethalOperationError,
    LethalTextError,
    RefusedTextError,
    StoreBusyError,
    StoreError,
    UsageError,
)
from reposyncd.model import Hit, Notice
from reposyncd.ports import VectorIndex
from reposyncd.search.rank import best
from reposyncd.search.select import Selection

_WOULD_FAIL_AGAIN = (StoreBusyError, LethalOperationError, EmbedderUnavailableError, RefusedTextError)
"""Errors after which a search is not repeated: it has waited already, would crash again, or never came to the store."""

Select = Callable[[], Selection]
"""Raises RebuildingError or UsageError if nothing can be searched, and a StoreError."""


class Found(NamedTuple):
    """The hits, best first, and what to tell the person who searches."""

    hits: tuple[Hit, ...]
    notices: tuple[Notice, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether no repository was left out."""
        return not any(notice.is_left_out for notice in self.notices)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, `app.messages.Hits`."""
        return {
            "hits": [asdict(hit) for hit in self.hits],
            "complete": self.is_complete,
            "notices": [{"repo": each.repo, "text": each.text} for each in self.notices],
        }


class SearchService:
    """Searches collections, once more if the store changes meanwhile. For any thread.

    `index` is asked for the index each time, because it may be replaced. `embed` takes the identity of an embedder and
    a query to its vector; None if the index itself has that embedder. `on_damage` is told how a search found the store
    damaged; it has the store repaired, and returns what to tell the person who searches.
    """

    def __init__(
        self,
        index: Callable[[], VectorIndex],
        embed: Callable[[str, str], Sequence[float] | None],
        on_damage: Callable[[StoreError], str],
    ) -> None:
        self._index = index
        self._embed = embed
        self._on_damage = on_damage

    def search(self, query: str, limit: int, select: Select, select_again: Select) -> Found:
        """The `limit` chunks nearest to the query over everything that `select` returns.

        If that fails, it is done again with `select_again`, which reads what serves by now: a checkpoint may have
        replaced the store, a reload the index process, a rebuild the collection. Raises what these two raise,
        UsageError for a blank query, CorruptStoreError for a damaged store, and other StoreErrors.
        """
        if not query.strip():  # it is as near to one chunk as to any other
            raise UsageError("the query is blank; say what to look for")
        try:
            try:
                return self._search(query, limit, select())
            except _WOULD_FAIL_AGAIN:
                raise
            except StoreError:
                return self._search(query, limit, select_again())
        except LethalTextError:  # the query is at fault, not the store
            raise
        except (CorruptStoreError, LethalOperationError) as error:
            raise CorruptStoreError(self._on_damage(error)) from error

    def _search(self, query: str, limit: int, selection: Selection) -> Found:
        index = self._index()
        embedders = dict.fromkeys(target.embedder for target in selection.targets)
        vectors = {identity: self._embed(identity, query) for identity in embedders}
        hits: list[Hit] = []
        for target in selection.targets:
            vector = vectors[target.embedder]
            hits += index.query(target.collection, query if vector is None else vector, limit)
        return Found(best(hits, limit), selection.notices)
