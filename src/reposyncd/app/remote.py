"""The façade over the socket of the service. Every request to the API is built here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from reposyncd.app.client import Client, quote
from reposyncd.errors import InterruptedSyncError

if TYPE_CHECKING:
    from reposyncd.app import messages
    from reposyncd.app.facade import OnProgress

T = TypeVar("T")

ANSWER_S = 5.0
"""How long the service may take to return its status. It takes milliseconds."""


class RemoteTask(Generic[T]):
    """A `facade.Task` of the service. The request is sent when the result is requested."""

    def __init__(
        self, client: Client, method: str, path: str, body: dict[str, Any] | None = None, *, if_interrupted: str = ""
    ) -> None:
        self._client = client
        self._method = method
        self._path = path
        self._body = body
        self._if_interrupted = if_interrupted
        """what a user who presses Ctrl-C has to know, if the service continues with the work"""

    def result(self, on_progress: OnProgress | None = None, timeout_s: float | None = None) -> T:
        """See `facade.Task`. Raises DaemonNotRunningError before anything was begun, and InterruptedSyncError if
        Ctrl-C ends the wait while the work continues."""
        try:
            return cast(T, self._client.request(self._method, self._path, self._body, on_progress, timeout_s))
        except KeyboardInterrupt:
            if not self._if_interrupted:
                raise
            raise InterruptedSyncError(self._if_interrupted) from None


class RemoteApp:
    """An `App` that asks the service. Thread-safe: each request has a connection of its own."""

    def __init__(self, client: Client, answer_s: float = ANSWER_S) -> None:
        self._client = client
        self._answer_s = answer_s

    def is_running(self) -> bool:
        """Whether a service answers, whatever its state directory. Raises ReposyncError if that cannot be found out."""
        return self._client.running()

    def status(self) -> messages.Status:
        """See `App.status`. Raises DaemonLostError if the service takes longer than `answer_s`."""
        return cast("messages.Status", self._client.request("GET", "/v1/status", timeout_s=self._answer_s))

    def add(self, path: str, name: str | None) -> RemoteTask[messages.RepoRef]:
        """See `App.add`."""
        return RemoteTask(self._client, "POST", "/v1/repos", {"path": path, "name": name})

    def remove(self, repo: str) -> RemoteTask[messages.RepoRef]:
        """See `App.remove`."""
        return RemoteTask(self._client, "DELETE", f"/v1/repos/{quote(repo)}")

    def pause(self, repo: str | None) -> RemoteTask[messages.RepoNames]:
        """See `App.pause`."""
        return RemoteTask(self._client, "POST", "/v1/pause", {"repo": repo})

    def resume(self, repo: str | None) -> RemoteTask[messages.RepoNames]:
        """See `App.resume`."""
        return RemoteTask(self._client, "POST", "/v1/resume", {"repo": repo})

    def sync(self, path: str, name: str | None, full: bool) -> RemoteTask[messages.SyncResult]:
        """See `App.sync`."""
        return RemoteTask(
            self._client,
            "POST",
            "/v1/sync",
            {"path": path, "name": name, "full": full},
            if_interrupted="the service continues with the sync; follow it with: reposyncd status --watch",
        )

    def flush(self, repo: str | None) -> RemoteTask[messages.Flushed]:
        """See `App.flush`."""
        return RemoteTask(self._client, "POST", "/v1/flush", {"repo": repo})

    def verify(self, repo: str | None, repair: bool) -> RemoteTask[messages.Verifications]:
        """See `App.verify`."""
        return RemoteTask(
            self._client,
            "POST",
            "/v1/verify",
            {"repo": repo, "repair": repair},
            if_interrupted="the service finishes the verification, but its result is lost; to see it, run it again",
        )

    def runs(self, repo: str | None, limit: int) -> messages.Runs:
        """See `App.runs`."""
        of_repo = "" if repo is None else f"&repo={quote(repo)}"
        answer = self._client.request("GET", f"/v1/runs?limit={limit}{of_repo}", timeout_s=self._answer_s)
        return cast("messages.Runs", answer)

    def search(self, query: str, repo: str | None, limit: int) -> RemoteTask[messages.Hits]:
        """See `App.search`."""
        return RemoteTask(self._client, "POST", "/v1/search", {"query": query, "repo": repo, "limit": limit})
