"""A scan sees what is there; and laid over what is known, it is what a scan that knows nothing finds."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from reposyncd.model import DirectoryRow, Scope
from reposyncd.paths import is_within
from reposyncd.text import is_utf8
from reposyncd.tree.ignore import IgnoreRules
from reposyncd.tree.scan import ScannedDirectory, ScanObserver, Snapshot, scan
from tests.support import LATER_NS

NAMES = st.sampled_from(["a", "b", "c.py", "é", "x y", "new\nline", ".hidden", ".git", "-", "k" * 255, "\udce9"])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
CONTENTS = st.sampled_from([b"", b"one", b"two", b"three lines\n" * 3])

_ticks = count(1_000_000_000_000_000_000, 1_000_000)


def put(root: Path, path: str, content: bytes) -> None:
    """Writes a file, in place of whatever is in the way, with a time stamp that no other write has."""
    target = root / path
    for place in reversed([target, *target.parents][: path.count("/") + 1]):
        if place.is_symlink() or (place != target and place.is_file()):
            place.unlink()
        elif place == target and place.is_dir():
            shutil.rmtree(place)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    tick = next(_ticks)  # the kernel's clock may be too coarse to tell two writes apart
    os.utime(target, ns=(tick, tick))


def remove(root: Path, path: str) -> None:
    target = root / path
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    elif os.path.lexists(target):
        target.unlink()


def move(root: Path, path: str, to: str) -> None:
    source, target = root / path, root / to
    # A link may have led into what is moved; one that leads to itself leads nowhere.
    real, here = (Path(os.path.realpath(each.parent)) / each.name for each in (target, source))
    inside = source.is_relative_to(target) or real.is_relative_to(here)
    if os.path.lexists(source) and target.parent.is_dir() and not inside:
        remove(root, to)
        source.rename(target)


def link(root: Path, path: str, to: str) -> None:
    if (root / path).parent.is_dir():
        remove(root, path)
        (root / path).symlink_to(root / to)


def change_mode(root: Path, path: str) -> None:
    target = root / path
    if target.exists() and not target.is_symlink():
        target.chmod(target.stat().st_mode ^ 0o010)


Edit = Callable[[Path], None]
EDITS: st.SearchStrategy[Edit] = st.one_of(
    st.builds(lambda path, content: lambda root: put(root, path, content), PATHS, CONTENTS),
    st.builds(lambda path: lambda root: remove(root, path), PATHS),
    st.builds(lambda path, to: lambda root: move(root, path, to), PATHS, PATHS),
    st.builds(lambda path, to: lambda root: link(root, path, to), PATHS, PATHS),
    st.builds(lambda path: lambda root: change_mode(root, path), PATHS),
    st.builds(
        lambda path, names: lambda root: put(root, path + "/.gitignore", "\n".join(names).encode()),
        PATHS,
        st.lists(st.sampled_from(["a", "b/", "*.py", "!c.py", "/x y", "*"])),
    ),
)


def look(root: Path, known: dict[str, DirectoryRow]) -> Snapshot:
    rules = IgnoreRules.for_root(str(root), (), {})
    return scan(str(root), rules, known, now_ns=time.time_ns() + LATER_NS, max_file_size=1 << 20)


def laid_over(known: dict[str, DirectoryRow], snapshot: Snapshot) -> dict[str, DirectoryRow]:
    assert not snapshot.unreadable
    assert all(directory.trusted for directory in snapshot.changed)
    unchanged = {path: known[path] for path in snapshot.unchanged}
    return unchanged | {directory.path: directory.row for directory in snapshot.changed}


@settings(max_examples=150, deadline=None)
@given(rounds=st.lists(st.lists(EDITS, max_size=8), min_size=1, max_size=4))
def test_over_what_is_known_a_scan_finds_what_it_finds_without(rounds: list[list[Edit]]) -> None:
    with tempfile.TemporaryDirectory() as place:
        root = Path(place).resolve()
        known: dict[str, DirectoryRow] = {}
        for edits in rounds:
            for edit in edits:
                edit(root)
            fresh = look(root, {})
            known = laid_over(known, look(root, known))
            assert known == laid_over({}, fresh)
            again = look(root, known)
            assert again.unchanged == known.keys()
            assert again.changed == ()


@settings(max_examples=100, deadline=None)
@given(files=st.dictionaries(PATHS, CONTENTS, max_size=12))
def test_every_file_is_found_where_a_plain_walk_finds_it(files: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as place:
        root = Path(place).resolve()
        for path, content in files.items():
            put(root, path, content)
        expected = {}
        for directory, inner, names in os.walk(root):
            inner[:] = [name for name in inner if name != ".git" and is_utf8(name)]
            for name in names:
                if name != ".git" and is_utf8(name):
                    found = os.stat(os.path.join(directory, name))
                    path = os.path.relpath(os.path.join(directory, name), root)
                    expected[path] = (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
        assert {path: tuple(s) for each in look(root, {}).changed for path, s in each.files} == expected


@settings(max_examples=200, deadline=None)
@given(
    edits=st.lists(EDITS, max_size=12),
    scope=st.builds(Scope, *[st.frozensets(st.one_of(PATHS, st.just("")), max_size=4)] * 2),
)
def test_a_scan_of_a_part_finds_what_a_scan_of_the_whole_finds_there(edits: list[Edit], scope: Scope) -> None:
    with tempfile.TemporaryDirectory() as place:
        root = Path(place).resolve()
        for edit in edits:
            edit(root)
        rules = IgnoreRules.for_root(str(root), (), {})
        entered: list[str] = []
        learnt: dict[str, IgnoreRules] = {}

        def found(directory: ScannedDirectory) -> bool:
            return directory.path in scope.flat or is_within(directory.path, scope.trees)

        part = scan(
            str(root),
            rules,
            {},
            now_ns=time.time_ns() + LATER_NS,
            max_file_size=1 << 20,
            scope=scope,
            observer=ScanObserver(lambda path, fd: entered.append(path), learnt.__setitem__),
        )
        whole = look(root, {})
        assert sorted(part.changed, key=str) == sorted(filter(found, whole.changed), key=str)
        assert sorted(entered) == sorted(directory.path for directory in part.changed)
        assert {path: rules.digest for path, rules in learnt.items()} == {
            directory.path: directory.row.rules for directory in part.changed
        }
