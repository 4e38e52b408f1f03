from __future__ import annotations

from dataclasses import replace

from reposyncd.chunking.verdict import DEATHS, LOSSES, MOST_S, PLAIN_FACTOR, Trial, limit_s
from reposyncd.errors import UncutError
from reposyncd.model import Chunk, Cut, Skip

CUT = Cut((Chunk("x\n", 1, 1, "", "c"),))


def test_the_limit_grows_with_the_size_between_a_floor_and_a_ceiling() -> None:
    limits = [limit_s(size) for size in (0, 1000, 800_000, 1_000_000, 50_000_000, 500_000_000)]
    assert limits == sorted(limits)
    assert limits[0] == limits[1] > 0
    assert limits[2] < limits[3]
    assert limits[4] == limits[5] == MOST_S


def test_a_file_that_is_cut_without_trouble_has_no_verdict() -> None:
    assert Trial(10).cut(CUT) == CUT


def test_a_file_that_takes_too_long_is_cut_as_plain_lines_at_once_and_has_longer_for_that() -> None:
    trial = Trial(10)
    before = trial.limit_s
    assert trial.took_too_long() is None
    assert trial.as_plain_lines
    assert trial.limit_s == before * PLAIN_FACTOR
    assert trial.cut(CUT) == replace(CUT, verdict="it takes more than 1.0 s of CPU time")


def test_a_file_of_which_an_error_is_raised_is_cut_as_plain_lines_at_once() -> None:
    trial = Trial(10)
    assert trial.raised("IndexError") is None
    assert trial.cut(CUT).verdict == "it raises IndexError"


def test_one_death_is_an_accident_and_the_second_is_not() -> None:
    trial = Trial(10)
    for _ in range(DEATHS - 1):
        assert trial.killed_its_process("died of SIGSEGV") is None
        assert not trial.as_plain_lines
    assert trial.killed_its_process("died of SIGSEGV") is None
    assert trial.as_plain_lines
    assert "SIGSEGV, 2 times" in (trial.cut(CUT).verdict or "")


def test_a_file_that_is_at_fault_as_plain_lines_too_is_left_out_and_both_reasons_are_told() -> None:
    trial = Trial(10)
    assert trial.raised("KeyError") is None
    found = trial.took_too_long()
    assert found is not None
    assert (found.chunks, found.skip) == ((), Skip.QUARANTINED)
    assert found.verdict == "it raises KeyError; as plain lines too, it takes more than 3.0 s of CPU time"


def test_deaths_while_it_is_cut_as_plain_lines_are_counted_anew() -> None:
    trial = Trial(10)
    for _ in range(DEATHS):
        trial.killed_its_process("died of SIGABRT")
    assert trial.killed_its_process("died of SIGABRT") is None
    found = trial.killed_its_process("died of SIGABRT")
    assert found is not None
    assert found.skip is Skip.QUARANTINED


def test_a_process_that_somebody_else_has_killed_says_nothing_of_the_file_and_is_waited_for_ever_longer() -> None:
    trial = Trial(10)
    waits = []
    for _ in range(LOSSES - 1):
        assert trial.lost_its_process("died of SIGKILL") is None
        waits.append(trial.wait_s)
    assert waits == sorted(set(waits))
    assert not trial.as_plain_lines
    assert isinstance(trial.lost_its_process("died of SIGKILL"), UncutError)
