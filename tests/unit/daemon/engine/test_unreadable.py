"""What could not be read is tried again."""

from __future__ import annotations

import pytest

from reposyncd.daemon.engine.unreadable import RETRY_FIRST_S, Unreadable
from reposyncd.model import WHOLE, DirectoryError, FileError, Scope

AT_MOST_S = 300.0

FILE, DIRECTORY = FileError("a/f.py", "I/O error"), DirectoryError("a/b", "cannot be listed")


@pytest.fixture
def unreadable() -> Unreadable:
    return Unreadable()


def flat(*paths: str) -> Scope:
    return Scope(frozenset(paths))


def test_a_file_is_found_readable_by_a_look_at_its_directory_and_a_directory_by_one_into_it(
    unreadable: Unreadable,
) -> None:
    unreadable.note(WHOLE, [FILE, DIRECTORY], 0.0, AT_MOST_S)
    assert unreadable.errors.keys() == {"a/f.py", "a/b"}
    unreadable.note(flat("other", ""), [], 1.0, AT_MOST_S)
    assert unreadable.errors.keys() == {"a/f.py", "a/b"}
    unreadable.note(flat("a"), [], 2.0, AT_MOST_S)  # a save beside them
    assert unreadable.errors.keys() == {"a/b"}
    unreadable.note(Scope(trees=frozenset({"a/b"})), [], 3.0, AT_MOST_S)
    assert not unreadable.errors and unreadable.retry.due() is None
    unreadable.note(WHOLE, [DIRECTORY], 4.0, AT_MOST_S)
    unreadable.note(flat("a/b"), [], 5.0, AT_MOST_S)
    assert not unreadable.errors


def test_what_is_tried_again_is_looked_at_with_its_directory_and_all_that_is_in_it(unreadable: Unreadable) -> None:
    unreadable.note(WHOLE, [FILE, DIRECTORY], 0.0, AT_MOST_S)
    assert unreadable.retry.due() == RETRY_FIRST_S
    scope = unreadable.retry.take(RETRY_FIRST_S)
    assert scope.covers(FILE) and scope.covers(DIRECTORY) and not scope.is_whole


def test_each_try_that_fails_is_followed_by_one_after_twice_the_time_at_most_so_late(unreadable: Unreadable) -> None:
    now, waits = 0.0, []
    unreadable.note(WHOLE, [FILE], now, AT_MOST_S)
    for _ in range(6):
        due = unreadable.retry.due()
        assert due is not None
        waits.append(due - now)
        now = due
        unreadable.note(unreadable.retry.take(now), [FILE], now, AT_MOST_S)
    assert waits == [30.0, 60.0, 120.0, 240.0, 300.0, 300.0]
    unreadable.note(flat("a"), [FILE, FileError("a/g.py", "I/O error")], now, AT_MOST_S)
    assert unreadable.retry.due() == now + RETRY_FIRST_S  # news


def test_a_look_elsewhere_is_no_try(unreadable: Unreadable) -> None:
    unreadable.note(WHOLE, [FILE], 0.0, AT_MOST_S)
    for now in range(1, 6):
        unreadable.retry.take_all()  # by a full scan that made way
        unreadable.note(flat("other"), [], float(now), AT_MOST_S)
    assert unreadable.retry.due() == 5.0 + RETRY_FIRST_S
