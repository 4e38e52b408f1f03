from __future__ import annotations

from reposyncd.daemon.summary import summary
from tests.statuses import NOW, repo, status


def test_the_summary_names_the_worst_first_and_the_progress() -> None:
    progress = {"done": 340, "total": 2100, "chunks": 0}
    found = status(repo("a"), repo("b\x1b", state="syncing", progress=progress), repo("c", state="failed"))
    assert summary(found, NOW) == (r"3 repositories: 1 failed, 1 syncing, 1 current; b\x1b: 340 of 2,100 files (16 %)")
    assert "add a directory" in summary(status(), NOW)
    full = status(repo("a"), store={"healthy": False, "reason": "the disk is full"})
    assert summary(full, NOW) == "1 repository: 1 current; the disk is full"
