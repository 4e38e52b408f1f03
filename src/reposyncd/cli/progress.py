"""Shows the progress of a task: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TextIO

from reposyncd.cli.output import drop
from reposyncd.text import printable

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

    from reposyncd.app.messages import TaskProgress

_QUIET_S = 1.0
"""A task that takes no longer than this only prints its result."""

_LINE_S = 5.0
"""Time between two lines, if there is no terminal."""

_REDRAW_S = 0.1


_PHASES = {
    "scan": "listing files",
    "check": "comparing the store with the manifest",
    "index": "indexing",
    "checkpoint": "making a checkpoint",
    "verify": "verifying",
}


def _phase(progress: TaskProgress) -> str:
    """What is going on. The service may send a phase that is unknown here, or may not have begun yet."""
    return "waiting" if progress["trouble"] else _PHASES.get(progress["phase"], "waiting")


class Reporter:
    """Shows the progress of a task, as `facade.OnProgress`. A context manager: it removes the bar at its end. `stream`
    is None if this process was started without that stream."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._terminal = stream is not None and stream.isatty()
        self._started = time.monotonic()
        self._next = self._started + _QUIET_S
        self._phase, self._trouble = "scan", ""
        """messages that were shown last"""
        self._bar: tuple[Bar, TaskID] | None = None

    def __enter__(self) -> Reporter:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar[0].stop()

    def __call__(self, progress: TaskProgress) -> None:
        """Shows the progress if it is time to do so. Trouble is shown at once, and only once."""
        now = time.monotonic()
        if progress["trouble"] and progress["trouble"] != self._trouble:
            self._say(printable(progress["trouble"]))
        elif now < self._next and (progress["phase"] == self._phase or now < self._started + _QUIET_S):
            return
        elif self._terminal:
            self._next = now + _REDRAW_S
            self._draw(progress)
        else:
            self._next = now + _LINE_S
            self._say(self._line(progress, now - self._started))
        self._phase, self._trouble = progress["phase"], progress["trouble"]

    def _say(self, line: str) -> None:
        if self._bar:
            self._bar[0].console.print(line, markup=False, highlight=False, soft_wrap=True)
        elif self._stream is not None:
            try:
                self._stream.write(line + "\n")
                self._stream.flush()
            except BrokenPipeError:  # the output was closed; the work continues
                drop(self._stream)

    def _line(self, progress: TaskProgress, elapsed_s: float) -> str:
        if not progress["files_total"]:
            return _phase(progress)
        if progress["phase"] == "verify":
            return f"{progress['files_done']:,} of {progress['files_total']:,} records verified"
        return (
            f"{progress['files_done']:,} of {progress['files_total']:,} files, {progress['chunks_done']:,} chunks "
            f"stored, {progress['chunks_done'] / elapsed_s:,.0f} chunks/s"
        )

    def _draw(self, progress: TaskProgress) -> None:
        if self._bar is None:
            self._bar = self._new_bar()
        bar, task = self._bar
        elapsed_s = time.monotonic() - self._started
        bar.update(
            task,
            description=_phase(progress),
            completed=progress["files_done"],
            total=progress["files_total"] or None,
            unit="records,"
            if progress["phase"] == "verify"
            else f"files, {progress['chunks_done']:,} chunks, {progress['chunks_done'] / elapsed_s:,.0f}/s,",
        )

    def _new_bar(self) -> tuple[Bar, TaskID]:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=Console(file=self._stream),
            transient=True,
        )
        bar.start()
        return bar, bar.add_task("indexing", total=None, unit="")
