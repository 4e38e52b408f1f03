from __future__ import annotations

import io
import json
import logging
import math
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reposyncd.daemon.events import (
    DISCOVERY,
    FAILED,
    LOG_EVENTS,
    NOT_INDEXED,
    READY,
    STOPPED,
    SYNCED,
    UNEXPECTED,
    UPDATED,
    log_event,
    log_unexpected,
)
from reposyncd.daemon.process.log import (
    WINDOW_S,
    Bursts,
    Log,
    LogEntry,
    as_json,
    as_text,
    entry_of,
    logging_to,
    set_level,
    writer,
)

SYNC = {"files": 3, "chunks": 7, "added": 1, "relabelled": 0, "deleted": 0, "duration_s": 0.5}


def said(format: str = "json", level: str = "info", **environ: str) -> tuple[Log, io.StringIO]:
    stream = io.StringIO()
    return Log(writer(format, environ, stream)), stream


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_notice_is_one_json_object_with_its_fields() -> None:
    log, stream = said()
    with logging_to(log, "info"):
        log_event(SYNCED, repo="lab", path="/srv/lab", run=4, **SYNC)
    [line] = lines(stream)
    assert line["event"] == "synced" and line["repo"] == "lab" and line["run"] == 4 and line["duration_s"] == 0.5
    assert line["message"] == "lab: current: 3 files, 7 chunks (1 added, 0 moved, 0 deleted) in 0.5 s"
    assert line["level"] == "info"


def test_a_path_forges_no_line_and_steers_no_terminal() -> None:
    path = "a\nreposyncd: all is well\x1b[2J\u202e\udcff"
    for format in ("json", "text"):
        log, stream = said(format)
        with logging_to(log, "info"):
            log_event(NOT_INDEXED, repo="lab", path=path, reason="Permission denied")
        [line] = stream.getvalue().splitlines()
        assert line.isprintable()
        assert "all is well" in line


def test_a_library_that_logs_a_path_forges_no_line_either() -> None:
    log, stream = said("text")
    with logging_to(log, "info"):
        logging.getLogger("library").warning("lost %s", "a\nb")
    [line] = stream.getvalue().splitlines()
    assert line.endswith(r"warning: lost a\nb")


def test_an_unexpected_error_tells_where_it_was_raised_and_nothing_that_was_read() -> None:
    secret = "password = hunter2"
    log, stream = said()
    with logging_to(log, "info"):
        for fail in (
            lambda: secret.encode("utf-16")[:5].decode("utf-8"),
            lambda: {"x": 1}[secret],
            lambda: int(secret),
        ):
            try:
                fail()
            except Exception as error:
                log_unexpected("a test", error)
                logging.getLogger("library").error("it failed", exc_info=error)
    assert "hunter2" not in stream.getvalue()
    first, *_ = lines(stream)
    assert first["event"] == UNEXPECTED.name and first["reason"] == "UnicodeDecodeError"
    assert "test_log.py" in str(first["frames"])


def test_what_systemd_reads_from_stderr_has_its_priority_in_front(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reposyncd.daemon.process.systemd.available", lambda: False)
    log, stream = said("journal")
    with logging_to(log, "info"):
        log_event(FAILED, repo="lab", reason="no room")
        log_event(STOPPED)
    assert stream.getvalue().splitlines() == [
        "<3>lab: the sync failed and will be retried: no room",
        "<6>stopped",
    ]


def test_the_level_decides_what_is_said_and_can_be_changed() -> None:
    log, stream = said()
    with logging_to(log, "error"):
        log_event(STOPPED)
        set_level("debug")
        log_event(UPDATED, repo="lab", **SYNC)
    assert [line["event"] for line in lines(stream)] == ["updated"]


def test_equal_warnings_are_one_line_and_a_count() -> None:
    log, stream = said()
    with logging_to(log, "info"):
        for _ in range(1000):
            log_event(DISCOVERY, reason="/srv: Permission denied")
        assert len(lines(stream)) == 1
        log_event(DISCOVERY, reason="/opt: Permission denied")
    first, other, count = lines(stream)
    assert first["reason"] != other["reason"]
    assert count["count"] == 999 and "999 more times" in str(count["message"])


def test_whoever_waits_is_woken_when_something_is_counted() -> None:
    woken = threading.Event()
    log = Log(lambda line: None, on_counted=woken.set)
    with logging_to(log, "info"):
        log_event(DISCOVERY, reason="x")
        assert not woken.is_set() and log.next_due is None
        log_event(DISCOVERY, reason="x")
        assert woken.is_set() and log.next_due is not None
        log.write_counts(math.inf)
        assert log.next_due is None


def test_a_log_that_cannot_be_written_ends_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(line: LogEntry) -> None:
        raise OSError("no room")

    with logging_to(Log(fail), "info"):
        log_event(READY, socket="s", place="p")
    assert "a log entry was lost" in capsys.readouterr().err


def test_every_notice_can_be_told_from_every_other() -> None:
    assert len({each.id for each in LOG_EVENTS}) == len({each.name for each in LOG_EVENTS}) == len(LOG_EVENTS) > 20
    for each in LOG_EVENTS:
        assert len(each.id) == 32 and int(each.id, 16)


def line(message: str, level: int = logging.WARNING) -> LogEntry:
    return LogEntry(0.0, level, None, message, {})


@given(
    st.lists(
        st.tuples(st.floats(0, 50), st.sampled_from("abc"), st.sampled_from([logging.INFO, logging.ERROR])),
        max_size=60,
    )
)
def test_what_is_written_and_what_is_counted_are_together_all_that_was_said(
    steps: list[tuple[float, str, int]],
) -> None:
    bursts = Bursts()
    now, told = 0.0, 0
    for wait, message, level in steps:
        now += wait
        told += sum(int(str(each.fields["count"])) for each in bursts.due(now))
        told += bursts.admit(line(message, level), now)
        assert bursts.next_due is None or now < bursts.next_due <= now + WINDOW_S
    told += sum(int(str(each.fields["count"])) for each in bursts.due(math.inf))
    assert told == len(steps)


def test_the_text_for_people_has_the_time_and_the_level() -> None:
    record = logging.LogRecord("library", logging.ERROR, "", 0, "it failed", (), None)
    text = as_text(entry_of(record))
    assert text.endswith(" error: it failed") and text[4] == "-"
    assert json.loads(as_json(entry_of(record)))["logger"] == "library"


def test_the_table_of_events_in_the_documentation_is_complete() -> None:
    page = (Path(__file__).parents[4] / "docs" / "systemd.md").read_text()
    for each in LOG_EVENTS:
        assert f"| {each.name} | {each.id} | {each.text.splitlines()[0]} |\n" in page
