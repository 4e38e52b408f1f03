"""The configuration: a TOML file and the environment, parsed once into one frozen value.

A key is `section.name`. Its environment variable is `REPOSYNCD_<SECTION>__<NAME>`, which overrides the file. `KEYS`
lists all keys. Nothing is read at import.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reposyncd.config.keys import KEYS, Key, address_of
from reposyncd.config.places import absolute, config_path, socket_path, state_directory
from reposyncd.config.values import SECTIONS, ApiConfig, Config, WatchConfig
from reposyncd.errors import ConfigError

__all__ = ["KEYS", "ApiConfig", "Config", "Key", "WatchConfig", "address_of", "config_path", "load", "sources"]

_BY_PATH = {key.path: key for key in KEYS}
_BY_VARIABLE = {key.variable: key for key in KEYS}

_Values = dict[str, dict[str, Any]]
"""The values that are set: section to name to value."""


def load(environ: Mapping[str, str], *, state_dir: str | None = None) -> Config:
    """The effective configuration: the defaults, overridden by the file, overridden by the environment.

    `state_dir` overrides the environment too. Relative paths are relative to the working directory. Raises ConfigError,
    which names the key, where it is set, and what is allowed.
    """
    values: _Values = {section: {} for section in SECTIONS}
    path = config_path(environ)
    try:
        with open(path, "rb") as file:
            content = file.read()
    except (FileNotFoundError, NotADirectoryError):
        if environ.get("REPOSYNCD_CONFIG"):
            raise ConfigError(f"{path}: there is no such file; REPOSYNCD_CONFIG names it") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    else:
        _read_file(path, content, values)
    _read_environment(environ, values)
    if roots := values["discover"].get("roots"):
        values["discover"]["roots"] = tuple(absolute(environ, root) for root in roots)
    sections = {section: made(**values[section]) for section, made in SECTIONS.items()}
    if sections["watch"].settle > sections["watch"].max_wait:
        raise ConfigError(
            f"watch.settle ({sections['watch'].settle:g} s) is longer than watch.max_wait "
            f"({sections['watch'].max_wait:g} s), the longest time that a change may wait"
        )
    _check_api(sections["api"])
    state = state_directory(environ, state_dir)
    return Config(state_dir=state, socket=socket_path(environ, state), **sections)


def _check_api(api: ApiConfig) -> None:
    if api.listen and not api.remote:
        import ipaddress

        if not ipaddress.ip_address(address_of(api.listen)[0]).is_loopback:
            raise ConfigError(
                f"api.listen is {api.listen}, which other machines can reach; to allow that, set api.remote = true"
            )


def sources(environ: Mapping[str, str]) -> dict[str, str]:
    """Where the value of each key comes from, by the key's path: "default", a variable, or a file with a line.

    The configuration must be one that `load` accepts.
    """
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


def _read_file(path: str, content: bytes, values: _Values) -> None:
    import tomllib

    try:
        text = content.decode()
        document = tomllib.loads(text)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}: not valid TOML: not UTF-8 (at line {line})") from error
    except (ValueError, RecursionError) as error:  # ValueError: TOMLDecodeError, or a number with thousands of digits
        end = f", line {len(text.splitlines())}" if "end of document" in str(error) else ""
        raise ConfigError(f"{path}: not valid TOML: {error}{end}") from error
    for section, table in document.items():
        if section not in SECTIONS:
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
            raise ConfigError(f"{place}: {_no_key(section, name) if section in SECTIONS else _no_section(section)}")
        elif meant := [key for key in KEYS if key.variable.replace("__", "_") == variable]:
            raise ConfigError(f"{place}: there is no such variable; did you mean {meant[0].variable}?")


def _accept_text(key: Key, text: str) -> Any:
    """The text as a TOML value if the key allows it, else as a string. Raises ValueError with the value."""
    import tomllib

    found: object = text
    try:
        document = tomllib.loads(f"value = {text}")
        if document.keys() == {"value"}:  # if there are more keys, the text contains a line break
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
    """The path of the file, and the line of a section or key in its text.

    tomllib does not report lines. But wherever a statement ends, the lines up to there are a valid document too. So the
    statement begins after the longest of these documents that does not contain it.
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
        shown = json.dumps(
            value, ensure_ascii=False, default=str
        )  # the same form as in TOML, except for dates and tables
    except ValueError:
        shown = "a number with thousands of digits"
    if len(shown) > _SHOWN:
        shown = shown[:_SHOWN] + "..."
    return f"{place}: {key.path} is {shown}; it must be {key.allowed}"


_SHOWN = 80
"""How many characters of a refused value a message shows."""


def _no_section(section: str) -> str:
    return f"there is no section [{section}]{_choices(section, list(SECTIONS))}"


def _no_key(section: str, name: str) -> str:
    names = [key.name for key in KEYS if key.section == section]
    return f"there is no key {section}.{name}{_choices(name, names)}"


def _choices(given: str, known: list[str]) -> str:
    """A suggestion, and all possible names."""
    from difflib import get_close_matches

    near = get_close_matches(given, known, n=1)
    meant = f"; did you mean {near[0]}?" if near else ""
    return f"{meant} (known: {', '.join(known)})"
