"""What the embedder is sent when the history of a repository is checked out, commit by commit, with a sync after each.

    python -m benchmarks.replay CLONE [--tip REVISION] [--commits 30]

Real check-outs in a clone of the clone, and real syncs, into an index in memory that counts what is embedded.
`benchmarks.chunk_churn` measures the chunker alone on the same history.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
from concurrent.futures import Future
from pathlib import Path

from reposyncd import config
from reposyncd.app import operations
from reposyncd.app.workspace import Workspace
from reposyncd.embedding import EmbedderSpec, create
from reposyncd.model import Applied, Batch
from reposyncd.store.memory import MemoryIndex


class _Counting(MemoryIndex):
    def __init__(self) -> None:
        super().__init__(create(EmbedderSpec("hashing")).embed)
        self.texts = self.characters = 0

    def apply(self, collection: str, batch: Batch) -> Future[Applied]:
        done = super().apply(collection, batch)
        self.texts += done.result().embedded
        self.characters += done.result().characters
        return done


def _git(cwd: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=cwd, check=True, capture_output=True, text=True).stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clone")
    parser.add_argument("--tip", default="HEAD")
    parser.add_argument("--commits", type=int, default=30)
    arguments = parser.parse_args()
    index = _Counting()
    with tempfile.TemporaryDirectory() as place:
        tree = Path(place) / "tree"
        _git(Path(place), "clone", "--quiet", "--shared", "--no-checkout", os.path.abspath(arguments.clone), "tree")
        count = f"--max-count={arguments.commits + 1}"
        commits = _git(tree, "rev-list", "--first-parent", count, arguments.tip).split()[::-1]
        settings = config.load(os.environ, state_dir=f"{place}/state")
        first = (0, 0)
        for commit in commits:
            _git(tree, "checkout", "--quiet", commit)
            with Workspace(settings, index=index) as workspace:
                result = operations.sync(workspace, str(tree))
            if commit == commits[0]:
                first = (index.texts, index.characters)
    texts, characters = index.texts - first[0], index.characters - first[1]
    print(f"{'commits':>8} {'texts embedded':>16} {'characters':>12} {'chunks at the tip':>18}")
    print(f"{len(commits) - 1:>8} {texts:>16,} {characters:>12,} {result.chunks.total:>18,}")


if __name__ == "__main__":
    main()
