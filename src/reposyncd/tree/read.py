"""Reads files of one tree, and only of that tree: no component of a path may be a symbolic link."""

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
from reposyncd.tree.secret_contents import secret_content

_VANISHED = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO}
"""Errors that mean that nothing is there any more, or neither a regular file nor a directory."""

_BINARY_PROBE = 8000
"""In how many bytes at the beginning a NUL is searched. git does the same."""

_BOMS = (
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
"""Those of UTF-32 come first, because they begin with those of UTF-16."""

_MOSTLY_ASCII = 20
"""If only one byte in this many is beyond ASCII, a file is certainly text, even if charset-normalizer recognises no
language in it: for example, a table of accented letters."""

_BEYOND_ASCII = re.compile(rb"[\x80-\xff]+")
_BEYOND_ASCII_TEXT = re.compile("[^\x00-\x7f]+")

_INTACT = 4
"""How many valid characters beyond ASCII there are for each broken one in damaged UTF-8. Text in another encoding has
less than one by chance: 0.6 in Thai, 0.3 in Chinese and Japanese, nearly none in European languages."""

_REPLACEMENT = "\ufffd"

_DETECTION_SAMPLE = 64 << 10
"""How many bytes are used to detect the encoding. The encoding must then decode the whole file."""

_EVIDENCE = 16
"""With fewer bytes beyond ASCII, charset-normalizer guesses at random (cp1250, big5 or cp864 for a single é). Such a
small number is usually a Western name in a comment."""


@dataclass(frozen=True, slots=True)
class RawFile:
    """A file, as it was at one moment."""

    stat: FileStat
    digest: str
    """xxh3_128, 32 hex digits"""
    data: bytes


class Tree:
    """An open root. A context manager; not thread-safe.

    The constructor raises RootMissingError if the root cannot be opened, or is another directory than `identity`.
    Otherwise files that were listed in one directory and not found in the other would count as deleted.
    """

    def __init__(self, root: str, identity: RootIdentity | None = None) -> None:
        try:
            self._root = os.open(root, OPEN_DIRECTORY)
        except OSError as error:
            raise RootMissingError(f"{root} cannot be opened: {error.strerror}") from error
        found = os.fstat(self._root)
        if identity not in (None, RootIdentity(signed64(found.st_dev), signed64(found.st_ino))):
            os.close(self._root)
            raise RootMissingError(f"{root} was replaced by another directory in the meantime; nothing was deleted")
        self._directory = ("", self._root)

    def __enter__(self) -> Tree:
        return self

    def __exit__(self, *_: object) -> None:
        self._leave()
        os.close(self._root)

    def read(self, path: str, limit: int) -> RawFile:
        """Reads the file at `path`, relative to the root.

        Raises VanishedError if there is no regular file, UnreadableError if it cannot be read, and UnstableError if it
        changed while it was read, or has grown beyond `limit` bytes since it was listed.
        """
        try:
            directory, _, name = path.rpartition("/")
            fd = os.open(name, OPEN_FILE, dir_fd=self._enter(directory))
        except OSError as error:
            if error.errno in _VANISHED:
                raise VanishedError(f"{path!r} does not exist any more") from None
            raise UnreadableError(f"cannot be opened: {error.strerror}") from error
        try:
            return _read(fd, path, limit)
        except OSError as error:
            raise UnreadableError(f"cannot be read: {error.strerror}") from error
        finally:
            os.close(fd)

    def _enter(self, path: str) -> int:
        """A descriptor for the directory. The last one stays open, since files are read directory by directory."""
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
        raise VanishedError(f"{path!r} is not a regular file any more")
    parts: list[bytes] = []
    left = min(before.st_size, limit) + 1  # one more byte, to see whether the file ends there
    while left > 0 and (part := os.read(fd, left)):
        parts.append(part)
        left -= len(part)
    data = b"".join(parts)
    after = os.fstat(fd)
    if after.st_size > limit:
        raise UnstableError(f"{path!r} has grown to more than {limit} bytes since it was listed")
    if _stat(before) != _stat(after) or len(data) != after.st_size:
        raise UnstableError(f"{path!r} changed while it was read")
    return RawFile(_stat(after), xxhash.xxh3_128_hexdigest(data), data)


def _stat(found: os.stat_result) -> FileStat:
    return FileStat(found.st_size, signed64(found.st_mtime_ns), signed64(found.st_ctime_ns), signed64(found.st_ino))


def classify(data: bytes, allow_secrets: bool = False) -> str | Skip:
    """The text of a file, or the reason why it has none. Line ends stay as they are; a byte order mark is removed.

    The encoding is UTF-8; UTF-16 or UTF-32 if there is a byte order mark; UTF-8 with a few broken bytes, which become
    U+FFFD; or else one that is detected from the content.
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
        return Skip.BINARY  # its first bytes only look like a byte order mark
    return Skip.SECRET if not allow_secrets and secret_content(as_utf8) else text


def _mended(data: bytes) -> str | None:
    """The text of damaged UTF-8, with U+FFFD for each broken sequence; None if too much of it is broken."""
    text = data.decode("utf-8-sig", "replace")
    replacements = text.count(_REPLACEMENT)
    broken = replacements - data.count(_REPLACEMENT.encode())
    intact = sum(map(len, _BEYOND_ASCII_TEXT.findall(text))) - replacements
    return text if intact >= broken * _INTACT else None


def _detected(data: bytes) -> str | None:
    """The text in an encoding that is detected from the content; None if no encoding fits."""
    beyond = sum(map(len, _BEYOND_ASCII.findall(data)))
    if beyond < _EVIDENCE and (text := _decoded(data, "cp1252")) is not None:
        return text
    from charset_normalizer import from_bytes

    # Only lines beyond ASCII say anything about the encoding. Lines stay whole: half a character would exclude the
    # right encoding.
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
