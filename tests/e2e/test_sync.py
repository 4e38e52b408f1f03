"""A tree goes in, an index comes out; then the tree changes."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import pytest
import xxhash

from reposyncd import tree
from reposyncd.app import operations
from reposyncd.embedding import EmbedderSpec, create
from reposyncd.errors import InterruptedSyncError, NoSpaceError, RootMissingError, UsageError
from reposyncd.model import Progress, SyncResult
from reposyncd.store.memory import MemoryIndex
from reposyncd.sync.reconcile import Reconciler
from reposyncd.tree import read
from reposyncd.tree.read import RawFile, _read
from tests.support import Lab

FUNCTION = "def f{n}():\n" + "    # {n} does something that takes a while to say\n" * 12 + "    return {n}\n\n\n"
MODULE = "".join(FUNCTION.format(n=n) for n in range(8))
TOKEN = "ghp_" + "q7Zk2mX9" * 4 + "Lw4T"
"""Made up."""


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    (tmp_path / "tree").mkdir()
    lab = Lab(tmp_path / "tree", tmp_path / "state")
    lab.write({"a.py": MODULE, "docs/guide.md": "# Guide\n\nRead me.\n", "src/deep/b.rs": "fn main() {}\n"})
    return lab


def did_nothing(result: SyncResult) -> bool:
    f, c = result.files, result.chunks
    return not (f.new or f.modified or f.deleted or c.added or c.relabelled or c.deleted or c.embedded)


def test_every_file_is_given_back_by_its_chunks(lab: Lab) -> None:
    result = lab.sync()
    assert result.files.new == result.files.total == 3
    assert result.chunks.added == result.chunks.total == len(lab.records())
    assert lab.text_of("a.py") == MODULE
    assert lab.text_of("docs/guide.md") == "# Guide\n\nRead me.\n"
    lab.assert_equals_an_index_built_from_scratch()


def test_a_second_sync_does_nothing_and_does_not_even_touch_the_store(lab: Lab) -> None:
    first = lab.sync()
    second = lab.sync(index=Untouchable())
    assert did_nothing(second)
    assert second.bytes_read == 0
    assert second.files.total == second.files.unchanged == first.files.total
    assert second.files.skipped == first.files.skipped


def test_after_an_edit_only_the_chunks_that_changed_are_stored(lab: Lab) -> None:
    lab.sync()
    lab.write({"a.py": MODULE.replace("return 5", "return 55")})
    result = lab.sync()
    assert (result.files.modified, result.files.new, result.files.deleted) == (1, 0, 0)
    assert result.chunks.added == result.chunks.deleted == result.chunks.embedded == 1
    lab.assert_equals_an_index_built_from_scratch()


def test_lines_put_in_above_relabel_what_is_below(lab: Lab) -> None:
    lab.sync()
    lab.write({"a.py": '"""Now it has a docstring."""\n\n' + MODULE})
    result = lab.sync()
    assert result.chunks.relabelled > 0
    assert result.chunks.embedded <= 2
    lab.assert_equals_an_index_built_from_scratch()


def test_a_renamed_file_is_stored_again_and_not_embedded_again(lab: Lab) -> None:
    lab.sync()
    (lab.root / "a.py").rename(lab.root / "renamed.py")
    result = lab.sync()
    assert (result.files.new, result.files.deleted) == (1, 1)
    assert result.chunks.added > 0
    assert result.chunks.embedded == 0
    lab.assert_equals_an_index_built_from_scratch()


def test_deleted_files_and_directories_leave_the_index(lab: Lab) -> None:
    lab.sync()
    lab.write({"src": None, "a.py": None})
    result = lab.sync()
    assert result.files.deleted == 2
    assert lab.paths() == {"docs/guide.md"}
    lab.assert_equals_an_index_built_from_scratch()


def test_a_directory_and_a_file_may_change_places(lab: Lab) -> None:
    lab.sync()
    lab.write({"src": None})
    lab.write({"src": "now a file\n", "a.py": None})
    lab.write({"a.py/inner.txt": "now a directory\n"})
    lab.sync()
    assert lab.paths() == {"src", "a.py/inner.txt", "docs/guide.md"}
    lab.assert_equals_an_index_built_from_scratch()


def test_a_file_with_a_new_stat_and_the_old_content_costs_a_read_once(lab: Lab) -> None:
    lab.sync()
    os.utime(lab.root / "a.py", ns=(1, 1))
    result = lab.sync()
    assert did_nothing(result)
    assert result.bytes_read == len(MODULE)
    assert lab.sync(index=Untouchable()).bytes_read == 0


def test_an_edit_that_keeps_size_and_mtime_is_seen(lab: Lab) -> None:
    lab.sync()
    before = (lab.root / "a.py").stat()
    lab.write({"a.py": MODULE.replace("return 5", "return 6")})
    os.utime(lab.root / "a.py", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert lab.sync().files.modified == 1
    lab.assert_equals_an_index_built_from_scratch()


def test_ignore_rules_that_change_drop_and_bring_back_files(lab: Lab) -> None:
    lab.sync()
    lab.write({".gitignore": "src/\n*.md\n"})
    assert lab.sync().files.deleted == 2
    assert lab.paths() == {"a.py", ".gitignore"}
    lab.write({".gitignore": "*.md\n"})
    assert lab.sync().files.new == 1
    assert lab.paths() == {"a.py", ".gitignore", "src/deep/b.rs"}
    lab.assert_equals_an_index_built_from_scratch()


def test_a_configured_exclude_and_a_size_limit_take_effect_at_the_next_sync(lab: Lab) -> None:
    lab.sync()
    lab.variables["REPOSYNCD_INDEX__EXCLUDE"] = '["*.rs"]'
    lab.sync()
    assert lab.paths() == {"a.py", "docs/guide.md"}
    lab.variables["REPOSYNCD_INDEX__MAX_FILE_SIZE"] = "100"
    result = lab.sync()
    assert lab.paths() == {"docs/guide.md"}
    assert result.files.skipped["too_large"] == 1
    lab.variables.clear()
    lab.sync()
    assert lab.paths() == {"a.py", "docs/guide.md", "src/deep/b.rs"}
    lab.assert_equals_an_index_built_from_scratch()


def test_a_file_that_becomes_secret_or_binary_leaves_the_index_and_comes_back(lab: Lab) -> None:
    lab.sync()
    lab.write({"a.py": b"\x00\x01\x02", "docs/guide.md": f"token: {TOKEN}\n"})
    result = lab.sync()
    assert result.files.deleted == 2
    assert result.files.skipped == {"binary": 1, "secret": 1}
    assert lab.paths() == {"src/deep/b.rs"}
    assert lab.sync().files.skipped == {"binary": 1, "secret": 1}
    lab.write({"a.py": MODULE})
    assert lab.sync().files.new == 1
    lab.assert_equals_an_index_built_from_scratch()


def test_a_secret_that_is_allowed_is_indexed_until_it_is_allowed_no_more(lab: Lab) -> None:
    lab.write(
        {"fixtures/a.pem": "a certificate\n", "fixtures/b.txt": f"token: {TOKEN}\n", "c.txt": f"token: {TOKEN}\n"}
    )
    assert lab.sync().files.skipped == {"secret": 3}
    before = lab.paths()
    lab.variables["REPOSYNCD_INDEX__ALLOW_SECRETS"] = '["/fixtures/"]'
    allowed = lab.sync()
    assert (allowed.files.new, allowed.files.modified, allowed.files.skipped) == (2, 0, {"secret": 1})
    assert allowed.bytes_read == len("a certificate\n") + len(f"token: {TOKEN}\n")
    assert lab.paths() == before | {"fixtures/a.pem", "fixtures/b.txt"}
    lab.assert_equals_an_index_built_from_scratch()
    assert did_nothing(lab.sync())
    lab.variables["REPOSYNCD_INDEX__ALLOW_SECRETS"] = '["*.pem"]'
    narrowed = lab.sync()
    assert (narrowed.files.new, narrowed.files.deleted, narrowed.chunks.embedded) == (0, 1, 0)
    assert lab.paths() == before | {"fixtures/a.pem"}
    lab.variables.clear()
    assert lab.sync().files.deleted == 1
    assert lab.paths() == before
    lab.assert_equals_an_index_built_from_scratch()


def test_newer_rules_get_what_they_find_out_of_the_index_and_embed_nothing(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as older:
        older.setattr(tree, "VERSION", tree.VERSION - 1)
        older.setattr(read, "secret_content", lambda data: None)
        lab.write({"leak.txt": f"token: {TOKEN}\n"})
        lab.sync()
        assert "leak.txt" in lab.paths()
    newer = lab.sync()
    assert (newer.files.deleted, newer.files.modified, newer.files.new) == (1, 0, 0)
    assert (newer.chunks.added, newer.chunks.relabelled, newer.chunks.embedded) == (0, 0, 0)
    assert newer.files.skipped == {"secret": 1}
    assert newer.bytes_read > len(MODULE)
    assert "leak.txt" not in lab.paths()
    lab.assert_equals_an_index_built_from_scratch()
    assert lab.sync().bytes_read == 0


def test_an_index_of_before_the_rules_had_versions_is_read_once_and_kept(lab: Lab) -> None:
    lab.sync()
    with closing(sqlite3.connect(lab.state / "manifest.db")) as manifest, manifest:
        manifest.execute("UPDATE file SET judged = 0")
        manifest.execute("UPDATE directory SET rules = x'00'")
    again = lab.sync()
    assert again.bytes_read > len(MODULE)
    assert (again.files.modified, again.chunks.added, again.chunks.deleted, again.chunks.embedded) == (0, 0, 0, 0)
    assert lab.sync().bytes_read == 0


def test_a_file_with_a_broken_byte_is_indexed_with_the_replacement_character(lab: Lab) -> None:
    text = "# Schöne Grüße aus Köln, außer am Öffnungstag.\n" * 5
    lab.write({"broken.md": text.encode() + b"\xff" + text.encode()})
    assert lab.sync().files.skipped == {}
    assert lab.text_of("broken.md") == f"{text}\ufffd{text}"
    with lab.workspace() as workspace:
        [found] = operations.verify(workspace)
    assert (found.counts, found.pending, found.errors) == ({}, 0, [])
    lab.write({"broken.md": text * 2})
    assert lab.sync().files.modified == 1
    assert lab.text_of("broken.md") == text * 2
    lab.assert_equals_an_index_built_from_scratch()


def test_a_full_sync_reads_every_file_and_finds_what_no_stat_betrays(lab: Lab) -> None:
    lab.sync()
    result = lab.sync(full=True)
    assert did_nothing(result)
    assert result.bytes_read > len(MODULE)


def edit_unseen(lab: Lab, nodes: Mapping[str, str]) -> None:
    """Changes files so that no stat betrays it: they are on record with their new times and their old content."""
    before = {path: (lab.root / path).read_bytes() for path in nodes}
    lab.write(nodes)

    def read_before(fd: int, path: str, limit: int) -> RawFile:
        found = _read(fd, path, limit)
        old = before.get(path, found.data)
        return RawFile(found.stat, xxhash.xxh3_128_hexdigest(old), old)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("reposyncd.tree.read._read", read_before)
        assert did_nothing(lab.sync())
    assert did_nothing(lab.sync())


class StopAfter:
    """Lets a sync go on for so many files, then stops it."""

    def __init__(self, files: int) -> None:
        self._left = files

    def __call__(self) -> bool:
        self._left -= 1
        return self._left < 0


@pytest.mark.parametrize("how", ["it is stopped", "its process dies"])
def test_what_a_full_sync_had_not_read_when_it_ended_early_is_read_by_the_next_one(lab: Lab, how: str) -> None:
    lab.sync()
    edit_unseen(lab, {"a.py": MODULE + "x = 1\n", "docs/guide.md": "# Other\n", "src/deep/b.rs": "fn other() {}\n"})
    lab.index.delete(*some_of_the_records(lab)).result()
    if how == "it is stopped":
        with lab.workspace() as workspace, pytest.raises(InterruptedSyncError, match="after 1 of 3"):
            operations.sync(workspace, str(lab.root), full=True, should_stop=StopAfter(1))
    else:
        with pytest.raises(KeyboardInterrupt), pytest.MonkeyPatch.context() as patch:
            patch.setattr(Reconciler, "run", dies)
            lab.sync(full=True)
    lab.sync()
    lab.assert_equals_an_index_built_from_scratch()


def test_a_sync_has_said_what_there_is_to_do_before_it_can_be_stopped_at_it(lab: Lab) -> None:
    """Who stops it for other work lets it be for a while from then on."""
    told: list[Progress] = []
    with lab.workspace() as workspace, pytest.raises(InterruptedSyncError, match="after 0 of 3"):
        operations.sync(
            workspace, str(lab.root), on_progress=told.append, should_stop=lambda: told[-1].phase == "index"
        )
    assert (told[-1].files_done, told[-1].files_total) == (0, 3)


def some_of_the_records(lab: Lab) -> tuple[str, list[str]]:
    with lab.workspace() as workspace:
        [generation] = workspace.catalog.generations(workspace.catalog.repos()[0])
        return generation.collection, [row.id for row in workspace.manifest(generation).chunks("a.py")][:3]


def dies(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("full", [False, True])
def test_a_sync_that_is_stopped_again_and_again_comes_to_an_end_and_reads_no_file_twice(lab: Lab, full: bool) -> None:
    lab.write({f"many/{n}.txt": f"file number {n}\n" for n in range(200)})
    size = sum(path.stat().st_size for path in lab.root.rglob("*") if path.is_file())
    if full:
        lab.sync()
    bytes_read = [0]

    def count(fd: int, path: str, limit: int) -> RawFile:
        found = _read(fd, path, limit)
        bytes_read[0] += len(found.data)
        return found

    with lab.workspace() as workspace, pytest.MonkeyPatch.context() as patch:
        patch.setattr("reposyncd.tree.read._read", count)
        for attempt in range(12):  # ten of 20 files each, and one for the rest
            try:
                operations.sync(workspace, str(lab.root), "lab", full=full and attempt == 0, should_stop=StopAfter(20))
            except InterruptedSyncError:
                continue
            break
        else:
            pytest.fail("it never ends")
    assert bytes_read[0] == size
    lab.assert_equals_an_index_built_from_scratch()


@pytest.mark.parametrize("full", [False, True])
def test_records_lost_behind_our_back_are_stored_again(lab: Lab, full: bool) -> None:
    lab.sync()
    with lab.workspace() as workspace:
        [generation] = workspace.catalog.generations(workspace.catalog.repos()[0])
        lost = [row.id for row in workspace.manifest(generation).chunks("a.py")][:3]
    lab.index.delete(generation.collection, lost).result()
    if not full:
        lab.write({"src/deep/b.rs": "fn other() {}\n"})  # otherwise it would not open the store at all
    lab.sync(full=full)
    lab.assert_equals_an_index_built_from_scratch()


def test_a_changed_fingerprint_builds_beside_and_switches(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    from reposyncd.app import workspace as assemble

    lab.sync()
    monkeypatch.setattr(assemble, "_RECORDS", "records of another form")
    seen: list[int] = []
    with lab.workspace() as workspace:
        [repo] = workspace.catalog.repos()
        [old] = workspace.catalog.generations(repo)

        def watch(_: object) -> None:
            states = {g.state for g in workspace.catalog.generations(repo)}
            seen.append(states == {"serving", "building"} and len(lab.index.ids(old.collection)) == old.chunks)

        result = operations.sync(workspace, str(lab.root), on_progress=watch)
        [new] = workspace.catalog.generations(repo)
    assert result.files.new == 3
    assert all(seen)
    assert (new.state, new.collection != old.collection) == ("serving", True)
    lab.assert_equals_an_index_built_from_scratch()


def test_an_interrupted_sync_keeps_what_it_stored_and_the_next_goes_on_from_there(lab: Lab) -> None:
    lab.write({f"many/{n}.txt": f"file number {n}\n" * 3 for n in range(2500)})
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > 2200

    with lab.workspace() as workspace, pytest.raises(InterruptedSyncError, match="of 2503 changed files"):
        operations.sync(workspace, str(lab.root), "lab", should_stop=stop)
    stored = len(lab.records())
    assert 0 < stored < 2500
    result = lab.sync()
    assert result.chunks.embedded == result.chunks.total - stored
    lab.assert_equals_an_index_built_from_scratch()


def test_a_root_that_is_absent_is_an_error_and_deletes_nothing(lab: Lab) -> None:
    lab.sync()
    before = lab.records()
    lab.root.rename(lab.root.with_name("elsewhere"))
    with pytest.raises(RootMissingError, match="does not exist"):
        lab.sync()
    lab.root.mkdir()  # as a mount point is when nothing is mounted on it
    with pytest.raises(RootMissingError, match="is a disk not mounted"):
        lab.sync()
    assert lab.records() == before
    lab.root.rmdir()
    lab.root.with_name("elsewhere").rename(lab.root)
    assert did_nothing(lab.sync())


def test_an_unmounted_root_deletes_nothing_when_the_fingerprint_is_new_either(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    from reposyncd.app import workspace as assemble

    lab.sync()
    before = lab.records()
    lab.root.rename(lab.root.with_name("elsewhere"))
    lab.root.mkdir()
    monkeypatch.setattr(assemble, "_RECORDS", "records of another form")
    with pytest.raises(RootMissingError, match="is a disk not mounted"):
        lab.sync()
    monkeypatch.undo()
    assert lab.records() == before


def test_a_rebuild_that_was_given_up_leaves_nothing_behind(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    from reposyncd.app import workspace as assemble

    lab.sync()
    with monkeypatch.context() as patch:
        patch.setattr(assemble, "_RECORDS", "records of another form")
        with lab.workspace() as workspace, pytest.raises(InterruptedSyncError):
            operations.sync(workspace, str(lab.root), "lab", should_stop=lambda: True)
    lab.sync()
    with lab.workspace() as workspace:
        [generation] = workspace.catalog.generations(workspace.catalog.repos()[0])
    assert generation.state == "serving"
    assert did_nothing(lab.sync(index=Untouchable()))


def test_a_time_stamp_from_the_far_future_is_indexed_like_any_other(lab: Lab) -> None:
    os.utime(lab.root / "a.py", ns=(0, 2**63 + 5))
    assert lab.sync().files.new == 3
    lab.assert_equals_an_index_built_from_scratch()


@pytest.mark.parametrize(
    "nodes",
    [
        {"sub/.git": b"gitdir: a\0b\n"},
        {"sub/.git/HEAD": "ref: refs/heads/x\n", "sub/.git/config": b"[core]\nexcludesFile = /tmp/a\0b\n"},
    ],
)
def test_nonsense_in_a_git_directory_stops_nothing(lab: Lab, nodes: dict[str, bytes]) -> None:
    lab.write({**nodes, "sub/code.c": "int x;\n"})
    lab.sync()
    assert "sub/code.c" in lab.paths()


def test_a_root_that_was_replaced_is_indexed_as_it_is_now(lab: Lab) -> None:
    lab.sync()
    lab.root.rename(lab.root.with_name("elsewhere"))
    lab.write({"only.txt": "a new clone\n"})
    lab.sync()
    assert lab.paths() == {"only.txt"}
    lab.assert_equals_an_index_built_from_scratch()


def test_a_tree_that_was_moved_keeps_its_index(lab: Lab, tmp_path: Path) -> None:
    lab.sync()
    lab.root = lab.root.rename(tmp_path / "moved")
    assert did_nothing(lab.sync())
    lab.assert_equals_an_index_built_from_scratch()


def test_an_emptied_root_empties_the_index(lab: Lab) -> None:
    lab.sync()
    lab.write({"a.py": None, "docs": None, "src": None})
    assert lab.sync().files.deleted == 3
    assert lab.records() == {}


def test_the_state_directory_is_never_indexed(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    lab = Lab(tmp_path / "tree", tmp_path / "tree" / "state")
    lab.write({"a.txt": "text\n", "state/note.txt": "ours\n"})
    lab.sync()
    assert lab.paths() == {"a.txt"}


def test_names_are_taken_once_and_a_root_has_one(lab: Lab, tmp_path: Path) -> None:
    lab.sync()
    other = tmp_path / "other" / "lab"
    other.mkdir(parents=True)
    with lab.workspace() as workspace:
        with pytest.raises(UsageError, match='already indexed, under the name "lab"'):
            operations.sync(workspace, str(lab.root), "another")
        with pytest.raises(UsageError, match=r'the name "lab" is taken by .*--name'):
            operations.sync(workspace, str(other))
        assert operations.sync(workspace, str(other), "other").repo == "other"


class Untouchable(MemoryIndex):
    """An index that must not be needed."""

    def __init__(self) -> None:
        super().__init__(create(EmbedderSpec("hashing")).embed)

    def __getattribute__(self, name: str) -> object:
        if name in ("start", "open", "apply", "delete", "drop", "ids", "records", "query"):
            raise AssertionError(f"the store was used: {name}")
        return super().__getattribute__(name)


def test_while_another_repo_is_synced_one_with_nothing_to_do_does_not_wait(lab: Lab, tmp_path: Path) -> None:
    lab.sync()
    other = tmp_path / "other"
    other.mkdir()
    (other / "c.py").write_text("print('c')\n")
    seen: list[SyncResult] = []
    with lab.workspace() as workspace:

        def look(progress: object) -> None:
            # What the other sync has written so far shows in the store's files.
            (lab.state / "chroma" / "chroma.sqlite3").write_bytes(os.urandom(8))
            seen.append(lab.sync(index=Untouchable()))

        operations.sync(workspace, str(other), on_progress=look)
    assert seen
    assert all(did_nothing(result) for result in seen)


def test_what_is_kept_in_quarantine_makes_room_when_the_disk_is_full(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = lab.state / "quarantine" / "chroma"
    kept.mkdir(parents=True)
    (kept / "chroma.sqlite3").write_bytes(b"damaged")

    def require(path: str, needed: int, purpose: str) -> None:
        if kept.exists():
            raise NoSpaceError("the disk is full")

    monkeypatch.setattr("reposyncd.store.space.require", require)
    lab.sync()
    assert not kept.exists()
    lab.assert_equals_an_index_built_from_scratch()
