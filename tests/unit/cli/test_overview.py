from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from reposyncd.app.health import conditions
from reposyncd.app.messages import Status
from reposyncd.cli.overview import fitted, overview, steady, troubles
from reposyncd.daemon.engine.snapshots import PACED_S, Pace, estimate
from reposyncd.model import Progress
from tests.statuses import NOW, repo, status


def shown(found: Status) -> list[str]:
    return [line.text for line in overview(found, NOW)]


def test_each_repository_is_one_line_whose_columns_are_aligned() -> None:
    progress = {"phase": "index", "done": 340, "total": 2100, "chunks": 900, "rate_chunks_s": 812.3, "left_s": 42.0}
    found = shown(
        status(repo("app"), repo("a-long-name", state="syncing", chunks=900, synced_at=None, progress=progress))
    )
    assert found == [
        "service: idle, pid 7, up 2 min",
        "NAME         STATE    FILES  CHUNKS  SYNCED     WATCHED     ROOT, AND WHAT IS GOING ON",
        "app          current  1,200  21,500  3 min ago  1,204 dirs  /srv/app",
        "a-long-name  syncing  1,200     900  never      1,204 dirs  /srv/a-long-name; 340 of 2,100 files, "
        "900 chunks stored; 812 chunks/s; 42 s left",
    ]


def test_the_state_is_what_is_coloured() -> None:
    lines = overview(status(repo("app"), repo("b", state="failed", reason="no room")), NOW)
    assert [(line.text[line.start : line.end], line.colour) for line in lines if line.colour] == [
        ("current", "green"),
        ("failed", "red"),
    ]


def test_what_is_wrong_stands_below_with_its_remedy() -> None:
    poll = {"mode": "poll", "directories": 3, "unwatched": 9, "reason": "raise it with: sudo sysctl x=1"}
    found = status(
        repo("a", state="failed", reason="no \x1broom"),
        repo("b", watch=poll, verdicts=[{"path": "c/d.py", "is_indexed": False, "reason": "it raises KeyError"}]),
        problems=["the engine has died"],
    )
    assert troubles(conditions(found, NOW), NOW) == [
        "service: the engine has died",
        r"a: no \x1broom",
        "b: raise it with: sudo sysctl x=1; a scan every watch.poll seconds finds the changes that cause no event",
        "b: quarantined until it changes: c/d.py: it raises KeyError",
    ]
    assert shown(found)[-1] == "  b: quarantined until it changes: c/d.py: it raises KeyError"
    assert troubles(conditions(status(repo("a")), NOW), NOW) == []


def test_of_many_files_some_are_named_and_the_rest_is_counted() -> None:
    errors = [{"path": f"{number}.py", "error": "Permission denied"} for number in range(12)]
    found = troubles(conditions(status(repo("a", errors=errors), repo("b", errors=errors[:5])), NOW), NOW)
    assert [line for line in found if line.startswith("a: ")] == [
        *(f"a: not indexed: {number}.py: Permission denied" for number in range(5)),
        "a: not indexed: 7 more; see: reposyncd status --json",
    ]
    assert len([line for line in found if line.startswith("b: ")]) == 5


def test_it_is_told_since_when_something_is_so() -> None:
    waiting = {"reason": "the disk is full", "for_s": 180.0}
    found = status(
        repo("a", state="degraded", reason="the disk is full", waiting=waiting),
        incidents=[{"at": NOW - 7200, "what": "store", "reason": "it was garbled", "place": "/q"}],
    )
    assert troubles(conditions(found, NOW), NOW) == [
        "a: the disk is full (for 3 min)",
        "store: 2 h ago the store was damaged and has been rebuilt: it was garbled; the damaged one is in /q; "
        "delete it when you like",
    ]


def test_without_the_service_it_says_so_and_how_to_start_it() -> None:
    found = status(repo("a", watch=None), running=False, state="not running")
    assert "reposyncd service install" in shown(found)[0]


@given(st.integers(0, 5000), st.integers(1, 5000), st.floats(PACED_S, 10_000), st.integers(0, 5000))
def test_an_even_pace_is_told_exactly(done: int, more: int, elapsed: float, left: int) -> None:
    progress = Progress("index", done + more, done + more + left, 10 * (done + more))
    rate, left_s = estimate(Pace(100.0, done, 10 * done), progress, 100.0 + elapsed)
    assert rate is not None and left_s is not None
    assert abs(rate - 10 * more / elapsed) <= 1e-6 * rate + 1e-9
    assert abs(left_s - left * elapsed / more) <= 1e-6 * left_s + 1e-9


@given(st.floats(0, 100), st.integers(0, 100))
def test_nothing_is_said_before_there_is_a_pace(elapsed: float, done: int) -> None:
    known = estimate(Pace(0.0, 0, 0), Progress("index", done, 100, done), elapsed)
    assert (known == (None, None)) == (elapsed < PACED_S or done == 0)


def test_on_a_terminal_a_remedy_goes_on_in_the_next_line_and_a_row_ends_at_the_edge() -> None:
    why = "the state directory cannot be a repository. Remove this one with: reposyncd repo remove app"
    lines = overview(status(repo("app", state="failed", reason=why, root="/srv/" + "deep/" * 40)), NOW)
    found = [line.text for line in fitted(lines, 40, 20)]
    assert max(map(len, found)) <= 40
    assert " ".join(" ".join(found).split()).endswith(f"app: {why}")
    [row] = [line for line in fitted(lines, 40, 20) if line.colour]
    assert row.text[row.start : row.end] == "failed"


def test_what_is_wrong_is_shown_before_all_rows_are() -> None:
    lines = overview(status(*(repo(f"r{n}") for n in range(50)), repo("z", state="failed", reason="it broke")), NOW)
    found = [line.text for line in fitted(lines, 80, 12)]
    assert len(found) == 12
    assert found[-1] == "  z: it broke"
    assert found[-2] == "... and 43 more"


@given(st.integers(-5, 300), st.integers(-5, 60), st.lists(st.text(max_size=200), max_size=9))
def test_it_fits_whatever_is_said(width: int, height: int, reasons: list[str]) -> None:
    lines = overview(status(*(repo(f"r{n}", state="failed", reason=why) for n, why in enumerate(reasons))), NOW)
    found = fitted(lines, width, height)
    assert len(found) <= max(height, 1)
    assert all(len(line.text) <= max(width, 1) for line in found)


def test_that_time_passes_is_no_change_and_progress_is_told_apart_from_one() -> None:
    def at(seconds: float, **fields: Any) -> Status:
        waiting = {"reason": "the disk is full", "for_s": seconds}
        return status(repo("app", lag_s=seconds, waiting=waiting, **fields), uptime_s=seconds)

    assert steady(at(1.0)) == steady(at(500.0))
    assert steady(at(1.0)) != steady(at(1.0, state="pending"))

    def going_on(done: int) -> tuple[object, object]:
        progress = {"done": done, "total": 9, "chunks": done, "rate_chunks_s": 1.5 * done, "left_s": 9.0 - done}
        return steady(at(1.0, progress=progress, chunks=done))

    (before, few), (after, many) = going_on(1), going_on(5)
    assert before == after
    assert few != many
