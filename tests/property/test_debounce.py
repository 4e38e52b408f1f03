"""What is dirty is taken when it has settled, never forgotten, and never more than there is room for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reposyncd.model import WHOLE, Scope
from reposyncd.paths import is_within
from reposyncd.sync.debounce import Debounce

SETTLE_S, MAX_WAIT_S = 0.3, 3.0

PATHS = st.lists(st.sampled_from("abcdefgh"), max_size=4).map("/".join)
EVENTS = st.lists(st.tuples(PATHS, st.booleans(), st.floats(0, 2)), max_size=60)
"""path, recursive, seconds after the event before"""


def covers(scope: Scope, path: str, recursive: bool) -> bool:
    return is_within(path, scope.trees) or (not recursive and path in scope.flat)


@given(events=EVENTS, at_most=st.integers(1, 20))
def test_nothing_that_was_added_is_forgotten_and_no_more_is_kept_than_there_is_room_for(
    events: list[tuple[str, bool, float]], at_most: int
) -> None:
    debounce = Debounce(SETTLE_S, MAX_WAIT_S, at_most)
    for path, recursive, _ in events:
        debounce.add(path, recursive, 0)
        assert len(debounce) <= at_most
    scope = debounce.take_all()
    assert all(covers(scope, path, recursive) for path, recursive, _ in events)
    assert len(debounce) == 0
    assert debounce.due() is None
    assert scope == scope.without_overlaps()


@given(events=EVENTS, at_most=st.integers(1, 20), stretch=st.sampled_from([1.0, 4.0]))
def test_a_change_is_taken_when_it_is_due_and_not_later_than_the_longest_wait(
    events: list[tuple[str, bool, float]], at_most: int, stretch: float
) -> None:
    debounce = Debounce(SETTLE_S, MAX_WAIT_S, at_most)
    waiting: list[tuple[str, bool, float]] = []
    now = 0.0
    for path, recursive, pause in [*events, ("", False, 10.0)]:
        until = now + pause
        while (due := debounce.due(stretch)) is not None and due <= until:
            now = max(now, due)
            scope = debounce.take(now, stretch)
            assert scope
            waiting = [each for each in waiting if not covers(scope, *each[:2])]
            assert all(now < first + MAX_WAIT_S for _, _, first in waiting)
        now = until
        debounce.add(path, recursive, now)
        waiting.append((path, recursive, now))
    assert debounce.due(stretch) == now + min(SETTLE_S * stretch, MAX_WAIT_S)


@given(gaps=st.lists(st.floats(0, 0.25), max_size=40))
def test_a_change_that_goes_on_is_not_taken_before_the_longest_wait(gaps: list[float]) -> None:
    debounce = Debounce(SETTLE_S, MAX_WAIT_S)
    now = last = 0.0
    for gap in [0.0, *gaps]:
        now += gap
        if now < MAX_WAIT_S:
            assert not debounce.take(now)
            debounce.add("a", False, now)
            last = now
    assert debounce.due() == min(last + SETTLE_S, MAX_WAIT_S)


def test_events_in_a_tree_that_is_dirty_are_part_of_it() -> None:
    debounce = Debounce(SETTLE_S, MAX_WAIT_S)
    debounce.add("a", True, 0.0)
    debounce.add("a/b/c", False, 0.2)
    assert len(debounce) == 1
    assert not debounce.take(0.4)
    assert debounce.take(0.5) == Scope(trees=frozenset({"a"}))


def test_a_storm_in_one_directory_becomes_that_directory_and_one_everywhere_the_whole_tree() -> None:
    debounce = Debounce(SETTLE_S, MAX_WAIT_S, at_most=100)
    for number in range(150):
        debounce.add(f"src/deep/d{number}", False, 0.0)
    debounce.add("docs", False, 0.0)
    assert debounce.take_all() == Scope(frozenset({"docs"}), frozenset({"src/deep"}))
    for number in range(5000):
        debounce.add(f"d{number}/x", False, 0.0)
    assert debounce.take_all() == WHOLE


def test_what_could_not_be_done_is_dirty_again() -> None:
    debounce = Debounce(SETTLE_S, MAX_WAIT_S)
    debounce.add("a", False, 0.0)
    debounce.add("b", True, 0.0)
    debounce.add_all(debounce.take(1.0), 1.0)
    assert debounce.since == 1.0
    assert debounce.take(1.0 + SETTLE_S) == Scope(frozenset({"a"}), frozenset({"b"}))
