"""The service: an engine, its API, and their end."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from reposyncd.config import Config
from reposyncd.daemon.engine.loop import PATIENCE_S, STALL_S, Engine
from reposyncd.daemon.engine.registry import Discovery, Missing, RepoRegistry, Roots
from reposyncd.daemon.engine.verification import Verifying
from reposyncd.daemon.engine.work import Work
from reposyncd.daemon.events import DIED, say
from reposyncd.daemon.http.api import Api
from reposyncd.daemon.http.server import GRACE_S
from reposyncd.daemon.process.supervision import HealthCheck, Restart
from reposyncd.daemon.requests import Requests
from reposyncd.daemon.status import beginning, recorded, report
from reposyncd.daemon.summary import summary
from reposyncd.errors import BusyError, ReposyncError, safe_message
from reposyncd.ports import RunningIndex

STOP_S = 30.0
"""How long the batches that are under way may take at the end, where nobody is in a hurry."""

LEAVE_S = 5.0
"""How long a service that lets go of the state may still listen at the socket: it promises to end within that."""

LEAVE_LOOK_S = 0.05
"""Between two looks at whether it has ended."""

PING_S = 2.0
"""How long the API's thread may take to come by; it takes a millisecond."""

REACH_S = 60.0
"""Between two looks at whether the socket's file is still there."""

_TROUBLES = 10
"""Deaths that status tells of: the last ones."""


class Daemon(Requests):
    """A `ports.Service` over an engine, which is started again when it dies.

    `on_change` is called, from any thread, when `mend` may have something to do, and when a job begins or ends.
    A part that has made no progress for `stall_s`, although it had something to do, is not well.
    """

    def __init__(
        self,
        config: Config,
        environ: Mapping[str, str],
        *,
        index: RunningIndex | None = None,
        now_ns: Callable[[], int] = time.time_ns,
        on_change: Callable[[], None] = lambda: None,
        stall_s: float = STALL_S,
    ) -> None:
        self._stall_s = stall_s
        self._config = config
        self._environ = environ
        self._index = index
        self._now_ns = now_ns
        self._on_change = on_change
        self._started = time.monotonic()
        self.error: BaseException | None = None
        """what the engine ended of, if it has ended badly"""
        self._troubles: deque[str] = deque(maxlen=_TROUBLES)
        """what has died since the start"""
        self._restarts = (
            Restart("the engine", self._start_engine_again, self._tell_death),
            Restart("the API", self._start_api_again, self._tell_death),
        )
        self._engine_restart, self._api_restart = self._restarts
        self._api: Api | None = None
        self._reach_due = 0.0
        super().__init__()
        self._assemble()
        self._reported: dict[str, Any] = {}
        """the last report"""
        self._recorded: dict[str, Any] = {}
        """what is on record, while an engine begins"""

    def _assemble(self) -> None:
        """An engine, with its periodic_tasks."""
        self._ready = threading.Event()
        self._ended = threading.Event()
        self.engine = Engine(
            self._config,
            self._environ,
            on_ready=self._on_ready,
            on_end=self._on_end,
            on_change=self._on_change,
            on_death=self._tell_death,
            has_api=lambda: self._api is not None,
            recorded=lambda: [str(each["name"]) for each in self.status()["repos"]],
            index=self._index,
            now_ns=self._now_ns,
            stall_s=self._stall_s,
        )
        self._roster = RepoRegistry(self.engine)
        self._discovery = Discovery(self.engine, self._roster)
        self._verifying = Verifying(self.engine)
        self.engine.periodic_tasks += [self._discovery, Missing(self.engine, self._roster), Roots(self.engine)]
        self.engine.periodic_tasks += [self._roster.removed, self._verifying]

    # Its life, in the main thread -------------------------------------------------------------------------

    def start(self) -> None:
        """Returns when the repositories are known and the API answers. Raises what keeps it from starting: BusyError,
        if another process writes to the state."""
        self.begin()
        try:
            self._ready.wait()
            self.serve()
        except BaseException:
            self.stop()
            raise

    def begin(self) -> None:
        """Starts the engine; `is_ready` when the repositories are known, or `has_ended`. Answers meanwhile what can be
        said before, unless another service answers there: that one may be about to end. Raises ReposyncError if there
        is no state directory to be had, and what else keeps the API from answering."""
        self._look_at_record()
        with suppress(BusyError):
            self._api = self._answering()
        self.engine.start()

    def serve(self) -> None:
        """Answers from now on. Raises what ended the engine, if it has ended, and what keeps the API from answering."""
        if self.error:
            raise self.error
        until = time.monotonic() + LEAVE_S
        while self._api is None:
            try:
                self._api = self._answering()
            except BusyError:  # the state is ours, so who listens may be a service that is just ending
                if time.monotonic() >= until:
                    raise
                time.sleep(LEAVE_LOOK_S)

    def _look_at_record(self) -> None:
        """What there is to say until an engine that does not run yet has begun."""
        self._recorded = recorded(self._config.state_dir, self._now_ns(), self._started)

    def _answering(self) -> Api:
        api = Api(self, self._config.socket, state_dir=self._config.state_dir, on_death=self._on_api_death)
        try:
            api.listen(self._config.api)
        except BaseException:
            api.close()
            raise
        return api

    @property
    def is_ready(self) -> bool:
        """Whether the repositories are known; or the engine has ended before."""
        return self._ready.is_set()

    @property
    def has_ended(self) -> bool:
        """Whether the engine has ended."""
        return self._ended.is_set()

    def mend(self, now: float) -> float | None:
        """Starts again what has died; returns when there will be more to do, on the monotonic clock. Raises what it
        died of, when it dies too often, and what keeps the API from answering again."""
        if self.engine.is_told_to_stop:
            return None
        due = [each.mend(now) for each in self._restarts]
        return min((each for each in due if each is not None), default=None)

    def _start_engine_again(self) -> None:
        self.error = None
        with suppress(ReposyncError):  # the engine meets it too, and is tried again
            self._look_at_record()
        self._assemble()
        self.engine.start()

    def _start_api_again(self) -> None:
        api, self._api = self._api, None  # there is none to be missed meanwhile
        if api:
            api.close()
        self._api = self._answering()

    def _on_api_death(self, error: BaseException) -> None:
        self._api_restart.died(error)
        self._on_change()

    def check_reach(self, now: float, *, at_once: bool = False) -> float:
        """Has the API start again if nobody can find its socket any more; looks now and then, and returns when the next
        time is, on the monotonic clock."""
        if at_once or now >= self._reach_due:
            self._reach_due = now + REACH_S
            if self._api and not self._api_restart.is_pending and not self._api.is_reachable:
                self._on_api_death(ReposyncError(f"its socket {self._config.socket} was deleted or replaced"))
        return self._reach_due

    def _tell_death(self, what: str, error: BaseException | str) -> None:
        """From any thread."""
        why = str(error) if isinstance(error, str | ReposyncError) else safe_message(error)
        say(DIED, what=what, reason=why)
        at = time.strftime("%Y-%m-%d %H:%M", time.localtime(self._now_ns() / 1e9))
        self._troubles.append(f"{what} died on {at}, and is started again by itself: {why}")

    def reconfigure(self, config: Config) -> Work:
        """Done when all is as this configuration has it, but for the places of state and socket. If it cannot listen at
        `api.listen`, the work fails, and everything stays as it was."""
        work = Work(self.engine.progress)
        try:
            if self._api and not self._api_restart.is_pending:  # the one that follows has it anyway
                self._api.listen(config.api)
        except ReposyncError as error:
            work.fail(error)
            return work
        self._config = config
        engine = self.engine
        asked = engine.ask(lambda: engine.reconfigure(config))

        def ended() -> None:
            if engine.is_stopping:  # it has died; the next one is assembled with this configuration
                work.done({})
            else:
                work.end_as(asked)

        asked.on_end(ended)
        return work

    def ask_to_stop(self) -> None:
        """Returns at once; `has_ended` when it is done."""
        self.engine.stop()

    def abandon(self) -> None:
        """What is under way is cut off: it is done again at the next start."""
        self.engine.abandon()

    def stop(self) -> None:
        """Ends everything, and returns when it has."""
        self.ask_to_stop()
        self._ended.wait(STOP_S)
        self.close()

    def close(self, grace_s: float = GRACE_S) -> None:
        """Answers no more; those who are being answered have `grace_s` to read it."""
        self.end_requests()
        if self._api:
            self._api.close(grace_s)

    @property
    def vitals(self) -> list[HealthCheck]:
        """What has to make progress."""
        return [
            *self._passive_vitals,
            HealthCheck("the API", lambda: self._api is None or self._api_restart.is_pending or self._api.ping(PING_S)),
        ]

    @property
    def _passive_vitals(self) -> list[HealthCheck]:
        """Those that are not asked, only looked at."""
        return [
            HealthCheck("the engine", lambda: self.engine.is_responsive),
            HealthCheck("the watcher", lambda: self.engine.is_watcher_responsive),
            HealthCheck("the index process", lambda: self.engine.is_index_responsive),
            HealthCheck("the chunking processes", lambda: self.engine.is_chunking_responsive),
        ]

    @property
    def is_busy(self) -> bool:
        """Whether a job is under way."""
        return self.engine.is_busy

    @property
    def waits_for_lock(self) -> str:
        """Who keeps it from being ready by holding the state; "" for nobody."""
        return self.engine.waits_for_lock

    @property
    def summary(self) -> str:
        """What it is doing, on one line."""
        return summary(self.status())

    def _on_ready(self) -> None:
        self._ready.set()
        self._on_change()

    def _on_end(self, error: BaseException | None) -> None:
        self.error = error
        self._engine_restart.died(error or RuntimeError("the engine has ended, and nobody told it to"))
        self._ended.set()
        self._ready.set()
        self._on_change()

    def status(self) -> dict[str, Any]:
        """What is kept, and how current it is. An engine that hangs keeps nobody from asking: it says so, and what was
        true before."""
        stalled = [each.what for each in self._passive_vitals if not each.is_responsive()]
        problems = [f"{what} makes no progress; if that lasts, restart the service" for what in stalled]
        problems += [*self._troubles, *self._discovery.problems]
        if self.engine.checkpoint_failure:
            problems.append(self.engine.checkpoint_failure)
        found = self._begun() if self.engine.has_begun else self._beginning()
        found = {**found, "daemon": {**found["daemon"], "problems": problems}}
        if "the engine" in stalled:
            found["daemon"]["state"] = "the engine makes no progress"
        return found

    def _begun(self) -> dict[str, Any]:
        with self.engine.lock_in_time(PATIENCE_S if self._reported else -1) as is_locked:
            if is_locked:
                self._reported = report(self.engine, self._started)
        return self._reported

    def _beginning(self) -> dict[str, Any]:
        """What is on record. Once the engine has the state it may make the manifest anew, and nobody else may look."""
        why = self.engine.beginning
        if self.engine.waits_for_lock:
            with suppress(ReposyncError):
                self._look_at_record()
        return beginning(self._recorded, why)
