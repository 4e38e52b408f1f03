"""What an embedder promises."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np

    Vectors = np.ndarray[Any, np.dtype[np.float32]]


class Embedder(Protocol):
    """Texts to vectors. May be called from any thread.

    Deterministic, and independent of the other texts of a call, and of earlier calls, to within 1e-6. Memory
    beyond the result does not grow with the number of texts.
    """

    @property
    def identity(self) -> str:
        """Another one wherever equal texts could get other vectors."""
        ...

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        ...

    def embed(self, texts: Sequence[str]) -> Vectors:
        """float32 (n, dimension), every row of unit length, whatever the text: an empty one, too.

        Returns or raises within a bounded time. Raises
        - EmbedderUnavailableError for trouble that may pass, such as a network that is down. The same texts are tried
          again, for as long as it takes. An OSError counts as one, and so does a MemoryError.
        - ConfigError for what only another configuration ends, such as a wrong key. The user is told.
        - RefusedTextError if one of the texts can never be embedded. Its file is quarantined. The message must not
          repeat the text.
        Anything else is unexpected: `guarded.GuardedEmbedder` finds out whether a text is to blame.
        """
        ...
