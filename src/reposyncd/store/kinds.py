"""What a kind of store consists of. `app/stores.py` lists the kinds there are."""

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
    """What is configured of a store."""

    state_dir: str
    lock_timeout_s: float
    """how long other programs are waited for"""


class Caller(Protocol):
    """What has operations done."""

    def call(self, operation: str, *arguments: Any) -> Any:
        """Has an operation done, and returns its result."""
        ...


class MaintenanceProcess(Caller, Protocol):
    """A process on a store, as `process.supervisor.IndexProcess` is one."""

    def observed(self, on_wait: OnWait) -> Caller:
        """The same, with a hook for the time that is spent waiting."""
        ...

    def close(self) -> None:
        """Ends the process."""
        ...


Start = Callable[[StoreAddress, str], MaintenanceProcess]
"""Makes a process on a store, for maintenance: it never embeds. The text is the name of its log file."""


@dataclass(frozen=True, slots=True)
class StoreKind:
    """A kind of store."""

    name: str
    """as in `ports.StoreStatus.kind`"""
    files: tuple[str, ...]
    """what it creates in the state directory, the quarantine apart: names, as patterns of `fnmatch`. An uninstall
    deletes these files"""
    status: Callable[[str], StoreStatus]
    """from the state directory"""
    admin: Callable[[Callable[[], StoreSettings], Start], StoreAdmin]
    """from a function that returns the settings at present"""
    address: Callable[[StoreSettings], StoreAddress]
    """where the index process finds the store"""
    backend: Callable[[Sequence[str], Callable[[str], None]], Backend]
    """in the index process: from the arguments of the address, and a hook that is called with what the store waits
    for"""


class NoStore:
    """A `ports.StoreAddress`, and the `worker.Backend` behind it, of a process that only embeds."""

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
        """There is none."""
        return {}

    def close(self) -> None:
        """Nothing is open."""


NO_STORE = NoStore()
