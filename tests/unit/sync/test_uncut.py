"""Whatever a chunker, a decoder or a classifier raises is the trouble of its file."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path

import pytest

from reposyncd.chunking.chunker import chunk_plainly
from reposyncd.chunking.inline import InlineChunker
from reposyncd.chunking.worker import File, TextOf, cut
from reposyncd.errors import TransientStoreError, UncutError
from reposyncd.model import Cut, FileError
from reposyncd.tree.read import classify
from tests.support import Lab

FILES = {"a.py": "one = 1\n", "b/odd.py": "odd = 1\n", "c.py": "three = 3\n"}


class Raises:
    """Cuts all but the odd ones; of those it raises, as long as it is told to."""

    def __init__(self, *errors: type[Exception], plainly: bool = False) -> None:
        self.errors = errors
        self.plainly = plainly
        """as plain lines too"""
        self.asked: list[str] = []

    def __call__(self, file: File, as_plain_lines: bool, text_of: TextOf) -> Cut:
        self.asked.append(file.path)
        if file.path.endswith("odd.py") and (self.plainly or not as_plain_lines):
            for error in self.errors:
                raise error("password = hunter2")
        return cut(file, as_plain_lines, text_of)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    (tmp_path / "tree").mkdir()
    lab = Lab(tmp_path / "tree", tmp_path / "state")
    lab.write(FILES)
    return lab


@pytest.mark.parametrize("error", [IndexError, RecursionError, UnicodeError, AssertionError, MemoryError])
def test_a_file_of_which_the_chunker_raises_is_cut_as_plain_lines_and_its_neighbours_are_indexed(
    lab: Lab, error: type[Exception]
) -> None:
    lab.chunker = InlineChunker(classify, Raises(error))
    result = lab.sync()
    assert (result.errors, result.files.total, result.files.plain) == ((), 3, 1)
    assert lab.text_of("b/odd.py") == FILES["b/odd.py"]
    assert verdict(lab) == ("b/odd.py", True, f"it raises {error.__name__}")  # and not what it was raised with


def verdict(lab: Lab) -> tuple[str, bool, str]:
    with lab.workspace() as workspace:
        [repo] = workspace.catalog.repos()
        [generation] = workspace.catalog.generations(repo)
        [found] = workspace.manifest(generation).verdicts()
        return found


def test_a_file_that_cannot_be_cut_at_all_is_left_out_until_it_changes_and_the_others_are_indexed(lab: Lab) -> None:
    raises = Raises(KeyError, plainly=True)
    lab.chunker = InlineChunker(classify, raises)
    result = lab.sync()
    assert result.errors == (
        FileError(
            "b/odd.py", "quarantined until it changes: it raises KeyError; as plain lines too, it raises KeyError"
        ),
    )
    assert (result.files.total, result.files.skipped, result.files.plain) == (2, {"quarantined": 1}, 0)
    assert lab.paths() == {"a.py", "c.py"}
    raises.asked.clear()
    again = lab.sync(full=True)
    assert (raises.asked, again.errors, again.files.skipped) == ([], (), {"quarantined": 1})
    raises.plainly = False
    lab.write({"b/odd.py": "odd = 2\n"})
    assert lab.sync().files.plain == 1
    assert lab.text_of("b/odd.py") == "odd = 2\n"


def test_a_new_fingerprint_tries_again(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.chunker = InlineChunker(classify, Raises(IndexError))
    assert lab.sync().files.plain == 1
    lab.chunker = InlineChunker(classify)
    assert lab.sync(full=True).files.plain == 1  # of this content nothing else is expected
    monkeypatch.setattr("reposyncd.chunking.identity.CHUNKER_VERSION", 1000)
    assert lab.sync().files.plain == 0
    lab.assert_equals_an_index_built_from_scratch()


def test_the_line_that_is_continued_by_none_is_cut_as_code() -> None:
    for name in ("a.h", "a.c", "a.cpp", "a.sh", "a.ex"):
        future = InlineChunker(classify).begin(name, b"\\\n", "0")
        assert future.result() == Cut(chunk_plainly(name, "\\\n"))


class Unable:
    """A chunker that cannot cut for now."""

    def __init__(self, error: Exception) -> None:
        self._error = error
        self._inner = InlineChunker(classify)

    def start(self) -> None: ...

    def begin(self, path: str, data: bytes, digest: str, *, allow_secrets: bool = False) -> Future[Cut]:
        if not path.endswith("odd.py"):
            return self._inner.begin(path, data, digest, allow_secrets=allow_secrets)
        future: Future[Cut] = Future()
        future.set_exception(self._error)
        return future

    def release(self) -> None: ...

    @property
    def stalled_s(self) -> float:
        return 0.0

    def close(self) -> None: ...


def test_a_file_that_cannot_be_cut_for_now_keeps_its_chunks_and_is_tried_again(lab: Lab) -> None:
    lab.sync()
    lab.write({"a.py": "one = 11\n", "b/odd.py": "odd = 11\n"})
    lab.chunker = Unable(UncutError("the chunking process died of SIGKILL, 4 times; it will be retried"))
    result = lab.sync()
    assert [error.path for error in result.errors] == ["b/odd.py"]
    assert (lab.text_of("a.py"), lab.text_of("b/odd.py")) == ("one = 11\n", "odd = 1\n")
    lab.chunker = InlineChunker(classify)
    assert lab.sync().files.modified == 1
    lab.assert_equals_an_index_built_from_scratch()


def test_trouble_that_concerns_every_file_is_waited_out_by_the_whole_sync(lab: Lab) -> None:
    lab.variables["REPOSYNCD_STORE__PATIENCE"] = "0"
    lab.chunker = Unable(TransientStoreError("the chunking process could not be started: no memory"))
    with pytest.raises(TransientStoreError, match="no memory"):
        lab.sync()
    lab.chunker = InlineChunker(classify)
    lab.sync()
    lab.assert_equals_an_index_built_from_scratch()
