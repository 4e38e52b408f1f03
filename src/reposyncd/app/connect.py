"""The one place that decides whether the service or this process does the work.

The rule: the service is asked first. If it is not running, it has begun nothing, and this process does the work itself.
Every other error is final, because the service may have done the work, or may still do it. Only reading the record
(`status`, `runs`), which changes nothing, is done from the disk if the service is busy or lost.

Cheap to import: what does the work in this process is imported when it is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Generic, TypeVar

from reposyncd.app.client import Client
from reposyncd.app.remote import ANSWER_S, RemoteApp
from reposyncd.errors import BusyError, DaemonLostError, DaemonNotRunningError

if TYPE_CHECKING:
    from reposyncd.app import messages
    from reposyncd.app.facade import App, OnProgress, Task
    from reposyncd.app.local import Notify, Stop
    from reposyncd.config import Config

T = TypeVar("T")


def connect(
    config: Config, *, stop: Stop = lambda: nullcontext(lambda: False), notify: Notify = lambda text: None
) -> ServiceOrLocal:
    """The service of this configuration, or this process. Does not connect yet. `stop` and `notify` are for work in
    this process; see `local.Stop` and `local.Notify`."""

    def local() -> App:
        from reposyncd.app.local import LocalApp

        return LocalApp(config, stop=stop, notify=notify)

    return ServiceOrLocal(service(config), local)


def service(config: Config, answer_s: float = ANSWER_S) -> RemoteApp:
    """Only the service of this configuration. One with another state directory counts as not running. Does not connect
    yet."""
    return RemoteApp(Client(config.socket, config.state_dir), answer_s)


class ServiceOrLocal:
    """An `App` that asks the service, or the `App` that `local` returns if the service is not running."""

    def __init__(self, service: App, local: Callable[[], App]) -> None:
        self._service = service
        self._local = local

    def status(self) -> messages.Status:
        """See `App.status`. If the service is running and cannot answer, returns the status of the last sync, in which
        the state of the service says why."""
        why = ""
        try:
            return self._service.status()
        except DaemonNotRunningError:
            pass
        except (DaemonLostError, BusyError) as error:
            why = str(error)
        found = self._local().status()
        if why:
            found["daemon"]["state"] = why
        return found

    def runs(self, repo: str | None, limit: int) -> messages.Runs:
        """See `App.runs`."""
        try:
            return self._service.runs(repo, limit)
        except (DaemonNotRunningError, DaemonLostError, BusyError):
            return self._local().runs(repo, limit)

    def add(self, path: str, name: str | None) -> Task[messages.RepoRef]:
        """See `App.add`."""
        return _Either(lambda: self._service.add(path, name), lambda: self._local().add(path, name))

    def remove(self, repo: str) -> Task[messages.RepoRef]:
        """See `App.remove`."""
        return _Either(lambda: self._service.remove(repo), lambda: self._local().remove(repo))

    def pause(self, repo: str | None) -> Task[messages.RepoNames]:
        """See `App.pause`."""
        return self._service.pause(repo)

    def resume(self, repo: str | None) -> Task[messages.RepoNames]:
        """See `App.resume`."""
        return self._service.resume(repo)

    def sync(self, path: str, name: str | None, full: bool) -> Task[messages.SyncResult]:
        """See `App.sync`."""
        return _Either(lambda: self._service.sync(path, name, full), lambda: self._local().sync(path, name, full))

    def flush(self, repo: str | None) -> Task[messages.Flushed]:
        """See `App.flush`."""
        return self._service.flush(repo)

    def verify(self, repo: str | None, repair: bool) -> Task[messages.Verifications]:
        """See `App.verify`."""
        return _Either(lambda: self._service.verify(repo, repair), lambda: self._local().verify(repo, repair))

    def search(self, query: str, repo: str | None, limit: int) -> Task[messages.Hits]:
        """See `App.search`."""
        return _Either(
            lambda: self._service.search(query, repo, limit), lambda: self._local().search(query, repo, limit)
        )


class _Either(Generic[T]):
    """A `facade.Task`: the first one, or the second one if the service is not running."""

    def __init__(self, ask: Callable[[], Task[T]], work: Callable[[], Task[T]]) -> None:
        self._ask = ask
        self._work = work

    def result(self, on_progress: OnProgress | None = None, timeout_s: float | None = None) -> T:
        """See `facade.Task`."""
        try:
            return self._ask().result(on_progress, timeout_s)
        except DaemonNotRunningError:
            pass
        return self._work().result(on_progress, timeout_s)
