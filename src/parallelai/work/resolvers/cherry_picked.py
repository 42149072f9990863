"""One side's change was made on the other side, too, by a commit of its own: the other has it and more.

Either every commit of one side that touched the file is, as a change of this file, also one of the other side's;
or each single edit of one side within the hunk is an edit of a commit of the other side.
"""

from __future__ import annotations

from parallelai.work.resolvers.lines import MAX_LINES, is_blank, lines, pieces
from parallelai.work.resolvers.records import Conflict, Past, rung


@rung("cherry-picked", rank=40, scope="hunk")
def resolve(conflict: Conflict) -> bytes | None:
    """Take the side that has the other's commits."""
    ours, theirs = conflict.history.ours, conflict.history.theirs
    mine, other = set(ours.changes), set(theirs.changes)
    has_theirs, has_ours = bool(other) and other <= mine, bool(mine) and mine <= other
    if has_theirs == has_ours:
        has_theirs, has_ours = _had(conflict, conflict.theirs, ours), _had(conflict, conflict.ours, theirs)
    if has_theirs == has_ours:
        return None
    return conflict.ours if has_theirs else conflict.theirs


def _had(conflict: Conflict, side: bytes | None, past: Past) -> bool:
    """Whether a past has each edit of a side. What only takes lines away proves nothing: it is too common."""
    base, text = lines(conflict.base), lines(side)
    if not past.changes or max(len(base), len(text)) > MAX_LINES:
        return False
    edits = pieces(base, text)
    if all(is_blank(line) for edit in edits for line in edit.added):
        return False
    made = {(one.removed, one.added) for change in past.changes for one in change}
    return all((base[edit.first : edit.last], edit.added) in made for edit in edits)
