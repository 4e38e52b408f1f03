"""A service on a tree, and the oracle."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reposyncd.config import Config
from reposyncd.daemon.engine.work import Work
from reposyncd.daemon.service import Daemon
from tests.support import HANGS_S, Lab, config_for, until

__all__ = ["FAST", "HANGS_S", "Live", "live", "many", "result_of", "until"]

FAST = {"REPOSYNCD_WATCH__SETTLE": "0.05", "REPOSYNCD_WATCH__MAX_WAIT": "0.5"}


@dataclass
class Live(Lab):
    """A tree, its index, and a service that keeps it current."""

    variables: dict[str, str] = field(default_factory=lambda: dict(FAST))
    daemon: Daemon | None = None
    now_ns: Callable[[], int] = time.time_ns

    def config(self) -> Config:
        socket = str(self.state.with_name("socket") / "s")
        return config_for(self.state, REPOSYNCD_SOCKET=socket, **self.variables)

    def start(self) -> Daemon:
        self.daemon = Daemon(self.config(), {"HOME": "/nonexistent"}, index=self.index, now_ns=self.now_ns)
        self.daemon.start()
        return self.daemon

    def stop(self) -> None:
        if self.daemon:
            self.daemon.stop()
            error, self.daemon = self.daemon.error, None
            if error:
                raise error

    def stop_and_start_again(self) -> None:
        self.stop()
        self.start()

    @contextmanager
    def running(self) -> Iterator[Daemon]:
        """A service that keeps the tree, and has brought it up to date once."""
        daemon = self.start()
        try:
            result_of(daemon.add(str(self.root), "lab"))
            self.flush()
            yield daemon
        finally:
            self.stop()

    def flush(self) -> Any:
        assert self.daemon
        return result_of(self.daemon.flush(None))

    def status(self) -> Any:
        """Of this repository."""
        return self.status_of(self.name)

    def status_of(self, name: str) -> Any:
        assert self.daemon
        [repo] = [each for each in self.daemon.status()["repos"] if each["name"] == name]
        return repo

    def assert_current(self) -> None:
        """After a flush the index is what one built from scratch would be."""
        self.flush()
        self.assert_equals_an_index_built_from_scratch()

    def until_current(self) -> None:
        """Returns when the service, unasked, has nothing to do any more."""
        until(lambda: self.status()["state"] == "current", f"current: {self.status()}")


def result_of(work: Work) -> Any:
    assert work.wait(HANGS_S), work.progress()
    result: dict[str, Any] = work.result()
    return result


def live(place: Path, **variables: str) -> Live:
    root = place / "tree"
    root.mkdir()
    return Live(root.resolve(), place / "state", variables=FAST | variables)


def many(count: int, text: Callable[[int], str] = lambda number: f"file {number}\n") -> Mapping[str, str]:
    return {f"d{number % 50}/f{number}.txt": text(number) for number in range(count)}
