"""The contract of an embedder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np

    Vectors = np.ndarray[Any, np.dtype[np.float32]]


class Embedder(Protocol):
    """Turns texts into vectors. May be called from any thread.

    Deterministic: to within 1e-6, a vector does not depend on the other texts of the call, or on earlier calls. Except
    for the result, memory does not grow with the number of texts.
    """

    @property
    def identity(self) -> str:
        """A text that differs wherever equal texts could get different vectors."""
        ...

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        ...

    def embed(self, texts: Sequence[str]) -> Vectors:
        """float32 (n, dimension), every row of unit length, whatever the text, even an empty one.

        Returns or raises within a bounded time. Raises
        - EmbedderUnavailableError for a fault that may pass, such as a network that is down. The same texts are retried
          for as long as it takes. An OSError counts as this error, and so does a MemoryError.
        - ConfigError for what only another configuration can correct, such as a wrong key. The user sees the message.
        - RefusedTextError if one of the texts can never be embedded. Its file is quarantined. The message must not
          repeat the text.
        Anything else is unexpected: `guarded.GuardedEmbedder` finds out whether a text is to blame.
        """
        ...
