"""Which embedder to use, and with which settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reposyncd.config.values import EmbeddingConfig

_REDACTED = "***"


@dataclass(frozen=True, slots=True)
class EmbedderSpec:
    """What `registry.create` needs to create one embedder. Each kind uses the settings that it needs, and ignores the
    others. With "", 0 and 0.0, the kind chooses the value.

    A spec may contain a secret. It is passed to child processes through a socket, never on their command line. Neither
    `repr` nor `registry.identity_of` shows the secret.
    """

    kind: str
    """a key of `registry.KINDS`"""
    model: str = ""
    url: str = ""
    """where a remote embedder is; contains no secret"""
    dimension: int = 0
    """length of a vector"""
    texts_per_call: int = 0
    """how many texts one call of `Embedder.embed` gets at most; 0: no limit"""
    timeout_s: float = 0.0
    """how many seconds a remote embedder may take for one call"""
    secret: str = field(default="", repr=False)
    """how we identify ourselves to a remote embedder, such as an API key"""

    def redacted(self, text: str) -> str:
        """The text without the secret, for messages that a library has written."""
        return text.replace(self.secret, _REDACTED) if self.secret else text


def spec_of(config: EmbeddingConfig) -> EmbedderSpec:
    """The configured embedder."""
    return EmbedderSpec(kind=config.model)
