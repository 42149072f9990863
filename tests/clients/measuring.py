"""What each client makes of each fault, as a table for the docs.

    PYTHONPATH=tests:tests/engines python -m clients.measuring

prints Markdown: the error that it became, the requests that were sent, the seconds, and the client's exit code.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from client_support import BOTH, KEY, Bench
from test_clients_faults import FAULTS

from parallelai.engines import client_engine
from parallelai.engines.conformance import CollectingPort
from parallelai.errors import EngineError, RateLimited
from parallelai.processes import Completed
from scripted import ScriptedServer

STEPS: tuple[tuple[str, dict[str, Any]], ...] = (
    *((fault.name, fault.step) for fault in FAULTS),
    ("stream cut", {"cut": True}),
    ("error event in the stream", {"error_event": "overloaded"}),
    ("429 twice, then well", {"fault": "rate_limit", "retry_after": 1, "times": 2}),
    ("server hangs (time-out 3 s)", {"hang": "start"}),
    ("stream hangs (time-out 3 s)", {"hang": "stream"}),
)


async def measure(use: str, step: dict[str, Any]) -> tuple[str, int, float, str]:
    """Do one turn: the error's kind (or `ok`), requests, seconds, exit code."""
    ends: list[Completed | None] = []
    real = client_engine.converse

    async def watched(*args: Any) -> Completed | None:
        ends.append(await real(*args))
        return ends[-1]

    client_engine.converse = watched  # type: ignore[assignment]
    try:
        with tempfile.TemporaryDirectory(prefix="measuring-") as folder:
            os.environ.update(HOME=f"{folder}/home", TEST_CLIENT_KEY=KEY)
            (Path(folder) / "home").mkdir()
            async with ScriptedServer() as server:
                bench = Bench(Path(folder), server, use)
                seconds = 3.0 if "hang" in step else 60.0
                began = time.monotonic()
                try:
                    await bench.turn(step, {"say": "done"}, port=CollectingPort(), timeout_seconds=seconds)
                    became = "ok"
                except EngineError as error:
                    is_quota = isinstance(error, RateLimited) and error.is_quota
                    became = f"{error.kind}{' (quota)' if is_quota else ''}"
                took = time.monotonic() - began
                code = "–" if not ends or ends[0] is None else str(ends[0].exit)
                return became, len(server.requests), took, code
    finally:
        client_engine.converse = real


async def main() -> None:
    for use in BOTH:
        print(f"\n| {use} | became | requests | seconds | exit code |\n| --- | --- | --- | --- | --- |")
        for name, step in STEPS:
            became, requests, seconds, code = await measure(use, step)
            print(f"| {name} | {became} | {requests} | {seconds:.1f} | {code} |")


if __name__ == "__main__":
    asyncio.run(main())
