"""The façade in this process, used if no service is running. Each task opens the state directory and closes it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Generic, NoReturn, TypeVar, cast

from reposyncd import __version__
from reposyncd.app.client import not_running
from reposyncd.app.progress import progress_message
from reposyncd.text import printable

if TYPE_CHECKING:
    from reposyncd.app import messages
    from reposyncd.app.facade import OnProgress
    from reposyncd.app.workspace import Workspace
    from reposyncd.config import Config
    from reposyncd.model import Progress

T = TypeVar("T")

Stop = Callable[[], AbstractContextManager[Callable[[], bool]]]
"""A context for long work. It yields a function that the work calls often, and that returns whether to stop."""

Notify = Callable[[str], None]
"""Shows the user one line of information in addition to the result."""


class LocalTask(Generic[T]):
    """A `facade.Task` that calls a function when its result is requested."""

    def __init__(self, work: Callable[[OnProgress], T]) -> None:
        self._work = work

    def result(self, on_progress: OnProgress | None = None, timeout_s: float | None = None) -> T:
        """See `facade.Task`."""
        return self._work(on_progress or (lambda progress: None))


class LocalApp:
    """An `App` that works in this process. Methods that need the service raise DaemonNotRunningError."""

    def __init__(
        self,
        config: Config,
        environ: Mapping[str, str] = os.environ,
        *,
        stop: Stop = lambda: nullcontext(lambda: False),
        notify: Notify = lambda text: None,
    ) -> None:
        self._config = config
        self._environ = environ
        self._stop = stop
        self._notify = notify

    def status(self) -> messages.Status:
        """What was true at the last sync, from the manifest. Takes no lock and starts nothing."""
        from reposyncd.app.recorded_status import recorded_status

        return recorded_status(self._config.state_dir, time.time_ns(), __version__)

    def add(self, path: str, name: str | None) -> LocalTask[messages.RepoRef]:
        """Records the repository. The service indexes it when it starts, or the next sync does."""
        from reposyncd.app import operations

        def add(on_progress: OnProgress) -> messages.RepoRef:
            with self._workspace() as workspace:
                repo = operations.add(workspace, path, name)
            self._notify(
                f"the service is not running, so {repo.name} is not indexed yet; start the service, or index it with: "
                f"reposyncd sync {printable(repo.root)}"
            )
            return {"name": repo.name, "root": repo.root}

        return LocalTask(add)

    def remove(self, repo: str) -> LocalTask[messages.RepoRef]:
        """See `App.remove`."""
        from reposyncd.app import operations

        def remove(on_progress: OnProgress) -> messages.RepoRef:
            with self._workspace() as workspace:
                removed, trouble = operations.remove(workspace, repo)
            if trouble:
                self._notify(
                    f"{removed.name} was removed, but its records could not be deleted yet ({printable(trouble)}). The "
                    "next sync, or the service, deletes them"
                )
            return {"name": removed.name, "root": removed.root}

        return LocalTask(remove)

    def pause(self, repo: str | None) -> NoReturn:
        """Needs the service."""
        raise not_running(self._config.socket)

    def resume(self, repo: str | None) -> NoReturn:
        """Needs the service."""
        raise not_running(self._config.socket)

    def flush(self, repo: str | None) -> NoReturn:
        """Needs the service, because only the service knows which changes are still to be indexed."""
        raise not_running(self._config.socket)

    def sync(self, path: str, name: str | None, full: bool) -> LocalTask[messages.SyncResult]:
        """See `App.sync`. Raises InterruptedSyncError if it was stopped; the next sync continues from there."""
        from reposyncd.app import operations

        def sync(on_progress: OnProgress) -> messages.SyncResult:
            with self._stop() as should_stop, self._workspace() as workspace:
                result = operations.sync(
                    workspace,
                    path,
                    name,
                    full=full,
                    on_progress=_adapted(on_progress),
                    should_stop=should_stop,
                )
            return cast("messages.SyncResult", result.to_dict())

        return LocalTask(sync)

    def verify(self, repo: str | None, repair: bool) -> LocalTask[messages.Verifications]:
        """See `App.verify`. Raises InterruptedSyncError if it was stopped."""
        from reposyncd.app import operations

        def verify(on_progress: OnProgress) -> messages.Verifications:
            with self._stop() as should_stop, self._workspace() as workspace:
                found = operations.verify(
                    workspace, repo, repair=repair, on_progress=_adapted(on_progress), should_stop=should_stop
                )
            return {"repos": [cast("messages.Verification", each.to_dict()) for each in found]}

        return LocalTask(verify)

    def runs(self, repo: str | None, limit: int) -> messages.Runs:
        """See `App.runs`. Raises NotFoundError if nothing is indexed."""
        from reposyncd.app import operations

        with self._workspace() as workspace:
            found = operations.history(workspace, repo, limit)
        return {"runs": [cast("messages.Run", run.to_dict(each)) for each, run in found]}

    def search(self, query: str, repo: str | None, limit: int) -> LocalTask[messages.Hits]:
        """See `App.search`."""
        from reposyncd.app import operations

        def search(on_progress: OnProgress) -> messages.Hits:
            with self._workspace() as workspace:
                return cast("messages.Hits", operations.search(workspace, query, repo, limit).to_dict())

        return LocalTask(search)

    def _workspace(self) -> Workspace:
        from reposyncd.app.workspace import Workspace

        return Workspace(self._config, self._environ)


def _adapted(on_progress: OnProgress) -> Callable[[Progress], None]:
    """A function that receives the progress of a sync, and passes it on as the progress of a task."""
    return lambda progress: on_progress(progress_message(progress, []))
