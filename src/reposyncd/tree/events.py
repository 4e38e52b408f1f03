"""Events of watched directories, reduced to hints of what to list again.

A hint says where to look, never what is there: one too many costs a listing. So there are as few as can be, and none
waits for the other half of a rename.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from reposyncd.paths import join
from reposyncd.text import is_utf8
from reposyncd.tree.ignore import GITIGNORE, OWN_IGNORE, IgnoreRules
from reposyncd.tree.inotify import IGNORED, IS_DIR, OVERFLOW

COOKIE = b"settle-"
"""What the names of files begin with that are made to be seen in the queue. They give no hints."""

_HEADER = struct.Struct("iIII")
"""struct inotify_event before the name: watch descriptor, mask, cookie, bytes of the name with its NULs."""

_NO_WATCH = -1
"""The watch descriptor of what concerns the queue and no watch."""

_RULE_FILES = frozenset(os.fsencode(name) for name in (GITIGNORE, OWN_IGNORE, ".git"))
_DOT = ord(".")
"""What the names of all of them begin with."""

Hint = tuple[str, str, bool]
"""root, path relative to it, and whether the tree there is meant or the directory alone. The path is valid UTF-8: what
has another name is on no record, and is no more than an entry of the directory that it is in"""


class Entry(NamedTuple):
    """Where a watched directory is, in one of the roots that it is in."""

    root: str
    path: str
    rules: IgnoreRules | None
    """those in the directory; None until they are known"""
    other: Entry | None
    """where it is in the next root: the kernel has one watch for an inode"""


def chain(entry: Entry | None) -> Iterator[Entry]:
    """The entry and its others."""
    while entry is not None:
        yield entry
        entry = entry.other


def without(entry: Entry | None, root: str) -> Entry | None:
    """The chain with no entry of the root."""
    rest = None
    for each in chain(entry):
        if each.root != root:
            rest = each._replace(other=rest)
    return rest


class Batch(NamedTuple):
    """What a buffer of events comes to."""

    hints: dict[Hint, None]
    """an ordered set"""
    ended: list[int]
    """watches that the kernel has removed"""
    cookies: list[bytes]
    overflowed: bool
    """whether events were lost"""


def reduce(buffer: bytes, entries: Mapping[int, Entry], cookies_wd: int | None) -> Batch:
    """Whole events, as read(2) gives them, to what they come to; events of watches without an entry come to nothing.

    Storms run through here: nothing is called for an event that repeats another of the buffer.
    """
    unpack, header_bytes = _HEADER.unpack_from, _HEADER.size
    hints: dict[Hint, None] = {}
    ended: list[int] = []
    cookies: list[bytes] = []
    overflowed = False
    listed: set[int] = set()
    """watches of which files have given all the hints that they can, unless their names begin with a dot"""
    seen: set[tuple[int, bytes, int]] = set()
    at, end = 0, len(buffer)
    while at < end:
        wd, mask, _, length = unpack(buffer, at)
        start = at + header_bytes
        at = start + length
        if length:
            if wd in listed and not mask & IS_DIR and buffer[start] != _DOT:
                continue
            name = buffer[start:at].rstrip(b"\0")
            event = (wd, name, mask & IS_DIR)
            if event in seen:
                continue
            seen.add(event)
            if wd == cookies_wd and name.startswith(COOKIE):
                cookies.append(name)
            elif (entry := entries.get(wd)) is not None and _note(hints, entry, name, bool(mask & IS_DIR)):
                listed.add(wd)
        elif wd == _NO_WATCH:
            overflowed = overflowed or bool(mask & OVERFLOW)
        elif mask & IGNORED:
            ended.append(wd)
            # Of other directories than the root, an event of before says why.
            hints.update(((each.root, "", True), None) for each in chain(entries.get(wd)) if not each.path)
        else:
            hints.update(((each.root, each.path, True), None) for each in chain(entries.get(wd)))
    return Batch(hints, ended, cookies, overflowed)


def _note(hints: dict[Hint, None], entry: Entry, name: bytes, is_directory: bool) -> bool:
    """Adds what an event of a directory's entry `name` comes to; whether all its roots are to list the directory."""
    is_rule_file = name in _RULE_FILES
    shown = os.fsdecode(name)
    everywhere = True
    for root, path, rules, _ in chain(entry):
        inner = join(path, shown)
        if is_rule_file:
            hints[root, path, True] = None
            everywhere = False
        elif rules is not None and rules.ignores(inner, is_directory):
            everywhere = False
        else:
            hints[root, path, False] = None
            if is_directory and is_utf8(shown):
                hints[root, inner, True] = None
    return everywhere
