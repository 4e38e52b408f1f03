"""All keys of the configuration: their types, what is allowed, and what they are for."""

from __future__ import annotations

import math
import os
from typing import Any, NamedTuple

from reposyncd.config.values import SECTIONS, Config

_DAY_S = 86_400
"""The longest time that can be configured. A longer one probably has the wrong unit."""


class Key(NamedTuple):
    """One key of the configuration. A key of type tuple is a list of strings."""

    section: str
    name: str
    type: type
    doc: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    is_place: bool = False
    """whether its strings are paths: absolute ones, or paths that begin with ~/"""
    is_address: bool = False
    """whether it is an address as `address_of` parses it, or empty"""

    @property
    def path(self) -> str:
        """The name with its section, as messages show it."""
        return f"{self.section}.{self.name}"

    def of(self, config: Config) -> Any:
        """The value of the key in a configuration."""
        return getattr(getattr(config, self.section), self.name)

    @property
    def variable(self) -> str:
        """The environment variable that sets the key."""
        return f"REPOSYNCD_{self.section}__{self.name}".upper()

    @property
    def default(self) -> Any:
        """The value if neither the file nor the environment sets one."""
        return getattr(SECTIONS[self.section](), self.name)

    @property
    def allowed(self) -> str:
        """Which values are allowed, in words."""
        if self.choices:
            return "one of " + ", ".join(f'"{choice}"' for choice in self.choices)
        if self.is_place:
            return 'a list of absolute paths, as in ["/srv/code", "~/src"]'
        if self.is_address:
            return 'an IP address with a port, as in "127.0.0.1:7464" or "[::1]:7464", or ""'
        if self.type is tuple:
            return 'a list of strings, as in ["a", "b"]'
        if self.type is bool:
            return "true or false"
        least = "" if self.minimum is None else f" of at least {self.minimum:g}"
        most = "" if self.maximum is None else f" and at most {self.maximum:g}"
        return {int: "a whole number", float: "a number", str: "a string"}[self.type] + least + most

    def accept(self, value: object) -> Any:
        """Converts a TOML value to the type of the key. Raises ValueError if it is not allowed."""
        if self.type is tuple:
            if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
                raise ValueError
            if self.is_place and not all(os.path.isabs(each) or each == "~" or each[:2] == "~/" for each in value):
                raise ValueError
            return tuple(value)
        if self.type is bool:
            if not isinstance(value, bool):
                raise ValueError
            return value
        if isinstance(value, bool) or not isinstance(value, (int, float) if self.type is float else self.type):
            raise ValueError
        if isinstance(value, int | float):
            low = -math.inf if self.minimum is None else self.minimum
            high = math.inf if self.maximum is None else self.maximum
            if not low <= value <= high:  # written so that NaN is refused, since every comparison with it is false
                raise ValueError
        elif self.choices and value not in self.choices:
            raise ValueError
        elif self.is_address and value:
            address_of(str(value))
        return self.type(value)


KEYS: tuple[Key, ...] = (
    Key(
        "index",
        "max_file_size",
        int,
        "The largest size in bytes of a file that is indexed. Larger files are skipped.",
        minimum=1,
    ),
    Key(
        "index",
        "exclude",
        tuple,
        "Patterns of files to ignore, in addition to git's rules: as in .gitignore, relative to the root.",
    ),
    Key(
        "index",
        "allow_secrets",
        tuple,
        "Files that are indexed even if they look like secrets, by name or by content: patterns as in .gitignore, "
        'relative to the root, such as "/tests/fixtures/*.pem".',
    ),
    Key(
        "index",
        "worktrees",
        bool,
        "Whether a worktree (made by git worktree) inside its own repository is indexed as part of that repository.",
    ),
    Key(
        "embedding",
        "model",
        str,
        '"static" is the bundled model, which knows what words mean. "hashing" only compares words, and needs no '
        "memory for a model. A change rebuilds every index.",
        choices=("static", "hashing"),
    ),
    Key(
        "lock",
        "timeout",
        float,
        "How many seconds to wait for a lock that another process holds on the state directory or on the Chroma store.",
        0,
        _DAY_S,
    ),
    Key(
        "store",
        "deadline",
        float,
        "How many seconds the index process may take for an operation. Then it is restarted and retries the operation.",
        1,
        _DAY_S,
    ),
    Key(
        "store",
        "patience",
        float,
        "How many seconds a sync retries while the disk is full or the store is locked. The service never gives up.",
        0,
        _DAY_S,
    ),
    Key(
        "store",
        "idle",
        float,
        "After how many seconds without work the index process and the chunking processes exit.",
        1,
        _DAY_S,
    ),
    Key(
        "watch",
        "settle",
        float,
        "How many seconds without further events must pass before a change is indexed.",
        0.01,
        60,
    ),
    Key(
        "watch",
        "max_wait",
        float,
        "The longest time in seconds that a change waits while there are further events.",
        0.01,
        600,
    ),
    Key(
        "watch",
        "reconcile",
        float,
        "Seconds between full scans, which find changes that caused no event.",
        60,
        _DAY_S,
    ),
    Key(
        "watch",
        "poll",
        float,
        "Seconds between full scans of a repository that cannot be watched completely.",
        1,
        _DAY_S,
    ),
    Key(
        "watch",
        "forget_after",
        float,
        "After how many days of running time the service deletes the index of a missing repository. 0 means never.",
        0,
        3650,
    ),
    Key(
        "discover",
        "roots",
        tuple,
        "Directories in which the service searches for git repositories. It indexes all that it finds.",
        is_place=True,
    ),
    Key("discover", "depth", int, "How many levels below discover.roots the service searches.", 0, 20),
    Key(
        "discover",
        "exclude",
        tuple,
        "Directories in which the service does not search: patterns as in .gitignore, relative to discover.roots.",
    ),
    Key("discover", "limit", int, "The largest number of repositories that the service finds in this way.", 1, 10_000),
    Key("discover", "interval", float, "Seconds between two searches for new repositories.", 1, _DAY_S),
    Key(
        "limits",
        "nice",
        int,
        "CPU niceness of the service and its child processes. A reload can only raise it. A lower value takes effect "
        "at the next start, but not below the Nice= of the systemd unit.",
        0,
        19,
    ),
    Key(
        "limits",
        "rate",
        float,
        "How many chunks per second the service stores at most while it indexes a whole repository. 0 means no limit.",
        0,
        1_000_000,
    ),
    Key(
        "limits",
        "threads",
        int,
        "How many threads embedding and Chroma may each use. 0 means one for each core.",
        0,
        1024,
    ),
    Key("limits", "on_battery", bool, "Whether the service builds first indexes while the machine runs on battery."),
    Key(
        "limits",
        "memory_pressure",
        float,
        "A first index waits if processes were short of memory for more than this percentage of the last 10 seconds. 0 "
        "means that it never waits.",
        0,
        100,
    ),
    Key(
        "log",
        "level",
        str,
        'The lowest level of messages that the service logs. "debug" adds a line for every change that was indexed.',
        choices=("debug", "info", "warning", "error"),
    ),
    Key(
        "api",
        "listen",
        str,
        'TCP address at which the API is also served; "" for none. Clients need the token in <state>/api-token.',
        is_address=True,
    ),
    Key(
        "api",
        "remote",
        bool,
        "Whether api.listen may be an address that other machines can reach. The connection is not encrypted.",
    ),
    Key(
        "api",
        "hosts",
        tuple,
        "Host names that TCP clients may use for the service, besides localhost and loopback addresses.",
    ),
)


def address_of(text: str) -> tuple[str, int]:
    """(IP address, port) of api.listen, such as "127.0.0.1:7464" or "[::1]:7464". Raises ValueError for anything
    else."""
    import ipaddress

    host, _, port = text.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    ipaddress.ip_address(host)
    if not (port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65_536):
        raise ValueError
    return host, int(port)
