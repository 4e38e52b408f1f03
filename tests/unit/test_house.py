"""What keeps the rooms of the source small enough to be read at once."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import reposyncd

LINES = 350
METHODS = 25

_SOURCE = Path(reposyncd.__file__).parent
_MODULES = {str(path.relative_to(_SOURCE)): path.read_text(encoding="utf-8") for path in _SOURCE.rglob("*.py")}


def _docstring_says_why(node: ast.Module | ast.ClassDef) -> bool:
    text = ast.get_docstring(node) or ""
    return "because" in text and ("is long" in text or "more than" in text)


def test_no_module_is_longer_than_can_be_read_at_once_unless_it_says_why() -> None:
    assert len(_MODULES) > 100
    long = [name for name, text in _MODULES.items() if text.count("\n") > LINES]
    assert [name for name in long if not _docstring_says_why(ast.parse(_MODULES[name]))] == []


def _classes() -> Iterator[tuple[str, ast.ClassDef]]:
    for name, text in _MODULES.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef):
                yield f"{name}: {node.name}", node


def test_no_class_offers_more_than_can_be_remembered_unless_it_says_why() -> None:
    offers = {
        name: sum(
            isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef) and not each.name.startswith("_")
            for each in node.body
        )
        for name, node in _classes()
        if not _docstring_says_why(node)
    }
    assert {name: count for name, count in offers.items() if count > METHODS} == {}


def test_every_class_has_a_name_of_its_own() -> None:
    names: dict[str, list[str]] = {}
    for place, node in _classes():
        # The JSON form of a value has the name of the value.
        if not node.name.startswith("_") and not place.startswith("app/messages.py"):
            names.setdefault(node.name, []).append(place)
    assert {name: places for name, places in names.items() if len(places) > 1} == {}
