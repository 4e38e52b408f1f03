"""Whether many who ask slow the daemon down.

    python -m benchmarks.callers PATH [--clients 50] [--rounds 2]

PATH is only read. It is indexed by a fresh daemon, in turns alone and with so many clients that each ask, one request
after the other with a pause of a tenth of a second, for the status, from a process of their own. The ratio of the two
times is printed, and how long the clients waited. On a machine of two cores the clients' own work is part of the
ratio.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import threading
import time
from multiprocessing.synchronize import Event
from pathlib import Path

from benchmarks.daemon import Daemon
from benchmarks.measure import median
from reposyncd.app.client import Client

_PAUSE_S = 0.1


def _ask(socket: str, clients: int, end: Event, waited: multiprocessing.SimpleQueue[list[float]]) -> None:
    times: list[float] = []

    def one() -> None:
        client = Client(socket)
        while not end.is_set():
            began = time.perf_counter()
            client.request("GET", "/v1/status")
            times.append(time.perf_counter() - began)
            time.sleep(_PAUSE_S)

    threads = [threading.Thread(target=one) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    waited.put(times)


def _index(path: str, clients: int) -> tuple[float, list[float]]:
    """seconds of a first index, and of every request meanwhile"""
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as place, Daemon(place) as daemon:
        end, waited = spawn.Event(), spawn.SimpleQueue()
        callers = spawn.Process(target=_ask, args=(str(Path(place) / "socket"), clients, end, waited))
        if clients:
            callers.start()
        began = time.perf_counter()
        daemon.index(path)
        took = time.perf_counter() - began
        end.set()
        times = waited.get() if clients else []
        if clients:
            callers.join()
        return took, times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    path = os.path.realpath(arguments.path)
    alone, together, times = [], [], []
    for _ in range(arguments.rounds):
        alone.append(_index(path, 0)[0])
        took, waited = _index(path, arguments.clients)
        together.append(took)
        times += waited
    print(f"alone {median(alone):.1f} s, with {arguments.clients} clients {median(together):.1f} s")
    print(f"ratio {median(together) / median(alone):.2f}")
    times.sort()
    last = times[len(times) * 99 // 100]
    print(f"{len(times):,} answers, median {median(times) * 1e3:.1f} ms, 99 % {last * 1e3:.0f} ms")


if __name__ == "__main__":
    main()
