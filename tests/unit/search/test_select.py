"""What a search asks, and what it says of the rest."""

from __future__ import annotations

import pytest

from reposyncd.errors import RebuildingError, UsageError
from reposyncd.search.select import Candidate, Target, select

TARGET = Target("lab-1", "hashing")
CURRENT = Candidate("lab", "/lab", TARGET, is_outdated=False, refusal=None, rebuilt=None)
OLD = CURRENT._replace(repo="old", root="/old", is_outdated=True)
GONE_MODEL = OLD._replace(repo="gone", root="/gone", target=None)
REFUSED = Candidate("etc", "/etc", None, is_outdated=False, refusal="it is off limits", rebuilt=None)
NEW = Candidate("new", "/new", None, is_outdated=False, refusal=None, rebuilt=None)


@pytest.mark.parametrize("is_updated", [False, True])
def test_what_is_current_is_searched_without_a_word(is_updated: bool) -> None:
    assert select([CURRENT, NEW], is_updated=is_updated) == ((TARGET,), ())


def test_an_old_index_is_searched_and_the_person_is_told_how_far_the_new_one_is() -> None:
    [notice] = select([OLD], is_updated=True).notices
    assert (notice.repo, notice.is_left_out) == ("old", False)
    assert "has not been rebuilt with another version or model yet" in notice.text
    [notice] = select([OLD._replace(rebuilt=(1200, 3400))], is_updated=True).notices
    assert "is being rebuilt with another version or model, 1,200 of 3,400 files" in notice.text
    [notice] = select([OLD._replace(rebuilt=(0, 0))], is_updated=True).notices
    assert notice.text.endswith("is being rebuilt with another version or model")


def test_what_cannot_be_searched_is_left_out_if_anything_else_can() -> None:
    selection = select([CURRENT, GONE_MODEL, REFUSED], is_updated=False)
    assert selection.targets == (TARGET,)
    assert [(each.repo, each.is_left_out) for each in selection.notices] == [("gone", True), ("etc", True)]
    assert "not searched: its index has not been rebuilt with another model yet" in selection.notices[0].text


def test_alone_an_index_of_a_model_that_is_gone_is_worth_waiting_for_only_if_somebody_rebuilds_it() -> None:
    with pytest.raises(RebuildingError, match="gone: not searched: its index has not been rebuilt"):
        select([GONE_MODEL], is_updated=True)
    with pytest.raises(UsageError, match=r"gone: indexed with a model that is not installed.*reposyncd sync /gone"):
        select([GONE_MODEL], is_updated=False)


@pytest.mark.parametrize("is_updated", [False, True])
def test_alone_a_refused_repository_says_why(is_updated: bool) -> None:
    with pytest.raises(UsageError, match="etc: not searched: it is off limits"):
        select([REFUSED], is_updated=is_updated)


def test_a_refused_repository_is_not_worth_waiting_for_even_if_it_is_outdated() -> None:
    with pytest.raises(UsageError, match="it is off limits"):
        select([REFUSED._replace(is_outdated=True)], is_updated=True)


def test_where_nothing_is_indexed_the_person_is_told_what_to_do() -> None:
    with pytest.raises(UsageError, match="build the index with: reposyncd sync /new"):
        select([NEW], is_updated=False)
    with pytest.raises(UsageError, match="the first index has not been built"):
        select([NEW], is_updated=True)
    with pytest.raises(UsageError, match="the first index has not been built"):
        select([], is_updated=True)
