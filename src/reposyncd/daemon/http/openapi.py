"""The API's OpenAPI document: what can be asked, with what, and every answer. Pure.

`docs/openapi.json` is a copy of it, and `GET /openapi.json` gives it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

from reposyncd import __version__
from reposyncd.model import Skip

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
FLAG: Schema = {"type": "boolean"}
COUNT: Schema = {"type": "integer", "minimum": 0}
NUMBER: Schema = {"type": "number"}

EVERY = (400, 401, 403, 404, 405, 408, 413, 414, 421, 431, 500, 501, 503, 505)
"""Statuses of errors that any request can have."""

STATES = ["current", "syncing", "pending", "paused", "degraded", "missing", "failed"]


def nullable(schema: Schema) -> Schema:
    """That, or null."""
    return {"anyOf": [schema, {"type": "null"}]}


def listed(schema: Schema) -> Schema:
    """An array of those."""
    return {"type": "array", "items": schema}


def record(fields: Mapping[str, Schema], optional: Iterable[str] = ()) -> Schema:
    """An object with these fields, which all are there but the optional ones; later versions may have more."""
    left_out = set(optional)
    return {
        "type": "object",
        "properties": dict(fields),
        "required": [name for name in fields if name not in left_out],
    }


def named(name: str) -> Schema:
    """A schema of SCHEMAS."""
    return {"$ref": f"#/components/schemas/{name}"}


_FILE_ERROR = record({"path": TEXT, "error": TEXT})
_ERROR = record({"code": TEXT, "message": TEXT})

SCHEMAS: dict[str, Schema] = {
    "Error": record({"error": _ERROR}),
    "Repo": record({"name": TEXT, "root": TEXT}),
    "Names": record({"repos": listed(TEXT)}),
    "Flushed": record({"repos": listed(TEXT), "errors": listed(_FILE_ERROR)}),
    "Ticket": record(
        {
            "ticket": TEXT,
            "progress": record(
                {
                    "pending": listed(record({"repo": TEXT, "paths": listed(TEXT), "why": TEXT})),
                    "phase": TEXT,
                    "files_done": COUNT,
                    "files_total": COUNT,
                    "chunks_done": COUNT,
                    "trouble": TEXT,
                    "cutting": TEXT,
                }
            ),
        }
    ),
    "SyncResult": record(
        {
            "repo": TEXT,
            "root": TEXT,
            "files": record(
                {
                    **dict.fromkeys(("total", "new", "modified", "deleted", "unchanged"), COUNT),
                    "skipped": {
                        "type": "object",
                        "propertyNames": {"enum": [each.value for each in Skip]},
                        "additionalProperties": COUNT,
                    },
                    "plain": COUNT,
                },
                optional=("plain",),  # older results in the history have none
            ),
            "chunks": record(dict.fromkeys(("total", "added", "relabelled", "deleted", "embedded"), COUNT)),
            "bytes_read": COUNT,
            "duration_s": NUMBER,
            "errors": listed(_FILE_ERROR),
        }
    ),
    "Hits": record(
        {
            "hits": listed(
                record(
                    {
                        "repo": TEXT,
                        "path": TEXT,
                        "start_line": COUNT,
                        "end_line": COUNT,
                        "symbol": TEXT,
                        "language": TEXT,
                        "digest": TEXT,
                        "score": NUMBER,
                        "text": TEXT,
                    }
                )
            ),
            "complete": FLAG,
            "notices": listed(record({"repo": TEXT, "text": TEXT})),
        }
    ),
    "RepoStatus": record(
        {
            "name": TEXT,
            "root": TEXT,
            "collection": nullable(TEXT),
            "state": {"enum": STATES},
            "reason": TEXT,
            "files": COUNT,
            "chunks": COUNT,
            "pending": COUNT,
            "lag_s": NUMBER,
            "progress": nullable(
                record(
                    {
                        "phase": TEXT,
                        "done": COUNT,
                        "total": COUNT,
                        "chunks": COUNT,
                        "rate_chunks_s": nullable(NUMBER),
                        "left_s": nullable(NUMBER),
                    },
                    optional=("phase", "rate_chunks_s", "left_s"),
                )
            ),
            "waiting": nullable(record({"reason": TEXT, "for_s": NUMBER})),
            "last_sync": nullable(named("SyncResult")),
            "synced_at": nullable(NUMBER),
            "watch": record(
                {
                    "mode": {"enum": ["inotify", "poll", "none"]},
                    "directories": COUNT,
                    "unwatched": COUNT,
                    "reason": TEXT,
                }
            ),
            "quarantined": listed(TEXT),
            "verdicts": listed(record({"path": TEXT, "is_indexed": FLAG, "reason": TEXT})),
            "errors": listed(_FILE_ERROR),
        },
        optional=("pending", "lag_s", "watch"),
    ),
    "Repos": record({"repos": listed(named("RepoStatus"))}),
    "Status": record(
        {
            "version": TEXT,
            "daemon": record(
                {
                    "running": FLAG,
                    "pid": nullable(COUNT),
                    "uptime_s": nullable(NUMBER),
                    "state": TEXT,
                    "starting": FLAG,
                    "watches": COUNT,
                    "events_lost": COUNT,
                    "waits_for": nullable(TEXT),
                    "problems": listed(TEXT),
                },
                optional=("starting", "watches", "events_lost", "waits_for", "problems"),
            ),
            "store": record(
                {
                    "kind": TEXT,
                    "location": TEXT,
                    "healthy": FLAG,
                    "reason": TEXT,
                    "lock": record(
                        {"held": FLAG, "holder": nullable(COUNT), "waits": COUNT, "wait_s_max": NUMBER},
                        optional=("waits", "wait_s_max"),
                    ),
                },
                optional=("lock",),
            ),
            "writer": nullable(COUNT),
            "incidents": listed(record({"at": NUMBER, "what": TEXT, "reason": TEXT, "place": TEXT})),
            "repos": listed(named("RepoStatus")),
        },
        optional=("writer",),
    ),
    "Health": record({"healthy": FLAG, "reasons": listed(TEXT), "error": _ERROR}, optional=("error",)),
    "Verifications": record(
        {
            "repos": listed(
                record(
                    {
                        "repo": TEXT,
                        "root": TEXT,
                        "records": COUNT,
                        "files": COUNT,
                        "vectors": COUNT,
                        "pending": COUNT,
                        "counts": {"type": "object", "additionalProperties": COUNT},
                        "problems": listed(record({"kind": TEXT, "path": TEXT, "id": TEXT})),
                        "errors": listed(_FILE_ERROR),
                        "repaired": FLAG,
                    }
                )
            )
        }
    ),
    "Runs": record(
        {
            "runs": listed(
                record(
                    {
                        "repo": TEXT,
                        "id": COUNT,
                        "kind": {"enum": ["sync", "full"]},
                        "started_ns": COUNT,
                        "finished_ns": nullable(COUNT),
                        "outcome": {"enum": ["running", "done", "interrupted", "failed"]},
                        "files_done": COUNT,
                        "files_total": COUNT,
                        "chunks_done": COUNT,
                        "trouble": nullable(TEXT),
                        "trouble_ns": nullable(COUNT),
                        "error": nullable(TEXT),
                        "result": nullable(named("SyncResult")),
                    }
                )
            )
        }
    ),
    "Metrics": TEXT,
    "OpenApi": record({"openapi": TEXT, "paths": {"type": "object"}}),
    "Anything": {"type": "object"},
}


class Operation(NamedTuple):
    """One method on one path."""

    summary: str
    answer: str
    """the schema of what is answered when all is well"""
    fields: Mapping[str, tuple[Schema, bool]]
    """name to (schema, whether it is required): in the body of a POST, and in the query string otherwise"""
    waits: bool = False
    """whether it may be answered with a ticket"""
    media_type: str = "application/json"
    also: Mapping[int, str] = {}
    """the schemas of answers beside 200, 202 and errors"""
    in_path: Schema | None = None
    """of the segment of the path that is named in braces"""


def document(operations: Mapping[tuple[str, str], Operation]) -> dict[str, Any]:
    """The whole document, of (path, method) to operation."""
    paths: dict[str, dict[str, Any]] = {}
    for (path, method), operation in operations.items():
        paths.setdefault(path, {})[method.lower()] = _operation(path, method, operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "reposyncd",
            "version": __version__,
            "description": "The service's API, over its Unix socket. See docs/api.md.",
        },
        "paths": paths,
        "components": {"schemas": SCHEMAS},
    }


def _operation(path: str, method: str, operation: Operation) -> dict[str, Any]:
    found: dict[str, Any] = {"operationId": f"{method.lower()}{path.replace('/', '_')}", "summary": operation.summary}
    parameters = []
    if operation.in_path is not None:
        name = path[path.index("{") + 1 : path.index("}")]
        parameters.append({"name": name, "in": "path", "required": True, "schema": operation.in_path})
    if method == "POST":
        found["requestBody"] = _body(operation)
    else:
        parameters += [
            {"name": name, "in": "query", "schema": schema} for name, (schema, _) in operation.fields.items()
        ]
    if parameters:
        found["parameters"] = parameters
    answers = {200: operation.answer, **({202: "Ticket"} if operation.waits else {}), **operation.also}
    errors = {*EVERY, *((409,) if operation.waits else ())} - set(operation.also)
    found["responses"] = {
        str(status): {
            "description": HTTPStatus(status).phrase,
            "content": {
                operation.media_type if status == HTTPStatus.OK else "application/json": {
                    "schema": named(answers.get(status, "Error"))
                }
            },
        }
        for status in sorted({*answers, *errors})
    }
    if 503 in operation.also:
        found["responses"]["503"]["content"]["application/json"]["schema"] = {
            "anyOf": [named(operation.also[503]), named("Error")]
        }
    return found


def _optional(schema: Schema) -> Schema:
    """That, or null, which is to say nothing."""
    default = {"default": schema["default"]} if "default" in schema else {}
    return nullable({key: value for key, value in schema.items() if key != "default"}) | default


def _body(operation: Operation) -> dict[str, Any]:
    required = [name for name, (_, is_required) in operation.fields.items() if is_required]
    properties = {
        name: schema if is_required else _optional(schema) for name, (schema, is_required) in operation.fields.items()
    }
    schema: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    schema |= {"required": required} if required else {}
    return {"required": bool(required), "content": {"application/json": {"schema": schema}}}
