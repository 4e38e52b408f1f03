"""Takes the lock of the state directory, and says who has it meanwhile."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack

from reposyncd.app.client import running as is_answered
from reposyncd.app.workspace import Workspace
from reposyncd.config import Config
from reposyncd.daemon.engine.lifecycle import Lifecycle
from reposyncd.daemon.events import LOCKED, say
from reposyncd.errors import BusyError
from reposyncd.store.locks import STATE_LOCK, holder

TRY_S = 1.0
"""How long one try waits. Between two tries it is checked who has the lock, and whether the engine is to stop."""


def take_state_lock(
    locked: ExitStack,
    workspace: Workspace,
    config: Config,
    lifecycle: Lifecycle,
    *,
    has_own_api: Callable[[], bool],
    on_wait: Callable[[], None],
) -> bool:
    """Waits for a `sync` or `verify` that has the lock, without limit, and for another service, `lock.timeout` at most:
    raises BusyError then. Returns False if the engine is told to stop before it has the lock.

    `has_own_api` says whether the API that answers is ours, and not another service's. `on_wait` is called at least
    every two seconds.
    """
    began, timeout_s = time.monotonic(), 0.0
    while not lifecycle.is_stopping:
        on_wait()
        try:
            locked.enter_context(workspace.state_lock(timeout_s))
        except BusyError:
            is_service = not has_own_api() and is_answered(config.socket)
            why = _why(config, is_service)
            if is_service and time.monotonic() >= began + config.lock.timeout:
                raise BusyError(f"{_who(config, is_service)} uses {config.state_dir}; stop it first") from None
            if why != lifecycle.waits_for_lock:
                say(LOCKED, reason=why)
            lifecycle.wait_for_lock(why)
            on_wait()
            timeout_s = TRY_S
        else:
            lifecycle.wait_for_lock("")
            return True
    return False


def _who(config: Config, is_service: bool) -> str:
    who = f"process {holder(os.path.join(config.state_dir, STATE_LOCK)) or 'unknown'}"
    return f"another reposyncd service ({who})" if is_service else who


def _why(config: Config, is_service: bool) -> str:
    who, place = _who(config, is_service), config.state_dir
    if is_service:
        return f"{who} uses {place}; waiting {config.lock.timeout:g} s at most"
    return f"{who} is writing to {place}; waiting until it is done"
