"""What other packages add to ParallelAI: engines, templates, formats, resolvers, strategies (entry points)."""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint, EntryPoints


def of_group(group: str) -> tuple[EntryPoint, ...]:
    """Give the entry points of a group, such as `parallelai.engines`.

    What is installed is looked up once for a search path: five rooms ask, and each look reads a file of every
    package there is. What is installed later is there for the next process.
    """
    return tuple(_all(tuple(sys.path)).select(group=group))


@functools.lru_cache(maxsize=4)
def _all(_path: tuple[str, ...]) -> EntryPoints:
    from importlib.metadata import entry_points  # slow to load

    return cast("EntryPoints", entry_points())  # Python 3.11 gives a class of its own, with the same `select`
