"""The states of all repositories: who sees what, what is reported, and who is woken."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from reposyncd.daemon.engine.observers import Observers
from reposyncd.daemon.engine.registry import RepoRegistry
from reposyncd.daemon.engine.repo_state import RepoState
from reposyncd.daemon.engine.work import Work
from reposyncd.errors import NotFoundError, OverloadedError, UsageError
from reposyncd.model import WHOLE, Progress, Transition
from tests.support import HANGS_S, until
from tests.unit.daemon.engine.repos import Recorder, begin, current, new, paused, repo_of, succeed


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def registry(recorder: Recorder) -> RepoRegistry:
    """With two repositories, which are current."""
    registry = RepoRegistry(recorder)
    current(registry, "app")
    current(registry, "lib")
    recorder.take()
    return registry


def state_of(registry: RepoRegistry, name: str) -> str:
    found = registry.find(name)
    assert found
    return found.condition.state


# What is reported -------------------------------------------------------------------------------------------


def test_every_transition_is_reported_once_with_the_state_of_before(recorder: Recorder) -> None:
    registry = RepoRegistry(recorder)
    registry.track(new())
    registry.change("app", begin)
    registry.change("app", lambda state: state.advance(Progress("index", trouble="the disk is full"), 0.0))
    registry.change("app", lambda state: state.advance(Progress("index", trouble="the disk is full"), 1.0))
    registry.change("app", lambda state: state.failed("a defect", 0.0))
    registry.change("app", RepoState.end)
    registry.change("app", succeed)
    assert recorder.transitions[2] == Transition("app", "/src/app", "syncing", "degraded", "the disk is full", True)
    assert recorder.take() == [
        (None, "pending", ""),
        ("pending", "syncing", ""),
        ("syncing", "degraded", "the disk is full"),
        ("degraded", "failed", "a defect"),
        ("failed", "current", ""),
    ]


def test_an_event_is_a_transition_and_the_next_one_is_none(registry: RepoRegistry, recorder: Recorder) -> None:
    registry.hint("/src/app", "a", False, 5.0)
    registry.hint("/src/app", "b", False, 5.0)
    registry.hint("/src/nobody", "a", False, 5.0)
    assert recorder.take() == [("current", "pending", "")]


def test_the_observer_is_called_outside_the_lock_and_may_look(recorder: Recorder) -> None:
    seen: list[str] = []

    class Looks(Recorder):
        def transition(self, transition: Transition) -> None:
            assert observed.snapshots(0) is not None, "the lock is free"
            seen.append(state_of(observed, transition.repo))

    observed = RepoRegistry(Observers([recorder, Looks()]))
    observed.track(new())
    observed.change("app", begin)
    assert seen == ["pending", "syncing"]
    assert [state for _, state, _ in recorder.take()] == ["pending", "syncing"]


def test_transitions_of_several_threads_are_reported_in_order(recorder: Recorder) -> None:
    class Slow(Recorder):
        def transition(self, transition: Transition) -> None:
            time.sleep(0.001)
            recorder.transition(transition)

    registry = RepoRegistry(Slow())
    current(registry)

    def change(number: int) -> None:
        registry.change("app", lambda state: state.failed(f"defect {number}", 0.0))

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(change, range(50)))
    until(lambda: len(recorder.transitions) == 3 + 50, "all are reported")
    for before, after in zip(recorder.transitions, recorder.transitions[1:], strict=False):
        assert after.before == before.state
    assert recorder.transitions[-1].reason == state_and_reason(registry)[1]


def state_and_reason(registry: RepoRegistry) -> tuple[str, str]:
    [found] = registry.named("app")
    return found.condition.state, found.condition.reason


def test_that_the_engine_died_is_seen_and_not_reported(registry: RepoRegistry, recorder: Recorder) -> None:
    registry.engine_died("the engine has died: a defect", 0.0)
    assert {each.condition for each in registry.named(None)} == {("failed", "the engine has died: a defect", False)}
    assert not recorder.take()


def test_a_transition_that_raises_is_still_seen_as_far_as_it_came(registry: RepoRegistry, recorder: Recorder) -> None:
    def broken(state: RepoState) -> None:
        state.failed("a defect", 0.0)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        registry.change("app", broken)
    assert recorder.take() == [("current", "failed", "a defect")]


# Which repositories there are -------------------------------------------------------------------------------


def test_repositories_are_found_by_name_and_by_root(registry: RepoRegistry) -> None:
    assert [each.name for each in registry.named(None)] == ["app", "lib"]
    assert [each.name for each in registry.named("lib")] == ["lib"]
    assert [each.name for each in registry.named("/src/app")] == ["app"]
    with pytest.raises(NotFoundError, match='there is no repository "x"; known: app, lib'):
        registry.named("x")
    assert registry.find("x") is None


def test_one_that_was_removed_is_not_the_one_that_is_added_again(registry: RepoRegistry) -> None:
    before = registry.find("app")
    flush = registry.request_flush("app", has_seen_events=True, now=0.0, progress=dict)  # type: ignore[arg-type]
    work = Work(dict)
    registry.change("app", lambda state: state.request_sync(work))
    assert registry.untrack("app") == [work]
    assert flush.result() == {"repos": ["app"], "errors": []}
    registry.hint("/src/app", "a", False, 0.0)
    registry.track(new())
    after = registry.find("app")
    assert before and after and before.number != after.number


# Those who wait ---------------------------------------------------------------------------------------------


def test_a_flush_of_all_leaves_out_what_is_paused_or_missing(registry: RepoRegistry) -> None:
    registry.change("app", lambda state: state.pause(paused(repo_of("app"))))
    flush = registry.request_flush(None, has_seen_events=True, now=0.0, progress=registry.progress)
    assert [each["repo"] for each in flush.progress()["pending"]] == ["app", "lib"]
    flush.is_current("lib")
    assert flush.result()["repos"] == ["lib"]
    with pytest.raises(UsageError, match="reposyncd resume app"):
        registry.request_flush("app", has_seen_events=True, now=0.0, progress=registry.progress)


def test_after_the_end_every_request_fails_and_so_do_those_of_before(registry: RepoRegistry) -> None:
    flush = registry.request_flush("app", has_seen_events=True, now=0.0, progress=registry.progress)
    error = OverloadedError("the engine has died")
    registry.close(error)
    with pytest.raises(OverloadedError):
        flush.result()
    with pytest.raises(OverloadedError):
        registry.request_flush("app", has_seen_events=True, now=0.0, progress=registry.progress)


def test_progress_names_every_part_that_is_pending(registry: RepoRegistry) -> None:
    for number in range(50):
        registry.hint("/src/app", f"d{number:02}", False, 0.0)
    [pending] = registry.progress()["pending"]
    assert pending == {"repo": "app", "paths": [f"d{number:02}" for number in range(50)], "why": "pending"}


# The engine -------------------------------------------------------------------------------------------------


def test_a_part_of_another_tree_goes_before_and_one_of_the_same_only_if_it_can(registry: RepoRegistry) -> None:
    assert not registry.is_part_due(10.0, "app")
    registry.hint("/src/app", "a", False, 0.0)
    assert registry.is_part_due(10.0, "app") and registry.is_part_due(10.0, "lib")
    registry.change("app", lambda state: state.require_full_scan(0.0))
    assert not registry.is_part_due(10.0, "app") and not registry.is_part_due(10.0, "lib")


def test_where_git_is_at_work_a_part_settles_for_longer(registry: RepoRegistry) -> None:
    registry.hint("/src/app", "a", False, 0.0)
    found = {each.repo: each.when for each in registry.next_syncs(0.0)}
    later = {each.repo: each.when for each in registry.next_syncs(0.0, frozenset({"/src/app"}))}
    assert later["app"] >= found["app"] and later["lib"] == found["lib"]


def test_a_wait_ends_when_it_is_woken_even_before_it_begins(registry: RepoRegistry) -> None:
    wakes = registry.wakes
    registry.hint("/src/app", "a", False, 0.0)
    began = time.monotonic()
    registry.wait(wakes, HANGS_S)
    assert time.monotonic() < began + HANGS_S / 2
    registry.wait(registry.wakes, 0.01)  # nothing has happened since


def test_nobody_waits_for_a_lock_that_hangs(registry: RepoRegistry) -> None:
    before = registry.progress()
    with ThreadPoolExecutor() as threads:
        may_end, holds = threading.Event(), threading.Event()

        def hang(state: RepoState) -> None:
            holds.set()
            assert may_end.wait(HANGS_S)

        hanging = threads.submit(registry.change, "app", hang)
        assert holds.wait(HANGS_S)
        try:
            assert registry.snapshots(0.01) is None
            assert registry.progress(0.01) == before
            registry.wake(0.01)
        finally:
            may_end.set()
        hanging.result(HANGS_S)


def test_a_snapshot_is_of_one_moment(registry: RepoRegistry) -> None:
    before = registry.named("app")[0]
    registry.hint("/src/app", "a", False, 0.0)
    assert (before.pending, registry.named("app")[0].pending) == (0, 1)
    assert registry.named("app")[0].running is None
    registry.change("app", begin)
    assert registry.named("app")[0].running == WHOLE
