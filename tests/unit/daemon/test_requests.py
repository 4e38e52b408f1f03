"""What the service makes of a request, from what the engine knows."""

from __future__ import annotations

from reposyncd.daemon.engine.snapshots import Stored
from reposyncd.daemon.requests import _candidate
from reposyncd.search.select import select
from tests.unit.daemon.engine.repos import new


def test_a_search_says_that_it_leaves_out_a_repository_of_which_no_sync_has_said_why_by_now() -> None:
    """Its root must not be indexed: it is paused, or the service has just started."""
    searched, refused = new("searched"), new("refused")
    searched.record(stored=Stored("collection", 1, 1, (), "embedder"))
    refused.record(stored=Stored(None, 1, 1))
    selection = select([_candidate(each.snapshot()) for each in (searched, refused)], is_updated=True)
    [notice] = selection.notices
    assert notice.repo == "refused" and notice.is_left_out
