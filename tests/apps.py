"""An `App` that remembers what it was asked, and answers at once or fails."""

from __future__ import annotations

from typing import Any

from reposyncd.app.facade import OnProgress


class Answer:
    """A `facade.Task` that is done."""

    def __init__(self, answer: Any, error: Exception | None) -> None:
        self._answer = answer
        self._error = error

    def result(self, on_progress: OnProgress | None = None, timeout_s: float | None = None) -> Any:
        if self._error:
            raise self._error
        return self._answer


SYNC_RESULT = {
    "repo": "lab",
    "root": "/lab",
    "files": {"total": 0, "new": 0, "modified": 0, "deleted": 0, "unchanged": 0, "skipped": {}, "plain": 0},
    "chunks": {"total": 0, "added": 0, "relabelled": 0, "deleted": 0, "embedded": 0},
    "bytes_read": 0,
    "duration_s": 0.1,
    "errors": [],
}


class RecordingApp:
    """`error` is what everything raises: methods that answer at once when they are called, all others as the result."""

    def __init__(self, name: str = "app", error: Exception | None = None) -> None:
        self.name = name
        self.error = error
        self.asked: list[tuple[Any, ...]] = []

    def status(self) -> Any:
        self.asked.append(("status",))
        if self.error:
            raise self.error
        return {
            "version": self.name,
            "daemon": {"running": False, "pid": None, "uptime_s": None, "state": "not running"},
            "store": {"kind": "memory", "location": "", "healthy": True, "reason": ""},
            "incidents": [],
            "repos": [],
        }

    def runs(self, repo: str | None, limit: int) -> Any:
        self.asked.append(("runs", repo, limit))
        if self.error:
            raise self.error
        return {"runs": []}

    def add(self, path: str, name: str | None) -> Any:
        return self._task({"name": "lab", "root": path}, "add", path, name)

    def remove(self, repo: str) -> Any:
        return self._task({"name": "lab", "root": "/lab"}, "remove", repo)

    def pause(self, repo: str | None) -> Any:
        return self._task({"repos": ["lab"]}, "pause", repo)

    def resume(self, repo: str | None) -> Any:
        return self._task({"repos": ["lab"]}, "resume", repo)

    def sync(self, path: str, name: str | None, full: bool) -> Any:
        return self._task({**SYNC_RESULT, "repo": self.name}, "sync", path, name, full)

    def flush(self, repo: str | None) -> Any:
        return self._task({"repos": ["lab"], "errors": []}, "flush", repo)

    def verify(self, repo: str | None, repair: bool) -> Any:
        return self._task({"repos": []}, "verify", repo, repair)

    def search(self, query: str, repo: str | None, limit: int) -> Any:
        return self._task({"hits": [], "complete": True, "notices": []}, "search", query, repo, limit)

    def _task(self, answer: Any, *asked: Any) -> Answer:
        self.asked.append(asked)
        return Answer(answer, self.error)
