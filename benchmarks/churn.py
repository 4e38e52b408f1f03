"""What an index weighs after a repository has been written anew again and again, against a fresh index of the same.

    python -m benchmarks.churn [--rounds 20] [--files 500] [--functions 5]

Each round every file is rewritten, no function like one before, and synced by a process of its own. Disk is all that
the state directory takes, memory the peak of all processes of a sync together. "largest" is the largest of all
rounds: what is reclaimed now and then is no less there before. `log` is what is replayed at the next start, rows;
`ghosts` is vectors in the files of the index for each chunk.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from benchmarks.author import Author
from benchmarks.measure import Cost, reposyncd, run
from reposyncd.store.chroma.checkpoint import elements, examine

_MB = 1e6


def _write(root: Path, files: int, functions: int, round_: int) -> None:
    for number in range(files):
        directory = root / f"package_{number // 20}"
        directory.mkdir(exist_ok=True, parents=True)
        (directory / f"module_{number}.py").write_text(Author(f"{round_} {number}").file(functions))


def disk(path: Path) -> int:
    """What the file system has allocated below the directory, bytes; a file with two names counts once."""
    seen = {}
    for directory, _, names in os.walk(path):
        for name in names:
            stat = os.lstat(os.path.join(directory, name))
            seen[stat.st_dev, stat.st_ino] = stat.st_blocks * 512
    return sum(seen.values())


def _sync(root: Path, state: Path, chunks: int, label: str) -> tuple[int, Cost]:
    cost = run(reposyncd("--state-dir", str(state), "sync", str(root)), weigh=True)
    size = disk(state)
    store = str(state / "chroma")
    ghosts = sum(elements(store).values()) / chunks
    print(
        f"{label:>6} {size / _MB:>9.1f} {disk((state / 'chroma').resolve()) / _MB:>9.1f} {cost.peak_bytes / _MB:>11.0f}"
        f" {cost.wall_s:>8.2f} {examine(store).log_rows:>7} {ghosts:>7.2f}",
        flush=True,
    )
    return size, cost


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--files", type=int, default=500)
    parser.add_argument("--functions", type=int, default=5, help="in each file; a function is a chunk")
    arguments = parser.parse_args()
    chunks = arguments.files * arguments.functions
    with tempfile.TemporaryDirectory() as place:
        root, state = Path(place) / "tree", Path(place) / "state"
        print(
            f"{'round':>6} {'disk, MB':>9} {'store, MB':>9} {'memory, MB':>11} {'sync, s':>8} {'log':>7} {'ghosts':>7}"
        )
        rounds: list[tuple[int, Cost]] = []
        for number in range(arguments.rounds + 1):  # the first builds the index
            _write(root, arguments.files, arguments.functions, number)
            rounds.append(_sync(root, state, chunks, str(number)))
        fresh_size, fresh = _sync(root, Path(place) / "fresh", chunks, "fresh")
    sizes = [size / fresh_size for size, _ in rounds[1:]]
    peaks = [cost.peak_bytes / fresh.peak_bytes for _, cost in rounds[1:]]
    print(f"\n{'of fresh':>9} {'last':>7} {'largest':>8}")
    for name, ratios in (("disk", sizes), ("memory", peaks)):
        print(f"{name:>9} {ratios[-1]:>7.2f} {max(ratios):>8.2f}")


if __name__ == "__main__":
    main()
