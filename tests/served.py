"""A service behind the API that is small and real: it keeps repos, works in a thread, and is told when to go on."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from contextlib import suppress
from pathlib import Path
from typing import Any

from reposyncd.app.facade import OnProgress
from reposyncd.daemon.stage_timings import StageTimings, StageTotal
from reposyncd.errors import NotFoundError, RootMissingError, UsageError
from reposyncd.ports import Stage


class Work:
    """A ticket: something that a thread does."""

    def __init__(self, future: Future[dict[str, Any]], progress: Callable[[], dict[str, Any]]) -> None:
        self._future = future
        self._progress = progress
        self.is_wanted = True

    def wait(self, timeout_s: float) -> bool:
        return bool(wait_for([self._future], timeout_s).done)

    def on_end(self, callback: Callable[[], None]) -> Callable[[], None]:
        self._future.add_done_callback(lambda _: callback())
        return lambda: None

    def result(self, on_progress: OnProgress | None = None, timeout_s: float | None = None) -> Any:
        return self._future.result(timeout_s)

    def progress(self) -> Any:
        return self._progress()

    def abandon(self) -> None:
        self.is_wanted = False


class Shelf:
    """Keeps trees, finds lines in their files. `gate` is open; work waits while it is closed."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.asked = threading.Semaphore(0)
        """released once for each piece of work"""
        self.roots: dict[str, str] = {}
        self.states: dict[str, str] = {}
        self.dirty: dict[str, list[str]] = {}
        self.files_done = 0
        self.trouble = ""
        self.store: dict[str, Any] = {
            "kind": "memory",
            "location": "",
            "healthy": True,
            "reason": "",
            "lock": {"held": False, "holder": None, "waits": 0, "wait_s_max": 0.0},
        }
        self.watch: dict[str, Any] = {"mode": "inotify", "directories": 5012, "unwatched": 0, "reason": ""}
        self.broken: Exception | None = None
        """what every piece of work raises"""
        self.stages = StageTimings()
        self._threads = ThreadPoolExecutor(100)

    def close(self) -> None:
        self.gate.set()
        self._threads.shutdown()

    def status(self) -> Any:
        return {
            "version": "1.2.3",
            "daemon": {
                "running": True,
                "pid": os.getpid(),
                "uptime_s": 7300.0,
                "state": "running",
                "watches": 5012,
                "events_lost": 0,
            },
            "store": self.store,
            "incidents": [],
            "repos": [self._repo(name) for name in sorted(self.roots)],
        }

    def stage_totals(self) -> Mapping[tuple[str, Stage], StageTotal]:
        return self.stages.totals()

    def _repo(self, name: str) -> dict[str, Any]:
        state = self.states.get(name, "current")
        return {
            "name": name,
            "root": self.roots[name],
            "collection": name,
            "state": state,
            "reason": "" if state == "current" else f"somebody made it {state}",
            "files": len(list(Path(self.roots[name]).glob("*"))),
            "chunks": 0,
            "pending": len(self.dirty.get(name, [])),
            "lag_s": 4.2 if self.dirty.get(name) else 0.0,
            "progress": None,
            "waiting": None,
            "last_sync": None,
            "synced_at": None,
            "watch": self.watch,
            "quarantined": [],
            "verdicts": [],
            "errors": [],
        }

    def add(self, path: str, name: str | None) -> Work:
        if not os.path.isdir(path):
            raise RootMissingError(f"{path} does not exist")

        def add() -> dict[str, Any]:
            chosen = name or os.path.basename(path)
            if self.roots.setdefault(chosen, path) != path:
                raise UsageError(f'the name "{chosen}" is taken by {self.roots[chosen]}')
            return {"name": chosen, "root": path}

        return self._do(add)

    def remove(self, repo: str) -> Work:
        return self._do(lambda: {"root": self.roots.pop(self._names(repo)[0]), "name": repo})

    def pause(self, repo: str | None) -> Work:
        return self._set(repo, "paused")

    def resume(self, repo: str | None) -> Work:
        return self._set(repo, "current")

    def _set(self, repo: str | None, state: str) -> Work:
        def set_state() -> dict[str, Any]:
            names = self._names(repo)
            self.states |= dict.fromkeys(names, state)
            return {"repos": names}

        return self._do(set_state)

    def sync(self, path: str, name: str | None, full: bool) -> Work:
        def sync() -> dict[str, Any]:
            if not os.path.isdir(path):
                raise RootMissingError(f"{path} does not exist")
            chosen = name or os.path.basename(path)
            self.roots[chosen] = path
            files = sorted(each.name for each in Path(path).iterdir())
            unreadable = [each for each in files if each.endswith(".unreadable")]
            self.files_done = len(files)
            counts = {
                "new": len(files) if full else 0,
                "modified": 0,
                "deleted": 0,
                "unchanged": 0,
                "skipped": {},
                "plain": 0,
            }
            return {
                "repo": chosen,
                "root": path,
                "files": {"total": len(files), **counts},
                "chunks": {"total": len(files), "added": 0, "relabelled": 0, "deleted": 0, "embedded": 0},
                "bytes_read": 0,
                "duration_s": 0.5,
                "errors": [{"path": each, "error": "Permission denied"} for each in unreadable],
            }

        return self._do(sync)

    def flush(self, repo: str | None) -> Work:
        def flush() -> dict[str, Any]:
            names = self._names(repo)
            for name in names:
                self.dirty.pop(name, None)
            return {"repos": names, "errors": []}

        return self._do(flush)

    def verify(self, repo: str | None, repair: bool) -> Work:
        def verify() -> dict[str, Any]:
            wrong = {"missing": 1} if self.dirty else {}
            counts = {"records": 1, "files": 1, "vectors": 1, "pending": 0, "counts": wrong, "problems": []}
            return {
                "repos": [
                    {"repo": name, "root": self.roots[name], **counts, "errors": [], "repaired": repair}
                    for name in self._names(repo)
                ]
            }

        return self._do(verify)

    def runs(self, repo: str | None, limit: int) -> Any:
        return {"runs": [{"repo": name, "limit": limit} for name in self._names(repo)]}

    def search(self, query: str, repo: str | None, limit: int) -> Work:
        def search() -> dict[str, Any]:
            hits = []
            for name in self._names(repo):
                for path in sorted(Path(self.roots[name]).iterdir()):
                    for number, line in enumerate(path.read_text().splitlines(), 1):
                        if query in line:
                            where = {"repo": name, "path": path.name, "start_line": number, "end_line": number}
                            what = {"symbol": "", "language": "text", "digest": "", "score": 1.0, "text": line + "\n"}
                            hits.append({**where, **what})
            return {"hits": hits[:limit], "complete": True, "notices": []}

        return self._do(search)

    def _names(self, repo: str | None) -> list[str]:
        names = [name for name, root in sorted(self.roots.items()) if repo in (None, name, root)]
        if not names:
            raise NotFoundError(f'there is no repository "{repo}"')
        return names

    def _do(self, work: Callable[[], dict[str, Any]]) -> Work:
        def do() -> dict[str, Any]:
            self.asked.release()
            self.gate.wait()
            if self.broken:
                raise self.broken
            return work()

        with suppress(RuntimeError):
            return Work(self._threads.submit(do), self._progress)
        raise AssertionError("asked for work after the end of the test")

    def _progress(self) -> dict[str, Any]:
        return {
            "pending": [
                {"repo": name, "paths": paths, "why": "the gate is closed"} for name, paths in self.dirty.items()
            ],
            "phase": "index",
            "files_done": self.files_done,
            "files_total": 9,
            "chunks_done": 0,
            "trouble": self.trouble,
            "cutting": "",
        }
