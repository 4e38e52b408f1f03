"""Makes the outline of source code from its syntax tree.

Only nodes that are too large for one chunk are entered, so the cost is a few nodes for each chunk, whatever the file.
The walk uses its own stack, since a tree may be deeper than Python's stack allows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from reposyncd.chunking.definitions import Table, table
from reposyncd.chunking.grammars import parse
from reposyncd.chunking.outline import DEFINITION, LARGE, LINE, PARAGRAPH, Outline, SymbolSpan, kind_of, strength

if TYPE_CHECKING:
    from tree_sitter import Node

DEPTH_LIMIT = 200
"""How many levels are entered. Real code has a tenth of these. Deeper rows are cut as plain lines."""

LARGE_SIZE = 400
"""Characters, including leading comments. A larger definition gets chunks of its own, whatever the sizes of its
neighbours, so that these do not change when it does. Measured: with a smaller value, changes of code cause more texts
to embed; with a larger one, they cause longer texts."""

_BRACKETS = ("{", "}", ")", "]")
"""A row that begins with one of these belongs to what precedes it."""


def outline_code(language: str, source: bytes, lines: Sequence[str], starts: Sequence[int], fit: int) -> Outline | None:
    """The outline; None if there is no grammar for the language, or the text costs too much to parse in it.

    `starts[row]` is where a row starts, in characters; there is one entry more than there are rows. Nodes of at most
    `fit` characters are not entered.
    """
    tree = parse(language, source)
    if tree is None:
        return None
    walk = _Walk(table(language), source, lines, starts, fit)
    walk.run(tree.root_node)
    return Outline(walk.strengths, tuple(walk.spans), walk.leads)


class _Walk:
    def __init__(self, rules: Table, source: bytes, lines: Sequence[str], starts: Sequence[int], fit: int) -> None:
        self.strengths: dict[int, int] = {}
        self.spans: list[SymbolSpan] = []
        self.leads: dict[int, int] = {}
        self._rules = rules
        self._source = source
        self._lines = lines
        self._starts = starts
        self._fit = fit

    def run(self, root: Node) -> None:
        pending = [(root, 0, -1, False, 0)]
        while pending:
            node, depth, span, defines, levels = pending.pop()
            inner = self._enter(node, depth, span, defines, root=levels == 0)
            if levels < DEPTH_LIMIT:
                pending += [(*entry, levels + 1) for entry in inner]

    def _enter(self, node: Node, depth: int, span: int, defines: bool, root: bool) -> list[tuple[Node, int, int, bool]]:
        """Records the children of a node. Returns those to enter: (node, depth, span, whether it is a definition).

        The first child that begins a row belongs to the head of its parent (`class A:`). So do all children of a
        definition itself: its body is one of them.
        """
        children = node.named_children
        if not children:
            return []
        lines, starts, strengths, rules = self._lines, self._starts, self.strengths, self._rules
        rows = len(lines)
        row, column = node.start_point
        if row >= rows:  # a root with nothing but a continued line begins after the last row
            return []
        opening = children[0].start_byte == node.start_byte and not lines[row][:column].strip()
        headed = root or opening
        previous_end = -1 if root else row
        group, group_end = 0, -2  # first and last row of the leading siblings directly before a child
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
            # If a body begins a row, so does its first child, and the row has been recorded for the body already.
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
            inner_span = span
            if definition is not None:
                inner_span = len(self.spans)
                self.spans.append(SymbolSpan(group, last, definition.name, span))
            end = starts[min(last + 1, rows)]
            large = end - starts[group] > LARGE_SIZE
            if own_row and group in strengths and (large or after_large or definition is not None):
                strengths[group] += (LARGE if large or after_large else DEFINITION) - kind_of(strengths[group])
            after_large = large
            if last > first and end - starts[first] > self._fit:
                inside = child if definition is None else definition.node
                entered.append((inside, inner_span, definition is not None))
        return [(inside, depth + found, within, is_one) for inside, within, is_one in reversed(entered)]
