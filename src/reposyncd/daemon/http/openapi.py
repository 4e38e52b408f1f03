"""The API's OpenAPI document: every request and every answer. Pure.

The requests come from `schemas`, the answers from `app.messages`. `docs/openapi.json` is a copy of the document, and
`GET /openapi.json` returns it.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, TypedDict

import msgspec

from reposyncd import __version__
from reposyncd.app import messages
from reposyncd.daemon.http.operations import LookupOperation, Operation
from reposyncd.daemon.http.schemas import Request
from reposyncd.model import Skip

Schema = dict[str, Any]
"""JSON Schema 2020-12."""

ANY_ERROR = (400, 401, 403, 404, 405, 408, 413, 414, 421, 431, 500, 501, 503, 505)
"""The HTTP statuses of errors that any request may get."""

_REF = "#/components/schemas/{name}"

_Schemas = Mapping[Any, Schema]
"""The schemas of answers, by their types."""


class Document(TypedDict):
    """An OpenAPI document."""

    openapi: str
    paths: dict[str, Any]


def document(routes: Mapping[str, Mapping[str, Operation[Any, Any]]]) -> dict[str, Any]:
    """The whole document, from the operations by path and method."""
    operations = [each for methods in routes.values() for each in methods.values()]
    answers = [messages.Error, messages.Ticket, *(each.answer for each in operations)]
    answers += [kind for each in operations if isinstance(each, LookupOperation) for kind in each.also.values()]
    references, components = msgspec.json.schema_components(answers, ref_template=_REF)
    for schema in components.values():
        _refuse_negative(schema)
    # The type cannot express this: the keys are reasons to skip a file.
    components["FileCounts"]["properties"]["skipped"]["propertyNames"] = {"enum": [each.value for each in Skip]}
    schema_of = dict(zip(answers, references, strict=True))
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "reposyncd",
            "version": __version__,
            "description": "The service's API, over its Unix socket. See docs/api.md.",
        },
        "paths": {
            path: {method.lower(): _operation(path, method, each, schema_of) for method, each in methods.items()}
            for path, methods in routes.items()
        },
        "components": {"schemas": dict(sorted(components.items()))},
    }


def _refuse_negative(schema: Any) -> None:
    """No integer in an answer is negative: each is a count, a line number, a process id, a run or a time."""
    if isinstance(schema, dict):
        if schema.get("type") == "integer":
            schema["minimum"] = 0
        for each in schema.values():
            _refuse_negative(each)
    elif isinstance(schema, list):
        for each in schema:
            _refuse_negative(each)


def _operation(path: str, method: str, operation: Operation[Any, Any], schemas: _Schemas) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": f"{method.lower()}{path.replace('/', '_')}",
        "summary": operation.summary,
    }
    properties, required = _properties(operation.request)
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": properties.pop(name)}
        for name in list(properties)
        if f"{{{name}}}" in path
    ]
    if method == "POST":
        found["requestBody"] = _body(properties, required)
    else:
        parameters += [{"name": name, "in": "query", "schema": schema} for name, schema in properties.items()]
    if parameters:
        found["parameters"] = parameters
    found["responses"] = _responses(operation, schemas)
    return found


def _responses(operation: Operation[Any, Any], schemas: _Schemas) -> dict[str, Any]:
    error, media_type = schemas[messages.Error], "application/json"
    answers: dict[int, Schema] = {**dict.fromkeys(ANY_ERROR, error), 200: schemas[operation.answer]}
    if isinstance(operation, LookupOperation):
        media_type = operation.media_type
        answers |= {status: {"anyOf": [schemas[kind], error]} for status, kind in operation.also.items()}
    else:
        answers |= {202: schemas[messages.Ticket], 409: error}
    return {
        str(status): {
            "description": HTTPStatus(status).phrase,
            "content": {media_type if status == HTTPStatus.OK else "application/json": {"schema": schema}},
        }
        for status, schema in sorted(answers.items())
    }


def _properties(request: type[Request]) -> tuple[dict[str, Schema], list[str]]:
    """The schema of each field that is not null, and the names of the required fields."""
    schema = msgspec.json.schema_components([request])[1][request.__name__]
    return {name: _not_null(each) for name, each in schema["properties"].items()}, schema["required"]


def _not_null(schema: Schema) -> Schema:
    if "anyOf" in schema:
        [schema] = [each for each in schema["anyOf"] if each != {"type": "null"}]
    return schema


def _body(properties: Mapping[str, Schema], required: list[str]) -> dict[str, Any]:
    """The body of a POST. A field that is not required may be null, which counts as not given."""
    schema: Schema = {
        "type": "object",
        "properties": {name: each if name in required else _nullable(each) for name, each in properties.items()},
        "additionalProperties": False,
    }
    schema |= {"required": required} if required else {}
    return {"required": bool(required), "content": {"application/json": {"schema": schema}}}


def _nullable(schema: Schema) -> Schema:
    default = {"default": schema["default"]} if "default" in schema else {}
    return {"anyOf": [{key: value for key, value in schema.items() if key != "default"}, {"type": "null"}]} | default
