"""Saves the sound vectors of a damaged store before it is replaced, so that their texts need not be embedded again.

A child process (`salvaging`) reads the store in the quarantine, without Chroma, which crashes on damaged files. It
writes the sound vectors to `<state>/salvage.db`. The index process takes them from there (`salvaged`).
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import quote

import xxhash

from reposyncd.store.chroma.inspection import READ_S_PER_BYTE, size

SALVAGE = "salvage.db"
"""A file in the state directory. It exists until all repositories are stored again."""

_ENTRY = "reposyncd.app.child"
"""Named, not imported, because it imports this room and others."""

_STARTS_S = 60.0
"""How long the child may take in addition to reading."""

_ON_WAIT_S = 0.5
"""Time between two calls of `on_wait`."""


class SalvageCount(NamedTuple):
    """How much was saved."""

    saved: int
    """texts whose vectors were saved"""
    wanted: int
    """texts on record"""


def salvage(state_dir: str, store: str, manifest: str, fingerprint: str, on_wait: Callable[[], None]) -> str:
    """Has a child save the sound vectors of the store at `store`, which nobody writes to. Returns a sentence that says
    how many there were. `manifest` is the path of the manifest, of which only generations with this fingerprint count.
    `on_wait` is called now and then."""
    import subprocess  # imported here, because a sync with nothing to do imports this module

    from reposyncd.child_process import inherited

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
                    return f"{found.saved:,} of its {found.wanted:,} vectors could be saved"
        finally:
            child.kill()
    return "reading its vectors failed before the end; those that were not saved are embedded again"


def discard(state_dir: str) -> None:
    """Deletes the saved vectors."""
    for suffix in ("", "-journal"):
        with suppress(OSError):
            os.unlink(os.path.join(state_dir, SALVAGE + suffix))


def connect(path: str, mode: str, *, check_same_thread: bool = True) -> sqlite3.Connection:
    """A connection to a SQLite file, without implicit transactions; `mode` is that of SQLite's URIs."""
    return sqlite3.connect(
        f"file:{quote(path)}?mode={mode}", uri=True, isolation_level=None, check_same_thread=check_same_thread
    )


def text_digest(text: str) -> bytes:
    """xxh3_128 of the text, as in the manifest."""
    return xxhash.xxh3_128_digest(text.encode(errors="surrogatepass"))
