"""What is never indexed, wherever it appears: our own state, and file systems whose files the kernel generates.

Directories are recognised by device and inode, and file systems by their type in the mount table, but never by name. So
a link or a bind mount makes no difference.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from reposyncd.config.places import TOKEN
from reposyncd.tree.mounts import pseudo_devices


@dataclass(frozen=True, slots=True)
class OffLimits:
    """What no scan enters. By default, nothing is off limits."""

    state_dir: str = ""
    """absolute, for messages"""
    state: tuple[int, int] | None = None
    """device and inode of the state directory, as in `stat`; None if it does not exist"""
    token: tuple[int, int] | None = None
    """the same for the file with the API's token, which can appear elsewhere through a hard link or a bind mount"""
    pseudo: Mapping[int, str] = field(default_factory=dict)
    """the kernel's own file systems that are mounted: device to type"""

    @classmethod
    def of(cls, state_dir: str, mountinfo: str | None = None) -> OffLimits:
        """The present state of this machine. `mountinfo` is as for `mounts.pseudo_devices`."""
        state_dir = os.path.abspath(state_dir)
        token = _identity(os.path.join(state_dir, TOKEN))
        return cls(state_dir, _identity(state_dir), token, pseudo_devices(mountinfo))

    def holds(self, found: os.stat_result) -> bool:
        """Whether this directory is the state directory, or on one of the kernel's own file systems.

        Directories below the state directory need no check, because no scan enters the state directory.
        """
        return found.st_dev in self.pseudo or (found.st_dev, found.st_ino) == self.state

    def is_token(self, found: os.stat_result) -> bool:
        """Whether this file holds the API's token."""
        return (found.st_dev, found.st_ino) == self.token

    def refusal(self, root: str) -> str | None:
        """Why this directory cannot be a repository, and what to choose instead; None if it can be one.

        The path is absolute and without symbolic links. A directory that contains something off limits can be a
        repository: scans leave that part out. So can a directory that cannot be examined now: the next scan reports the
        error.
        """
        if root == os.sep:
            return (
                "/ is the whole machine, with every user's files and the system's; "
                "choose the directories that hold source code"
            )
        place = root
        while place != os.sep:
            if self.state and _identity(place) == self.state:
                return (
                    f"{root} is, or is inside, reposyncd's own state directory ({self.state_dir}), which contains the "
                    "index and the API's token; choose a directory that holds source code"
                )
            place = os.path.dirname(place)
        try:
            type = self.pseudo.get(os.stat(root).st_dev)
        except OSError:
            return None
        if type:
            return (
                f"{root} is on {type}, a file system whose files the kernel generates; "
                "choose a directory that holds source code"
            )
        return None


def _identity(path: str) -> tuple[int, int] | None:
    """Device and inode; None if the file or directory cannot be examined."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
