"""Where the configuration, the index and the socket are."""

from __future__ import annotations

import os
from collections.abc import Mapping

from reposyncd.errors import ConfigError
from reposyncd.text import is_utf8

SYSTEM_STATE = "/var/lib/reposyncd"
"""Where the unit reposyncd@.service keeps the state of each user, in a directory of the user's name."""

SOCKET = "reposyncd.sock"
"""The daemon's socket, in its directory."""

TOKEN = "api-token"  # noqa: S105 - the name of a file
"""In the state directory, 0600: what a request over TCP has to know."""


def config_path(environ: Mapping[str, str]) -> str:
    """Where the configuration file is looked for, absolute."""
    if given := environ.get("REPOSYNCD_CONFIG"):
        return absolute(environ, given)
    return os.path.join(_xdg(environ, "XDG_CONFIG_HOME", ".config"), "reposyncd", "config.toml")


def state_directory(environ: Mapping[str, str], given: str | None) -> str:
    """Where everything is that reposyncd keeps, absolute; `given` wins over the environment. Raises ConfigError for a
    path that is not UTF-8: Chroma takes none."""
    path = _state_directory(environ, given)
    if not is_utf8(path):
        raise ConfigError(
            f"the state directory {path!r} is not valid UTF-8; choose another with --state-dir or REPOSYNCD_STATE_DIR"
        )
    return path


def _state_directory(environ: Mapping[str, str], given: str | None) -> str:
    # systemd names several directories in one variable; the first is the service's own.
    systemd = environ.get("STATE_DIRECTORY", "").split(":")[0]
    if chosen := given or environ.get("REPOSYNCD_STATE_DIR") or systemd:
        return absolute(environ, chosen)
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
        return absolute(environ, given)
    directory = state_dir
    # As with the state directory, systemd may name several; a base directory that is relative is ignored.
    if systemd := environ.get("RUNTIME_DIRECTORY", "").split(":")[0]:
        directory = absolute(environ, systemd)
    elif os.path.dirname(state_dir) == SYSTEM_STATE:
        pass  # its service runs without the user's session
    elif os.path.isabs(runtime := environ.get("XDG_RUNTIME_DIR", "")):
        directory = os.path.join(runtime, "reposyncd")
    return os.path.join(directory, SOCKET)


def _xdg(environ: Mapping[str, str], variable: str, default: str) -> str:
    """A base directory; the specification says that a relative one is to be ignored."""
    given = environ.get(variable, "")
    return given if os.path.isabs(given) else os.path.join(_home(environ), default)


def absolute(environ: Mapping[str, str], path: str) -> str:
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
