"""The tree-sitter grammar of each language. It is imported when the first text in that language is parsed."""

from __future__ import annotations

import threading
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tree_sitter import Language, Tree


class Grammar(NamedTuple):
    """A grammar in an installed package."""

    module: str
    function: str = "language"


GRAMMARS = {
    "bash": Grammar("tree_sitter_bash"),
    "c": Grammar("tree_sitter_c"),
    "c-sharp": Grammar("tree_sitter_c_sharp"),
    "cpp": Grammar("tree_sitter_cpp"),
    "css": Grammar("tree_sitter_css"),
    "elixir": Grammar("tree_sitter_elixir"),
    "go": Grammar("tree_sitter_go"),
    "haskell": Grammar("tree_sitter_haskell"),
    "html": Grammar("tree_sitter_html"),
    "java": Grammar("tree_sitter_java"),
    "javascript": Grammar("tree_sitter_javascript"),
    "json": Grammar("tree_sitter_json"),
    "kotlin": Grammar("tree_sitter_kotlin"),
    "lua": Grammar("tree_sitter_lua"),
    "php": Grammar("tree_sitter_php", "language_php"),
    "python": Grammar("tree_sitter_python"),
    "ruby": Grammar("tree_sitter_ruby"),
    "rust": Grammar("tree_sitter_rust"),
    "scala": Grammar("tree_sitter_scala"),
    "sql": Grammar("tree_sitter_sql"),
    "swift": Grammar("tree_sitter_swift"),
    "toml": Grammar("tree_sitter_toml"),
    "tsx": Grammar("tree_sitter_typescript", "language_tsx"),
    "typescript": Grammar("tree_sitter_typescript", "language_typescript"),
    "yaml": Grammar("tree_sitter_yaml"),
}

READ_BYTES = 64 * 1024
"""How many bytes the parser gets with each call: so many that the number of calls does not matter."""

OPERATIONS_PER_CALL = 100
"""tree-sitter reports its progress after this many operations (`OP_COUNT_PER_PARSER_CALLBACK_CHECK` in parser.c)."""

OPERATIONS_PER_BYTE = 2
"""Source code takes 0.3 to 1 operations per byte. Text that takes more is not code of that language (a megabyte of
quotes takes 4, and a quarter of a minute). Operations are counted instead of seconds, so that the result is always the
same."""

OPERATIONS_FREE = 100_000
"""How many operations any text may take, however short it is: 50 ms at worst."""


class _Piece(threading.local):
    """The buffer that is passed to the parser, one for each thread.

    tree-sitter 0.26 never releases what its read callback returns (`parser_read_wrapper` in its binding). With a new
    object for each piece, every text that was ever parsed would stay in memory. When the parser asks for the next
    piece, it does not need the previous one any more.
    """

    def __init__(self) -> None:
        self.buffer = bytearray()


_piece = _Piece()


@cache
def _language(name: str) -> Language | None:
    grammar = GRAMMARS.get(name)
    if grammar is None:
        return None
    try:
        from tree_sitter import Language

        return Language(getattr(import_module(grammar.module), grammar.function)())
    except (ImportError, AttributeError, ValueError, TypeError):
        # The grammar is not installed, or was built for another tree-sitter. The fingerprint names the versions of the
        # grammars, so the index is rebuilt when it is installed.
        return None


def vocabulary(language: str) -> list[str]:
    """The fixed words of a language: keywords, operators, brackets. Empty if there is no grammar."""
    grammar = _language(language)
    if grammar is None:
        return []
    kinds = range(grammar.node_kind_count)
    names = {
        grammar.node_kind_for_id(kind)
        for kind in kinds
        if grammar.node_kind_is_visible(kind) and not grammar.node_kind_is_named(kind)
    }
    return sorted(name for name in names if name)


def parse(language: str, source: bytes) -> Tree | None:
    """The syntax tree; None if there is no grammar, or the source costs too much to parse in this language."""
    grammar = _language(language)
    if grammar is None:
        return None
    from tree_sitter import Parser

    allowed = (OPERATIONS_FREE + OPERATIONS_PER_BYTE * len(source)) // OPERATIONS_PER_CALL
    calls = 0

    def read(offset: int, _point: object) -> bytearray:
        buffer = _piece.buffer
        buffer[:] = source[offset : offset + READ_BYTES]
        return buffer

    def over(_offset: int, _error: bool) -> bool:
        nonlocal calls
        calls += 1
        return calls > allowed

    try:
        return Parser(grammar).parse(read, progress_callback=over)
    except ValueError:  # stopped by `over`
        return None
