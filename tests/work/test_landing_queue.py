"""The landing queue: batches of those who wait, and cancelled ones."""

import asyncio
from collections.abc import Sequence

import pytest

from parallelai.work.landing.queue import LandingQueue
from parallelai.work.landing.records import Arrival, Candidate


def candidate(name: str) -> Candidate:
    return Candidate(name, "c" * 40, "b" * 40)


class Slow:
    """Lands a batch when it is told to."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.go = asyncio.Semaphore(0)

    async def land(self, candidates: Sequence[Candidate]) -> list[Arrival]:
        self.batches.append([one.name for one in candidates])
        await self.go.acquire()
        return [Arrival(one.name) for one in candidates]


async def _until(is_true: object) -> None:
    while not is_true():  # type: ignore[operator]
        await asyncio.sleep(0)


async def test_those_who_come_while_others_land_share_the_next_batch() -> None:
    slow = Slow()
    queue = LandingQueue(slow.land)
    async with asyncio.TaskGroup() as group:
        first = group.create_task(queue.land(candidate("a")))
        await _until(lambda: slow.batches)
        others = [group.create_task(queue.land(candidate(name))) for name in "bcd"]
        await _until(lambda: len(queue.names) == 3)
        slow.go.release()
        slow.go.release()
    assert slow.batches == [["a"], ["b", "c", "d"]]
    assert [task.result().name for task in (first, *others)] == ["a", "b", "c", "d"]


async def test_whoever_is_cancelled_leaves_the_others_their_place() -> None:
    slow = Slow()
    queue = LandingQueue(slow.land)
    first = asyncio.create_task(queue.land(candidate("a")))
    await _until(lambda: slow.batches)
    second, third = (asyncio.create_task(queue.land(candidate(name))) for name in "bc")
    await _until(lambda: len(queue.names) == 2)
    second.cancel()
    first.cancel()  # it was landing itself
    slow.go.release()
    assert (await third).name == "c"
    assert queue.names == ()
    for task in (first, second):
        with pytest.raises(asyncio.CancelledError):
            await task
    assert all("b" not in batch for batch in slow.batches[1:])


async def test_an_error_of_the_landing_reaches_everyone() -> None:
    async def fails(candidates: Sequence[Candidate]) -> list[Arrival]:
        raise OSError("the disk is full")

    queue = LandingQueue(fails)
    done = await asyncio.gather(*(queue.land(candidate(name)) for name in "ab"), return_exceptions=True)
    assert [str(each) for each in done] == ["the disk is full"] * 2
