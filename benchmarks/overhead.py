"""What one instant task costs: through the facade, and in a bare asyncio loop that writes to SQLite.

The bare loop is the least that a durable run could do: a hundred tasks at once, a row when one starts and a row
with its result, written by one thread in groups (WAL, `synchronous = FULL` as the journal has it). It has no
plan, no dependencies, no retries, no limits, no cache, no fingerprints.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sqlite3
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure, Options, at_most, child, table

TASKS = 10_000
AT_ONCE = 100
BAR_MS = 0.2
BAR_RATIO = 5.0
PARTS = ("make tasks", "load, check, expand", "run", "report", "whole")


def run(options: Options) -> list[Figure]:
    ours: list[dict[str, float]] = []
    bare: list[dict[str, float]] = []
    for _ in range(options.rounds):  # taken in turns, so that what else the machine does hits both
        bare.append(child("overhead", "bare", str(TASKS)))
        ours.append(child("overhead", "facade", str(TASKS)))
    us, them = _best(ours), _best(bare)
    rows = [("ms a task, best of " + str(options.rounds), "parallelai", "bare loop", "ratio")]
    rows += [(f"  of that: {name}", f"{us[name]:.3f}", "", "") for name in PARTS[:-1]]
    for name in ("whole", "cpu"):
        rows.append((name, f"{us[name]:.3f}", f"{them[name]:.3f}", f"{us[name] / them[name]:.2f}"))
    print(table(rows))
    return [
        at_most("overhead of a journaled task", us["whole"], BAR_MS, " ms", 3),
        at_most("overhead over the bare loop", us["whole"] / them["whole"], BAR_RATIO, "×"),
    ]


def _best(rounds: Sequence[dict[str, float]]) -> dict[str, float]:
    """The round that was disturbed least: the parts belong together."""
    best = min(rounds, key=lambda one: one["whole"])
    return best | {"cpu": min(one["cpu"] for one in rounds)}


# What runs in a process of its own.


async def facade(folder: Path, count: int) -> dict[str, float]:
    """Carry out `count` tasks; milliseconds a task."""
    from parallelai import AsyncParallelAI, Task

    seen: dict[str, str] = {}

    def watch(events: Sequence[Any]) -> None:
        for event in events:
            if event.type in ("run.created", "run.ended"):
                seen[event.type] = event.at

    began, cpu = time.time(), time.process_time()
    tasks = [Task(id=f"t{n}", description=f"Do part {n}.", engine="mock") for n in range(count)]
    made = time.time()
    async with AsyncParallelAI(folder) as ai:
        document = await ai.execute(tasks=tasks, parallel=AT_ONCE, on_events=watch)
    ended, used = time.time(), time.process_time() - cpu
    if document.counts["ok"] != count:  # type: ignore[index]  # an outcome is its text
        raise RuntimeError(f"not every task ended well: {document.counts}")
    created, closed = (
        datetime.fromisoformat(seen[name]).timestamp() for name in ("run.created", "run.ended")
    )
    spans = (made - began, created - made, closed - created, ended - closed, ended - began)
    return {name: span * 1000 / count for name, span in zip((*PARTS, "cpu"), (*spans, used), strict=True)}


async def bare(folder: Path, count: int) -> dict[str, float]:
    """The same number of instant tasks, and two rows for each; milliseconds a task."""
    began, cpu = time.time(), time.process_time()
    rows: deque[tuple[int, str, str]] = deque()
    wake, is_over = threading.Event(), threading.Event()
    thread = threading.Thread(target=_commit, args=(folder / "bare.db", rows, wake, is_over))
    thread.start()
    places = asyncio.Semaphore(AT_ONCE)

    async def task(number: int) -> None:
        async with places:
            rows.append((number, "started", ""))
            wake.set()
            result = await _answer(number)
            rows.append((number, "ended", json.dumps({"status": "ok", "text": result})))
            wake.set()

    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(task(number))
    is_over.set()
    wake.set()
    thread.join()
    took, used = time.time() - began, time.process_time() - cpu
    return {"whole": took * 1000 / count, "cpu": used * 1000 / count}


async def _answer(number: int) -> str:
    await asyncio.sleep(0)
    return f"ok {number}"


def _commit(
    path: Path, rows: deque[tuple[int, str, str]], wake: threading.Event, is_over: threading.Event
) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE rows (task INTEGER, kind TEXT, data TEXT)")
    while True:
        wake.wait()
        wake.clear()
        is_last = is_over.is_set()
        batch = [rows.popleft() for _ in range(len(rows))]
        if batch:
            connection.execute("BEGIN")
            connection.executemany("INSERT INTO rows VALUES (?, ?, ?)", batch)
            connection.execute("COMMIT")
        if is_last:
            break
    connection.close()


def _child(kind: str, count: int) -> None:
    measure = {"facade": facade, "bare": bare}[kind]
    with tempfile.TemporaryDirectory() as warm:
        asyncio.run(measure(Path(warm), 20))  # imports and first uses are start-up, not a task's
    gc.collect()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(asyncio.run(measure(Path(folder), count))))


if __name__ == "__main__":
    _child(sys.argv[1], int(sys.argv[2]))
