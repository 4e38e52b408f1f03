"""Whatever an embedder raises, one of three errors comes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from reposyncd.embedding import EmbedderSpec
from reposyncd.embedding.guarded import PROBE, GuardedEmbedder
from reposyncd.embedding.hashing import HashingEmbedder
from reposyncd.errors import ConfigError, EmbedderUnavailableError, RefusedTextError, StoreBusyError, UsageError

if TYPE_CHECKING:
    from reposyncd.embedding.base import Vectors

SPEC = EmbedderSpec("hashing", secret="hunter2")
TEXTS = [f"text {n}" for n in range(10)]

Fault = Callable[[Sequence[str]], None]
"""raises, if a call with these texts is to fail"""


class Faulty(HashingEmbedder):
    def __init__(self, fault: Fault) -> None:
        super().__init__()
        self.fault = fault
        self.calls: list[list[str]] = []

    def embed(self, texts: Sequence[str]) -> Vectors:
        self.calls.append(list(texts))
        self.fault(texts)
        return super().embed(texts)


class Guarded(GuardedEmbedder):
    """With an embedder that is made of a fault; pauses and logs into lists."""

    def __init__(self, fault: Fault, spec: EmbedderSpec = SPEC) -> None:
        self.paused: list[float] = []
        self.logged: list[str] = []
        self.faulty = Faulty(fault)
        super().__init__(spec, create=lambda _: self.faulty, sleep=self.paused.append, log=self.logged.append)


def always(error: BaseException) -> Fault:
    def fault(texts: Sequence[str]) -> None:
        raise error

    return fault


def of_a_text(text: str, error: BaseException, times: int = 1000) -> Fault:
    left = [error] * times

    def fault(texts: Sequence[str]) -> None:
        if text in texts and left:
            raise left.pop()

    return fault


def test_vectors_are_the_embedders_own() -> None:
    guarded = Guarded(lambda texts: None)
    np.testing.assert_array_equal(guarded.embed(TEXTS), HashingEmbedder().embed(TEXTS))
    assert guarded.embed([]).shape == (0, 256)
    assert len(guarded.faulty.calls) == 2


def test_no_call_gets_more_texts_than_the_spec_allows() -> None:
    guarded = Guarded(lambda texts: None, replace(SPEC, texts_per_call=4))
    np.testing.assert_array_equal(guarded.embed(TEXTS), HashingEmbedder().embed(TEXTS))
    assert [len(texts) for texts in guarded.faulty.calls] == [4, 4, 2]
    assert guarded.embed([]).shape == (0, 256)


@pytest.mark.parametrize("error", [ConfigError("no key"), EmbedderUnavailableError("busy"), RefusedTextError("empty")])
def test_what_the_contract_names_is_raised_as_it_is(error: Exception) -> None:
    guarded = Guarded(always(error))
    with pytest.raises(type(error), match=f"^{error}$"):
        guarded.embed(TEXTS)
    assert len(guarded.faulty.calls) == 1
    assert not guarded.logged


@pytest.mark.parametrize("error", [TimeoutError("slow"), ConnectionError("down"), MemoryError(), ImportError("torn")])
def test_trouble_of_the_machine_or_the_network_may_pass(error: Exception) -> None:
    guarded = Guarded(always(error))
    with pytest.raises(EmbedderUnavailableError, match=type(error).__name__):
        guarded.embed(TEXTS)
    assert len(guarded.faulty.calls) == 1


@pytest.mark.parametrize("error", [ValueError("why"), StoreBusyError("not an embedder's"), SystemExit(1)])
def test_an_embedder_that_fails_with_every_text_condemns_none(error: BaseException) -> None:
    with pytest.raises(EmbedderUnavailableError, match="fails with every text"):
        Guarded(always(error)).embed(TEXTS)


def test_a_text_that_fails_alone_again_and_again_is_refused() -> None:
    guarded = Guarded(of_a_text("text 7", ValueError("password = hunter2")))
    with pytest.raises(RefusedTextError, match=r"failed with this text 3 times, and with no other: ValueError$"):
        guarded.embed(TEXTS)
    alone = guarded.faulty.calls[guarded.faulty.calls.index(["text 7"]) :]
    assert alone == [["text 7"], [PROBE], ["text 7"], [PROBE], ["text 7"]]
    assert len(guarded.paused) == 2


@pytest.mark.parametrize("times", range(1, 6))
def test_an_error_that_passes_condemns_no_text_and_costs_no_vector(times: int) -> None:
    guarded = Guarded(of_a_text("text 7", ValueError("why"), times))
    np.testing.assert_allclose(guarded.embed(TEXTS), HashingEmbedder().embed(TEXTS), atol=1e-6)


@pytest.mark.parametrize("error", [ConnectionError("down"), RefusedTextError("down"), KeyError("down")])
def test_an_embedder_that_takes_no_other_text_either_condemns_none(error: Exception) -> None:
    refuse = of_a_text("text 7", ValueError("why"))

    def fault(texts: Sequence[str]) -> None:
        refuse(texts)
        if texts == [PROBE]:
            raise error

    with pytest.raises(EmbedderUnavailableError, match=type(error).__name__):
        Guarded(fault).embed(TEXTS)


class OneTooFew(HashingEmbedder):
    def embed(self, texts: Sequence[str]) -> Vectors:
        return super().embed(texts[1:])


class NotANumber(HashingEmbedder):
    def embed(self, texts: Sequence[str]) -> Vectors:
        return super().embed(texts) * np.float32("nan")


@pytest.mark.parametrize("wrong", [OneTooFew(), NotANumber()])
def test_vectors_that_are_none_are_stored_for_no_text(wrong: HashingEmbedder) -> None:
    guarded = GuardedEmbedder(SPEC, create=lambda _: wrong, sleep=lambda _: None, log=lambda _: None)
    with pytest.raises(EmbedderUnavailableError, match="not the shape of 1 vectors, or not all are finite"):
        guarded.embed(TEXTS)


def test_an_embedder_that_cannot_be_loaded_is_loaded_again_at_the_next_call() -> None:
    errors = [OSError(5, "Input/output error"), ValueError("not a model"), ConfigError("not installed")]

    def create(spec: EmbedderSpec) -> HashingEmbedder:
        if errors:
            raise errors.pop(0)
        return HashingEmbedder()

    embedder = GuardedEmbedder(SPEC, create=create, log=lambda _: None)
    embedder.start()
    with pytest.raises(EmbedderUnavailableError, match="cannot be loaded: ValueError"):
        embedder.embed(TEXTS)
    with pytest.raises(ConfigError, match="not installed"):
        embedder.embed(TEXTS)
    assert embedder.embed(TEXTS).shape == (10, 256)


def test_an_unknown_kind_is_told_as_such() -> None:
    with pytest.raises(UsageError, match='no embedder "glove"'):
        GuardedEmbedder(EmbedderSpec("glove")).embed(TEXTS)


def test_what_a_library_says_is_logged_once_and_without_the_secret() -> None:
    guarded = Guarded(always(OSError("401 for the key hunter2")))
    for _ in range(3):
        with pytest.raises(EmbedderUnavailableError, match=r"401 for the key \*\*\*$"):
            guarded.embed(TEXTS)
    [logged] = guarded.logged
    assert "401 for the key ***" in logged
    assert "hunter2" not in logged


def test_a_secret_is_not_shown() -> None:
    assert "hunter2" not in repr(SPEC) + str(SPEC)
    assert SPEC.redacted("a key: hunter2") == "a key: ***"
    assert EmbedderSpec("hashing").redacted("a key") == "a key"
