"""The executor in this process: every attempt ends once, and only its own work counts for its time-out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from parallelai.engines.mock import MockEngine
from parallelai.engines.protocol import Answer, Permit, Port, Question, Request, Workspace
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
