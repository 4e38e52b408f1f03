"""The kinds of embedder. A new kind is a module in this room, and a line in `KINDS`."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

from reposyncd.embedding.spec import EmbedderSpec
from reposyncd.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from reposyncd.embedding.base import Embedder

KINDS = {
    "static": "reposyncd.embedding.static",
    "hashing": "reposyncd.embedding.hashing",
}
"""Kind of embedder, as in `EmbedderSpec.kind`, to its module, which is an `EmbedderModule`."""


class EmbedderModule(Protocol):
    """The interface of a module in `KINDS`. Every command asks for an identity, so importing the module must load no
    model, no numpy and no network library."""

    def identity(self, spec: EmbedderSpec) -> str:
        """What `create(spec).identity` would be, without loading anything. It contains neither the secret nor "; ".
        Raises ConfigError if the spec lacks a setting."""
        ...

    def create(self, spec: EmbedderSpec) -> Embedder:
        """The loaded embedder. Raises ConfigError if the spec lacks a setting, or what it names does not exist."""
        ...


def identity_of(spec: EmbedderSpec) -> str:
    """What `create(spec).identity` would be, without loading anything. Raises UsageError for an unknown kind, and
    ConfigError."""
    return _module_of(spec).identity(spec)


def create(spec: EmbedderSpec) -> Embedder:
    """The loaded embedder. Raises UsageError for an unknown kind, and ConfigError."""
    return _module_of(spec).create(spec)


def spec_with(identity: str, configured: EmbedderSpec) -> EmbedderSpec | None:
    """The spec of the embedder with this identity: the configured one, or any kind that needs no settings. None if
    there is none, for example because it is of another version. Loads nothing."""
    for spec in (configured, *map(EmbedderSpec, KINDS)):
        with suppress(ConfigError):  # this kind needs settings
            if identity_of(spec) == identity:
                return spec
    return None


def _module_of(spec: EmbedderSpec) -> EmbedderModule:
    if spec.kind not in KINDS:
        raise UsageError(f'there is no embedder "{spec.kind}"; known: {", ".join(KINDS)}')
    return cast(EmbedderModule, import_module(KINDS[spec.kind]))
