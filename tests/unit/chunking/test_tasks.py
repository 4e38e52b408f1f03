"""Which file is cut next, and which results are kept: without any process."""

from __future__ import annotations

import pytest

from reposyncd.chunking import tasks
from reposyncd.chunking.tasks import ChunkingTask, TaskQueue
from reposyncd.errors import ChunkerLostError, UncutError
from reposyncd.model import Cut

CUT = Cut()
LATER = 1e9
"""A time at which every task may be tried again."""


def added(queue: TaskQueue, name: str, size: int = 1) -> ChunkingTask:
    return queue.add((name, name, False), b"x" * size)


def slow(queue: TaskQueue, name: str) -> ChunkingTask:
    """A task that waits in the slow lane."""
    task = added(queue, name)
    assert queue.take([], LATER) is task
    queue.demote(task, [])
    queue.put(task)
    return task


def test_the_fast_lane_cuts_one_file_after_another_in_their_order() -> None:
    queue = TaskQueue(2)
    first, second = added(queue, "a"), added(queue, "b")
    assert queue.take([], 0) is first
    assert queue.take([first], 0) is None
    assert queue.take([], 0) is second
    assert not queue.has_waiting


def test_a_file_that_takes_long_makes_way_and_keeps_its_process() -> None:
    queue = TaskQueue(2)
    first, second = added(queue, "a"), added(queue, "b")
    queue.take([], 0)
    assert not queue.demote(first, [first])
    assert queue.take([first], 0) is second


def test_a_further_slow_file_is_stopped_if_others_wait_behind_it() -> None:
    queue = TaskQueue(1)
    running = slow(queue, "slow")
    assert queue.take([], LATER) is running
    second, third = added(queue, "b"), added(queue, "c")
    assert queue.take([running], 0) is second
    assert queue.demote(second, [running, second])
    queue.put(second)
    assert queue.take([running], 0) is third
    assert queue.take([running, third], 0) is None
    assert queue.take([third], 0) is second


def test_a_further_slow_file_goes_on_if_nobody_waits_behind_it() -> None:
    queue = TaskQueue(1)
    running = slow(queue, "slow")
    assert queue.take([], LATER) is running
    second = added(queue, "b")
    assert queue.take([running], 0) is second
    assert not queue.demote(second, [running, second])
    assert not second.is_slow


def test_one_more_process_is_useful_while_all_that_run_are_slow() -> None:
    queue = TaskQueue(1)
    assert not queue.needs_another_process([], 0)
    task = added(queue, "a")
    assert queue.needs_another_process([], 0)
    queue.take([], 0)
    assert not queue.needs_another_process([task], 0)
    queue.demote(task, [task])
    assert queue.needs_another_process([task], 0)


def test_a_file_that_has_to_be_cut_again_waits_before_its_next_attempt() -> None:
    queue = TaskQueue(1)
    task = added(queue, "a")
    queue.take([], 0)
    queue.conclude(task, task.trial.lost_its_process("died"), 100)
    assert queue.take([], 100) is None
    assert queue.take([], 100 + task.trial.wait_s) is task
    assert not task.future.done()


def test_a_content_that_was_slow_is_slow_from_the_beginning_the_next_time() -> None:
    queue = TaskQueue(1)
    task = slow(queue, "a")
    queue.conclude(task, CUT, 0)
    assert added(queue, "a").is_slow
    assert not added(queue, "b").is_slow


def test_only_so_many_slow_contents_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "MAX_KNOWN_SLOW", 2)
    queue = TaskQueue(1)
    for name in "abc":
        queue.conclude(slow(queue, name), CUT, 0)
    assert [added(queue, name).is_slow for name in "abc"] == [False, True, True]


def test_a_result_that_somebody_waits_for_is_not_kept() -> None:
    queue = TaskQueue(1)
    task = added(queue, "a")
    queue.conclude(task, CUT, 0)
    assert task.future.result() is CUT
    assert queue.find(task.key) is None


def test_a_result_that_nobody_waits_for_is_kept_until_it_is_asked_for_once() -> None:
    queue = TaskQueue(1)
    task = added(queue, "a")
    task.trial.lost_its_process("died")
    queue.release()
    queue.conclude(task, CUT, 0)
    assert queue.find(task.key) is task
    assert queue.find(task.key) is None


def test_the_oldest_results_make_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "MAX_RESULT_BYTES", 25)
    queue = TaskQueue(1)
    all_tasks = [added(queue, name, 10) for name in "abc"]
    for task in all_tasks:
        task.is_wanted = False
        queue.conclude(task, CUT, 0)
    assert [queue.find(task.key) is task for task in all_tasks] == [False, True, True]


def test_what_was_not_tried_is_forgotten_when_nobody_waits_for_it() -> None:
    queue = TaskQueue(1)
    untried, tried = added(queue, "a"), added(queue, "b")
    tried.trial.lost_its_process("died")
    queue.release()
    assert queue.find(untried.key) is None
    assert queue.take([], 0) is tried


def test_a_failed_task_has_its_error_and_is_not_put_back() -> None:
    queue = TaskQueue(1)
    waiting, running = added(queue, "a"), added(queue, "b")
    error = ChunkerLostError("closed")
    queue.fail_all(error)
    assert waiting.future.exception() is running.future.exception() is error
    queue.put(running, first=True)
    queue.conclude(running, CUT, 0)
    assert not queue.has_waiting
    assert running.future.exception() is error


def test_an_error_concludes_a_task() -> None:
    queue = TaskQueue(1)
    task = added(queue, "a")
    error = UncutError("four times")
    queue.conclude(task, error, 0)
    assert task.future.exception() is error
