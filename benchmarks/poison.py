"""What a repository costs whose files stall and crash parsers, and whether a save beside them is kept waiting.

    python -m benchmarks.poison [--saves 20] [--files N]

The files are those of `tests.corpus`. They are put into a repository that a service keeps, and while it indexes them,
one small file beside them is saved again and again, and searched for until it is found. The yardstick is the same save
when the service is idle. Times have the settle time in them. Then they are synced anew, by a command, which is timed as
a whole process.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from itertools import islice
from pathlib import Path

from tests.corpus import CORPUS

from benchmarks.daemon import Daemon
from benchmarks.measure import median, reposyncd, run

_GIVE_UP_S = 30.0
_POLL_S = 0.02


def _save(daemon: Daemon, root: Path, word: str) -> float:
    """Seconds until a search finds it."""
    text = f"the word that is looked for is {word}\n"
    (root / "beside.txt").write_text(text)
    began = time.perf_counter()
    while time.perf_counter() < began + _GIVE_UP_S:
        found = daemon.client.request("POST", "/v1/search", {"query": text, "repo": root.name, "limit": 1})
        if any(word in hit["text"] for hit in found["hits"]):
            return time.perf_counter() - began
        time.sleep(_POLL_S)
    raise SystemExit(f"a save was not found within {_GIVE_UP_S:g} s\n{daemon.log()}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--saves", type=int, default=20)
    parser.add_argument("--files", type=int, default=len(CORPUS), help="of the corpus, the first ones")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / "corpus"
        root.mkdir()
        (root / "beside.txt").write_text("nothing to find yet\n")
        with Daemon(place) as daemon:
            daemon.index(str(root))
            for name, text in islice(CORPUS.items(), arguments.files):
                path = root / name
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(text.encode())
            during = [_save(daemon, root, f"zq{number}during") for number in range(arguments.saves)]
            pending = daemon.repo()["state"] != "current"
            daemon.flush()
            after = [_save(daemon, root, f"zq{number}after") for number in range(arguments.saves)]
            plain = sum(each["is_indexed"] for each in daemon.repo()["verdicts"])
        sync = run(reposyncd("--state-dir", str(Path(place) / "alone"), "sync", str(root)))
    print(f"first sync of {arguments.files} files that stall, crash and raise: {sync.wall_s:.1f} s")
    print(f"{plain} of them are cut as plain lines")
    print(f"save until found, median and most: {median(during):.2f} s, {max(during):.2f} s while they are indexed")
    print(f"{median(after):.2f} s, {max(after):.2f} s when idle; ratio {median(during) / median(after):.2f}")
    print(f"the corpus was {'still' if pending else 'no longer'} being indexed after the last of those saves")


if __name__ == "__main__":
    main()
