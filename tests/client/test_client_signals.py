"""Interrupting a run: gently at first, then at once; resumable either way."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import Popen

import pytest
import yaml

from crash_support import await_none, marked
from parallelai.engines.protocol import Capabilities, Estimate, Port, Request, SessionEvent
from parallelai.errors import BusyError
from parallelai.records import FREE, Outcome, Reply
from running import FakeEngine, Watcher, opened, project, run_program, start_program, statuses, tasks

ENDLESS = "trap '' INT TERM; touch started; while :; do sleep 1000; done"


def endless_plan(root: Path, grace: float, script: str = ENDLESS) -> Path:
    """A plan whose first task does not end, whatever it is asked; the second waits for its turn."""
    plan = {
        "engines": {"sh": {"use": "command", "command": ["sh", "-c", script]}},
        "limits": {"grace": grace, "parallel": 1},
        "tasks": [{"id": name, "description": "x", "engine": "sh"} for name in ("first", "second")],
    }
    project(root, {"plan.yaml": yaml.safe_dump(plan, sort_keys=False)})
    return root / "plan.yaml"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_what_is_in_flight_may_end_and_nothing_starts(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    started, finish, seen = asyncio.Event(), asyncio.Event(), Watcher()

    async def answer(request: Request, port: Port) -> str:
        started.set()
        await finish.wait()
        return "done"

    engine = FakeEngine(answer=answer)
    async with opened(tmp_path, engine) as ai:
        assert not ai.interrupt(number), "nothing is being carried out"
        async with asyncio.TaskGroup() as group:
            asked = ai.execute(tasks=tasks("a", "b"), engine=engine, parallel=1, on_events=seen)
            call = group.create_task(asked)
            await started.wait()
            assert ai.interrupt(number)
            await seen.until(lambda s: s.of("run.stopping"))
            with pytest.raises(BusyError, match="is stopping") as refused:
                await ai.runs.resume()
            assert "when it has ended: `parallelai runs resume r-" in str(refused.value.next)
            finish.set()
        document = call.result()
        assert statuses(document) == {"a": "ok", "b": "cancelled"}
        assert (document.exit, document.outcome) == (code, Outcome.CANCELLED)
        again = await ai.runs.resume(document.run)
    assert again is not None
    assert (again.exit, statuses(again)) == (0, {"a": "ok", "b": "ok"})
    assert engine.tasks == ["a", "b"]


class _Starting(FakeEngine):
    """An assistant whose program starts up until it may open its session, and answers then."""

    def __init__(self) -> None:
        sessions = Capabilities(resumes=True, streams=True)
        super().__init__(capabilities=sessions, estimate=Estimate(memory_bytes=1))
        self.may_open = asyncio.Event()

    async def perform(self, request: Request, port: Port) -> Reply:
        self.requests.append(request)
        await self.may_open.wait()
        await port.emit(SessionEvent(f"s-{request.task}"))
        return Reply(text="done", usage=FREE)


@pytest.fixture
def one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 1)


@pytest.mark.usefixtures("one_core")
async def test_no_program_starts_any_more_that_still_waits_to_start(tmp_path: Path) -> None:
    engine, seen = _Starting(), Watcher()
    async with opened(tmp_path, engine) as ai:
        async with asyncio.TaskGroup() as group:
            asked = ai.execute(tasks=tasks("a", "b", "c", "d"), engine=engine, parallel=4, on_events=seen)
            call = group.create_task(asked)
            await seen.until(lambda s: len(s.of("attempt.started")) == 4 and len(engine.tasks) == 2)
            ai.interrupt(signal.SIGINT)
            await seen.until(lambda s: len(s.of("task.ended")) == 2)  # at once: the others may go on
            engine.may_open.set()
        document = call.result()
    assert statuses(document) == {"a": "ok", "b": "ok", "c": "cancelled", "d": "cancelled"}
    assert engine.tasks == ["a", "b"]


@pytest.mark.usefixtures("one_core")
async def test_a_paused_run_starts_no_program_that_still_waits_to_start(tmp_path: Path) -> None:
    engine, seen = _Starting(), Watcher()
    async with opened(tmp_path, engine) as ai, asyncio.TaskGroup() as group:
        asked = ai.execute(tasks=tasks("a", "b", "c"), engine=engine, parallel=3, on_events=seen)
        call = group.create_task(asked)
        await seen.until(lambda s: len(s.of("attempt.started")) == 3 and len(engine.tasks) == 2)
        await ai.runs.pause()
        engine.may_open.set()
        await seen.until(lambda s: len(s.of("task.ended")) == 2)
        assert engine.tasks == ["a", "b"]
        assert await ai.runs.resume() is None
        document = await call
    assert statuses(document) == {"a": "ok", "b": "ok", "c": "ok"}


async def test_the_grace_over_what_is_in_flight_is_ended(tmp_path: Path) -> None:
    path = endless_plan(tmp_path, grace=0.1)
    seen = Watcher()
    async with opened(tmp_path) as ai:
        async with asyncio.TaskGroup() as group:
            call = group.create_task(ai.execute(path, on_events=seen))
            await seen.until(lambda s: s.of("attempt.started"))
            ai.interrupt(signal.SIGINT)
        document = call.result()
    assert statuses(document) == {"first": "cancelled", "second": "cancelled"}
    assert document.exit == 130
    assert marked(document.run) == []


async def test_the_second_time_is_at_once(tmp_path: Path) -> None:
    """With a grace of an hour this ends only if the second interruption waits for nothing."""
    path = endless_plan(tmp_path, grace=3600)
    seen = Watcher()
    async with opened(tmp_path) as ai:
        async with asyncio.TaskGroup() as group:
            call = group.create_task(ai.execute(path, on_events=seen))
            await seen.until(lambda s: s.of("attempt.started"))
            ai.interrupt(signal.SIGINT)
            ai.interrupt(signal.SIGINT)
        document = call.result()
    assert document.exit == 130
    assert marked(document.run) == []


async def test_a_check_is_ended_like_an_attempt(tmp_path: Path) -> None:
    plan = {
        "limits": {"grace": 0.1},
        "tasks": [{"id": "a", "description": "x", "checks": [["sh", "-c", ENDLESS]]}],
    }
    seen = Watcher()
    async with opened(tmp_path, FakeEngine()) as ai:
        async with asyncio.TaskGroup() as group:
            call = group.create_task(ai.execute(plan, engine="fake", on_events=seen))
            await seen.until(lambda s: s.of("task.step"))
            ai.interrupt(signal.SIGTERM)
        document = call.result()
    assert (document.exit, statuses(document)) == (143, {"a": "cancelled"})
    assert marked(document.run) == []


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Callable[[], Popen[str]]]:
    """Start carrying out the endless plan, and wait until its first task has started."""
    begun: list[Popen[str]] = []

    def start() -> Popen[str]:
        process = start_program(tmp_path, "execute", "plan.yaml", "--json")
        begun.append(process)
        limit = time.monotonic() + 60
        while not (tmp_path / "started").exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < limit, "the first task never started"
            time.sleep(0.01)
        return process

    yield start
    for process in begun:
        with process:
            process.kill()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_command_line_ends_with_the_signal_s_code(
    tmp_path: Path, program: Callable[[], Popen[str]], number: signal.Signals, code: int
) -> None:
    endless_plan(tmp_path, grace=0.2)
    process = program()
    process.send_signal(number)
    out, complaint = process.communicate(timeout=60)
    assert process.returncode == code, complaint
    document = json.loads(out)
    assert (document["exit"], document["outcome"]) == (code, "cancelled")
    await_none(document["run"])
    endless_plan(tmp_path, grace=0.2, script="echo done")
    completed = run_program(tmp_path, "runs", "resume", "--json")
    assert completed.returncode == 0, completed.stderr
    assert json.loads(completed.stdout)["run"] == document["run"]


@pytest.mark.slow
def test_the_command_line_ends_at_once_the_second_time(
    tmp_path: Path, program: Callable[[], Popen[str]]
) -> None:
    endless_plan(tmp_path, grace=3600)
    process = program()
    for _ in range(2):
        os.kill(process.pid, signal.SIGINT)
        time.sleep(0.1)  # two signals of one kind that come together are one
    out, complaint = process.communicate(timeout=60)
    assert process.returncode == 130, complaint
    await_none(json.loads(out)["run"])


@pytest.mark.slow
def test_another_process_steers_and_may_not_take_over(
    tmp_path: Path, program: Callable[[], Popen[str]]
) -> None:
    endless_plan(tmp_path, grace=0.1)
    process = program()
    busy = run_program(tmp_path, "execute", "plan.yaml", "--resume", "--json")
    assert busy.returncode == 2
    assert json.loads(busy.stdout)["error"]["kind"] == "busy"
    assert run_program(tmp_path, "runs", "add", "", "say hello", "--id", "third").returncode == 2
    assert run_program(tmp_path, "runs", "pause").returncode == 0
    assert run_program(tmp_path, "runs", "cancel").returncode == 0
    out, complaint = process.communicate(timeout=60)
    assert process.returncode == 4, complaint
    assert json.loads(out)["counts"]["cancelled"] == 2
