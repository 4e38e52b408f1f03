"""Files that have crashed a parser, stalled it, or made the chunker raise, as functions that make them.

Found by hand and by `benchmarks.fuzz_grammars`. What each did, it did before files were cut in processes of their own;
with another version of its grammar it may do something else, or nothing. None is larger than it has to be.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from reposyncd.chunking.grammars import GRAMMARS
from reposyncd.chunking.languages import extension_of

LINE = 120
"""characters: a line that is longer than 50,000 is not parsed at all"""


def repeated(unit: str, size: int) -> str:
    """So many bytes of it, if it is ASCII."""
    return (unit * (size // len(unit) + 1))[:size]


def folded(unit: str, size: int) -> str:
    """Likewise, in lines."""
    text = repeated(unit, size)
    return "".join(text[at : at + LINE] + "\n" for at in range(0, size, LINE))


def crashes() -> Iterator[tuple[str, str]]:
    """SIGSEGV, when the error stack is let go of after the parse was stopped."""
    yield "crash/strings.c", folded("%w[", 660_000)
    yield "crash/strings.cpp", folded("%w[", 660_000)


def stalls() -> Iterator[tuple[str, str]]:
    """At least 2 CPU seconds a megabyte; some of them quadratic, so that there is no end to it."""
    yield "stall/unclosed.html", folded("<li><p><td><font>", 1_000_000)  # over 120 s
    yield "stall/unclosed-short.html", folded("<a>", 200_000)
    yield "stall/brackets.sh", folded("[", 1_000_000)  # 20 to 90 s
    yield "stall/heredocs.sh", folded("|&<<Alocal+", 200_000)
    yield "stall/strings.c", repeated("%w[", 30_000)  # 4 to 10 s, nearly all of it between two progress callbacks
    yield "stall/newlines.css", repeated("\n", 1_000_000)
    yield "stall/not.css", folded("::not", 400_000)
    yield "stall/yield.cs", folded('yieldtypeof"', 400_000)
    yield "stall/operators.ex", repeated("<>\n--\n<<<", 400_000)
    yield "stall/dollars.go", folded("-$", 400_000)
    yield "stall/infix.hs", repeated("infixr\ntype\nhiding\n\u22b8", 250_000)
    yield "stall/continued.hs", repeated("\\\n", 400_000)
    yield "stall/brackets.java", repeated("[\n\u00e9\n--", 400_000)
    yield "stall/power.js", folded("**='$", 400_000)
    yield "stall/as-param.kt", repeated("=\n?\nas\nparam\n", 100_000)
    yield "stall/parentheses.lua", repeated(")\n", 100_000)
    yield "stall/times.py", folded("*=", 400_000)
    yield "stall/symbols.rb", folded(':" ', 250_000)
    yield "stall/throw.scala", folded("^ ] throw ;", 250_000)
    yield "stall/comments.sql", repeated("/*\n", 250_000)


def raises() -> Iterator[tuple[str, str]]:
    """The root node of a continued line that nothing follows begins behind the last line."""
    for language in GRAMMARS:
        yield f"raise/continued.{extension_of(language)}", "\\\n"
    yield "raise/continued.h", "\\\n"


def nested() -> Iterator[tuple[str, str]]:
    """Deeper than any stack, in each language; truncated; with what is no text of it."""
    for language in GRAMMARS:
        extension = extension_of(language)
        yield f"deep/brackets.{extension}", folded("({[", 20_000)
        yield f"deep/quotes.{extension}", folded("\"'`", 20_000)
        yield f"deep/odd.{extension}", folded("\r\u2028\u00e9#\\\f", 20_000)


CORPUS: Mapping[str, str] = {path: text for make in (crashes, stalls, raises, nested) for path, text in make()}
"""By path."""
