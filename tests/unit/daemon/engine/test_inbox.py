"""What was asked of the engine: it is done in order, or fails."""

from __future__ import annotations

from typing import Any

import pytest

from reposyncd.daemon.engine.inbox import Command, Inbox
from reposyncd.daemon.engine.work import Flush, Work
from reposyncd.errors import OverloadedError

ERROR = OverloadedError("the engine has died")


def command(name: str) -> Command:
    return Command(lambda: {"name": name}, Work(dict))


def names(inbox: Inbox) -> list[Any]:
    found = []
    while taken := inbox.take():
        found.append(taken.run()["name"])
    return found


def test_commands_are_taken_in_order_and_each_of_them_wakes_the_engine() -> None:
    wakes: list[None] = []
    inbox = Inbox(lambda: wakes.append(None))
    for name in ("a", "b"):
        inbox.put(command(name))
    assert len(inbox) == len(wakes) == 2
    assert names(inbox) == ["a", "b"]


def test_what_is_left_at_the_end_fails_and_what_comes_later_too() -> None:
    inbox = Inbox(lambda: None)
    before, after, promised, kept = command("a"), command("b"), Work(dict), Work(dict)
    inbox.put(before)
    inbox.promise(promised)
    withdraw = inbox.promise(kept)
    withdraw()
    inbox.close(ERROR)
    inbox.put(after)
    for work in (before.work, after.work, promised):
        with pytest.raises(OverloadedError):
            work.result()
    assert not kept.wait(0)
    assert not names(inbox)


def test_work_ends_once_and_tells_those_who_listen() -> None:
    work, told = Work(dict), []
    cancel = work.on_end(lambda: told.append("cancelled"))
    work.on_end(lambda: told.append("listened"))
    cancel()
    work.done({"n": 1})
    work.fail(ERROR)
    work.on_end(lambda: told.append("late"))
    assert work.result() == {"n": 1}
    assert told == ["listened", "late"]


def test_work_that_another_begins_fails_with_it_and_does_not_end_with_it() -> None:
    work, first, second = Work(dict), Work(dict), Work(dict)
    work.fail_with(first)
    first.done({})
    assert not work.wait(0)
    work.fail_with(second)
    second.fail(ERROR)
    with pytest.raises(OverloadedError):
        work.result()


def test_a_flush_is_done_when_every_repository_is_and_names_what_could_not_be_read() -> None:
    flush = Flush(["b", "a"], dict)
    flush.is_current("a", [{"path": "f.py", "error": "I/O error"}])
    assert not flush.wait(0)
    flush.is_current("b")
    assert flush.result() == {"repos": ["a", "b"], "errors": [{"path": "f.py", "error": "I/O error"}]}
    assert Flush([], dict).result() == {"repos": [], "errors": []}
