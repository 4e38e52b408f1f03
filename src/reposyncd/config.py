"""Configuration: a TOML file and the environment, parsed once into one frozen value.

A key is `section.name`; its environment variable is `REPOSYNCD_<SECTION>__<NAME>` and wins over the file. `KEYS`
is the whole list. Nothing is read at import.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from reposyncd.errors import ConfigError


class IndexConfig(NamedTuple):
    """[index]: which files are taken."""

    max_file_size: int = 1_048_576
    """bytes"""
    exclude: tuple[str, ...] = ()


class EmbeddingConfig(NamedTuple):
    """[embedding]: how texts become vectors."""

    model: str = "static"


class LockConfig(NamedTuple):
    """[lock]: how long to wait for others."""

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
    """[watch]: when changes are taken up."""

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
    """[discover]: where repositories are looked for."""

    roots: tuple[str, ...] = ()
    depth: int = 3
    exclude: tuple[str, ...] = ()
    limit: int = 100
    interval: float = 300.0
    """seconds"""


class LimitsConfig(NamedTuple):
    """[limits]: what the service may use."""

    nice: int = 10
    rate: float = 0.0
    """chunks per second"""
    threads: int = 0
    on_battery: bool = True
    memory_pressure: float = 0.0
    """percent"""


class ApiConfig(NamedTuple):
    """[api]: who can ask beside this user's processes, over the Unix socket."""

    listen: str = ""
    """ "" or an address, as `address_of` takes it"""
    remote: bool = False
    hosts: tuple[str, ...] = ()


class LogConfig(NamedTuple):
    """[log]: what the service tells its log."""

    level: str = "info"


@dataclass(frozen=True, slots=True)
class Config:
    """The effective configuration.

    Its sections are named tuples, which are made ten times faster than data classes; every command pays for them.
    """

    state_dir: str
    """absolute path of everything reposyncd keeps"""
    socket: str
    """absolute path of the daemon's socket"""
    index: IndexConfig
    embedding: EmbeddingConfig
    lock: LockConfig
    store: StoreConfig
    watch: WatchConfig
    discover: DiscoverConfig
    limits: LimitsConfig
    log: LogConfig
    api: ApiConfig


_SECTIONS: dict[str, Callable[..., Any]] = {
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

SYSTEM_STATE = "/var/lib/reposyncd"
"""Where the unit reposyncd@.service keeps the state of each user, in a directory of the user's name."""

SOCKET = "reposyncd.sock"
"""The daemon's socket, in its directory."""

_DAY_S = 86_400
"""The longest wait that can be configured: more is a mistake in the unit, and far more is not a time any more."""


class Key(NamedTuple):
    """One key: its type (a tuple is one of strings), what is allowed, and why one would set it."""

    section: str
    name: str
    type: type
    doc: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    is_place: bool = False
    """whether its strings are absolute paths, or begin with ~/"""
    is_address: bool = False
    """whether it is empty, or as `address_of` takes it"""

    @property
    def path(self) -> str:
        """As it is written in messages."""
        return f"{self.section}.{self.name}"

    def of(self, config: Config) -> Any:
        """Its value in a configuration."""
        return getattr(getattr(config, self.section), self.name)

    @property
    def variable(self) -> str:
        """The environment variable."""
        return f"REPOSYNCD_{self.section}__{self.name}".upper()

    @property
    def default(self) -> Any:
        """The value where neither file nor environment names one."""
        return getattr(_SECTIONS[self.section](), self.name)

    @property
    def allowed(self) -> str:
        """What is allowed, in words."""
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
        """The value as the key's type, from the types that TOML has. Raises ValueError if it is not allowed."""
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
            if not low <= value <= high:  # so NaN is refused too: it compares false with everything
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
        "Size in bytes up to which a file is indexed; larger files are skipped.",
        minimum=1,
    ),
    Key("index", "exclude", tuple, "Patterns to ignore besides git's rules: as in .gitignore, relative to the root."),
    Key(
        "embedding",
        "model",
        str,
        '"static" is the bundled model, which knows what words mean; "hashing" only compares words and needs no memory '
        "for a model. A change rebuilds every index.",
        choices=("static", "hashing"),
    ),
    Key(
        "lock",
        "timeout",
        float,
        "Seconds to wait for a lock that another process holds on the state directory or on the Chroma store.",
        0,
        _DAY_S,
    ),
    Key(
        "store",
        "deadline",
        float,
        "Seconds that the index process may take for one operation before it is restarted and the operation repeated.",
        1,
        _DAY_S,
    ),
    Key(
        "store",
        "patience",
        float,
        "Seconds that a sync keeps trying while the disk is full or the store is locked. The service never gives up.",
        0,
        _DAY_S,
    ),
    Key("store", "idle", float, "Seconds without work after which the index process exits.", 1, _DAY_S),
    Key("watch", "settle", float, "Seconds without further events before a change is indexed.", 0.01, 60),
    Key(
        "watch",
        "max_wait",
        float,
        "Longest time in seconds that a change waits while further events keep coming.",
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
        "Seconds between scans of a repository that cannot be watched completely.",
        1,
        _DAY_S,
    ),
    Key(
        "watch",
        "forget_after",
        float,
        "Days of running time after which the service drops the index of a missing repository; 0 keeps it.",
        0,
        3650,
    ),
    Key(
        "discover",
        "roots",
        tuple,
        "Directories in which the service looks for git repositories; it indexes all that it finds.",
        is_place=True,
    ),
    Key("discover", "depth", int, "How many levels below discover.roots it looks.", 0, 20),
    Key(
        "discover",
        "exclude",
        tuple,
        "Directories in which it does not look: patterns as in .gitignore, relative to discover.roots.",
    ),
    Key("discover", "limit", int, "Number of repositories after which it stops looking.", 1, 10_000),
    Key("discover", "interval", float, "Seconds between two searches for new repositories.", 1, _DAY_S),
    Key(
        "limits",
        "nice",
        int,
        "CPU niceness of the service and its processes. A reload can only raise it; a lower value takes effect at the "
        "next start, and not below the Nice= of the systemd unit.",
        0,
        19,
    ),
    Key(
        "limits",
        "rate",
        float,
        "Chunks per second that the service stores at most while it indexes a whole repository; 0 means no limit.",
        0,
        1_000_000,
    ),
    Key(
        "limits",
        "threads",
        int,
        "Threads that embedding and Chroma each use at most; 0 lets them use every core.",
        0,
        1024,
    ),
    Key("limits", "on_battery", bool, "Whether the service makes a first index while the machine runs on battery."),
    Key(
        "limits",
        "memory_pressure",
        float,
        "A first index waits while some process lacked memory for more than this percentage of the last 10 seconds; 0 "
        "means that it never waits.",
        0,
        100,
    ),
    Key(
        "log",
        "level",
        str,
        'Least severe messages that the service logs. "debug" adds a line for every change that was indexed.',
        choices=("debug", "info", "warning", "error"),
    ),
    Key(
        "api",
        "listen",
        str,
        'Also serve the API at this TCP address; "" disables it. Clients need the token in <state>/api-token.',
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
        "Host names by which TCP clients may address the service, besides localhost and loopback addresses.",
    ),
)

_BY_PATH = {key.path: key for key in KEYS}
_BY_VARIABLE = {key.variable: key for key in KEYS}

_Values = dict[str, dict[str, Any]]
"""What is set: section to name to accepted value."""


def load(environ: Mapping[str, str], *, state_dir: str | None = None) -> Config:
    """The effective configuration: defaults, then the file, then the environment.

    `state_dir`, when given, wins over the environment. Relative paths are relative to the working directory.
    Raises ConfigError, which names the key, its place and what is allowed.
    """
    values: _Values = {section: {} for section in _SECTIONS}
    path = config_path(environ)
    try:
        with open(path, "rb") as file:
            content = file.read()
    except (FileNotFoundError, NotADirectoryError):
        if environ.get("REPOSYNCD_CONFIG"):
            raise ConfigError(f"{path}: there is no such file; it is named by REPOSYNCD_CONFIG") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    else:
        _read_file(path, content, values)
    _read_environment(environ, values)
    if roots := values["discover"].get("roots"):
        values["discover"]["roots"] = tuple(_absolute(environ, root) for root in roots)
    sections = {section: made(**values[section]) for section, made in _SECTIONS.items()}
    if sections["watch"].settle > sections["watch"].max_wait:
        raise ConfigError(
            f"watch.settle ({sections['watch'].settle:g} s) is longer than watch.max_wait "
            f"({sections['watch'].max_wait:g} s), after which a change is taken up in any case"
        )
    _check_api(sections["api"])
    state = _state_dir(environ, state_dir)
    return Config(state_dir=state, socket=socket_path(environ, state), **sections)


def _check_api(api: ApiConfig) -> None:
    if api.listen and not api.remote:
        import ipaddress

        if not ipaddress.ip_address(address_of(api.listen)[0]).is_loopback:
            raise ConfigError(
                f"api.listen is {api.listen}, which other machines can reach; if that is meant, set api.remote = true"
            )


def address_of(text: str) -> tuple[str, int]:
    """(IP address, port) of api.listen, such as "127.0.0.1:7464" or "[::1]:7464". Raises ValueError if it is none."""
    import ipaddress

    host, _, port = text.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    ipaddress.ip_address(host)
    if not (port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65_536):
        raise ValueError
    return host, int(port)


def sources(environ: Mapping[str, str]) -> dict[str, str]:
    """Where each key's value comes from, by its path: "default", a variable, or file and line. Of a configuration that
    `load` accepts."""
    import tomllib

    path = config_path(environ)
    try:
        with open(path, "rb") as file:
            text = file.read().decode()
    except (OSError, UnicodeDecodeError):
        text = ""
    document = tomllib.loads(text)
    found: dict[str, str] = {}
    for key in KEYS:
        if key.variable in environ:
            found[key.path] = key.variable
        elif key.name in document.get(key.section, {}):
            found[key.path] = _place(path, text, key.section, key.name)
        else:
            found[key.path] = "default"
    return found


def config_path(environ: Mapping[str, str]) -> str:
    """Where the configuration file is looked for, absolute."""
    if given := environ.get("REPOSYNCD_CONFIG"):
        return _absolute(environ, given)
    return os.path.join(_xdg(environ, "XDG_CONFIG_HOME", ".config"), "reposyncd", "config.toml")


def _state_dir(environ: Mapping[str, str], given: str | None) -> str:
    # systemd names several directories in one variable; the first is the service's own.
    systemd = environ.get("STATE_DIRECTORY", "").split(":")[0]
    if chosen := given or environ.get("REPOSYNCD_STATE_DIR") or systemd:
        return _absolute(environ, chosen)
    if os.path.isdir(SYSTEM_STATE) and (ours := _system_state()):
        return ours
    return os.path.join(_xdg(environ, "XDG_STATE_HOME", ".local/state"), "reposyncd")


def _system_state() -> str | None:
    """The state directory that a unit of the system has made for this user."""
    import pwd

    try:
        place = os.path.join(SYSTEM_STATE, pwd.getpwuid(os.getuid()).pw_name)
        return place if os.stat(place).st_uid == os.getuid() else None
    except (KeyError, OSError):
        return None


def socket_path(environ: Mapping[str, str], state_dir: str) -> str:
    """Where the daemon of this state directory listens, absolute."""
    if given := environ.get("REPOSYNCD_SOCKET"):
        return _absolute(environ, given)
    directory = state_dir
    # As with the state directory, systemd may name several; a base directory that is relative is ignored.
    if systemd := environ.get("RUNTIME_DIRECTORY", "").split(":")[0]:
        directory = _absolute(environ, systemd)
    elif os.path.dirname(state_dir) == SYSTEM_STATE:
        pass  # its service runs without the user's session
    elif os.path.isabs(runtime := environ.get("XDG_RUNTIME_DIR", "")):
        directory = os.path.join(runtime, "reposyncd")
    return os.path.join(directory, SOCKET)


def _xdg(environ: Mapping[str, str], variable: str, default: str) -> str:
    """A base directory; the specification says that a relative one is to be ignored."""
    given = environ.get(variable, "")
    return given if os.path.isabs(given) else os.path.join(_home(environ), default)


def _absolute(environ: Mapping[str, str], path: str) -> str:
    """The path with `~` replaced, where no shell has done it: in a unit file, or in quotes."""
    if path == "~" or path.startswith("~/"):
        path = _home(environ) + path[1:]
    return os.path.abspath(path)


def _home(environ: Mapping[str, str]) -> str:
    if os.path.isabs(home := environ.get("HOME", "")):
        return home
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        raise ConfigError(
            "HOME is not set, and this user has no home directory; set HOME to an absolute path"
        ) from None


def _read_file(path: str, content: bytes, values: _Values) -> None:
    import tomllib

    try:
        text = content.decode()
        document = tomllib.loads(text)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}: not valid TOML: not UTF-8 (at line {line})") from error
    except (ValueError, RecursionError) as error:  # ValueError: a number of thousands of digits, and TOMLDecodeError
        end = f", line {len(text.splitlines())}" if "end of document" in str(error) else ""
        raise ConfigError(f"{path}: not valid TOML: {error}{end}") from error
    for section, table in document.items():
        if section not in _SECTIONS:
            raise ConfigError(f"{_place(path, text, section)}: {_no_section(section)}")
        if not isinstance(table, dict):
            place = _place(path, text, section)
            raise ConfigError(f"{place}: {section} is a section; write its keys below a line [{section}]")
        for name, value in table.items():
            key = _BY_PATH.get(f"{section}.{name}")
            if key is None:
                raise ConfigError(f"{_place(path, text, section, name)}: {_no_key(section, name)}")
            try:
                values[section][name] = key.accept(value)
            except ValueError:
                raise ConfigError(_refused(_place(path, text, section, name), key, value)) from None


def _read_environment(environ: Mapping[str, str], values: _Values) -> None:
    for variable in sorted(environ):
        if not variable.startswith("REPOSYNCD_"):
            continue
        place = f"{variable} in the environment"
        key = _BY_VARIABLE.get(variable)
        if key is not None:
            try:
                values[key.section][key.name] = _accept_text(key, environ[variable])
            except ValueError as error:
                raise ConfigError(_refused(place, key, error.args[0])) from None
        elif "__" in variable:
            section, _, name = variable.removeprefix("REPOSYNCD_").lower().partition("__")
            raise ConfigError(f"{place}: {_no_key(section, name) if section in _SECTIONS else _no_section(section)}")
        elif meant := [key for key in KEYS if key.variable.replace("__", "_") == variable]:
            raise ConfigError(f"{place}: there is no such variable; did you mean {meant[0].variable}?")


def _accept_text(key: Key, text: str) -> Any:
    """The text as a TOML value where the key allows that, else as the string that it is.

    Raises ValueError with what was found.
    """
    import tomllib

    found: object = text
    try:
        document = tomllib.loads(f"value = {text}")
        if document.keys() == {"value"}:  # more is text with a line break in it
            found = document["value"]
    except (ValueError, RecursionError):
        pass
    for value in (found, text):
        try:
            return key.accept(value)
        except ValueError:
            continue
    raise ValueError(found)


def _place(path: str, text: str, section: str, name: str | None = None) -> str:
    """Path and line of a section or key that is in the text of the file.

    tomllib tells no lines. But the first lines of a document are a document wherever a statement ends, so the
    statement that was looked for begins after the last such document that lacks it.
    """
    import tomllib

    lines = text.split("\n")
    start = 1
    for end in range(1, len(lines) + 1):
        try:
            document = tomllib.loads("\n".join(lines[:end]) + "\n")
        except ValueError:
            continue
        if section in document and (name is None or name in document[section]):
            break
        start = end + 1
    return f"{path}, line {start}"


def _refused(place: str, key: Key, value: object) -> str:
    import json

    try:
        shown = json.dumps(value, ensure_ascii=False, default=str)  # as TOML writes it, but for dates and tables
    except ValueError:
        shown = "a number of thousands of digits"
    if len(shown) > _SHOWN:
        shown = shown[:_SHOWN] + "..."
    return f"{place}: {key.path} is {shown}; allowed is {key.allowed}"


_SHOWN = 80
"""Characters of a refused value that a message repeats."""


def _no_section(section: str) -> str:
    return f"there is no section [{section}]{_choices(section, list(_SECTIONS))}"


def _no_key(section: str, name: str) -> str:
    names = [key.name for key in KEYS if key.section == section]
    return f"there is no key {section}.{name}{_choices(name, names)}"


def _choices(given: str, known: list[str]) -> str:
    """What may be meant, and what there is."""
    from difflib import get_close_matches

    near = get_close_matches(given, known, n=1)
    meant = f"; did you mean {near[0]}?" if near else ""
    return f"{meant} (there is: {', '.join(known)})"
