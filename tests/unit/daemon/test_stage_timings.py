from __future__ import annotations

import threading

from reposyncd.daemon.stage_timings import StageTimings, StageTotal
from reposyncd.ports import Observer, Stage


def test_stages_are_added_up_by_repository_from_any_thread() -> None:
    timings = StageTimings()
    observer: Observer = timings

    def sync() -> None:
        for _ in range(1000):
            observer.stage("a", Stage.READ, 0.5, 2)
        observer.stage("b", Stage.READ, 1.0, 1)
        observer.stage("b", Stage.EMBED, 2.0, 0)

    threads = [threading.Thread(target=sync) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert timings.totals() == {
        ("a", Stage.READ): StageTotal(2000.0, 8000),
        ("b", Stage.READ): StageTotal(4.0, 4),
        ("b", Stage.EMBED): StageTotal(8.0, 0),
    }
