"""The garbage collector during a run: it looks less often, and is afterwards as it was."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from parallelai import AsyncParallelAI, Task
from parallelai.plan.graph import Instance
from parallelai.run.collector import OLD, SELDOM, collecting_seldom
from parallelai.run.runner import Runner
from parallelai.run.scheduling.scheduler import Scheduler
from parallelai.run.scheduling.tasks import TaskState


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


def test_it_looks_less_often_inside_and_as_before_afterwards() -> None:
    gc.set_threshold(700, 10, 5)
    with collecting_seldom():
        assert gc.get_threshold() == (SELDOM, OLD, 5)
        with collecting_seldom():  # two runs at once
            assert gc.get_threshold() == (SELDOM, OLD, 5)
        assert gc.get_threshold() == (SELDOM, OLD, 5)
    assert gc.get_threshold() == (700, 10, 5)
    with pytest.raises(ZeroDivisionError), collecting_seldom():
        raise ZeroDivisionError
    assert gc.get_threshold() == (700, 10, 5)


@pytest.mark.parametrize("chosen", [(0, 10, 10), (SELDOM, 3, 3), (10 * SELDOM, 10, 10)])
def test_what_somebody_chose_stays(chosen: tuple[int, int, int]) -> None:
    gc.set_threshold(*chosen)
    with collecting_seldom():
        assert gc.get_threshold() == chosen
    assert gc.get_threshold() == chosen


async def test_what_a_run_made_is_gone_with_it(tmp_path: Path) -> None:
    """In a circle it would stay until the collector looks at all of it, which took a tenth of a run's time."""
    gc.collect()
    gc.disable()
    try:
        async with AsyncParallelAI(tmp_path) as ai:
            await ai.execute(tasks=[Task(id=f"t{n}", description="x", engine="mock") for n in range(5)])
        assert not [one for one in gc.get_objects() if type(one) in (Runner, Scheduler, TaskState, Instance)]
    finally:
        gc.enable()
