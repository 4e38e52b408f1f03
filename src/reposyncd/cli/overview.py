"""The status as text: a line for each repository; below, what is wrong and what to do about it. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from reposyncd.app.health import Condition, Kind, conditions
from reposyncd.cli.text import ago
from reposyncd.text import printable

if TYPE_CHECKING:
    from reposyncd.app import messages

_FILES_SHOWN = 5
"""For each kind of condition in _CUT_SHORT, how many files of a repository are named."""

_CUT_SHORT = {Kind.FILE_PLAIN: "cut as plain lines", Kind.FILE_NOT_INDEXED: "not indexed"}

_IN_FIRST_LINE = frozenset({Kind.SERVICE_NOT_RUNNING, Kind.SERVICE_STARTING})
"""Conditions that the first line of the overview already shows."""

_LAG_S = 1.0
"""A shorter lag is normal for any change, and is not shown."""

_RIGHT = (2, 3)
"""Columns that contain numbers. They are aligned to the right."""

_GAP = "  "

_ROWS_AT_LEAST = 4
"""The least number of rows of the table that are shown, including the heading and the line that counts hidden rows."""

_HANGING = 20
"""The least number of columns for text after an indent. With fewer, lines are not indented."""

_COLOURS = {"current": "green", "syncing": "cyan", "pending": "yellow", "missing": "yellow", "paused": "yellow"}
"""The colours of states. All other states are red."""


class Line(NamedTuple):
    """A line of text. The part from `start` to `end` may have a colour."""

    text: str
    start: int = 0
    end: int = 0
    colour: str = ""
    is_row: bool = False
    """whether it is a row of the table"""


def overview(report: messages.Status, now: float) -> list[Line]:
    """The whole status. `now` is in seconds since the epoch."""
    lines = [Line(_service(report["daemon"]))]
    lines += _table(report["repos"], now)
    if not report["repos"] and report["store"]["healthy"]:
        command = "repo add" if report["daemon"]["running"] else "sync"
        lines.append(Line(f"nothing is indexed yet; index a directory with: reposyncd {command} PATH"))
    # The table shows the states. Only those for which there is a reason are repeated here.
    found = [each for each in conditions(report, now) if each.evidence and each.kind not in _IN_FIRST_LINE]
    lines += [Line(f"  {text}") for text in troubles(found, now)]
    return lines


def fitted(lines: Sequence[Line], width: int, height: int) -> list[Line]:
    """The lines for a terminal of this size. Rows of the table are cut at its edge. Other lines are wrapped, since
    their ends say what to do. If the terminal has too few lines, rows are left out, and a line says how many."""
    width, height = max(width, 1), max(height, 1)
    rows = [line._replace(text=line.text[:width]) for line in lines if line.is_row]
    top = _wrapped(lines[:1], width)
    rest = _wrapped([line for line in lines[1:] if not line.is_row], width)
    left = max(height - len(top) - len(rest), _ROWS_AT_LEAST)
    if len(rows) > left:
        more = len(rows) - left + 1
        rows = [*rows[: left - 1], Line(f"... and {more:,} more"[:width])]
    return [*top, *rows, *rest][:height]


def _wrapped(lines: Iterable[Line], width: int) -> list[Line]:
    import textwrap  # imported here, since it is only needed to redraw a terminal

    found: list[Line] = []
    for line in lines:
        indent = line.text[: len(line.text) - len(line.text.lstrip())]
        hanging = f"{indent}  " if width > len(indent) + _HANGING else ""
        parts = textwrap.wrap(line.text, width, subsequent_indent=hanging, break_on_hyphens=False)
        found += [Line(part) for part in parts] or [Line("")]
    return found


def steady(report: messages.Status) -> tuple[object, object]:
    """(what the status says, the progress of work). The first does not change merely because time passes."""
    still: messages.Status = {
        **report,
        "daemon": {**report["daemon"], "uptime_s": 0.0},
        "repos": [_without_times(repo) for repo in report["repos"]],
        "incidents": [{**each, "at": 0.0} for each in report["incidents"]],
    }
    return overview(still, 0.0), [(repo["progress"], repo.get("pending")) for repo in report["repos"]]


def _without_times(repo: messages.RepoStatus) -> messages.RepoStatus:
    progress, waiting = repo["progress"], repo["waiting"]
    still: messages.RepoStatus = {
        **repo,
        "lag_s": 0.0,
        "pending": int(bool(repo.get("pending"))),
        "progress": None if progress is None else {"done": 0, "total": 0, "chunks": 0},
        "waiting": None if waiting is None else {**waiting, "for_s": 0.0},
        "synced_at": None if repo["synced_at"] is None else 0.0,
    }
    if progress:  # these grow with the progress
        still |= {"files": 0, "chunks": 0}
    return still


def troubles(found: Iterable[Condition], now: float) -> list[str]:
    """A line for each condition: what is wrong, since when, and what to do about it."""
    lines: list[str] = []
    shown: Counter[tuple[str, Kind]] = Counter()
    for each in found:
        shown[each.subject, each.kind] += 1
        if each.kind not in _CUT_SHORT or shown[each.subject, each.kind] <= _FILES_SHOWN:
            lines.append(_trouble(each, now))
    for (subject, kind), count in shown.items():
        if kind in _CUT_SHORT and count > _FILES_SHOWN:
            lines.append(f"{subject}: {_CUT_SHORT[kind]}: {count - _FILES_SHOWN:,} more; see: reposyncd status --json")
    return [printable(each) for each in lines]


def _trouble(condition: Condition, now: float) -> str:
    what = condition.evidence or condition.repo_state
    if condition.since is not None:
        span = ago(now - condition.since)
        what = f"{span} ago {what}" if condition.kind is Kind.DAMAGE_REPAIRED else f"{what} (for {span})"
    return f"{condition.subject}: {what}" + (f"; {condition.remedy}" if condition.remedy else "")


def _service(service: messages.ServiceStatus) -> str:
    state = printable(service["state"])
    if not service["running"]:
        return (
            f"service: {state}; this was the state at the last sync. "
            "Start it with: reposyncd service install, or: reposyncd daemon"
        )
    return f"service: {state or 'running'}, pid {service['pid']}, up {ago(service['uptime_s'] or 0)}"


def _table(repos: Sequence[messages.RepoStatus], now: float) -> list[Line]:
    if not repos:
        return []
    rows: list[tuple[str, ...]] = [
        ("NAME", "STATE", "FILES", "CHUNKS", "SYNCED", "WATCHED", "ROOT, AND WHAT IS GOING ON")
    ]
    rows += [_row(repo, now) for repo in repos]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    lines = []
    for number, row in enumerate(rows):
        cells = [
            cell.rjust(width) if column in _RIGHT else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=False))
        ]
        text = _GAP.join([*cells, row[-1]]).rstrip()
        start = widths[0] + len(_GAP)
        colour = "" if number == 0 else _COLOURS.get(repos[number - 1]["state"], "red")
        lines.append(Line(text, start, start + len(row[1]), colour, is_row=True))
    return lines


def _row(repo: messages.RepoStatus, now: float) -> tuple[str, ...]:
    watch = repo.get("watch")
    directories = f"{watch['directories']:,} dirs" if watch and watch["directories"] else "-"
    if watch and watch["unwatched"]:
        directories += f", not {watch['unwatched']:,}"
    return (
        printable(repo["name"]),
        repo["state"],
        f"{repo['files']:,}",
        f"{repo['chunks']:,}",
        "never" if repo["synced_at"] is None else f"{ago(now - repo['synced_at'])} ago",
        directories,
        "; ".join([printable(repo["root"]), *_activity(repo)]),
    )


def _activity(repo: messages.RepoStatus) -> list[str]:
    """What is going on: the progress and the time left, and changes that are not in the index yet."""
    found: list[str] = []
    progress = repo["progress"]
    if progress and not progress["total"]:
        found.append("listing files")
    elif progress:
        found.append(f"{progress['done']:,} of {progress['total']:,} files, {progress['chunks']:,} chunks stored")
        if (rate := progress.get("rate_chunks_s")) is not None:
            found.append(f"{rate:,.0f} chunks/s")
        if (left_s := progress.get("left_s")) is not None:
            found.append(f"{ago(left_s)} left")
    if pending := repo.get("pending"):
        found.append(f"{pending:,} pending")
    if (lag_s := repo.get("lag_s", 0.0)) >= _LAG_S:
        found.append(f"{ago(lag_s)} behind")
    return found
