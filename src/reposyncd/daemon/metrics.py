"""The status as numbers, in Prometheus' text format. Imports prometheus_client."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from reposyncd.app.health import SEVERITY, conditions
from reposyncd.app.messages import STATES, RepoStatus, Status
from reposyncd.daemon.stage_timings import StageTotal
from reposyncd.ports import Stage

MEDIA_TYPE = CONTENT_TYPE_PLAIN_0_0_4

_OF_REPO = {
    "files": "Files that are indexed.",
    "chunks": "Chunks that are stored.",
    "pending": "Parts of the tree with changes that are not in the index yet.",
    "lag_seconds": "Age of the oldest of those changes.",
    "synced_timestamp_seconds": "When the index was last brought up to date, since the epoch.",
    "watched_directories": "Directories that are watched.",
    "unwatched_directories": "Directories that are scanned on a timer, since they could not be watched.",
    "errors": "Files and directories that could not be read at the last scan.",
    "quarantined": "Files that are left out, because they cannot be chunked or stored.",
    "plain": "Files that are cut as plain lines, because the parser cannot handle their content.",
}

StageTotals = Mapping[tuple[str, Stage], StageTotal]


class _Status(Collector):
    """A collector for one status."""

    def __init__(self, status: Status, stages: StageTotals, now: float) -> None:
        self._status = status
        self._stages = stages
        self._now = now

    def collect(self) -> Iterator[Metric]:
        yield from self._of_service()
        yield from self._of_repos()
        yield self._conditions()
        yield from self._of_stages()

    def _of_service(self) -> Iterator[Metric]:
        service, store = self._status["daemon"], self._status["store"]
        version = GaugeMetricFamily("reposyncd_info", "The version of the service.", labels=["version"])
        version.add_metric([self._status["version"]], 1)
        yield version
        yield GaugeMetricFamily("reposyncd_uptime_seconds", "Time since the service started.", service["uptime_s"])
        yield CounterMetricFamily(
            "reposyncd_events_lost",
            "How often all trees were scanned because events were lost.",
            service.get("events_lost", 0),
        )
        yield GaugeMetricFamily("reposyncd_store_healthy", "Whether the store can be used.", store["healthy"])
        yield GaugeMetricFamily(
            "reposyncd_store_wait_seconds",
            "How long work has been waiting for the store.",
            store.get("lock", {}).get("wait_s_max", 0.0),
        )

    def _of_repos(self) -> Iterator[Metric]:
        state = GaugeMetricFamily(
            "reposyncd_repo_state", "1 for the state of the repository, else 0.", labels=["repo", "state"]
        )
        numbers = {
            name: GaugeMetricFamily(f"reposyncd_repo_{name}", text, labels=["repo"]) for name, text in _OF_REPO.items()
        }
        for repo in self._status["repos"]:
            for each in STATES:
                state.add_metric([repo["name"], each], each == repo["state"])
            for name, value in _numbers(repo).items():
                numbers[name].add_metric([repo["name"]], value)
        yield state
        yield from numbers.values()

    def _conditions(self) -> Metric:
        found = GaugeMetricFamily(
            "reposyncd_conditions", "Things that are wrong or unusual, by kind.", labels=["kind", "severity"]
        )
        counts = Counter(each.kind for each in conditions(self._status, self._now))
        for kind, severity in SEVERITY.items():
            found.add_metric([kind, severity], counts[kind])
        return found

    def _of_stages(self) -> Iterator[Metric]:
        labels = ["repo", "stage"]
        seconds = CounterMetricFamily("reposyncd_stage_seconds", "Time that stages of syncing took.", labels=labels)
        items = CounterMetricFamily(
            "reposyncd_stage_items", "Items in these stages: directories (scan), files (read) or chunks.", labels=labels
        )
        names = {repo["name"] for repo in self._status["repos"]}
        for (repo, stage), total in sorted(self._stages.items()):
            if repo in names:
                seconds.add_metric([repo, stage], total.seconds)
                items.add_metric([repo, stage], total.items)
        yield seconds
        yield items


def _numbers(repo: RepoStatus) -> dict[str, float]:
    watch = repo.get("watch")
    found: dict[str, float] = {
        "files": repo["files"],
        "chunks": repo["chunks"],
        "pending": repo.get("pending", 0),
        "lag_seconds": repo.get("lag_s", 0.0),
        "watched_directories": watch["directories"] if watch else 0,
        "unwatched_directories": watch["unwatched"] if watch else 0,
        "errors": len(repo["errors"]),
        "quarantined": len(repo["quarantined"]),
        "plain": sum(each["is_indexed"] for each in repo["verdicts"]),
    }
    return found if repo["synced_at"] is None else {**found, "synced_timestamp_seconds": repo["synced_at"]}


def exposition(status: Status, stages: StageTotals, now: float) -> bytes:
    """The answer of `GET /metrics`: this status and these durations, and the numbers of this process.

    `now` is in seconds since the epoch.
    """
    registry = CollectorRegistry()
    registry.register(_Status(status, stages, now))
    ProcessCollector(registry=registry)
    return generate_latest(registry)
