"""The type of the configuration: one frozen value with a section for each subject."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple


class IndexConfig(NamedTuple):
    """[index]: which files are indexed."""

    max_file_size: int = 1_048_576
    """bytes"""
    exclude: tuple[str, ...] = ()
    allow_secrets: tuple[str, ...] = ()
    worktrees: bool = False


class EmbeddingConfig(NamedTuple):
    """[embedding]: how texts become vectors."""

    model: str = "static"


class LockConfig(NamedTuple):
    """[lock]: how long to wait for other processes."""

    timeout: float = 30.0
    """seconds"""


class StoreConfig(NamedTuple):
    """[store]: the vector store."""

    deadline: float = 300.0
    """seconds"""
    patience: float = 60.0
    """seconds"""
    idle: float = 300.0
    """seconds"""


class WatchConfig(NamedTuple):
    """[watch]: when changes are indexed."""

    settle: float = 0.3
    """seconds"""
    max_wait: float = 3.0
    """seconds"""
    reconcile: float = 3600.0
    """seconds"""
    poll: float = 60.0
    """seconds"""
    forget_after: float = 30.0
    """days"""


class DiscoverConfig(NamedTuple):
    """[discover]: where the service searches for repositories."""

    roots: tuple[str, ...] = ()
    depth: int = 3
    exclude: tuple[str, ...] = ()
    limit: int = 100
    interval: float = 300.0
    """seconds"""


class LimitsConfig(NamedTuple):
    """[limits]: how much of the machine the service may use."""

    nice: int = 10
    rate: float = 0.0
    """chunks per second"""
    threads: int = 0
    on_battery: bool = True
    memory_pressure: float = 0.0
    """percent"""


class ApiConfig(NamedTuple):
    """[api]: who can use the API besides processes of this user, which use the Unix socket."""

    listen: str = ""
    """ "" or an address, as `address_of` parses it"""
    remote: bool = False
    hosts: tuple[str, ...] = ()


class LogConfig(NamedTuple):
    """[log]: what the service logs."""

    level: str = "info"


@dataclass(frozen=True, slots=True)
class Config:
    """The effective configuration.

    The sections are named tuples: Python creates those classes ten times faster than data classes, and every command
    does it.
    """

    state_dir: str
    """absolute path of the state directory"""
    socket: str
    """absolute path of the service's socket"""
    index: IndexConfig
    embedding: EmbeddingConfig
    lock: LockConfig
    store: StoreConfig
    watch: WatchConfig
    discover: DiscoverConfig
    limits: LimitsConfig
    log: LogConfig
    api: ApiConfig


SECTIONS: dict[str, Callable[..., Any]] = {
    "index": IndexConfig,
    "embedding": EmbeddingConfig,
    "lock": LockConfig,
    "store": StoreConfig,
    "watch": WatchConfig,
    "discover": DiscoverConfig,
    "limits": LimitsConfig,
    "log": LogConfig,
    "api": ApiConfig,
}
