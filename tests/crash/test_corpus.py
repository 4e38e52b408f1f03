"""Files that crash, stall or confuse a parser, and chunking processes that are killed: nothing else notices."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from reposyncd import __version__
from reposyncd.app import operations
from reposyncd.app.recorded_status import recorded_status
from reposyncd.chunking.chunker import chunk_plainly
from reposyncd.chunking.cut import LONGEST
from reposyncd.chunking.pool import ChunkingPool
from reposyncd.cli.overview import overview
from reposyncd.model import Progress, Record, SyncResult
from tests.corpus import CORPUS
from tests.crash import faults
from tests.crash.faults import NAME, SMALL_BATCHES, StoreLab, functions, many_files
from tests.support import later_ns

SIGNALS = (signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGTERM)

NEIGHBOURS = {"a.py": functions("first", "second"), "stall/b.py": functions("third"), "zz/c.py": functions("fourth")}


@pytest.fixture
def lab(tmp_path: Path) -> StoreLab:
    (tmp_path / "tree").mkdir()
    return StoreLab((tmp_path / "tree").resolve(), tmp_path / "state")


def by_path(lab: StoreLab) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {}
    for record in lab.records().values():
        found.setdefault(str(record.metadata["path"]), []).append(record)
    for records in found.values():
        records.sort(key=lambda record: int(record.metadata["start_line"]))
    return found


def is_given_back(text: str, records: list[Record]) -> bool:
    pieces = [record.text for record in records]
    if max(map(len, text.split("\n"))) < LONGEST:
        return "".join(pieces) == text
    return sum(map(len, pieces)) == len(text) and all(piece in text for piece in pieces)  # of one line, in no order


def verdicts(lab: StoreLab) -> Mapping[str, str]:
    """Of the files that are indexed, but not as what they are."""
    [repo] = recorded_status(str(lab.state), later_ns(), __version__)["repos"]
    assert repo["quarantined"] == []
    return {each["path"]: each["reason"] for each in repo["verdicts"]}


def test_a_repository_with_every_file_that_was_ever_trouble_is_indexed_and_says_which_it_could_not_parse(
    lab: StoreLab,
) -> None:
    lab.write({**CORPUS, **NEIGHBOURS})
    result = lab.sync()
    assert not result.errors
    found, condemned = by_path(lab), verdicts(lab)
    for path, text in {**CORPUS, **NEIGHBOURS}.items():
        assert is_given_back(text, found[path]), path
    assert found.keys() == {*CORPUS, *NEIGHBOURS}
    assert result.files.plain == len(condemned) > 0
    assert condemned.keys() <= CORPUS.keys()
    for path in condemned:
        assert len(found[path]) == len(chunk_plainly(path, CORPUS[path]))
    assert {"crash/strings.c", "crash/strings.cpp", "stall/unclosed.html", "stall/brackets.sh"} <= condemned.keys()
    assert "processor time" in condemned["stall/unclosed.html"]
    shown = "\n".join(line.text for line in overview(recorded_status(str(lab.state), later_ns(), __version__), 0.0))
    assert "cut as plain lines until it changes: crash/strings.c: " in shown

    # What was found out is not found out again, whatever the next sync trusts.
    again = lab.sync()
    assert (again.bytes_read, again.files.plain) == (0, len(condemned))
    full, started = full_sync(lab)
    assert (full.chunks.embedded, full.chunks.added, full.files.plain) == (0, 0, len(condemned))
    assert not started
    assert verdicts(lab) == condemned

    # A content that is another is another trial.
    lab.write({"stall/unclosed.html": "<p>short</p>\n"})
    assert lab.sync().files.plain == len(condemned) - 1
    assert "stall/unclosed.html" not in verdicts(lab)


def full_sync(lab: StoreLab) -> tuple[SyncResult, set[str]]:
    """And the files that were being cut at some time."""
    with lab.workspace() as workspace:
        pool = workspace.processes.chunker
        assert isinstance(pool, ChunkingPool)
        begun: set[str] = set()
        begin = pool.begin

        def told(path: str, data: bytes, digest: str) -> object:
            begun.add(path)
            return begin(path, data, digest)

        pool.begin = told  # type: ignore[method-assign, assignment]
        return operations.sync(workspace, str(lab.root), NAME, full=True), begun


def test_the_verdict_outlives_the_store_that_was_made_anew_or_is_found_again(lab: StoreLab) -> None:
    lab.write({"c/continued.c": "\\\n", "c/short.html": CORPUS["stall/unclosed-short.html"], **NEIGHBOURS})
    lab.sync()
    before, records = verdicts(lab), lab.records()
    assert before.keys() == {"c/short.html"}
    (lab.state / "manifest.db").unlink()
    result = lab.sync()
    assert result.chunks.embedded == 0
    assert verdicts(lab).keys() == before.keys()
    assert lab.records().keys() == records.keys()


def test_a_sync_survives_the_death_of_its_chunking_processes_by_any_signal_at_any_time(
    lab: StoreLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults.set_constants(monkeypatch, SMALL_BATCHES)
    lab.write(many_files(400))
    chance, killed, crashed = faults.seeded(), set[int](), set[str]()
    with lab.workspace() as workspace:
        pool = workspace.processes.chunker
        assert isinstance(pool, ChunkingPool)

        def kill_one(progress: Progress) -> None:
            strike(chance, pool, killed, crashed)

        result = operations.sync(workspace, str(lab.root), NAME, on_progress=kill_one)
    assert len(killed) > 3
    assert not result.errors
    assert result.chunks.embedded <= len(lab.committed())
    assert result.files.plain == 0
    again = lab.mend()
    assert (again.chunks.added, again.chunks.embedded) == (0, 0)


def strike(chance: random.Random, pool: ChunkingPool, killed: set[int], crashed: set[str]) -> None:
    """Now and then kills each process, once. Two signals that look like a crash would rightly condemn the file that is
    being cut: `crashed` has the files with one, and they get no second one."""
    if chance.random() < 0.05:
        for pid in set(pool.pids) - killed:
            number, path = chance.choice(SIGNALS), pool.busy.get(pid, "")
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL if path in crashed else number)
                killed.add(pid)
                crashed.add(path)
