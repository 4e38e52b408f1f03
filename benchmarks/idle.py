"""What the daemon costs while nothing happens.

    python -m benchmarks.idle PATH [--minutes 3] [--no-strace]

PATH is only read. A daemon indexes it, until it is current, has made its checkpoint and has nothing to do; then it is
started again, as after a login, which leaves no trace of the first index in its memory: both are weighed, "after
indexing" and "after a start". Its index process leaves after some seconds (REPOSYNCD_STORE__IDLE). Then, for so many
minutes: CPU time from /proc/PID/stat, which counts in ticks of 10 ms, extrapolated to an hour; voluntary context
switches of all its threads. Memory is from /proc/PID/smaps_rollup: Rss with what it shares with others, Pss with its
share of that, Private without. Afterwards strace, where it is to be had, counts the system calls of one minute.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.daemon import Daemon

_RSS_AIM_MB = 60
_IDLE_S = 5
_LEAVES_S = 60.0
_STRACE_S = 60.0
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_HOUR_S = 3600.0


class _Spent(NamedTuple):
    at: float
    cpu_s: float
    switches: int


def _spent(pid: int) -> _Spent:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    switches = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        found = re.search(r"^voluntary_ctxt_switches:\s+(\d+)", status.read_text(), re.MULTILINE)
        switches += int(found[1]) if found else 0
    utime, stime = int(fields[11]), int(fields[12])  # fields 14 and 15 of proc(5)
    return _Spent(time.monotonic(), (utime + stime) / _TICKS_PER_S, switches)


def weigh(pid: int, what: str) -> None:
    """Prints its memory, beside the aim."""
    kb = dict.fromkeys(("Rss", "Pss", "Private"), 0)
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, value = line.split()[:2]
        name = name.rstrip(":")
        name = "Private" if name.startswith("Private_") and name != "Private_Hugetlb" else name
        if name in kb:
            kb[name] += int(value)
    rss, pss, private = (value * 1024 / 1e6 for value in kb.values())
    print(
        f"{what}: Rss {rss:.1f} MB (aim {_RSS_AIM_MB}: {rss / _RSS_AIM_MB:.2f}), Pss {pss:.1f}, Private {private:.1f}",
        flush=True,
    )


def _threads(pid: int) -> list[str]:
    return sorted(each.read_text().strip() for each in Path(f"/proc/{pid}/task").glob("*/comm"))


def _count_calls(pid: int) -> str:
    """strace's table."""
    with tempfile.NamedTemporaryFile("r") as table:
        strace = subprocess.Popen(
            ["strace", "-f", "-c", "-U", "calls,name", "-o", table.name, "-p", str(pid)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            _, said = strace.communicate(timeout=_STRACE_S)  # it ends by itself only if it is not allowed
            return said
        except subprocess.TimeoutExpired:
            strace.send_signal(signal.SIGINT)
            strace.communicate()
        return table.read()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path")
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--no-strace", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        environ = {"REPOSYNCD_STORE__IDLE": str(_IDLE_S)}
        with Daemon(place, environ) as daemon:
            weigh(daemon.pid, "before anything is added")
            daemon.index(os.path.realpath(arguments.path))
            daemon.settle()
            daemon.wait_for_lonely(_LEAVES_S)
            weigh(daemon.pid, "after indexing")
        with Daemon(place, environ) as daemon:
            daemon.settle()
            daemon.wait_for_lonely(_LEAVES_S)
            repo, status = daemon.repo(), daemon.status()["daemon"]
            weigh(daemon.pid, "after a start")
            print(f"{repo['files']:,} files, {repo['chunks']:,} chunks, {status['watches']:,} watches")
            before = _spent(daemon.pid)
            time.sleep(arguments.minutes * 60)
            after = _spent(daemon.pid)
            seconds = after.at - before.at
            weigh(daemon.pid, f"{arguments.minutes:g} minutes later")
            cpu_s = after.cpu_s - before.cpu_s
            print(f"CPU {cpu_s:.2f} s in {seconds:.0f} s: {cpu_s / seconds * _HOUR_S:.1f} s per hour")
            switches = after.switches - before.switches
            print(f"voluntary context switches {switches}: {switches / seconds * 60:.1f} per minute")
            names = _threads(daemon.pid)
            print(f"{len(names)} threads: {', '.join(names)}", flush=True)
            if not arguments.no_strace and shutil.which("strace"):
                print(f"system calls in {_STRACE_S:g} s:\n{_count_calls(daemon.pid)}")


if __name__ == "__main__":
    main()
