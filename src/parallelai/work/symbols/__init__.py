"""Definitions and uses of names in a file, by tree-sitter; a grammar is loaded when its first file is read.

Nothing here raises on any text: a file that is too large, has NULs or is of an unknown language defines nothing
and uses nothing.
"""

from parallelai.work.symbols.definitions import Definition, definitions
from parallelai.work.symbols.grammars import family_of, language_of, parse
from parallelai.work.symbols.uses import Use, references, uses

__all__ = ["Definition", "Use", "definitions", "family_of", "language_of", "parses", "references", "uses"]


def parses(path: str, text: str | bytes) -> bool | None:
    """Say whether a file has no syntax errors; None where its language is not known."""
    parsed = parse(path, text)
    return None if parsed is None else not parsed[2].root_node.has_error
