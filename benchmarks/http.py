"""1,000 calls of exactly 200 ms to a model server on this machine, 100 at once, and 5,000 at the same ratio.

Through the facade, as a review of as many files, with `openai` and `anthropic`; beside bare aiohttp, which sends the
same prompts and keeps nothing. The server runs in a process of its own and says itself when the first request came
and when the last answer went. CPU time is that of the caller's process: reading the files, the journal, the findings
and the document included.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.figures import ROOT, Figure, Options, at_most, child, environment, table

SIZES = (1000, 5000)
AT_ONCE = 100
LATENCY_SECONDS = 0.2
BAR_RATIO = 1.15
BAR_CPU_MS = 1.0
BAR_CONNECTIONS = 100
KINDS = ("bare", "openai", "anthropic")
SERVER = ROOT / "tests" / "engines" / "loopback.py"
SOURCE = "def total(prices):\n    result = 0\n    for price in prices:\n        result += price\n    return result\n"


class Server:
    """The server, and what it saw since it was last asked."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(SERVER), str(LATENCY_SECONDS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        self.port = int(self._line())

    def seen(self) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        found: dict[str, Any] = json.loads(self._line())
        return found

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def close(self) -> None:
        self._process.communicate("")


def run(options: Options) -> list[Figure]:
    server = Server()
    try:
        figures: list[Figure] = []
        for count in SIZES:
            figures += _measure(server, count, options.rounds if count == SIZES[0] else 2)
        return figures
    finally:
        server.close()


def _measure(server: Server, count: int, rounds: int) -> list[Figure]:
    ideal = count / AT_ONCE * LATENCY_SECONDS
    found: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
    for _ in range(rounds):  # taken in turns, so that what else the machine does hits all
        for kind in KINDS:
            one: dict[str, float] = child("http", kind, str(count), str(server.port))
            found[kind].append({**one, **server.seen()})
    rows = [(f"{count:,} calls of 200 ms, 100 at once", "seconds", "of the ideal", "CPU ms", "connections")]
    figures: list[Figure] = []
    for kind, ones in found.items():
        best = min(ones, key=lambda one: one["seconds"])
        cpu = min(one["cpu"] for one in ones) * 1000 / count
        wrong = [one["requests"] for one in ones if one["requests"] != count]
        if wrong:
            raise RuntimeError(f"{kind}: the server saw {wrong[0]} requests, not {count}")
        ratio, connections = best["seconds"] / ideal, max(one["connections"] for one in ones)
        rows.append((kind, f"{best['seconds']:.3f}", f"{ratio:.3f}", f"{cpu:.2f}", f"{connections:.0f}"))
        if kind != "bare":
            name = f"{count:,} calls through `{kind}`"
            figures.append(at_most(name, ratio, BAR_RATIO, "× ideal", 3))
            figures.append(at_most(f"{name}: CPU a call", cpu, BAR_CPU_MS, " ms"))
            figures.append(at_most(f"{name}: connections", connections, BAR_CONNECTIONS, "", 0))
    print(table(rows))
    return figures


# What runs in a process of its own.


async def bare(folder: Path, count: int, url: str, model: str) -> float:
    """As many workers as calls at once, each with the next prompt; seconds of CPU."""
    import aiohttp

    began = time.process_time()
    numbers = iter(range(count))

    async def work(session: aiohttp.ClientSession) -> None:
        for number in numbers:
            prompt = f"Review src/part{number}.py:\n{SOURCE}"
            body = {"model": model, "messages": [{"role": "user", "content": prompt}]}
            async with session.post(f"{url}/chat/completions", json=body) as response:
                json.loads((await response.json())["choices"][0]["message"]["content"])

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session, asyncio.TaskGroup() as group:
        for _ in range(min(AT_ONCE, count)):
            group.create_task(work(session))
    return time.process_time() - began


async def facade(folder: Path, count: int, url: str, model: str, use: str) -> float:
    """A review of `count` files, from the call to its document; seconds of CPU."""
    from parallelai import AsyncParallelAI

    config = f'[engines.model]\nuse = "{use}"\nbase_url = "{url}"\nmodel = "{model}"\n'
    (folder / "parallelai.toml").write_text(config)
    (folder / "src").mkdir()
    for number in range(count):
        (folder / "src" / f"part{number}.py").write_text(f"# part {number}\n{SOURCE}")
    os.chdir(folder)
    began = time.process_time()
    async with AsyncParallelAI(folder, trust=True) as ai:
        document = await ai.review("src", engine="model", parallel=AT_ONCE)
    used = time.process_time() - began
    if document.counts["ok"] != count:  # type: ignore[index]  # an outcome is its text
        raise RuntimeError(f"not every task ended well: {document.counts} {document.tasks[0].error}")
    return used


def _child(kind: str, count: int, url: str) -> None:
    async def measure(size: int, model: str) -> float:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            if kind == "bare":
                return await bare(folder, size, url, model)
            return await facade(folder, size, url, model, kind)

    asyncio.run(
        measure(2, "warm")
    )  # what is loaded once is not the price of a call; the server does not count it
    print(json.dumps({"cpu": asyncio.run(measure(count, "small"))}))


if __name__ == "__main__":
    _child(sys.argv[1], int(sys.argv[2]), f"http://127.0.0.1:{sys.argv[3]}/v1")
