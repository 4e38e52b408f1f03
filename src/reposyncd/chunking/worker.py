"""The child's side of a chunking process: receives the bytes of a file, and returns its chunks."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib import import_module
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from reposyncd.chunking.chunker import chunk_plainly, chunk_text
from reposyncd.errors import safe_message
from reposyncd.model import Chunk, Cut, Skip

TextOf = Callable[[bytes, bool], "str | Skip"]
"""(bytes, whether they may hold secrets) to the text of a file, or to the reason why it has none."""

_LOADED_EARLY = ("tree_sitter", "re2", "reposyncd.chunking.definitions")
"""Modules that nearly every file needs. They are imported before the first file, and do not count towards its limit."""


class File(NamedTuple):
    """A file to be cut."""

    path: str
    data: bytes
    allow_secrets: bool = False


class Answer(NamedTuple):
    """The reply to a request."""

    number: int | None
    """the number of the request; None: the child is ready for its first request"""
    error: str = ""
    """which exception was raised, without any content; "" if none was"""
    is_memory: bool = False
    """whether no memory was left; then the child is replaced"""
    skip: str | None = None
    chunks: tuple[tuple[Any, ...], ...] = ()
    """the fields of each `Chunk`"""
    duration_s: float = 0.0
    """how long decoding and cutting took"""

    def cut(self) -> Cut:
        """The result of a request without an error."""
        skip = None if self.skip is None else Skip(self.skip)
        return Cut(tuple(Chunk(*each) for each in self.chunks), skip, duration_s=self.duration_s)


def cut(file: File, as_plain_lines: bool, text_of: TextOf) -> Cut:
    """Decodes and cuts a file. Exceptions of decoders and grammars are passed on."""
    text = text_of(file.data, file.allow_secrets)
    if isinstance(text, Skip):
        return Cut(skip=text)
    return Cut(chunk_plainly(file.path, text) if as_plain_lines else chunk_text(file.path, text))


def serve(connection: Connection, text_of: TextOf) -> None:
    """Answers requests, which are (number, "parse" or "plain", File), until the connection ends."""
    for name in _LOADED_EARLY:
        import_module(name)
    connection.send(Answer(None))
    while True:
        try:
            number, how, file = connection.recv()
        except EOFError:
            return
        connection.send(_answer(number, file, how == "plain", text_of))


def _answer(number: int, file: File, as_plain_lines: bool, text_of: TextOf) -> Answer:
    began = time.perf_counter()
    try:
        found = cut(file, as_plain_lines, text_of)
        duration_s = time.perf_counter() - began
        fields = tuple(
            (chunk.text, chunk.start_line, chunk.end_line, chunk.symbol, chunk.language) for chunk in found.chunks
        )
    except MemoryError:
        return Answer(number, "MemoryError", is_memory=True)
    except Exception as error:
        return Answer(number, safe_message(error))
    return Answer(number, skip=found.skip, chunks=fields, duration_s=duration_s)
