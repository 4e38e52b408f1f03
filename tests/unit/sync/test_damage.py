"""What is evidence against a store, and what is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from reposyncd.errors import (
    ChunkerLostError,
    CorruptStoreError,
    EmbedderLostError,
    InterruptedSyncError,
    LethalOperationError,
    LethalTextError,
    NoSpaceError,
    StoreBusyError,
    StoreError,
    SuspectStoreError,
    TransientStoreError,
    UnreadableStoreError,
)
from reposyncd.sync.damage import BACK_OFF_S, GAP_S, INSPECTIONS, UNREADABLE_S, UNUSABLE_S, DamageCheck

MET = CorruptStoreError("Chroma contradicts itself")


class Store:
    """A store that is looked at: each look finds the next of these, and the last from then on."""

    def __init__(self, state: Path, *found: StoreError | None) -> None:
        self._state = state
        self._found = list(found)
        self.now_s = 0.0
        self.looks = 0
        self.wait: Callable[[], None] = lambda: None

    def check(self, of: str = "lab") -> DamageCheck:
        """A process's own."""
        return DamageCheck(
            str(self._state),
            self._look,
            of=lambda: of,
            now_ns=lambda: int(self.now_s * 1e9),
            wait=lambda: self.wait(),
            sleep=lambda seconds: None,
        )

    def _look(self) -> None:
        self.looks += 1
        found = self._found.pop(0) if len(self._found) > 1 else self._found[0]
        if found is not None:
            raise found


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reposyncd.sync.damage.BACK_OFF_S", (0.0, 0.0))


def test_a_store_that_is_sound_to_a_fresh_look_stays(tmp_path: Path) -> None:
    store = Store(tmp_path, None)
    assert store.check().evidence(MET) is None
    assert store.looks == 1


@pytest.mark.parametrize("found", [CorruptStoreError("malformed"), LethalOperationError("died of SIGSEGV")])
def test_damage_that_every_look_finds_is_evidence(tmp_path: Path, found: StoreError) -> None:
    store = Store(tmp_path, found)
    evidence = store.check().evidence(MET)
    assert isinstance(evidence, CorruptStoreError)
    assert str(found) in str(evidence)
    assert store.looks == len(BACK_OFF_S)


def test_damage_that_only_one_of_two_looks_finds_is_none(tmp_path: Path) -> None:
    assert Store(tmp_path, CorruptStoreError("malformed"), None).check().evidence(MET) is None


@pytest.mark.parametrize("kind", [TransientStoreError, NoSpaceError, StoreBusyError])
def test_a_look_that_could_not_be_had_says_nothing_however_often(
    tmp_path: Path, kind: type[TransientStoreError]
) -> None:
    store = Store(tmp_path, kind("not now"))
    for _ in range(3 * INSPECTIONS):
        store.now_s += UNUSABLE_S
        with pytest.raises(kind, match="not now"):
            store.check().evidence(MET)


def test_a_file_that_cannot_be_read_for_minutes_is_lost_whoever_looks(tmp_path: Path) -> None:
    store = Store(tmp_path, UnreadableStoreError("data_level0.bin cannot be read"))
    for _ in range(INSPECTIONS - 1):
        with pytest.raises(UnreadableStoreError):
            store.check().evidence(MET)
        store.now_s += UNREADABLE_S
    evidence = store.check().evidence(MET)
    assert "cannot be read, for 8 minutes, in 5 inspections" in str(evidence)


def test_many_looks_in_a_short_time_are_no_evidence(tmp_path: Path) -> None:
    store = Store(tmp_path, UnreadableStoreError("data_level0.bin cannot be read"))
    for _ in range(3 * INSPECTIONS):
        with pytest.raises(UnreadableStoreError):
            store.check().evidence(MET)


def test_progress_in_between_clears_it(tmp_path: Path) -> None:
    store = Store(tmp_path, UnreadableStoreError("data_level0.bin cannot be read"))
    for _ in range(3 * INSPECTIONS):
        check = store.check()
        with pytest.raises(UnreadableStoreError):
            check.evidence(MET)
        store.now_s += UNREADABLE_S
        check.progress()


def test_a_night_between_two_looks_is_no_evidence(tmp_path: Path) -> None:
    store = Store(tmp_path, None)
    for _ in range(INSPECTIONS - 1):
        assert store.check().evidence(MET) is None
    store.now_s += 8 * 3600
    assert store.check().evidence(MET) is None


def test_a_clock_that_is_set_back_keeps_no_store_from_being_given_up(tmp_path: Path) -> None:
    store = Store(tmp_path, UnreadableStoreError("data_level0.bin cannot be read"))
    store.now_s = 1e9
    for step in (UNREADABLE_S, UNREADABLE_S, -1e8, UNREADABLE_S):
        with pytest.raises(UnreadableStoreError):
            store.check().evidence(MET)
        store.now_s += step
    assert "for 6 minutes, in 5 inspections" in str(store.check().evidence(MET))


def test_what_goes_well_in_one_repository_clears_nothing_of_another(tmp_path: Path) -> None:
    store = Store(tmp_path, UnreadableStoreError("data_level0.bin cannot be read"))
    for _ in range(INSPECTIONS - 1):
        with pytest.raises(UnreadableStoreError):
            store.check().evidence(MET)
        store.now_s += UNREADABLE_S
        store.check("other").progress()
    assert store.check().evidence(MET)
    store.check().progress()
    assert not list(tmp_path.iterdir())


def test_what_may_pass_has_minutes_to_do_so(tmp_path: Path) -> None:
    store = Store(tmp_path, SuspectStoreError("Failed to apply logs"))
    for _ in range(INSPECTIONS - 1):
        with pytest.raises(TransientStoreError, match="Failed to apply logs; this may pass"):
            store.check().evidence(MET)
        store.now_s += GAP_S
    assert "Failed to apply logs, for 10 minutes, in 5 inspections" in str(store.check().evidence(MET))


def test_a_store_that_fails_in_use_for_minutes_is_given_up_though_nothing_is_seen_in_it(tmp_path: Path) -> None:
    store = Store(tmp_path, None)
    for _ in range(INSPECTIONS - 1):
        assert store.check().evidence(MET) is None
        store.now_s += GAP_S
    assert store.check().evidence(TransientStoreError("killed")) is None
    assert "although the inspections found nothing" in str(store.check().evidence(MET))


def test_who_is_asked_to_stop_looks_no_further(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reposyncd.sync.damage.BACK_OFF_S", (1.0,))
    store = Store(tmp_path, MET)

    def stop() -> None:
        raise InterruptedSyncError("stopped")

    store.wait = stop
    with pytest.raises(InterruptedSyncError):
        store.check().evidence(MET)
    assert store.looks == 0


def test_the_store_is_looked_at_for_what_may_be_damage_and_for_trouble_that_does_not_pass(tmp_path: Path) -> None:
    check = Store(tmp_path, None).check()
    assert check.is_due(MET)
    assert check.is_due(LethalOperationError("died of SIGSEGV"))
    check.progress()
    passing = TransientStoreError("disk I/O error")
    assert [check.is_due(passing) for _ in range(3)] == [False, False, True]
    for elsewhere in (StoreBusyError, NoSpaceError, EmbedderLostError, ChunkerLostError, LethalTextError):
        assert not any(check.is_due(elsewhere("not the store's")) for _ in range(5))
