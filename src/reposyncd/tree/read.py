"""Reads files of a tree, and only of that tree: no symbolic link is followed, at no component of a path."""

from __future__ import annotations

import errno
import os
import re
import stat
from dataclasses import dataclass

import xxhash

from reposyncd.errors import RootMissingError, UnreadableError, UnstableError, VanishedError
from reposyncd.model import FileStat, RootIdentity, Skip, signed64
from reposyncd.tree.directory import OPEN_DIRECTORY, OPEN_FILE, open_below
from reposyncd.tree.secrets import secret_content

_GONE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO}
"""Nothing is there, or something that is no regular file or directory any more."""

_BINARY_PROBE = 8000
"""Bytes in which git, too, looks for a NUL."""

_BOMS = (
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
"""UTF-32's before UTF-16's, which it begins with."""

_MOSTLY_ASCII = 20
"""Bytes for each one beyond ASCII in what is text for sure, a table of accented letters for example, even if it is
like no language that charset-normalizer knows."""

_BEYOND_ASCII = re.compile(rb"[\x80-\xff]+")
_BEYOND_ASCII_TEXT = re.compile("[^\x00-\x7f]+")

_INTACT = 4
"""Characters beyond ASCII for each broken one in what is UTF-8, but damaged. Text in another encoding has, by chance,
less than one: 0.6 in Thai, 0.3 in Chinese and Japanese, nearly none in European languages."""

_REPLACEMENT = "\ufffd"

_DETECTION_SAMPLE = 64 << 10
"""Bytes that an encoding is guessed from; the guess must then decode the whole file."""

_EVIDENCE = 16
"""Bytes beyond ASCII below which charset-normalizer guesses at random (cp1250, big5 or cp864 for a single é). The
commonest case of so few is a Western name in a comment."""


@dataclass(frozen=True, slots=True)
class RawFile:
    """A file as it was at one moment."""

    stat: FileStat
    digest: str
    """xxh3_128, 32 hex digits"""
    data: bytes


class Tree:
    """An open root. A context manager; not thread-safe.

    Raises RootMissingError if the root cannot be opened, or is another directory than `identity`: what was listed
    in one and looked for in the other would be taken for deleted.
    """

    def __init__(self, root: str, identity: RootIdentity | None = None) -> None:
        try:
            self._root = os.open(root, OPEN_DIRECTORY)
        except OSError as error:
            raise RootMissingError(f"{root} cannot be opened: {error.strerror}") from error
        found = os.fstat(self._root)
        if identity not in (None, RootIdentity(signed64(found.st_dev), signed64(found.st_ino))):
            os.close(self._root)
            raise RootMissingError(f"{root} became another directory while it was indexed; nothing was deleted")
        self._directory = ("", self._root)

    def __enter__(self) -> Tree:
        return self

    def __exit__(self, *_: object) -> None:
        self._leave()
        os.close(self._root)

    def read(self, path: str, limit: int) -> RawFile:
        """The file at `path`, relative to the root.

        Raises VanishedError if there is no regular file, UnreadableError, and UnstableError if it changed while it
        was read, or grew over `limit` bytes since it was listed.
        """
        try:
            directory, _, name = path.rpartition("/")
            fd = os.open(name, OPEN_FILE, dir_fd=self._enter(directory))
        except OSError as error:
            if error.errno in _GONE:
                raise VanishedError(f"{path!r} is not there any more") from None
            raise UnreadableError(f"cannot be opened: {error.strerror}") from error
        try:
            return _read(fd, path, limit)
        except OSError as error:
            raise UnreadableError(f"cannot be read: {error.strerror}") from error
        finally:
            os.close(fd)

    def _enter(self, path: str) -> int:
        """A descriptor of the directory; the last one is kept, since files come directory by directory."""
        if path != self._directory[0]:
            self._leave()
            if path:
                self._directory = (path, open_below(self._root, path))
        return self._directory[1]

    def _leave(self) -> None:
        if self._directory[1] != self._root:
            os.close(self._directory[1])
        self._directory = ("", self._root)


def _read(fd: int, path: str, limit: int) -> RawFile:
    before = os.fstat(fd)
    if not stat.S_ISREG(before.st_mode):
        raise VanishedError(f"{path!r} is no regular file any more")
    parts: list[bytes] = []
    left = min(before.st_size, limit) + 1  # one more, to see the end
    while left > 0 and (part := os.read(fd, left)):
        parts.append(part)
        left -= len(part)
    data = b"".join(parts)
    after = os.fstat(fd)
    if after.st_size > limit:
        raise UnstableError(f"{path!r} grew over {limit} bytes since it was listed")
    if _stat(before) != _stat(after) or len(data) != after.st_size:
        raise UnstableError(f"{path!r} changed while it was read")
    return RawFile(_stat(after), xxhash.xxh3_128_hexdigest(data), data)


def _stat(found: os.stat_result) -> FileStat:
    return FileStat(found.st_size, signed64(found.st_mtime_ns), signed64(found.st_ctime_ns), signed64(found.st_ino))


def classify(data: bytes, allow_secrets: bool = False) -> str | Skip:
    """The text of a file, or why it has none. Line ends stay as they are; a byte order mark is dropped.

    UTF-8, else UTF-16 or UTF-32 by their byte order mark, else UTF-8 with U+FFFD for a few broken bytes, else an
    encoding detected from the content.
    """
    encoding = next((name for bom, name in _BOMS if data.startswith(bom)), None)
    if encoding is None and b"\0" in data[:_BINARY_PROBE]:
        return Skip.BINARY
    text: str | None
    try:
        text = data.decode(encoding or "utf-8-sig")
        as_utf8 = text.encode() if encoding else data
    except UnicodeDecodeError:
        text = None if encoding else _mended(data) or _detected(data)
        if text is None:
            return Skip.UNDECODABLE
        as_utf8 = text.encode()
    if encoding and "\0" in text[:_BINARY_PROBE]:
        return Skip.BINARY  # begins as if with a byte order mark
    return Skip.SECRET if not allow_secrets and secret_content(as_utf8) else text


def _mended(data: bytes) -> str | None:
    """Text that is UTF-8 but for a few bytes, with U+FFFD for each broken sequence; None if it is something else."""
    text = data.decode("utf-8-sig", "replace")
    replacements = text.count(_REPLACEMENT)
    broken = replacements - data.count(_REPLACEMENT.encode())
    intact = sum(map(len, _BEYOND_ASCII_TEXT.findall(text))) - replacements
    return text if intact >= broken * _INTACT else None


def _detected(data: bytes) -> str | None:
    """Text in an encoding that is told by nothing but its content; None if none fits."""
    beyond = sum(map(len, _BEYOND_ASCII.findall(data)))
    if beyond < _EVIDENCE and (text := _decoded(data, "cp1252")) is not None:
        return text
    from charset_normalizer import from_bytes

    # Only lines beyond ASCII tell anything. They are whole, for half a character would rule the right encoding out.
    lines = b"\n".join(line for line in data.split(b"\n") if not line.isascii())
    sample = lines[:_DETECTION_SAMPLE]
    if len(lines) > len(sample):
        sample = sample[: sample.rfind(b"\n") + 1] or sample
    best = from_bytes(sample).best()
    text = _decoded(data, best.encoding) if best else None
    if text is None and beyond * _MOSTLY_ASCII < len(data):
        text = (None if best else _decoded(data, "cp1252")) or data.decode(errors="replace")
    return text


def _decoded(data: bytes, encoding: str) -> str | None:
    try:
        text = data.decode(encoding)
        text.encode()
    except (UnicodeError, LookupError):
        return None
    return text
