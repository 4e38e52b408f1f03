"""The program, run as a person runs it, on a state directory in the directory of a test."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = [sys.executable, "-m", "reposyncd"]


def environ(place: Path, **variables: str) -> dict[str, str]:
    """The environment of the program, with its state in `place` and an embedder that needs no model."""
    return {
        **os.environ,
        "REPOSYNCD_STATE_DIR": str(place / "state"),
        "REPOSYNCD_EMBEDDING__MODEL": "hashing",
        **variables,
    }


def run(place: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """`reposyncd ARGUMENTS` in `place`, to its end."""
    return subprocess.run(
        [*PROGRAM, *arguments], env=environ(place, **variables), capture_output=True, text=True, cwd=place
    )
