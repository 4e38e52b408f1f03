"""A service that finds its state held by somebody else."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from reposyncd.store.locks import state_lock

LONG_S = 3600
"""A time-out that only a test which is about to fail reaches."""


@contextmanager
def service(tmp_path: Path, timeout_s: float = LONG_S) -> Iterator[subprocess.Popen[str]]:
    environ = {
        **os.environ,
        "REPOSYNCD_STATE_DIR": str(tmp_path / "state"),
        "REPOSYNCD_EMBEDDING__MODEL": "hashing",
        "REPOSYNCD_LOCK__TIMEOUT": str(timeout_s),
    }
    with subprocess.Popen(
        [sys.executable, "-m", "reposyncd", "daemon", "--log-format", "text"],
        env=environ,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[str], text: str) -> str:
    """The first line of its log from now on that has the text."""
    assert process.stderr
    heard = ""
    for found in process.stderr:
        heard += found
        if text in found:
            return found
    pytest.fail(f"it ended, and never said: {text}; but: {heard}")


def test_it_says_at_once_which_service_keeps_it_and_how_long_it_waits_and_then_takes_over(tmp_path: Path) -> None:
    with service(tmp_path) as first:
        line(first, "serving on")
        with service(tmp_path) as second:
            said = line(second, "the state directory is in use")
            assert f"another reposyncd service (process {first.pid}) uses {tmp_path / 'state'}" in said
            assert f"waiting for at most {LONG_S} s" in said
            first.terminate()
            line(second, "serving on")


def test_it_waits_for_a_sync_until_that_is_done(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o700)
    with ExitStack() as held:
        held.enter_context(state_lock(str(tmp_path / "state"), 0))
        with service(tmp_path, 0) as waiting:
            said = line(waiting, "the state directory is in use")
            assert f"process {os.getpid()} is writing to {tmp_path / 'state'}" in said
            assert "waiting until it has finished" in said
            held.close()
            line(waiting, "serving on")


def test_one_that_is_kept_for_too_long_is_given_up(tmp_path: Path) -> None:
    with service(tmp_path) as first:
        line(first, "serving on")
        with service(tmp_path, 0.1) as second:
            assert "uses" in line(second, "stop it first")
            assert second.wait(60) == 75
