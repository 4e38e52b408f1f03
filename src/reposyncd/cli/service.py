"""`reposyncd service`: installs and removes the systemd unit of the service."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import click

from reposyncd import __version__
from reposyncd.cli import load_config
from reposyncd.cli.output import say
from reposyncd.config import Config, config_path
from reposyncd.errors import ReposyncError
from reposyncd.text import printable

UNIT = "reposyncd.service"

_MARK = "# Written by `reposyncd service install`, "
"""The beginning of the last line of a generated unit. After it comes a digest of the lines above."""

_CARRIED = ("XDG_CONFIG_HOME", "XDG_STATE_HOME")
"""Variables that decide which files we use, besides those that begin with REPOSYNCD_."""

_SYSTEMCTL_S = 120.0
"""How long systemctl may take. It waits for the service to start, which may take a minute."""

_OURS = (
    "api-token",
    "*-embedder.log*",
    "chunking-process-*.log*",
    "cookies",
    "doubt.json",
    "index-process.log*",
    "manifest.db*",
    "quarantine",
    "reposyncd.lock",
    "reposyncd.sock",
)
"""What reposyncd creates in the state directory, besides the files of the store. Other programs may use it too."""


@click.group("service")
def command() -> None:
    """Install or remove the systemd user unit of the service.

    The service starts with your session, is restarted when it fails, and has a lower priority than everything else on
    the machine. You need not be root. For a machine that you do not log in to, see reposyncd@.service in
    docs/systemd.md.
    """


@command.command("install")
@click.option("--no-start", is_flag=True, help="Install and enable the unit, but do not start the service.")
@click.option("--force", is_flag=True, help="Overwrite a unit that was edited, or that something else has written.")
@click.option("--print", "only_print", is_flag=True, help="Print the unit and change nothing.")
@click.pass_context
def install(ctx: click.Context, no_start: bool, force: bool, only_print: bool) -> None:
    """Install the systemd user unit, enable it and start it.

    Run this again after an upgrade: it writes the unit again and restarts the service. The unit gets --state-dir and,
    from this shell, the REPOSYNCD_ variables, XDG_CONFIG_HOME and XDG_STATE_HOME.
    """
    config = load_config(ctx)
    text = unit_text(os.environ, state_dir=config.state_dir if ctx.obj else None)
    if only_print:
        click.echo(text, nl=False)
        return
    _check_manager()
    path = _unit_path(os.environ)
    _check_free(path, force)
    _check_alone(config)
    _write(path, text)
    _systemctl("daemon-reload")
    _systemctl("enable", "--quiet", UNIT)
    say(f"installed {printable(str(path))}; the service starts with your session")
    if "Type=exec" in text:
        say(
            "systemd-python is not installed, so systemd cannot see whether the service is ready or hangs; install "
            "systemd-python next to reposyncd and run this again (see docs/install.md)"
        )
    if no_start:
        say(f"start it with: systemctl --user start {UNIT}")
    else:
        _systemctl("restart", UNIT)
        say("the service is running")
    say("  status  reposyncd status    or: systemctl --user status reposyncd")
    say("  log     journalctl --user -u reposyncd")
    if not _lingers():
        say("  the service stops when you log out; to keep it running: loginctl enable-linger")


@command.command("uninstall")
@click.option("--purge", is_flag=True, help="Delete the index too. The configuration is kept.")
@click.pass_context
def uninstall(ctx: click.Context, purge: bool) -> None:
    """Stop the service and remove its unit.

    Your files, the index and the configuration are kept.
    """
    config = load_config(ctx)
    _check_manager()
    path = _unit_path(os.environ)
    if path.exists():
        _systemctl("disable", "--now", "--quiet", UNIT)
        path.unlink()
        _systemctl("daemon-reload")
        subprocess.run(["systemctl", "--user", "reset-failed", UNIT], capture_output=True, check=False)
        say(f"stopped the service and removed {printable(str(path))}")
    else:
        say(f"{printable(str(path))} does not exist; the service was not installed")
    if purge:
        _check_alone(config)
        _purge(Path(config.state_dir))
        say(f"deleted the index in {printable(config.state_dir)}")
    elif os.path.isdir(config.state_dir):
        say(f"the index is kept in {printable(config.state_dir)}; delete it with: reposyncd service uninstall --purge")
    if os.path.exists(configuration := config_path(os.environ)):
        say(f"the configuration is kept in {printable(configuration)}")


def unit_text(environ: Mapping[str, str], *, state_dir: str | None, notifies: bool | None = None) -> str:
    """The unit for this installation. `notifies`: whether systemd-python is installed; None: find out."""
    text = _template()
    carried = {name: value for name, value in environ.items() if name.startswith("REPOSYNCD_") or name in _CARRIED}
    if state_dir:
        carried["REPOSYNCD_STATE_DIR"] = state_dir
    program = " ".join(_quoted(word).replace("$", "$$") for word in _program())
    lines = [f"ExecStart={program} daemon"]
    lines += [f"Environment={_quoted(f'{name}={value}')}" for name, value in sorted(carried.items())]
    text = text.replace("ExecStart=reposyncd daemon\n", "\n".join(lines) + "\n")
    if not (_has_systemd_python() if notifies is None else notifies):
        text = text.replace("Type=notify\n", "Type=exec\n").replace("NotifyAccess=main\n", "")
        text = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("WatchdogSec="))
    return text + f"{_MARK}{__version__}, sha256 {_digest(text)}\n"


def is_untouched(text: str) -> bool:
    """Whether a unit is exactly what `unit_text` of some version has generated."""
    *_, last = text.splitlines(keepends=True) or [""]
    return last.startswith(_MARK) and last.strip().endswith(_digest(text.removesuffix(last)))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _template() -> str:
    """The unit file from the package or, in a checkout, from the directory beside the sources."""
    import reposyncd

    package = Path(reposyncd.__file__).parent
    for place in (package / "units", package.parents[1] / "systemd"):
        with suppress(FileNotFoundError):
            return (place / UNIT).read_text()
    raise ReposyncError(f"{UNIT} is missing from this installation; install reposyncd again")


def _program() -> list[str]:
    """The command that runs this installation, with an absolute path."""
    script = Path(sys.executable).with_name("reposyncd")
    return [str(script)] if os.access(script, os.X_OK) else [sys.executable, "-P", "-m", "reposyncd"]


def _quoted(text: str) -> str:
    """The text as one word of a unit file (systemd.syntax(7)), in which % has no special meaning."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    escaped = escaped.replace("\n", "\\n").replace("\t", "\\t")
    return escaped if escaped.isascii() and not set(escaped) & set(" '\\\"") else f'"{escaped}"'


def _has_systemd_python() -> bool:
    from importlib.util import find_spec

    try:
        return find_spec("systemd.daemon") is not None
    except ModuleNotFoundError:
        return False


def _unit_path(environ: Mapping[str, str]) -> Path:
    """Where systemd looks for the units of this user."""
    base = environ.get("XDG_CONFIG_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".config") / "systemd" / "user" / UNIT


def _check_manager() -> None:
    if shutil.which("systemctl") is None:
        raise ReposyncError("this machine has no systemd; run the service with: reposyncd daemon")
    found = subprocess.run(
        ["systemctl", "--user", "show", "--property=Version"], capture_output=True, text=True, check=False
    )
    if found.returncode:
        raise ReposyncError(
            f"your systemd cannot be reached ({printable(found.stderr.strip())}). A shell after su or sudo has no "
            "session of its own: log in directly instead (machinectl shell, ssh). Or, after loginctl enable-linger, "
            "set XDG_RUNTIME_DIR=/run/user/$(id -u). Without systemd, run: reposyncd daemon"
        )


def _check_free(path: Path, force: bool) -> None:
    with suppress(FileNotFoundError):
        if not force and not is_untouched(path.read_text(errors="replace")):
            raise ReposyncError(
                f"{path} was edited, or something else has written it; move what you need to a drop-in (systemctl "
                "--user edit reposyncd), then run this again with --force"
            )


def _check_alone(config: Config) -> None:
    """Raises ReposyncError if a service is running that systemd did not start."""
    from reposyncd.app.connect import service

    active = subprocess.run(["systemctl", "--user", "--quiet", "is-active", UNIT], check=False).returncode == 0
    if not active and service(config).is_running():
        raise ReposyncError(f"a service that systemd did not start answers at {config.socket}; stop it first")


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f".{UNIT}.new")
        new.write_text(text)
        new.replace(path)
    except OSError as error:
        raise ReposyncError(f"{path} cannot be written: {error.strerror}") from error


def _systemctl(*arguments: str) -> None:
    try:
        done = subprocess.run(
            ["systemctl", "--user", *arguments], capture_output=True, text=True, check=False, timeout=_SYSTEMCTL_S
        )
    except subprocess.TimeoutExpired as error:
        raise ReposyncError(f"systemctl --user {arguments[0]} has not finished after {_SYSTEMCTL_S:g} s") from error
    if done.returncode:
        raise ReposyncError(
            f"systemctl --user {' '.join(arguments)} failed: {printable(done.stderr.strip())}\n"
            "see the log of the service: journalctl --user -u reposyncd -n 20"
        )


def _lingers() -> bool:
    """Whether the user's services keep running without a session."""
    with suppress(OSError):
        user = str(os.getuid())
        found = subprocess.run(
            ["loginctl", "show-user", user, "--property=Linger", "--value"], capture_output=True, text=True, check=False
        )
        return found.stdout.strip() == "yes"
    return False


def _purge(state: Path) -> None:
    from reposyncd.app.stores import store_files

    for pattern in (*_OURS, *store_files()):
        for path in state.glob(pattern):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    with suppress(OSError):  # it contains files that are not ours
        state.rmdir()
