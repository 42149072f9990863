"""Which names a file uses, and where."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from parallelai.work.symbols.grammars import Loaded, parse

if TYPE_CHECKING:
    from tree_sitter import Tree

MOST = 200_000
"""Uses of one file."""


class Use(Struct, frozen=True):
    """A name that is used: its line from 1, and whether it is called there."""

    name: str
    line: int
    is_call: bool


def references(path: str, text: str | bytes) -> frozenset[str]:
    """Give the bare names that a file uses: calls, imports, attributes, types. None for an unknown language."""
    return frozenset(use.name for use in uses(path, text))


def uses(path: str, text: str | bytes) -> tuple[Use, ...]:
    """Give each use of a name, in the order of the file. Names that are only bound there are none."""
    parsed = parse(path, text)
    return () if parsed is None else used(*parsed)


def used(loaded: Loaded, data: bytes, tree: Tree) -> tuple[Use, ...]:
    """Give the uses in a tree."""
    from tree_sitter import QueryCursor

    captures = QueryCursor(loaded.uses).captures(tree.root_node)
    bound = {node.start_byte for node in captures.get("bound", ())}
    calls = {node.start_byte for node in captures.get("call", ())}
    found: dict[int, Use] = {}
    for node in (*captures.get("use", ()), *captures.get("call", ())):
        at = node.start_byte
        if at in bound or at in found or len(found) >= MOST or node.end_byte - at > 200:
            continue
        name = data[at : node.end_byte].decode("utf-8", "replace")
        found[at] = Use(name, node.start_point.row + 1, at in calls)
    return tuple(found[at] for at in sorted(found))
