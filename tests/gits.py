"""Repositories made by git itself."""

from __future__ import annotations

import subprocess
from pathlib import Path


def git(place: Path, *arguments: str) -> None:
    """Runs git there, as somebody who may commit and clone."""
    who = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "protocol.file.allow=always")
    subprocess.run(["git", "-C", str(place), *who, *arguments], check=True, capture_output=True)


def commit(place: Path) -> None:
    """Makes the directory a repository if it is none, and commits everything in it."""
    git(place, "init", "-q")
    git(place, "add", "-A")
    git(place, "commit", "-q", "--allow-empty", "-m", "as it is")
