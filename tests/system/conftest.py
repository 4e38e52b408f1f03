from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.machine import Machine, Unit

ROOTFS = Path(__file__).with_name("rootfs.sh")


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Booted once for all tests; what they change in it is theirs to undo."""
    if os.geteuid() != 0:
        pytest.skip("only root can boot a machine in a container")
    if shutil.which("apt-get") is None:
        pytest.skip("the machine is made of Debian packages, and there is no apt-get")
    made = subprocess.run([str(ROOTFS)], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    with Machine(Path(made), tmp_path_factory.mktemp("machine")) as machine:
        yield machine


@pytest.fixture
def service(machine: Machine) -> Iterator[Unit]:
    """The service as alice installed it."""
    unit = Unit(machine, "reposyncd.service", "alice")
    machine.run("reposyncd", "service", "install", user="alice")
    yield unit
    unit.override("")
    machine.run("rm", "-f", CONFIG)
    unit.try_systemctl("reset-failed", unit.name)
    machine.run("reposyncd", "service", "uninstall", "--purge", user="alice")
    machine.run("rm", "-rf", "/home/alice/src")


CONFIG = "/home/alice/.config/reposyncd/config.toml"
