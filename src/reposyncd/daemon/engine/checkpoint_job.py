"""Makes checkpoints of the store. On the engine's thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext

from reposyncd.app.workspace import Workspace
from reposyncd.daemon.engine.activity import Activity
from reposyncd.daemon.engine.lifecycle import Heartbeat
from reposyncd.daemon.engine.registry import RepoRegistry
from reposyncd.daemon.events import NOT_TIDIED, log_event
from reposyncd.daemon.resources import return_memory
from reposyncd.errors import StoreError
from reposyncd.model import Progress

STEP_S = 3600.0
"""How long one step of a checkpoint may take: it copies gigabytes, at the lowest priority, from a slow disk."""


class CheckpointJob:
    """Makes a checkpoint, if the store needs one. If `is_anything_due`, it makes way, and is tried again later."""

    def __init__(
        self,
        *,
        workspace: Workspace,
        registry: RepoRegistry,
        activity: Activity,
        heartbeat: Heartbeat,
        is_anything_due: Callable[[], bool],
    ) -> None:
        self._workspace = workspace
        self._registry = registry
        self._activity = activity
        self._heartbeat = heartbeat
        self._is_anything_due = is_anything_due
        self._failure = ""

    def run(self) -> None:
        """Makes the checkpoint. A failure is recorded in `activity`, and logged unless it was logged before."""
        runner = self._workspace.runner(
            lambda: self._registry.named(None)[0].repo,
            lock=lambda: nullcontext(),
            patience_s=0,
            on_progress=self._on_progress,
            should_stop=self._should_stop,
        )
        self._failure = ""
        with self._heartbeat.allow(STEP_S):
            try:
                is_known = self._workspace.is_store_known
                if runner.checkpoint(runner.on_progress) and is_known:
                    self._workspace.stamp()
            except (StoreError, OSError) as error:
                self._failure = f"the checkpoint of the store failed: {error}"
        if self._failure and self._failure != self._activity.checkpoint_failure:
            log_event(NOT_TIDIED, reason=self._failure)
        return_memory()
        self._activity.checkpoint_ends(self._failure, is_done=not self._should_stop(), now=time.monotonic())

    def _on_progress(self, progress: Progress) -> None:
        self._activity.doing("making a checkpoint of the store")
        self._failure = progress.trouble

    def _should_stop(self) -> bool:
        self._heartbeat.advance()
        return self._is_anything_due()
