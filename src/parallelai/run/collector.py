"""Python's garbage collector while a run goes on.

A run makes hundreds of thousands of small records and keeps them to its end: almost none is garbage, and none is
part of a circle. With the usual threshold the collector looks at all of them again and again, which took a
quarter of the time of a run of ten thousand instant tasks.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

SELDOM = 250_000
"""How many new objects there are before it looks; Python's own number is 700.

A look at so many takes as long as hundreds of instant tasks, and ten thousand of those make fewer. Were all of them
garbage, it would be some 25 MB.
"""
OLD = 100
"""How often it looks at the new ones before it looks at the older ones, which hardly ever go; Python's is 10."""


@contextmanager
def collecting_seldom() -> Iterator[None]:
    """Let the collector look less often inside. What is in no circle is freed at once, as always."""
    before = gc.get_threshold()
    if not 0 < before[0] < SELDOM:  # it is switched off, or somebody chose a larger one
        yield
        return
    gc.set_threshold(SELDOM, OLD, before[2])
    try:
        yield
    finally:
        gc.set_threshold(*before)
