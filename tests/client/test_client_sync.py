"""`ParallelAI`: the calls as the documentation writes them, in a script and inside a running loop."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from parallelai import (
    AsyncParallelAI,
    BatchStrategy,
    DAGStrategy,
    MultiEngine,
    ParallelAI,
    ParallelStrategy,
    PipelineStrategy,
    Task,
)
from parallelai.client.sync import run_apart
from parallelai.errors import ConfigError, UsageError
from running import FakeEngine, environment, project, statuses

SOURCE = "import os\nassert os.name\n"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    files = {
        "src/a.py": SOURCE,
        "src/deep/b.py": SOURCE,
        "tasks.yaml": "tasks: [{id: one, description: x, engine: mock}]\n",
    }
    made = project(tmp_path, files)
    monkeypatch.chdir(made)
    return made


def check_calls() -> None:
    """What issue and README write, word by word; everything must be ok."""
    ai = ParallelAI()
    found = ai.review("src/**/*.py")
    assert {finding.file for finding in found.findings} == {"src/a.py", "src/deep/b.py"}
    assert ai.review("*.py", parallel=50, checklist=["security", "performance"]).exit == 0
    some = [Task(id=f"t{number}", description="x", engine="mock") for number in range(20)]
    assert ai.execute(tasks=some, parallel=100).exit == 0
    pair = [Task(id="a", description="x"), Task(id="b", description="x", depends_on=["a"])]
    two = MultiEngine(["mock", FakeEngine()])
    done = ai.execute(tasks=pair, strategy=DAGStrategy(), engine=two)
    assert statuses(done) == {"a": "ok", "b": "ok"}
    assert ai.execute("tasks.yaml").plan == "tasks.yaml"
    assert ai.show().plan == "tasks.yaml"
    assert ai.resume() is not None


def test_the_calls_in_a_script(root: Path) -> None:
    check_calls()


async def test_the_calls_inside_a_running_loop(root: Path) -> None:
    """As in a notebook: the loop of the cell is running, and the call blocks it until it is done."""
    check_calls()
    assert asyncio.get_running_loop().is_running()


async def test_the_async_twin(root: Path) -> None:
    async with AsyncParallelAI() as ai:
        assert (await ai.review("src/**/*.py")).findings
        document = await ai.execute(tasks=[Task(id="a", description="x", engine="mock")], parallel=100)
        assert document.exit == 0
        assert (await ai.execute("tasks.yaml")).exit == 0


@pytest.mark.parametrize(
    "strategy",
    [DAGStrategy(), ParallelStrategy(), BatchStrategy(2), PipelineStrategy(), "batch:2"],
    ids=str,
)
def test_strategies_as_objects_and_by_name(root: Path, strategy: object) -> None:
    asked = [Task(id=name, description="x", engine="mock") for name in "abc"]
    assert ParallelAI().execute(tasks=asked, strategy=strategy).exit == 0


def test_the_arguments_are_those_of_the_async_twin() -> None:
    for name in ("review", "execute"):
        mine, twin = getattr(ParallelAI, name), getattr(AsyncParallelAI, name)
        assert inspect.signature(mine) == inspect.signature(twin)
        assert mine.__doc__ == twin.__doc__


def test_mistakes_are_told_at_once(root: Path) -> None:
    with pytest.raises(ConfigError):
        ParallelAI(root / "nowhere")
    with pytest.raises(UsageError, match="matches"):
        ParallelAI().review("nothing/**")
    with pytest.raises(UsageError, match="plan or tasks"):
        ParallelAI().execute()


def test_nothing_is_left_behind(root: Path) -> None:
    before = threading.active_count()
    with ParallelAI() as ai:
        ai.review("src/a.py")
    assert threading.active_count() == before


async def test_what_fails_apart_is_raised_here(root: Path) -> None:
    async def fails() -> None:
        raise ValueError("here")

    with pytest.raises(ValueError, match="here"):
        run_apart(fails)


INTERRUPTED = """
import asyncio, os, signal, threading
from parallelai.client.sync import run_apart

ended = []

async def endless():
    os.kill(os.getpid(), signal.SIGINT)  # Ctrl-C while the cell waits
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0)
        ended.append("let go")

async def cell():
    try:
        run_apart(endless)
    except KeyboardInterrupt:
        print(ended, threading.active_count())

signal.signal(signal.SIGINT, signal.default_int_handler)
loop = asyncio.new_event_loop()
loop.run_until_complete(cell())
loop.close()
"""


def test_an_interruption_of_a_notebook_ends_what_runs_apart() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", INTERRUPTED], env=environment(), capture_output=True, text=True, timeout=60
    )
    assert ended.stdout == "['let go'] 1\n", ended


def test_ctrl_c_in_a_script_ends_it(root: Path) -> None:
    """Nothing is left running, and the run can be gone on with."""
    script = (
        "from parallelai import ParallelAI, Task\n"
        "plan = {'engines': {'sh': {'use': 'command', 'command': ['sh', '-c', 'kill -INT $WHO; sleep 100']}},\n"
        " 'workspace': {'pass_env': ['WHO']}, 'limits': {'grace': 0.1},\n"
        " 'tasks': [{'id': 'a', 'description': 'x', 'engine': 'sh'}]}\n"
        "import os; os.environ['WHO'] = str(os.getpid())\n"
        "ParallelAI().execute(plan)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script],
        cwd=root,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode in (-signal.SIGINT, 130), ended
    assert "KeyboardInterrupt" in ended.stderr
    assert os.path.exists(root / ".parallelai/state/journal.db")
    assert ParallelAI().show().run
