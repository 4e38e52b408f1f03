"""Whatever is done to a tree, the index follows without being asked, and equals one built from scratch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.service import Live, live, until


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Live]:
    lab = live(tmp_path)
    lab.write({"a.py": "one = 1\n", "b/c.py": "two = 2\n", "b/d/e.md": "# Three\n\ntext\n"})
    with lab.running():
        yield lab


def test_a_save_is_in_the_index_a_moment_later(lab: Live) -> None:
    lab.write({"a.py": "one = 11\n"})
    until(lambda: lab.text_of("a.py") == "one = 11\n", "the new text is stored")
    lab.assert_current()


def test_an_atomic_save(lab: Live) -> None:
    lab.write({"a.py.tmp": "one = 12\n"})
    (lab.root / "a.py.tmp").rename(lab.root / "a.py")
    lab.assert_current()
    assert lab.text_of("a.py") == "one = 12\n"
