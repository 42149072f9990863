"""Cut work into calls of bounded size, and carry several out at once."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from parallelai.errors import first_error

T = TypeVar("T")

MAX_BYTES = 128 * 1024
"""Bytes of one call's file names. Linux takes 2 MB of arguments and environment together, others less."""


def cut(paths: Sequence[str], *, files: int, max_bytes: int = MAX_BYTES) -> Iterator[tuple[str, ...]]:
    """Cut paths into batches of at most `files` and, as arguments, about `max_bytes`; none is empty."""
    batch: list[str] = []
    size = 0
    for path in paths:
        length = len(os.fsencode(path)) + 1
        if batch and (len(batch) >= files or size + length > max_bytes):
            yield tuple(batch)
            batch, size = [], 0
        batch.append(path)
        size += length
    if batch:
        yield tuple(batch)


async def carry_out(work: Callable[[T], Awaitable[None]], items: Iterable[T], *, at_once: int) -> None:
    """Do the work for each item, at most `at_once` at a time; the first error ends the rest and is raised."""
    waiting = iter(items)

    async def one_after_another() -> None:
        for item in waiting:
            await work(item)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(one_after_another())
    except BaseExceptionGroup as errors:
        raise first_error(errors) from None
