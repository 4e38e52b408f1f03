"""Reads the mount table: where inotify does not notice every change, and which file systems are the kernel's own."""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from reposyncd.paths import contains
from reposyncd.text import encodable

_MOUNTINFO = "/proc/self/mountinfo"

_SHARED = {
    **dict.fromkeys(("nfs", "nfs4", "cifs", "smb2", "smb3", "smbfs", "9p", "afs", "ceph"), "other machines"),
    **dict.fromkeys(("glusterfs", "lustre", "gpfs", "beegfs", "ocfs2", "gfs2"), "other machines"),
    **dict.fromkeys(("vboxsf", "vmhgfs", "prl_fs", "virtiofs", "drvfs"), "the host"),
    "fuse": "the program behind it",
}
"""Type of file system to who can make changes that cause no event here. A type `fuse.x` counts as `fuse`. overlay is
not in this table, since changes through it cause events; nor is fuseblk, which is a local disk."""

_PSEUDO = frozenset(
    (
        *("proc", "sysfs", "devtmpfs", "devpts", "cgroup", "cgroup2", "debugfs", "tracefs", "securityfs", "bpf"),
        *("configfs", "pstore", "efivarfs", "fusectl", "mqueue", "hugetlbfs", "binfmt_misc", "selinuxfs", "smackfs"),
        *("apparmorfs", "nsfs", "pipefs", "sockfs", "rpc_pipefs", "nfsd", "resctrl", "binder", "functionfs", "xenfs"),
        *("cpuset", "ipathfs", "spufs", "usbfs", "devfs"),
    )
)
"""Types of file systems whose files the kernel generates. Reading one may block, never end, or have side effects, and
two reads may differ. tmpfs and ramfs are not among them: they contain what somebody wrote."""

_ESCAPE = re.compile(r"\\([0-7]{3})")


class _Mount(NamedTuple):
    device: int
    """as in `stat`; some file systems, such as btrfs, have other numbers in `stat`, but none of the kernel's own"""
    place: str
    type: str


def blind_spot(root: str, mountinfo: str | None = None) -> str | None:
    """Why inotify does not notice every change below the root, as the end of a sentence; None if it does.

    The file system of the root (an absolute real path) counts, and those of the mounts below it. `mountinfo` is the
    text of /proc/self/mountinfo (proc(5)), which is read by default. If it cannot be read, the answer is None.
    """
    mounts = _mounts(mountinfo)
    covering = [mount for mount in mounts if contains(mount.place, root)]
    # If several file systems are mounted at the same place, only the last one is visible.
    seen = {mount.place: mount.type for mount in mounts if contains(root, mount.place) and mount.place != root}
    if covering:
        longest = max(len(mount.place) for mount in covering)
        seen = {root: [mount.type for mount in covering if len(mount.place) == longest][-1]} | seen
    for place, type in seen.items():
        if who := _SHARED.get("fuse" if type.startswith("fuse.") else type):
            where = "it" if place == root else encodable(place)
            return f"{where} is on {type}, where changes by {who} cause no event"
    return None


def pseudo_devices(mountinfo: str | None = None) -> dict[int, str]:
    """The kernel's own file systems that are mounted: device (as in `stat`) to type.

    `mountinfo` is as for `blind_spot`. If it cannot be read, the answer is empty.
    """
    return {mount.device: mount.type for mount in _mounts(mountinfo) if mount.type in _PSEUDO}


def _mounts(mountinfo: str | None) -> list[_Mount]:
    if mountinfo is None:
        try:
            with open(_MOUNTINFO, encoding="utf-8", errors="surrogateescape") as file:
                mountinfo = file.read()
        except OSError:
            return []
    return [mount for mount in map(_parsed, mountinfo.splitlines()) if mount]


def _parsed(line: str) -> _Mount | None:
    before, separator, after = line.partition(" - ")
    fields = before.split(" ")
    if not separator or len(fields) < 5:
        return None
    major, _, minor = fields[2].partition(":")
    if not (major.isdecimal() and minor.isdecimal()):
        return None
    device = os.makedev(int(major), int(minor))
    return _Mount(device, _ESCAPE.sub(lambda found: chr(int(found[1], 8)), fields[4]), after.split(" ")[0])
