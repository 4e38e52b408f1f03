"""Watches directories with inotify, and gives hints: which directories have to be listed again.

inotify does not report every change. It misses writes through a shared memory mapping or through a hard link outside of
the tree, and writes by other machines to a network file system.
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
"""How many watches are removed at once. The kernel queues an event for each of them. This must not overflow the queue,
which holds 16384 events by default."""

_READER_WAIT_S = 1.0
"""How long the removal of watches waits for the reader, which may be late on a busy machine. If the reader makes no
progress at all, the rest is removed without waiting: an overflow is the lesser evil."""


@dataclass(slots=True)
class _Root:
    watched: dict[str, int] = field(default_factory=dict)
    """path to watch descriptor; the entry of the watch for this root has the same path"""
    unwatched: dict[str, int] = field(default_factory=dict)
    """path to errno, of directories that could not be watched"""


@dataclass(slots=True, eq=False)
class _Mark:
    """A point in the event queue that a thread waits for."""

    woken: threading.Event = field(default_factory=threading.Event)
    passed: bool = False
    """Whether the reader has reached it. If the thread is woken although it has not, the queue has overflowed or the
    reader is dead."""


class Watches:
    """Watches directories of any number of roots with one inotify descriptor. Thread-safe.

    `on_hint(root, path, recursive)` says that the directory `path` (relative to the root) has to be listed again; with
    `recursive`, the tree at `path`, which may also be gone or be another directory now. `on_overflow()` says that
    events were lost, so that anything may have changed; all watches still exist. The reader thread calls both. They
    must be quick, and must not call methods of this object. If one of them raises an exception, the reader ends and
    calls `on_death(reason)` once. After that, nothing is watched any more, and nothing can be.
    """

    def __init__(
        self,
        cookies: str,
        *,
        on_hint: Callable[[str, str, bool], None],
        on_overflow: Callable[[], None],
        on_death: Callable[[str], None],
    ) -> None:
        """Starts the reader. `cookies` is a directory of our own, in which `settle` creates files; created if absent
        (0700).

        Raises OSError: EMFILE if the system has no inotify instance or no file descriptor left, ENOSPC if `cookies`
        cannot be watched, EAGAIN if no thread can be started.
        """
        self._cookies = cookies
        self._on_hint = on_hint
        self._on_overflow = on_overflow
        self._on_death = on_death
        self._lock = threading.Lock()
        """Guards the tables. It is held while a watch is added to the kernel and to the tables. So a thread that has
        read an event and then acquires the lock finds the watch of the event."""
        self._entries: dict[int, Entry] = {}
        """By watch descriptor. Entries are replaced, never changed, so that the reader can look them up without the
        lock."""
        self._roots: dict[str, _Root] = {}
        self._marks: dict[int | bytes, _Mark] = {}
        """by the descriptor of a watch that is being removed, or by the name of a cookie"""
        self._cookies_wd: int | None = None
        """the watch on `cookies`, as of the last `settle`"""
        self._ended: str | None = None
        """why there is no reader any more; None while there is one"""
        self._by_descriptor = os.path.isdir(_DESCRIPTORS)
        self._inotify = Inotify(on_events=self._handle_events, on_death=self._die)
        try:
            self._watch_cookies()
            for name in os.listdir(cookies):
                if os.fsencode(name).startswith(COOKIE):  # a leftover of a process that was killed
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
        """Watches the directory that `fd` is open on; `path` is relative to the root. Call it before you list the
        directory.

        Returns 0, or the errno of the failure (ENOSPC, EACCES, ...; EBADF if there is no reader). Idempotent, but it
        forgets the rules that were passed to `learn`. If the directory was watched under another path of the root, it
        has only the new path now. Without /proc, the path is watched instead of the descriptor: whatever is there at
        that moment, and nothing longer than PATH_MAX.
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
                    path = entry.path  # the same string object as in the tables, to save memory
            self._entries[wd] = Entry(root, path, None, rest)
            tables.watched[path] = wd
            return 0

    def learn(self, root: str, path: str, rules: IgnoreRules) -> None:
        """Suppresses hints for ignored entries of the directory, except for ignore files and `.git`.

        This lasts until `watch` is called for the directory again. It has no effect if the directory is not watched.
        """
        with self._lock:
            tables = self._roots.get(root)
            wd = tables.watched.get(path) if tables else None
            if wd is not None:
                self._entries[wd] = Entry(root, path, rules, without(self._entries[wd], root))

    def prune(self, root: str, tops: Collection[str], keep: Container[str]) -> None:
        """Removes the watches of all directories at or below one of `tops`, except those in `keep`.

        Also forgets which of these could not be watched. Takes one pass over the directories of the root, however many
        tops there are.
        """
        tops = frozenset(tops)
        with self._lock:
            tables = self._roots.get(root)
            if tables is None:
                return
            gone = [path for path in tables.watched if path not in keep and is_within(path, tops)]
            orphans = [wd for wd in (tables.watched.pop(path) for path in gone) if self._remove_entry(root, wd)]
            for path in [path for path in tables.unwatched if path not in keep and is_within(path, tops)]:
                del tables.unwatched[path]
        self._remove(orphans)

    def drop(self, root: str) -> None:
        """Removes all watches of a root."""
        with self._lock:
            tables = self._roots.pop(root, None)
            orphans = [wd for wd in tables.watched.values() if self._remove_entry(root, wd)] if tables else []
        self._remove(orphans)

    def count(self, root: str) -> int:
        """How many directories of the root are watched."""
        with self._lock:
            tables = self._roots.get(root)
            return len(tables.watched) if tables else 0

    def unwatched(self, root: str) -> dict[str, int]:
        """The directories of the root that could not be watched: path to errno."""
        with self._lock:
            tables = self._roots.get(root)
            return dict(tables.unwatched) if tables else {}

    def total(self) -> int:
        """How many directories are watched, in all roots. The kernel counts one more: the directory of the cookies."""
        return len(self._entries)

    def settle(self, timeout_s: float) -> bool:
        """Waits until each earlier event was passed to `on_hint`, or its loss to `on_overflow`.

        Returns False if that takes longer than `timeout_s`. It creates a file (0600) in the directory of the cookies,
        waits until the reader finds the event of that file in the queue, and deletes the file. Raises OSError if the
        file cannot be created, or if there is no reader.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            mark = self._await_cookie(deadline)
            if self._ended is not None:
                raise OSError(errno.EBADF, f"file events are not read any more: {self._ended}")
            if mark.passed:
                return True
            if time.monotonic() >= deadline:
                return False
            # The queue has overflowed, and the event of the cookie was lost. Try another cookie.

    def stalled_s(self) -> float:
        """How long the reader has left events unread, in seconds; see `Inotify.stalled_s`."""
        return self._inotify.stalled_s()

    def close(self) -> None:
        """Ends the reader. Idempotent, also if the reader is dead. After it, there are no hints.

        Waits a few seconds at most for a hint that is being delivered.
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
        """Watches the directory of the cookies again, since it may have been removed or replaced."""
        os.makedirs(self._cookies, mode=0o700, exist_ok=True)
        wd = self._inotify.add(os.fsencode(self._cookies))
        before, self._cookies_wd = self._cookies_wd, wd
        if before not in (None, wd) and before not in self._entries:
            self._inotify.remove(before)

    def _leave(self, root: str, wd: int | None) -> None:
        """Removes the entry of a watch for the root, and the watch itself if that was the last entry."""
        if wd is not None and self._remove_entry(root, wd):
            self._inotify.remove(wd)

    def _remove_entry(self, root: str, wd: int) -> bool:
        """Removes the entry of a watch for the root. Returns whether the watch is not needed any more."""
        rest = without(self._entries.get(wd), root)
        if rest is not None:
            self._entries[wd] = rest  # in one step, because the reader looks it up without the lock
            return False
        self._entries.pop(wd, None)
        return wd != self._cookies_wd

    def _remove(self, orphans: list[int]) -> None:
        """Removes watches, but not faster than the reader handles the events that this causes."""
        waits = True
        for at in range(0, len(orphans), _REMOVED_AT_ONCE):
            mark = _Mark()
            with self._lock:
                # In the meantime, one of them may be in use again, with the same descriptor.
                removed = [
                    wd
                    for wd in orphans[at : at + _REMOVED_AT_ONCE]
                    if wd not in self._entries and self._inotify.remove(wd)
                ]
                if removed and waits:
                    self._marks[removed[-1]] = mark
            if removed and waits:
                waits = mark.woken.wait(_READER_WAIT_S)
                with self._lock:
                    self._marks.pop(removed[-1], None)

    # The methods below run in the reader thread.

    def _handle_events(self, buffer: bytes) -> None:
        with self._lock:  # so that the watches of all these events are in the tables: see `_lock`
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
        self._pass(ended)
        self._pass(cookies)
        if overflowed:
            self._wake()

    def _pass(self, keys: Sequence[int | bytes]) -> None:
        with self._lock:
            marks = [self._marks.pop(key) for key in keys if key in self._marks]
        for mark in marks:
            mark.passed = True
            mark.woken.set()

    def _wake(self) -> None:
        """Wakes all threads that wait for a mark, because the marks are lost or will never be reached."""
        with self._lock:
            marks = list(self._marks.values())
        for mark in marks:
            mark.woken.set()

    def _forget(self, ended: list[int]) -> None:
        """Forgets watches that the kernel has removed."""
        with self._lock:
            for wd in ended:
                for entry in chain(self._entries.pop(wd, None)):
                    del self._roots[entry.root].watched[entry.path]

    def _die(self, error: BaseException) -> None:
        why = safe_message(error)
        if self._end(why):
            self._on_death(why)

    def _end(self, why: str) -> bool:
        """Forgets all watches. Returns False if that was done before."""
        with self._lock:
            if self._ended is not None:
                return False
            self._ended = why
            self._entries.clear()
            self._roots.clear()
        self._wake()
        return True
