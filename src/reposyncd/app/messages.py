"""Every answer of the application, as JSON. This is their only description.

At run time, these types are plain dicts, so that a command which only asks the service imports little for them. The
OpenAPI document is made from them (`daemon.http.openapi`). Later versions may add fields. No `int` is negative. Fields
whose names end in `_s` are in seconds. Those that end in `_ns` are in nanoseconds since the epoch; `synced_at` and `at`
are in seconds since the epoch.
"""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict, get_args

RepoStateName = Literal["current", "syncing", "pending", "paused", "degraded", "missing", "failed"]

STATES: tuple[RepoStateName, ...] = get_args(RepoStateName)


class FileError(TypedDict):
    """A file or directory that could not be read or stored."""

    path: str
    error: str


class RepoRef(TypedDict):
    """A repository."""

    name: str
    root: str


class RepoNames(TypedDict):
    """Repositories by name."""

    repos: list[str]


class Flushed(TypedDict):
    """Repositories whose index has every change, except changes to the files in `errors`, which could not be read."""

    repos: list[str]
    errors: list[FileError]


class PendingRepo(TypedDict):
    """A repository with changes that are not in its index yet."""

    repo: str
    paths: list[str]
    why: str


class TaskProgress(TypedDict):
    """What is still to be done. Totals are 0 until they are known."""

    pending: list[PendingRepo]
    phase: str
    files_done: int
    files_total: int
    chunks_done: int
    trouble: str
    cutting: str


class Ticket(TypedDict):
    """The answer to a request whose work is not done yet."""

    ticket: str
    progress: TaskProgress


class FileCounts(TypedDict):
    """The files of a sync, by result."""

    total: int
    new: int
    modified: int
    deleted: int
    unchanged: int
    skipped: dict[str, int]
    plain: NotRequired[int]


class ChunkCounts(TypedDict):
    """The chunks of a sync, by what was done with them."""

    total: int
    added: int
    relabelled: int
    deleted: int
    embedded: int


class SyncResult(TypedDict):
    """What a sync found and did."""

    repo: str
    root: str
    files: FileCounts
    chunks: ChunkCounts
    bytes_read: int
    duration_s: float
    errors: list[FileError]


class Hit(TypedDict):
    """A chunk that was found."""

    repo: str
    path: str
    start_line: int
    end_line: int
    symbol: str
    language: str
    digest: str
    score: float
    text: str


class Notice(TypedDict):
    """A remark about a repository that was searched, or that was left out of the search."""

    repo: str
    text: str


class Hits(TypedDict):
    """The result of a search, best hit first. `complete` is false if a repository was left out."""

    hits: list[Hit]
    complete: bool
    notices: list[Notice]


class RepoProgress(TypedDict):
    """The progress of a sync. `rate_chunks_s` and `left_s` are null while they cannot be estimated."""

    phase: NotRequired[str]
    done: int
    total: int
    chunks: int
    rate_chunks_s: NotRequired[float | None]
    left_s: NotRequired[float | None]


class Waiting(TypedDict):
    """What a sync is waiting for, and for how long."""

    reason: str
    for_s: float


class Watch(TypedDict):
    """How much of a tree is watched."""

    mode: Literal["inotify", "poll", "none"]
    directories: int
    unwatched: int
    reason: str


class FileVerdict(TypedDict):
    """A file that is cut as plain lines, or left out, because of its content."""

    path: str
    is_indexed: bool
    reason: str


class RepoStatus(TypedDict):
    """The state of a repository."""

    name: str
    root: str
    collection: str | None
    state: RepoStateName
    reason: str
    files: int
    chunks: int
    pending: NotRequired[int]
    lag_s: NotRequired[float]
    progress: RepoProgress | None
    waiting: Waiting | None
    last_sync: SyncResult | None
    synced_at: float | None
    watch: NotRequired[Watch]
    quarantined: list[str]
    verdicts: list[FileVerdict]
    errors: list[FileError]


class Repos(TypedDict):
    """Every repository."""

    repos: list[RepoStatus]


class ServiceStatus(TypedDict):
    """The state of the service."""

    running: bool
    pid: int | None
    uptime_s: float | None
    state: str
    starting: NotRequired[bool]
    watches: NotRequired[int]
    events_lost: NotRequired[int]
    waits_for: NotRequired[str | None]
    problems: NotRequired[list[str]]


class LockStatus(TypedDict):
    """The lock on the store, and the work that waits for it."""

    held: bool
    holder: int | None
    waits: NotRequired[int]
    wait_s_max: NotRequired[float]


class StoreStatus(TypedDict):
    """The state of the store."""

    kind: str
    location: str
    healthy: bool
    reason: str
    lock: NotRequired[LockStatus]


class Incident(TypedDict):
    """Damage that was repaired, and where the damaged files are kept."""

    at: float
    what: str
    reason: str
    place: str


class Status(TypedDict):
    """The state of everything."""

    version: str
    daemon: ServiceStatus
    store: StoreStatus
    writer: NotRequired[int | None]
    incidents: list[Incident]
    repos: list[RepoStatus]


class ErrorBody(TypedDict):
    """An error: `code` is one of `reposyncd.errors`."""

    code: str
    message: str


class Error(TypedDict):
    """The answer to a request that failed."""

    error: ErrorBody


class Health(TypedDict):
    """Whether the service is healthy; `reasons` says why it is not."""

    healthy: bool
    reasons: list[str]
    error: NotRequired[ErrorBody]


class Problem(TypedDict):
    """A difference between the index and the files, found by verification."""

    kind: str
    path: str
    id: str


class Verification(TypedDict):
    """The result of verifying one repository."""

    repo: str
    root: str
    records: int
    files: int
    vectors: int
    pending: int
    counts: dict[str, int]
    problems: list[Problem]
    errors: list[FileError]
    repaired: bool


class Verifications(TypedDict):
    """The results of verifying repositories."""

    repos: list[Verification]


class Run(TypedDict):
    """A sync in the history."""

    repo: str
    id: int
    kind: Literal["sync", "full"]
    started_ns: int
    finished_ns: int | None
    outcome: Literal["running", "done", "interrupted", "failed"]
    files_done: int
    files_total: int
    chunks_done: int
    trouble: str | None
    trouble_ns: int | None
    error: str | None
    result: SyncResult | None


class Runs(TypedDict):
    """The history, newest sync first."""

    runs: list[Run]
