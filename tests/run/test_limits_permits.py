"""Leave for calls: whose turn it is, what a refusal does to the others, and what a run keeps of it."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest

from parallelai import Event
from parallelai.engines.protocol import (
    Estimate,
    LimitsEvent,
    LimitWindow,
    Permit,
    Port,
    Request,
    WaitingEvent,
)
from parallelai.errors import RateLimited, StoreError
from parallelai.events import LimitChanged
from parallelai.records import FREE, ErrorRecord, LimitKey, Outcome, Usage
from parallelai.run.executors.base import AttemptId
from parallelai.run.limiting import heed
from parallelai.run.permissions import LEAST_HOLD_SECONDS, MOST_HOLD_SECONDS, LocalCoordinator
from parallelai.run.scheduling.decisions import Finish, Start, Wait
from parallelai.run.scheduling.nodes import AttemptResult, Member, Node, Prepared
from parallelai.run.scheduling.scheduler import Scheduler
from parallelai.run.scheduling.settings import Settings
from parallelai.store import Machine
from running import FakeEngine, opened, statuses, tasks

KEY = LimitKey("openai", "default", "m")
LIMITED = ErrorRecord("rate_limited", "slow down")


class Forgetful:
    """A memory that cannot be read, nor written."""

    def last_good_limit(self, key: LimitKey) -> int | None:
        raise StoreError("the disk is full")

    def keep_limit(self, key: LimitKey, limit: int) -> None:
        raise StoreError("the disk is full")


def an_id(number: int, attempt: int = 1) -> AttemptId:
    return AttemptId(f"t{number}", attempt)


async def turns() -> None:
    """Let everybody go on who can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_who_asks_first_is_served_first() -> None:
    coordinator = LocalCoordinator(1, {})
    served: list[int] = []

    async def call(number: int) -> None:
        permit = await coordinator.permit(an_id(number), KEY, 10)
        served.append(number)
        await turns()
        await permit.settle(FREE)

    async with asyncio.TaskGroup() as group:
        for number in range(5):
            group.create_task(call(number))
            await asyncio.sleep(0)
    assert served == [0, 1, 2, 3, 4]


async def test_a_fixed_concurrency_holds_and_settling_twice_gives_back_one_place() -> None:
    coordinator = LocalCoordinator(50, {"openai": 2})
    first = await coordinator.permit(an_id(0), KEY, 10)
    await coordinator.permit(an_id(1), KEY, 10)
    third = asyncio.ensure_future(coordinator.permit(an_id(2), KEY, 10))
    fourth = asyncio.ensure_future(coordinator.permit(an_id(3), KEY, 10))
    await turns()
    assert not third.done()
    await first.settle(FREE)
    await first.settle(FREE)
    await turns()
    assert (third.done(), fourth.done()) == (True, False)
    fourth.cancel()
    await asyncio.gather(fourth, return_exceptions=True)


async def test_who_is_cancelled_while_it_waits_gives_its_turn_to_the_next() -> None:
    coordinator = LocalCoordinator(1, {})
    first = await coordinator.permit(an_id(0), KEY, 10)
    second = asyncio.ensure_future(coordinator.permit(an_id(1), KEY, 10))
    third = asyncio.ensure_future(coordinator.permit(an_id(2), KEY, 10))
    await turns()
    await first.settle(FREE)  # the second's turn has come, but it has not run yet
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    await turns()
    assert third.done()
    await (await third).settle(FREE)


async def test_retry_after_holds_the_whole_key_back() -> None:
    coordinator = LocalCoordinator(50, {})
    permit = await coordinator.permit(an_id(0), KEY, 10)
    await permit.settle()
    began = time.monotonic()
    refused = AttemptResult(False, error=LIMITED, retry_after_seconds=0.2)
    assert coordinator.judged(an_id(0), refused) is refused
    other = await coordinator.permit(an_id(1), KEY, 10)
    assert time.monotonic() - began >= 0.19
    await other.settle(FREE)


async def test_a_refusal_without_a_time_is_paced_rather_than_backed_off() -> None:
    """The scheduler's own rule pauses a key for a second and more; a key with a known pace waits its turn.

    The call that was refused waits by itself, longer each time.
    """
    told: list[LimitChanged] = []
    coordinator = LocalCoordinator(50, {}, on_change=told.append)
    for number in range(20):
        permit = await coordinator.permit(an_id(number), KEY, 10)
        await permit.settle(Usage(5, 0, 5, 0, 0.0, "prices"))
        coordinator.judged(an_id(number), AttemptResult(True))
    permit = await coordinator.permit(an_id(20), KEY, 10)
    later = [(id, await coordinator.permit(id, KEY, 10)) for id in (an_id(21, 10), an_id(22, 1_000))]
    await permit.settle()
    result = coordinator.judged(an_id(20), AttemptResult(False, error=LIMITED))
    assert (result.is_alone, result.retry_after_seconds) == (True, LEAST_HOLD_SECONDS)
    assert told[-1].why.startswith("429: paced")
    for (id, permit), seconds in zip(later, (5.0, MOST_HOLD_SECONDS), strict=True):
        await permit.settle()
        held = coordinator.judged(id, AttemptResult(False, error=LIMITED)).retry_after_seconds
        assert held == pytest.approx(seconds)
    coordinator.close()


async def test_a_fixed_key_leaves_the_pause_to_the_scheduler() -> None:
    coordinator = LocalCoordinator(50, {"openai": 2})
    permit = await coordinator.permit(an_id(0), KEY, 10)
    await permit.settle()
    assert coordinator.judged(an_id(0), AttemptResult(False, error=LIMITED)).retry_after_seconds is None


async def test_headers_pace_the_next_calls() -> None:
    told: list[LimitChanged] = []
    coordinator = LocalCoordinator(50, {}, on_change=told.append)
    permit = await coordinator.permit(an_id(0), KEY, 10)
    await permit.settle(FREE, LimitsEvent(LimitWindow(60, 0, 60.0), None))
    waiting = asyncio.ensure_future(coordinator.permit(an_id(1), KEY, 10))
    await turns()
    assert not waiting.done()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    coordinator.close()
    assert [change.why for change in told] == ["the server's headers: 60 requests"]


async def test_what_was_learned_is_kept_and_begun_with(tmp_path: Path) -> None:
    with Machine.open(tmp_path / "machine.db") as machine:
        coordinator = LocalCoordinator(100, {}, memory=machine)
        held: list[Permit] = [await coordinator.permit(an_id(number), KEY, 10) for number in range(7)]
        for number, permit in enumerate(held):
            await permit.settle(FREE)
            coordinator.judged(an_id(number), AttemptResult(True))
        coordinator.keep(coordinator.close())
        assert machine.last_good_limit(KEY) == 7
        again = LocalCoordinator(100, {}, memory=machine)
        for number in range(7):
            await again.permit(an_id(number), KEY, 10)
        eighth = asyncio.ensure_future(again.permit(an_id(8), KEY, 10))
        await turns()
        assert not eighth.done()
        eighth.cancel()
        await asyncio.gather(eighth, return_exceptions=True)


async def test_a_memory_that_fails_costs_nothing_but_what_it_knew() -> None:
    coordinator = LocalCoordinator(3, {}, memory=Forgetful())
    permit = await coordinator.permit(an_id(0), KEY, 10)
    await permit.settle(FREE)
    learned = coordinator.close()
    coordinator.keep(learned)
    assert KEY in learned


async def test_no_more_attempts_start_than_calls_are_near() -> None:
    """Slots are for calls: what would only wait for its turn does not start, and does when there is room."""
    woken: list[int] = []
    coordinator = LocalCoordinator(100, {"openai": 1}, on_room=lambda: woken.append(1))
    assert not coordinator.is_crowded(KEY, 90)  # nobody asked for a permit yet: perhaps nobody ever does
    first = await coordinator.permit(an_id(0), KEY, 10)
    waiting = [asyncio.ensure_future(coordinator.permit(an_id(number), KEY, 10)) for number in range(1, 5)]
    await turns()
    assert not coordinator.is_crowded(KEY, 4)
    assert coordinator.is_crowded(KEY, 5)
    assert not woken
    await first.settle(FREE)
    assert woken
    assert not coordinator.is_crowded(KEY, 4)
    for each in waiting:
        each.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


def scheduler(settings: Settings, count: int = 3) -> Scheduler:
    members = (Member("openai", KEY),)
    nodes = [Node(f"t{number}", number, members=members) for number in range(count)]
    prepared = Prepared((Estimate(),))
    return Scheduler(nodes, {}, settings, prepare=lambda _: prepared, random=Random(0), now=0.0)


def started(run: Scheduler, now: float) -> list[str]:
    return [one.task for one in run.decide(now) if isinstance(one, Start)]


def test_the_scheduler_starts_no_more_of_a_crowded_key() -> None:
    is_full = True
    run = scheduler(Settings(is_crowded=lambda key, flying: is_full and flying >= 1))
    assert started(run, 0.0) == ["t0"]
    decided = run.decide(0.0)
    assert isinstance(decided[-1], Wait)
    assert (decided[-1].why, decided[-1].until) == ("concurrency", None)
    is_full = False
    assert started(run, 0.0) == ["t1", "t2"]


def test_a_session_that_waits_for_its_provider_holds_its_key_back() -> None:
    run = scheduler(Settings(parallel=1))
    assert started(run, 0.0) == ["t0"]
    run.limited(KEY, 60.0, "it waits", 0.0)
    run.limited(LimitKey("another"), 600.0, "it waits", 0.0)
    run.attempt_ended("t0", 1, AttemptResult(True), 1.0)
    assert started(run, 1.0) == []
    assert started(run, 59.0) == []
    assert started(run, 60.0) == ["t1"]


def test_a_session_that_waits_too_long_opens_the_breaker() -> None:
    run = scheduler(Settings(parallel=1, max_wait_seconds=10.0))
    assert started(run, 0.0) == ["t0"]
    run.limited(KEY, 60.0, "a session waits", 0.0)
    run.attempt_ended("t0", 1, AttemptResult(True), 1.0)
    decided = run.decide(1.0)
    ended = {one.task: one.outcome for one in decided if isinstance(one, Finish)}
    assert ended == {"t0": Outcome.OK, "t1": Outcome.BLOCKED, "t2": Outcome.BLOCKED}
    assert [notice.type for notice in run.notices()] == ["breaker.opened"]


@pytest.mark.parametrize(
    "until", ["2026-11-20T10:01:00Z", "2026-11-20T11:01:00+01:00", "2026-11-20T10:01:00"]
)
async def test_a_waiting_event_is_heeded_whatever_its_time_zone(until: str) -> None:
    now = datetime(2026, 11, 20, 10, 0, tzinfo=UTC).timestamp()
    run, permits = scheduler(Settings(parallel=1)), LocalCoordinator(5, {})
    started(run, now)
    assert heed(WaitingEvent("rate_limited", until, KEY), run, permits, now)
    run.attempt_ended("t0", 1, AttemptResult(True), now)
    assert started(run, now + 59) == []
    assert started(run, now + 60) == ["t1"]
    assert not heed(WaitingEvent("permission", until, KEY), run, permits, now)
    assert not heed(WaitingEvent("rate_limited", until), run, permits, now)
    assert heed(WaitingEvent("rate_limited", "soon", KEY), run, permits, now)


async def test_one_sessions_waiting_pauses_the_others_of_its_key(tmp_path: Path) -> None:
    """An assistant waits by itself and ends well; what would have run into the same limit starts after it."""
    times: dict[str, float] = {}

    async def answer(request: Request, port: Port) -> str:
        times[request.task] = time.monotonic()
        if request.task == "a":
            until = (datetime.now(UTC) + timedelta(seconds=0.4)).isoformat()
            await port.emit(WaitingEvent("rate_limited", until, LimitKey("fake", "default", "")))
        return "done"

    async with opened(tmp_path, FakeEngine("fake", answer)) as ai:
        document = await ai.execute(tasks=tasks("a", "b"), engine="fake", parallel=1)
    assert statuses(document) == {"a": "ok", "b": "ok"}
    assert times["b"] - times["a"] >= 0.35


async def test_a_limit_seen_by_one_attempt_holds_the_key_for_all(tmp_path: Path) -> None:
    times: dict[tuple[str, int], float] = {}

    async def answer(request: Request, port: Port) -> str:
        times[request.task, request.attempt] = time.monotonic()
        if (request.task, request.attempt) == ("a", 1):
            raise RateLimited("529 overloaded", retry_after_seconds=0.4)
        return "done"

    async with opened(tmp_path, FakeEngine("fake", answer)) as ai:
        document = await ai.execute(tasks=tasks("a", "b", "c"), engine="fake", parallel=1)
    assert statuses(document) == {"a": "ok", "b": "ok", "c": "ok"}
    first = times.pop(("a", 1))
    assert min(times.values()) - first >= 0.35


async def test_two_permits_at_once_are_no_work(tmp_path: Path) -> None:
    """A turn whose time is up in 0.3 s waits longer than that for two permits, one after the other."""

    async def answer(request: Request, port: Port) -> str:
        if request.task == "first":
            key = LimitKey("fake")
            held = await port.permit(key, 1), await port.permit(key, 1)
            await asyncio.sleep(0.25)
            await held[0].settle(FREE)
            await asyncio.sleep(0.7)
            await held[1].settle(FREE)
            return "held"
        both = await asyncio.gather(*(port.permit(LimitKey("fake"), 1) for _ in range(2)))
        for permit in both:
            await permit.settle(FREE)
        return "waited"

    events: list[Event] = []
    plan = [
        {"id": "first", "description": "holds both", "timeout": 60},
        {"id": "second", "description": "waits for both", "timeout": 0.3, "retries": 0},
    ]
    async with opened(tmp_path, FakeEngine("fake", answer)) as ai:
        document = await ai.execute(tasks=plan, engine="fake", parallel=2, on_events=events.extend)
    assert statuses(document) == {"first": "ok", "second": "ok"}


async def test_who_would_wait_longer_than_allowed_is_told_so_at_once() -> None:
    """Attempts that had started already must not hang for a day behind another's Retry-After."""
    coordinator = LocalCoordinator(1, {}, max_wait_seconds=60.0)
    first = await coordinator.permit(AttemptId("a", 1), KEY, 10)
    waiting = [asyncio.ensure_future(coordinator.permit(AttemptId(name, 1), KEY, 10)) for name in "bc"]
    await asyncio.sleep(0)
    coordinator.hold(KEY, 86_400.0)
    await first.settle()
    for one in waiting:
        with pytest.raises(RateLimited) as caught:
            await one
        assert caught.value.retry_after_seconds is not None
        assert caught.value.retry_after_seconds > 80_000
    coordinator.close()
