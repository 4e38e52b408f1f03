"""A query to ranked chunks, over the vectors of one or several repos."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import nlargest
from typing import NamedTuple

from reposyncd.model import Hit, Notice
from reposyncd.ports import VectorIndex


class Target(NamedTuple):
    """A collection, and the embedder that made its vectors: those of another one cannot be compared with them."""

    collection: str
    embedder: str
    """its identity"""


class Found(NamedTuple):
    """What was found, best first, and what the asker has to know of where it was looked for."""

    hits: tuple[Hit, ...]
    notices: tuple[Notice, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether no repo was left out."""
        return not any(notice.is_left_out for notice in self.notices)


def search(
    index: VectorIndex,
    embed: Callable[[str, str], Sequence[float] | None],
    targets: Sequence[Target],
    query: str,
    limit: int,
) -> tuple[Hit, ...]:
    """The `limit` chunks nearest to the query over all the targets, best first. `embed` takes the identity of an
    embedder and the query to its vector; to None, if the index itself has that embedder.

    Scores of different embedders are not of one measure; they are put into one order all the same, since that lasts
    only while an index is rebuilt with another model.
    """
    vectors = {identity: embed(identity, query) for identity in dict.fromkeys(target.embedder for target in targets)}
    hits: list[Hit] = []
    for target in targets:
        vector = vectors[target.embedder]
        hits += index.query(target.collection, query if vector is None else vector, limit)
    return tuple(nlargest(limit, hits, key=lambda hit: hit.score))


def outdated(repo: str, progress: tuple[int, int] | None) -> Notice:
    """Of a repo that is searched as it was before another version or model came. `progress` is (files, of how many) of
    its rebuild, if that is under way."""
    return Notice(
        repo,
        f"the index of before is searched, without changes since; it {_so_far(progress, 'another version or model')}",
        is_left_out=False,
    )


def left_out(repo: str, progress: tuple[int, int] | None) -> Notice:
    """Of a repo that cannot be searched until it is rebuilt, since the model of before is not installed any more."""
    return Notice(
        repo,
        f"it is not searched: its index {_so_far(progress, 'another model')}; ask again later",
        is_left_out=True,
    )


def _so_far(progress: tuple[int, int] | None, what: str) -> str:
    if progress is None:
        return f"is still to be rebuilt with {what}"
    files = f", {progress[0]:,} of {progress[1]:,} files" if progress[1] else ""
    return f"is being rebuilt with {what}{files}"
