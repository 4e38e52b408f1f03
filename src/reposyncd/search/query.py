"""A query to ranked chunks, over the vectors of one or several repos."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import nlargest

from reposyncd.model import Hit
from reposyncd.ports import VectorIndex


def search(index: VectorIndex, collections: Sequence[str], query: str, limit: int) -> tuple[Hit, ...]:
    """The `limit` chunks nearest to the query over all the collections, best first."""
    hits = [hit for collection in collections for hit in index.query(collection, query, limit)]
    return tuple(nlargest(limit, hits, key=lambda hit: hit.score))
