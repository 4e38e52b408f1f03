"""Reduces the events of watched directories to hints: which directories have to be listed again.

A hint says where something has changed, but not what. A superfluous hint costs only one listing, and equal hints are
merged. No hint waits for the other half of a rename. Pure.
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
"""The beginning of the names of our own files, which are created to appear in the event queue. They cause no hints."""

_HEADER = struct.Struct("iIII")
"""struct inotify_event, without the name: watch descriptor, mask, cookie, size of the name with its NULs."""

_NO_WATCH = -1
"""The watch descriptor of an event that concerns the whole queue."""

_RULE_FILES = frozenset(os.fsencode(name) for name in (GITIGNORE, OWN_IGNORE, ".git"))
_DOT = ord(".")
"""All names in `_RULE_FILES` begin with it."""

Hint = tuple[str, str, bool]
"""(root, path relative to it, whether the whole tree at the path has to be listed again, or only the directory).

The path is valid UTF-8. A directory with another name cannot be on record, so a change in it only concerns the
directory that contains it."""


class Entry(NamedTuple):
    """Where a watched directory is within a root."""

    root: str
    path: str
    rules: IgnoreRules | None
    """the ignore rules in the directory; None until they are known"""
    other: Entry | None
    """where it is within the next root that contains it; the kernel has only one watch for each inode"""


def chain(entry: Entry | None) -> Iterator[Entry]:
    """The entry, and those of the other roots."""
    while entry is not None:
        yield entry
        entry = entry.other


def without(entry: Entry | None, root: str) -> Entry | None:
    """The chain without the entry of this root."""
    rest = None
    for each in chain(entry):
        if each.root != root:
            rest = each._replace(other=rest)
    return rest


class ReducedEvents(NamedTuple):
    """What a buffer of events means."""

    hints: dict[Hint, None]
    """an ordered set"""
    ended: list[int]
    """descriptors of watches that the kernel has removed"""
    cookies: list[bytes]
    """names of our own files that have appeared"""
    overflowed: bool
    """whether events were lost"""


def reduce(buffer: bytes, entries: Mapping[int, Entry], cookies_wd: int | None) -> ReducedEvents:
    """Reduces complete events, as read(2) returns them. Events of watches without an entry are ignored.

    A checkout or a build causes very many events, so an event that repeats another one in the buffer costs no call.
    """
    unpack, header_bytes = _HEADER.unpack_from, _HEADER.size
    hints: dict[Hint, None] = {}
    ended: list[int] = []
    cookies: list[bytes] = []
    overflowed = False
    listed: set[int] = set()
    """watches whose further events of files cannot add a hint, unless the name of the file begins with a dot"""
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
            # For a directory other than the root, an earlier event has already said why.
            hints.update(((each.root, "", True), None) for each in chain(entries.get(wd)) if not each.path)
        else:
            hints.update(((each.root, each.path, True), None) for each in chain(entries.get(wd)))
    return ReducedEvents(hints, ended, cookies, overflowed)


def _note(hints: dict[Hint, None], entry: Entry, name: bytes, is_directory: bool) -> bool:
    """Adds the hints for an event of the entry `name` in a directory. Returns whether there is one for the directory in
    all roots."""
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
