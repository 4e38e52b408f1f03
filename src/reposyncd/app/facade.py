"""The façade: everything that can be asked of reposyncd. Commands, the HTTP API and other front ends stand on it.

Implementations: `app.local` works in this process, `app.remote` asks the service, and the service has its own, over its
engine (`daemon.ports.Service`). `app.connect` joins the first two.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:  # a command that only asks the service pays for what is imported here
    from reposyncd.app import messages

T_co = TypeVar("T_co", covariant=True)

OnProgress = Callable[["messages.TaskProgress"], None]


class Task(Protocol[T_co]):
    """Something that was asked for and may take long. It may begin only when its result is asked for."""

    def result(self, on_progress: OnProgress | None = None, timeout_s: float | None = None) -> T_co:
        """Waits until it is done. `on_progress` is called in this thread now and then, and must be quick.

        Raises the ReposyncError that it failed with. If the service does the work, also TimedOutError after
        `timeout_s`, and DaemonLostError; the work goes on. What this process does itself is not timed.
        """
        ...


class App(Protocol):
    """What can be asked. A repository is named by its name or the absolute path of its root; None means all.

    Every method may raise ReposyncError at once, or its task may later.
    """

    def status(self) -> messages.Status:
        """The state of the service, the store and every repository."""
        ...

    def add(self, path: str, name: str | None) -> Task[messages.RepoRef]:
        """Has the service keep the tree at this absolute path indexed. Without a service it is only recorded."""
        ...

    def remove(self, repo: str) -> Task[messages.RepoRef]:
        """Stops indexing a repository and deletes its index."""
        ...

    def pause(self, repo: str | None) -> Task[messages.RepoNames]:
        """Leaves the index as it is until `resume`. Needs the service."""
        ...

    def resume(self, repo: str | None) -> Task[messages.RepoNames]:
        """Continues after `pause`. Needs the service."""
        ...

    def sync(self, path: str, name: str | None, full: bool) -> Task[messages.SyncResult]:
        """Makes the index of the tree at this absolute path current. `full` trusts nothing that is on record."""
        ...

    def flush(self, repo: str | None) -> Task[messages.Flushed]:
        """Done when every change that was made before the call is in the index. Needs the service."""
        ...

    def verify(self, repo: str | None, repair: bool) -> Task[messages.Verifications]:
        """Compares every record with its file and every file with the index; `repair` also corrects what is wrong."""
        ...

    def runs(self, repo: str | None, limit: int) -> messages.Runs:
        """The last syncs that had something to do, newest first."""
        ...

    def search(self, query: str, repo: str | None, limit: int) -> Task[messages.Hits]:
        """The chunks nearest to the query, best first."""
        ...
