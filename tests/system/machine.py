"""A machine with a real systemd, booted in a container over a root file system that nothing changes."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests import support

HANGS_S = 120.0
"""What takes longer is taken for a hang. Nothing here is timed by it."""

PROJECT = Path(__file__).parents[2]

USERS = ("alice", "bob")


def until(condition: Callable[[], object], what: str) -> None:
    """Returns when the condition holds."""
    support.until(condition, what, HANGS_S)


class Machine:
    """A context manager: booted, with the project installed in /opt/reposyncd, and two users, alice and bob.

    `made` is what rootfs.sh has made; `place` an empty directory, on a file system that can be the upper one of an
    overlay.
    """

    def __init__(self, made: Path, place: Path) -> None:
        self._tools = made / "tools"
        self.root = place / "root"
        for name in ("root", "upper", "work"):
            (place / name).mkdir()
        self._nspawn: subprocess.Popen[bytes] | None = None
        options = f"lowerdir={made / 'rootfs'},upperdir={place / 'upper'},workdir={place / 'work'}"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, str(self.root)], check=True)
        try:
            self._prepare()
            self._boot(place / "console")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Every process of it ends."""
        if self._nspawn:
            with suppress(ProcessLookupError):
                os.kill(self._init, signal.SIGKILL)  # the container's pid 1: the kernel kills the rest
            try:
                self._nspawn.wait(30)
            except subprocess.TimeoutExpired:
                self._nspawn.kill()
                self._nspawn.wait()
        subprocess.run(["umount", "--lazy", str(self.root)], check=False)

    def _prepare(self) -> None:
        source = self.root / "opt/source"
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=PROJECT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for name in filter(None, listed.split("\0")):
            if (PROJECT / name).is_file():
                (source / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(PROJECT / name, source / name)
        self._chroot(
            "/opt/reposyncd/bin/pip", "install", "-q", "--no-index", "--no-deps", "--no-build-isolation", "/opt/source"
        )
        (self.root / "usr/local/bin/reposyncd").symlink_to("/opt/reposyncd/bin/reposyncd")
        for user in USERS:
            self._chroot("useradd", "--create-home", "--shell", "/bin/bash", user)
        linger = self.root / "var/lib/systemd/linger"
        linger.mkdir(parents=True, exist_ok=True)
        (linger / "alice").touch()
        (self.root / "etc/machine-id").write_text("")

    def _chroot(self, *command: str) -> None:
        subprocess.run(["chroot", str(self.root), *command], check=True, capture_output=True)

    def _boot(self, console: Path) -> None:
        libraries = next(self._tools.glob("usr/lib/*/systemd"))
        with console.open("wb") as log:
            self._nspawn = subprocess.Popen(
                [
                    str(self._tools / "usr/bin/systemd-nspawn"),
                    *("-D", str(self.root), "--register=no", "--keep-unit", "--machine=reposyncd-test"),
                    *("--private-network", "--console=pipe", "--boot"),
                ],
                env={**os.environ, "LD_LIBRARY_PATH": str(libraries)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        children = Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children")

        def init() -> int | None:
            assert self._nspawn
            assert self._nspawn.poll() is None, console.read_text(errors="replace")
            for child in children.read_text().split():  # at first one that only prepares it
                with suppress(OSError):
                    if re.search(r"^NSpid:\t\d+\t1$", Path(f"/proc/{child}/status").read_text(), re.MULTILINE):
                        return int(child)
            return None

        until(init, f"the container has a first process; {console}")
        self._init = init() or 0
        try:
            until(lambda: self._is_up(), "the machine is up")
        except AssertionError as error:
            jobs = self.try_run("systemctl", "list-jobs", "--no-pager")
            raise AssertionError(
                f"{error}\n{jobs.stdout}{jobs.stderr}\n{console.read_text(errors='replace')}"
            ) from None

    def _is_up(self) -> bool:
        found = self.try_run("systemctl", "is-system-running")
        return found.stdout.strip() in ("running", "degraded")

    # Commands -----------------------------------------------------------------------------------------------

    def try_run(
        self, *command: str, user: str | None = None, environ: Mapping[str, str] = {}, text: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """A command in it, as root or as a user with a session; its output, whatever came of it."""
        as_user: list[str] = []
        variables = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LANG": "C.UTF-8", "HOME": "/root"}
        if user:
            variables |= {"HOME": f"/home/{user}", "USER": user, "XDG_RUNTIME_DIR": f"/run/user/{self.uid(user)}"}
            as_user = ["runuser", "-u", user, "--"]
        return subprocess.run(
            ["nsenter", "-t", str(self._init), "-a", *as_user, *command],
            env={**variables, **environ},
            input=text,
            stdin=None if text is not None else subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=HANGS_S,
            check=False,
        )

    def run(
        self, *command: str, user: str | None = None, environ: Mapping[str, str] = {}, text: str | None = None
    ) -> str:
        """What it printed; it has to succeed."""
        done = self.try_run(*command, user=user, environ=environ, text=text)
        assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def uid(self, user: str) -> int:
        for line in (self.root / "etc/passwd").read_text().splitlines():
            name, _, uid, *_ = line.split(":")
            if name == user:
                return int(uid)
        raise LookupError(user)

    def outside(self, pid: int) -> int:
        """Which process of this machine's that one of the container is."""
        namespace = os.readlink(f"/proc/{self._init}/ns/pid")
        for place in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if os.readlink(place / "ns/pid") == namespace:
                    *_, inside = re.findall(r"^NSpid:.*\t(\d+)$", (place / "status").read_text(), re.MULTILINE)
                    if int(inside) == pid:
                        return int(place.name)
        raise LookupError(pid)

    def write(self, user: str, path: str, text: str) -> None:
        """A file of the user's, below the home."""
        target = self.root / "home" / user / path
        made = [target]
        while not made[-1].parent.exists():
            made.append(made[-1].parent)
        target.parent.mkdir(parents=True, exist_ok=True)
        # Through the container's own view: a change made below a mounted overlay gives no event.
        self.run("tee", f"/home/{user}/{path}", text=text)
        for each in made:
            os.chown(each, self.uid(user), self.uid(user))

    def journal(self, *matches: str) -> list[dict[str, Any]]:
        """Entries of the journal, oldest first."""
        self.run("journalctl", "--sync")
        printed = self.run("journalctl", "-o", "json", "--no-pager", "--all", *matches)
        return [json.loads(line) for line in printed.splitlines()]


class Unit:
    """A service of the machine's, or of a user's own systemd."""

    def __init__(self, machine: Machine, name: str, user: str | None = None) -> None:
        self.machine = machine
        self.name = name
        self.user = user

    def systemctl(self, *arguments: str) -> str:
        return self.machine.run("systemctl", *(["--user"] if self.user else []), *arguments, user=self.user)

    def try_systemctl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.machine.try_run("systemctl", *(["--user"] if self.user else []), *arguments, user=self.user)

    def show(self, name: str) -> str:
        return self.systemctl("show", self.name, f"--property={name}", "--value").strip()

    def pid(self) -> int:
        return int(self.show("MainPID"))

    def until_shows(self, name: str, *values: str) -> None:
        until(
            lambda: self.show(name) in values,
            f"{self.name} {name} is {values}: {self.try_systemctl('status', self.name).stdout}",
        )

    def override(self, text: str) -> None:
        """A drop-in; "" removes it."""
        directory = f"/home/{self.user}/.config/systemd/user" if self.user else "/etc/systemd/system"
        path = f"{directory}/{self.name}.d/test.conf"
        if text:
            self.machine.run("mkdir", "-p", os.path.dirname(path), user=self.user)
            self.machine.run("tee", path, user=self.user, text=text)
        else:
            self.machine.run("rm", "-rf", os.path.dirname(path), user=self.user)
        self.systemctl("daemon-reload")
