"""Agents of the Agent Client Protocol, played back from what they once printed: no program is started."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from parallelai.engines.acp import agent as acp_agent
from parallelai.engines.acp.report import FILE
from parallelai.processes import Completed, Program


class _Heard:
    """What is written to the agent (`processes.feed.Input`): the ids of what it was asked."""

    def __init__(self) -> None:
        self.ids: set[Any] = set()
        self.is_over = False
        self.news = asyncio.Event()

    def add(self, data: bytes) -> None:
        self.ids |= {json.dumps(json.loads(line).get("id")) for line in data.splitlines()}
        self.news.set()

    def finish(self) -> None:
        self.is_over = True
        self.news.set()

    async def until(self, id: str) -> None:
        while id not in self.ids and not self.is_over:
            self.news.clear()
            await self.news.wait()


def _answers(line: bytes) -> str | None:
    """The id of the request that a line answers; None where it is no answer."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return None
    is_answer = isinstance(message, dict) and "method" not in message and isinstance(message.get("id"), int)
    return json.dumps(message["id"]) if is_answer else None


def _waits_for(lines: list[bytes]) -> list[str | None]:
    """For each line the request that was asked before it: that of the next answer."""
    found: list[str | None] = []
    for line in reversed(lines):
        found.append(_answers(line) or (found[-1] if found else None))
    return found[::-1]


def _write_report(program: Program, report: str) -> None:
    """Write it where the agent was told to, as if it were of this turn: later than its begin."""
    for path in program.env.values():
        if report and path.endswith(FILE):
            Path(path).write_text(re.sub(r'"20\d\d-', '"9999-', report))


@contextlib.contextmanager
def played(data: bytes, report: str = "") -> Iterator[None]:
    """Let every agent that is started print these lines, each after what it answers was asked, and end.

    `report` is what it then reports of its calls.
    """
    lines = [line for line in data.split(b"\n") if line.strip()]
    real = acp_agent.run

    async def run(program: Program, on_line: Callable[[str, bytes], None], **_: Any) -> Completed:
        heard = _Heard()
        _write_report(program, report)
        assert program.feed is not None
        program.feed.attach(heard)  # type: ignore[arg-type]
        answered = 0
        for line, id in zip(lines, _waits_for(lines), strict=True):
            if id == json.dumps(answered):  # they are asked one after the other; any other was not asked
                await heard.until(id)
                answered += _answers(line) is not None
            on_line("stdout", line)
        return Completed(0, None, b"", b"", 0.0)

    acp_agent.run = run  # type: ignore[attr-defined]
    try:
        yield
    finally:
        acp_agent.run = real  # type: ignore[attr-defined]


def recordings(folder: Path) -> list[Path]:
    return sorted((folder / "acp").glob("*/*.jsonl"))
