"""Names that are not UTF-8: what has one is skipped and counted, wherever it comes from, and nothing else notices."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from reposyncd.app.client import Client
from reposyncd.errors import ReposyncError, RootMissingError, UsageError
from tests.live.service import Live, live, many, result_of, until

ODD = os.fsdecode(b"caf\xe9")
"""A directory of somebody who still writes Latin-1."""


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Live]:
    lab = live(tmp_path)
    lab.write({"a.py": "one = 1\n", "b/c.py": "two = 2\n", "b/d/e.md": "# Three\n"})
    with lab.running():
        yield lab


def skipped(lab: Live) -> int:
    assert lab.daemon
    files = result_of(lab.daemon.sync(str(lab.root), None, False))["files"]
    return int(files["skipped"].get("name", 0))


def is_responsive(lab: Live) -> bool:
    status = lab.status()
    return (status["state"], status["reason"], status["errors"]) == ("current", "", [])


def assert_follows(lab: Live) -> None:
    """It did not notice, and an edit elsewhere is taken up."""
    lab.assert_current()
    lab.write({"b/c.py": "two = 22\n"})
    until(lambda: lab.text_of("b/c.py") == "two = 22\n", f"an edit elsewhere is taken up: {lab.status()}")
    until(lambda: is_responsive(lab), f"it is well: {lab.status()}")
    assert lab.daemon
    assert not lab.daemon.status()["daemon"]["problems"]


def test_a_directory_is_made_filled_and_removed(lab: Live) -> None:
    lab.write({f"{ODD}/x/f.py": "nobody = 1\n", f"b/{ODD}/.gitignore": "*\n", f"b/d/{ODD}": "a file\n"})
    assert_follows(lab)
    assert lab.paths() == {"a.py", "b/c.py", "b/d/e.md"}
    assert skipped(lab) == 3
    lab.write({f"{ODD}/x/f.py": "nobody = 2\n", f"{ODD}/new/g.py": "nobody = 3\n"})
    lab.assert_current()
    for name in (ODD, f"b/{ODD}", f"b/d/{ODD}"):
        lab.write({name: None})
    assert_follows(lab)
    assert skipped(lab) == 0


def test_a_directory_is_renamed_to_such_a_name_and_back(lab: Live) -> None:
    (lab.root / "b").rename(lab.root / ODD)
    lab.assert_current()
    assert lab.paths() == {"a.py"}
    lab.write({f"{ODD}/c.py": "two = 20\n"})
    lab.assert_current()
    assert lab.status()["watch"]["directories"] == 1
    (lab.root / ODD).rename(lab.root / "b")
    lab.assert_current()
    assert lab.text_of("b/c.py") == "two = 20\n"
    assert_follows(lab)


def test_a_directory_with_such_names_in_it_comes_from_outside_and_leaves(lab: Live, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / ODD / "x").mkdir(parents=True)
    (outside / ODD / "x" / "f.py").write_text("nobody = 1\n")
    (outside / "g.py").write_text("some = 1\n")
    outside.rename(lab.root / "in")
    lab.assert_current()
    assert lab.text_of("in/g.py") == "some = 1\n"
    (lab.root / "in" / ODD).rename(tmp_path / ODD)
    (lab.root / "in").rename(outside)
    assert_follows(lab)


def test_a_file_takes_such_a_name_and_loses_it(lab: Live) -> None:
    (lab.root / "a.py").rename(lab.root / f"{ODD}.py")
    lab.assert_current()
    assert lab.paths() == {"b/c.py", "b/d/e.md"}
    assert skipped(lab) == 1
    (lab.root / f"{ODD}.py").rename(lab.root / "a.py")
    assert_follows(lab)
    assert "a.py" in lab.paths()


def test_a_repository_in_such_a_directory_and_its_rules_are_nobodys(lab: Live) -> None:
    for name in ("objects", "refs"):
        (lab.root / ODD / ".git" / name).mkdir(parents=True)
    lab.write({f"{ODD}/.git/HEAD": "ref: refs/heads/main\n", f"{ODD}/.gitignore": "*\n", ".gitignore": "*.log\n"})
    assert_follows(lab)
    lab.write({f"{ODD}/.git/HEAD": "ref: refs/heads/other\n", f"{ODD}/.gitignore": ""})
    assert_follows(lab)


def test_the_ignore_rules_may_name_them(lab: Live) -> None:
    lab.write({".gitignore": b"caf\xe9/\n/b\xff*\n", f"{ODD}/f.py": "nobody = 1\n", "b\udcff.py": "nobody = 2\n"})
    assert_follows(lab)


def test_what_cannot_be_done_for_a_file_of_such_a_name_is_put_on_record(lab: Live, tmp_path: Path) -> None:
    """It ends the sync, so the error is in the history; the file is the user's own, named by the repository."""
    assert lab.daemon
    large = tmp_path / f"{ODD}-ignore"
    with large.open("wb") as file:
        file.truncate(9 << 20)
    for name in ("objects", "refs"):
        (lab.root / ".git" / name).mkdir(parents=True)
    lab.write({".git/HEAD": "ref: refs/heads/main\n"})
    lab.write({".git/config": b"[core]\nexcludesFile = " + os.fsencode(large) + b"\n", "a.py": "one = 11\n"})
    with pytest.raises(ReposyncError, match=r"caf.udce9-ignore cannot be read"):
        result_of(lab.daemon.sync(str(lab.root), None, False))
    until(lambda: lab.status()["state"] == "failed", "it is told")
    for text in (lab.status()["reason"], lab.daemon.runs("lab", 1)["runs"][0]["error"]):
        text.encode()
        assert "ignore cannot be read" in text
    large.unlink()
    assert_follows(lab)


def test_a_storm_of_such_names_and_events_that_were_lost(lab: Live) -> None:
    assert lab.daemon
    lab.write({f"{ODD}{number}/f{number}.py": "nobody = 1\n" for number in range(1200)})
    lab.write(many(1200))
    lab.daemon.engine.lose_events("the queue was full")
    lab.assert_current()
    for number in range(1200):
        shutil.rmtree(lab.root / f"{ODD}{number}")
    assert_follows(lab)


def test_a_service_that_was_not_there_meanwhile(lab: Live) -> None:
    lab.stop()
    lab.write({f"{ODD}/f.py": "nobody = 1\n"})
    (lab.root / "b" / "d").rename(lab.root / "b" / ODD)
    lab.start()
    lab.assert_current()
    assert lab.paths() == {"a.py", "b/c.py"}
    assert_follows(lab)


def test_who_asks_for_such_a_tree_is_refused_in_words_that_can_be_shown(lab: Live, tmp_path: Path) -> None:
    assert lab.daemon
    odd = str(tmp_path / ODD)
    client = Client(lab.config().socket)
    for path in ("/v1/repos", "/v1/sync"):
        with pytest.raises(RootMissingError) as absent:
            client.request("POST", path, {"path": odd})
        str(absent.value).encode()
    Path(odd).mkdir()
    for path in ("/v1/repos", "/v1/sync"):
        with pytest.raises(UsageError, match="not valid UTF-8"):
            client.request("POST", path, {"path": odd})
    with pytest.raises(UsageError, match="valid Unicode"):
        client.request("POST", "/v1/flush", {"repo": odd})
    assert_follows(lab)


def test_such_a_tree_is_not_discovered_and_that_is_told(tmp_path: Path) -> None:
    place = tmp_path / "places"
    for name in ("sound", ODD):
        for inner in ("objects", "refs"):
            (place / name / ".git" / inner).mkdir(parents=True)
        (place / name / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
        (place / name / "f.py").write_text("one = 1\n")
    lab = live(tmp_path, REPOSYNCD_DISCOVER__ROOTS=f'["{place}"]')
    daemon = lab.start()
    try:
        until(lambda: [each["name"] for each in daemon.status()["repos"]] == ["sound"], "it is found")
        lab.flush()
        [problem] = daemon.status()["daemon"]["problems"]
        assert "not valid UTF-8" in problem
        problem.encode()
    finally:
        lab.stop()


def test_a_repository_whose_tree_is_moved_to_such_a_place_is_missing_until_it_is_back(
    lab: Live, tmp_path: Path
) -> None:
    lab.root.rename(tmp_path / ODD)
    until(lambda: lab.status()["state"] == "missing", "it is missed")
    lab.status()["reason"].encode()
    (tmp_path / ODD).rename(lab.root)
    until(lambda: is_responsive(lab), "it is back")
    assert_follows(lab)
