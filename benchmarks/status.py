"""`reposyncd status` as a whole process against `python -c pass`, in turns: without a daemon, and with an idle one."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from benchmarks.daemon import Daemon
from benchmarks.measure import median, run

_ROUNDS = 20

_FILES = 200


def _print(what: str, command: list[str]) -> None:
    pairs = [(run(command).wall_s, run([sys.executable, "-c", "pass"]).wall_s) for _ in range(_ROUNDS)]
    status, nothing = median([each[0] for each in pairs]), median([each[1] for each in pairs])
    print(
        f"{what}: {status * 1e3:.0f} ms, {status / nothing:.1f} x python -c pass ({nothing * 1e3:.1f} ms)", flush=True
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / "tree"
        root.mkdir()
        for n in range(_FILES):
            (root / f"{n}.txt").write_text(f"number {n}\n")
        os.environ["REPOSYNCD_SOCKET"] = str(Path(place) / "socket")
        with Daemon(place, {"REPOSYNCD_EMBEDDING__MODEL": "hashing"}) as daemon:
            daemon.index(str(root))
            daemon.settle()
            command = [sys.executable, "-m", "reposyncd", "--state-dir", daemon.state, "status"]
            _print("daemon idle", command)
        _print("no daemon", command)


if __name__ == "__main__":
    main()
