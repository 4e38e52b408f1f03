"""The status report as a person reads it: a line for each repository, and below what is wrong and what to do. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from reposyncd.cli.text import ago
from reposyncd.text import printable

_ERRORS_SHOWN = 5
"""Files of a repository that are named, of those that could not be read."""

_LAG_S = 1.0
"""A shorter lag is that of any change, and not worth a word."""

_RIGHT = (2, 3)
"""Columns of numbers."""

_GAP = "  "

_ROWS_AT_LEAST = 4
"""Rows of the table, its head and the line on those that are left out among them, for which other lines make room."""

_HANGING = 20
"""Columns that must be left for text beside an indent."""

_COLOURS = {"current": "green", "syncing": "cyan", "pending": "yellow", "missing": "yellow", "paused": "yellow"}
"""Of a state; any other is red."""


class Line(NamedTuple):
    """A line, and where in it (from, to) which colour is, if any is."""

    text: str
    start: int = 0
    end: int = 0
    colour: str = ""
    is_row: bool = False
    """whether it is a row of the table"""


def overview(report: dict[str, Any], now: float) -> list[Line]:
    """`report` is as in docs/interface; `now` seconds since the epoch."""
    lines = [Line(_daemon(report))]
    lines += _table(report["repos"], now)
    if not report["repos"] and report["store"]["healthy"]:
        command = "repo add" if report["daemon"]["running"] else "sync"
        lines.append(Line(f"nothing is indexed yet; index a directory with: reposyncd {command} PATH"))
    lines += [Line(f"  {text}") for text in troubles(report, now)]
    return lines


def fitted(lines: Sequence[Line], width: int, height: int) -> list[Line]:
    """The lines as a terminal of this size has room for them. Rows of the table end at its edge; all else goes on in
    the next line, since its end says what to do. If that is too high, rows are left out, and it says how many."""
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
    import textwrap  # here, since only a terminal that is redrawn needs it

    found: list[Line] = []
    for line in lines:
        indent = line.text[: len(line.text) - len(line.text.lstrip())]
        hanging = f"{indent}  " if width > len(indent) + _HANGING else ""
        parts = textwrap.wrap(line.text, width, subsequent_indent=hanging, break_on_hyphens=False)
        found += [Line(part) for part in parts] or [Line("")]
    return found


def steady(report: dict[str, Any]) -> tuple[object, object]:
    """(what is true, how far it is), of which the first does not change by itself as time passes."""
    still = {
        **report,
        "daemon": {**report["daemon"], "uptime_s": 0.0},
        "repos": [
            {
                **repo,
                "lag_s": 0.0,
                "pending": int(bool(repo.get("pending"))),
                "progress": repo.get("progress") and {"done": 0, "total": 0, "chunks": 0},
                "waiting": repo.get("waiting") and {**repo["waiting"], "for_s": 0.0},
                "synced_at": repo.get("synced_at") and 0.0,
                # While it is indexed they grow with the progress.
                **({"files": 0, "chunks": 0} if repo.get("progress") else {}),
            }
            for repo in report["repos"]
        ],
        "incidents": [{**each, "at": 0.0} for each in report.get("incidents", [])],
    }
    return overview(still, 0.0), [(repo.get("progress"), repo.get("pending")) for repo in report["repos"]]


def troubles(report: dict[str, Any], now: float) -> list[str]:
    """What is wrong, and what to do about it; nothing, if all is well."""
    found: list[str] = []
    store, daemon = report["store"], report["daemon"]
    if not store["healthy"]:
        found.append(f"store: {store['reason']}")
    if store.get("lock", {}).get("held") and store["lock"].get("waits"):
        found.append(f"store: locked by process {store['lock']['holder']}")
    if daemon.get("waits_for"):
        found.append(f"first indexes wait: {daemon['waits_for']}")
    found += [f"daemon: {problem}" for problem in daemon.get("problems", [])]
    for repo in report["repos"]:
        found += [f"{repo['name']}: {text}" for text in _troubles_of(repo)]
    for incident in report.get("incidents", []):
        found.append(
            f"{ago(now - incident['at'])} ago the {incident['what']} was found damaged ({incident['reason']}). It was "
            f"made anew; the damaged one is kept in {incident['place']}, and can be deleted"
        )
    return [printable(each) for each in found]


def _troubles_of(repo: dict[str, Any]) -> list[str]:
    found: list[str] = []
    if repo.get("waiting"):
        found.append(f"waiting for {ago(repo['waiting']['for_s'])}: {repo['waiting']['reason']}")
    elif repo.get("reason") and repo["state"] != "current":
        found.append(repo["reason"])
    watch = repo.get("watch") or {}
    if watch.get("mode") == "poll":
        if watch["reason"] != repo.get("reason"):
            found.append(watch["reason"])
        found.append("changes that cause no event are found by a scan every watch.poll seconds")
    verdicts = repo.get("verdicts", [])
    found += [f"quarantined until it changes: {v['path']}: {v['reason']}" for v in verdicts if not v["is_indexed"]]
    plain = [each for each in verdicts if each["is_indexed"]]
    found += [f"cut as plain lines until it changes: {v['path']}: {v['reason']}" for v in plain[:_ERRORS_SHOWN]]
    if len(plain) > _ERRORS_SHOWN:
        found.append(f"cut as plain lines: {len(plain) - _ERRORS_SHOWN:,} more; see: reposyncd status --json")
    errors = repo.get("errors", [])
    found += [f"not indexed: {each['path']}: {each['error']}" for each in errors[:_ERRORS_SHOWN]]
    if len(errors) > _ERRORS_SHOWN:
        found.append(f"not indexed: {len(errors) - _ERRORS_SHOWN:,} more; see: reposyncd status --json")
    return found


def _daemon(report: dict[str, Any]) -> str:
    daemon = report["daemon"]
    if not daemon["running"]:
        why = "not running" if daemon["state"] == "not running" else printable(daemon["state"])
        return (
            f"daemon: {why}; this is what was true at the last sync. "
            "Start it with: reposyncd service install, or: reposyncd daemon"
        )
    state = printable(daemon.get("state") or "")
    return f"daemon: {state or 'running'}, pid {daemon['pid']}, up {ago(daemon['uptime_s'] or 0)}"


def _table(repos: Sequence[dict[str, Any]], now: float) -> list[Line]:
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


def _row(repo: dict[str, Any], now: float) -> tuple[str, ...]:
    watch = repo.get("watch") or {}
    directories = f"{watch['directories']:,} dirs" if watch.get("directories") else "-"
    if watch.get("unwatched"):
        directories += f", not {watch['unwatched']:,}"
    return (
        printable(repo["name"]),
        repo["state"],
        f"{repo['files']:,}",
        f"{repo['chunks']:,}",
        "never" if repo.get("synced_at") is None else f"{ago(now - repo['synced_at'])} ago",
        directories,
        "; ".join([printable(repo["root"]), *_activity(repo)]),
    )


def _activity(repo: dict[str, Any]) -> list[str]:
    """What is going on: progress and time left, changes that are not taken up yet."""
    found: list[str] = []
    progress = repo.get("progress")
    if progress and not progress["total"]:
        found.append("listing files")
    elif progress:
        found.append(f"{progress['done']:,} of {progress['total']:,} files, {progress['chunks']:,} chunks stored")
        if progress.get("rate_chunks_s") is not None:
            found.append(f"{progress['rate_chunks_s']:,.0f} chunks/s")
        if progress.get("left_s") is not None:
            found.append(f"{ago(progress['left_s'])} left")
    if repo.get("pending"):
        found.append(f"{repo['pending']:,} pending")
    if (repo.get("lag_s") or 0) >= _LAG_S:
        found.append(f"{ago(repo['lag_s'])} behind")
    return found
