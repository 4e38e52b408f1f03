"""Outline of source code, from its syntax tree.

Only nodes too large to fit a chunk are entered, so the cost is a few nodes a chunk, whatever the file. The walk
keeps its own stack: a tree may be deeper than Python's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reposyncd.chunking.definitions import Table, table
from reposyncd.chunking.grammars import parse
from reposyncd.chunking.outline import DEFINITION, LINE, PARAGRAPH, Outline, Scope, kind_of, strength

if TYPE_CHECKING:
    from tree_sitter import Node

DEPTH_LIMIT = 200
"""levels entered. Code nests a tenth of this; below it, rows are cut as plain lines."""

_BRACKETS = ("{", "}", ")", "]")
"""A row that begins so belongs to what is before it."""


def outline_code(language: str, source: bytes, lines: list[str], starts: list[int], fit: int) -> Outline | None:
    """None when the language has no grammar here or the text is not worth parsing as it.

    `starts[row]` is where a row starts, in characters, with one entry more than there are rows. A node of at most
    `fit` characters is not looked into.
    """
    tree = parse(language, source)
    if tree is None:
        return None
    walk = _Walk(table(language), lines, starts, fit)
    walk.run(tree.root_node)
    return Outline(walk.strengths, tuple(walk.scopes), walk.leads)


class _Walk:
    def __init__(self, rules: Table, lines: list[str], starts: list[int], fit: int) -> None:
        self.strengths: dict[int, int] = {}
        self.scopes: list[Scope] = []
        self.leads: dict[int, int] = {}
        self._rules = rules
        self._lines = lines
        self._starts = starts
        self._fit = fit

    def run(self, root: Node) -> None:
        pending = [(root, 0, -1, False, 0)]
        while pending:
            node, depth, scope, defines, levels = pending.pop()
            large = self._enter(node, depth, scope, defines, root=levels == 0)
            if levels < DEPTH_LIMIT:
                pending += [(*entry, levels + 1) for entry in reversed(large)]

    def _enter(
        self, node: Node, depth: int, scope: int, defines: bool, root: bool
    ) -> list[tuple[Node, int, int, bool]]:
        """Note the children of a node; return those to enter: node, depth, scope, whether it is a definition.

        The first child that begins a row belongs with the head of its parent (`class A:`), and so do all the
        children of a definition itself: its body is one of them.
        """
        lines, starts, rows = self._lines, self._starts, len(self._lines)
        children = node.named_children
        if not children:
            return []
        previous_end = -1 if root else node.start_point[0]
        headed = root or (
            children[0].start_byte == node.start_byte and not lines[previous_end][: node.start_point[1]].strip()
        )
        found = False
        group = group_end = -2  # rows of the leading siblings right before this child
        large = []
        for child in children:
            first = child.start_point[0]
            last, column = child.end_point
            if column == 0 and last > first:
                last -= 1
            if first >= rows:
                break
            node_type = child.type
            leads = self._rules.leads(node_type)
            definition = None if leads else self._rules.definition(child, node_type)
            own_row = first > previous_end and not lines[first].lstrip().startswith(_BRACKETS)
            attached = own_row and group_end == first - 1
            if own_row and not attached:
                group = first
                if not defines:
                    if not headed:
                        headed = True
                    elif first not in self.strengths:
                        blank = first > 0 and not lines[first - 1].strip()
                        self.strengths[first] = strength(depth, PARAGRAPH if blank else LINE)
                        found = True
            if leads:
                if own_row:
                    self.leads[first] = last + 1
                    group_end = last
            else:
                group_end = -2
            inner_scope = scope
            if definition is not None:
                from_row = group if own_row else first
                if own_row and group in self.strengths:
                    self.strengths[group] -= kind_of(self.strengths[group]) - DEFINITION
                inner_scope = len(self.scopes)
                self.scopes.append(Scope(from_row, last, definition.name, scope))
            previous_end = max(previous_end, last)
            if last > first and starts[min(last + 1, rows)] - starts[first] > self._fit:
                inside = child if definition is None else definition.node
                large.append((inside, inner_scope, definition is not None))
        deeper = depth + found
        return [(inside, deeper, inner_scope, is_definition) for inside, inner_scope, is_definition in large]
