"""`parallelai cache …`."""

from __future__ import annotations

import click

from parallelai.cli.shared import Shared, command, complete
from parallelai.store import CacheInfo


@click.group()
def cache() -> None:
    """Look at stored replies, or clear them."""


@cache.command()
@command
def info(shared: Shared) -> int:
    """Say how many replies are stored."""

    async def work() -> CacheInfo:
        async with shared.open() as ai:
            return ai.project.store.cache.info()

    found: CacheInfo = complete(work)
    shared.result(found, f"{found.entries} replies, {found.bytes / 1e6:.1f} MB")
    return 0


@cache.command()
@command
def clear(shared: Shared) -> int:
    """Forget all stored replies."""

    async def work() -> None:
        async with shared.open() as ai:
            ai.project.store.cache.clear()

    complete(work)
    shared.result({"ok": True}, "cleared")
    return 0
