"""What the daemon's memory is with many repositories.

    python -m benchmarks.repos PATH [--repos 20]

The files of PATH, which is only read, are dealt out to so many trees. A daemon indexes them all and is weighed when it
is idle and its index process has left; then it is started again, and weighed again.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from pathlib import Path

from benchmarks.daemon import Daemon
from benchmarks.idle import weigh

_IDLE_S = 5
_LEAVES_S = 60.0


def deal(source: Path, place: Path, count: int) -> list[Path]:
    """Trees with the files of `source`, file by file in turns, each at its own path."""
    trees = [place / f"repo{number}" for number in range(count)]
    for tree in trees:
        tree.mkdir()
    dealt = 0
    for directory, names, files in os.walk(source):
        names[:] = sorted(name for name in names if name != ".git")
        for name in sorted(files):
            path = Path(directory, name)
            if path.is_symlink():
                continue
            target = trees[dealt % count] / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
            dealt += 1
    return trees


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path")
    parser.add_argument("--repos", type=int, default=20)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        trees = deal(Path(os.path.realpath(arguments.path)), Path(place), arguments.repos)
        environ = {"REPOSYNCD_STORE__IDLE": str(_IDLE_S)}
        for what in ("after indexing", "after a start"):
            with Daemon(place, environ) as daemon:
                for tree in trees:
                    daemon.app.add(str(tree), None).result()
                daemon.settle()
                daemon.wait_for_lonely(_LEAVES_S)
                status = daemon.status()
                watches = status["daemon"]["watches"]
                files, chunks = (sum(repo[name] for repo in status["repos"]) for name in ("files", "chunks"))
                print(f"{len(trees)} repositories, {files:,} files, {chunks:,} chunks, {watches:,} watches")
                weigh(daemon.pid, what)


if __name__ == "__main__":
    main()
