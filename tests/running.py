"""What tests of whole runs share: projects, scripted engines, and ParallelAI as a program of its own."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from parallelai.client import AsyncParallelAI
from parallelai.engines.mock import MockEngine, Rule
from parallelai.engines.protocol import Availability, Capabilities, Estimate, Port, Request
from parallelai.events import Event
from parallelai.plan.model import Task
from parallelai.records import FREE, LimitKey, Reply, RunDocument, Usage

PROGRAM = (sys.executable, "-c", "from parallelai.cli import main; main()")
"""The command line, as a program."""

Answer = Callable[[Request, Port], Awaitable[Reply | str]]


class FakeEngine:
    """An engine as another package would write one. `answer` does a turn; `requests` are those it got."""

    def __init__(
        self,
        name: str = "fake",
        answer: Answer | None = None,
        *,
        capabilities: Capabilities | None = None,
        estimate: Estimate | None = None,
    ) -> None:
        self.name = name
        self.capabilities = capabilities or Capabilities()
        self.requests: list[Request] = []
        self.closed = 0
        self._answer = answer
        self._estimate = estimate or Estimate()

    @property
    def tasks(self) -> list[str]:
        """The tasks that it was asked about, in order."""
        return [request.task for request in self.requests]

    async def detect(self) -> Availability:
        return Availability(True, "made for a test")

    def limit_key(self, request: Request) -> LimitKey:
        return LimitKey(self.name, "default", request.model or "")

    def estimate(self, request: Request) -> Estimate:
        return self._estimate

    async def perform(self, request: Request, port: Port) -> Reply:
        self.requests.append(request)
        given = await self._answer(request, port) if self._answer is not None else f"did {request.task}"
        return Reply(text=given, usage=FREE) if isinstance(given, str) else given

    def attach(self, session: str) -> list[str] | None:
        return None

    async def aclose(self) -> None:
        self.closed += 1


def project(folder: Path, files: Mapping[str, str] | None = None) -> Path:
    """Make a project's folder with these files."""
    (folder / ".parallelai").mkdir(parents=True, exist_ok=True)
    for path, text in (files or {}).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


def opened(root: Path, *engines: Any, **more: Any) -> AsyncParallelAI:
    """Open a project with engines of the test's own."""
    return AsyncParallelAI(project(root), engines=engines, **more)


def scripted(*rules: Rule, name: str = "m") -> MockEngine:
    return MockEngine(name, script=rules)


def tasks(*ids: str, **same: Any) -> list[Task]:
    return [Task(id=name, description=f"do {name}", **same) for name in ids]


def statuses(document: RunDocument) -> dict[str, str]:
    return {task.id: str(task.status) for task in document.tasks}


def came_to(document: RunDocument) -> Any:
    """What a run came to, without times, attempts and identifiers."""
    rows = [(task.id, str(task.status), task.text, task.engine, task.findings) for task in document.tasks]
    findings = [(f.task, f.file, f.line, f.message, f.votes, f.by) for f in document.findings]
    return rows, findings, document.files, {str(k): v for k, v in document.counts.items()}


def usage(tokens: int, usd: float | None = None) -> Usage:
    return Usage(tokens, 0, 0, 0, usd, "prices" if usd is not None else "unknown")


class Watcher:
    """Keeps events, and lets a test wait for one without a clock."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._news = asyncio.Event()

    def __call__(self, events: Sequence[Event]) -> None:
        self.events.extend(events)
        self._news.set()

    def of(self, *types: str) -> list[Event]:
        return [event for event in self.events if event.type in types]

    async def until(self, holds: Callable[[Watcher], Any]) -> None:
        """Wait until something holds of the events so far."""
        while not holds(self):
            self._news.clear()
            await self._news.wait()


def environment(**more: str) -> dict[str, str]:
    """The environment of a program that runs this source, and what it measures of itself."""
    source = str(Path(__file__).parent.parent / "src")
    return {**os.environ, "PYTHONPATH": source, **more}


def run_program(root: Path, *arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    return subprocess.run(
        [*PROGRAM, *arguments],
        cwd=root,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        **more,
    )


def start_program(root: Path, *arguments: str, **more: Any) -> subprocess.Popen[str]:
    """Start the command line and let it run."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment()}
    return subprocess.Popen([*PROGRAM, *arguments], cwd=root, **{**options, **more})
