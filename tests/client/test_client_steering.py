"""What others ask of a run that is being carried out, from a store of their own, as another process has it."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from parallelai.client import AsyncParallelAI
from parallelai.engines.protocol import Capabilities, Estimate, Port, Request
from parallelai.errors import BusyError, Refused, UsageError
from parallelai.plan.model import Task
from parallelai.records import Outcome, Reply, RunDocument, Usage
from running import FakeEngine, Watcher, opened, project, statuses, tasks


class Gate:
    """An engine whose tasks end when they are let go."""

    def __init__(self) -> None:
        self.open: dict[str, asyncio.Event] = {}
        self.is_open = False
        self.failing: set[str] = set()
        self.engine = FakeEngine("gate", self, estimate=Estimate(tokens=10, usd=1.0))

    async def __call__(self, request: Request, port: Port) -> Reply:
        if not self.is_open:
            await self.open.setdefault(request.task, asyncio.Event()).wait()
        if request.task in self.failing:
            raise Refused("told to")
        return Reply(text=f"did {request.task}", usage=Usage(10, 0, 0, 0, 1.0, "prices"))

    def release(self, *names: str) -> None:
        for name in names:
            self.open.setdefault(name, asyncio.Event()).set()

    def release_all(self) -> None:
        self.is_open = True
        self.release(*self.open)


@asynccontextmanager
async def running(
    root: Path, gate: Gate, plan: Any, seen: Watcher, **asked: Any
) -> AsyncIterator[tuple[AsyncParallelAI, asyncio.Task[RunDocument]]]:
    """A run in the background, and the project opened by somebody else."""
    async with opened(root, gate.engine) as owner, opened(root) as other, asyncio.TaskGroup() as group:
        call = group.create_task(owner.execute(plan, engine="gate", on_events=seen, **asked))
        await seen.until(lambda s: s.of("attempt.started"))
        yield other, call


def plan_of(*asked: Task, **more: Any) -> dict[str, Any]:
    return {"tasks": list(asked), **more}


async def test_cancel_a_task_and_the_run(tmp_path: Path) -> None:
    gate, seen = Gate(), Watcher()
    plan = plan_of(*tasks("a", "b"), Task(id="c", description="x", depends_on=("a",)))
    async with running(tmp_path, gate, plan, seen) as (other, call):
        assert "`a`" in await other.runs.cancel(None, "a")
        await seen.until(lambda s: {e.task for e in s.of("task.ended")} >= {"a", "c"})
        with pytest.raises(UsageError, match="no task"):
            await other.runs.cancel(None, "nobody")
        assert not call.done()
        await other.runs.cancel()
    document = call.result()
    assert statuses(document) == {"a": "cancelled", "b": "cancelled", "c": "skipped"}
    assert document.exit == 4
    assert document.outcome is Outcome.CANCELLED
    answered = [(event.data.ok, event.data.command) for event in seen.of("command.done")]
    assert [ok for ok, _ in answered] == [True, False, True]
    assert len({number for _, number in answered}) == 3


async def test_pause_and_resume(tmp_path: Path) -> None:
    gate, seen = Gate(), Watcher()
    async with running(tmp_path, gate, plan_of(*tasks("a", "b")), seen, parallel=1) as (other, call):
        await other.runs.pause()
        first = gate.engine.tasks[0]
        gate.release("a", "b")
        await seen.until(lambda s: s.of("task.ended"))
        for _ in range(20):
            await asyncio.sleep(0)
        assert gate.engine.tasks == [first], "what is in flight goes on, nothing starts"
        assert await other.runs.resume() is None, "a live run is told to go on"
    assert call.result().exit == 0
    assert [event.type for event in seen.of("run.paused", "run.resumed")] == ["run.paused", "run.resumed"]


async def test_add_a_task(tmp_path: Path) -> None:
    project(tmp_path, {"x.py": "", "y.py": ""})
    gate, seen = Gate(), Watcher()
    async with running(tmp_path, gate, plan_of(*tasks("a")), seen) as (other, call):
        new = {"id": "b", "description": "x", "depends_on": ["a"], "files": "*.py", "each": "file"}
        assert "b@x.py" in await other.runs.add(None, new)
        for wrong in (
            {"id": "a", "description": "x"},
            {"id": "c"},
            {"id": "c", "description": "x", "depends_on": ["q"]},
        ):
            with pytest.raises(UsageError):  # an answer that says no is an error of whoever asked
                await other.runs.add(None, wrong)
        assert [event.data.ok for event in seen.of("command.done")] == [True, False, False, False]
        gate.release_all()
    document = call.result()
    assert statuses(document) == {"a": "ok", "b@x.py": "ok", "b@y.py": "ok"}
    engine = FakeEngine("gate")
    async with opened(tmp_path, engine) as ai:
        again = await ai.runs.resume(document.run)
        assert again is not None
        assert statuses(again) == statuses(document), "an added task is part of the run for good"
        assert ai.runs.show() == again
    assert engine.tasks == []


async def test_an_added_task_may_bring_an_engine_that_nobody_used(tmp_path: Path) -> None:
    gate, seen = Gate(), Watcher()
    engines = {"sh": {"use": "command", "command": ["sh", "-c", "echo x >> ran; echo hello"]}}
    async with running(tmp_path, gate, plan_of(*tasks("a"), engines=engines), seen) as (other, call):
        await other.runs.add(None, {"id": "b", "description": "x", "engine": "sh"})
        gate.release_all()
    assert call.result().tasks[1].text == "hello\n"
    async with opened(tmp_path, gate.engine) as ai:
        again = await ai.runs.resume()
    assert again is not None
    assert again.exit == 0
    assert (tmp_path / "ran").read_text() == "x\n", "its fingerprint is the same when it is in from the start"


def in_git(root: Path) -> None:
    who = {f"GIT_{role}_{key}": "a@b.c" for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")}
    for words in (["init", "-qb", "main"], ["commit", "-qm", "first", "--allow-empty"]):
        subprocess.run(["git", *words], cwd=root, check=True, env={**os.environ, **who})


async def test_an_added_task_has_folders_checks_and_leave_as_any_other(tmp_path: Path) -> None:
    in_git(tmp_path)
    gate, seen = Gate(), Watcher()
    engines = {
        "look": {"use": "command", "command": ["echo", "seen"]},
        "sh": {"use": "command", "command": ["sh", "-c", "echo hello | tee made"]},
    }
    plan = plan_of(*tasks("a"), Task(id="b", description="x", engine="look"), engines=engines)  # type: ignore[arg-type]
    async with running(tmp_path, gate, plan, seen) as (other, call):
        await other.runs.add(None, {"id": "edit", "description": "x", "engine": "sh", "edits": True})
        await other.runs.add(None, {"id": "check", "description": "x", "checks": [["false"]]})
        await other.runs.add(None, {"id": "leave", "description": "x", "approve": True})
        with pytest.raises(UsageError, match="does not wait for leave"):
            await other.runs.ask(None, "approve", {"name": "leave"})
        gate.release_all()
    expected = {"a": "ok", "b": "ok", "edit": "ok", "check": "failed", "leave": "blocked"}
    assert statuses(call.result()) == expected


async def test_a_run_without_folders_refuses_a_task_that_needs_one(tmp_path: Path) -> None:
    in_git(tmp_path)
    gate, seen = Gate(), Watcher()
    engines = {"sh": {"use": "command", "command": ["touch", "made"]}}
    async with running(tmp_path, gate, plan_of(*tasks("a"), engines=engines), seen) as (other, call):
        with pytest.raises(UsageError, match="needs a folder of its own"):
            await other.runs.add(None, {"id": "b", "description": "x", "engine": "sh"})
        gate.release_all()
    assert statuses(call.result()) == {"a": "ok"}
    assert not (tmp_path / "made").exists()


async def test_retry_what_failed(tmp_path: Path) -> None:
    gate, seen = Gate(), Watcher()
    gate.failing.add("a")
    plan = plan_of(
        Task(id="a", description="x"), Task(id="b", description="x", depends_on=("a",)), *tasks("c")
    )
    async with running(tmp_path, gate, plan, seen) as (other, call):
        gate.release("a")
        await seen.until(lambda s: len(s.of("task.ended")) == 2)
        gate.failing.clear()
        assert "`a`" in await other.runs.retry(None, "a")
        gate.release_all()
    document = call.result()
    assert statuses(document) == {"a": "ok", "b": "ok", "c": "ok"}
    assert sorted(gate.engine.tasks) == ["a", "a", "b", "c"]


async def test_set_limit(tmp_path: Path) -> None:
    gate, seen = Gate(), Watcher()
    async with running(tmp_path, gate, plan_of(*tasks(*"abcd")), seen, parallel=1) as (other, call):
        await other.runs.set_limit(None, 3)
        await seen.until(lambda s: len(s.of("attempt.started")) == 3)
        with pytest.raises(UsageError, match="at least 1"):
            await other.runs.ask(None, "set-limit", {"parallel": 0})
        assert [event.data.ok for event in seen.of("command.done")] == [True, False]
        assert seen.of("limit.changed")[0].data.after == 3
        gate.release_all()
    assert call.result().exit == 0


async def test_set_budget_holds_for_the_rest_and_for_resumes(tmp_path: Path) -> None:
    gate, seen = Gate(), Watcher()
    asked = {"parallel": 1, "budget": "10usd"}
    async with running(tmp_path, gate, plan_of(*tasks(*"abcd")), seen, **asked) as (other, call):
        await other.runs.set_budget(None, {"usd": 2})
        gate.release_all()
    document = call.result()
    assert (document.exit, document.counts[Outcome.OK]) == (5, 2)
    assert len(seen.of("budget.changed")) == 1
    async with opened(tmp_path, gate.engine) as ai:
        again = await ai.runs.resume()
        assert again is not None
        assert again.counts[Outcome.OK] == 2, "nobody gave it more"
        more = await ai.execute(plan_of(*tasks("z")), engine="gate")
        assert more.exit == 0


async def test_what_is_for_workstreams_is_refused_where_there_are_none(tmp_path: Path) -> None:
    gate, seen = Gate(), Watcher()
    async with running(tmp_path, gate, plan_of(*tasks("a")), seen) as (other, call):
        for kind in ("approve", "reject", "lease", "land", "sync", "done", "stop", "drop"):
            with pytest.raises(UsageError, match="is for workstreams"):
                await other.runs.ask(None, kind, {})
        with pytest.raises(UsageError):
            await other.runs.ask(None, "no-such-thing", {})
        assert not any(event.data.ok for event in seen.of("command.done"))
        gate.release_all()
    assert call.result().exit == 0


async def test_nobody_alive_is_said_with_the_command_that_goes_on(tmp_path: Path) -> None:
    async def refuse(request: Request, port: Port) -> Reply:
        raise Refused("no")

    async with opened(tmp_path, FakeEngine(answer=refuse)) as ai:
        document = await ai.execute(tasks=tasks("a"), engine="fake")
        with pytest.raises(UsageError) as nobody:
            await ai.runs.cancel(document.run)
    assert nobody.value.said == f"run `{document.run}` has ended, failed"
    assert f"runs resume {document.run}" in str(nobody.value.next)


async def test_what_was_asked_of_a_dead_process_is_not_done_to_the_next(tmp_path: Path) -> None:
    """A cancel that came too late must not cancel the run when it is gone on with; a new task is not lost."""
    engine = FakeEngine()
    async with opened(tmp_path, engine) as ai:
        document = await ai.execute(tasks=tasks("a"), engine=engine)
        commands = ai.project.store.commands
        late = commands.ask(document.run, "cancel", {}, "me")
        new = commands.ask(document.run, "add", {"id": "b", "description": "x"}, "me")
        again = await ai.runs.resume(document.run)
        assert again is not None
        assert "had ended" in str(commands.get(late).result)
        assert commands.get(new).done_at is not None
        assert commands.pending(document.run) == []
        assert statuses(again)["a"] == "ok"


async def test_what_comes_after_the_last_task_is_answered(tmp_path: Path) -> None:
    engine = FakeEngine()
    numbers: list[int] = []
    async with opened(tmp_path, engine) as ai:

        def watch(events: Any) -> None:
            for event in events:
                if event.type == "task.ended":
                    numbers.append(ai.project.store.commands.ask(event.run, "cancel", {}, "me"))

        document = await ai.execute(tasks=tasks("a"), engine=engine, on_events=watch)
        assert document.exit == 0
        rows = [ai.project.store.commands.get(number) for number in numbers]
        again = await ai.runs.resume(document.run)
        assert again is not None
        assert again.exit == 0
    assert rows


async def test_two_cannot_carry_out_the_same_run(tmp_path: Path) -> None:
    gate, seen = Gate(), Watcher()
    project(tmp_path, {"plan.yaml": "tasks: [{id: a, description: x}]\n"})
    async with running(tmp_path, gate, tmp_path / "plan.yaml", seen) as (other, call):
        with pytest.raises(BusyError):
            await other.execute(tmp_path / "plan.yaml", engine="mock", resume=True)
        assert other.runs.state().state == "running"
        gate.release_all()
    assert call.result().exit == 0


async def test_a_message_that_nobody_can_take_is_refused(tmp_path: Path) -> None:
    gate, seen = Gate(), Watcher()
    async with running(tmp_path, gate, plan_of(*tasks("a")), seen) as (other, call):
        with pytest.raises(UsageError, match="`gate` takes no message while it works"):
            await other.runs.send(None, "a", "look at the tests")
        gate.release_all()
    assert call.result().exit == 0


async def test_a_message_that_came_too_late_is_told_of(tmp_path: Path) -> None:
    gate, seen = Gate(), Watcher()
    gate.engine.capabilities = Capabilities(messages=True)
    async with running(tmp_path, gate, plan_of(*tasks("a")), seen) as (other, _):
        assert await other.runs.send(None, "a", "look at the tests") == "sent"
        gate.release_all()
    (ended,) = seen.of("attempt.ended")
    assert ended.data.reply.notes == ("was not told: look at the tests",)
