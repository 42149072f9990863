"""`parallelai cache …`."""

from __future__ import annotations

from parallelai.cli.grammar import group
from parallelai.cli.shared import Shared
from parallelai.client import AsyncParallelAI
from parallelai.store import CacheInfo


@group()
def cache() -> None:
    """Look at stored replies, or clear them."""


@cache.command()
def info(shared: Shared) -> int:
    """Say how many replies are stored."""

    async def work(ai: AsyncParallelAI) -> CacheInfo:
        return ai.project.store.cache.info()

    found: CacheInfo = shared.call(work)
    shared.result(found, f"{found.entries} replies, {found.bytes / 1e6:.1f} MB")
    return 0


@cache.command()
def clear(shared: Shared) -> int:
    """Forget all stored replies."""

    async def work(ai: AsyncParallelAI) -> None:
        ai.project.store.cache.clear()

    shared.call(work)
    shared.result({"ok": True}, "cleared")
    return 0
