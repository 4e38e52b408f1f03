"""What the HTTP API needs from the service: the façade, with tasks that it can wait for without a thread for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

from reposyncd.app import messages
from reposyncd.app.facade import App, Task
from reposyncd.daemon.stage_timings import StageTotal
from reposyncd.ports import Stage

T_co = TypeVar("T_co", covariant=True)


class ServiceTask(Task[T_co], Protocol[T_co]):
    """A task of the service. Thread-safe."""

    def wait(self, timeout_s: float) -> bool:
        """Waits for at most this time until the task is done or has failed. Returns whether it is."""
        ...

    def on_end(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Calls `callback` once when the task ends, in any thread; at once if it has ended. The callback must return at
        once and raise nothing. Returns a function that cancels the callback."""
        ...

    def progress(self) -> messages.TaskProgress:
        """What is still to be done."""
        ...

    def abandon(self) -> None:
        """Nobody will ask for the result. The service may skip a task that changes nothing, such as a search. It
        finishes any other task."""
        ...


class Service(App, Protocol):
    """The façade as the service implements it. Every method is thread-safe.

    A method waits for nothing but a lock; `runs` also waits for the disk. The work itself is done after the method has
    returned its task.
    """

    def stage_totals(self) -> Mapping[tuple[str, Stage], StageTotal]:
        """How much time the stages of syncing have taken since the service started, by repository and stage."""
        ...

    def add(self, path: str, name: str | None) -> ServiceTask[messages.RepoRef]:
        """See `App.add`."""
        ...

    def remove(self, repo: str) -> ServiceTask[messages.RepoRef]:
        """See `App.remove`."""
        ...

    def pause(self, repo: str | None) -> ServiceTask[messages.RepoNames]:
        """See `App.pause`."""
        ...

    def resume(self, repo: str | None) -> ServiceTask[messages.RepoNames]:
        """See `App.resume`."""
        ...

    def sync(self, path: str, name: str | None, full: bool) -> ServiceTask[messages.SyncResult]:
        """See `App.sync`."""
        ...

    def flush(self, repo: str | None) -> ServiceTask[messages.Flushed]:
        """See `App.flush`."""
        ...

    def verify(self, repo: str | None, repair: bool) -> ServiceTask[messages.Verifications]:
        """See `App.verify`."""
        ...

    def search(self, query: str, repo: str | None, limit: int) -> ServiceTask[messages.Hits]:
        """See `App.search`."""
        ...
