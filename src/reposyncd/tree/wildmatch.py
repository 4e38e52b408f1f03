"""Translates git's ignore patterns to regular expressions.

The rules come from git's `dir.c` (parse_path_pattern, add_patterns_from_buffer, match_basename, match_pathname) and
`wildmatch.c`. The tests compare with `git check-ignore`. Patterns and paths are bytes, as in git.

The library pathspec was tried. It differs from git on tabs and carriage returns at the end of a line, POSIX classes,
bytes that are not UTF-8, a backslash at the end, and stars beside letters.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_SPECIAL = b"*?[\\"
_LONGEST_PATH = 4096
"""Bytes of the longest path on Linux. A pattern that can only match longer paths is left out."""

DIRECTORY_MARK = b"\0"
"""Appended to the path of a directory. No name contains this byte. A slash would not work, since `a/*` matches "a/"."""

_ONE_BYTE = rb"[^/\x00]"
_ONE_COMPONENT = rb"[^/\x00]*"
_ANYTHING = rb"[^\x00]*"
_DIRECTORIES = b"(?:.*/)?"
_CLASSES = {
    b"alnum": rb"a-zA-Z0-9",
    b"alpha": rb"a-zA-Z",
    b"blank": rb" \t",
    b"cntrl": rb"\x00-\x1f\x7f",
    b"digit": rb"0-9",
    b"graph": rb"\x21-\x7e",
    b"lower": rb"a-z",
    b"print": rb"\x20-\x7e",
    b"punct": rb"!-/:-@\[-`{-~",
    b"space": rb" \t-\r",
    b"upper": rb"A-Z",
    b"xdigit": rb"0-9a-fA-F",
}


class Pattern(NamedTuple):
    """One line of an ignore file."""

    regex: bytes
    """must match the whole path, relative to the directory of the ignore file; the path of a directory has
    DIRECTORY_MARK at its end"""
    negated: bool


def parse(content: bytes) -> list[Pattern]:
    """The patterns of an ignore file, weakest first. Patterns that can never match are left out."""
    found = []
    for line in content.removeprefix(b"\xef\xbb\xbf").split(b"\n"):
        pattern = _parse_line(line.removesuffix(b"\r").partition(b"\0")[0])
        if pattern:
            found.append(pattern)
    return found


def _parse_line(line: bytes) -> Pattern | None:
    if line.startswith(b"#"):
        return None
    line = _without_trailing_spaces(line)
    negated = line.startswith(b"!")
    line = line[negated:]
    directory_only = line.endswith(b"/")
    line = line[: len(line) - directory_only]
    if not line:
        return None
    anywhere = b"/" not in line
    # The part before the first wildcard is compared literally. The rest is parsed as if the pattern began there.
    line = line.removeprefix(b"/")
    plain = next((i for i, byte in enumerate(line) if byte in _SPECIAL), len(line))
    translated = _translate(line[plain:], pathname=not anywhere)
    if translated is None or plain > _LONGEST_PATH:
        return None
    regex = (_DIRECTORIES if anywhere else b"") + _literal(line[:plain]) + translated
    return Pattern(regex + (rb"\x00" if directory_only else rb"\x00?"), negated)


def _without_trailing_spaces(line: bytes) -> bytes:
    end = i = 0
    while i < len(line):
        space = line[i : i + 1] == b" "
        i += 2 if line[i : i + 1] == b"\\" else 1
        if not space:
            end = i
    return line[:end]


def _translate(glob: bytes, *, pathname: bool) -> bytes | None:
    """The regular expression of a glob; None if it can never match.

    Without `pathname`, the glob applies only to the last component of a path, which contains no slash.
    """
    out: list[bytes] = []
    shortest = i = 0
    while i < len(glob):
        byte = glob[i : i + 1]
        if byte == b"\\":
            if i + 1 == len(glob):
                return None
            out.append(_literal(glob[i + 1 : i + 2]))
            i += 2
        elif byte == b"?":
            out.append(_ONE_BYTE)
            i += 1
        elif byte == b"*":
            end = i
            while glob[end : end + 1] == b"*":
                end += 1
            text, i = _translate_stars(glob, i, end, pathname)
            if text != _DIRECTORIES or out[-1:] != [text]:
                out.append(text)
            continue
        elif byte == b"[":
            bracket = _translate_bracket(glob, i + 1)
            if bracket is None:
                return None
            text, i = bracket
            out.append(text)
        else:
            out.append(_literal(byte))
            i += 1
        shortest += 1
    return b"".join(out) if shortest <= _LONGEST_PATH else None


def _translate_stars(glob: bytes, start: int, end: int, pathname: bool) -> tuple[bytes, int]:
    alone = start == 0 or glob[start - 1 : start] == b"/"
    if pathname and end - start >= 2 and alone:
        if end == len(glob) or glob[end : end + 2] == b"\\/":
            return _ANYTHING, end
        if glob[end : end + 1] == b"/":
            return _DIRECTORIES, end + 1
    return _ONE_COMPONENT, end


def _translate_bracket(glob: bytes, i: int) -> tuple[bytes, int] | None:
    """The class whose text begins at i, and the index after it; None if it is malformed."""
    negated = glob[i : i + 1] in (b"!", b"^")
    i += negated
    members: list[bytes] = []
    previous: int | None = None
    first = True
    while True:
        byte = glob[i : i + 1]
        if not byte:
            return None
        if byte == b"]" and not first:
            break
        first = False
        if byte == b"\\":
            i += 1
            if i >= len(glob):
                return None
            previous = glob[i]
            members.append(_byte(previous))
        elif byte == b"-" and previous is not None and glob[i + 1 : i + 2] not in (b"", b"]"):
            i += 2 if glob[i + 1 : i + 2] == b"\\" else 1
            if i >= len(glob):
                return None
            if previous <= glob[i]:
                members.append(_byte(previous) + b"-" + _byte(glob[i]))
            previous = None
        elif byte == b"[" and glob[i + 1 : i + 2] == b":":
            close = glob.find(b"]", i + 2)
            if close < 0:
                return None
            if close - (i + 2) - 1 < 0 or glob[close - 1 : close] != b":":
                members.append(_byte(ord("[")))  # it is not a POSIX class
                previous = ord("[")
            else:
                name = glob[i + 2 : close - 1]
                if name not in _CLASSES:
                    return None
                members.append(_CLASSES[name])
                previous = None
                i = close
        else:
            previous = byte[0]
            members.append(_byte(previous))
        i += 1
    # A class never matches a slash, even if it contains one.
    matching = re.compile(
        b"[" + (b"^" if negated else b"") + b"".join(members) + b"]" if members else b"(?!)", re.DOTALL
    )
    allowed = [n for n in range(1, 256) if n != ord("/") and matching.fullmatch(bytes([n]))]
    return (b"[" + b"".join(map(_byte, allowed)) + b"]", i + 1) if allowed else None


def _literal(text: bytes) -> bytes:
    return b"".join(map(_byte, text))


def _byte(value: int) -> bytes:
    return b"\\x%02x" % value
