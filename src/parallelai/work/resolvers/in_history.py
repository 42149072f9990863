"""One side's text once stood in the other side's file, since the two parted: the other has gone on from it.

The text must not be in the base, and be long enough to be no chance: short texts come and go. Both sides must have
changed something that was there, and the other must not have deleted it: of what both put where nothing was, people
kept the newer one in two cases of three only. Nor must it have gone back to what the base has there (a revert, `work
undo`): it has not gone on from the text then.
"""

from __future__ import annotations

from parallelai.work.resolvers.lines import is_blank, lines, words
from parallelai.work.resolvers.records import Conflict, Past, rung

MIN_LINES = 3
MIN_CHARS = 30


@rung("in-history", rank=50, scope="hunk")
def resolve(conflict: Conflict) -> bytes | None:
    """Take the side that had the other's text, and changed it."""
    if not (words(conflict.base or b"") and words(conflict.ours or b"") and words(conflict.theirs or b"")):
        return None
    base = conflict.whole.base if conflict.whole is not None else conflict.base
    before = conflict.base or b""
    had_theirs = _was(conflict.theirs, conflict.history.ours, base, before)
    had_ours = _was(conflict.ours, conflict.history.theirs, base, before)
    if had_theirs == had_ours:
        return None
    return conflict.ours if had_theirs else conflict.theirs


def _was(text: bytes | None, past: Past, base: bytes | None, before: bytes) -> bool:
    if not text or sum(not is_blank(line) for line in lines(text)) < MIN_LINES:
        return False
    if len(words(text)) < MIN_CHARS or text in (base or b""):
        return False
    for version in past.versions:  # the newest first
        if _has(version, text):
            return True
        if _has(version, before):
            return False
    return False


def _has(version: bytes, text: bytes) -> bool:
    """Whether a text stands in a version, from the start of a line."""
    return version.startswith(text) or b"\n" + text in version
