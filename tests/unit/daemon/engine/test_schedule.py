"""What the engine does next."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from reposyncd.config import Config
from reposyncd.daemon.engine.repo_state import RepoState
from reposyncd.daemon.engine.schedule import (
    GIT_STRETCH,
    OVERDUE_SHARE,
    QUIET_S,
    STARVED_S,
    TICK_S,
    CheckpointDue,
    PeriodicTask,
    Schedule,
    Wait,
    max_delay_of,
)
from reposyncd.daemon.engine.snapshots import Coverage, NextSync, StartedSync
from reposyncd.daemon.engine.work import Flush
from reposyncd.model import WHOLE, RootIdentity, Scope
from reposyncd.store.manifest.catalog import Repo

SETTLE_S = 0.3


def repo(name: str, *, indexed: bool = True, scan_due: float = math.inf, changed: float | None = None) -> RepoState:
    """One that is indexed and current, unless something is said of it; `changed` is when, in seconds."""
    state = RepoState(
        Repo(1, name, f"/{name}", RootIdentity(0, 0)),
        settle_s=SETTLE_S,
        max_wait_s=3.0,
        now=scan_due,
        synced_at=0.0 if indexed else None,
    )
    if indexed:
        done(state, WHOLE, next_full_scan=scan_due)
    if changed is not None:
        state.hint("src", False, changed)
    return state


def done(state: RepoState, scope: Scope, *, next_full_scan: float = math.inf) -> None:
    """A sync of it has found nothing."""
    started = StartedSync(scope, False)
    state.synced(started, None, now=0.0, at=0.0, next_full_scan=next_full_scan, retry_at_most_s=math.inf)
    state.end()


def sync(repos: list[RepoState], chosen: NextSync, now: float) -> None:
    """Does what was chosen."""
    [state] = [each for each in repos if each.repo.name == chosen.repo]
    done(state, state.begin(chosen, now).scope)


class Chore:
    def __init__(self, due: float, max_delay_s: float = 0.0) -> None:
        self.due = due
        self.max_delay_s = max_delay_s

    def run(self) -> None:
        self.due = math.inf

    def postpone(self, until: float) -> None:
        self.due = max(self.due, until)

    def reconfigure(self, config: Config) -> None:
        """It says nothing about it."""


def choose(
    schedule: Schedule,
    now: float,
    repos: list[RepoState],
    periodic_tasks: list[PeriodicTask] | None = None,
    *,
    at_work: frozenset[str] = frozenset(),
    may_index_from: float = -math.inf,
    quiet_since: float | None = None,
) -> NextSync | PeriodicTask | CheckpointDue | Wait:
    return schedule.choose(
        now,
        [each.next_sync(now, GIT_STRETCH if each.repo.root in at_work else 1.0) for each in repos],
        periodic_tasks or [],
        may_index_from=lambda: may_index_from,
        quiet_since=quiet_since,
    )


def test_parts_of_trees_go_first_then_tasks_known_trees_first_indexes_and_the_checkpoint() -> None:
    schedule, now = Schedule(), 100.0
    saved, known = repo("saved", changed=99.0), repo("known", scan_due=98.0)
    new = repo("new", indexed=False, scan_due=97.0)
    task = Chore(99.0, max_delay_s=5.0)
    everything, found = [new, known, saved], []
    while not isinstance(chosen := choose(schedule, now, everything, [task], quiet_since=now - QUIET_S), CheckpointDue):
        found.append(chosen.repo if isinstance(chosen, NextSync) else "task")
        if isinstance(chosen, NextSync):
            sync(everything, chosen, now)
        else:
            task.run()
    assert found == ["saved", "task", "known", "new"]


def test_where_nothing_is_due_it_waits_for_what_is_due_first() -> None:
    schedule = Schedule()
    assert choose(schedule, 100.0, []) == Wait(100.0 + TICK_S)
    assert choose(schedule, 100.0, [repo("a", scan_due=130.0)], [Chore(120.0)]) == Wait(120.0)
    assert choose(schedule, 100.0, [repo("a", changed=99.9)]) == Wait(99.9 + SETTLE_S)
    assert choose(schedule, 100.0, [], quiet_since=95.0) == Wait(95.0 + QUIET_S)


def test_while_git_is_at_work_a_part_settles_for_longer() -> None:
    changed = repo("a", changed=100.0)
    now = 100.0 + 2 * SETTLE_S
    assert isinstance(choose(Schedule(), now, [changed]), NextSync)
    assert choose(Schedule(), now, [changed], at_work=frozenset({"/a"})) == Wait(100.0 + GIT_STRETCH * SETTLE_S)


def test_a_first_index_waits_and_nothing_else_does() -> None:
    new, known = repo("new", indexed=False, scan_due=90.0), repo("known", scan_due=95.0)
    chosen = choose(Schedule(), 100.0, [new, known], may_index_from=130.0)
    assert isinstance(chosen, NextSync) and chosen.repo == "known"
    assert choose(Schedule(), 100.0, [new], may_index_from=130.0) == Wait(130.0)


@given(st.lists(st.floats(0.01, 5.0), min_size=30, max_size=60), st.booleans())
def test_saves_that_never_end_and_a_long_job_that_never_ends_take_turns(steps_s: list[float], indexed: bool) -> None:
    schedule, busy = Schedule(), repo("busy")
    large = repo("large", indexed=indexed, scan_due=0.0)
    now = since = 1.0
    turns = 0
    for step_s in steps_s:
        busy.hint("src", False, now - 10.0)
        chosen = choose(schedule, now, [busy, large])
        assert isinstance(chosen, NextSync)
        if chosen.repo == "large":
            turns += 1
            assert turns == 1, "saves have their turn too"
            since = now
        else:
            sync([busy], chosen, now)
            turns = 0
            assert now <= since + STARVED_S + 2 * 5.0
        now += step_s


STEPS = st.lists(st.floats(0.01, 2.0), min_size=40, max_size=120)


@given(STEPS, st.lists(st.floats(0.1, 20.0), min_size=1, max_size=4), st.integers(1, 3))
def test_a_periodic_task_waits_for_saves_that_never_end_no_longer_than_its_patience(
    steps_s: list[float], max_delays_s: list[float], repos: int
) -> None:
    """And for one turn of each repository and each other task."""
    schedule, now = Schedule(), 100.0
    busy = [repo(f"busy{number}") for number in range(repos)]
    chores = [Chore(now, max_delay_s) for max_delay_s in max_delays_s]
    turns = len(chores) * (repos + 1)
    for number, step_s in enumerate(steps_s):
        for each in busy:
            each.hint("src", False, now - 10.0)
        chosen = choose(schedule, now, busy, [*chores])
        longest_s = sum(sorted(steps_s[:number], reverse=True)[:turns])
        assert all(now <= each.due + each.max_delay_s + longest_s for each in chores)
        if isinstance(chosen, NextSync):
            sync(busy, chosen, now)
        else:
            assert isinstance(chosen, Chore)
            assert now >= chosen.due + chosen.max_delay_s
            chosen.due = now + 1.0
        now += step_s


@given(STEPS, st.integers(1, 4), st.booleans())
def test_no_save_is_passed_over_twice_however_many_tasks_are_overdue(
    steps_s: list[float], repos: int, flushed: bool
) -> None:
    """Not even where somebody waits all the time for another repository."""
    schedule, now = Schedule(), 100.0
    busy = [repo(f"busy{number}") for number in range(repos)]
    periodic_tasks: list[PeriodicTask] = [Chore(0.0), Chore(0.0), Chore(0.0)]
    passed_over = {each.repo.name: 0 for each in busy}
    for step_s in steps_s:
        for each in busy:
            each.hint("src", False, now - 10.0)
        if flushed and not busy[0].flushes:
            busy[0].cover(Coverage("inotify"), now, 60.0)
            busy[0].request_flush(Flush(["busy0"], dict), has_seen_events=True, now=now)
        chosen = choose(schedule, now, busy, periodic_tasks)
        if isinstance(chosen, NextSync):
            sync(busy, chosen, now)
            passed_over[chosen.repo] = 0
        else:
            for each in busy:
                passed_over[each.repo.name] += 1
        assert max(passed_over.values()) <= 1
        now += step_s


def test_a_task_that_never_ends_and_a_long_job_take_turns() -> None:
    schedule, large, task = Schedule(), repo("large", scan_due=0.0), Chore(0.0)
    turns = 0
    for second in range(100, 100 + 10 * int(STARVED_S)):
        chosen = choose(schedule, float(second), [large], [task])
        turns += isinstance(chosen, NextSync)
    assert 5 <= turns <= 10


def test_a_periodic_task_is_patient_for_a_share_of_its_period_and_no_longer_than_a_long_job() -> None:
    assert max_delay_of(60.0) == OVERDUE_SHARE * 60.0
    assert max_delay_of(86_400.0) == STARVED_S
