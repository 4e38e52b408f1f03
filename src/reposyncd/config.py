"""Configuration: a TOML file and the environment, parsed once into one frozen value.

A key is `section.name`; its environment variable is `REPOSYNCD_<SECTION>__<NAME>` and wins over the file. `KEYS`
is the whole list. Nothing is read at import.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from reposyncd.errors import ConfigError


@dataclass(frozen=True, slots=True)
class IndexConfig:
    """[index]: which files are taken."""

    max_file_size: int = 1_048_576
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EmbeddingConfig:
    """[embedding]: how texts become vectors."""

    model: str = "static"


@dataclass(frozen=True, slots=True)
class LockConfig:
    """[lock]: how long to wait for others."""

    timeout: float = 30.0


@dataclass(frozen=True, slots=True)
class StoreConfig:
    """[store]: the vector store."""

    deadline: float = 300.0


@dataclass(frozen=True, slots=True)
class Config:
    """The effective configuration."""

    state_dir: str
    """absolute path of everything reposyncd keeps"""
    index: IndexConfig = field(default_factory=IndexConfig)
    embedding: EmbeddingConfig = field(default_factory=EmbeddingConfig)
    lock: LockConfig = field(default_factory=LockConfig)
    store: StoreConfig = field(default_factory=StoreConfig)


@dataclass(frozen=True, slots=True)
class Key:
    """One key: its type, what is allowed, and why one would set it."""

    section: str
    name: str
    type: type
    doc: str
    minimum: float | None = None
    choices: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        """As it is written in messages."""
        return f"{self.section}.{self.name}"

    @property
    def variable(self) -> str:
        """The environment variable."""
        return f"REPOSYNCD_{self.section}__{self.name}".upper()

    @property
    def allowed(self) -> str:
        """What is allowed, in words."""
        if self.choices:
            return "one of " + ", ".join(f'"{choice}"' for choice in self.choices)
        words = {int: "a whole number", float: "a number", str: "a string", tuple: "a list of strings"}
        least = "" if self.minimum is None else f" of at least {self.minimum:g}"
        return words[self.type] + least

    def accept(self, value: object) -> Any:
        """The value as its type. Raises ValueError if it is not allowed."""
        if self.type is tuple:
            if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
                raise ValueError
            return tuple(value)
        if isinstance(value, bool) or not isinstance(value, (int, float) if self.type is float else self.type):
            raise ValueError
        # NaN compares false with everything, and is refused by that.
        if self.minimum is not None and not float(value) >= self.minimum:  # type: ignore[arg-type]
            raise ValueError
        if self.choices and value not in self.choices:
            raise ValueError
        return self.type(value)


KEYS: tuple[Key, ...] = (
    Key("index", "max_file_size", int, "Larger files are skipped; bytes.", minimum=1),
    Key("index", "exclude", tuple, "What else to ignore: patterns as in .gitignore, relative to the root."),
    Key(
        "embedding",
        "model",
        str,
        '"static" is a bundled model that understands words; "hashing" counts them and needs no memory.',
        choices=("static", "hashing"),
    ),
    Key("lock", "timeout", float, "How long to wait for another process that is writing; seconds.", minimum=0),
    Key(
        "store",
        "deadline",
        float,
        "An operation that takes longer is given up and redone; seconds.",
        minimum=1,
    ),
)

_SECTIONS = {
    "index": IndexConfig,
    "embedding": EmbeddingConfig,
    "lock": LockConfig,
    "store": StoreConfig,
}


def load(environ: Mapping[str, str], *, state_dir: str | None = None) -> Config:
    """The effective configuration: defaults, then the file, then the environment.

    `state_dir`, when given, wins over the environment. Raises ConfigError, which names the key, its place and
    what is allowed.
    """
    values: dict[str, dict[str, Any]] = {section: {} for section in _SECTIONS}
    path = config_path(environ)
    if os.path.exists(path):
        _read_file(path, values)
    elif environ.get("REPOSYNCD_CONFIG"):
        raise ConfigError(f"{path}: there is no such file; it is named by REPOSYNCD_CONFIG")
    _read_environment(environ, values)
    sections = {section: made(**values[section]) for section, made in _SECTIONS.items()}
    return Config(state_dir=_state_dir(environ, state_dir), **sections)


def config_path(environ: Mapping[str, str]) -> str:
    """Where the configuration file is looked for."""
    if given := environ.get("REPOSYNCD_CONFIG"):
        return given
    return os.path.join(_xdg(environ, "XDG_CONFIG_HOME", ".config"), "reposyncd", "config.toml")


def _state_dir(environ: Mapping[str, str], given: str | None) -> str:
    # systemd names several directories in one variable; the first is the service's own.
    systemd = environ.get("STATE_DIRECTORY", "").split(":")[0]
    chosen = given or environ.get("REPOSYNCD_STATE_DIR") or systemd
    if not chosen:
        chosen = os.path.join(_xdg(environ, "XDG_STATE_HOME", ".local/state"), "reposyncd")
    return os.path.abspath(os.path.expanduser(chosen))


def _xdg(environ: Mapping[str, str], variable: str, default: str) -> str:
    """A base directory; the specification says that a relative one is to be ignored."""
    given = environ.get(variable, "")
    if os.path.isabs(given):
        return given
    return os.path.join(environ.get("HOME") or os.path.expanduser("~"), default)


def _read_file(path: str, values: dict[str, dict[str, Any]]) -> None:
    import tomllib

    try:
        with open(path, "rb") as file:
            document = tomllib.load(file)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    for section, table in document.items():
        if section not in _SECTIONS:
            raise ConfigError(f"{path}: there is no section [{section}]{_choices(section, list(_SECTIONS))}")
        if not isinstance(table, dict):
            raise ConfigError(f"{path}: {section} is a section; write its keys below a line [{section}]")
        for name, value in table.items():
            _accept(values, section, name, value, path)


def _read_environment(environ: Mapping[str, str], values: dict[str, dict[str, Any]]) -> None:
    for variable in sorted(environ):
        if not variable.startswith("REPOSYNCD_") or "__" not in variable:
            continue
        section, _, name = variable.removeprefix("REPOSYNCD_").lower().partition("__")
        if section not in _SECTIONS:
            raise ConfigError(
                f"{variable} in the environment: there is no section {section}{_choices(section, list(_SECTIONS))}"
            )
        _accept(values, section, name, _toml_value(environ[variable]), f"{variable} in the environment")


def _toml_value(text: str) -> object:
    """The text as a TOML value where it is one, else as the string that it is."""
    import tomllib

    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _accept(values: dict[str, dict[str, Any]], section: str, name: str, value: object, place: str) -> None:
    key = next((key for key in KEYS if (key.section, key.name) == (section, name)), None)
    if key is None:
        names = [key.name for key in KEYS if key.section == section]
        raise ConfigError(f"{place}: there is no key {section}.{name}{_choices(name, names)}")
    try:
        values[section][name] = key.accept(value)
    except ValueError:
        raise ConfigError(f"{place}: {key.path} is {value!r}; allowed is {key.allowed}") from None


def _choices(given: str, known: list[str]) -> str:
    """What may be meant, and what there is."""
    from difflib import get_close_matches

    near = get_close_matches(given, known, n=1)
    meant = f"; did you mean {near[0]}?" if near else ""
    return f"{meant} (there is: {', '.join(known)})"
