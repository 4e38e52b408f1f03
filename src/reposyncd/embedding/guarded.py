"""An embedder that raises only errors that the rest of the program knows."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from reposyncd.embedding.registry import create
from reposyncd.errors import (
    ConfigError,
    EmbedderUnavailableError,
    RefusedTextError,
    ReposyncError,
    UsageError,
    safe_message,
)

if TYPE_CHECKING:
    from reposyncd.embedding.base import Embedder, Vectors
    from reposyncd.embedding.spec import EmbedderSpec

PROBE = "does the embedder work"
"""A text that every embedder accepts."""

_FAILURES = 3
"""After how many unexpected errors with one text alone, while the probe succeeds each time, the text is to blame."""

_PAUSE_S = 0.2
"""How long to wait before the same text is tried again. A network is often back by then."""

_CONTRACT = (ConfigError, EmbedderUnavailableError, RefusedTextError)
"""The errors that an embedder may raise; see `base.Embedder`."""

_PASSING = (OSError, MemoryError, ImportError)
"""Errors of the machine or the network, but of no text. Libraries are also read from a disk, which may fail."""


class _UnexpectedError(Exception):
    """Raised when an embedder fails for an unknown reason; `__cause__` is what it raised."""


class GuardedEmbedder:
    """Creates the embedder of a spec at first use, and embeds with it. Raises only what `base.Embedder` promises,
    whatever the embedder raises. No message contains the secret, or anything of a text. For one thread.

    After an unexpected error, the texts are tried again in halves, down to the one that fails alone. If that one fails
    repeatedly while another text can be embedded, that is RefusedTextError. If the other text fails too, nothing is
    known about any text, and that is EmbedderUnavailableError.

    `log` gets the tracebacks of errors that are not in the contract.
    """

    def __init__(
        self,
        spec: EmbedderSpec,
        *,
        create: Callable[[EmbedderSpec], Embedder] = create,
        sleep: Callable[[float], None] = time.sleep,
        log: Callable[[str], object] = sys.stderr.write,
    ) -> None:
        self._spec = spec
        self._make = create
        self._sleep = sleep
        self._log = log
        self._logged: set[tuple[type[BaseException], str, int]] = set()
        self._embedder: Embedder | None = None

    def start(self) -> None:
        """Loads the embedder, if possible. If not, the next `embed` raises the reason."""
        try:
            self.embed([PROBE])
        except ReposyncError:
            return

    def embed(self, texts: Sequence[str]) -> Vectors:
        """See `Embedder`. Also raises UsageError for an unknown kind."""
        size = self._spec.texts_per_call or len(texts) or 1
        parts = [self._divided(texts[start : start + size]) for start in range(0, len(texts) or 1, size)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _divided(self, texts: Sequence[str]) -> Vectors:
        """The vectors. After an unexpected error, embeds each half separately."""
        try:
            return self._call(texts)
        except _UnexpectedError:
            if len(texts) > 1:
                middle = len(texts) // 2
                return np.concatenate([self._divided(texts[:middle]), self._divided(texts[middle:])])
        return self._retried(texts)

    def _retried(self, texts: Sequence[str]) -> Vectors:
        """The vector of a text that has failed once, alone."""
        failures = 1
        while True:
            self._sleep(_PAUSE_S)
            try:
                self._call([PROBE])
            except (_UnexpectedError, RefusedTextError) as error:
                raise EmbedderUnavailableError(
                    f"the embedder fails with every text: {self._message(error.__cause__)}"
                ) from error
            try:
                return self._call(texts)
            except _UnexpectedError as error:
                failures += 1
                if failures == _FAILURES:
                    raise RefusedTextError(
                        f"the embedder failed with this text {_FAILURES} times, and with no other: "
                        f"{self._message(error.__cause__)}"
                    ) from error

    def _call(self, texts: Sequence[str]) -> Vectors:
        embedder = self._embedder = self._embedder or self._create()
        try:
            vectors = embedder.embed(texts)
            if vectors.shape != (len(texts), embedder.dimension) or not np.isfinite(vectors).all():
                raise TypeError(f"{vectors.shape} is not the shape of {len(texts)} vectors, or not all are finite")
        except _CONTRACT as error:
            raise self._redacted(error) from error
        except _PASSING as error:
            self._log_once(error)
            raise EmbedderUnavailableError(f"the embedder cannot be used: {self._message(error)}") from error
        except BaseException as error:  # a panic in Rust code is raised as one
            self._log_once(error)
            raise _UnexpectedError from error
        return vectors

    def _create(self) -> Embedder:
        try:
            return self._make(self._spec)
        except (UsageError, *_CONTRACT) as error:
            raise self._redacted(error) from error
        except BaseException as error:
            self._log_once(error)
            raise EmbedderUnavailableError(f"the embedder cannot be loaded: {self._message(error)}") from error

    def _redacted(self, error: ReposyncError) -> ReposyncError:
        return type(error)(self._spec.redacted(str(error)))

    def _message(self, error: BaseException | None) -> str:
        return self._spec.redacted(safe_message(error)) if error else ""

    def _log_once(self, error: BaseException) -> None:
        """Logs only the first error of each type from a line of code, so that a lasting fault cannot fill the disk."""
        frame = traceback.extract_tb(error.__traceback__)[-1]
        origin = (type(error), frame.filename, frame.lineno or 0)
        if origin not in self._logged:
            self._logged.add(origin)
            self._log(self._spec.redacted("".join(traceback.format_exception(error))))
