"""Which directory serves, and what a crash may leave beside it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from reposyncd.store.chroma.directory import StoreDirectory


@pytest.fixture
def place(tmp_path: Path) -> StoreDirectory:
    place = StoreDirectory(str(tmp_path))
    place.ensure()
    return place


def stores(place: StoreDirectory) -> list[Path]:
    return sorted(Path(place.link).parent.glob("store-*"))


def test_a_store_is_made_private_and_known_under_its_link(place: StoreDirectory) -> None:
    assert place.current() == str(stores(place)[0])
    assert stat.S_IMODE(stores(place)[0].stat().st_mode) == 0o700
    assert place.is_empty()


def test_making_sure_of_it_again_changes_nothing(place: StoreDirectory) -> None:
    Path(place.link, "chroma.sqlite3").write_bytes(b"x")
    before = place.current()
    place.ensure()
    assert place.current() == before
    assert not place.is_empty()


def test_another_directory_serves_after_one_step_and_the_old_one_is_removed_after_that(place: StoreDirectory) -> None:
    old = place.current()
    new = place.new()
    place.serve(new)
    assert place.current() == new
    assert old
    assert os.path.exists(old)
    place.clean()
    assert [str(each) for each in stores(place)] == [new]


def test_what_a_crash_left_is_removed_at_the_next_start(place: StoreDirectory) -> None:
    Path(place.link, "chroma.sqlite3").write_bytes(b"x")
    before = place.current()
    half = Path(place.new())
    (half / "deep").mkdir()
    (half / "deep" / "file").write_bytes(b"x")
    Path(place.link).with_name("chroma.next").symlink_to(half.name)
    place.ensure()
    assert place.current() == before
    assert len(stores(place)) == 1
    assert not Path(place.link).with_name("chroma.next").is_symlink()


def test_a_link_that_leads_nowhere_is_replaced(place: StoreDirectory) -> None:
    os.rmdir(str(place.current()))
    assert place.current() is None
    place.ensure()
    assert place.current() is not None


def test_a_directory_in_the_place_of_the_link_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / "chroma").mkdir()
    (tmp_path / "chroma" / "chroma.sqlite3").write_bytes(b"x")
    place = StoreDirectory(str(tmp_path))
    place.ensure()
    assert Path(place.link).is_symlink()
    assert Path(place.link, "chroma.sqlite3").read_bytes() == b"x"


def test_the_quarantine_keeps_one(place: StoreDirectory) -> None:
    Path(place.link, "chroma.sqlite3").write_bytes(b"first")
    place.quarantine()
    place.ensure()
    Path(place.link, "chroma.sqlite3").write_bytes(b"second")
    kept = Path(place.quarantine())
    assert kept == Path(place.link).parent / "quarantine" / "chroma"
    assert (kept / "chroma.sqlite3").read_bytes() == b"second"
    assert place.current() is None
    assert list(kept.parent.iterdir()) == [kept]


def test_what_a_person_has_put_beside_it_is_never_removed(place: StoreDirectory) -> None:
    theirs = [Path(place.link).with_name(name) for name in ("store-front", "store-0000000", "store-deadbeef0", "store")]
    for path in theirs:
        path.mkdir()
        (path / "precious").touch()
    place.ensure()
    assert all((path / "precious").exists() for path in theirs)
