"""One side changed white space only: the other side's change is kept, and so is the new space.

White space here is blank lines, space at the ends of lines, and one shift of the indentation, the same for all
lines. What was put elsewhere (space within lines, lines broken anew) is not looked at: people settled less than a
third of these by either side.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from parallelai.work.resolvers.lines import MAX_LINES, Piece, is_blank, lines, pieces
from parallelai.work.resolvers.records import Conflict, rung

MIN_SHIFTED = 2
"""One line alone does not tell by how much new lines would have to be moved."""


@rung("whitespace", rank=20, scope="hunk")
def resolve(conflict: Conflict) -> bytes | None:
    """Lay one side's content over the other side's space."""
    base, ours, theirs = (_read(text) for text in (conflict.base, conflict.ours, conflict.theirs))
    if max(len(base.rows), len(ours.rows), len(theirs.rows)) > MAX_LINES or not base.rows:
        return None
    if ours.stripped() == theirs.stripped():
        return conflict.ours if ours.rows and _same_but_ends(ours, theirs) else None
    for spaced, other in ((ours, theirs), (theirs, ours)):
        if spaced != base and spaced.stripped() == base.stripped() and other.rows:
            return _laid_over(base, spaced, other)
    return None


class _Row(Struct, frozen=True):
    """A line that is not blank, and the blank ones before it."""

    blanks: tuple[bytes, ...]
    line: bytes


class _Text(Struct, frozen=True):
    rows: tuple[_Row, ...]
    rest: tuple[bytes, ...]

    def stripped(self) -> list[bytes]:
        return [row.line.strip() for row in self.rows]


def _read(text: bytes | None) -> _Text:
    rows: list[_Row] = []
    blanks: list[bytes] = []
    for line in lines(text):
        if is_blank(line):
            blanks.append(line)
        else:
            rows.append(_Row(tuple(blanks), line))
            blanks = []
    return _Text(tuple(rows), tuple(blanks))


def _same_but_ends(one: _Text, other: _Text) -> bool:
    return [row.line.rstrip() for row in one.rows] == [row.line.rstrip() for row in other.rows]


class _Shift(Struct, frozen=True):
    """How the indentation changed: what was cut from each line's start, and what was put there."""

    cut: bytes = b""
    put: bytes = b""

    def of(self, line: bytes) -> bytes | None:
        return self.put + line[len(self.cut) :] if line.startswith(self.cut) else None


def _laid_over(base: _Text, spaced: _Text, other: _Text) -> bytes | None:
    shift = _shift(base, spaced)
    if shift is None:
        return None
    old = [row.line.rstrip() for row in base.rows]
    found: list[bytes] = []
    at = new = 0
    for piece in pieces(old, [row.line.rstrip() for row in other.rows]):
        if _is_spaced_anew(base, spaced, piece):
            return None
        for step in range(piece.first - at):
            _put(found, base.rows[at + step], spaced.rows[at + step], other.rows[new + step].blanks)
        new += piece.first - at
        for row in other.rows[new : new + len(piece.added)]:
            moved = shift.of(row.line)
            if moved is None:
                return None
            found += (*row.blanks, moved)
        new, at = new + len(piece.added), piece.last
    for step in range(len(base.rows) - at):
        _put(found, base.rows[at + step], spaced.rows[at + step], other.rows[new + step].blanks)
    found += _blanks(base.rest, spaced.rest, other.rest)
    return b"".join(found)


def _is_spaced_anew(base: _Text, spaced: _Text, piece: Piece) -> bool:
    """Whether blank lines came or went right where the other side changed lines: people settled these by taste."""
    around = range(piece.first, min(piece.last + 1, len(base.rows)))
    if any(len(base.rows[at].blanks) != len(spaced.rows[at].blanks) for at in around):
        return True
    return piece.last == len(base.rows) and len(base.rest) != len(spaced.rest)


def _put(found: list[bytes], base: _Row, spaced: _Row, blanks: tuple[bytes, ...]) -> None:
    """Put a line that only its space changed of, with the blank lines before it that either side changed."""
    found += (*_blanks(base.blanks, spaced.blanks, blanks), spaced.line)


def _blanks(base: Sequence[bytes], spaced: Sequence[bytes], other: Sequence[bytes]) -> Sequence[bytes]:
    return spaced if len(other) == len(base) else other


def _shift(base: _Text, spaced: _Text) -> _Shift | None:
    """The one change of indentation of all lines; None where there are several, or too few to tell."""
    found = set()
    for old, new in zip(base.rows, spaced.rows, strict=True):
        before, after = _indent(old.line), _indent(new.line)
        if after.endswith(before):
            found.add(_Shift(b"", after[: len(after) - len(before)]))
        elif before.endswith(after):
            found.add(_Shift(before[: len(before) - len(after)], b""))
        else:
            return None
    if len(found) != 1 or (len(base.rows) < MIN_SHIFTED and found != {_Shift()}):
        return None
    return found.pop()


def _indent(line: bytes) -> bytes:
    return line[: len(line) - len(line.lstrip(b" \t"))]
