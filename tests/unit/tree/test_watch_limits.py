"""Limits of the kernel, and machines without /proc: in a user namespace."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import write
from tests.unit.tree.listening import (
    AMPLE_S,
)

SCRIPT = """
import errno, json, os, sys
from reposyncd.tree.watch import Watches

hints = []
def hint(*each):
    hints.append(each)

def make():
    return Watches(sys.argv[1] + "/cookies", on_hint=hint, on_overflow=sys.exit, on_death=print)

def watch(path):
    fd = os.open(sys.argv[1] + "/" + path, os.O_RDONLY)
    answer = watches.watch(sys.argv[1], path, fd)
    os.close(fd)
    return answer
"""


def run_under(setup: str, script: str, top: Path) -> object:
    """What the script prints as JSON, run as root of a user namespace after the shell commands of `setup`."""
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec"]
    try:
        tried = subprocess.run([*command, "test -w /proc/sys/user/max_inotify_watches"], capture_output=True)
    except FileNotFoundError:
        pytest.skip("there is no unshare here")
    if tried.returncode != 0:
        pytest.skip(f"no user namespace can be made here: {tried.stderr.decode().strip()}")
    arguments = [f'{setup}; exec "$@"', "sh", sys.executable, "-c", SCRIPT + script, str(top)]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=AMPLE_S)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_at_the_limit_of_watches_those_that_are_missing_are_named(tmp_path: Path) -> None:
    write(tmp_path, {f"{name}/a": "" for name in "abcd"})
    script = """
watches = make()
answers = [watch(name) for name in "abcd"]
first = answers, watches.unwatched(sys.argv[1]), watches.count(sys.argv[1])
watches.prune(sys.argv[1], ["a"], ())
again = watch("d"), watches.unwatched(sys.argv[1]), watches.settle(30)
print(json.dumps([first, again]))
watches.close()
"""
    full = errno.ENOSPC
    assert run_under("echo 3 > /proc/sys/user/max_inotify_watches", script, tmp_path) == [
        [[0, 0, full, full], {"c": full, "d": full}, 2],
        [0, {"c": full}, True],
    ]


@pytest.mark.parametrize(("limit", "expected"), [("watches", errno.ENOSPC), ("instances", errno.EMFILE)])
def test_it_says_so_when_nothing_at_all_can_be_watched(tmp_path: Path, limit: str, expected: int) -> None:
    script = """
before = len(os.listdir("/proc/self/fd"))
try:
    make()
except OSError as error:
    print(json.dumps([error.errno, len(os.listdir("/proc/self/fd")) - before]))
"""
    assert run_under(f"echo 0 > /proc/sys/user/max_inotify_{limit}", script, tmp_path) == [expected, 0]


def test_without_proc_it_is_the_path_that_is_watched(tmp_path: Path) -> None:
    write(tmp_path, {"d/a": "", "link": ""})
    script = """
watches = make()
assert not os.path.exists("/proc/self")
answers = [watch(path) for path in ("", "d")]
os.mkdir(sys.argv[1] + "/d/inner")
print(json.dumps([answers, watches.settle(30), [hint[1:] for hint in hints]]))
watches.close()
"""
    expected = [[0, 0], True, [["d", False], ["d/inner", True]]]
    assert run_under("mount -t tmpfs none /proc", script, tmp_path) == expected


def test_a_root_that_is_unmounted_is_heard(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    script = """
import subprocess
watches = make()
answer = watch("d")
watches.watch("R", "", fd := os.open(sys.argv[1] + "/d", os.O_RDONLY))
os.close(fd)
subprocess.run(["umount", sys.argv[1] + "/d"], check=True)
print(json.dumps([answer, watches.settle(30), sorted({hint[1:] for hint in hints}), watches.total()]))
watches.close()
"""
    expected = [0, True, [["", True], ["d", True]], 0]
    assert run_under(f"mount -t tmpfs none {tmp_path}/d", script, tmp_path) == expected
