"""The grammars, each loaded when its first file is read, and trees of texts.

What is parsed is hostile: its size is bounded, and what grammars need very long for is not parsed at all.
"""

from __future__ import annotations

import functools
import importlib
import os
from typing import TYPE_CHECKING

from msgspec import Struct

from parallelai.work.symbols.languages import BY_NAME, BY_SUFFIX, Language

if TYPE_CHECKING:
    from tree_sitter import Language as Grammar
    from tree_sitter import Query, Tree

MOST_BYTES = 2_000_000
"""Larger files are of no known language: they are generated."""
MOST_OPEN = 2_000
"""Brackets that are opened and not closed: grammars took up to 10 µs and 1 kB for each byte of such files."""
_FAMILIES = {"tsx": "typescript", "javascript": "typescript"}
_PAIRS = ((b"(", b")"), (b"[", b"]"), (b"{", b"}"))


class Loaded(Struct, frozen=True):
    """A language with its grammar and compiled queries."""

    language: Language
    grammar: Grammar
    definitions: Query
    uses: Query


def language_of(path: str) -> str | None:
    """Say which language a file is in, by its name; None where no grammar is there for it."""
    found = BY_SUFFIX.get(os.path.splitext(path)[1].lower())  # noqa: PTH122 - the path is git's, not this machine's
    return found.name if found else None


def family_of(path: str) -> str | None:
    """Say which language a file is in, of those that use each other's names as their own; as `language_of`."""
    found = language_of(path)
    return _FAMILIES.get(found, found) if found else None


@functools.cache
def load(name: str) -> Loaded | None:
    """Load a language's grammar; None where it is not installed, or too old for the queries."""
    import tree_sitter

    language = BY_NAME[name]
    try:
        module = importlib.import_module(language.package)
        grammar = tree_sitter.Language(getattr(module, language.entry)())
        queries = [tree_sitter.Query(grammar, text) for text in (language.definitions, language.uses)]
    except (ImportError, AttributeError, ValueError, tree_sitter.QueryError):
        return None
    return Loaded(language, grammar, *queries)


def parse(path: str, text: str | bytes) -> tuple[Loaded, bytes, Tree] | None:
    """Parse a file; None where its language is not known, or it is none that a person would have written."""
    name = language_of(path)
    if name is None:
        return None
    data = text.encode("utf-8", "replace") if isinstance(text, str) else text
    if len(data) > MOST_BYTES or b"\0" in data or _is_bottomless(data):
        return None
    loaded = load(name)
    if loaded is None:
        return None
    import tree_sitter

    # A parser of its own for each text: they keep state, and texts are parsed in several threads.
    tree = tree_sitter.Parser(loaded.grammar).parse(data)
    return None if tree is None else (loaded, data, tree)


def _is_bottomless(data: bytes) -> bool:
    return any(data.count(opening) - data.count(closing) > MOST_OPEN for opening, closing in _PAIRS)
