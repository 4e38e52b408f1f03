"""What a repository costs whose files stall and crash parsers, and whether a save beside them is kept waiting.

    python -m benchmarks.poison [--saves 20] [--files N]

The files are those of `tests.corpus`. A service keeps a repository with one small file, which is saved again and again,
each time until it is on record as stored: that is the yardstick. Then the corpus is put beside it, and while that is
indexed, the file is saved again and again. (A search does not tell when: Chroma's index finds next to nothing among
thousands of equal vectors, which these files have.) Times have the settle time in them. Then all of it is synced anew
by a command, which is timed as a whole process.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from itertools import islice
from pathlib import Path

from tests.corpus import CORPUS

from benchmarks.daemon import Daemon
from benchmarks.measure import median, reposyncd, run
from reposyncd import config
from reposyncd.app.workspace import Workspace
from reposyncd.sync.plan import text_digest

_NAME = "beside.txt"
_GIVE_UP_S = 60.0
_POLL_S = 0.01


def _save(daemon: Daemon, root: Path, text: str) -> float:
    """Seconds until it is stored."""
    (root / _NAME).write_text(text)
    began = time.perf_counter()
    with Workspace(config.load(os.environ, state_dir=daemon.state)) as workspace:
        [repo] = workspace.catalog.repos()
        [generation] = workspace.catalog.generations(repo)
        manifest = workspace.manifest(generation)
        while [chunk.digest for chunk in manifest.chunks(_NAME)] != [text_digest(text)]:
            if time.perf_counter() > began + _GIVE_UP_S:
                raise SystemExit(f"a save was not stored within {_GIVE_UP_S:g} s\n{daemon.log()}")
            time.sleep(_POLL_S)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--saves", type=int, default=20)
    parser.add_argument("--files", type=int, default=len(CORPUS), help="of the corpus, the first ones")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / "corpus"
        root.mkdir()
        (root / _NAME).write_text("nothing yet\n")
        with Daemon(place) as daemon:
            daemon.index(str(root))
            before = [_save(daemon, root, f"save {number} of an idle hour\n") for number in range(arguments.saves)]
            for name, text in islice(CORPUS.items(), arguments.files):
                path = root / name
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(text.encode())
            during = [_save(daemon, root, f"save {number} in bad company\n") for number in range(arguments.saves)]
            is_current = daemon.repo()["state"] == "current"
            daemon.flush()
            plain = sum(each["is_indexed"] for each in daemon.repo()["verdicts"])
        sync = run(reposyncd("--state-dir", str(Path(place) / "alone"), "sync", str(root)))
    print(f"first sync of {arguments.files} files that stall, crash and raise: {sync.wall_s:.1f} s")
    print(f"{plain} of them are cut as plain lines")
    print(f"save until stored, alone: median {median(before):.2f} s, at the most {max(before):.2f} s")
    print(f"beside them: median {median(during):.2f} s, at the most {max(during):.2f} s")
    print(f"ratio of medians {median(during) / median(before):.2f}")
    print(f"after the last save they were {'all' if is_current else 'not all'} indexed")


if __name__ == "__main__":
    main()
