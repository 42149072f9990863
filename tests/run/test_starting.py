"""How many programs start up at once, and in which order."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallelai.run.executors import starting
from parallelai.run.executors.starting import Starts


async def _turns() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_the_largest_of_those_that_wait_comes_first() -> None:
    starts, begun = Starts(1), list[str]()

    async def start(name: str, size: int) -> None:
        opened = await starts.begin(size)
        begun.append(name)
        await asyncio.sleep(0)
        opened()

    async with asyncio.TaskGroup() as group:
        for name, size in (("first", 1), ("small", 2), ("large", 9), ("large too", 9), ("middle", 5)):
            group.create_task(start(name, size))

    assert begun == ["first", "large", "large too", "middle", "small"]


@given(st.lists(st.tuples(st.integers(1, 9), st.booleans()), max_size=20), st.integers(1, 4))
def test_never_more_than_may_and_all_in_the_end(asked: list[tuple[int, bool]], most: int) -> None:
    """Whoever says twice that a start is over, or is cancelled, gives no place away that is none."""

    async def play() -> None:
        starts, at_once, done = Starts(most), 0, 0

        async def start(size: int) -> None:
            nonlocal at_once, done
            opened = await starts.begin(size)
            at_once += 1
            assert at_once <= most
            await asyncio.sleep(0)
            at_once -= 1
            done += 1
            opened()
            opened()

        tasks = [asyncio.create_task(start(size)) for size, _ in asked]
        await asyncio.sleep(0)
        for task, (_, is_cancelled) in zip(tasks, asked, strict=True):
            if is_cancelled and tasks.index(task) >= most:  # it waits
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert done == sum(not task.cancelled() for task in tasks)
        assert all(task.cancelled() or task.exception() is None for task in tasks)
        for _ in range(most):  # every place is free again
            await asyncio.wait_for(starts.begin(1), 1)

    asyncio.run(play())


async def test_who_is_cancelled_as_its_turn_comes_passes_it_on() -> None:
    starts = Starts(1)
    opened = await starts.begin(1)
    waits, next_one = asyncio.create_task(starts.begin(2)), asyncio.create_task(starts.begin(1))
    await _turns()

    opened()
    waits.cancel()

    await asyncio.wait_for(next_one, 1)
    assert waits.cancelled()


async def test_a_start_that_takes_too_long_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starting, "MOST_SECONDS", 0.01)
    starts = Starts(1)
    await starts.begin(1)
    await asyncio.wait_for(starts.begin(1), 1)
