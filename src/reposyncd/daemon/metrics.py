"""What status says, in numbers: Prometheus' text format. prometheus_client is imported with this module."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, get_args

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from reposyncd.app.messages import RepoStateName

MEDIA_TYPE = CONTENT_TYPE_PLAIN_0_0_4

_OF_REPO = {
    "files": "Files that are indexed.",
    "chunks": "Chunks that are stored.",
    "pending": "Places with changes that are not in the index yet.",
    "lag_seconds": "Age of the oldest of those changes.",
    "synced_timestamp_seconds": "When it was last brought up to date, since the epoch.",
    "watched_directories": "Directories that are watched.",
    "unwatched_directories": "Directories that are looked at on a timer, since they could not be watched.",
    "errors": "Files that the last look at the whole tree could not read.",
    "quarantined": "Files that are left out, because they cannot be cut or stored.",
    "plain": "Files that are cut as plain lines, because of what their content does to the parser.",
}


class _Report(Collector):
    def __init__(self, status: Mapping[str, Any]) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        daemon, store, repos = (self._status[name] for name in ("daemon", "store", "repos"))
        version = GaugeMetricFamily("reposyncd_info", "Of this version.", labels=["version"])
        version.add_metric([self._status["version"]], 1)
        yield version
        yield GaugeMetricFamily("reposyncd_uptime_seconds", "Since the service started.", daemon["uptime_s"])
        yield CounterMetricFamily(
            "reposyncd_events_lost",
            "Times that every tree was looked at, because events were lost.",
            daemon["events_lost"],
        )
        yield GaugeMetricFamily("reposyncd_store_healthy", "Whether the store can be used.", store["healthy"])
        yield GaugeMetricFamily(
            "reposyncd_store_wait_seconds",
            "For how long work has been waiting for the store.",
            store["lock"]["wait_s_max"],
        )
        state = GaugeMetricFamily("reposyncd_repo_state", "1 for the state that it is in.", labels=["repo", "state"])
        numbers = {
            name: GaugeMetricFamily(f"reposyncd_repo_{name}", text, labels=["repo"]) for name, text in _OF_REPO.items()
        }
        for repo in repos:
            for each in get_args(RepoStateName):
                state.add_metric([repo["name"], each], each == repo["state"])
            for name, value in _numbers(repo).items():
                numbers[name].add_metric([repo["name"]], value)
        yield state
        yield from numbers.values()


def _numbers(repo: Mapping[str, Any]) -> dict[str, float]:
    found = {
        "files": repo["files"],
        "chunks": repo["chunks"],
        "pending": repo["pending"],
        "lag_seconds": repo["lag_s"],
        "watched_directories": repo["watch"]["directories"],
        "unwatched_directories": repo["watch"]["unwatched"],
        "errors": len(repo["errors"]),
        "quarantined": len(repo["quarantined"]),
        "plain": sum(each["is_indexed"] for each in repo["verdicts"]),
    }
    return found if repo["synced_at"] is None else {**found, "synced_timestamp_seconds": repo["synced_at"]}


def exposition(status: Mapping[str, Any]) -> bytes:
    """What `GET /metrics` answers, of what `GET /v1/status` does; with the process's own numbers."""
    registry = CollectorRegistry()
    registry.register(_Report(status))
    ProcessCollector(registry=registry)
    return generate_latest(registry)
