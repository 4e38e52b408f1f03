"""A sync with nothing to do against `git status` on the same tree, whole processes.

    python -m benchmarks.second_sync PATH [--state-dir DIR] [--rounds N]

PATH must be a git work tree. The first sync of a large tree takes its time; with --state-dir it is done once.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from collections.abc import Iterator

from benchmarks.measure import median, reposyncd, run


@contextlib.contextmanager
def _state(given: str | None) -> Iterator[str]:
    if given:
        yield given
        return
    with tempfile.TemporaryDirectory() as place:
        yield place


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path")
    parser.add_argument("--state-dir")
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    with _state(arguments.state_dir) as state:
        sync = reposyncd("--state-dir", state, "sync", arguments.path)
        for _ in range(2):  # twice: what is younger than two seconds is not trusted yet
            run(sync)
        pairs = [(run(sync).wall_s, run(["git", "status"], cwd=arguments.path).wall_s) for _ in range(arguments.rounds)]
    ours, gits = (median(times) for times in zip(*pairs, strict=True))
    print(f"{'second sync, s':>16} {'git status, s':>16} {'ratio of medians':>18} {'median of ratios':>18}")
    print(f"{ours:>16.3f} {gits:>16.3f} {ours / gits:>18.2f} {median([a / b for a, b in pairs]):>18.2f}")


if __name__ == "__main__":
    main()
