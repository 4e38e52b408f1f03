"""A table of the nodes that are definitions, and of where their names are, for each language; and its interpreter.

A rule is `NAME [if STEPS [is WORD...]]`. NAME consists of one or more parts, joined with ` + `. A part is either
`'word`, which is a fixed name, or a sequence of steps from the node of the definition, joined with `/`. A step is a
field of the node (`name`), a field that is followed repeatedly as long as it exists (`declarator*`), the first child of
a type (`@arguments`), or the first named child (`#`). With `if`, the node is only a definition if the steps lead to a
node; with `is`, only if that node has one of these types or one of these texts.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tree_sitter import Node

_FUNCTION_VALUES = "arrow_function function_expression generator_function class"

_JAVASCRIPT = {
    "class_declaration generator_function_declaration function_declaration method_definition": "name",
    "variable_declarator": f"name if value is {_FUNCTION_VALUES}",
    "assignment_expression": f"left if right is {_FUNCTION_VALUES}",
    "pair": f"key if value is {_FUNCTION_VALUES}",
    "field_definition": f"property if value is {_FUNCTION_VALUES}",
}

_TYPESCRIPT = _JAVASCRIPT | {
    "abstract_class_declaration interface_declaration enum_declaration type_alias_declaration": "name",
    "internal_module module": "name if body",
    "function_signature method_signature abstract_method_signature": "name",
    "public_field_definition": f"name if value is {_FUNCTION_VALUES}",
}

_C = {
    "function_definition": "declarator*",
    "struct_specifier union_specifier enum_specifier": "name if body",
    "type_definition": "declarator*",
    "preproc_function_def": "name",
}

_RULES: dict[str, dict[str, str]] = {
    "python": {"class_definition function_definition": "name"},
    "javascript": _JAVASCRIPT,
    "typescript": _TYPESCRIPT,
    "tsx": _TYPESCRIPT,
    "go": {
        "function_declaration type_spec type_alias": "name",
        "method_declaration": "receiver + name",
    },
    "rust": {
        "function_item function_signature_item struct_item enum_item union_item trait_item type_item": "name",
        "macro_definition": "name",
        "impl_item": "type",
        "mod_item": "name if body",
    },
    "java": {
        "class_declaration interface_declaration enum_declaration record_declaration": "name",
        "annotation_type_declaration method_declaration constructor_declaration": "name",
        "compact_constructor_declaration": "name",
    },
    "c": _C,
    "cpp": _C | {"class_specifier concept_definition alias_declaration": "name", "namespace_definition": "name"},
    "c-sharp": {
        "namespace_declaration class_declaration struct_declaration interface_declaration": "name",
        "enum_declaration record_declaration delegate_declaration method_declaration": "name",
        "constructor_declaration destructor_declaration property_declaration": "name",
        "local_function_statement": "name",
    },
    "ruby": {"method singleton_method class module": "name"},
    "php": {
        "class_declaration interface_declaration trait_declaration enum_declaration": "name",
        "function_definition method_declaration": "name",
        "namespace_definition": "name if body",
    },
    "bash": {"function_definition": "name"},
    "toml": {"table table_array_element": "#"},
    "kotlin": {
        "class_declaration object_declaration function_declaration": "name",
        "companion_object": "'Companion",
        "secondary_constructor": "'constructor",
    },
    "swift": {
        "class_declaration protocol_declaration function_declaration protocol_function_declaration": "name",
        "init_declaration": "'init",
        "deinit_declaration": "'deinit",
    },
    "scala": {
        "class_definition object_definition trait_definition enum_definition given_definition": "name",
        "function_definition function_declaration type_definition": "name",
        "package_clause": "name if body",
    },
    "lua": {
        "function_declaration": "name",
        "assignment_statement": "@variable_list/# if @expression_list/# is function_definition",
    },
    "sql": {
        "create_table create_view create_materialized_view create_function create_type": "@object_reference",
        "create_trigger create_procedure create_sequence": "@object_reference",
    },
    "elixir": {
        "call": "@arguments/#/left*/target* if target is"
        " def defp defmacro defmacrop defmodule defprotocol defimpl defguard defguardp defdelegate"
    },
    "haskell": {"function bind class instance data_type newtype type_synonym": "name"},
}
"""Language to node types to rule."""

WRAPPERS = frozenset(
    [
        "ambient_declaration",
        "decorated_definition",
        "declaration_statement",
        "export_statement",
        "expression_statement",
        "field_declaration",
        "global_statement",
        "lexical_declaration",
        "statement",
        "template_declaration",
        "type_declaration",
        "variable_declaration",
    ]
)
"""Nodes that wrap a definition, which is one of their children: `export class A`, `@cached def f`."""

_LEADING: dict[str, frozenset[str]] = {
    "rust": frozenset({"attribute_item"}),
    "haskell": frozenset({"haddock", "pragma", "signature"}),
    "elixir": frozenset({"unary_operator"}),
    "cpp": frozenset({"access_specifier"}),
    "typescript": frozenset({"decorator"}),
    "tsx": frozenset({"decorator"}),
}
"""Language to types of nodes that belong to the sibling after them. Comments do so in every language."""

NAME_LIMIT = 200
"""Characters of a name. A longer one comes from a syntax error that includes its surroundings."""

WRAPPER_DEPTH = 4
"""Wrappers around a definition: `export const f = () => {}` has three, and readable code has no more."""

WRAPPED_CHILDREN = 16
"""How many children of a wrapper are examined. The definition is among the first ones, after the decorators."""


class Definition(NamedTuple):
    """A node that is a definition, and its name."""

    node: Node
    name: str


class _Rule(NamedTuple):
    parts: tuple[tuple[str, ...], ...]
    condition: tuple[str, ...]
    words: frozenset[str]


class Table:
    """The rules of one language."""

    def __init__(self, language: str) -> None:
        self._rules = {
            node_type: _parse(rule)
            for node_types, rule in _RULES.get(language, {}).items()
            for node_type in node_types.split()
        }
        self.leading = _LEADING.get(language, frozenset())
        """types of nodes, besides comments, that belong to the sibling after them"""

    def definition(self, node: Node, node_type: str, source: bytes) -> Definition | None:
        """The definition that `node` is or wraps; None if there is none. `node_type` is its type, `source` the parsed
        text."""
        for _ in range(WRAPPER_DEPTH):
            rule = self._rules.get(node_type)
            if rule is not None:
                name = _name(node, rule, source)
                if name:
                    return Definition(node, name)
            if node_type not in WRAPPERS:
                return None
            inner = [
                child
                for child in node.named_children[:WRAPPED_CHILDREN]
                if child.type in self._rules or child.type in WRAPPERS
            ]
            if len(inner) != 1:
                return None
            node = inner[0]
            node_type = node.type
        return None


@cache
def table(language: str) -> Table:
    """The table of a language; empty if the language has no definitions."""
    return Table(language)


def _parse(rule: str) -> _Rule:
    name, _, condition = rule.partition(" if ")
    steps, _, words = condition.partition(" is ")
    return _Rule(
        tuple(tuple(part.split("/")) for part in name.split(" + ")),
        tuple(steps.split("/")) if steps else (),
        frozenset(words.split()),
    )


def _name(node: Node, rule: _Rule, source: bytes) -> str:
    if rule.condition:
        found = _follow(node, rule.condition)
        if found is None:
            return ""
        if rule.words and found.type not in rule.words and _text(found, source) not in rule.words:
            return ""
    names = []
    for part in rule.parts:
        if part[0].startswith("'"):
            names.append(part[0][1:])
            continue
        found = _follow(node, part)
        if found is None or found == node:
            return ""
        names.append(_plain(_text(found, source)))
    return ".".join(name for name in names if name)


def _follow(node: Node, steps: tuple[str, ...]) -> Node | None:
    found: Node | None = node
    for step in steps:
        if found is None:
            return None
        if step == "#":
            found = found.named_child(0) if found.named_child_count else None
        elif step.startswith("@"):
            found = next((child for child in found.named_children if child.type == step[1:]), None)
        elif step.endswith("*"):
            field = step[:-1]
            while (inner := found.child_by_field_name(field)) is not None:
                found = inner
        else:
            found = found.child_by_field_name(step)
    return found


def _text(node: Node, source: bytes) -> str:
    """The text of a node. Taken from the source, since `Node.text` makes the parser read all of the source again."""
    start = node.start_byte
    return source[start : min(node.end_byte, start + 4 * NAME_LIMIT)].decode("utf-8", "replace")[:NAME_LIMIT]


_GENERICS = re.compile(r"<[^<>]*>|\[[^\[\]]*\]|\([^()]*\)")
_WORDS = re.compile(r"[\w$~?!.@#'=-]+")
_SEPARATORS = re.compile(r"::|\\|:")


def _plain(name: str) -> str:
    """`Foo` for "&dyn Foo<T>", `a.b.c` for "a::b::c", `A` for "(a *A[T])". Operators stay as they are."""
    name = " ".join(name.split())
    if "operator" in name or not re.search(r"\w", name):
        return name.replace("::", ".")
    bare = name[1:-1] if name[0] in "([\"'`" else name
    while (shorter := _GENERICS.sub("", bare)) != bare:
        bare = shorter
    words = _WORDS.findall(_SEPARATORS.sub(".", bare))
    return words[-1].strip(".") if words else name
