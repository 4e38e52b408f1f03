"""Takes the state lock, and says which process holds it in the meantime."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack

from reposyncd.app.client import running as is_answered
from reposyncd.app.workspace import Workspace
from reposyncd.config import Config
from reposyncd.daemon.engine.lifecycle import Lifecycle
from reposyncd.daemon.events import LOCKED, log_event
from reposyncd.errors import BusyError
from reposyncd.store.locks import STATE_LOCK, holder

TRY_S = 1.0
"""How long one attempt waits. Between two attempts, it is checked who holds the lock, and whether to stop."""


def take_state_lock(
    locked: ExitStack,
    workspace: Workspace,
    config: Config,
    lifecycle: Lifecycle,
    *,
    has_own_api: Callable[[], bool],
    on_wait: Callable[[], None],
) -> bool:
    """Waits for the state lock: without a limit while a `sync` or `verify` holds it, and for at most `lock.timeout`
    while another service does; then raises BusyError. Returns False if the engine has to stop before it gets the lock.

    `has_own_api` says whether the API that answers is our own, and not that of another service. `on_wait` is called at
    least every two seconds.
    """
    began, timeout_s = time.monotonic(), 0.0
    while not lifecycle.is_stopping:
        on_wait()
        try:
            locked.enter_context(workspace.state_lock(timeout_s))
        except BusyError:
            is_service = not has_own_api() and is_answered(config.socket)
            why = _wait_reason(config, is_service)
            if is_service and time.monotonic() >= began + config.lock.timeout:
                raise BusyError(f"{_holder_name(config, is_service)} uses {config.state_dir}; stop it first") from None
            if why != lifecycle.waits_for_lock:
                log_event(LOCKED, reason=why)
            lifecycle.wait_for_lock(why)
            on_wait()
            timeout_s = TRY_S
        else:
            lifecycle.wait_for_lock("")
            return True
    return False


def _holder_name(config: Config, is_service: bool) -> str:
    process = f"process {holder(os.path.join(config.state_dir, STATE_LOCK)) or 'unknown'}"
    return f"another reposyncd service ({process})" if is_service else process


def _wait_reason(config: Config, is_service: bool) -> str:
    name, place = _holder_name(config, is_service), config.state_dir
    if is_service:
        return f"{name} uses {place}; waiting for at most {config.lock.timeout:g} s"
    return f"{name} is writing to {place}; waiting until it has finished"
