"""Looks for text that stalls a grammar, crashes it, or makes the chunker raise.

    python -m benchmarks.fuzz_grammars [--language L]... [--cases N] [--seed S] [--size BYTES]

For each language it makes texts out of the grammar's own words: one word, or a few, over and over; words at random;
deep nesting, closed and not; code that is cut off or has lost bytes; long lines and short ones. Each is cut by a
process that is killed when it takes more than the limit of `chunking.verdict.limit_s`, as in the service. Printed is
what stalls, with its CPU seconds per megabyte, what crashes and what raises, each with the case of which `text_of`
makes the text again. What it found so far is kept in `tests/corpus.py`.

It lives among the benchmarks because it measures, takes minutes, and finds something else with every seed; a test runs
it in a tiny size.
"""

from __future__ import annotations

import argparse
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Client, Connection, Listener
from typing import NamedTuple

from reposyncd.chunking.chunker import chunk_text
from reposyncd.chunking.grammars import GRAMMARS, vocabulary
from reposyncd.chunking.languages import extension_of
from reposyncd.chunking.verdict import limit_s

LINE = 120
"""characters of a line where text is folded: no line is too long to be parsed"""

MEMORY_BYTES = 1 << 30
"""What the process may take; more is a finding."""

LOOK_S = 0.02
"""Between two looks at the processor time of the one that cuts."""

HANG_S = 60.0
"""Of wall-clock time, for one that stalls without using the processor."""

KINDS = ("word", "phrase", "random", "nested", "open", "broken")
"""What a text is like; see `text_of`."""


class Case(NamedTuple):
    """A text, by what it is made of."""

    language: str
    kind: str
    seed: str
    size: int
    """bytes, about"""


@dataclass(frozen=True)
class Finding:
    """What became of a case that did not go well."""

    case: Case
    what: str
    cpu_s: float


def text_of(case: Case) -> str:
    """The same text for the same case and the same version of the grammar."""
    chance = random.Random(repr(case))
    words = [*vocabulary(case.language), *_COMMON]

    def pick(least: int, most: int) -> list[str]:
        return [chance.choice(words) for _ in range(chance.randint(least, most))]

    glue = chance.choice(["", "", " ", "\n"])
    if case.kind == "word":
        unit = glue.join([chance.choice(words), ""])
        text = unit * (case.size // len(unit))
    elif case.kind == "phrase":
        unit = glue.join([*pick(2, 5), ""])
        text = unit * (case.size // max(1, len(unit)))
    elif case.kind == "random":
        text = glue.join(pick(case.size // 4, case.size // 4))
    elif case.kind in ("nested", "open"):
        opening, closing = glue.join(pick(1, 4)), glue.join(pick(1, 4))
        times = case.size // max(1, len(opening) + len(closing))
        text = opening * times + ("x" + closing * times if case.kind == "nested" else "")
    else:
        text = _broken(case, chance, words)
    return _folded(text[: case.size]) if chance.random() < 0.7 else text[: case.size]


_COMMON = (
    "\\",
    '"',
    "'",
    "`",
    "<<A",
    "/*",
    "//",
    "#",
    "%",
    "$",
    "@",
    "\t",
    "    ",
    "\r",
    "\n",
    "x",
    "0",
    "\u00e9",
    "\u2028",
)
"""What means something in many languages."""


def _broken(case: Case, chance: random.Random, words: list[str]) -> str:
    """Something like code, some of whose characters are others, cut off at the end."""
    lines = [" " * chance.randrange(12) + " ".join(chance.choices([*words, "name", "1"], k=6)) for _ in range(20)]
    unit = list("\n".join(lines))
    for _ in range(chance.randint(1, 5)):
        unit[chance.randrange(len(unit))] = chance.choice(words)
    text = "".join(unit)
    return (text * (case.size // len(text) + 1))[: case.size - chance.randrange(40)]


def _folded(text: str) -> str:
    return "\n".join(text[at : at + LINE] for at in range(0, len(text), LINE)) + "\n"


class Cutter:
    """A process that cuts, and is killed when it takes too long."""

    def __init__(self) -> None:
        with Listener() as listener:
            command = [sys.executable, "-m", "benchmarks.fuzz_grammars", "--cut", str(listener.address)]
            self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
            self._connection: Connection = listener.accept()

    def close(self) -> None:
        self._connection.close()
        self._process.kill()
        self._process.wait()

    def cut(self, case: Case) -> tuple[str, float]:
        """("", "raised ..", "died of ..", "stalled"), and its CPU seconds. Of no more use if it died or stalled."""
        limit = limit_s(case.size)
        clock = (~self._process.pid << 3) | 2  # of the process: MAKE_PROCESS_CPUCLOCK of the kernel's posix-timers
        before, until = time.clock_gettime(clock), time.monotonic() + HANG_S
        self._connection.send(case)
        try:
            while not self._connection.poll(LOOK_S):
                if time.clock_gettime(clock) - before > limit or time.monotonic() > until:
                    return "stalled", time.clock_gettime(clock) - before
            return str(self._connection.recv()), time.clock_gettime(clock) - before
        except (EOFError, OSError):
            return f"died of {signal.Signals(-self._process.wait()).name}", 0.0


def serve(address: str) -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    with Client(address) as connection:
        while True:
            try:
                case = connection.recv()
            except EOFError:
                return
            text = text_of(case)
            try:
                given_back = "".join(chunk.text for chunk in chunk_text(f"x.{extension_of(case.language)}", text))
                connection.send("" if given_back == text else "lost text")
            except Exception as error:
                connection.send(f"raised {error!r}")


def fuzz(cases: Iterator[Case]) -> Iterator[Finding]:
    """What went wrong, as it is found."""
    cutter = Cutter()
    try:
        for case in cases:
            what, cpu_s = cutter.cut(case)
            if what:
                yield Finding(case, what, cpu_s)
            if what == "stalled" or what.startswith("died"):
                cutter.close()
                cutter = Cutter()
    finally:
        cutter.close()


def cases(languages: list[str], number: int, seed: str, size: int) -> Iterator[Case]:
    """So many of each kind for each language."""
    for language in languages:
        for kind in KINDS:
            for each in range(number):
                yield Case(language, kind, f"{seed}.{each}", size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--language", action="append", choices=sorted(GRAMMARS), help="[default: each]")
    parser.add_argument("--cases", type=int, default=20, help="of each kind, for each language")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--size", type=int, default=100_000, help="bytes of a text")
    parser.add_argument("--cut", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.cut:
        serve(arguments.cut)
        return
    found = 0
    for language in arguments.language or sorted(GRAMMARS):
        started = time.monotonic()
        for finding in fuzz(cases([language], arguments.cases, arguments.seed, arguments.size)):
            found += 1
            case = finding.case
            rate = f"{finding.cpu_s / case.size * 1e6:6.1f} CPU s/MB" if finding.what == "stalled" else " " * 15
            print(f"{language:12} {finding.what:20} {rate}  {case!r}: {text_of(case)[:60]!r}", flush=True)
        print(f"{language:12} {time.monotonic() - started:.0f} s", file=sys.stderr)
    print(f"{found} findings")


if __name__ == "__main__":
    main()
