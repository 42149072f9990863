"""`ParallelAI` and `AsyncParallelAI`: the calls that are promised, in a script and inside a running loop."""

from __future__ import annotations

import asyncio
import inspect
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import parallelai
from parallelai import AsyncParallelAI, DAGStrategy, MultiEngine, ParallelAI, Task
from parallelai.errors import ConfigError, PlanError, UsageError
from running import FakeEngine, environment

PROMISED = """
import json, sys
from parallelai import DAGStrategy, MultiEngine, ParallelAI, Task

def promised():
    first = ParallelAI().review("src/**/*.py")
    ai = ParallelAI()
    second = ai.review("*.py", parallel=50, checklist=["security", "performance"])
    several = [Task(id="one", description="do one", engine="mock"), Task(id="two", description="do two", engine="mock")]
    third = ai.execute(tasks=several, parallel=100)
    fourth = ai.execute(tasks=several, strategy=DAGStrategy(), engine=MultiEngine(["mock", "analyzers"]))
    fifth = ai.execute("plan.yaml")
    return [run.exit for run in (first, second, third, fourth, fifth)] + [len(first.findings), len(second.findings)]
"""
SCRIPT = PROMISED + "print(json.dumps(promised()))\n"
NOTEBOOK = PROMISED + (
    "import asyncio\nasync def cell():\n    return promised()\nprint(json.dumps(asyncio.run(cell())))\n"
)
ASYNC = (
    PROMISED.replace("def promised", "async def promised")
    .replace("ParallelAI()", "AsyncParallelAI()")
    .replace("import DAG", "import AsyncParallelAI, DAG")
    .replace("= ai.", "= await ai.")
    .replace("= AsyncParallelAI().r", "= await AsyncParallelAI().r")
    + "import asyncio\nprint(json.dumps(asyncio.run(promised())))\n"
)


@pytest.mark.parametrize("script", [SCRIPT, NOTEBOOK, ASYNC], ids=["script", "notebook", "async"])
def test_the_promised_calls_work_as_written(here: Path, plan: Path, script: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        cwd=here,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout) == [0, 0, 0, 0, 0, 1, 2]
    assert ended.stderr == ""


async def test_the_sync_calls_inside_a_running_loop(here: Path, plan: Path) -> None:
    document = ParallelAI().execute("plan.yaml")

    assert document.exit == 0
    assert ParallelAI().show().run == document.run
    assert ParallelAI().show(document.run) == document
    resumed = ParallelAI().resume()
    assert resumed is not None
    assert resumed.run == document.run


def test_the_sync_calls_in_a_script(here: Path, plan: Path) -> None:
    with ParallelAI() as ai:
        first = ai.execute("plan.yaml")
        again = ai.execute("plan.yaml", resume=True)

    assert again.run == first.run
    assert [str(task.status) for task in again.tasks] == ["ok", "ok"]


@pytest.mark.parametrize("name", ["review", "execute"])
def test_the_sync_calls_have_the_same_words(name: str) -> None:
    waits, awaited = getattr(ParallelAI, name), getattr(AsyncParallelAI, name)

    assert inspect.signature(waits) == inspect.signature(awaited)
    assert waits.__doc__ == awaited.__doc__
    assert not inspect.iscoroutinefunction(waits)


def test_mistakes_are_raised_where_they_are_made(here: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        ParallelAI(tmp_path / "nowhere")
    with pytest.raises(ConfigError):
        ParallelAI(config={"limits": {"paralel": 3}}).review("a.py")
    ai = ParallelAI()
    with pytest.raises(UsageError, match="no file matches"):
        ai.review("*.nope")
    with pytest.raises(UsageError, match="give a plan or tasks"):
        ai.execute()
    with pytest.raises(UsageError, match="give a plan or tasks"):
        ai.execute("plan.yaml", tasks=[Task(id="a", description="b")])
    with pytest.raises(PlanError):
        ai.execute(tasks=[{"id": "a", "descripton": "b"}])
    with pytest.raises(PlanError):
        ai.execute("nope.yaml")
    with pytest.raises(TypeError):
        ai.review("a.py", paralell=3)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("argument", "value", "said"),
    [
        ("engine", 3, "engine"),
        ("engine", {"vote": []}, "engine"),
        ("engine", "nobody", "nobody"),
        ("engine", MultiEngine(["mock", "mock"]), "twice"),
        ("budget", "much", "budget"),
        ("timeout", "soon", "timeout"),
        ("timeout", -1, "timeout"),
        ("timeout", float("nan"), "timeout"),
        ("timeout", True, "timeout"),
        ("strategy", "magic", "magic"),
        ("strategy", 3, "strategy"),
        ("fail_on", "horrible", "horrible"),
    ],
)
def test_arguments_that_are_none(here: Path, plan: Path, argument: str, value: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        ParallelAI().execute("plan.yaml", **{argument: value})


def test_an_engine_of_ones_own(here: Path) -> None:
    engine = FakeEngine("mine")

    document = ParallelAI(engines=[engine]).execute(tasks=[{"id": "a", "description": "b"}], engine="mine")
    given = ParallelAI().execute(tasks=[Task(id="a", description="b")], engine=engine)

    assert [run.tasks[0].text for run in (document, given)] == ["did a", "did a"]


def test_several_engines_are_a_vote(here: Path) -> None:
    document = ParallelAI().review("a.py", engine=["analyzers", "mock"])

    assert document.tasks[0].attempts == 2


def test_events_come_as_they_happen(here: Path, plan: Path) -> None:
    seen: list[str] = []

    ParallelAI().execute("plan.yaml", on_events=lambda events: seen.extend(event.type for event in events))

    assert (seen[0], seen[-1]) == ("run.created", "run.ended")


def test_nothing_is_left_running(here: Path, plan: Path) -> None:
    before = set(threading.enumerate())

    async def inside() -> None:
        ParallelAI().execute("plan.yaml")

    ParallelAI().execute("plan.yaml")
    asyncio.run(inside())

    assert set(threading.enumerate()) <= before


def test_a_failure_inside_a_running_loop_is_raised_there(here: Path) -> None:
    async def inside() -> None:
        ParallelAI().review("*.nope")

    with pytest.raises(UsageError, match="no file matches"):
        asyncio.run(inside())


def test_what_is_promised_is_public() -> None:
    assert {"AsyncParallelAI", "DAGStrategy", "MultiEngine", "ParallelAI", "Task"} <= set(parallelai.__all__)
    assert MultiEngine(["mock"])
    assert DAGStrategy().name == "dag"
