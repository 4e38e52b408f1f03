"""The kinds of operations of the API. Each names the types of its request and of its answer, for validation and for the
documentation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from reposyncd.daemon.http.responses import HttpAnswer
from reposyncd.daemon.http.schemas import Request
from reposyncd.daemon.ports import Service, ServiceTask

R = TypeVar("R", bound=Request)
A = TypeVar("A")


@dataclass(frozen=True)
class Operation(Generic[R, A]):
    """One method on one path."""

    summary: str
    request: type[R]
    answer: type[A]
    """the answer if there is no error: one of `app.messages`"""


@dataclass(frozen=True)
class WorkOperation(Operation[R, A]):
    """Starts a task of the service. Answers with its result, or with a ticket while it is not done."""

    start: Callable[[Service, R], ServiceTask[A]]


@dataclass(frozen=True)
class LookupOperation(Operation[R, A]):
    """Answers with what the service knows already."""

    find: Callable[[Service, R], HttpAnswer]
    media_type: str = "application/json"
    also: Mapping[int, Any] = field(default_factory=dict)
    """types of other answers, by status"""


@dataclass(frozen=True)
class TicketOperation(Operation[R, A]):
    """Answers with the result of a task that was started earlier, or with its ticket while it is not done."""
