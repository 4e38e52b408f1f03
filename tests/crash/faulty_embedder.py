"""An embedder that fails as the texts say: "raise OSError 3 times", "raise ValueError" (each time that it gets the
text), or "raise ValueError everywhere 12 times" (with any text, from then on). Its vectors are those of the hashing
embedder.

Run as a module it is the entry point of the child processes, and has the embedder among its kinds: `use`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest

from reposyncd.embedding import EmbedderSpec, identity_of, registry
from reposyncd.embedding.hashing import HashingEmbedder
from reposyncd.errors import ConfigError, RefusedTextError
from tests.crash.faults import PROJECT

if TYPE_CHECKING:
    from reposyncd.embedding.base import Vectors

KIND = "faulty"
_MODULE = "tests.crash.faulty_embedder"


_ERRORS = {each.__name__: each for each in (OSError, ValueError, ConfigError, RefusedTextError)}
_FAULT = re.compile(r"raise (\w+)( everywhere)?(?: (\d+) times)?")


def use(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is one more kind of embedder, here and in the child processes."""
    monkeypatch.setitem(registry.KINDS, KIND, _MODULE)
    monkeypatch.setattr("reposyncd.child_process._ENTRY", _MODULE)
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))


def identity(spec: EmbedderSpec) -> str:
    return f"{KIND} {identity_of(EmbedderSpec('hashing'))}"


def create(spec: EmbedderSpec) -> FaultyEmbedder:
    return FaultyEmbedder(spec)


class FaultyEmbedder(HashingEmbedder):
    def __init__(self, spec: EmbedderSpec) -> None:
        super().__init__()
        self._spec = spec
        self._raised: Counter[str] = Counter()
        self._everywhere: list[Exception] = []

    @property
    def identity(self) -> str:
        return identity(self._spec)

    def embed(self, texts: Sequence[str]) -> Vectors:
        for kind, everywhere, times in _FAULT.findall("\n".join(texts)):
            error = _ERRORS[kind](f"the key {self._spec.secret} is of no use")
            fault = f"{kind}{everywhere}"
            if times and self._raised[fault] == int(times):
                continue
            if everywhere:
                self._everywhere = [error] * int(times)
                self._raised[fault] = int(times)
                break
            self._raised[fault] += 1
            raise error
        if self._everywhere:
            raise self._everywhere.pop()
        return super().embed(texts)


if __name__ == "__main__":
    from reposyncd.app import child

    registry.KINDS[KIND] = _MODULE
    child.main(_MODULE)
