"""What a request may hold."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reposyncd.daemon.http.schemas import (
    AddRequest,
    RemoveRequest,
    RepoRequest,
    RunsRequest,
    SearchRequest,
    SyncRequest,
    TicketRequest,
    VerifyRequest,
    WorkRequest,
    from_json,
    from_query,
    parse,
)
from reposyncd.errors import UsageError

KINDS = [
    AddRequest,
    RemoveRequest,
    RepoRequest,
    RunsRequest,
    SearchRequest,
    SyncRequest,
    TicketRequest,
    VerifyRequest,
    WorkRequest,
]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=4,
)
NAMES = st.sampled_from(["path", "name", "repo", "query", "limit", "wait_s", "full", "repair", "ticket"])


def test_null_counts_as_not_given() -> None:
    given: dict[str, Any] = {"query": "x", "repo": None, "limit": None, "wait_s": None}
    assert parse(SearchRequest, given) == SearchRequest(query="x")
    with pytest.raises(UsageError, match="the field query is missing"):
        parse(SearchRequest, {"query": None})


def test_a_path_may_have_bytes_that_are_not_utf8_and_a_name_may_not() -> None:
    body = json.dumps({"path": "/\udcff", "wait_s": 3}).encode()
    assert parse(AddRequest, from_json(body)) == AddRequest(path="/\udcff", wait_s=3.0)
    for wrong in ({"path": "/\ud800"}, {"path": "/a", "name": "\udcff"}):
        with pytest.raises(UsageError, match=r"the field (path|name) must be "):
            parse(AddRequest, wrong)


@pytest.mark.parametrize("limit", [2.0, True, "2", 0, 1001, 10**400, float("nan"), [2]])
def test_a_number_of_another_type_or_size_is_refused(limit: object) -> None:
    with pytest.raises(UsageError, match="the field limit must be a whole number from 1 to 1000"):
        parse(RunsRequest, {"limit": limit})


@pytest.mark.parametrize("wait_s", [10**400, -1, 25.1, True, "5", float("nan"), float("inf")])
def test_a_time_that_nobody_can_wait_is_refused(wait_s: object) -> None:
    with pytest.raises(UsageError, match="the field wait_s must be a number of seconds from 0 to 25"):
        parse(WorkRequest, {"wait_s": wait_s})


def test_the_query_string_has_the_types_of_the_fields() -> None:
    found = from_query("repo=5&limit=7", RunsRequest)
    assert found == {"repo": "5", "limit": 7}
    assert from_query("wait_s=1e1", WorkRequest) == {"wait_s": 10.0}
    with pytest.raises(UsageError, match="there is no field 'other'"):
        from_query("other=1", RunsRequest)
    with pytest.raises(UsageError, match="must have the form"):
        from_query("&".join("limit=1" for _ in range(11)), RunsRequest)


def test_a_field_of_the_path_cannot_be_given_elsewhere() -> None:
    assert parse(RemoveRequest, {}, {"name": "a"}) == RemoveRequest(name="a")
    with pytest.raises(UsageError, match="there is no field 'name'"):
        parse(RemoveRequest, {"name": "b"}, {"name": "a"})


@settings(deadline=None)  # the machine may be busy
@given(st.sampled_from(KINDS), st.dictionaries(NAMES | st.text(st.characters(codec=None)), VALUES, max_size=4))
def test_whatever_is_given_is_a_request_or_an_error_that_can_be_told(
    kind: type[WorkRequest], given: dict[str, Any]
) -> None:
    try:
        found = parse(kind, given)
    except UsageError as error:
        str(error).encode()
    else:
        for name in given.keys() & set(kind.__struct_fields__):
            assert given[name] is None or getattr(found, name) == given[name]
