"""How long a store takes from being opened to its first answer, before and after a checkpoint.

    python -m benchmarks.open_latency [CHUNKS ...] [--rounds N]

Chunks of about 1000 characters are stored through the index process, with the vectors (256 dimensions) of the default
model. Opened is in a fresh process that has loaded all it needs and answered from another store, so that its start and
imports are apart; "cold" is with the store's files dropped from the system's cache. "whole" is the index process as a
search meets it, its start included. Memory is the peak of the one process that has the store open.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.author import Author
from benchmarks.churn import disk
from benchmarks.measure import Peak, median
from reposyncd.embedding import EmbedderSpec
from reposyncd.model import Batch, ChunkRow, NewChunk
from reposyncd.store.chroma.address import EmbeddedAddress
from reposyncd.store.chroma.checkpoint import Checkpoint, examine
from reposyncd.store.chroma.directory import StoreDirectory
from reposyncd.store.chroma.locks import NO_LOCK
from reposyncd.store.chroma.maintenance import Maintenance
from reposyncd.store.process.supervisor import NO_EMBEDDER, IndexProcess
from reposyncd.sync.plan import chunk_id, text_digest

_COLLECTION = "measured"
_BATCH = 1000
_MB = 1e6

_OPEN = """
import sys, tempfile, time
import numpy
from reposyncd.store.chroma.collections import ChromaCollections
def peak(): return next(int(l.split()[1]) * 1024 for l in open("/proc/self/status") if l.startswith("VmHWM"))
vector = numpy.random.default_rng(0).normal(size=256).astype(numpy.float32)
vector /= numpy.linalg.norm(vector)
with tempfile.TemporaryDirectory() as other:
    store = ChromaCollections(other)
    store.open("other", {"a": "b"})
    store.upsert("other", ["a"], ["text"], vector[None], [{"path": "a"}])
    store._collection("other").query(query_embeddings=vector[None], n_results=1)
    loaded = peak()
    started = time.perf_counter()
    store = ChromaCollections(sys.argv[1])
    opened = time.perf_counter()
    assert len(store._collection(sys.argv[2]).query(query_embeddings=vector[None], n_results=10)["ids"][0]) == 10
    first = time.perf_counter()
    assert len(store._collection(sys.argv[2]).query(query_embeddings=vector[None], n_results=10)["ids"][0]) == 10
    second = time.perf_counter()
    print(opened - started, first - started, second - first, peak(), loaded)
"""


def _process(state: str, path: str, embedder: EmbedderSpec | None, lock_timeout_s: float) -> IndexProcess:
    return IndexProcess(state, EmbeddedAddress(path, lock_timeout_s), embedder, deadline_s=3600)


def _batch(author: Author, start: int, end: int) -> Batch:
    added = []
    for number in range(start, end):
        path, text = f"package_{number // 100}/module_{number // 5}.py", author.function()
        digest = text_digest(text)
        row = ChunkRow(chunk_id("repo", path, digest, 0), path, 1, text.count("\n"), "function", "python", digest)
        added.append(NewChunk(row, text))
    return Batch("repo", tuple(added), ())


def _build(state: str, chunks: int) -> StoreDirectory:
    place = StoreDirectory(state)
    place.ensure()
    process = _process(state, place.link, EmbedderSpec("static"), 30)
    process.open(_COLLECTION, {"reposyncd_repo": "repo"})
    author = Author("open")
    under_way = []
    for start in range(0, chunks, _BATCH):
        under_way.append(process.apply(_COLLECTION, _batch(author, start, min(start + _BATCH, chunks))))
        if len(under_way) > 3:
            under_way.pop(0).result()
    for each in under_way:
        each.result()
    process.close()
    return place


def _evict(path: str) -> None:
    """Drops the files from the system's cache."""
    for directory, _, names in os.walk(path):
        for name in names:
            descriptor = os.open(os.path.join(directory, name), os.O_RDONLY)
            try:
                os.fsync(descriptor)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)


def _open(path: str) -> list[float]:
    """Seconds to open, until the first answer, for the second; peak memory after, and before, bytes."""
    command = [sys.executable, "-c", _OPEN, path, _COLLECTION]
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return [float(each) for each in out.split()]


def _whole(state: str, path: str) -> float:
    started = time.perf_counter()
    process = _process(state, path, EmbedderSpec("static"), 30)
    try:
        assert len(process.query(_COLLECTION, "merge the rows of a table", 10)) == 10
        return time.perf_counter() - started
    finally:
        process.close()


def _latency(label: str, state: str, place: StoreDirectory, rounds: int) -> None:
    path = os.path.realpath(place.link)
    runs = [_open(path) for _ in range(rounds)]
    opened, first, second, peak, loaded = (median(values) for values in zip(*runs, strict=True))
    whole = median([_whole(state, place.link) for _ in range(rounds)])
    _evict(path)
    cold = _open(path)[1]
    size = disk(Path(path)) / _MB
    print(
        f"{label:>8} {examine(path).log_rows:>7} {size:>9.1f} {opened:>8.3f} {first:>9.3f} {cold:>8.3f}"
        f" {second:>9.4f} {whole:>8.2f} {peak / _MB:>11.0f} {(peak - loaded) / _MB:>12.0f}",
        flush=True,
    )


def _checkpoint(state: str, place: StoreDirectory, chunks: int) -> None:
    def maintain(path: str) -> Maintenance:
        return Maintenance(_process(state, path, NO_EMBEDDER, NO_LOCK))

    checkpoint = Checkpoint(place, {_COLLECTION: chunks}, maintain=maintain, release=lambda: None, lock_timeout_s=30)
    peak = Peak(os.getpid())
    steps = [(_name(step), _seconds(step)) for step in checkpoint.steps()]
    total = sum(seconds for _, seconds in steps)
    each = ", ".join(f"{name} {seconds:.2f}" for name, seconds in steps)
    print(f"  checkpoint {total:.2f} s: {each}; {peak.stop() / _MB:.0f} MB of memory, all processes", flush=True)


def _name(step: Callable[[], None]) -> str:
    return str(getattr(step, "__name__", step))


def _seconds(step: Callable[[], None]) -> float:
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chunks", nargs="*", type=int, default=[10_000, 50_000])
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    for chunks in arguments.chunks:
        with tempfile.TemporaryDirectory() as state:
            started = time.perf_counter()
            place = _build(state, chunks)
            print(f"{chunks} chunks, stored in {time.perf_counter() - started:.1f} s")
            print(
                f"{'':>8} {'log':>7} {'disk, MB':>9} {'open, s':>8} {'answer, s':>9} {'cold, s':>8} {'second, s':>9}"
                f" {'whole, s':>8} {'memory, MB':>11} {'of it store':>12}",
                flush=True,
            )
            _latency("before", state, place, arguments.rounds)
            _checkpoint(state, place, chunks)
            _latency("after", state, place, arguments.rounds)


if __name__ == "__main__":
    main()
