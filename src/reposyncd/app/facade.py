"""The façade: everything that reposyncd can be asked to do. Commands, the HTTP API and other front ends use it.

Implementations: `app.local` works in this process, `app.remote` asks the service, and the service has its own on top of
its engine (`daemon.ports.Service`). `app.connect` combines the first two.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:  # these imports would slow down commands that only ask the service
    from reposyncd.app import messages

T_co = TypeVar("T_co", covariant=True)

OnProgress = Callable[["messages.TaskProgress"], None]


class Task(Protocol[T_co]):
    """Something that was requested and may take long. It may not begin before its result is requested."""

    def result(self, on_progress: OnProgress | None = None, timeout_s: float | None = None) -> T_co:
        """Waits until the task is done. Calls `on_progress`, which must be quick, in this thread now and then.

        Raises the ReposyncError that the task failed with. If the service does the work, also TimedOutError after
        `timeout_s`, and DaemonLostError; the work then continues. Work in this process has no time-out.
        """
        ...


class App(Protocol):
    """Everything that can be requested. `repo` is the name of a repository or the absolute path of its root.

    Where it may be None, None means all repositories. Every method may raise ReposyncError at once, or its task later.
    """

    def status(self) -> messages.Status:
        """The state of the service, the store and every repository."""
        ...

    def add(self, path: str, name: str | None) -> Task[messages.RepoRef]:
        """Has the service keep the tree at this absolute path indexed. Without the service, it is only recorded."""
        ...

    def remove(self, repo: str) -> Task[messages.RepoRef]:
        """Stops indexing a repository and deletes its index."""
        ...

    def pause(self, repo: str | None) -> Task[messages.RepoNames]:
        """Stops updating the index until `resume`. Needs the service."""
        ...

    def resume(self, repo: str | None) -> Task[messages.RepoNames]:
        """Continues updating the index after `pause`. Needs the service."""
        ...

    def sync(self, path: str, name: str | None, full: bool) -> Task[messages.SyncResult]:
        """Brings the index of the tree at this absolute path up to date. `full` trusts nothing that is on record."""
        ...

    def flush(self, repo: str | None) -> Task[messages.Flushed]:
        """Done when every change made before the call is in the index. Needs the service."""
        ...

    def verify(self, repo: str | None, repair: bool) -> Task[messages.Verifications]:
        """Compares every record with its file and every file with the index. `repair` corrects what is wrong."""
        ...

    def runs(self, repo: str | None, limit: int) -> messages.Runs:
        """The last syncs that had something to do, newest first."""
        ...

    def search(self, query: str, repo: str | None, limit: int) -> Task[messages.Hits]:
        """The chunks nearest to the query, best first."""
        ...
