"""Decides what a search uses, from what is known about each repository. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from reposyncd.errors import RebuildingError, UsageError
from reposyncd.model import Notice


class Target(NamedTuple):
    """A collection, and the identity of the embedder that made its vectors. Queries need the same embedder."""

    collection: str
    embedder: str


class Candidate(NamedTuple):
    """A repository that is to be searched."""

    repo: str
    root: str
    target: Target | None
    """its serving index; None if there is none, or if it cannot be searched: its embedder is not installed any more,
    its records have another form, or the repository must not be indexed"""
    is_outdated: bool
    """whether its serving index will be replaced, because another version or model made it"""
    refusal: str | None
    """why the repository must not be indexed, and what to do about it"""
    rebuilt: tuple[int, int] | None
    """files of the new index that are done, and all of them; None if nobody is building it"""


class Selection(NamedTuple):
    """What is searched, and the notices for the user."""

    targets: tuple[Target, ...]
    notices: tuple[Notice, ...]


def select(candidates: Sequence[Candidate], *, is_updated: bool) -> Selection:
    """The targets of these repositories. `is_updated`: somebody (the service or another process) is building what is
    missing. Raises RebuildingError or UsageError if nothing can be searched."""
    targets = tuple(each.target for each in candidates if each.target)
    refused = [_refused(each.repo, each.refusal) for each in candidates if each.refusal]
    outdated = [each for each in candidates if each.is_outdated and not each.refusal]
    notices = [_outdated(each) for each in outdated]
    if targets:
        return Selection(targets, (*notices, *refused))
    if notices and is_updated:
        raise RebuildingError(_joined(notices))
    if refused:
        raise UsageError(_joined(refused))
    if outdated:
        raise UsageError(
            f"{', '.join(each.repo for each in outdated)}: indexed with a model that is not installed any more; "
            f"rebuild the index with: reposyncd sync {outdated[0].root}"
        )
    if is_updated:
        raise UsageError("nothing is indexed yet; the first index has not been built")
    raise UsageError(f"nothing is indexed yet; build the index with: reposyncd sync {candidates[0].root}")


def _refused(repo: str, why: str) -> Notice:
    return Notice(repo, f"not searched: {why}", is_left_out=True)


def _outdated(repo: Candidate) -> Notice:
    if repo.target:
        text = f"searched in its old index, without later changes; it {_so_far(repo, 'another version or model')}"
        return Notice(repo.repo, text, is_left_out=False)
    text = f"not searched: its index {_so_far(repo, 'another model')}; try again later"
    return Notice(repo.repo, text, is_left_out=True)


def _so_far(repo: Candidate, what: str) -> str:
    if repo.rebuilt is None:
        return f"has not been rebuilt with {what} yet"
    done, total = repo.rebuilt
    return f"is being rebuilt with {what}" + (f", {done:,} of {total:,} files" if total else "")


def _joined(notices: Sequence[Notice]) -> str:
    return "; ".join(f"{each.repo}: {each.text}" for each in notices)
