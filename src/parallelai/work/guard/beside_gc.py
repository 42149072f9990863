"""What to do where programs beside a turn throw away what git has just written, and nothing refers to yet.

`git gc --prune=now`, `git prune` and `git repack -ad` spare nothing that is new. Whoever is at it then looks again,
a few times: what is written anew is there once the other program has passed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from parallelai.errors import ParallelAIError, Unavailable
from parallelai.git.plumbing import GitError
from parallelai.work.guard.aftercare import Aftercare

T = TypeVar("T")
WAITS = (0.1, 0.3, 1.0, 2.0, 4.0)
"""Seconds before each further try."""


async def despite_gc(
    care: Aftercare | None, look: Callable[[], Awaitable[T]], forget: Callable[[], None]
) -> T:
    """Do something with git; again where it fails while programs throw away, after `forget`.

    Raises what `look` raises, and `Unavailable` where that does not end.
    """
    for seconds in WAITS:
        try:
            return await look()
        except (GitError, FileNotFoundError):
            if care is None or not await care.has_pruned():
                raise
        await asyncio.sleep(seconds)
        await asyncio.to_thread(forget)
    try:
        return await look()
    except (GitError, FileNotFoundError) as error:
        why = error.said if isinstance(error, ParallelAIError) else str(error)
        said = (
            "programs beside it threw away what git had just written (`git gc`, `git prune` or `git repack`)"
        )
        advice = "run the same command again once none of them is at it; what it did is in its worktree"
        raise Unavailable(f"{said}: {why}", next=advice) from error
