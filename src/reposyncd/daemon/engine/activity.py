"""What the engine does, and has done, apart from single repositories."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from reposyncd.store.manifest.catalog import Incident


class Activity:
    """The engine's thread changes it; any thread reads it. `on_change` is called when a job begins or ends, by the
    engine's thread."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._text = ""
        self._last_job = 0.0
        self._needs_checkpoint = True
        self._checkpoint_failure = ""
        self._incidents: tuple[Incident, ...] = ()

    @property
    def text(self) -> str:
        """What is under way, unless that is the sync of a repository; or ""."""
        return self._text

    @property
    def quiet_since(self) -> float | None:
        """When the last job ended, on the monotonic clock; None if the store needs no checkpoint."""
        return self._last_job if self._needs_checkpoint else None

    @property
    def checkpoint_failure(self) -> str:
        """Why the last checkpoint failed; or ""."""
        return self._checkpoint_failure

    @property
    def incidents(self) -> tuple[Incident, ...]:
        """What was found damaged, oldest first."""
        return self._incidents

    def doing(self, text: str) -> None:
        """This is under way now."""
        self._text = text

    def job_begins(self, text: str = "") -> None:
        """A job begins; `text`: unless it is the sync of a repository."""
        self._text = text
        self._on_change()

    def job_ends(self, now: float) -> None:
        """The job has ended."""
        self._text, self._last_job = "", now
        self._on_change()

    def store_changed(self) -> None:
        """Something was written to the store: a checkpoint may be worth it."""
        self._needs_checkpoint = True

    def checkpoint_ends(self, failure: str, *, is_done: bool, now: float) -> None:
        """A checkpoint has ended. `is_done`: nothing else was put before it."""
        self._text, self._last_job, self._checkpoint_failure = "", now, failure
        self._needs_checkpoint = not is_done

    def set_incidents(self, incidents: Sequence[Incident]) -> None:
        """What is on record as found damaged."""
        self._incidents = tuple(incidents)
