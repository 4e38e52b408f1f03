"""How many chunks an inserted line makes new.

    python -m benchmarks.chunk_locality PATH... [--places 1000] [--files 200] [--seed 0]

Inserts one line at a random place of a random file found below the paths, again and again, for every language of
which there are enough files, and counts the chunk texts that the file did not have before. The line is indented as
the one before it, and is a comment (a sound edit, nearly everywhere) or three bare words (a syntax error, nearly
everywhere: the file as it is saved in the middle of an edit).
"""

from __future__ import annotations

import argparse
import os
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from reposyncd.chunking.chunker import chunk_text
from reposyncd.chunking.languages import language_of

FILE_CHARACTERS = (2_000, 200_000)
"""Smaller files are one chunk, larger ones say little more for their time."""

ENOUGH_FILES = 5
"""A language with fewer files is left out."""


def paths_below(roots: Sequence[str]) -> Iterator[str]:
    """Regular files, in a stable order."""
    for root in roots:
        if os.path.isfile(root):
            yield root
        for directory, folders, names in os.walk(root):
            folders.sort()
            yield from (os.path.join(directory, name) for name in sorted(names))


def texts_by_language(roots: Sequence[str]) -> dict[str, list[tuple[str, str]]]:
    """Path and text of every usable file of a known language."""
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for path in paths_below(roots):
        if language_of(path, "") == "text" or os.path.islink(path) or not os.path.isfile(path):
            continue
        low, high = FILE_CHARACTERS
        if low <= os.path.getsize(path) <= high:
            try:
                with open(path, encoding="utf-8", newline="") as file:
                    text = file.read()
            except (UnicodeDecodeError, OSError):
                continue
            found[language_of(path, text)].append((path, text))
    return found


COMMENTS = {
    **dict.fromkeys(("bash", "elixir", "python", "ruby", "toml", "yaml"), "# {}"),
    **dict.fromkeys(("haskell", "lua", "sql"), "-- {}"),
    **dict.fromkeys(("html", "markdown"), "<!-- {} -->"),
    **dict.fromkeys(("c", "css"), "/* {} */"),
    **dict.fromkeys(("json", "rst", "asciidoc"), "{}"),
}
"""Language -> a comment on one line; `// {}` in all others."""

WORDS = "a line inserted"


def insertions(texts: Sequence[tuple[str, str]], places: int, form: str, choice: random.Random) -> Iterator[int]:
    """New chunk texts of each of so many insertions, as a difference of multisets."""
    for _ in range(places):
        path, text = choice.choice(texts)
        lines = text.split("\n")
        row = choice.randrange(len(lines))
        before = lines[row - 1] if row else ""
        indent = before[: len(before) - len(before.lstrip())]
        line = indent + form.format(WORDS)
        changed = "\n".join([*lines[:row], line, *lines[row:]])
        old = Counter(chunk.text for chunk in chunk_text(path, text))
        new = Counter(chunk.text for chunk in chunk_text(path, changed))
        yield (new - old).total()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("paths", nargs="+")
    parser.add_argument("--places", type=int, default=1000)
    parser.add_argument("--files", type=int, default=200, help="of a language, at most")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    choice = random.Random(arguments.seed)
    columns = f"{'places':>6} {'median':>6} {'p90':>4} {'p99':>4} {'max':>4} {'mean':>5}"
    print(f"{'language':12} {'line':8} {'files':>5} {columns}")
    everything: dict[str, list[int]] = defaultdict(list)
    for language, texts in sorted(texts_by_language(arguments.paths).items()):
        if len(texts) < ENOUGH_FILES:
            continue
        sample = choice.sample(texts, min(arguments.files, len(texts)))
        for kind, form in (("comment", COMMENTS.get(language, "// {}")), ("words", "{}")):
            counts = sorted(insertions(sample, arguments.places, form, choice))
            everything[kind] += counts
            _print(language, kind, len(sample), counts)
    for kind, counts in everything.items():
        _print("all", kind, 0, sorted(counts))


def _print(language: str, kind: str, files: int, counts: Sequence[int]) -> None:
    if counts:
        median, p90, p99 = (counts[min(len(counts) - 1, len(counts) * part // 100)] for part in (50, 90, 99))
        mean = sum(counts) / len(counts)
        print(f"{language:12} {kind:8} {files:5} {len(counts):6} {median:6} {p90:4} {p99:4} {counts[-1]:4} {mean:5.2f}")


if __name__ == "__main__":
    main()
