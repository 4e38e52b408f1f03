"""What is never indexed, whatever it lies in: our own state, and file systems whose files the kernel makes up.

Directories are told apart by device and inode, and file systems by their type in the mount table, never by a name: a
link or a bind mount is no way around.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from reposyncd.config.places import TOKEN
from reposyncd.tree.mounts import pseudo_devices


@dataclass(frozen=True, slots=True)
class OffLimits:
    """What no scan enters. By default nothing is off limits."""

    state_dir: str = ""
    """absolute, for messages"""
    state: tuple[int, int] | None = None
    """device and inode of the state directory, as `stat` has them; None while there is none"""
    token: tuple[int, int] | None = None
    """the same of the API's token, which a hard link or a bind mount may show elsewhere"""
    pseudo: Mapping[int, str] = field(default_factory=dict)
    """device to type of the kernel's file systems that are mounted"""

    @classmethod
    def of(cls, state_dir: str, mountinfo: str | None = None) -> OffLimits:
        """As it is now. `mountinfo` is as for `mounts.pseudo_devices`."""
        state_dir = os.path.abspath(state_dir)
        token = _identity(os.path.join(state_dir, TOKEN))
        return cls(state_dir, _identity(state_dir), token, pseudo_devices(mountinfo))

    def holds(self, found: os.stat_result) -> bool:
        """Whether this directory is the state directory, or on a file system of the kernel's. What is below the state
        directory is not asked for: nobody gets there without passing it."""
        return found.st_dev in self.pseudo or (found.st_dev, found.st_ino) == self.state

    def is_token(self, found: os.stat_result) -> bool:
        """Whether this file is the API's token."""
        return (found.st_dev, found.st_ino) == self.token

    def refusal(self, root: str) -> str | None:
        """Why this directory (absolute, without symbolic links) cannot be a repository, and what can; None if it can.

        One that contains something that is off limits can be: a scan leaves that out. One that cannot be looked at
        can be as well; whoever looks at it next is told.
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
                    f"{root} is, or lies in, reposyncd's own state directory ({self.state_dir}), which holds the index "
                    "and the API's token; choose a directory that holds source code"
                )
            place = os.path.dirname(place)
        try:
            type = self.pseudo.get(os.stat(root).st_dev)
        except OSError:
            return None
        if type:
            return (
                f"{root} is on {type}, a file system whose files the kernel makes up; "
                "choose a directory that holds source code"
            )
        return None


def _identity(path: str) -> tuple[int, int] | None:
    """Which file or directory it is; None if that cannot be said."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
