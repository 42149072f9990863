"""One side's change was made on the other side, too, by commits of its own: the other has it and more.

Every commit of one side that touched the file is, as a change of this file, also one of the other side's. Single
edits that both sides' commits share are not enough: people did the same with these in seven cases of ten only.
"""

from __future__ import annotations

from parallelai.work.resolvers.records import Conflict, Past, rung


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
    return bool(other.changes) and not other.is_cut and set(other.changes) <= set(past.changes)
