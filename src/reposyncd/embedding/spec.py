"""Which embedder is meant, and with which settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reposyncd.config.values import EmbeddingConfig

_REDACTED = "***"


@dataclass(frozen=True, slots=True)
class EmbedderSpec:
    """What `registry.create` needs to make one embedder. Each kind takes the settings that it has a use for and ignores
    the others; "", 0 and 0.0 leave a setting to the kind.

    A spec may hold a secret. It reaches the child processes over a socket, never on their command line, and neither
    `repr` nor `registry.identity_of` shows the secret.
    """

    kind: str
    """a key of `registry.KINDS`"""
    model: str = ""
    url: str = ""
    """where a remote embedder is; without a secret"""
    dimension: int = 0
    """length of a vector"""
    texts_per_call: int = 0
    """how many texts one call of `Embedder.embed` gets at most; 0: any number"""
    timeout_s: float = 0.0
    """how long a remote embedder may take for one call"""
    secret: str = field(default="", repr=False)
    """what a remote embedder recognises us by, such as an API key"""

    def redacted(self, text: str) -> str:
        """The text without the secret: for a message that a library wrote."""
        return text.replace(self.secret, _REDACTED) if self.secret else text


def spec_of(config: EmbeddingConfig) -> EmbedderSpec:
    """The embedder that the configuration asks for."""
    return EmbedderSpec(kind=config.model)
