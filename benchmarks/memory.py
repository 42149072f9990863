"""How much more memory 10,000 tasks take than a process that has everything imported and has done twenty."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from benchmarks.figures import Figure, Options, at_most, child, peak_bytes, table

TASKS = 10_000
IDLE_TASKS = 20
BAR_MB = 150


def run(options: Options) -> list[Figure]:
    idle = child("memory", str(IDLE_TASKS)) / 1e6
    full = child("memory", str(TASKS)) / 1e6
    rows = [
        ("peak memory", "MB"),
        (f"{IDLE_TASKS} tasks", f"{idle:.0f}"),
        (f"{TASKS:,} tasks", f"{full:.0f}"),
    ]
    print(table([*rows, ("the difference", f"{full - idle:.0f}")]))
    return [at_most("memory for 10,000 tasks", full - idle, BAR_MB, " MB", 0)]


if __name__ == "__main__":
    from benchmarks.overhead import facade

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(facade(Path(folder), int(sys.argv[1])))
    print(peak_bytes())
