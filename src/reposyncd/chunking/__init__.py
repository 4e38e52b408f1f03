"""Text of one file -> chunks: pure, deterministic, and local, so that an edit changes the chunks around it only.

Importing this package costs nothing: syntax trees, and each grammar, are imported when first needed.
"""

from __future__ import annotations

from reposyncd.chunking.chunker import chunk_text
from reposyncd.chunking.identity import fingerprint
from reposyncd.chunking.languages import language_of

__all__ = ["chunk_text", "fingerprint", "language_of"]
