"""Directories that are never indexed: our own state, the kernel's file systems, and /."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from reposyncd.app import operations
from reposyncd.errors import RefusedRootError
from reposyncd.sync.repos import identity_of
from reposyncd.tree.mounts import pseudo_devices
from tests.live.service import live, result_of, until
from tests.program import run
from tests.support import Lab, write


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    write(tmp_path, {"tree/a.py": "print('a')\n", "state/api-token": "not for anybody\n", "state/store-x/file": ""})
    return Lab(tmp_path / "tree", tmp_path / "state")


def put_on_record(lab: Lab, name: str, root: str) -> None:
    """As a version did that refused nothing."""
    with lab.workspace() as workspace:
        workspace.catalog.add_repo(name, root, identity_of(root))


REFUSED = [
    ("state", "own state directory"),
    ("state/store-x", "own state directory"),
    ("link", "own state directory"),
    ("/", "/ is the whole machine"),
    ("/proc/sys/kernel", "is on proc"),
    ("/proc/self/fd", "is on proc"),
]


@pytest.mark.parametrize("command", [["sync"], ["repo", "add"]])
@pytest.mark.parametrize(("root", "message"), REFUSED)
@pytest.mark.usefixtures("lab")
def test_it_is_a_usage_error_that_says_why_and_what_to_do(
    tmp_path: Path, command: list[str], root: str, message: str
) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "state")
    out = run(tmp_path, *command, root)
    assert out.returncode == 2
    assert message in out.stderr
    assert "choose" in out.stderr
    assert "Traceback" not in out.stderr
    assert run(tmp_path, "repo", "list", "--json").stdout == "[]\n"


def test_every_file_system_of_the_kernels_on_this_machine_is_refused(lab: Lab) -> None:
    with open("/proc/self/mountinfo") as table:
        places = [line.split()[4] for line in table]
    mounted = {os.stat(place).st_dev: place for place in places if os.path.isdir(place)}
    for device, type in pseudo_devices().items():
        if device in mounted:
            with pytest.raises(RefusedRootError, match=f"is on {type},"), lab.workspace() as workspace:
                operations.sync(workspace, mounted[device])


def test_a_service_refuses_them_too(tmp_path: Path) -> None:
    lab = live(tmp_path)
    with lab.running() as daemon:
        for path in (str(lab.state), "/", "/proc"):
            for work in (daemon.add(path, None), daemon.sync(path, None, False)):
                with pytest.raises(RefusedRootError, match="choose"):
                    result_of(work)
        assert [repo["name"] for repo in daemon.status()["repos"]] == ["lab"]


def test_a_service_does_not_look_for_repositories_in_them(tmp_path: Path) -> None:
    lab = live(tmp_path, REPOSYNCD_DISCOVER__ROOTS='["/proc"]')
    with lab.running() as daemon:
        until(
            lambda: any("discover.roots: /proc is on proc" in each for each in daemon.status()["daemon"]["problems"]),
            "it says that it does not look in /proc",
        )


def test_one_that_is_on_record_is_failed_and_its_removal_is_the_remedy(tmp_path: Path) -> None:
    lab = live(tmp_path)
    lab.write({"a.py": "print('a')\n"})
    with lab.workspace() as workspace:
        operations.sync(workspace, str(lab.root), "lab")
    put_on_record(lab, "ours", str(lab.state))
    daemon = lab.start()
    try:
        until(lambda: of(daemon.status(), "lab")["state"] == "current", "the other one is indexed")
        until(lambda: of(daemon.status(), "ours")["state"] == "failed", f"failed: {daemon.status()}")
        found = of(daemon.status(), "ours")
        assert found["files"] == 0
        assert "own state directory" in found["reason"]
        assert found["reason"].endswith("Remove this one with: reposyncd repo remove ours")
        assert found["watch"]["directories"] == 0
        result_of(daemon.remove("ours"))
        assert [repo["name"] for repo in daemon.status()["repos"]] == ["lab"]
    finally:
        lab.stop()


def of(status: Any, name: str) -> dict[str, Any]:
    [found] = [repo for repo in status["repos"] if repo["name"] == name]
    return dict(found)


def test_without_a_service_status_and_verify_say_the_same(tmp_path: Path, lab: Lab) -> None:
    put_on_record(lab, "ours", str(lab.state))
    out = run(tmp_path, "status", "--json")
    assert '"state": "failed"' in out.stdout
    assert "reposyncd repo remove ours" in out.stdout
    out = run(tmp_path, "verify")
    assert "own state directory" in out.stderr
    assert out.returncode == 1


def test_a_root_that_contains_the_state_directory_is_indexed_without_it(tmp_path: Path) -> None:
    root = tmp_path / "home"
    write(root, {"src/a.py": "print('a')\n", ".local/state/reposyncd/note": "ours\n"})
    (tmp_path / "alias").symlink_to(root)
    lab = Lab(root, tmp_path / "alias" / ".local" / "state" / "reposyncd")
    lab.sync()
    write(lab.state, {"api-token": "made up for a test\n"})
    os.link(lab.state / "api-token", root / "hard-link")
    (root / "soft-link").symlink_to(lab.state / "api-token")
    lab.sync()
    lab.sync(full=True)
    assert lab.paths() == {"src/a.py"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_a_bind_mount_is_no_way_around(tmp_path: Path, lab: Lab) -> None:
    script = f"""
        mkdir -p {lab.root}/kernel {lab.root}/ours {tmp_path}/elsewhere
        mount --bind {lab.state} {lab.root}/ours && mount --bind /sys {lab.root}/kernel || exit 77
        mount --bind {lab.state} {tmp_path}/elsewhere
        {sys.executable} -m reposyncd sync {tmp_path}/elsewhere; echo refused with $?
        {sys.executable} -m reposyncd sync {lab.root}
    """
    environ = {**os.environ, "REPOSYNCD_STATE_DIR": str(lab.state), "REPOSYNCD_EMBEDDING__MODEL": "hashing"}
    out = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", script],
        env=environ,
        capture_output=True,
        text=True,
    )
    if out.returncode == 77 or "unshare" in out.stderr:
        pytest.skip(f"no mounts here: {out.stderr}")
    assert "refused with 2" in out.stdout, out.stderr
    assert "tree: 1 files, 1 chunks are indexed" in out.stdout, out.stderr
