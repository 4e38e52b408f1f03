"""The hits of several collections in one order. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from heapq import nlargest

from reposyncd.model import Hit


def best(hits: Iterable[Hit], limit: int) -> tuple[Hit, ...]:
    """The `limit` hits with the highest score, best first; of equal ones the first.

    Scores of different embedders are not comparable. They are sorted together all the same: it lasts only while an
    index is rebuilt with another model.
    """
    return tuple(nlargest(limit, hits, key=lambda hit: hit.score))
