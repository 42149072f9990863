"""What one instant task costs: through the facade, and in a bare asyncio loop that writes to SQLite.

The bare loop is the least that a durable run could do: a hundred tasks at once, of each a row that claims it, on
the disk before it starts, and a row with its result, on the disk before it is over; one thread writes what has
come, in groups (WAL, `synchronous = FULL`, as the journal). It has no plan, no dependencies, no retries, no limits,
no budget, no cache, no fingerprints, no result document.
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
    rows = Rows(folder / "bare.db")
    places = asyncio.Semaphore(AT_ONCE)

    async def task(number: int) -> None:
        async with places:
            await rows.write(number, "claimed", "")
            result = await _answer(number)
            await rows.write(number, "ended", json.dumps({"status": "ok", "text": result}))

    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(task(number))
    rows.close()
    took, used = time.time() - began, time.process_time() - cpu
    return {"whole": took * 1000 / count, "cpu": used * 1000 / count}


async def _answer(number: int) -> str:
    await asyncio.sleep(0)
    return f"ok {number}"


class Rows:
    """A table that one thread writes, in groups: all that came while it wrote the group before."""

    def __init__(self, path: Path) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: list[tuple[int, str, str]] = []
        self._next: asyncio.Future[None] = self._loop.create_future()
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._is_over = False
        self._thread = threading.Thread(target=self._write, args=(path,))
        self._thread.start()

    async def write(self, number: int, kind: str, data: str) -> None:
        """Add a row, and wait until it is on the disk."""
        with self._lock:
            self._queue.append((number, kind, data))
            future = self._next
        self._wake.set()
        await asyncio.shield(future)

    def close(self) -> None:
        self._is_over = True
        self._wake.set()
        self._thread.join()

    def _write(self, path: Path) -> None:
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE rows (task INTEGER, kind TEXT, data TEXT)")
        while not self._is_over:
            self._wake.wait()
            self._wake.clear()
            self._commit(connection)
        connection.close()

    def _commit(self, connection: sqlite3.Connection) -> None:
        with self._lock:
            future, self._next = self._next, self._loop.create_future()
            batch, self._queue = self._queue, []
        if batch:
            connection.execute("BEGIN")
            connection.executemany("INSERT INTO rows VALUES (?, ?, ?)", batch)
            connection.execute("COMMIT")
        self._loop.call_soon_threadsafe(future.set_result, None)


def _child(kind: str, count: int) -> None:
    measure = {"facade": facade, "bare": bare}[kind]
    with tempfile.TemporaryDirectory() as warm:
        asyncio.run(measure(Path(warm), 20))  # imports and first uses are start-up, not a task's
    gc.collect()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(asyncio.run(measure(Path(folder), count))))


if __name__ == "__main__":
    _child(sys.argv[1], int(sys.argv[2]))
