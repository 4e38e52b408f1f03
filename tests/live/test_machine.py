"""Whatever is done to a tree, and wherever the service dies, after a flush the index equals one built from scratch."""

from __future__ import annotations

import shutil
import tempfile
import threading
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from reposyncd.daemon.engine import repo_state
from tests.edits import Edits
from tests.live.service import Live, live, result_of, until
from tests.property.test_sync import Crash
from tests.support import Lab, write


class Mortal:
    """An index whose process dies with the service, at a step that is set: calls are steps, before and after."""

    def __init__(self, index: Any) -> None:
        self._index = index
        self._lock = threading.Lock()
        self._left: int | None = None
        self._has_died = False

    def dies_in(self, steps: int | None) -> bool:
        """From now on; None: no more. Whether it has died since the last call."""
        with self._lock:
            self._left, has_died, self._has_died = steps, self._has_died, False
        return has_died

    def _step(self) -> None:
        with self._lock:
            if self._left is None:
                return
            self._left -= 1
            self._has_died = self._left < 0
        if self._has_died:
            raise Crash

    def __getattr__(self, name: str) -> Any:
        if name == "observed":
            return lambda on_wait: self
        operation = getattr(self._index, name)
        if name in ("start", "close", "release", "session", "stalled_s"):
            return operation

        def counted(*arguments: Any) -> Any:
            self._step()
            result = operation(*arguments)
            self._step()
            return result

        return counted


class Machine(Edits):
    def __init__(self) -> None:
        super().__init__()
        repo_state.MISSING_S = 0.05
        self.place = Path(tempfile.mkdtemp())
        self.lab: Live = live(
            self.place, REPOSYNCD_WATCH__SETTLE="0.01", REPOSYNCD_WATCH__MAX_WAIT="0.05", REPOSYNCD_LOCK__TIMEOUT="5"
        )
        self.index = Mortal(self.lab.index)
        self.lab.index = self.index
        self.paused = False
        self.small = {
            name: Lab(
                (self.place / name).resolve(), self.lab.state, self.index, variables=self.lab.variables, name=name
            )
            for name in ("none", "one", "two")
        }
        """other repositories of the same service"""
        daemon = self.lab.start()
        result_of(daemon.add(str(self.lab.root), "lab"))
        for chunks, (name, lab) in enumerate(self.small.items()):
            write(lab.root, {"always.bin": b"\0"} | {f"{number}.txt": f"small {number}\n" for number in range(chunks)})
            result_of(daemon.add(str(lab.root), name))

    def teardown(self) -> None:
        self.lab.stop()
        shutil.rmtree(self.place)

    def change(self) -> None:
        pass

    def restart(self) -> None:
        self.lab.stop()
        self.lab.start()

    @rule()
    def stop_and_start(self) -> None:
        self.restart()

    @rule(step=st.integers(0, 12))
    def die(self, step: int) -> None:
        """At a step of what is under way, or of what comes next."""
        daemon = self.lab.daemon
        assert daemon
        self.index.dies_in(step)
        self.lab.write({"a.py": f"dies = {step}\n"})
        until(lambda: daemon.error or self.lab.status()["state"] in ("current", "paused"), "dead or done")
        if self.index.dies_in(None):  # perhaps in another repository, and just now
            until(lambda: isinstance(daemon.error, Crash), "dead")
            daemon.stop()
            self.lab.daemon = None
            self.lab.start()

    @rule(name=st.sampled_from(["x/new.py", "lost.md", "w/y/z.txt"]), text=st.sampled_from(["one\n", "two\n"]))
    def lose_events(self, name: str, text: str) -> None:
        assert self.lab.daemon
        engine = self.lab.daemon.engine
        watching = engine.watching
        watches = watching._watches
        assert watches
        hint, watches._on_hint = watches._on_hint, lambda root, path, recursive: None
        place = self.lab.root / name
        for parent in place.relative_to(self.lab.root).parents:
            if (self.lab.root / parent).is_file():
                (self.lab.root / parent).unlink()
        self.lab.write({name: text})
        watching.settle(5)
        watches._on_hint = hint
        engine.lose_events("the queue was full")

    @rule(name=st.sampled_from(["none", "one", "two"]), texts=st.lists(st.sampled_from(["one\n", "2\n"]), max_size=3))
    def edit_another_one(self, name: str, texts: list[str]) -> None:
        """A small repository has these chunks."""
        for path in self.small[name].root.glob("*.txt"):
            path.unlink()
        self.small[name].write({f"{number}.txt": text for number, text in enumerate(texts)})

    @rule()
    def pause(self) -> None:
        assert self.lab.daemon
        result_of(self.lab.daemon.pause("lab"))
        self.paused = True

    @precondition(lambda self: self.paused)
    @rule()
    def resume(self) -> None:
        assert self.lab.daemon
        result_of(self.lab.daemon.resume("lab"))
        self.paused = False

    @rule()
    def move_the_root_away_and_back(self) -> None:
        away = self.lab.root.with_name("away")
        self.lab.root.rename(away)
        if not self.paused:
            until(lambda: self.lab.status()["state"] == "missing", "missing")
        away.rename(self.lab.root)
        if not self.paused:
            until(lambda: self.lab.status()["state"] != "missing", "it is back")

    @precondition(lambda self: not self.paused)
    @rule()
    def check(self) -> None:
        self.lab.assert_current()
        self.the_small_ones_are_true()

    @precondition(lambda self: not self.paused)
    @rule()
    def wait_and_check(self) -> None:
        """Without asking."""
        self.lab.until_current()
        assert self.lab.daemon
        assert self.lab.daemon.engine.watching.settle(5)
        self.lab.until_current()
        self.lab.assert_equals_an_index_built_from_scratch()
        until(lambda: all(self.lab.status_of(name)["state"] == "current" for name in self.small), "all are current")
        self.the_small_ones_are_true()

    def the_small_ones_are_true(self) -> None:
        for lab in self.small.values():
            lab.assert_equals_an_index_built_from_scratch()


Machine.TestCase.settings = settings(
    max_examples=30, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
TestALiveService = Machine.TestCase
