"""The lock of a state directory, and who holds a lock."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reposyncd.errors import BusyError
from reposyncd.store.locks import holder, state_lock
from tests.unit.store.other_program import HOLDS_FLOCK, other_program


def test_the_holder_of_a_lock_is_named_and_a_free_one_has_none(tmp_path: Path) -> None:
    lock = tmp_path / ".chroma.lock"
    assert holder(str(lock)) is None
    lock.touch()
    assert holder(str(lock)) is None
    with other_program(HOLDS_FLOCK, lock) as pid:
        assert holder(str(lock)) == pid
    assert holder(str(lock)) is None


def test_the_state_lock_names_its_holder(tmp_path: Path) -> None:
    with (
        state_lock(str(tmp_path), 0),
        pytest.raises(BusyError, match=rf"another reposyncd \(process {os.getpid()}\)"),
        state_lock(str(tmp_path), 0.1),
    ):
        pass
    with state_lock(str(tmp_path), 0):
        assert holder(str(tmp_path / "reposyncd.lock")) == os.getpid()
