"""The first sync of a repository against a bare `collection.upsert` of the very same records.

    python -m benchmarks.first_sync PATH [--rounds N]

The yardstick has ids, texts, metadata and vectors at hand, and calls upsert in batches of 1000 with the same
collection settings; only those calls are timed, and then, by itself, the first query of a process that opens what they
wrote: it replays all of it. The sync is timed as a whole process, imports included; once as it is, with the checkpoint
that spares every query that replay, and once without it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import Cost, median, reposyncd, run

_UPSERT = """
import sys, time
import chromadb, numpy
def open_(path): return chromadb.PersistentClient(path, settings=chromadb.Settings(anonymized_telemetry=False))
source = open_(sys.argv[1])
[collection] = source.list_collections()
collection = source.get_collection(collection.name, embedding_function=None)
got = collection.get(include=["documents", "metadatas", "embeddings"])
vectors = numpy.asarray(got["embeddings"], dtype=numpy.float32)
target = open_(sys.argv[2]).create_collection("bare", embedding_function=None,
    configuration={"hnsw": {"space": "cosine", "sync_threshold": 10_000_000}})
started = time.perf_counter()
for i in range(0, len(got["ids"]), 1000):
    part = slice(i, i + 1000)
    target.upsert(ids=got["ids"][part], documents=got["documents"][part], metadatas=got["metadatas"][part],
        embeddings=vectors[part])
print(len(got["ids"]), time.perf_counter() - started)
"""

_QUERY = """
import sys, time
import chromadb
client = chromadb.PersistentClient(sys.argv[1], settings=chromadb.Settings(anonymized_telemetry=False))
started = time.perf_counter()
collection = client.get_collection("bare", embedding_function=None)
got = collection.get(limit=1, include=["embeddings"])
collection.query(query_embeddings=got["embeddings"], n_results=5)
print(time.perf_counter() - started)
"""

_NO_CHECKPOINT = """
from reposyncd.cli import main
from reposyncd.store.chroma import checkpoint
checkpoint.LOG_ROWS = 1 << 60
main()
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    syncs: list[Cost] = []
    committed: list[float] = []
    bare: list[float] = []
    replay: list[float] = []
    records = "0"
    for _ in range(arguments.rounds):
        with tempfile.TemporaryDirectory() as place:
            state, other, target = (str(Path(place) / name) for name in ("state", "other", "bare"))
            syncs.append(run(reposyncd("--state-dir", state, "sync", arguments.path), weigh=True))
            without = [sys.executable, "-c", _NO_CHECKPOINT, "--state-dir", other, "sync", arguments.path]
            committed.append(run(without).wall_s)
            out = _output(_UPSERT, str(Path(state) / "chroma"), target)
            records, seconds = out.split()
            bare.append(float(seconds))
            replay.append(float(_output(_QUERY, target)))
            print(
                f"  sync {syncs[-1].wall_s:6.1f} s   without checkpoint {committed[-1]:6.1f} s   "
                f"bare upsert {bare[-1]:6.1f} s   its first query {replay[-1]:6.1f} s",
                file=sys.stderr,
            )
    print(f"{'records':>10} {'':>34} {'median':>8}   of each round")
    _row(records, "without checkpoint / bare upsert", committed, bare)
    _row(records, "sync / bare upsert", [sync.wall_s for sync in syncs], bare)
    usable = [upsert + query for upsert, query in zip(bare, replay, strict=True)]
    _row(records, "sync / bare upsert and first query", [sync.wall_s for sync in syncs], usable)
    print(f"peak memory of the sync, all processes: {max(sync.peak_bytes for sync in syncs) / 1e6:.0f} MB")


def _output(script: str, *arguments: str) -> str:
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _row(records: str, what: str, ours: list[float], yardstick: list[float]) -> None:
    ratios = [our / its for our, its in zip(ours, yardstick, strict=True)]
    print(f"{records:>10} {what:>34} {median(ratios):>8.2f}   " + " ".join(f"{ratio:.2f}" for ratio in ratios))


if __name__ == "__main__":
    main()
