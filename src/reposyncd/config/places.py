"""The paths of the configuration file, the state directory and the socket."""

from __future__ import annotations

import os
from collections.abc import Mapping

from reposyncd.errors import ConfigError
from reposyncd.text import is_utf8

SYSTEM_STATE = "/var/lib/reposyncd"
"""Where the unit reposyncd@.service keeps its state: a directory for each user, named after the user."""

SOCKET = "reposyncd.sock"
"""Name of the service's socket."""

TOKEN = "api-token"  # noqa: S105 - the name of a file
"""Name of the file in the state directory (0600) that holds the token. Every request over TCP needs the token."""


def config_path(environ: Mapping[str, str]) -> str:
    """The absolute path of the configuration file. The file need not exist."""
    if given := environ.get("REPOSYNCD_CONFIG"):
        return absolute(environ, given)
    return os.path.join(_xdg(environ, "XDG_CONFIG_HOME", ".config"), "reposyncd", "config.toml")


def state_directory(environ: Mapping[str, str], given: str | None) -> str:
    """The absolute path of the directory in which reposyncd keeps everything. `given` overrides the environment.

    Raises ConfigError if the path is not UTF-8, since Chroma does not accept such paths.
    """
    path = _state_directory(environ, given)
    if not is_utf8(path):
        raise ConfigError(
            f"the state directory {path!r} is not valid UTF-8; choose another with --state-dir or REPOSYNCD_STATE_DIR"
        )
    return path


def _state_directory(environ: Mapping[str, str], given: str | None) -> str:
    # systemd may name several directories in this variable; the first one belongs to the service.
    systemd = environ.get("STATE_DIRECTORY", "").split(":")[0]
    if chosen := given or environ.get("REPOSYNCD_STATE_DIR") or systemd:
        return absolute(environ, chosen)
    if os.path.isdir(SYSTEM_STATE) and (ours := _system_state()):
        return ours
    return os.path.join(_xdg(environ, "XDG_STATE_HOME", ".local/state"), "reposyncd")


def _system_state() -> str | None:
    """The state directory that the unit reposyncd@.service has created for this user; None if there is none."""
    import pwd

    try:
        place = os.path.join(SYSTEM_STATE, pwd.getpwuid(os.getuid()).pw_name)
        return place if os.stat(place).st_uid == os.getuid() else None
    except (KeyError, OSError):
        return None


def socket_path(environ: Mapping[str, str], state_dir: str) -> str:
    """The absolute path of the socket of the service that uses this state directory."""
    if given := environ.get("REPOSYNCD_SOCKET"):
        return absolute(environ, given)
    directory = state_dir
    # As for the state directory, systemd may name several. A relative base directory is ignored.
    if systemd := environ.get("RUNTIME_DIRECTORY", "").split(":")[0]:
        directory = absolute(environ, systemd)
    elif os.path.dirname(state_dir) == SYSTEM_STATE:
        pass  # this service runs without a session of the user
    elif os.path.isabs(runtime := environ.get("XDG_RUNTIME_DIR", "")):
        directory = os.path.join(runtime, "reposyncd")
    return os.path.join(directory, SOCKET)


def _xdg(environ: Mapping[str, str], variable: str, default: str) -> str:
    """A base directory of the XDG specification, which says to ignore relative paths."""
    given = environ.get(variable, "")
    return given if os.path.isabs(given) else os.path.join(_home(environ), default)


def absolute(environ: Mapping[str, str], path: str) -> str:
    """The absolute path. Also expands `~`, which no shell has expanded in a unit file or in quotes."""
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
