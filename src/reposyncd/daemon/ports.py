"""What the HTTP API needs of the service behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

from reposyncd.app import messages
from reposyncd.daemon.stage_timings import StageTotal
from reposyncd.ports import Stage

T_co = TypeVar("T_co", covariant=True)


class ServiceTask(Protocol[T_co]):
    """Work that the service was asked for. Thread-safe."""

    def wait(self, timeout_s: float) -> bool:
        """Waits until it is done or has failed, for at most this time. Returns whether it is."""
        ...

    def on_end(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Calls `callback` once when the task ends, in any thread; at once if it has ended. The callback returns at
        once and raises nothing. Returns a function that cancels the callback."""
        ...

    def result(self) -> T_co:
        """The result. Call it only when the task is done. Raises the ReposyncError that the task failed with."""
        ...

    def progress(self) -> messages.TaskProgress:
        """What is still to be done."""
        ...

    def abandon(self) -> None:
        """Nobody will ask for the result. The service may skip a task that changes nothing, such as a search. Any other
        task goes on."""
        ...


class Service(Protocol):
    """What the API serves. Every method is thread-safe and may raise ReposyncError.

    A method waits for nothing but a lock; `runs` also waits for the disk. The work itself is done after the method has
    returned its task. A repository is named by its name or the absolute path of its root; None means all.
    """

    def status(self) -> messages.Status:
        """The state of the service, the store and every repository."""
        ...

    def stage_totals(self) -> Mapping[tuple[str, Stage], StageTotal]:
        """How much time the stages of syncing have taken since the service started, by repository and stage."""
        ...

    def add(self, path: str, name: str | None) -> ServiceTask[messages.RepoRef]:
        """Keeps the tree at this absolute path indexed."""
        ...

    def remove(self, repo: str) -> ServiceTask[messages.RepoRef]:
        """Stops indexing a repository and deletes its index."""
        ...

    def pause(self, repo: str | None) -> ServiceTask[messages.RepoNames]:
        """Leaves the index as it is until `resume`."""
        ...

    def resume(self, repo: str | None) -> ServiceTask[messages.RepoNames]:
        """Continues after `pause`."""
        ...

    def sync(self, path: str, name: str | None, full: bool) -> ServiceTask[messages.SyncResult]:
        """Makes the index of the tree at this absolute path current. `full` trusts nothing that is on record."""
        ...

    def flush(self, repo: str | None) -> ServiceTask[messages.Flushed]:
        """Done when every change that was made before the call is in the index."""
        ...

    def verify(self, repo: str | None, repair: bool) -> ServiceTask[messages.Verifications]:
        """Compares every record with its file and every file with the index; `repair` also corrects what is wrong."""
        ...

    def runs(self, repo: str | None, limit: int) -> messages.Runs:
        """The last syncs that had something to do, newest first. Does not wait for the engine."""
        ...

    def search(self, query: str, repo: str | None, limit: int) -> ServiceTask[messages.Hits]:
        """The chunks nearest to the query, best first."""
        ...
