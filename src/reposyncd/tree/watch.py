"""What changes below the roots, as the kernel tells it: hints of which directories to list again.

What inotify does not see gives no hint: writes through a shared mapping or through a hard link outside of the tree,
other machines' writes to a network file system.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Collection, Container, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from reposyncd.errors import safe_message
from reposyncd.paths import is_within
from reposyncd.tree.events import COOKIE, Entry, chain, reduce, without
from reposyncd.tree.ignore import IgnoreRules
from reposyncd.tree.inotify import Inotify

_DESCRIPTORS = "/proc/self/fd"

_REMOVED_AT_ONCE = 1024
"""Watches. Each that is removed puts an event in the queue, which holds 16384 by default, and must not overflow for
that."""

_PACE_S = 1.0
"""How long removing watches waits for the reader to come by. On a busy machine it does so late. If it does not at all,
an overflow is the lesser evil."""


@dataclass(slots=True)
class _Root:
    watched: dict[str, int] = field(default_factory=dict)
    """path to watch descriptor, whose entry of this root has that path"""
    unwatched: dict[str, int] = field(default_factory=dict)
    """path to errno"""


@dataclass(slots=True, eq=False)
class _Mark:
    """A place in the queue that somebody waits for."""

    woken: threading.Event = field(default_factory=threading.Event)
    passed: bool = False
    """Set before it is woken; if it is not, the queue has overflowed or the reader is dead."""


class Watches:
    """Watches of directories, for any number of roots, on one inotify descriptor. Thread-safe.

    `on_hint(root, path, recursive)`: list the directory `path` (relative to the root, "" for it) again; if recursive,
    the tree at `path`, which may be gone or have become the root of something else. `on_overflow()`: events were
    lost, anything may have changed; the watches are all there still. Both are called from the reader's thread, must
    be quick and must not call back. What they raise ends the reader: `on_death(why)` is told, once. There is no
    watch then, and never will be.
    """

    def __init__(
        self,
        cookies: str,
        *,
        on_hint: Callable[[str, str, bool], None],
        on_overflow: Callable[[], None],
        on_death: Callable[[str], None],
    ) -> None:
        """`cookies` is a directory of our own (made 0700 if absent), in which `settle` makes files. Starts the reader.

        Raises OSError: EMFILE if no inotify instance or no file descriptor is to be had, ENOSPC if cookies cannot be
        watched, EAGAIN if no thread can be started.
        """
        self._cookies = cookies
        self._on_hint = on_hint
        self._on_overflow = on_overflow
        self._on_death = on_death
        self._lock = threading.Lock()
        """Around the tables, and around adding a watch and entering it there: who has held it after reading an event
        finds its watch."""
        self._entries: dict[int, Entry] = {}
        """Replaced, never changed, so that the reader looks up without the lock."""
        self._roots: dict[str, _Root] = {}
        self._marks: dict[int | bytes, _Mark] = {}
        """by watch descriptor, for its end; by name of a cookie"""
        self._cookies_wd: int | None = None
        """that of the last time that somebody settled"""
        self._ended: str | None = None
        """why there is no reader"""
        self._by_descriptor = os.path.isdir(_DESCRIPTORS)
        self._inotify = Inotify(on_events=self._take, on_death=self._die)
        try:
            self._watch_cookies()
            for name in os.listdir(cookies):
                if os.fsencode(name).startswith(COOKIE):  # of one that was killed
                    with suppress(FileNotFoundError):
                        os.unlink(os.path.join(cookies, name))
            self._inotify.start()
        except OSError:
            self._inotify.close()
            raise
        except RuntimeError as error:
            self._inotify.close()
            raise OSError(errno.EAGAIN, str(error)) from error

    def watch(self, root: str, path: str, fd: int) -> int:
        """Watches the directory that is open as fd, `path` relative to root ("" for it), before it is listed.

        Returns 0, or the errno (ENOSPC, EACCES, ...; EBADF without a reader) with which it could not be watched.
        Idempotent, but forgets the rules that were learned. A directory that was known under another path of the root
        is known under this one from now on. Without /proc it is the path that is watched: whatever is there by then,
        and nothing beyond PATH_MAX.
        """
        if self._by_descriptor:
            name = b"%s/%d/." % (_DESCRIPTORS.encode(), fd)
        else:
            name = os.fsencode(os.path.join(root, path))
        with self._lock:
            tables = self._roots.setdefault(root, _Root())
            try:
                wd = self._inotify.add(name)
            except OSError as error:
                self._leave(root, tables.watched.pop(path, None))
                tables.unwatched[path] = error.errno or errno.EIO
                return tables.unwatched[path]
            tables.unwatched.pop(path, None)
            before = tables.watched.get(path)
            if before != wd:
                self._leave(root, before)
            rest = None
            for entry in chain(self._entries.get(wd)):
                if entry.root != root:
                    rest = entry._replace(other=rest)
                elif entry.path != path:
                    del tables.watched[entry.path]
                else:
                    path = entry.path  # the string that the tables hold, not another that is equal
            self._entries[wd] = Entry(root, path, None, rest)
            tables.watched[path] = wd
            return 0

    def learn(self, root: str, path: str, rules: IgnoreRules) -> None:
        """From now on entries of the directory that the rules ignore give no hints, ignore files and .git excepted.

        Until `watch` is called for it again. Without effect if the directory is not watched.
        """
        with self._lock:
            tables = self._roots.get(root)
            wd = tables.watched.get(path) if tables else None
            if wd is not None:
                self._entries[wd] = Entry(root, path, rules, without(self._entries[wd], root))

    def prune(self, root: str, tops: Collection[str], keep: Container[str]) -> None:
        """Removes the watches of the directories at or below any of `tops` ("" is everything) that are not in `keep`.

        What is noted as unwatched too. One pass over the root's directories, however many tops.
        """
        tops = frozenset(tops)
        with self._lock:
            tables = self._roots.get(root)
            if tables is None:
                return
            gone = [path for path in tables.watched if path not in keep and is_within(path, tops)]
            orphans = [wd for wd in (tables.watched.pop(path) for path in gone) if self._strike(root, wd)]
            for path in [path for path in tables.unwatched if path not in keep and is_within(path, tops)]:
                del tables.unwatched[path]
        self._remove(orphans)

    def drop(self, root: str) -> None:
        """Forgets a root."""
        with self._lock:
            tables = self._roots.pop(root, None)
            orphans = [wd for wd in tables.watched.values() if self._strike(root, wd)] if tables else []
        self._remove(orphans)

    def count(self, root: str) -> int:
        """Directories of the root that are watched."""
        with self._lock:
            tables = self._roots.get(root)
            return len(tables.watched) if tables else 0

    def unwatched(self, root: str) -> dict[str, int]:
        """Those that could not be: path to errno."""
        with self._lock:
            tables = self._roots.get(root)
            return dict(tables.unwatched) if tables else {}

    def total(self) -> int:
        """Directories that are watched, in all roots; the kernel counts that of the cookies too."""
        return len(self._entries)

    def settle(self, timeout_s: float) -> bool:
        """Returns True when every event of before the call has been handed to on_hint, or its loss to on_overflow.

        False: not in time. Makes a file (0600) among the cookies, waits until the reader has seen it in the same
        queue, and removes it. Raises OSError if the file cannot be made or there is no reader.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            mark = self._await_cookie(deadline)
            if self._ended is not None:
                raise OSError(errno.EBADF, f"nobody reads file events any more: {self._ended}")
            if mark.passed:
                return True
            if time.monotonic() >= deadline:
                return False
            # The queue has overflowed, and the cookie with it: another one.

    def stalled_s(self) -> float:
        """For how long the reader has left events lie, as far as earlier calls can tell; 0 while it waits for some."""
        return self._inotify.stalled_s()

    def close(self) -> None:
        """Ends the reader; idempotent; also fine when the reader is dead. No hint comes after it.

        Waits some seconds at most for a hint that is being handed over.
        """
        self._end("it was closed")
        self._inotify.close()

    def _await_cookie(self, deadline: float) -> _Mark:
        key, mark = COOKIE + os.urandom(8).hex().encode(), _Mark()
        path = os.path.join(self._cookies, key.decode())
        with self._lock:
            if self._ended is not None:
                return mark
            self._watch_cookies()
            self._marks[key] = mark
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            try:
                mark.woken.wait(max(0.0, deadline - time.monotonic()))
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(path)
        finally:
            with self._lock:
                self._marks.pop(key, None)
        return mark

    def _watch_cookies(self) -> None:
        """Each time anew, since somebody may have removed the directory, or put another in its place."""
        os.makedirs(self._cookies, mode=0o700, exist_ok=True)
        wd = self._inotify.add(os.fsencode(self._cookies))
        before, self._cookies_wd = self._cookies_wd, wd
        if before not in (None, wd) and before not in self._entries:
            self._inotify.remove(before)

    def _leave(self, root: str, wd: int | None) -> None:
        """Forgets the entry that a watch has for the root, and the watch if that was its last."""
        if wd is not None and self._strike(root, wd):
            self._inotify.remove(wd)

    def _strike(self, root: str, wd: int) -> bool:
        """Forgets the entry that a watch has for the root; whether nobody needs the watch any more."""
        rest = without(self._entries.get(wd), root)
        if rest is not None:
            self._entries[wd] = rest  # at once: the reader, who looks it up without the lock, must always find it
            return False
        self._entries.pop(wd, None)
        return wd != self._cookies_wd

    def _remove(self, orphans: list[int]) -> None:
        """Removes watches, no faster than the reader takes the events of that."""
        is_pacing = True
        for at in range(0, len(orphans), _REMOVED_AT_ONCE):
            mark = _Mark()
            with self._lock:
                # One of them may have been watched again, by its descriptor.
                removed = [
                    wd
                    for wd in orphans[at : at + _REMOVED_AT_ONCE]
                    if wd not in self._entries and self._inotify.remove(wd)
                ]
                if removed and is_pacing:
                    self._marks[removed[-1]] = mark
            if removed and is_pacing:
                is_pacing = mark.woken.wait(_PACE_S)
                with self._lock:
                    self._marks.pop(removed[-1], None)

    # From here on: the reader's thread.

    def _take(self, buffer: bytes) -> None:
        with self._lock:  # so that the watches of all these events have been entered: see _lock
            cookies_wd = self._cookies_wd
        hints, ended, cookies, overflowed = reduce(buffer, self._entries, cookies_wd)
        if ended:
            self._forget(ended)
        for root, path, recursive in hints:
            if self._ended is not None:
                return
            self._on_hint(root, path, recursive)
        if overflowed:
            self._on_overflow()
        self._reach(ended)
        self._reach(cookies)
        if overflowed:
            self._wake()

    def _reach(self, keys: Sequence[int | bytes]) -> None:
        with self._lock:
            marks = [self._marks.pop(key) for key in keys if key in self._marks]
        for mark in marks:
            mark.passed = True
            mark.woken.set()

    def _wake(self) -> None:
        """Of those whose mark is lost, or will never come."""
        with self._lock:
            marks = list(self._marks.values())
        for mark in marks:
            mark.woken.set()

    def _forget(self, ended: list[int]) -> None:
        """The kernel has removed the watches."""
        with self._lock:
            for wd in ended:
                for entry in chain(self._entries.pop(wd, None)):
                    del self._roots[entry.root].watched[entry.path]

    def _die(self, error: BaseException) -> None:
        why = safe_message(error)
        if self._end(why):
            self._on_death(why)

    def _end(self, why: str) -> bool:
        """Nothing is watched any more; False if that was so before."""
        with self._lock:
            if self._ended is not None:
                return False
            self._ended = why
            self._entries.clear()
            self._roots.clear()
        self._wake()
        return True
