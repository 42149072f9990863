"""One side's change was made on the other side, too, by commits of its own: the other has it and more.

Every commit of one side that touched the file is, as a change of this file, also one of the other side's. Single
edits that both sides' commits share are not enough: people did the same with these in seven cases of ten only. What a
side has taken back (a revert, `work undo`), it has not.
"""

from __future__ import annotations

from parallelai.work.resolvers.records import Conflict, Past, Replaced, rung


@rung("cherry-picked", rank=40, scope="hunk")
def resolve(conflict: Conflict) -> bytes | None:
    """Take the side that has the other's commits."""
    ours, theirs = conflict.history.ours, conflict.history.theirs
    has_theirs, has_ours = _has(ours, theirs), _has(theirs, ours)
    if has_theirs == has_ours:
        return None
    return conflict.ours if has_theirs else conflict.theirs


def _has(past: Past, other: Past) -> bool:
    """Whether a past has all of another, which must be known whole."""
    has = set(past.changes)
    taken_back = any(_inverse(change) in has for change in other.changes)
    return bool(other.changes) and not other.is_cut and set(other.changes) <= has and not taken_back


def _inverse(change: tuple[Replaced, ...]) -> tuple[Replaced, ...]:
    """The change that takes a change back."""
    return tuple(Replaced(each.added, each.removed) for each in change)
