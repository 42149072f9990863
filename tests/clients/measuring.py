"""What each client makes of each fault, for the page `engines.md` of the docs.

    PYTHONPATH=tests:tests/engines python -m clients.measuring

writes `docs/reference/engines.json`: for each engine its client's version, what it can do, and for each fault the
error that it became, the requests that were sent, the seconds, and the client's exit code (null: it was ended,
or never started). `python docs/generate.py` makes the page from it. Nothing confines the clients here.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import test_acp_clients as acp
from client_support import BOTH, KEY, PROGRAMS, Bench
from test_clients_faults import FAULTS

from parallelai.engines.acp import agent as acp_agent
from parallelai.engines.clients import client as clients
from parallelai.engines.conformance import CollectingPort
from parallelai.errors import EngineError, RateLimited
from parallelai.processes import Completed
from scripted import ScriptedServer

TARGET = Path(__file__).parents[2] / "docs" / "reference" / "engines.json"
ENGINES = (*BOTH, "gemini")
SECONDS = 60.0
SHORT_SECONDS = 5.0
"""The time-out where the server hangs."""
DONE = {"say": "done"}
NO_LOGIN = "nobody is logged in"
KILLED = "client killed at work"
DENIED = "tools denied"
CHANGED = "a version with other output"

STEPS: dict[str, dict[str, Any]] = {
    **{fault.name: fault.step for fault in FAULTS},
    "answer cut off": {"cut": True},
    "error in the midst of an answer": {"error_event": "overloaded"},
    "429 twice, then well": {"fault": "rate_limit", "retry_after": 1, "times": 2},
    "server hangs": {"hang": "start"},
    "answer hangs": {"hang": "stream"},
    NO_LOGIN: DONE,
    KILLED: {"tool": "shell", "command": "python3 -c 'import time; time.sleep(600)'"},
    DENIED: {"tool": "shell", "command": "touch denied.txt"},
    CHANGED: DONE,
}
"""What the model's server does before it would say that all is done, by the fault's name."""


def engine_of(use: str, folder: Path, server: ScriptedServer, **settings: Any) -> tuple[Any, Any]:
    """Make an engine with its real client, and the maker of its requests."""
    if use == "gemini":
        agent = acp.Bench(folder, server, CollectingPort(), sandbox="none")
        return agent.engine(**settings), agent.request
    bench = Bench(folder, server, use)
    return bench.engine(**settings), bench.request


def without_login(use: str, folder: Path, server: ScriptedServer) -> tuple[Any, Any]:
    """The same without key and server, and with an empty home."""
    return engine_of(use, folder, server, base_url=None, api_key_env=None)


def of_another_version(use: str, folder: Path, server: ScriptedServer) -> tuple[Any, Any]:
    """The same with a program that reads its prompt and prints lines of another kind."""
    program = folder / "client"
    program.write_text('#!/bin/sh\nread -r line\necho \'{"type": "news"}\'\n')
    program.chmod(0o755)
    return engine_of(use, folder, server, command=[str(program)])


MAKERS = {NO_LOGIN: without_login, CHANGED: of_another_version}


async def measure(use: str, name: str) -> dict[str, Any]:
    """Do one turn, and say what became of it."""
    step = STEPS[name]
    ends: list[Completed] = []
    with tempfile.TemporaryDirectory(prefix="measuring-") as base, watched(ends):
        folder = Path(base)
        os.environ.update(HOME=f"{base}/home", TEST_CLIENT_KEY=KEY)
        (folder / "home").mkdir()
        async with ScriptedServer() as server:
            engine, request_of = MAKERS.get(name, engine_of)(use, folder, server)
            seconds = SHORT_SECONDS if "hang" in step else SECONDS
            request = replace(request_of(step, DONE, edits=name != DENIED), timeout_seconds=seconds)
            began = time.monotonic()
            async with killed(PROGRAMS.get(use, use), is_wanted=name == KILLED):
                became = await outcome(engine, request, "deny" if name == DENIED else "allow_once")
            took = time.monotonic() - began
            await engine.aclose()
        if name == DENIED and became == "ok" and not (folder / "work" / "denied.txt").exists():
            became = "invalid"  # as a task that was to make a change: there is none
    code = ends[0].exit if ends else None
    return {"became": became, "requests": len(server.requests), "seconds": round(took, 1), "exit": code}


async def outcome(engine: Any, request: Any, answer: str) -> str:
    """Give the kind of error that a turn ends with, or `ok`."""
    try:
        await engine.perform(request, CollectingPort(answer=answer))
    except EngineError as error:
        return f"{error.kind} (quota)" if isinstance(error, RateLimited) and error.is_quota else error.kind
    return "ok"


@contextlib.contextmanager
def watched(ends: list[Completed]) -> Any:
    """Keep how the clients' processes ended."""
    real = clients.run

    async def run(*args: Any, **given: Any) -> Completed:
        completed = await real(*args, **given)
        ends.append(completed)
        return completed

    for module in (clients, acp_agent):
        module.run = run  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for module in (clients, acp_agent):
            module.run = real  # type: ignore[attr-defined]


@contextlib.asynccontextmanager
async def killed(program: str, *, is_wanted: bool) -> AsyncIterator[None]:
    """Kill the client as soon as its tool sleeps."""

    async def kill() -> None:
        while not any("time.sleep(600)" in words for words in map(_words, _children())):
            await asyncio.sleep(0.1)
        for process in _children():
            if program in _words(process) and "time.sleep" not in _words(process):
                process.kill()

    task = asyncio.create_task(kill()) if is_wanted else None
    try:
        yield
    finally:
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, psutil.Error):
                await task


def _children() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def _words(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline()[:3])
    except psutil.Error:
        return ""


async def describe(use: str) -> dict[str, Any]:
    """Give a client's version, and what its engine can do."""
    with tempfile.TemporaryDirectory(prefix="measuring-") as base:
        engine, _ = engine_of(use, Path(base), ScriptedServer())
        found = await engine.detect()
        able = dataclasses.asdict(engine.capabilities)
        able["tunes"] = sorted(able["tunes"])
        await engine.aclose()
    able["answers"] = sorted(able["answers"])
    return {"version": found.version, "can": able}


async def main() -> None:
    results: dict[str, Any] = {}
    for use in ENGINES:
        results[use] = await describe(use)
        results[use]["faults"] = {}
        for name in STEPS:
            results[use]["faults"][name] = found = await measure(use, name)
            print(use, name, found, flush=True)
    TARGET.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    asyncio.run(main())
