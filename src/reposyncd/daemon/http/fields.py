"""The fields of a request: what each may be, and how they are read from a body and from a query string. Pure."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl

from reposyncd.errors import UsageError

if TYPE_CHECKING:
    from reposyncd.daemon.http.openapi import Schema

WAIT_S = 20.0
"""How long a request waits for the work, unless it says otherwise. Clients tend to give up after 30 s."""

WAIT_MAX_S = 25.0
"""The longest that it can say."""

HITS = 1000
"""The most results of one search."""

QUERY_CHARS = 10_000
"""The longest query: some pages of text, of which no embedder reads more."""

NAME_CHARS = 4096
"""The longest name and the longest path: the kernel takes no longer one (PATH_MAX)."""


class Field(NamedTuple):
    """A field of a request."""

    accept: Callable[[Any], Any]
    """the value, from the types that JSON has; raises ValueError with what is allowed"""
    schema: Schema
    """the same for programs, and the value where none is given ("default")"""
    required: bool = False


def from_query(query: str, fields: Mapping[str, Field]) -> dict[str, Any]:
    """The fields of a query string, of the types that these fields have in JSON. Raises UsageError."""
    try:
        given = parse_qsl(query, keep_blank_values=True, max_num_fields=10, errors="surrogateescape")
    except ValueError:
        raise UsageError("the query string is none: name=value&name=value") from None
    _check_names(fields, dict(given))
    values: dict[str, Any] = {}
    for name, value in given:
        try:
            values[name] = _OF_TEXT[fields[name].schema["type"]](value)
        except ValueError:
            raise UsageError(f"the field {name} must be a number") from None
    return values


_OF_TEXT: dict[str, Callable[[str], Any]] = {"string": str, "integer": int, "number": float}
"""A value of a type in JSON, from how it stands in a query string."""


def from_json(body: bytes) -> dict[str, Any]:
    """The fields of a body; none, if it is empty. Raises UsageError."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no number")

    if not body:
        return {}
    try:
        content = json.loads(body, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the body is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise UsageError("the body is no JSON object")
    return content


def values_of(fields: Mapping[str, Field], given: Mapping[str, Any]) -> dict[str, Any]:
    """The value of every field; its default, or None, for those that are not given. Raises UsageError, which names the
    field."""
    _check_names(fields, given)
    values: dict[str, Any] = {}
    for name, field in fields.items():
        value = given.get(name)
        if value is None and field.required:
            raise UsageError(f"the field {name} is missing")
        try:
            values[name] = field.schema.get("default") if value is None else field.accept(value)
        except ValueError as error:
            raise UsageError(f"the field {name} must be {error}") from None
    return values


def _check_names(fields: Mapping[str, Field], given: Mapping[str, Any]) -> None:
    for name in given:
        if name not in fields:
            raise UsageError(f"there is no field {name[:40]!r} (there is: {', '.join(fields)})")


def seconds() -> Field:
    """How long to wait."""
    return _number(float, 0, WAIT_MAX_S, "a number of seconds", WAIT_S)


def count(default: int) -> Field:
    """How many results."""
    return _number(int, 1, HITS, "a whole number", default)


def flag() -> Field:
    """Yes or no; no, where nothing is said."""

    def accept(value: Any) -> bool:
        if not isinstance(value, bool):
            raise ValueError("true or false")
        return value

    return Field(accept, {"type": "boolean", "default": False})


def text(longest: int, *, required: bool = False) -> Field:
    """A name, of at most so many characters."""
    what = "a string that is not empty, in valid Unicode and without NUL"
    return _string("^[^\\u0000]+$", longest, what, str.encode, required)


def query(longest: int) -> Field:
    """A text that is searched for, of at most so many characters: white space alone is near to nothing."""
    what = "a string that is not blank, in valid Unicode and without NUL"
    return _string("^[^\\u0000]*[^\\s\\u0000][^\\u0000]*$", longest, what, str.encode, required=True)


def path(*, required: bool = False) -> Field:
    """A path. It may have bytes that are no UTF-8, as lone surrogates (os.fsdecode)."""
    return _string("^/[^\\u0000]*$", NAME_CHARS, "an absolute path", os.fsencode, required)


def _number(kind: type[int] | type[float], low: int, high: float, what: str, default: float) -> Field:
    def accept(value: Any) -> int | float:
        if isinstance(value, bool) or not isinstance(value, int | kind) or not low <= value <= high:
            raise ValueError(f"{what} from {low} to {high:g}")
        return kind(value)

    name = "integer" if kind is int else "number"
    return Field(accept, {"type": name, "minimum": low, "maximum": high, "default": default})


def _string(pattern: str, longest: int, what: str, encode: Callable[[str], bytes], required: bool) -> Field:
    """A string of this pattern, which is one of Python as well as of JSON Schema, that can be encoded."""
    allowed = f"{what}, of at most {longest:,} characters"

    def accept(value: Any) -> str:
        if not isinstance(value, str) or len(value) > longest or not re.fullmatch(pattern, value):
            raise ValueError(allowed)
        try:
            encode(value)
        except UnicodeEncodeError:
            raise ValueError(allowed) from None
        return value

    return Field(accept, {"type": "string", "minLength": 1, "maxLength": longest, "pattern": pattern}, required)
