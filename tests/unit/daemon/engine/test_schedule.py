"""What the engine does next."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from reposyncd.daemon.engine.repo_state import RepoState
from reposyncd.daemon.engine.schedule import (
    GIT_STRETCH,
    OVERDUE_SHARE,
    QUIET_S,
    STARVED_S,
    TICK_S,
    CheckpointJob,
    PeriodicTask,
    Schedule,
    SyncJob,
    Wait,
    patience_of,
)
from reposyncd.daemon.engine.work import Flush
from reposyncd.model import RootIdentity
from reposyncd.store.manifest.catalog import Repo
from reposyncd.sync.debounce import Debounce

SETTLE_S = 0.3


def repo(name: str, *, indexed: bool = True, whole_due: float = math.inf, changed: float | None = None) -> RepoState:
    """One that is indexed and current, unless something is said of it; `changed` is when, in seconds."""
    kept = RepoState(Repo(1, name, f"/{name}", RootIdentity(0, 0)), debounce(), debounce(), whole_due=whole_due)
    kept.ready = kept.indexed = indexed
    if changed is not None:
        kept.debounce.add("src", False, changed)
    return kept


def debounce() -> Debounce:
    return Debounce(SETTLE_S, 3.0)


class Chore:
    def __init__(self, due: float, patience_s: float = 0.0) -> None:
        self.due = due
        self.patience_s = patience_s

    def run(self) -> None:
        self.due = math.inf

    def reconfigured(self) -> None:
        """Nothing of it depends on that."""


def choose(
    schedule: Schedule,
    now: float,
    kept: list[RepoState],
    periodic_tasks: list[PeriodicTask] | None = None,
    *,
    at_work: frozenset[str] = frozenset(),
    may_go_on: float = -math.inf,
    quiet_since: float | None = None,
) -> SyncJob | PeriodicTask | CheckpointJob | Wait:
    return schedule.choose(
        now, kept, periodic_tasks or [], at_work=at_work, may_go_on=lambda: may_go_on, quiet_since=quiet_since
    )


def test_parts_of_trees_go_first_then_errands_known_trees_first_indexes_and_the_checkpoint() -> None:
    schedule, now = Schedule(), 100.0
    saved, known = repo("saved", changed=99.0), repo("known", whole_due=98.0)
    new = repo("new", indexed=False, whole_due=97.0)
    task = Chore(99.0, patience_s=5.0)
    everything, found = [new, known, saved], []
    while not isinstance(chosen := choose(schedule, now, everything, [task], quiet_since=now - QUIET_S), CheckpointJob):
        found.append(chosen.kept.repo.name if isinstance(chosen, SyncJob) else "task")
        if isinstance(chosen, SyncJob):
            chosen.kept.take(chosen.scope, now, chosen.stretch)
            chosen.kept.whole_due = math.inf
        else:
            task.run()
    assert found == ["saved", "task", "known", "new"]


def test_where_nothing_is_due_it_waits_for_what_is_due_first() -> None:
    schedule = Schedule()
    assert choose(schedule, 100.0, []) == Wait(100.0 + TICK_S)
    assert choose(schedule, 100.0, [repo("a", whole_due=130.0)], [Chore(120.0)]) == Wait(120.0)
    assert choose(schedule, 100.0, [repo("a", changed=99.9)]) == Wait(99.9 + SETTLE_S)
    assert choose(schedule, 100.0, [], quiet_since=95.0) == Wait(95.0 + QUIET_S)


def test_while_git_is_at_work_a_part_settles_for_longer() -> None:
    kept = repo("a", changed=100.0)
    now = 100.0 + 2 * SETTLE_S
    assert isinstance(choose(Schedule(), now, [kept]), SyncJob)
    assert choose(Schedule(), now, [kept], at_work=frozenset({"/a"})) == Wait(100.0 + GIT_STRETCH * SETTLE_S)


def test_a_first_index_waits_and_nothing_else_does() -> None:
    new, known = repo("new", indexed=False, whole_due=90.0), repo("known", whole_due=95.0)
    chosen = choose(Schedule(), 100.0, [new, known], may_go_on=130.0)
    assert isinstance(chosen, SyncJob) and chosen.kept is known
    assert choose(Schedule(), 100.0, [new], may_go_on=130.0) == Wait(130.0)


@given(st.lists(st.floats(0.01, 5.0), min_size=30, max_size=60), st.booleans())
def test_saves_that_never_end_and_a_long_job_that_never_ends_take_turns(steps_s: list[float], indexed: bool) -> None:
    schedule, busy = Schedule(), repo("busy")
    large = repo("large", indexed=indexed, whole_due=0.0)
    now = since = 1.0
    turns = 0
    for step_s in steps_s:
        busy.debounce.add("src", False, now - 10.0)
        chosen = choose(schedule, now, [busy, large])
        assert isinstance(chosen, SyncJob)
        if chosen.kept is large:
            turns += 1
            assert turns == 1, "saves have their turn too"
            since = now
        else:
            chosen.kept.take(chosen.scope, now, chosen.stretch)
            turns = 0
            assert now <= since + STARVED_S + 2 * 5.0
        now += step_s


STEPS = st.lists(st.floats(0.01, 2.0), min_size=40, max_size=120)


@given(STEPS, st.lists(st.floats(0.1, 20.0), min_size=1, max_size=4), st.integers(1, 3))
def test_an_errand_waits_for_saves_that_never_end_no_longer_than_its_patience(
    steps_s: list[float], patiences_s: list[float], repos: int
) -> None:
    """And for one turn of each repository and each other task."""
    schedule, now = Schedule(), 100.0
    busy = [repo(f"busy{number}") for number in range(repos)]
    chores = [Chore(now, patience_s) for patience_s in patiences_s]
    turns = len(chores) * (repos + 1)
    for number, step_s in enumerate(steps_s):
        for each in busy:
            each.debounce.add("src", False, now - 10.0)
        chosen = choose(schedule, now, busy, [*chores])
        longest_s = sum(sorted(steps_s[:number], reverse=True)[:turns])
        assert all(now <= each.due + each.patience_s + longest_s for each in chores)
        if isinstance(chosen, SyncJob):
            chosen.kept.take(chosen.scope, now, chosen.stretch)
        else:
            assert isinstance(chosen, Chore)
            assert now >= chosen.due + chosen.patience_s
            chosen.due = now + 1.0
        now += step_s


@given(STEPS, st.integers(1, 4), st.booleans())
def test_no_save_is_passed_over_twice_however_many_errands_are_overdue(
    steps_s: list[float], repos: int, flushed: bool
) -> None:
    """Not even where somebody waits all the time for another repository."""
    schedule, now = Schedule(), 100.0
    busy = [repo(f"busy{number}") for number in range(repos)]
    periodic_tasks: list[PeriodicTask] = [Chore(0.0), Chore(0.0), Chore(0.0)]
    passed_over = dict.fromkeys(busy, 0)
    for step_s in steps_s:
        for each in busy:
            each.debounce.add("src", False, now - 10.0)
        if flushed and not busy[0].flushes:
            busy[0].coverage = busy[0].coverage._replace(mode="inotify")
            busy[0].flushes.append(Flush(["busy0"], dict))
        chosen = choose(schedule, now, busy, periodic_tasks)
        if isinstance(chosen, SyncJob):
            chosen.kept.take(chosen.scope, now, chosen.stretch)
            chosen.kept.flushes.clear()
            passed_over[chosen.kept] = 0
        else:
            for each in busy:
                passed_over[each] += 1
        assert max(passed_over.values()) <= 1
        now += step_s


def test_an_errand_that_never_ends_and_a_long_job_take_turns() -> None:
    schedule, large, task = Schedule(), repo("large", whole_due=0.0), Chore(0.0)
    turns = 0
    for second in range(100, 100 + 10 * int(STARVED_S)):
        chosen = choose(schedule, float(second), [large], [task])
        turns += isinstance(chosen, SyncJob)
    assert 5 <= turns <= 10


def test_a_periodic_task_is_patient_for_a_share_of_its_period_and_no_longer_than_a_long_job() -> None:
    assert patience_of(60.0) == OVERDUE_SHARE * 60.0
    assert patience_of(86_400.0) == STARVED_S
