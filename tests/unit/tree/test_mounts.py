"""Which file systems have changes that cause no event."""

from __future__ import annotations

import pytest

from reposyncd.tree.mounts import blind_spot


def table(*mounts: tuple[str, str]) -> str:
    """Of (mount point, type), as proc(5) has it."""
    return "".join(
        f"{30 + number} 22 0:{number} / {place} rw,relatime shared:1 - {type} source rw\n"
        for number, (place, type) in enumerate(mounts)
    )


@pytest.mark.parametrize(
    "type", ["nfs", "nfs4", "cifs", "smb3", "9p", "fuse", "fuse.sshfs", "fuse.rclone", "virtiofs", "ceph"]
)
def test_a_file_system_that_others_write_to_is_blind(type: str) -> None:
    found = blind_spot("/mnt/code/app", table(("/", "ext4"), ("/mnt/code", type)))
    assert found is not None
    assert f"on {type}, where changes by" in found


@pytest.mark.parametrize("type", ["ext4", "btrfs", "xfs", "zfs", "tmpfs", "overlay", "fuseblk", "vfat"])
def test_a_local_file_system_is_not(type: str) -> None:
    assert blind_spot("/mnt/code/app", table(("/", "nfs"), ("/mnt/code", type))) is None


def test_the_longest_mount_point_counts_and_of_two_on_one_place_the_last() -> None:
    assert blind_spot("/a/b", table(("/", "ext4"), ("/a", "nfs4"), ("/a/b", "ext4"))) is None
    assert blind_spot("/a/b", table(("/", "ext4"), ("/a", "ext4"), ("/a", "nfs4"))) is not None
    assert blind_spot("/a/b", table(("/", "ext4"), ("/a", "nfs4"), ("/a", "ext4"))) is None
    assert blind_spot("/ab", table(("/", "ext4"), ("/a", "nfs4"))) is None


def test_a_mount_below_the_root_counts_and_is_named() -> None:
    found = blind_spot("/a", table(("/", "ext4"), ("/a/data", "nfs4")))
    assert found == "/a/data is on nfs4, where changes by other machines cause no event"


def test_spaces_in_mount_points_are_escaped_and_other_lines_do_not_matter() -> None:
    assert blind_spot("/my code/app", table(("/", "ext4"), ("/my\\040code", "cifs")) + "\nnonsense\n") is not None


def test_where_nothing_is_known_nothing_is_said() -> None:
    assert blind_spot("/a", "") is None


def test_this_machines_own_table_can_be_read() -> None:
    assert blind_spot("/proc") is None


def test_a_mount_point_that_is_not_utf8_is_named_so_that_it_can_be_shown() -> None:
    found = blind_spot("/a", table(("/", "ext4"), ("/a/caf\udce9", "nfs4")))
    assert found == "/a/caf\\udce9 is on nfs4, where changes by other machines cause no event"
