"""Merges the hits of several collections. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from heapq import nlargest

from reposyncd.model import Hit


def best(hits: Iterable[Hit], limit: int) -> tuple[Hit, ...]:
    """The `limit` hits with the highest scores, best first. Of hits with equal scores, the first ones come first.

    Scores of different embedders are not comparable. They are sorted together nevertheless, because this only happens
    while an index is being rebuilt with another model.
    """
    return tuple(nlargest(limit, hits, key=lambda hit: hit.score))
