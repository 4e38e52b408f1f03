"""What can be asked of the API, and how each of it is answered: the paths, their methods, and the fields of these."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from reposyncd.daemon.http.fields import NAME_CHARS, QUERY_CHARS, Field, count, flag, path, query, seconds, text
from reposyncd.daemon.http.responses import Answer
from reposyncd.daemon.ports import Service, Ticket
from reposyncd.errors import NotFoundError, UsageError

_UNHEALTHY = ("failed", "degraded")
"""States of a repo that the service is not well in. One that is missing, as on a disk that is unplugged, is none: the
service does what it should, and what it answers of that repo is as old as its absence."""


class Route(NamedTuple):
    """What one method on one path does: it asks for work, or answers at once."""

    summary: str
    gives: str
    """the schema of its answer"""
    fields: Mapping[str, Field]
    ask: Callable[[Service, dict[str, Any]], Ticket] | None = None
    answer: Callable[[Service, dict[str, Any]], Answer] | None = None
    media_type: str = "application/json"


def fields_of(route: Route) -> Mapping[str, Field]:
    """All fields that a request may have."""
    return {**route.fields, **WAIT} if route.ask else route.fields


def _status(service: Service, given: Mapping[str, Any]) -> Answer:
    return Answer(HTTPStatus.OK, service.status())


def _runs(service: Service, given: Mapping[str, Any]) -> Answer:
    return Answer(HTTPStatus.OK, service.runs(given["repo"], given["limit"]))


def _metrics(service: Service, given: Mapping[str, Any]) -> Answer:
    from reposyncd.daemon.metrics import MEDIA_TYPE, exposition  # here, since hardly anybody asks for them

    return Answer(HTTPStatus.OK, exposition(service.status()), media_type=MEDIA_TYPE)


def _repos(service: Service, given: Mapping[str, Any]) -> Answer:
    return Answer(HTTPStatus.OK, {"repos": service.status()["repos"]})


def _openapi(service: Service, given: Mapping[str, Any]) -> Answer:
    return Answer(HTTPStatus.OK, document())


def _health(service: Service, given: Mapping[str, Any]) -> Answer:
    status = service.status()
    reasons = [
        f"{repo['name']} is {repo['state']}: {repo['reason']}"
        for repo in status["repos"]
        if repo["state"] in _UNHEALTHY
    ]
    if not status["store"]["healthy"]:
        reasons.insert(0, status["store"].get("reason") or "the store is not healthy")
    if status["daemon"].get("starting"):
        reasons.insert(0, status["daemon"]["state"])
    if not reasons:
        return Answer(HTTPStatus.OK, {"healthy": True, "reasons": []})
    error = {"code": "unhealthy", "message": "; ".join(reasons)}
    return Answer(HTTPStatus.SERVICE_UNAVAILABLE, {"healthy": False, "reasons": reasons, "error": error})


_REPO = {"repo": text(NAME_CHARS)}
_TREE = {"path": path(required=True), "name": text(NAME_CHARS)}
WAIT = {"wait_s": seconds()}

_NAME = "{name}"
"""Stands for a segment of the path that is a repo's name."""

ROUTES: dict[tuple[str, ...], dict[str, Route]] = {
    ("v1", "status"): {"GET": Route("What is kept, and how current it is", "Status", {}, answer=_status)},
    ("v1", "health"): {"GET": Route("Whether all is well", "Health", {}, answer=_health)},
    ("v1", "repos"): {
        "GET": Route("What is kept", "Repos", {}, answer=_repos),
        "POST": Route(
            "Keep a tree from now on", "Repo", _TREE, lambda service, given: service.add(given["path"], given["name"])
        ),
    },
    ("v1", "repos", _NAME): {
        "DELETE": Route(
            "Keep it no longer, and drop its index", "Repo", {}, lambda service, given: service.remove(given["repo"])
        )
    },
    ("v1", "pause"): {
        "POST": Route(
            "Leave a repository, or all, as it is", "Names", _REPO, lambda service, given: service.pause(given["repo"])
        )
    },
    ("v1", "resume"): {
        "POST": Route("Go on after a pause", "Names", _REPO, lambda service, given: service.resume(given["repo"]))
    },
    ("v1", "flush"): {
        "POST": Route(
            "Wait until every change of before is in the index",
            "Flushed",
            _REPO,
            lambda service, given: service.flush(given["repo"]),
        )
    },
    ("v1", "sync"): {
        "POST": Route(
            "Look at a whole tree",
            "SyncResult",
            {**_TREE, "full": flag()},
            lambda service, given: service.sync(given["path"], given["name"], given["full"]),
        )
    },
    ("v1", "search"): {
        "POST": Route(
            "The chunks nearest to a query, best first",
            "Hits",
            {"query": query(QUERY_CHARS), "limit": count(default=5), **_REPO},
            lambda service, given: service.search(given["query"], given["repo"], given["limit"]),
        )
    },
    ("v1", "verify"): {
        "POST": Route(
            "Compare every record with its file, and every file with the index",
            "Verifications",
            {**_REPO, "repair": flag()},
            lambda service, given: service.verify(given["repo"], given["repair"]),
        )
    },
    ("v1", "runs"): {
        "GET": Route(
            "The last syncs that had something to do, newest first",
            "Runs",
            {**_REPO, "limit": count(default=10)},
            answer=_runs,
        )
    },
    ("metrics",): {
        "GET": Route("The state in numbers, for Prometheus", "Metrics", {}, answer=_metrics, media_type="text/plain")
    },
    ("openapi.json",): {"GET": Route("This document", "OpenApi", {}, answer=_openapi)},
}


def document() -> dict[str, Any]:
    """The API as an OpenAPI document."""
    from reposyncd.daemon.http import openapi  # here, since hardly anybody asks for it

    operations = {
        ("/" + "/".join(segments), method): openapi.Operation(
            route.summary,
            route.gives,
            {name: (field.schema, field.required) for name, field in fields_of(route).items()},
            waits=route.ask is not None,
            media_type=route.media_type,
            also={503: "Health"} if route.gives == "Health" else {},
            in_path=_REPO["repo"].schema if _NAME in segments else None,
        )
        for segments, routes in ROUTES.items()
        for method, route in routes.items()
    }
    operations[("/v1/tickets/{ticket}", "GET")] = openapi.Operation(
        "What a ticket is for: the answer of whatever was asked",
        "Anything",
        {"wait_s": (WAIT["wait_s"].schema, False)},
        waits=True,
        in_path={"type": "string", "minLength": 1},
    )
    return openapi.document(operations)


def find(segments: tuple[str, ...], asked: str) -> tuple[Mapping[str, Route], str | None]:
    """The methods of the path that was asked, in its segments, and the repo that it names. Raises NotFoundError, and
    UsageError if nothing can have that name."""
    if segments in ROUTES:
        return ROUTES[segments], None
    if len(segments) == 3 and (*segments[:2], _NAME) in ROUTES and segments[2]:
        name = os.fsdecode(unquote_to_bytes(segments[2]))
        try:
            return ROUTES[(*segments[:2], _NAME)], _REPO["repo"].accept(name)
        except ValueError as error:
            raise UsageError(f"the repository's name must be {error}") from None
    raise NotFoundError(f"there is nothing at {asked[:80]}")
