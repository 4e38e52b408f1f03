"""What the API needs of the service behind it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol


class Ticket(Protocol):
    """Work that was asked for. Thread-safe."""

    def wait(self, timeout_s: float) -> bool:
        """Whether it is done, or has failed, within that time."""

    def on_end(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Has it called once, when this ends, from any thread; at once, if it has ended. It returns at once, and raises
        nothing. What is returned takes that back."""

    def result(self) -> dict[str, Any]:
        """JSON. Raises the ReposyncError that it failed with. Only when it is done."""

    def progress(self) -> dict[str, Any]:
        """What is still to do, as JSON: `pending: [{repo, paths, why}], phase, files_done, files_total, chunks_done,
        trouble`."""

    def abandon(self) -> None:
        """Nobody will ask for its result. What changes nothing, as a search, need not be done any more; all else goes
        on."""


class Service(Protocol):
    """What the API serves. Every method is thread-safe and may raise ReposyncError.

    They wait for nothing but a lock, `runs` for the disk too: the work itself is done after its ticket was given.

    A repo is meant by its name or by the absolute path of its root; None means all.
    """

    def status(self) -> dict[str, Any]:
        """The state of the daemon, the store and every repo, as JSON."""

    def add(self, path: str, name: str | None) -> Ticket:
        """Keeps the tree at this absolute path from now on; `{name, root}`."""

    def remove(self, repo: str) -> Ticket:
        """Forgets a repo and drops its collection; `{name, root}`."""

    def pause(self, repo: str | None) -> Ticket:
        """Leaves the index as it is until it is resumed; `{repos: [name]}`."""

    def resume(self, repo: str | None) -> Ticket:
        """Goes on after a pause; `{repos: [name]}`."""

    def sync(self, path: str, name: str | None, full: bool) -> Ticket:
        """Brings the index of the tree at this absolute path up to date; a SyncResult as JSON."""

    def verify(self, repo: str | None, repair: bool) -> Ticket:
        """Compares every record with its file, and every file with the index; `{repos: [Verification as JSON]}`.
        `repair`: done when what was wrong is right."""

    def runs(self, repo: str | None, limit: int) -> dict[str, Any]:
        """The last syncs that had something to do, newest first; `{runs: [Run as JSON]}`. Waits for no engine."""

    def flush(self, repo: str | None) -> Ticket:
        """Done when every change made before the call is in the index; `{repos: [name], errors: [...]}`."""

    def search(self, query: str, repo: str | None, limit: int) -> Ticket:
        """The chunks nearest to the query, best first; `{hits: [Hit as JSON]}`."""
