"""The process of the service: signals, supervision, notifications to systemd, and the end."""

from __future__ import annotations

import faulthandler
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple, NoReturn

from reposyncd.config import KEYS, Config
from reposyncd.daemon.engine.loop import STALL_S
from reposyncd.daemon.engine.work import Work
from reposyncd.daemon.events import (
    ABANDONED,
    NO_SYSTEMD,
    READY,
    REFUSED,
    RELOADED,
    STOPPED,
    STOPPING,
    log_event,
    log_unexpected,
)
from reposyncd.daemon.process.log import Log, is_journal, logging_to, set_level, writer
from reposyncd.daemon.process.signals import STOPS, SignalWaker
from reposyncd.daemon.process.supervision import Watchdog
from reposyncd.daemon.process.systemd import Notifier, available
from reposyncd.daemon.resources import lower_priority
from reposyncd.daemon.service import Daemon
from reposyncd.errors import ConfigError, ReposyncError, safe_message

BATCH_S = 2.0
"""How long the batches under way may take after a signal to stop. Then the child processes are killed."""

STOP_S = 4.3
"""The process ends this long after a signal to stop, in any case: 5 s are promised, and ending takes time too."""

STATUS_S = 5.0
"""Time between two status lines for systemd while a sync is under way."""

START_S = 30.0
"""How much more time systemd is asked for at once while the service starts. It may have to rebuild the manifest."""

START_AT_MOST_S = 900.0
"""A start that takes longer counts as hanging."""

_STALL_SHARE = 0.5
"""A part counts as hanging after this share of the watchdog's time-out, if that is shorter than STALL_S."""

_RELOAD_CHECK_S = 0.2
"""Time between two checks whether a new configuration is in effect."""

_GRACE_S = 0.3
"""How long clients may take to read the error that the service has ended."""

_END_S = 4.7
"""The process ends this long after a signal to stop even if its main thread hangs, for example in the log."""


def run(config: Config, environ: Mapping[str, str], load: Callable[[], Config], log_format: str) -> None:
    """Runs the service in the foreground until SIGTERM or SIGINT. Raises ReposyncError if it cannot continue.

    `load` reads the configuration again after SIGHUP, and may raise ConfigError. `log_format` is one of `log.FORMATS`.
    """
    faulthandler.enable()  # systemd's watchdog sends SIGABRT: the log shows what hung
    lower_priority(config.limits.nice)
    with SignalWaker(_END_S) as waker:
        log = Log(writer(log_format, environ, sys.stderr), on_counted=waker.wake)
        with logging_to(log, config.log.level):
            is_systemd = bool(environ.get("NOTIFY_SOCKET")) or is_journal(environ, sys.stderr)
            if is_systemd and not available():
                log_event(NO_SYSTEMD)
            _Process(config, environ, load, waker, log).run()


class _Process:
    """What the main thread does."""

    def __init__(
        self, config: Config, environ: Mapping[str, str], load: Callable[[], Config], waker: SignalWaker, log: Log
    ) -> None:
        self._config = config
        self._load = load
        self._waker = waker
        self._log = log
        self._systemd = Notifier(environ)
        timeout_s = self._systemd.watchdog_s or math.inf
        self._daemon = Daemon(config, environ, on_change=waker.wake, stall_s=min(STALL_S, timeout_s * _STALL_SHARE))
        self._watchdog = Watchdog(self._daemon.health_checks, self._systemd.feed, self._systemd.watchdog_s)
        self._reload: _Reload | None = None
        self._is_reload_wanted = False
        """whether there was a SIGHUP that was not handled yet"""
        self._status_due = 0.0

    def run(self) -> None:
        try:
            stop = self._start()
            while stop is None:
                stop = self._handle_next()
        except BaseException as error:
            self._daemon.ask_to_stop()
            self._daemon.close(_GRACE_S)
            if isinstance(error, ReposyncError):
                raise
            log_unexpected("the service", error)
            raise ReposyncError(f"the service cannot continue ({safe_message(error)}); see the log") from None
        self._stop(stop)

    def _start(self) -> signal.Signals | None:
        """Returns None when the service is ready, or the signal that stops it."""
        self._daemon.begin()
        until = time.monotonic() + START_AT_MOST_S
        while not self._daemon.is_ready:
            waits = self._daemon.waits_for_lock
            self._systemd.status(f"waiting: {waits}" if waits else "opening the index")
            if waits:
                until = time.monotonic() + START_AT_MOST_S
            if time.monotonic() < until:
                self._systemd.extend_start(START_S)
            if (stop := self._wait(STATUS_S)) is not None:
                return stop
        self._daemon.serve()
        log_event(READY, socket=self._config.socket, place=self._config.state_dir)
        self._systemd.ready()
        return None

    def _handle_next(self) -> signal.Signals | None:
        """Waits until there is something to do, and does it. Returns the signal that stops the service, if any."""
        now = time.monotonic()
        times = [
            self._daemon.check_reach(now),
            self._daemon.restart_dead(now),
            self._watchdog.due(now),
            self._log.next_due,
        ]
        if self._systemd.is_wanted and (due := self._update_status(now)):
            times.append(due)
        if self._reload:
            times.append(now + _RELOAD_CHECK_S)
        elif self._is_reload_wanted:  # a further SIGHUP, or one that came during the start
            times.append(now)
        due = min((each for each in times if each is not None), default=math.inf)
        if (stop := self._wait(due - now)) is not None:
            return stop
        if self._is_reload_wanted and not self._reload:
            self._begin_reload()
        self._watchdog.check(time.monotonic())
        self._log.write_counts()
        if self._reload and self._reload.work.wait(0):
            self._end_reload(*self._reload)
        return None

    def _wait(self, timeout_s: float) -> signal.Signals | None:
        """Waits until something happens. Returns the signal that stops the service, if any. Records a SIGHUP."""
        received = self._waker.wait(timeout_s)
        self._is_reload_wanted = self._is_reload_wanted or signal.SIGHUP in received
        return next((each for each in received if each in STOPS), None)

    def _update_status(self, now: float) -> float | None:
        """Sends systemd the status line. Returns when to send it again, if a sync is under way."""
        if now < self._status_due:
            return self._status_due
        self._systemd.status(self._daemon.summary)
        if self._daemon.is_busy:
            self._status_due = now + STATUS_S
            return self._status_due
        return None

    # A new configuration ----------------------------------------------------------------------------------

    def _begin_reload(self) -> None:
        self._is_reload_wanted = False
        self._systemd.reloading()
        try:
            config = self._load()
        except Exception as error:  # such as a working directory that is gone; the old configuration stays in effect
            log_event(REFUSED, reason=str(error) if isinstance(error, ConfigError) else safe_message(error))
            self._systemd.ready()
            return
        config = replace(
            config, state_dir=self._config.state_dir, socket=self._config.socket
        )  # the state directory and the socket are open, and stay
        self._reload = _Reload(self._daemon.reconfigure(config), config)

    def _end_reload(self, work: Work, config: Config) -> None:
        self._reload = None
        try:
            work.result()
        except ReposyncError as error:
            log_event(REFUSED, reason=str(error))
        else:
            set_level(config.log.level)
            lower_priority(config.limits.nice)
            log_event(RELOADED, reason=_difference(self._config, config))
            self._config = config
        self._daemon.check_reach(
            time.monotonic(), at_once=True
        )  # SIGHUP may come from somebody who cannot reach the socket
        self._systemd.ready()

    # The end ----------------------------------------------------------------------------------------------

    def _stop(self, why: signal.Signals) -> None:
        """Ends within STOP_S; at once after a second signal. Nothing is lost: the next start repeats the work."""
        began = time.monotonic()
        self._systemd.stopping()
        log_event(STOPPING, reason=why.name)
        self._daemon.ask_to_stop()
        is_abandoned = False
        while not self._daemon.has_ended:
            elapsed = time.monotonic() - began
            if elapsed >= STOP_S:
                self._leave()
            if elapsed >= BATCH_S and not is_abandoned:
                is_abandoned = True
                log_event(ABANDONED)
                self._daemon.abandon()
            self._waker.wait((STOP_S if is_abandoned else BATCH_S) - elapsed)
        self._daemon.close(_GRACE_S)
        if self._are_threads_left(began + STOP_S):
            self._leave()
        log_event(STOPPED)

    def _leave(self) -> NoReturn:
        """Ends the process at once, even if there are threads that the interpreter would wait for."""
        log_event(STOPPED)
        self._log.write_counts(math.inf)
        os._exit(0)

    def _are_threads_left(self, until: float) -> bool:
        """Whether the interpreter would still wait for threads at this time, for example for a search that hangs."""
        others = [each for each in threading.enumerate() if each is not threading.current_thread() and not each.daemon]
        for each in others:
            each.join(max(0.0, until - time.monotonic()))
        return any(each.is_alive() for each in others)


class _Reload(NamedTuple):
    """A new configuration that is not in effect yet."""

    work: Work
    config: Config


def _difference(before: Config, after: Config) -> str:
    """The names of the keys whose values differ."""
    names = [key.path for key in KEYS if key.of(before) != key.of(after)]
    return ", ".join(names) or "nothing has changed"
