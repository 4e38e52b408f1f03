"""Tickets that were given out."""

from __future__ import annotations

import pytest

from reposyncd.daemon.http.tickets import RESULT_LIFETIME_S, TicketStore
from reposyncd.errors import (
    NoTicketError,
    OverloadedError,
)
from tests.served import Shelf
from tests.unit.daemon.http.asking import LONG_S


def test_tickets_that_are_done_are_forgotten_after_a_while_and_others_never(shelf: Shelf) -> None:
    clock = [0.0]
    ledger = TicketStore(lambda: clock[0], limit=2)
    shelf.roots = {"a": "/a"}
    done, work = ledger.add(lambda: shelf.flush(None))
    assert work.wait(LONG_S)
    shelf.gate.clear()
    waiting, _ = ledger.add(lambda: shelf.flush(None))
    clock[0] = RESULT_LIFETIME_S - 1
    assert ledger.find(done) is work
    clock[0] = 2 * RESULT_LIFETIME_S
    ledger.find(waiting)
    with pytest.raises(NoTicketError):
        ledger.find(done)


def test_when_there_is_no_room_for_a_ticket_one_that_is_done_makes_it_and_else_nothing_is_begun(shelf: Shelf) -> None:
    ledger = TicketStore(lambda: 0.0, limit=2)
    shelf.roots = {"a": "/a"}
    done, work = ledger.add(lambda: shelf.flush(None))
    assert work.wait(LONG_S)
    assert shelf.asked.acquire(timeout=LONG_S)
    shelf.gate.clear()
    kept = [ledger.add(lambda: shelf.flush(None))[0] for _ in range(2)]
    with pytest.raises(NoTicketError):
        ledger.find(done)
    for number in kept:
        ledger.find(number)
        assert shelf.asked.acquire(timeout=LONG_S)
    with pytest.raises(OverloadedError):
        ledger.add(lambda: shelf.flush(None))
    assert not shelf.asked.acquire(blocking=False)
