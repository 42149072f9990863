"""1,000 calls of 200 ms, 100 at once, through the facade with a scripted mock, beside bare asyncio."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.figures import Figure, Options, at_most, child, table

CALLS = 1000
AT_ONCE = 100
LATENCY_SECONDS = 0.2
IDEAL_SECONDS = CALLS / AT_ONCE * LATENCY_SECONDS
BAR = 1.10


def run(options: Options) -> list[Figure]:
    ours: list[float] = []
    bare: list[float] = []
    for _ in range(options.rounds):
        bare.append(child("calls", "bare"))
        ours.append(child("calls", "facade"))
    rows = [("1,000 calls of 200 ms, 100 at once", "seconds", "of the ideal")]
    for name, seconds in (("ideal", IDEAL_SECONDS), ("bare asyncio", min(bare)), ("parallelai", min(ours))):
        rows.append((name, f"{seconds:.3f}", f"{seconds / IDEAL_SECONDS:.3f}"))
    print(table(rows))
    return [at_most("1,000 calls of 200 ms, 100 at once", min(ours) / IDEAL_SECONDS, BAR, "× ideal", 3)]


async def facade(folder: Path, count: int) -> float:
    from parallelai import AsyncParallelAI, Task
    from parallelai.engines.mock import MockEngine, Rule

    engine = MockEngine("slow", script=[Rule(latency=LATENCY_SECONDS, text="done")])
    tasks = [Task(id=f"t{n}", description=f"Do part {n}.", engine="slow") for n in range(count)]
    began = time.perf_counter()
    async with AsyncParallelAI(folder, engines=[engine]) as ai:
        document = await ai.execute(tasks=tasks, parallel=AT_ONCE)
    took = time.perf_counter() - began
    if document.exit != 0:
        raise RuntimeError(f"not every task ended well: {document.counts}")
    return took


async def bare(folder: Path, count: int) -> float:
    places = asyncio.Semaphore(AT_ONCE)

    async def call() -> None:
        async with places:
            await asyncio.sleep(LATENCY_SECONDS)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(call())
    return time.perf_counter() - began


def _child(kind: str) -> None:
    measure = {"facade": facade, "bare": bare}[kind]
    with tempfile.TemporaryDirectory() as warm:
        asyncio.run(measure(Path(warm), 2))
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(asyncio.run(measure(Path(folder), CALLS))))


if __name__ == "__main__":
    _child(sys.argv[1])
