"""Both sides made the same of it."""

from __future__ import annotations

from parallelai.work.resolvers.records import Conflict, rung


@rung("identical", rank=10, scope="hunk")
def resolve(conflict: Conflict) -> bytes | None:
    """Take what both have."""
    return conflict.ours if conflict.ours == conflict.theirs else None
