"""A file has the same chunks wherever it is cut."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from reposyncd.chunking.inline import InlineChunker
from reposyncd.chunking.pool import ChunkingPool
from reposyncd.tree.read import classify
from tests.property.test_chunking import PATHS, relaxed, texts
from tests.support import HANGS_S

PROJECT = Path(__file__).parents[2]
OWN = sorted(
    path for kind in ("*.py", "*.md", "*.toml", "*.json") for path in PROJECT.rglob(kind) if ".venv" not in path.parts
)
"""Code that people have written."""


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChunkingPool]:
    pool = ChunkingPool(str(tmp_path_factory.mktemp("state")), memory_bytes=1 << 30)
    yield pool
    pool.close()


def assert_equal(pool: ChunkingPool, path: str, data: bytes) -> None:
    digest = xxhash.xxh3_128_hexdigest(data)
    assert pool.begin(path, data, digest).result(HANGS_S) == InlineChunker(classify).begin(path, data, digest).result()


def test_code_is_cut_in_a_process_as_in_this_one(pool: ChunkingPool) -> None:
    assert len(OWN) > 100
    for path in OWN:
        assert_equal(pool, str(path.relative_to(PROJECT)), path.read_bytes())


@relaxed(200)
@given(path=st.sampled_from(PATHS), text=texts)
def test_so_is_any_text(pool: ChunkingPool, path: str, text: str) -> None:
    assert_equal(pool, path, text.encode("utf-8", "surrogatepass"))


@relaxed(100)
@given(path=st.sampled_from(PATHS), data=st.binary(max_size=2000))
def test_so_are_any_bytes(pool: ChunkingPool, path: str, data: bytes) -> None:
    assert_equal(pool, path, data)
