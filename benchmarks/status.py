"""`reposyncd status` as a whole process against `python -c pass`, in turns.

    python -m benchmarks.status PATH [--rounds 20]

PATH is only read. With a daemon that indexes it for the first time, which takes a core or two; with an idle one; and
without any. Medians.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from benchmarks.daemon import Daemon
from benchmarks.measure import median, run


def _print(what: str, command: list[str], rounds: int) -> None:
    pairs = [(run(command).wall_s, run([sys.executable, "-c", "pass"]).wall_s) for _ in range(rounds)]
    status, nothing = median([each[0] for each in pairs]), median([each[1] for each in pairs])
    print(
        f"{what}: {status * 1e3:.0f} ms, {status / nothing:.1f} x python -c pass ({nothing * 1e3:.1f} ms)", flush=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path")
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()
    path = os.path.realpath(arguments.path)
    with tempfile.TemporaryDirectory() as place:
        os.environ["REPOSYNCD_SOCKET"] = str(Path(place) / "socket")
        with Daemon(place) as daemon:
            command = [sys.executable, "-m", "reposyncd", "--state-dir", daemon.state, "status"]
            daemon.app.add(path, None).result()
            _print("in a first index", command, arguments.rounds)
            if daemon.repo()["state"] != "syncing":
                raise SystemExit(f"the first index of {path} was over before it was measured; name a larger tree")
            daemon.settle()
            _print("daemon idle", command, arguments.rounds)
        _print("no daemon", command, arguments.rounds)


if __name__ == "__main__":
    main()
