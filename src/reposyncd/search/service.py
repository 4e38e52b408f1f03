"""Searches one or several repositories. Commands and the service both use this."""

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
"""Errors after which a search is not retried: it has already waited, would crash again, or did not reach the store."""

Select = Callable[[], Selection]
"""Raises RebuildingError or UsageError if nothing can be searched, and StoreError."""


class Found(NamedTuple):
    """The hits, best first, and the notices for the user."""

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
    """Searches collections. If the store changes in the meantime, searches again. Thread-safe.

    `index` returns the index; it is called each time, because the index may be replaced. `embed` takes the identity of
    an embedder and a query, and returns the vector; None if the index itself has that embedder. `on_damage` is called
    with the error if a search finds the store damaged. It has the store repaired, and returns a message for the user.
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
        """The `limit` chunks nearest to the query, among everything that `select` returns.

        If that fails, it is repeated with `select_again`, which reads what serves now: a checkpoint may have replaced
        the store, a reload the index process, or a rebuild the collection. Raises what these two raise, UsageError for
        a blank query, CorruptStoreError for a damaged store, and other StoreErrors.
        """
        if not query.strip():  # its vector has no meaning
            raise UsageError("the query is blank; enter what to look for")
        try:
            try:
                return self._search(query, limit, select())
            except _WOULD_FAIL_AGAIN:
                raise
            except StoreError:
                return self._search(query, limit, select_again())
        except LethalTextError:  # the query is to blame, not the store
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
