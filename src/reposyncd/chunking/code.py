"""Outline of source code, from its syntax tree.

Only nodes too large to fit a chunk are entered, so the cost is a few nodes a chunk, whatever the file. The walk
keeps its own stack: a tree may be deeper than Python's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from reposyncd.chunking.definitions import Table, table
from reposyncd.chunking.grammars import parse
from reposyncd.chunking.outline import DEFINITION, LARGE, LINE, PARAGRAPH, Outline, Scope, kind_of, strength

if TYPE_CHECKING:
    from tree_sitter import Node

DEPTH_LIMIT = 200
"""levels entered. Code nests a tenth of this; below it, rows are cut as plain lines."""

LARGE_SIZE = 400
"""characters, leading comments included: what is larger is worth a chunk of its own, and is cut off from its
neighbours whatever their sizes, so that they do not change with it. Measured: less gives more texts to embed when
code changes, more gives longer ones."""

_BRACKETS = ("{", "}", ")", "]")
"""A row that begins so belongs to what is before it."""


def outline_code(language: str, source: bytes, lines: Sequence[str], starts: Sequence[int], fit: int) -> Outline | None:
    """None when the language has no grammar here or the text is not worth parsing as it.

    `starts[row]` is where a row starts, in characters, with one entry more than there are rows. A node of at most
    `fit` characters is not looked into.
    """
    tree = parse(language, source)
    if tree is None:
        return None
    walk = _Walk(table(language), source, lines, starts, fit)
    walk.run(tree.root_node)
    return Outline(walk.strengths, tuple(walk.scopes), walk.leads)


class _Walk:
    def __init__(self, rules: Table, source: bytes, lines: Sequence[str], starts: Sequence[int], fit: int) -> None:
        self.strengths: dict[int, int] = {}
        self.scopes: list[Scope] = []
        self.leads: dict[int, int] = {}
        self._rules = rules
        self._source = source
        self._lines = lines
        self._starts = starts
        self._fit = fit

    def run(self, root: Node) -> None:
        pending = [(root, 0, -1, False, 0)]
        while pending:
            node, depth, scope, defines, levels = pending.pop()
            inner = self._enter(node, depth, scope, defines, root=levels == 0)
            if levels < DEPTH_LIMIT:
                pending += [(*entry, levels + 1) for entry in inner]

    def _enter(
        self, node: Node, depth: int, scope: int, defines: bool, root: bool
    ) -> list[tuple[Node, int, int, bool]]:
        """Note the children of a node; return those to enter: node, depth, scope, whether it is a definition.

        The first child that begins a row belongs with the head of its parent (`class A:`), and so do all the
        children of a definition itself: its body is one of them.
        """
        children = node.named_children
        if not children:
            return []
        lines, starts, strengths, rules = self._lines, self._starts, self.strengths, self._rules
        rows = len(lines)
        row, column = node.start_point
        if row >= rows:  # a root that holds nothing but a continued line begins behind the last one
            return []
        opening = children[0].start_byte == node.start_byte and not lines[row][:column].strip()
        headed = root or opening
        previous_end = -1 if root else row
        group, group_end = 0, -2  # rows of the leading siblings right before a child, then of the child itself
        after_large = found = False
        entered = []
        for child in children:
            first = child.start_point[0]
            last, column = child.end_point
            if column == 0 and last > first:
                last -= 1
            if first >= rows:
                break
            node_type = child.type
            leading = node_type in rules.leading or "comment" in node_type
            # A body that begins a row begins it with its first child, and the row is known from outside.
            known, opening = opening and not root, False
            own_row = (first > previous_end or known) and not lines[first].lstrip().startswith(_BRACKETS)
            if not own_row:
                group = first
            elif group_end != first - 1:
                group = first
                if not defines and not headed:
                    headed = True
                elif not defines and not known and first not in strengths:
                    blank = first > 0 and not lines[first - 1].strip()
                    strengths[first] = strength(depth, PARAGRAPH if blank else LINE)
                    found = True
            previous_end = max(previous_end, last)
            if leading:
                if own_row:
                    self.leads[first] = last + 1
                    group_end = last
                continue
            group_end = -2
            definition = rules.definition(child, node_type, self._source)
            inner_scope = scope
            if definition is not None:
                inner_scope = len(self.scopes)
                self.scopes.append(Scope(group, last, definition.name, scope))
            end = starts[min(last + 1, rows)]
            large = end - starts[group] > LARGE_SIZE
            if own_row and group in strengths and (large or after_large or definition is not None):
                strengths[group] += (LARGE if large or after_large else DEFINITION) - kind_of(strengths[group])
            after_large = large
            if last > first and end - starts[first] > self._fit:
                inside = child if definition is None else definition.node
                entered.append((inside, inner_scope, definition is not None))
        return [(inside, depth + found, within, is_one) for inside, within, is_one in reversed(entered)]
