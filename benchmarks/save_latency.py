"""How long after a save the new text is found, without the time that the daemon waits for more changes on purpose.

    python -m benchmarks.save_latency PATH [--saves 100]

PATH is copied, and the copy indexed by a daemon, until it is current, has made its checkpoint and has nothing to do.
Then one line after the other is changed, each in another file, files of all sizes in turn: every second one is written
in place, the others beside it and renamed, as editors do. A word that occurs nowhere else is added to the line; the
query is the text of the chunk that the line is in by then. From the moment at which nothing could have been found yet
(the settle time after the save) the daemon is asked again and again, at once after each answer, until a hit has that
word. "after settle" is from the save until that answer has come, less the settle time; it contains the last
search, and half of one on average that came too early. "search alone" is a search while nothing changes: what is
measured is no finer than that. Between two saves there is a pause of random length, during which nobody asks.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import statistics
import string
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.daemon import Daemon
from benchmarks.measure import median
from reposyncd.chunking.chunker import chunk_text
from reposyncd.config import WatchConfig

_MEDIAN_AIM_MS = 100
_TAIL_AIM_MS = 250

_LIMIT = 3
"""Results that are asked for: there may be texts that are nearly the same."""

_GIVE_UP_S = 15.0
_PAUSE_S = (0.5, 2.0)
_LARGEST_BYTES = 1_000_000
_SMALLEST_BYTES = 300
_LONGEST_LINE = 200
_SEARCHES = 50


class _Edit(NamedTuple):
    path: Path
    text: str
    """all of the file, changed"""
    word: str
    chunk: str
    """the text of the chunk that the word is in"""


class _Save(NamedTuple):
    """seconds"""

    found_s: float
    """from the save until it was found"""
    searches: int
    size: int
    in_place: bool


def _files(root: Path) -> list[Path]:
    """Those that can be edited, by size."""
    sizes: list[tuple[int, Path]] = []
    for directory, names, files in os.walk(root):
        names[:] = [name for name in names if name != ".git"]
        paths = [Path(directory) / name for name in files]
        sizes += [(path.stat().st_size, path) for path in paths if path.is_file() and not path.is_symlink()]
    return [path for size, path in sorted(sizes) if _SMALLEST_BYTES <= size <= _LARGEST_BYTES]


def _edit(path: Path, root: Path, pick: random.Random) -> _Edit | None:
    """None: it is no text, or has no line to be changed."""
    try:
        lines = path.read_bytes().decode().split("\n")
    except UnicodeDecodeError:
        return None
    good = [number for number, line in enumerate(lines) if line.strip() and len(line) <= _LONGEST_LINE]
    if not good or "\0" in "".join(lines):
        return None
    word = "zq" + "".join(pick.choices(string.ascii_lowercase, k=12))
    at = pick.choice(good)
    lines[at] += f" {word}"
    text = "\n".join(lines)
    chunk = next(chunk.text for chunk in chunk_text(str(path.relative_to(root)), text) if word in chunk.text)
    return _Edit(path, text, word, chunk)


def _edits(root: Path, count: int, pick: random.Random) -> list[_Edit]:
    """Of files of all sizes, in random order."""
    files = _files(root)
    spread = [files[number * len(files) // (2 * count)] for number in range(2 * count)]  # some are no text
    edits = [edit for path in dict.fromkeys(spread) if (edit := _edit(path, root, pick))]
    if len(edits) < count:
        raise SystemExit(f"there are only {len(edits)} files of text to be changed")
    return pick.sample(edits, count)


def _search(daemon: Daemon, repo: str, text: str) -> list[str]:
    """The texts of the hits."""
    return [hit["text"] for hit in daemon.app.search(text, repo, _LIMIT).result()["hits"]]


def _save(daemon: Daemon, repo: str, edit: _Edit, in_place: bool) -> _Save | None:
    """None: it was not found."""
    content = edit.text.encode()
    if in_place:
        edit.path.write_bytes(content)
    else:
        beside = edit.path.with_name(f".{edit.path.name}.new")
        beside.write_bytes(content)
        shutil.copymode(edit.path, beside)
        beside.replace(edit.path)
    saved = time.perf_counter()
    time.sleep(WatchConfig().settle)
    searches = 0
    while time.perf_counter() < saved + _GIVE_UP_S:
        searches += 1
        if any(edit.word in text for text in _search(daemon, repo, edit.chunk)):
            return _Save(time.perf_counter() - saved, searches, len(content), in_place)
    return None


def _alone(daemon: Daemon, repo: str, edits: list[_Edit]) -> list[float]:
    seconds = []
    for edit in edits[:_SEARCHES]:
        started = time.perf_counter()
        _search(daemon, repo, edit.chunk)
        seconds.append(time.perf_counter() - started)
    return seconds


def _tail(values: list[float]) -> float:
    """The 99th percentile; the largest of few."""
    return statistics.quantiles(values, n=100, method="inclusive")[98]


def _row(what: str, seconds: list[float], aims: tuple[int, int] | None = None) -> None:
    middle, tail = median(seconds) * 1000, _tail(seconds) * 1000
    row = f"{what:>28} {len(seconds):>6} {middle:>9.0f} {tail:>9.0f} {max(seconds) * 1000:>9.0f}"
    print(row + (f"   aims {aims[0]} / {aims[1]}: {middle / aims[0]:.2f} / {tail / aims[1]:.2f}" if aims else ""))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path")
    parser.add_argument("--saves", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--each", action="store_true", help="print every save")
    arguments = parser.parse_args()
    pick = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / "tree"
        shutil.copytree(arguments.path, root, symlinks=True)
        edits = _edits(root, arguments.saves, pick)
        with Daemon(place) as daemon:
            name = str(daemon.index(str(root))["repo"])
            daemon.settle()
            _search(daemon, name, "warm")
            repo = daemon.repo()
            print(f"{repo['chunks']:,} chunks in {repo['files']:,} files, daemon {daemon.pid}", flush=True)
            alone = _alone(daemon, name, edits)
            saves: list[_Save] = []
            lost: list[Path] = []
            for number, edit in enumerate(edits):
                time.sleep(pick.uniform(*_PAUSE_S))
                save = _save(daemon, name, edit, in_place=number % 2 == 0)
                path = edit.path.relative_to(root)
                if save is None:
                    lost.append(path)
                    continue
                saves.append(save)
                if arguments.each:
                    after_ms = (save.found_s - WatchConfig().settle) * 1000
                    print(f"{after_ms:>9.0f} ms {save.searches:>4} searches {save.size:>9} bytes  {path}", flush=True)
            daemon.flush()
    settle_s = WatchConfig().settle
    after = [save.found_s - settle_s for save in saves]
    sizes = sorted(save.size for save in saves)
    print(f"{'ms':>28} {'':>6} {'median':>9} {'99th':>9} {'largest':>9}")
    _row("search alone", alone)
    _row("after settle", after, (_MEDIAN_AIM_MS, _TAIL_AIM_MS))
    _row("in place", [save.found_s - settle_s for save in saves if save.in_place])
    _row("renamed", [save.found_s - settle_s for save in saves if not save.in_place])
    half = sizes[len(sizes) // 2]
    _row(f"files below {half:,} bytes", [save.found_s - settle_s for save in saves if save.size < half])
    _row("larger ones", [save.found_s - settle_s for save in saves if save.size >= half])
    print(f"the settle time is {settle_s * 1000:.0f} ms; not found within {_GIVE_UP_S:g} s: {len(lost)}", *lost)


if __name__ == "__main__":
    main()
