"""The first sync of a repository against a bare `collection.upsert` of the very same records.

    python -m benchmarks.first_sync PATH [--rounds N]

The yardstick has ids, texts, metadata and vectors at hand, and calls upsert in batches of 1000 with the same
collection settings; only those calls are timed. The sync is timed as a whole process, imports included.
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    syncs: list[Cost] = []
    bare: list[float] = []
    records = "0"
    for _ in range(arguments.rounds):
        with tempfile.TemporaryDirectory() as place:
            state = Path(place) / "state"
            syncs.append(run(reposyncd("--state-dir", str(state), "sync", arguments.path), weigh=True))
            out = subprocess.run(
                [sys.executable, "-c", _UPSERT, str(state / "chroma"), str(Path(place) / "bare")],
                check=True,
                capture_output=True,
                text=True,
            )
            records, seconds = out.stdout.split()
            bare.append(float(seconds))
            print(f"  sync {syncs[-1].wall_s:6.1f} s   bare upsert {bare[-1]:6.1f} s", file=sys.stderr)
    ratios = [sync.wall_s / yardstick for sync, yardstick in zip(syncs, bare, strict=True)]
    print(f"{'records':>10} {'sync / bare upsert':>20} {'of each round':>24} {'peak memory, MB':>16}")
    each = " ".join(f"{ratio:.2f}" for ratio in ratios)
    peak = max(sync.peak_bytes for sync in syncs) / 1e6
    print(f"{records:>10} {median(ratios):>20.2f} {each:>24} {peak:>16.0f}")


if __name__ == "__main__":
    main()
