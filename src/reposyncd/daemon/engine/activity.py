"""What the engine is doing and has done, other than syncs of repositories."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from reposyncd.store.manifest.catalog import Incident


class Activity:
    """The engine's thread changes this object; any thread may read it. The engine's thread calls `on_change` when a job
    begins or ends."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._text = ""
        self._last_job = 0.0
        self._needs_checkpoint = True
        self._checkpoint_failure = ""
        self._incidents: tuple[Incident, ...] = ()

    @property
    def text(self) -> str:
        """The job under way, in words; "" if there is none, or if it is the sync of a repository."""
        return self._text

    @property
    def quiet_since(self) -> float | None:
        """When the last job ended, on the monotonic clock; None if the store needs no checkpoint."""
        return self._last_job if self._needs_checkpoint else None

    @property
    def checkpoint_failure(self) -> str:
        """Why the last checkpoint failed; "" if it did not."""
        return self._checkpoint_failure

    @property
    def incidents(self) -> tuple[Incident, ...]:
        """The damage on record, oldest first."""
        return self._incidents

    def doing(self, text: str) -> None:
        """Sets the text that describes the job under way."""
        self._text = text

    def job_begins(self, text: str = "") -> None:
        """Records that a job has begun. `text` describes it; "" for the sync of a repository."""
        self._text = text
        self._on_change()

    def job_ends(self, now: float) -> None:
        """Records that the job has ended."""
        self._text, self._last_job = "", now
        self._on_change()

    def store_changed(self) -> None:
        """Records that something was written to the store, so that a checkpoint may be worth its cost."""
        self._needs_checkpoint = True

    def checkpoint_ends(self, failure: str, *, is_done: bool, now: float) -> None:
        """Records that a checkpoint has ended. `is_done`: it did not make way for other work."""
        self._text, self._last_job, self._checkpoint_failure = "", now, failure
        self._needs_checkpoint = not is_done

    def set_incidents(self, incidents: Sequence[Incident]) -> None:
        """Sets the damage on record."""
        self._incidents = tuple(incidents)
