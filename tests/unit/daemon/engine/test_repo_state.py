"""What is known of a repository while the service runs."""

from __future__ import annotations

import pytest

from reposyncd.daemon.engine.repo_state import RETRY_FIRST_S, RepoState
from reposyncd.model import WHOLE, DirectoryError, FileError, RootIdentity, Scope
from reposyncd.store.manifest.catalog import Repo
from reposyncd.sync.debounce import Debounce

AT_MOST_S = 300.0

FILE, DIRECTORY = FileError("a/f.py", "I/O error"), DirectoryError("a/b", "cannot be listed")


@pytest.fixture
def kept() -> RepoState:
    kept = RepoState(Repo(1, "app", "/src/app", RootIdentity(0, 0)), Debounce(1, 1), Debounce(1, 1), whole_due=1e9)
    kept.ready = True
    return kept


def flat(*paths: str) -> Scope:
    return Scope(frozenset(paths))


def test_a_file_is_found_readable_by_a_look_at_its_directory_and_a_directory_by_one_into_it(kept: RepoState) -> None:
    kept.note_unindexed(WHOLE, [FILE, DIRECTORY], 0.0, AT_MOST_S)
    assert kept.unindexed.keys() == {"a/f.py", "a/b"}
    kept.note_unindexed(flat("other", ""), [], 1.0, AT_MOST_S)
    assert kept.unindexed.keys() == {"a/f.py", "a/b"}
    kept.note_unindexed(flat("a"), [], 2.0, AT_MOST_S)  # a save beside them
    assert kept.unindexed.keys() == {"a/b"}
    kept.note_unindexed(Scope(trees=frozenset({"a/b"})), [], 3.0, AT_MOST_S)
    assert not kept.unindexed and kept.retry.due() is None
    kept.note_unindexed(WHOLE, [DIRECTORY], 4.0, AT_MOST_S)
    kept.note_unindexed(flat("a/b"), [], 5.0, AT_MOST_S)
    assert not kept.unindexed


def test_what_is_tried_again_is_looked_at_with_its_directory_and_all_that_is_in_it(kept: RepoState) -> None:
    kept.note_unindexed(WHOLE, [FILE, DIRECTORY], 0.0, AT_MOST_S)
    assert kept.next(0.0, 1.0)[0] == RETRY_FIRST_S
    scope = kept.take(kept.next(RETRY_FIRST_S, 1.0)[1], RETRY_FIRST_S, 1.0)
    assert scope.covers(FILE) and scope.covers(DIRECTORY) and not scope.is_whole


def test_each_try_that_fails_is_followed_by_one_after_twice_the_time_at_most_so_late(kept: RepoState) -> None:
    now, waits = 0.0, []
    kept.note_unindexed(WHOLE, [FILE], now, AT_MOST_S)
    for _ in range(6):
        due = kept.retry.due()
        assert due is not None
        waits.append(due - now)
        now = due
        scope = kept.take(Scope(), now, 1.0)
        kept.note_unindexed(scope, [FILE], now, AT_MOST_S)
    assert waits == [30.0, 60.0, 120.0, 240.0, 300.0, 300.0]
    kept.note_unindexed(flat("a"), [FILE, FileError("a/g.py", "I/O error")], now, AT_MOST_S)
    assert kept.retry.due() == now + RETRY_FIRST_S  # news


def test_a_look_elsewhere_is_no_try(kept: RepoState) -> None:
    kept.note_unindexed(WHOLE, [FILE], 0.0, AT_MOST_S)
    for now in range(1, 6):
        kept.forget_dirty()  # a look at the whole tree that made way
        kept.note_unindexed(flat("other"), [], float(now), AT_MOST_S)
    assert kept.retry.due() == 5.0 + RETRY_FIRST_S
