"""The requests: one type for each, from which validation and the OpenAPI document are derived. Pure.

A field of a request is checked against its type. The description of the type says what is allowed. It is part of the
error message and of the document.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Annotated, Any, NamedTuple, TypeVar, get_args
from urllib.parse import parse_qsl

import msgspec
from msgspec import Meta

from reposyncd.errors import UsageError

WAIT_S = 20.0
"""How many seconds a request waits for its work by default. Many clients give up after 30."""

WAIT_MAX_S = 25.0
"""The longest time in seconds that a request may ask to wait."""

HITS_MAX = 1000
"""The largest number of results of one search, and of syncs in one answer from the history."""

QUERY_CHARS = 10_000
"""Characters of the longest query: several pages of text. No embedder reads more."""

NAME_CHARS = 4096
"""Characters of the longest name and the longest path: the kernel's PATH_MAX."""

_QUERY_STRING_FIELDS = 10
"""The largest number of fields in a query string."""


def _string(pattern: str, longest: int, what: str, encode: Callable[[str], bytes]) -> Meta:
    """The constraints for a string. `pattern` is valid in Python and in JSON Schema. `encode` raises UnicodeEncodeError
    for characters that are not allowed."""
    return Meta(
        pattern=pattern,
        min_length=1,
        max_length=longest,
        description=f"{what}, of at most {longest:,} characters",
        extra={"encode": encode},
    )


Name = Annotated[
    str,
    _string("^[^\\u0000]+$", NAME_CHARS, "a string that is not empty, in valid Unicode and without NUL", str.encode),
]
AbsolutePath = Annotated[str, _string("^/[^\\u0000]*$", NAME_CHARS, "an absolute path", os.fsencode)]
"""Bytes that are not UTF-8 appear in it as lone surrogates (os.fsdecode)."""
Query = Annotated[
    str,
    _string(
        "^[^\\u0000]*[^\\s\\u0000][^\\u0000]*$",  # the vector of white space has no meaning
        QUERY_CHARS,
        "a string that is not blank, in valid Unicode and without NUL",
        str.encode,
    ),
]
Limit = Annotated[int, Meta(ge=1, le=HITS_MAX, description=f"a whole number from 1 to {HITS_MAX}")]
Wait = Annotated[float, Meta(ge=0, le=WAIT_MAX_S, description=f"a number of seconds from 0 to {WAIT_MAX_S:g}")]
Flag = Annotated[bool, Meta(description="true or false")]
TicketId = Annotated[str, Meta(min_length=1, description="the ticket of an earlier answer")]


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request without fields."""


class WorkRequest(Request, frozen=True, kw_only=True):
    """A request for work. The answer is a ticket if the work is not done within `wait_s`."""

    wait_s: Wait = WAIT_S


class AddRequest(WorkRequest, frozen=True, kw_only=True):
    """Starts to keep a tree indexed."""

    path: AbsolutePath
    name: Name | None = None


class RemoveRequest(WorkRequest, frozen=True, kw_only=True):
    """Stops indexing a repository. `name` is part of the path of the URL."""

    name: Name


class RepoRequest(WorkRequest, frozen=True, kw_only=True):
    """A request about one repository, or about all if none is given."""

    repo: Name | None = None


class SyncRequest(AddRequest, frozen=True, kw_only=True):
    """Compares a whole tree with its index."""

    full: Flag = False


class SearchRequest(RepoRequest, frozen=True, kw_only=True):
    """Searches one repository, or all."""

    query: Query
    limit: Limit = 5


class VerifyRequest(RepoRequest, frozen=True, kw_only=True):
    """Verifies one repository, or all."""

    repair: Flag = False


class RunsRequest(Request, frozen=True, kw_only=True):
    """Reads the history."""

    repo: Name | None = None
    limit: Limit = 10


class TicketRequest(WorkRequest, frozen=True, kw_only=True):
    """Waits for work that was requested earlier. `ticket` is part of the path of the URL."""

    ticket: TicketId


class _Field(NamedTuple):
    """A field of a request, as its type describes it."""

    annotation: Any
    base: type
    """str, int, float or bool"""
    allowed: str
    encode: Callable[[str], bytes] | None
    is_required: bool


R = TypeVar("R", bound=Request)


@cache
def _fields(kind: type[Request]) -> Mapping[str, _Field]:
    found = {}
    for field in msgspec.structs.fields(kind):
        annotated = next(each for each in (field.type, *get_args(field.type)) if hasattr(each, "__metadata__"))
        [meta] = annotated.__metadata__
        encode = (meta.extra or {}).get("encode")
        found[field.name] = _Field(field.type, annotated.__origin__, meta.description, encode, field.required)
    return found


def parse(kind: type[R], given: Mapping[str, Any], in_path: Mapping[str, str] = {}) -> R:
    """The request of this type with these fields, whose values have JSON types; null counts as not given. `in_path` has
    the fields from the path of the URL. Raises UsageError, which names the field and says what is allowed."""
    fields = _fields(kind)
    check_names([name for name in fields if name not in in_path], given)
    given = {**given, **in_path}
    values: dict[str, Any] = {}
    for name, field in fields.items():
        value = given.get(name)
        if value is not None:
            values[name] = _checked(name, field, value)
        elif field.is_required:
            raise UsageError(f"the field {name} is missing")
    return kind(**values)


def _checked(name: str, field: _Field, value: Any) -> Any:
    try:
        if field.encode and isinstance(value, str):
            field.encode(value)
        return msgspec.convert(value, field.annotation)
    except (msgspec.ValidationError, UnicodeEncodeError):
        raise UsageError(f"the field {name} must be {field.allowed}") from None


def check_names(known: Iterable[str], given: Iterable[str]) -> None:
    """Raises UsageError if a field is given that is unknown."""
    known = tuple(known)
    for name in given:
        if name not in known:
            raise UsageError(f"there is no field {name[:40]!r} (known: {', '.join(known)})")


def from_query(query: str, kind: type[Request]) -> dict[str, Any]:
    """The fields of a query string, converted to the JSON types that these fields have in requests of `kind`. Raises
    UsageError."""
    fields = _fields(kind)
    try:
        given = parse_qsl(query, keep_blank_values=True, max_num_fields=_QUERY_STRING_FIELDS, errors="surrogateescape")
    except ValueError:
        raise UsageError("the query string must have the form name=value&name=value") from None
    check_names(fields, dict(given))
    values: dict[str, Any] = {}
    for name, value in given:
        try:
            values[name] = fields[name].base(value)
        except ValueError:
            raise UsageError(f"the field {name} must be {fields[name].allowed}") from None
    return values


def from_json(body: bytes) -> dict[str, Any]:
    """The fields of a body; none if it is empty. Raises UsageError."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not a number")

    if not body:
        return {}
    try:
        content = json.loads(body, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the body is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise UsageError("the body is not a JSON object")
    return content
