"""One side's change is contained in the other's: the larger one has both.

Three shapes were right on real merges. Word by word, every edit of one side is also an edit of the other, at the
same place. Or both only take lines away, and one takes more. Or both replace lines, and what one puts there is, in
its order, a part of what the other puts there, for at least as many lines. A change against a deletion is none
of them: that would be one side over the other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from parallelai.work.resolvers.lines import MAX_LINES, Piece, is_blank, is_subsequence, lines, pieces
from parallelai.work.resolvers.records import Conflict, rung

MAX_WORDS = 1500
_WORD = re.compile(rb"\w+|[^\w\s]")
Inside = Callable[[Sequence[Piece], Sequence[Piece]], bool]


@rung("contained", rank=30, scope="hunk")
def resolve(conflict: Conflict) -> bytes | None:
    """Take the side whose change has the other's in it."""
    texts = (conflict.base, conflict.ours, conflict.theirs)
    by_word = [_WORD.findall(text or b"") for text in texts]
    if by_word[0] and max(map(len, by_word)) <= MAX_WORDS:
        found = _larger(conflict, by_word, _same_edits)
        if found is not None:
            return found
    by_line = [lines(text) for text in texts]
    return _larger(conflict, by_line, _lines_inside) if max(map(len, by_line)) <= MAX_LINES else None


def _larger(conflict: Conflict, texts: Sequence[Sequence[bytes]], inside: Inside) -> bytes | None:
    base, mine, other = texts
    ours, theirs = pieces(base, mine), pieces(base, other)
    is_ours, is_theirs = inside(theirs, ours), inside(ours, theirs)
    if is_ours == is_theirs:
        return None
    return conflict.ours if is_ours else conflict.theirs


def _same_edits(small: Sequence[Piece], large: Sequence[Piece]) -> bool:
    edits = set(large)
    return bool(small) and all(piece in edits for piece in small)


def _lines_inside(small: Sequence[Piece], large: Sequence[Piece]) -> bool:
    gone, more = _removed(small), _removed(large)
    if not gone or not gone <= more:
        return False
    put, other = _added(small), _added(large)
    return is_subsequence(put, other) if put else not any(piece.added for piece in (*small, *large))


def _removed(change: Sequence[Piece]) -> set[int]:
    return {at for piece in change for at in range(piece.first, piece.last)}


def _added(change: Sequence[Piece]) -> list[bytes]:
    return [line for piece in change for line in piece.added if not is_blank(line)]
