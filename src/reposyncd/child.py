"""Entry point of the index process: joins the worker with the embedder. See `store.worker`."""

from __future__ import annotations

import faulthandler
import os
import sys
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from reposyncd.embedding import create
from reposyncd.store.worker import Index, serve

if TYPE_CHECKING:
    from reposyncd.embedding.base import Embedder, Vectors


def main() -> None:
    """`python -P -m reposyncd.child FD CHROMA_DIR EMBEDDER LOCK_TIMEOUT_S`."""
    faulthandler.enable()  # a crash in native code leaves a stack in the log
    os.umask(0o077)
    fd, chroma_dir, embedder_name, lock_timeout_s = sys.argv[1:5]
    made: list[Embedder] = []

    def embed(texts: list[str]) -> Vectors:
        # Made in the thread that embeds first, so that its loading overlaps with Chroma's.
        if not made:
            made.append(create(embedder_name))
        return made[0].embed(texts)

    serve(Connection(int(fd)), Index(chroma_dir, embed, float(lock_timeout_s)))


if __name__ == "__main__":
    main()
