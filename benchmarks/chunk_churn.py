"""How much of an index the history of a repository makes new.

    python -m benchmarks.chunk_churn CLONE [--tip REVISION] [--commits 30]

Replays the last first-parent commits up to the tip on an index of the commit before them. Counted are the distinct
chunk texts of changed files that no chunk of the repository held before the commit, so a rename is free. The ideal
is what no chunker of these sizes could do without: the chunks of the new files that hold a changed line, or the
place of a pure deletion strictly inside.
"""

from __future__ import annotations

import argparse
import re
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

from reposyncd.chunking.chunker import chunk_text
from reposyncd.model import Chunk

FILE_LIMIT = 1024 * 1024
"""bytes: larger files are not indexed."""

Tree = dict[str, str]
"""path -> blob id"""

Hunk = tuple[int, int]
"""first new line (1-based) and number of new lines; with none, the line the deletion follows"""

_HUNK = re.compile(rb"@@ -\d+(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")


@dataclass(slots=True)
class Churn:
    """Sums over the replayed commits."""

    texts: int = 0
    characters: int = 0
    ideal: int = 0
    ideal_characters: int = 0


class Clone:
    """Objects of a clone, read through git. Its work tree is not looked at."""

    def __init__(self, path: str) -> None:
        self._path = path

    def git(self, *arguments: str) -> bytes:
        command = ["git", "-C", self._path, *arguments]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout

    def commits(self, tip: str, count: int) -> list[str]:
        """The last `count` first-parent commits up to the tip, oldest first."""
        return self.git("rev-list", "--first-parent", f"-{count}", tip).decode().split()[::-1]

    def tree(self, commit: str) -> Tree:
        """Its regular files."""
        tree = {}
        for entry in self.git("ls-tree", "-r", "-z", commit).split(b"\0"):
            if entry.startswith((b"100644", b"100755")):
                meta, _, path = entry.partition(b"\t")
                tree[path.decode("utf-8", "surrogateescape")] = meta.split()[2].decode()
        return tree

    def blobs(self, ids: Iterable[str]) -> Iterator[tuple[str, str]]:
        """Id and text of those that an index takes: no NUL, UTF-8, not too large."""
        wanted = sorted(ids)
        command = ["git", "-C", self._path, "cat-file", "--batch"]
        out = subprocess.run(command, input="\n".join(wanted).encode(), check=True, stdout=subprocess.PIPE).stdout
        at = 0
        for blob in wanted:
            head = out.index(b"\n", at)
            size = int(out[at:head].split()[2])
            content = out[head + 1 : head + 1 + size]
            at = head + 1 + size + 1
            if size <= FILE_LIMIT and b"\0" not in content:
                try:
                    yield blob, content.decode()
                except UnicodeDecodeError:
                    continue

    def hunks(self, old: str, new: str) -> dict[str, list[Hunk]]:
        """What changed, by new path. A renamed file has the lines that were changed besides."""
        flags = ["-M", "-U0", "--no-color", "--no-ext-diff", "--src-prefix=a/", "--dst-prefix=b/"]
        hunks: dict[str, list[Hunk]] = {}
        path = ""
        skip = 0  # lines of the hunk being read: one of them may look like a header
        for line in self.git("-c", "core.quotePath=false", "diff", *flags, old, new).split(b"\n"):
            if skip and line[:1] in (b"+", b"-"):
                skip -= 1
            elif line.startswith(b"+++ b/"):
                path = line[6:].rstrip(b"\t").decode("utf-8", "surrogateescape")
            elif found := _HUNK.match(line):
                removed, first, added = (int(group) if group else 1 for group in found.groups())
                hunks.setdefault(path, []).append((first, added))
                skip = removed + added
        return hunks


def replay(clone: Clone, tip: str, count: int) -> tuple[Churn, list[int]]:
    """The churn of the last `count` commits, and the sizes of all chunks at the tip, in characters."""
    commits = clone.commits(tip, count + 1)
    trees = [clone.tree(commit) for commit in commits]
    wanted = set(trees[0].values()).union(*(tree.values() for tree in trees[1:]))
    texts = dict(clone.blobs(wanted))

    @cache
    def chunks(entry: tuple[str, str]) -> tuple[Chunk, ...]:
        path, blob = entry
        return chunk_text(path, texts[blob]) if blob in texts else ()

    stored = Counter(chunk.text for entry in trees[0].items() for chunk in chunks(entry))
    churn = Churn()
    for number, (old, new) in enumerate(pairwise(trees)):
        hunks = clone.hunks(commits[number], commits[number + 1])
        fresh = set()
        for entry in new.items() - old.items():
            for chunk in chunks(entry):
                if not stored[chunk.text]:
                    fresh.add(chunk.text)
                if any(_touches(chunk, hunk) for hunk in hunks.get(entry[0], ())):
                    churn.ideal += 1
                    churn.ideal_characters += len(chunk.text)
        churn.texts += len(fresh)
        churn.characters += sum(map(len, fresh))
        stored.subtract(chunk.text for entry in old.items() - new.items() for chunk in chunks(entry))
        stored.update(chunk.text for entry in new.items() - old.items() for chunk in chunks(entry))
    return churn, [len(chunk.text) for entry in trees[-1].items() for chunk in chunks(entry)]


def _touches(chunk: Chunk, hunk: Hunk) -> bool:
    first, lines = hunk
    if lines:
        return first <= chunk.end_line and first + lines > chunk.start_line
    return chunk.start_line <= first < chunk.end_line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("clone")
    parser.add_argument("--tip", default="HEAD")
    parser.add_argument("--commits", type=int, default=30)
    arguments = parser.parse_args()
    churn, sizes = replay(Clone(arguments.clone), arguments.tip, arguments.commits)
    rows = {
        "commits": arguments.commits,
        "texts to embed": churn.texts,
        "characters to embed": churn.characters,
        "ideal texts": churn.ideal,
        "ideal characters": churn.ideal_characters,
        "texts / ideal": f"{churn.texts / max(churn.ideal, 1):.3f}",
        "chunks at the tip": len(sizes),
        "average chunk, characters": f"{sum(sizes) / max(len(sizes), 1):.0f}",
        "longest chunk, characters": max(sizes, default=0),
    }
    for name, value in rows.items():
        print(f"{name:26} {value:>10}")


if __name__ == "__main__":
    main()
