"""Events for the tests, and a way to run the programs of `store_programs.py` in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import parallelai
from parallelai.events import (
    AttemptEnded,
    AttemptReserved,
    AttemptStarted,
    EventData,
    RunCreated,
    RunEnded,
    RunStarted,
    TaskEnded,
    TaskExpanded,
    TaskReady,
)
from parallelai.records import FREE, LimitKey, Outcome, Reply, TaskResult

PROGRAM = Path(__file__).with_name("store_programs.py")
ENV = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(parallelai.__file__).parents[1])}


def created(
    plan: str | None = "tasks.yaml", kind: str = "execute", tasks: tuple[str, ...] = ()
) -> RunCreated:
    document = {"tasks": [{"id": name, "kind": "review"} for name in tasks]}
    return RunCreated(kind=kind, plan=plan, root="/p", version="0", document=document)


def started(is_resume: bool = False) -> RunStarted:
    return RunStarted(pid=1, host="h", parallel=2, strategy="dag", is_resume=is_resume)


def ended(outcome: Outcome = Outcome.OK, exit: int = 0) -> RunEnded:
    return RunEnded(outcome, exit, 1.5, 3.0, {Outcome.OK: 1}, FREE)


def result(name: str, status: Outcome = Outcome.OK, seconds: float = 0.5) -> TaskResult:
    return TaskResult(name, status, engine="mock", attempts=1, turns=1, seconds=seconds, usage=FREE)


def task_events(
    name: str,
    *,
    status: Outcome = Outcome.OK,
    text: str = "done",
    seconds: float = 0.5,
    is_cached: bool = False,
    is_kept: bool = False,
) -> Iterator[EventData]:
    """Yield what happens to a task, in order."""
    is_ok = status is Outcome.OK
    yield TaskReady()
    yield AttemptReserved("mock", LimitKey("mock"), "plan")
    yield AttemptStarted("mock")
    reply = Reply(text=text, usage=FREE) if is_ok else None
    yield AttemptEnded("mock", is_ok, seconds, FREE, reply, is_cached=is_cached)
    yield TaskEnded(result(name, status, seconds), "f" * 64, (1,), is_kept=is_kept)


def text_of(seq: int, size: int = 200) -> str:
    """Make a text by which an event with this seq can be told."""
    return f"{seq}:" + chr(97 + seq % 26) * (size + seq * 7919 % size)


def numbered(seq: int, size: int = 200) -> EventData:
    """Make the event that the programs write in a run's place `seq`."""
    if seq == 1:
        return created()
    if seq == 2:
        return TaskExpanded(tuple(f"t{n}" for n in range(20)))
    return AttemptEnded("mock", True, 0.1, FREE, Reply(text=text_of(seq, size)))


def start(*arguments: object, prefix: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """Start one of the programs; the caller ends it."""
    argv = [*prefix, sys.executable, str(PROGRAM), *(str(part) for part in arguments)]
    return subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENV,
    )


def run(*arguments: object, prefix: tuple[str, ...] = ()) -> str:
    """Run one of the programs to its end and return what it printed; fails with what it said."""
    with start(*arguments, prefix=prefix) as process:
        out, said = process.communicate(timeout=100)
    assert process.returncode == 0, said
    return out
