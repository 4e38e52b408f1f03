"""The service: an engine and its API. Starts them, restarts them when they die, and stops them."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from reposyncd import __version__
from reposyncd.app import messages
from reposyncd.app.recorded_status import recorded_status
from reposyncd.config import Config
from reposyncd.daemon.engine.loop import STALL_S, Engine
from reposyncd.daemon.engine.observers import Observers
from reposyncd.daemon.engine.registry import LOCK_TIMEOUT_S
from reposyncd.daemon.engine.transition_log import TransitionLog
from reposyncd.daemon.engine.work import Work
from reposyncd.daemon.events import DIED, log_event
from reposyncd.daemon.http.api import Api
from reposyncd.daemon.http.server import GRACE_S
from reposyncd.daemon.process.supervision import HealthCheck, Restart
from reposyncd.daemon.requests import Requests
from reposyncd.daemon.stage_timings import StageTimings, StageTotal
from reposyncd.daemon.status import report, starting, with_problems
from reposyncd.daemon.summary import summary
from reposyncd.errors import BusyError, ReposyncError, safe_message
from reposyncd.ports import Observer, RunningIndex, Stage

ENGINE_STOP_S = 30.0
"""How long `Daemon.stop` waits for the batches under way."""

HANDOVER_S = 5.0
"""How long another service may still listen at the socket after it has released the state. It ends within this time."""

HANDOVER_CHECK_S = 0.05
"""Time between two checks whether that service has ended."""

PING_S = 2.0
"""How long the API's thread may take to answer. It takes a millisecond."""

REACH_S = 60.0
"""Time between two checks whether the socket's file is still there."""

_DEATHS_AT_MOST = 10
"""How many deaths `status` lists: the most recent ones."""


class Daemon(Requests):
    """A `ports.Service` on an engine, which is replaced when it dies.

    `on_change` is called, in any thread, when `restart_dead` may have something to do, and when a job begins or ends.
    `observers` see what the engine does, also after it was replaced. A part of the service counts as hanging if it has
    had something to do for `stall_s` seconds and has made no progress.

    `start` to `close` are for the main thread; everything else is for any thread.
    """

    def __init__(
        self,
        config: Config,
        environ: Mapping[str, str],
        *,
        index: RunningIndex | None = None,
        now_ns: Callable[[], int] = time.time_ns,
        on_change: Callable[[], None] = lambda: None,
        observers: Sequence[Observer] = (),
        stall_s: float = STALL_S,
    ) -> None:
        self._stall_s = stall_s
        self._config = config
        self._environ = environ
        self._index = index
        self._now_ns = now_ns
        self._on_change = on_change
        self._started = time.monotonic()
        self._stage_timings = StageTimings()
        self._transition_log = TransitionLog(now_ns())
        self._observer = Observers([self._transition_log, self._stage_timings, *observers])
        self._error: BaseException | None = None
        self._deaths: deque[str] = deque(maxlen=_DEATHS_AT_MOST)
        """deaths of parts since the start, in words"""
        self._engine_restart = Restart("the engine", self._restart_engine, self._report_death)
        self._api_restart = Restart("the API", self._restart_api, self._report_death)
        self._api: Api | None = None
        self._reach_due = 0.0
        self._reported: messages.Status | None = None
        """the last status of an engine that had begun"""
        self._recorded: messages.Status
        """the recorded status, used until the engine has begun"""
        super().__init__()
        self._assemble()

    def _assemble(self) -> None:
        """Makes an engine, without starting it."""
        self._ready = threading.Event()
        self._ended = threading.Event()
        self.engine = Engine(
            self._config,
            self._environ,
            observer=self._observer,
            reports=self._transition_log,
            on_ready=self._on_ready,
            on_end=self._on_end,
            on_change=self._on_change,
            on_death=self._report_death,
            has_own_api=lambda: self._api is not None,
            recorded=lambda: [str(each["name"]) for each in self.status()["repos"]],
            index=self._index,
            now_ns=self._now_ns,
            stall_s=self._stall_s,
        )

    @property
    def error(self) -> BaseException | None:
        """The error that the engine has died of, if it has died."""
        return self._error

    # Start, restart and stop ------------------------------------------------------------------------------

    def start(self) -> None:
        """Returns when the repositories are known and the API answers. Raises what prevents that: BusyError if another
        process writes to the state."""
        self.begin()
        try:
            self._ready.wait()
            self.serve()
        except BaseException:
            self.stop()
            raise

    def begin(self) -> None:
        """Starts the engine and the API. Until the engine has begun, the API answers with the recorded status. If
        another service answers at the socket, the API is not started: that service may be about to end. Raises
        ReposyncError if the state directory cannot be used, or the API cannot be started for another reason."""
        self._read_record()
        with suppress(BusyError):
            self._api = self._start_api()
        self.engine.start()

    def serve(self) -> None:
        """Starts the API, if `begin` has not. Raises the error that the engine has died of, if it has died, or what
        prevents the API from starting."""
        if self._error:
            raise self._error
        until = time.monotonic() + HANDOVER_S
        while self._api is None:
            try:
                self._api = self._start_api()
            except BusyError:  # we hold the state lock, so the service that listens may be about to end
                if time.monotonic() >= until:
                    raise
                time.sleep(HANDOVER_CHECK_S)

    def _read_record(self) -> None:
        """Reads the status that is used until the engine has begun."""
        self._recorded = recorded_status(self._config.state_dir, self._now_ns(), __version__)

    def _start_api(self) -> Api:
        api = Api(self, self._config.socket, state_dir=self._config.state_dir, on_death=self._on_api_death)
        try:
            api.listen(self._config.api)
        except BaseException:
            api.close()
            raise
        return api

    @property
    def is_ready(self) -> bool:
        """Whether the repositories are known, or the engine has ended."""
        return self._ready.is_set()

    @property
    def has_ended(self) -> bool:
        """Whether the engine has ended."""
        return self._ended.is_set()

    def restart_dead(self, now: float) -> float | None:
        """Restarts what has died, after a delay. Returns when to call this again, on the monotonic clock. Raises the
        error that a part died of, if it dies too often, or what prevents the API from starting."""
        if self.engine.lifecycle.is_stop_requested:
            return None
        due = [each.restart_if_due(now) for each in (self._engine_restart, self._api_restart)]
        return min((each for each in due if each is not None), default=None)

    def _restart_engine(self) -> None:
        self._error = None
        with suppress(ReposyncError):  # the engine meets the error too, and is restarted again
            self._read_record()
        self._assemble()
        self.engine.start()

    def _restart_api(self) -> None:
        api, self._api = self._api, None  # so that nobody checks it in the meantime
        if api:
            api.close()
        self._api = self._start_api()

    def _on_api_death(self, error: BaseException) -> None:
        self._api_restart.died(error)
        self._on_change()

    def check_reach(self, now: float, *, at_once: bool = False) -> float:
        """Checks periodically (`at_once`: now) whether clients can still find the socket. If not, has the API
        restarted. Returns when the next check is due, on the monotonic clock."""
        if at_once or now >= self._reach_due:
            self._reach_due = now + REACH_S
            if self._api and not self._api_restart.is_pending and not self._api.is_reachable:
                self._on_api_death(ReposyncError(f"its socket {self._config.socket} was deleted or replaced"))
        return self._reach_due

    def _report_death(self, what: str, error: BaseException | str) -> None:
        """From any thread."""
        why = str(error) if isinstance(error, str | ReposyncError) else safe_message(error)
        log_event(DIED, what=what, reason=why)
        at = time.strftime("%Y-%m-%d %H:%M", time.localtime(self._now_ns() / 1e9))
        self._deaths.append(f"{what} died on {at} and is restarted automatically: {why}")

    def reconfigure(self, config: Config) -> Work:
        """Uses another configuration; only the paths of the state directory and the socket stay. If the API cannot
        listen at `api.listen`, the work fails, and everything stays as it was."""
        engine = self.engine
        work = Work(engine.progress)
        try:
            if self._api and not self._api_restart.is_pending:  # a restarted API takes the address from `_config`
                self._api.listen(config.api)
        except ReposyncError as error:
            work.fail(error)
            return work
        self._config = config
        asked = engine.reconfigure(config)

        def end() -> None:
            if engine.lifecycle.is_stopping:  # it has died, and the next engine starts with this configuration
                work.done({})
            else:
                work.end_as(asked)

        asked.on_end(end)
        return work

    def ask_to_stop(self) -> None:
        """Asks the engine to stop, and returns at once. `has_ended` says when it has."""
        self.engine.stop()

    def abandon(self) -> None:
        """Cancels the work under way. The next start repeats it."""
        self.engine.abandon()

    def stop(self) -> None:
        """Stops everything, and returns when that is done."""
        self.ask_to_stop()
        self._ended.wait(ENGINE_STOP_S)
        self.close()

    def close(self, grace_s: float = GRACE_S) -> None:
        """Stops the API. Clients that are waiting for an answer have `grace_s` seconds to read it."""
        self.end_requests()
        if self._api:
            self._api.close(grace_s)

    # For any thread ---------------------------------------------------------------------------------------

    @property
    def health_checks(self) -> list[HealthCheck]:
        """One check for each part that has to make progress."""
        return [
            *self._passive_checks,
            HealthCheck("the API", lambda: self._api is None or self._api_restart.is_pending or self._api.ping(PING_S)),
        ]

    @property
    def _passive_checks(self) -> list[HealthCheck]:
        """The checks that return at once."""
        return [
            HealthCheck("the engine", lambda: self.engine.is_responsive),
            HealthCheck("the watcher", lambda: self.engine.is_watcher_responsive),
            HealthCheck("the index process", lambda: self.engine.is_index_responsive),
            HealthCheck("the chunking processes", lambda: self.engine.is_chunking_responsive),
        ]

    @property
    def is_busy(self) -> bool:
        """Whether a sync is under way, or the engine hangs."""
        return self.engine.is_busy

    @property
    def waits_for_lock(self) -> str:
        """Which process holds the state lock that the service waits for, in words; "" if it does not wait."""
        return self.engine.lifecycle.waits_for_lock

    @property
    def summary(self) -> str:
        """What the service is doing, in one line."""
        return summary(self.status(), self._now_ns() / 1e9)

    def _on_ready(self) -> None:
        self._ready.set()
        self._on_change()

    def _on_end(self, error: BaseException | None) -> None:
        self._error = error
        self._engine_restart.died(error or RuntimeError("the engine ended without being asked to"))
        self._ended.set()
        self._ready.set()
        self._on_change()

    def status(self) -> messages.Status:
        """The state of the service, the store and every repository. If the engine hangs, the status says so, and shows
        what was true before."""
        stalled = [each.what for each in self._passive_checks if not each.is_responsive()]
        problems = [f"{what} makes no progress; if that lasts, restart the service" for what in stalled]
        problems += [*self._deaths, *self.engine.problems]
        found = self._status() if self.engine.lifecycle.has_begun else self._recorded_status()
        return with_problems(found, problems, "the engine makes no progress" if "the engine" in stalled else None)

    def stage_totals(self) -> Mapping[tuple[str, Stage], StageTotal]:
        """How much time the stages of syncing have taken since the service started, by repository and stage."""
        return self._stage_timings.totals()

    def _status(self) -> messages.Status:
        reported = self._reported
        snapshot = self.engine.snapshot(LOCK_TIMEOUT_S if reported else -1)
        if snapshot is not None:
            self._reported = reported = report(snapshot, self._started)
        assert reported is not None  # noqa: S101 - the first call waits for as long as it takes
        return reported

    def _recorded_status(self) -> messages.Status:
        """The recorded status. It is read again while the engine waits for the state. Not after that: the engine may be
        rebuilding the manifest, and nobody else may read it then."""
        why = self.engine.lifecycle.starting
        if self.engine.lifecycle.waits_for_lock:
            with suppress(ReposyncError):
                self._read_record()
        return starting(self._recorded, why, self._started)
