"""`parallelai cache …`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from parallelai.cli.grammar import group
from parallelai.cli.shared import Shared

if TYPE_CHECKING:
    from parallelai.client import AsyncParallelAI
    from parallelai.store import CacheInfo


@group()
def cache() -> None:
    """Look at stored replies, or clear them."""


@cache.command()
def info(shared: Shared) -> int:
    """Say how many replies are stored."""
    found = shared.read(_info)
    shared.result(found, _size(found))
    return 0


@cache.command()
def clear(shared: Shared) -> int:
    """Forget all stored replies."""

    def work(ai: AsyncParallelAI) -> CacheInfo:
        found = _info(ai)
        if found.entries:
            ai.project.store.cache.clear()
        return found

    found = shared.read(work)
    shared.result({"cleared": found.entries}, f"cleared: {_size(found)}")
    return 0


def _info(ai: AsyncParallelAI) -> CacheInfo:
    """What is stored; looking at it makes no state where there is none."""
    from parallelai.store import CacheInfo

    return ai.project.store.cache.info() if ai.project.has_store else CacheInfo(0, 0)


def _size(found: CacheInfo) -> str:
    return f"{found.entries} {'reply' if found.entries == 1 else 'replies'}, {found.bytes / 1e6:.1f} MB"
