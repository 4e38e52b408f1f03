"""The watches of all repositories: set while a tree is listed, made anew when they die, and how much they cover."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress

from reposyncd.daemon.engine.repo_state import Coverage
from reposyncd.model import Scope
from reposyncd.store.manifest.catalog import Repo
from reposyncd.tree.ignore import IgnoreRules
from reposyncd.tree.mounts import blind_spot
from reposyncd.tree.scan import ScanObserver, Snapshot
from reposyncd.tree.watch import Watches

_COOKIES = "cookies"
"""In the state directory: what is made in it tells that the watches have seen everything that was before."""

_WATCH_LIMITS = (
    ("fs.inotify.max_user_watches", "/proc/sys/fs/inotify/max_user_watches"),
    ("user.max_inotify_watches", "/proc/sys/user/max_inotify_watches"),
)
_INSTANCE_LIMITS = (
    ("fs.inotify.max_user_instances", "/proc/sys/fs/inotify/max_user_instances"),
    ("user.max_inotify_instances", "/proc/sys/user/max_inotify_instances"),
)

_COMPILED_AT_MOST = 50
"""Sets of ignore rules that are kept compiled while a tree is listed: some megabytes."""

_ROUND = 1024
"""A limit that is recommended is a multiple of this."""


class Watching:
    """Watches that are there as far as the machine lets us. `ensure`, `look` and `drop` are the engine thread's.

    `on_hint` (root, path, recursive), `on_lost` (all events for a while: an overflow, or a reader that died) and
    `on_death` (why the reader has died; the next look makes another) are called from the reader's thread; `on_step`
    from the engine's, before each directory that is listed.
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
        self._tell_death = on_death
        self._on_step = on_step
        self._watches: Watches | None = None
        self._dead: str | None = None
        self._refused = ""

    def ensure(self) -> bool:
        """Makes the watches if there are none, or they have died. Returns whether they are new: then every tree is to
        be looked at, and its directories are watched meanwhile."""
        if self._watches and self._dead is None:
            return False
        if self._watches:
            self._watches.close()
        self._watches, self._dead = None, None
        try:
            self._watches = Watches(
                self._cookies,
                on_hint=self._on_hint,
                on_overflow=lambda: self._on_lost("more events than the kernel keeps"),
                on_death=self._on_death,
            )
        except OSError as error:
            self._refused = _refusal(error)
            return False
        self._refused = ""
        return True

    def _on_death(self, reason: str) -> None:
        self._dead = reason
        self._tell_death(reason)
        self._on_lost(f"the thread that reads events ended: {reason}")

    def look(self, repo: Repo, scope: Scope, scan: Callable[[ScanObserver | None], Snapshot]) -> Snapshot:
        """Makes the scan, and watches each directory before it is listed; what is no part of the tree any more is
        watched no longer."""
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
                rules.drop_compiled()  # an event will need few of them
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
        """The root is watched no longer."""
        if self._watches:
            self._watches.drop(root)

    def settle(self, timeout_s: float) -> bool:
        """Whether every event of before has become a hint. Thread-safe."""
        watches = self._watches
        if watches is None:
            return False
        with suppress(OSError):
            return watches.settle(timeout_s)
        return False

    def coverage(self, root: str) -> Coverage:
        """How much of a tree that was looked at is watched."""
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
        return Coverage("poll" if reason else "inotify", count, len(unwatched), reason)

    def count(self, root: str) -> int:
        """Directories of the root that are watched by now."""
        return self._watches.count(root) if self._watches else 0

    def total(self) -> int:
        """Directories that are watched, in all."""
        return self._watches.total() if self._watches else 0

    def stalled_s(self) -> float:
        """For how long the reader has left events lie, as far as earlier calls can tell; milliseconds, if all is well.
        One that has died is replaced by the next look."""
        return self._watches.stalled_s() if self._watches else 0.0

    def close(self) -> None:
        """Ends the reader."""
        if self._watches:
            self._watches.close()


def _refusal(error: OSError) -> str:
    if error.errno == errno.EMFILE:
        return f"nothing is watched: no inotify instance is to be had; {_advice(_INSTANCE_LIMITS, 1)}"
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
