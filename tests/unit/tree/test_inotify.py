"""The thread that reads the events: how it ends, and what it leaves behind."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from reposyncd.tree.watch import Watches
from tests.support import write
from tests.unit.tree.listening import (
    AMPLE_S,
    Listener,
    open_descriptors,
    opened,
    rules_of,
    threads_that_read,
)


def test_a_hint_that_raises_ends_the_reader_which_is_told_once(listener: Listener) -> None:
    listener.watch("")
    before = open_descriptors()
    listener.broken = ValueError("no such thing")
    write(listener.root, {"a": ""})
    assert listener.died.wait(AMPLE_S)
    assert listener.deaths == ["ValueError"]
    assert open_descriptors() == before - 3  # inotify's, and the pipe by which the reader would be told to end
    with pytest.raises(OSError, match="ValueError"):
        listener.watches.settle(AMPLE_S)
    assert listener.watch("") == [errno.EBADF]
    assert listener.watches.unwatched("R") == {"": errno.EBADF}
    assert listener.watches.count("R") == listener.watches.total() == 0
    listener.watches.learn("R", "", rules_of("a"))
    listener.watches.prune("R", [""], ())
    listener.watches.drop("R")
    listener.watches.close()
    listener.watches.close()
    assert threads_that_read() == 0
    assert listener.deaths == ["ValueError"]


def test_closing_frees_everything_and_ends_the_hints(listener: Listener) -> None:
    before = open_descriptors(), threads_that_read()
    other = Listener(listener.root)
    other.watch("")
    assert other.heard() == set()
    other.watches.close()
    other.watches.close()
    write(other.root, {"a": ""})
    assert (open_descriptors(), threads_that_read()) == before
    assert (other.hints, other.deaths) == ([], [])
    with pytest.raises(OSError, match="closed"):
        other.watches.settle(AMPLE_S)


def test_the_reader_may_close(tmp_path: Path) -> None:
    closed = threading.Event()

    def close(root: str, path: str, recursive: bool) -> None:
        watches.close()
        closed.set()

    before = open_descriptors()
    watches = Watches(
        str(tmp_path / "cookies"), on_hint=close, on_overflow=lambda: None, on_death=lambda why: pytest.fail(why)
    )
    (tmp_path / "root").mkdir()
    with opened(tmp_path / "root") as fd:
        watches.watch("R", "", fd)
    write(tmp_path, {"root/a": ""})
    assert closed.wait(AMPLE_S)
    watches.close()
    assert open_descriptors() == before


def test_other_programs_do_not_inherit_the_descriptor(listener: Listener) -> None:
    mine = [fd for fd in os.listdir("/proc/self/fd") if is_of_inotify(int(fd))]
    assert mine
    assert not [fd for fd in mine if os.get_inheritable(int(fd))]


def is_of_inotify(fd: int) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{fd}") == "anon_inode:inotify"
    except FileNotFoundError:  # that of the listing itself
        return False


@pytest.mark.parametrize("left", range(4))
def test_without_descriptors_to_be_had_none_is_lost(tmp_path: Path, left: int) -> None:
    """Of the three that are needed, and one to sweep the cookies."""
    before = open_descriptors(), threads_that_read()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, hard), hard))
    try:
        with suppress(OSError):
            while True:
                taken.append(os.dup(0))
        for _ in range(left):
            os.close(taken.pop())
        with pytest.raises(OSError) as caught:
            Listener(tmp_path)
        assert caught.value.errno == errno.EMFILE
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in taken:
            os.close(fd)
    assert (open_descriptors(), threads_that_read()) == before


def test_nothing_but_the_daemon_pays_for_the_import_of_watchdog() -> None:
    script = "import sys, reposyncd.cli, reposyncd.app.workspace, reposyncd.tree.scan; print('watchdog' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
