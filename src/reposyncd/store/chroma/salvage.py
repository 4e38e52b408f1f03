"""Saves from a store that is given up the vectors that are still sound, so that their texts are not embedded again.

A child process (`salvaging`) reads the store in quarantine, without Chroma, which crashes on damaged files, and writes
the sound vectors into `<state>/salvage.db`. The index process (`salvaged`) takes them from there.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import quote

import xxhash

from reposyncd.child_process import inherited
from reposyncd.store.chroma.inspection import READ_S_PER_BYTE, size

SALVAGE = "salvage.db"
"""In the state directory, until all repositories are stored again."""

_ENTRY = "reposyncd.app.child"
"""Named, not imported: it joins this room with others."""

_STARTS_S = 60.0
"""How long the child may take in addition to reading."""

_ON_WAIT_S = 0.5
"""Between two calls of `on_wait`."""


class SalvageCount(NamedTuple):
    """How much was saved."""

    kept: int
    """texts whose vectors were saved"""
    wanted: int
    """texts on record"""


def salvage(state_dir: str, store: str, manifest: str, fingerprint: str, on_wait: Callable[[], None]) -> str:
    """Has a child save what is sound in the store at `store`, to which nobody writes, and returns a sentence on how
    much that was. Only generations with this fingerprint of the manifest at `manifest` count. `on_wait` is called now
    and then."""
    deadline = time.monotonic() + _STARTS_S + size(store) * READ_S_PER_BYTE
    arguments = [store, manifest, fingerprint, os.path.join(state_dir, SALVAGE)]
    try:
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", _ENTRY, "salvage", *arguments],
            cwd=state_dir,
            env=inherited(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        return f"its vectors could not be salvaged ({error.strerror}), and all texts are embedded again"
    with child:
        try:
            while time.monotonic() < deadline:
                try:
                    out, _ = child.communicate(timeout=_ON_WAIT_S)
                    found = SalvageCount(*json.loads(out))
                except subprocess.TimeoutExpired:
                    on_wait()
                except (ValueError, TypeError):
                    break
                else:
                    return f"{found.kept:,} of its {found.wanted:,} vectors could be kept"
        finally:
            child.kill()
    return "reading its vectors failed on the way; what was not kept is embedded again"


def discard(state_dir: str) -> None:
    """Deletes what was saved."""
    for suffix in ("", "-journal"):
        with suppress(OSError):
            os.unlink(os.path.join(state_dir, SALVAGE + suffix))


def connect(path: str, mode: str, *, check_same_thread: bool = True) -> sqlite3.Connection:
    """A connection to a SQLite file, without transactions that begin by themselves; `mode` is that of SQLite's URIs."""
    return sqlite3.connect(
        f"file:{quote(path)}?mode={mode}", uri=True, isolation_level=None, check_same_thread=check_same_thread
    )


def text_digest(text: str) -> bytes:
    """xxh3_128 of the text, as the manifest has it."""
    return xxhash.xxh3_128_digest(text.encode(errors="surrogatepass"))
