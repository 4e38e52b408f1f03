"""A service parses for months."""

from __future__ import annotations

import tracemalloc

from reposyncd.chunking.chunker import chunk_text

SOURCE_BYTES = 20_000


def source(number: int) -> str:
    return "".join(f"def f{number}_{line}():\n    return {line}\n\n\n" for line in range(SOURCE_BYTES // 40))


def test_nothing_of_a_text_that_was_cut_stays_in_memory() -> None:
    chunk_text("warm.py", source(0))
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(1, 101):
            assert chunk_text("a.py", source(number))
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 5 * SOURCE_BYTES  # of a hundred texts
