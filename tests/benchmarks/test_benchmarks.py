"""Every benchmark still runs, in a tiny size. What it measures is of no interest here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.author import Author

PROJECT = Path(__file__).parent.parent.parent
REPOSITORY = "REPOSITORY"

TINY: dict[str, list[str]] = {
    "callers": [REPOSITORY, "--clients", "2", "--rounds", "1"],
    "checkout": [REPOSITORY, "--there", "HEAD~1"],
    "chunk_churn": [REPOSITORY, "--commits", "2"],
    "chunk_locality": [REPOSITORY, "--places", "5"],
    "churn": ["--rounds", "1", "--files", "5", "--functions", "1"],
    "first_sync": [REPOSITORY, "--rounds", "1"],
    "fuzz_grammars": ["--language", "toml", "--cases", "1", "--size", "1000"],
    "idle": [REPOSITORY, "--minutes", "0.01", "--no-strace"],
    "open_latency": ["200", "--rounds", "1"],
    "poison": ["--saves", "1", "--files", "3"],
    "protocol_cost": [REPOSITORY, "--rounds", "1"],
    "replay": [REPOSITORY, "--commits", "2"],
    "repos": [REPOSITORY, "--repos", "2"],
    "save_latency": [REPOSITORY, "--saves", "4"],
    "second_sync": [REPOSITORY, "--rounds", "1"],
    "status": [REPOSITORY, "--rounds", "1"],
    "watch_start": [REPOSITORY, "--ignored", "20", "--rounds", "1"],
}


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight modules and two commits that change them."""
    root = tmp_path_factory.mktemp("repository")

    def git(*arguments: str) -> None:
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@example.org", *arguments], cwd=root, check=True)

    git("init", "--quiet")
    for commit in range(3):
        for number in range(8):
            (root / f"module_{number}.py").write_text(Author(f"{commit if number < 3 else 0} {number}").file(3))
        git("add", "--all")
        git("commit", "--quiet", "--message", f"number {commit}")
    return root


def test_every_benchmark_is_run_here() -> None:
    programs = {
        path.stem for path in (PROJECT / "benchmarks").glob("*.py") if 'if __name__ == "__main__"' in path.read_text()
    }
    assert programs == TINY.keys()


@pytest.mark.parametrize("name", sorted(TINY))
def test_it_runs_in_a_tiny_size(name: str, repository: Path) -> None:
    arguments = [str(repository) if each == REPOSITORY else each for each in TINY[name]]
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", *arguments],
        cwd=PROJECT,
        env={**os.environ, "REPOSYNCD_EMBEDDING__MODEL": "hashing"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert any(character.isdigit() for character in done.stdout), f"it measured nothing: {done.stdout}"
    assert "NOT EQUAL" not in done.stdout
