"""The executor in this process: every attempt ends once, and only its own work counts for its time-out."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator

import pytest

from parallelai.engines.mock import MockEngine
from parallelai.engines.protocol import (
    Answer,
    Estimate,
    Permit,
    Port,
    Question,
    Request,
    SessionEvent,
    Workspace,
)
from parallelai.errors import SessionGone
from parallelai.records import LimitKey, Reply
from parallelai.run.executors.base import AttemptDone, AttemptId, AttemptSpec, ExecutorEvent
from parallelai.run.executors.local import LocalExecutor

ID = AttemptId("t", 1)


class _Asks(MockEngine):
    """Asks for a permit before it answers."""

    async def perform(self, request: Request, port: Port) -> Reply:
        await port.permit(LimitKey("mock"), 1)
        return await super().perform(request, port)


class _Permit:
    async def settle(self, usage: object = None, limits: object = None) -> None: ...


class _Slow:
    """Gives leave only when the attempt's time would be over."""

    async def permit(self, id: AttemptId, key: LimitKey, tokens: int) -> Permit:
        await asyncio.sleep(0.05)
        return _Permit()

    async def ask(self, id: AttemptId, question: Question, workspace: Workspace | None = None) -> Answer:
        raise NotImplementedError


def _spec(task: str = "t") -> AttemptSpec:
    request = Request(run="r", task=task, attempt=1, root="/", prompt="Do it.", timeout_seconds=0.01)
    return AttemptSpec(AttemptId(task, 1), "mock", request)


async def _ends(executor: LocalExecutor, count: int) -> AsyncIterator[AttemptDone]:
    """Give so many ends of attempts."""
    async for news in executor.events():
        for event in news:
            if isinstance(event, AttemptDone):
                yield event
                count -= 1
        if not count:
            return


async def _first_news(executor: LocalExecutor) -> list[ExecutorEvent]:
    async for news in executor.events():
        return list(news)
    return []


async def test_an_attempt_that_is_cancelled_before_it_began_ends_once() -> None:
    async with asyncio.TaskGroup() as group:
        executor = LocalExecutor(group, lambda name: MockEngine(), _Slow())
        executor.start(_spec())
        executor.cancel(ID)
        executor.cancel(ID)
        assert await _first_news(executor) == [AttemptDone(ID, 0.0)]
    executor.close()
    assert await _first_news(executor) == []


async def test_a_wait_for_leave_does_not_count_for_the_time_out() -> None:
    async with asyncio.TaskGroup() as group:
        executor = LocalExecutor(group, lambda name: _Asks(), _Slow())
        executor.start(_spec())
        (done,) = await _first_news(executor)
    assert isinstance(done, AttemptDone)
    assert (done.error, done.reply and done.reply.text, done.calls) == (None, "ok", 1)


class _Hangs(MockEngine):
    async def perform(self, request: Request, port: Port) -> Reply:
        await asyncio.Event().wait()
        raise NotImplementedError


async def test_an_attempt_that_takes_too_long_is_ended_whenever_it_was_started() -> None:
    started = []
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        executor = LocalExecutor(group, lambda name: _Hangs(), _Slow())
        for number in range(6):  # in the same round of the loop, and each of the next
            started += [executor.start(_spec(f"{number}-{each}")) for each in range(2)]
            await asyncio.sleep(0)
        ended = [done async for done in _ends(executor, len(started))]
    assert {done.id for done in ended} == set(started)
    assert {done.error.kind for done in ended if done.error is not None} == {"timed_out"}


class _Breaks(MockEngine):
    def __init__(self, failure: BaseException) -> None:
        super().__init__()
        self.failure = failure

    async def perform(self, request: Request, port: Port) -> Reply:
        raise self.failure


@pytest.mark.parametrize("failure", [ValueError("no"), SystemExit(7)])
async def test_an_engine_that_breaks_fails_its_attempt_and_nothing_else(failure: BaseException) -> None:
    async with asyncio.TaskGroup() as group:
        executor = LocalExecutor(group, lambda name: _Breaks(failure), _Slow())
        executor.start(_spec())
        (done,) = [done async for done in _ends(executor, 1)]
    assert done.error is not None
    assert (done.error.kind, type(failure).__name__ in done.error.said) == ("internal", True)


class _Forgets(MockEngine):
    """Knows no session that it is asked to go on with."""

    def __init__(self) -> None:
        super().__init__()
        self.capabilities = dataclasses.replace(self.capabilities, resumes=True)
        self.told: list[tuple[str | None, str]] = []

    async def perform(self, request: Request, port: Port) -> Reply:
        self.told.append((request.session, request.prompt))
        if request.session is not None:
            raise SessionGone("No conversation found with session ID: s-0")
        return dataclasses.replace(await super().perform(request, port), session="s-1")


async def test_a_session_that_is_gone_is_begun_anew_with_the_whole_task() -> None:
    engine = _Forgets()
    spec = _spec()
    async with asyncio.TaskGroup() as group:
        executor = LocalExecutor(group, lambda name: engine, _Slow())
        executor.start(spec._replace(request=dataclasses.replace(spec.request, session="s-0")))
        (done,) = [done async for done in _ends(executor, 1)]
    assert done.error is None
    assert done.reply is not None
    assert [session for session, _ in engine.told] == ["s-0", None]
    assert engine.told[1][1].startswith("Do it.")
    assert "interrupted" in engine.told[1][1]
    assert done.reply.session == "s-1"
    assert "its session was gone" in done.reply.notes[0]


class _Opens(MockEngine):
    """Starts up for as long as it is made to, opens a session, and answers when it may."""

    def __init__(self) -> None:
        super().__init__()
        self.capabilities = dataclasses.replace(self.capabilities, resumes=True, streams=True)
        self.starting: list[str] = []
        self.may_open, self.may_answer = asyncio.Event(), asyncio.Event()

    def estimate(self, request: Request) -> Estimate:
        return Estimate(memory_bytes=100)

    async def perform(self, request: Request, port: Port) -> Reply:
        self.starting.append(request.task)
        await self.may_open.wait()
        await port.emit(SessionEvent(f"s-{request.task}"))
        await self.may_answer.wait()
        return await super().perform(request, port)


async def test_programs_start_up_a_few_at_once_and_whoever_waits_loses_no_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    engine = _Opens()
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        executor = LocalExecutor(group, lambda name: engine, _Slow())
        for number in range(4):
            spec = _spec(str(number))
            seconds = 30.0 if number < 3 else 5.0
            executor.start(spec._replace(request=dataclasses.replace(spec.request, timeout_seconds=seconds)))
        await asyncio.sleep(0.05)
        assert engine.starting == ["0", "1", "2"]
        now = time.monotonic
        monkeypatch.setattr("time.monotonic", lambda: now() + 10)
        engine.may_open.set()
        while len(engine.starting) < 4:  # once a session is open, and not only when it is done
            await asyncio.sleep(0)
        engine.may_answer.set()
        ended = [done async for done in _ends(executor, 4)]
    assert engine.starting == ["0", "1", "2", "3"]
    assert [done.error for done in ended] == [None] * 4
    took = {done.id.task: done.seconds for done in ended}
    assert {task for task, seconds in took.items() if seconds >= 10} == {"0", "1", "2"}


async def test_who_is_cancelled_before_its_program_may_start_took_no_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    engine = _Opens()
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        executor = LocalExecutor(group, lambda name: engine, _Slow())
        specs = [_spec(str(number)) for number in range(3)]
        requests = [dataclasses.replace(spec.request, timeout_seconds=30.0) for spec in specs]
        started = [executor.start(a._replace(request=b)) for a, b in zip(specs, requests, strict=True)]
        await asyncio.sleep(0.05)
        now = time.monotonic
        monkeypatch.setattr("time.monotonic", lambda: now() + 10)
        for attempt in started:
            executor.cancel(attempt)
        ended = [done async for done in _ends(executor, 3)]
    assert {done.id.task for done in ended if done.seconds >= 10} == set(engine.starting) == {"0", "1"}
