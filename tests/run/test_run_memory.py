"""Admission by memory: no more sessions than fit, one at least, and what they took is remembered."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from parallelai.cli.words import said_of
from parallelai.engines.protocol import Capabilities, Estimate, Port, Request
from parallelai.records import FREE, Reply
from parallelai.run.workspaces import PLAIN
from running import FakeEngine, Watcher, opened, tasks

GIGABYTE = 1024**3


class Sessions(FakeEngine):
    """An engine with hands, whose sessions take memory; counts how many there are at once."""

    def __init__(self, expected: int, taken: int | None = None) -> None:
        able = Capabilities(works_in_folder=True)
        super().__init__("sessions", self._work, capabilities=able, estimate=Estimate(memory_bytes=expected))
        self.now = self.most = 0
        self._taken = taken

    async def _work(self, request: Request, port: Port) -> Reply:
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0)
        self.now -= 1
        return Reply(text="done", usage=FREE, memory_bytes=self._taken)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("parallelai.client.jobs._free_memory", lambda: 4 * GIGABYTE)
    monkeypatch.setattr("parallelai.client.jobs.Builder._without_git", lambda *_: None)
    monkeypatch.setattr("parallelai.run.assembly.HOMELESS", PLAIN)
    return tmp_path


@pytest.mark.parametrize(("size", "most"), [(GIGABYTE, 4), (3 * GIGABYTE, 1), (9 * GIGABYTE, 1), (0, 6)])
async def test_no_more_start_than_fit(project: Path, size: int, most: int) -> None:
    engine = Sessions(size)
    seen = Watcher()
    async with opened(project, engine) as ai:
        document = await ai.execute(
            tasks=tasks(*"abcdefghijkl"), engine="sessions", parallel=6, on_events=seen
        )
    assert document.exit == 0
    assert engine.most == most
    told = [said_of(event.data) for event in seen.of("limit.reached")]
    held = f"what is at work takes {most * size // 1024**2:,} of 4,096 MiB"
    expected = f"waiting: memory: {held}, and one more of `sessions` does not fit"
    assert told == ([expected] if size else []), "it is told once"


async def test_what_sessions_took_is_remembered(project: Path) -> None:
    first, second = Sessions(GIGABYTE // 4, taken=2 * GIGABYTE), Sessions(GIGABYTE // 4)
    for engine, most in ((first, 6), (second, 2)):
        async with opened(project, engine) as ai:
            await ai.execute(tasks=tasks(*"abcdefgh"), engine="sessions", parallel=6, cache=False)
        assert engine.most == most
