"""What a kind of store consists of. `app/stores.py` lists the kinds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from reposyncd.errors import PermanentStoreError
from reposyncd.ports import Collections, OnWait, StoreAddress, StoreAdmin, StoreStatus

if TYPE_CHECKING:
    from reposyncd.store.process.worker import Backend, Embed


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """The settings of a store."""

    state_dir: str
    lock_timeout_s: float
    """how long to wait for other programs, in seconds"""


class Caller(Protocol):
    """Runs operations on a store."""

    def call(self, operation: str, *arguments: Any) -> Any:
        """Runs an operation, and returns its result."""
        ...


class MaintenanceProcess(Caller, Protocol):
    """A process that has a store open, such as `process.supervisor.IndexProcess`."""

    def observed(self, on_wait: OnWait) -> Caller:
        """The same, but calls `on_wait` during the time that is spent waiting."""
        ...

    def close(self) -> None:
        """Ends the process."""
        ...


Start = Callable[[StoreAddress, str], MaintenanceProcess]
"""Creates a maintenance process, which never embeds, for a store. The text is the name of its log file."""


@dataclass(frozen=True, slots=True)
class StoreKind:
    """A kind of store."""

    name: str
    """as in `ports.StoreStatus.kind`"""
    files: tuple[str, ...]
    """names of what it creates in the state directory, except in the quarantine, as patterns of `fnmatch`. An uninstall
    deletes these files"""
    status: Callable[[str], StoreStatus]
    """takes the state directory"""
    admin: Callable[[Callable[[], StoreSettings], Start], StoreAdmin]
    """takes a function that returns the present settings, and one that starts a process"""
    address: Callable[[StoreSettings], StoreAddress]
    """where the index process finds the store"""
    backend: Callable[[Sequence[str], Callable[[str], None]], Backend]
    """used in the index process; takes the arguments of the address, and a function that is called with what the store
    waits for"""


class NoStore:
    """A `ports.StoreAddress`, and the `worker.Backend` for it, for a process that only embeds."""

    kind = "none"

    def arguments(self) -> Sequence[str]:
        """See `ports.StoreAddress`."""
        return ()

    def slack_s(self) -> float:
        """See `ports.StoreAddress`."""
        return 0.0

    @property
    def collections(self) -> Collections:
        """Raises PermanentStoreError."""
        raise PermanentStoreError("this process has no store")

    def writing(self) -> AbstractContextManager[None]:
        """See `worker.Backend`."""
        return nullcontext()

    def known_vectors(self, texts: Sequence[str], embed: Embed) -> tuple[dict[str, Any], Sequence[str]]:
        """None are."""
        return {}, ()

    @property
    def maintenance(self) -> Mapping[str, Callable[..., Any]]:
        """There are no operations."""
        return {}

    def close(self) -> None:
        """Nothing is open."""


NO_STORE = NoStore()
