"""A `ports.Chunker` without child processes. Only for trusted files, such as those of a test: nothing stops a file that
stalls."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace

from reposyncd.chunking.verdict import Trial
from reposyncd.chunking.worker import File, TextOf
from reposyncd.chunking.worker import cut as cut_bytes
from reposyncd.errors import safe_message
from reposyncd.model import Cut


class InlineChunker:
    """Cuts files in the thread of the caller. Exceptions of a decoder or grammar have the same effect as in a
    process."""

    def __init__(self, text_of: TextOf, cut: Callable[[File, bool, TextOf], Cut] = cut_bytes) -> None:
        self._text_of = text_of
        self._cut = cut

    def start(self) -> None:
        """Does nothing."""

    def begin(self, path: str, data: bytes, digest: str, *, allow_secrets: bool = False) -> Future[Cut]:
        """See `ports.Chunker`. The result is there when this returns."""
        future: Future[Cut] = Future()
        trial, found = Trial(len(data)), None
        while found is None:
            began = time.perf_counter()
            try:
                cut = self._cut(File(path, data, allow_secrets), trial.as_plain_lines, self._text_of)
                found = trial.cut(replace(cut, duration_s=time.perf_counter() - began))
            except Exception as error:
                found = trial.raised(safe_message(error))
        future.set_result(found)
        return future

    def release(self) -> None:
        """Does nothing: no file is being cut."""

    @property
    def stalled_s(self) -> float:
        """Always 0."""
        return 0.0

    def close(self) -> None:
        """Does nothing."""
