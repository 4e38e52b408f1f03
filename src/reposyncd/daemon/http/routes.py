"""Every path of the API with its methods, and how each of them is answered."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote_to_bytes

from reposyncd.app import messages
from reposyncd.app.health import conditions, health
from reposyncd.daemon.http import openapi
from reposyncd.daemon.http.operations import LookupOperation, Operation, TicketOperation, WorkOperation
from reposyncd.daemon.http.responses import HttpAnswer
from reposyncd.daemon.http.schemas import (
    AddRequest,
    RemoveRequest,
    RepoRequest,
    Request,
    RunsRequest,
    SearchRequest,
    SyncRequest,
    TicketRequest,
    VerifyRequest,
)
from reposyncd.daemon.ports import Service
from reposyncd.errors import NotFoundError


def _status(service: Service, request: Request) -> HttpAnswer:
    return HttpAnswer(HTTPStatus.OK, service.status())


def _health(service: Service, request: Request) -> HttpAnswer:
    found = health(conditions(service.status(), time.time()))
    return HttpAnswer(HTTPStatus.OK if found["healthy"] else HTTPStatus.SERVICE_UNAVAILABLE, found)


def _repos(service: Service, request: Request) -> HttpAnswer:
    return HttpAnswer(HTTPStatus.OK, {"repos": service.status()["repos"]})


def _runs(service: Service, request: RunsRequest) -> HttpAnswer:
    return HttpAnswer(HTTPStatus.OK, service.runs(request.repo, request.limit))


def _metrics(service: Service, request: Request) -> HttpAnswer:
    from reposyncd.daemon.metrics import MEDIA_TYPE, exposition  # imported here, because it is rarely needed

    content = exposition(service.status(), service.stage_totals(), time.time())
    return HttpAnswer(HTTPStatus.OK, content, media_type=MEDIA_TYPE)


def _openapi(service: Service, request: Request) -> HttpAnswer:
    return HttpAnswer(HTTPStatus.OK, document())


ROUTES: Mapping[str, Mapping[str, Operation[Any, Any]]] = {
    "/v1/status": {"GET": LookupOperation("The state of everything", Request, messages.Status, _status)},
    "/v1/health": {
        "GET": LookupOperation(
            "Whether the service is healthy", Request, messages.Health, _health, also={503: messages.Health}
        )
    },
    "/v1/repos": {
        "GET": LookupOperation("The state of every repository", Request, messages.Repos, _repos),
        "POST": WorkOperation(
            "Keep a tree indexed",
            AddRequest,
            messages.RepoRef,
            lambda service, request: service.add(request.path, request.name),
        ),
    },
    "/v1/repos/{name}": {
        "DELETE": WorkOperation(
            "Stop indexing a repository and delete its index",
            RemoveRequest,
            messages.RepoRef,
            lambda service, request: service.remove(request.name),
        )
    },
    "/v1/pause": {
        "POST": WorkOperation(
            "Stop updating the index of one repository, or of all",
            RepoRequest,
            messages.RepoNames,
            lambda service, request: service.pause(request.repo),
        )
    },
    "/v1/resume": {
        "POST": WorkOperation(
            "Continue updating after a pause",
            RepoRequest,
            messages.RepoNames,
            lambda service, request: service.resume(request.repo),
        )
    },
    "/v1/flush": {
        "POST": WorkOperation(
            "Wait until every earlier change is in the index",
            RepoRequest,
            messages.Flushed,
            lambda service, request: service.flush(request.repo),
        )
    },
    "/v1/sync": {
        "POST": WorkOperation(
            "Bring the index of a tree up to date",
            SyncRequest,
            messages.SyncResult,
            lambda service, request: service.sync(request.path, request.name, request.full),
        )
    },
    "/v1/search": {
        "POST": WorkOperation(
            "The chunks nearest to a query, best first",
            SearchRequest,
            messages.Hits,
            lambda service, request: service.search(request.query, request.repo, request.limit),
        )
    },
    "/v1/verify": {
        "POST": WorkOperation(
            "Compare every record with its file, and every file with the index",
            VerifyRequest,
            messages.Verifications,
            lambda service, request: service.verify(request.repo, request.repair),
        )
    },
    "/v1/runs": {"GET": LookupOperation("The last syncs that had something to do", RunsRequest, messages.Runs, _runs)},
    "/v1/tickets/{ticket}": {"GET": TicketOperation("The answer to an earlier request", TicketRequest, dict[str, Any])},
    "/metrics": {"GET": LookupOperation("The state as numbers, for Prometheus", Request, str, _metrics, "text/plain")},
    "/openapi.json": {"GET": LookupOperation("This document", Request, openapi.Document, _openapi)},
}


def document() -> dict[str, Any]:
    """The API as an OpenAPI document."""
    return openapi.document(ROUTES)


def find(path: str) -> tuple[Mapping[str, Operation[Any, Any]], dict[str, str]]:
    """The methods of a path, and the fields in it. Raises NotFoundError."""
    if path in ROUTES and "{" not in path:
        return ROUTES[path], {}
    for template, methods in ROUTES.items():
        start, is_template, name = template.partition("{")
        segment = path.removeprefix(start)
        if is_template and path.startswith(start) and segment and "/" not in segment:
            return methods, {name.removesuffix("}"): os.fsdecode(unquote_to_bytes(segment))}
    raise NotFoundError(f"there is nothing at {path[:80]}")
