"""Texts as lines, and what one changed in another: what several resolvers look at."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from msgspec import Struct

MAX_LINES = 2000
"""Hunks with more lines are left to others: comparing takes the square of it."""


def lines(text: bytes | None) -> tuple[bytes, ...]:
    """The lines of a text with their ends, split at line feeds only, as git does."""
    if not text:
        return ()
    parts = text.split(b"\n")
    kept = [part + b"\n" for part in parts[:-1]]
    return (*kept, parts[-1]) if parts[-1] else tuple(kept)


def bare(line: bytes) -> bytes:
    """A line without its end and what space stands before it."""
    return line.rstrip()


def is_blank(line: bytes) -> bool:
    return not line.strip()


def words(text: bytes) -> bytes:
    """A text without any white space."""
    return b"".join(text.split())


class Piece(Struct, frozen=True):
    """Lines `first` to `last` (exclusive, from 0) of the old text became `added`."""

    first: int
    last: int
    added: tuple[bytes, ...]


def pieces(old: Sequence[bytes], new: Sequence[bytes]) -> list[Piece]:
    """What is different in a new text, in the old one's order. Both are short (`MAX_LINES`)."""
    matcher = difflib.SequenceMatcher(None, list(old), list(new), autojunk=False)
    return [
        Piece(i1, i2, tuple(new[j1:j2])) for tag, i1, i2, j1, j2 in matcher.get_opcodes() if tag != "equal"
    ]


def is_run(part: Sequence[bytes], whole: Sequence[bytes]) -> bool:
    """Whether lines stand one after another in a text."""
    if not part:
        return True
    first, length = part[0], len(part)
    return any(
        line == first and tuple(whole[at : at + length]) == tuple(part) for at, line in enumerate(whole)
    )


def is_subsequence(part: Sequence[bytes], whole: Sequence[bytes]) -> bool:
    """Whether lines are found in a text in their order, others between them."""
    rest = iter(whole)
    return all(any(line == other for other in rest) for line in part)
