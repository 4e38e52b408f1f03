"""The watches of all repositories: sets them during scans, replaces them if they die, and says how much they cover."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress

from reposyncd.daemon.engine.snapshots import Coverage
from reposyncd.model import Scope
from reposyncd.store.manifest.catalog import Repo
from reposyncd.tree.ignore import IgnoreRules
from reposyncd.tree.mounts import blind_spot
from reposyncd.tree.scan import ScanObserver, Snapshot
from reposyncd.tree.watch import Watches

_COOKIES = "cookies"
"""A directory in the state directory. The event of a file created in it arrives after all earlier events."""

_WATCH_LIMITS = (
    ("fs.inotify.max_user_watches", "/proc/sys/fs/inotify/max_user_watches"),
    ("user.max_inotify_watches", "/proc/sys/user/max_inotify_watches"),
)
_INSTANCE_LIMITS = (
    ("fs.inotify.max_user_instances", "/proc/sys/fs/inotify/max_user_instances"),
    ("user.max_inotify_instances", "/proc/sys/user/max_inotify_instances"),
)

_COMPILED_AT_MOST = 50
"""How many sets of ignore rules stay compiled while a tree is scanned: some megabytes."""

_ROUND = 1024
"""A recommended limit is a multiple of this."""


class Watching:
    """Watches as much as the machine allows. `ensure`, `scan` and `drop` are for the engine's thread.

    The reader thread calls `on_hint(root, path, recursive)`; `on_lost(reason)` when events were lost, because the queue
    has overflowed or the reader has died; and `on_death(reason)` when the reader has died, so that the next `ensure`
    starts another one. The engine's thread calls `on_step` before each directory is listed.
    """

    def __init__(
        self,
        state_dir: str,
        *,
        on_hint: Callable[[str, str, bool], None],
        on_lost: Callable[[str], None],
        on_death: Callable[[str], None],
        on_step: Callable[[], None] = lambda: None,
    ) -> None:
        self._cookies = os.path.join(state_dir, _COOKIES)
        self._on_hint = on_hint
        self._on_lost = on_lost
        self._report_death = on_death
        self._on_step = on_step
        self._watches: Watches | None = None
        self._dead: str | None = None
        self._refused = ""

    def ensure(self) -> bool:
        """Starts the reader if there is none, or if it has died. Returns whether it is new: then every tree has to be
        scanned, which sets its watches."""
        if self._watches and self._dead is None:
            return False
        if self._watches:
            self._watches.close()
        self._watches, self._dead = None, None
        try:
            self._watches = Watches(
                self._cookies,
                on_hint=self._on_hint,
                on_overflow=lambda: self._on_lost("the kernel's queue of events overflowed"),
                on_death=self._on_death,
            )
        except OSError as error:
            self._refused = _refusal(error)
            return False
        self._refused = ""
        return True

    def _on_death(self, reason: str) -> None:
        self._dead = reason
        self._report_death(reason)
        self._on_lost(f"the thread that reads events ended: {reason}")

    def scan(self, repo: Repo, scope: Scope, scan: Callable[[ScanObserver | None], Snapshot]) -> Snapshot:
        """The `scan_hook` of a `Workspace`: runs the scan, and watches each directory before it is listed. Removes the
        watches of directories that are not part of the tree any more."""
        watches = self._watches
        if watches is None:
            return scan(ScanObserver(lambda path, fd: self._on_step(), lambda path, rules: None))
        root = repo.root
        entered: set[str] = set()

        def enter(path: str, fd: int) -> None:
            self._on_step()
            entered.add(path)
            watches.watch(root, path, fd)

        compiled: dict[bytes, IgnoreRules] = {}

        def drop_compiled() -> None:
            for rules in compiled.values():
                rules.drop_compiled()  # events will need few of them
            compiled.clear()

        def learn(path: str, rules: IgnoreRules) -> None:
            if rules.digest not in compiled and len(compiled) >= _COMPILED_AT_MOST:
                drop_compiled()
            compiled[rules.digest] = rules
            watches.learn(root, path, rules)

        snapshot = scan(ScanObserver(enter, learn))
        drop_compiled()
        tops = scope.trees | {path for path in scope.flat if path not in entered}
        if tops:
            watches.prune(root, tops, entered)
        return snapshot

    def drop(self, root: str) -> None:
        """Removes the watches of this root."""
        if self._watches:
            self._watches.drop(root)

    def settle(self, timeout_s: float) -> bool:
        """Waits until every earlier event has become a hint. Returns False if that takes too long. Thread-safe."""
        watches = self._watches
        if watches is None:
            return False
        with suppress(OSError):
            return watches.settle(timeout_s)
        return False

    def coverage(self, root: str) -> Coverage:
        """How much of a scanned tree is watched."""
        if self._watches is None:
            return Coverage("poll", reason=self._refused)
        unwatched = self._watches.unwatched(root)
        count = self._watches.count(root)
        reasons = [f"{root}: {blind}" if (blind := blind_spot(root)) else ""]
        if unwatched:
            first = next(iter(unwatched))
            why = (
                _advice(_WATCH_LIMITS, len(unwatched))
                if errno.ENOSPC in unwatched.values()
                else os.strerror(unwatched[first])
            )
            reasons.append(f"{len(unwatched):,} of {count + len(unwatched):,} directories are not watched: {why}")
        reason = "; ".join(filter(None, reasons))
        return Coverage("poll" if reason else "inotify", len(unwatched), reason)

    def count(self, root: str) -> int:
        """Directories of the root that are watched."""
        return self._watches.count(root) if self._watches else 0

    def total(self) -> int:
        """How many directories are watched, in all roots. Thread-safe."""
        return self._watches.total() if self._watches else 0

    def stalled_s(self) -> float:
        """For how many seconds the reader has left events unread, as far as earlier calls can tell. A reader that has
        died does not count, since it is replaced."""
        return self._watches.stalled_s() if self._watches else 0.0

    def close(self) -> None:
        """Stops the reader."""
        if self._watches:
            self._watches.close()


def _refusal(error: OSError) -> str:
    if error.errno == errno.EMFILE:
        return f"nothing is watched: no inotify instance is available; {_advice(_INSTANCE_LIMITS, 1)}"
    if error.errno == errno.ENOSPC:
        return f"nothing is watched: {_advice(_WATCH_LIMITS, 1)}"
    return f"nothing is watched: {error.strerror or error}"


def _advice(limits: tuple[tuple[str, str], ...], missing: int) -> str:
    """Which limit is reached, and what it should be."""
    found: list[tuple[int, str]] = []
    for name, path in limits:
        with suppress(OSError, ValueError), open(path, encoding="ascii") as file:
            found.append((int(file.read()), name))
    if not found:
        return "the limit of inotify is reached"
    limit, name = min(found)
    wanted = -(-(limit + missing) // _ROUND) * _ROUND
    return f"the limit {name} is {limit:,}; raise it with: sudo sysctl {name}={wanted}"
