"""Edits of a tree, as rules of a state machine."""

from __future__ import annotations

import os
import shutil

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from tests.support import Lab

ODD = os.fsdecode(b"w\xe9")
"""A name that is not UTF-8."""

NAMES = st.sampled_from(
    ["a.py", "b.md", "c.txt", "x/a.py", "x/y/b.txt", "x/y/z/c.rs", "w/a.py", "n\nl.txt", f"{ODD}/a.py", f"x/{ODD}.py"]
)
DIRECTORIES = st.sampled_from(["x", "x/y", "x/y/z", "w", "v", ODD, f"x/{ODD}"])
BLOCKS = st.sampled_from(
    [
        "def first():\n" + "    step('one')  # a step of the first\n" * 20 + "\n\n",
        "def second():\n" + "    step('two')  # a step of the second\n" * 30 + "\n\n",
        "# A heading\n\nA paragraph of words that says little.\n\n",
        "class Third:\n    value = 3\n\n    def method(self):\n        return self.value\n\n\n",
        "x\n" * 400,
        "\n",
    ]
)
TEXTS = st.lists(BLOCKS, max_size=6).map("".join)
CONTENTS = st.one_of(TEXTS, st.just(b"\x00binary"), st.just("latin \xe9t\xe9\n".encode("latin-1")))
IGNORES = st.sampled_from(["", "*.txt\n", "x/\n", "/a.py\n!b.md\n", "x/*\n!x/y/\n", "w\n*.rs\n"])


class Edits(RuleBasedStateMachine):
    """What a person does to a tree. `change` is called after each."""

    lab: Lab

    def change(self) -> None:
        raise NotImplementedError

    @rule(name=NAMES, content=CONTENTS)
    def write(self, name: str, content: str | bytes) -> None:
        path = self.lab.root / name
        for parent in path.relative_to(self.lab.root).parents:
            if (self.lab.root / parent).is_file():
                (self.lab.root / parent).unlink()
        if path.is_dir():
            shutil.rmtree(path)
        self.lab.write({name: content})
        self.change()

    @rule(name=NAMES, block=TEXTS)
    def append(self, name: str, block: str) -> None:
        path = self.lab.root / name
        if path.is_file():
            with path.open("a") as file:
                file.write(block)
            self.change()

    @rule(name=st.one_of(NAMES, DIRECTORIES))
    def delete(self, name: str) -> None:
        self.lab.write({name: None})
        self.change()

    @rule(old=st.one_of(NAMES, DIRECTORIES), new=st.one_of(NAMES, DIRECTORIES))
    def rename(self, old: str, new: str) -> None:
        source, target = self.lab.root / old, self.lab.root / new
        if source.exists() and not target.exists() and target.parent.is_dir() and source not in target.parents:
            source.rename(target)
            self.change()

    @rule(where=st.sampled_from(["", "x/"]), rules=IGNORES)
    def ignore(self, where: str, rules: str) -> None:
        if (self.lab.root / where).is_dir():
            self.lab.write({f"{where}.gitignore": rules})
            self.change()
