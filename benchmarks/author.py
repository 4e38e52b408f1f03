"""Text that looks like code: the same for the same seed, and no two functions alike."""

from __future__ import annotations

import random

_VOCABULARY = """
buffer cache client close commit config count cursor decode delay digest encode entry error event fetch field file
filter flag format handle header index insert item key length limit line list load lock match merge message name
node offset open option order owner page parse path pool prefix queue range read record remove render request
result retry root row scan search select send session set size sort source split stack start state store stream
table target task text time token total trace tree update user value vector version wait width window write
"""
_WORDS = _VOCABULARY.split()
_SYLLABLES = [consonant + vowel for consonant in "bcdfghjklmnprstv" for vowel in "aeiou"]


class Author:
    """Writes functions of about the same length, each of its own identifiers."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)

    def function(self, characters: int = 1000) -> str:
        """One function of Python, of about so many characters."""
        names = [self._name() for _ in range(6)]
        lines = [f"def {self._name()}_{self._name()}({', '.join(names[:3])}):", f'    """{self._sentence()}"""']
        length = sum(map(len, lines))
        while length < characters - 40:
            lines.append(self._statement(names))
            length += len(lines[-1]) + 1
        lines.append(f"    return {self._random.choice(names)}\n")
        return "\n".join(lines)

    def file(self, functions: int) -> str:
        """A module of so many functions."""
        return "\n\n".join([f"import {self._name()}\n", *(self.function() for _ in range(functions))])

    def _name(self) -> str:
        word = self._random.choice(_WORDS)
        return word if self._random.random() < 0.5 else f"{word}_{''.join(self._random.sample(_SYLLABLES, 2))}"

    def _sentence(self) -> str:
        return " ".join(self._random.sample(_WORDS, 7)).capitalize() + "."

    def _statement(self, names: list[str]) -> str:
        pick = self._random
        one, two = pick.sample(names, 2)
        call = f"{pick.choice(_WORDS)}.{self._name()}({one}, {pick.randrange(1000)})"
        return pick.choice(
            (
                f"    {two} = {call}",
                f"    if {one} is None or {two} > {pick.randrange(100)}:\n        {two} = {call}",
                f"    for {self._name()} in {call}:\n        {one}.append({self._name()})",
                f"    # {self._sentence()}",
                f"    {one}, {two} = {two}, {self._name()}[{pick.randrange(10)}]",
            )
        )
