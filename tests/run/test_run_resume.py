"""Going on with a run: after failures, after interruptions, and when its plan has changed meanwhile."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import yaml

from parallelai.engines.mock import Rule
from parallelai.engines.protocol import Port, Request
from parallelai.errors import BusyError, PlanError, Refused, UsageError
from parallelai.events import (
    AttemptEnded,
    AttemptReserved,
    AttemptStarted,
    Event,
    RunStarted,
    TaskEnded,
    TaskExpanded,
    WorkstreamRevisited,
)
from parallelai.plan.model import Task
from parallelai.records import LimitKey, Outcome, Reply, TaskResult
from parallelai.run.report import Report
from parallelai.run.resume import read
from parallelai.store import Store
from running import FakeEngine, Watcher, came_to, opened, project, scripted, statuses, tasks


class Switch:
    """Fails for some tasks until it is turned."""

    def __init__(self, *broken: str) -> None:
        self.broken = set(broken)

    async def __call__(self, request: Request, port: Port) -> str:
        if request.task in self.broken:
            raise Refused("not now")
        return f"did {request.task}"


def write(root: Path, *asked: dict[str, Any], **more: Any) -> Path:
    project(root)
    path = root / "plan.yaml"
    path.write_text(yaml.safe_dump({**more, "tasks": list(asked)}, sort_keys=False))
    return path


def task(name: str, *depends_on: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "description": f"do {name}", "depends_on": list(depends_on), **more}


async def test_what_failed_is_tried_again_and_what_was_skipped_for_it(tmp_path: Path) -> None:
    path = write(tmp_path, task("a"), task("b", "a"), task("c", "b"), task("d"))
    switch = Switch("b")
    engine = FakeEngine(answer=switch)
    async with opened(tmp_path, engine) as ai:
        first = await ai.execute(path, engine=engine)
        assert statuses(first) == {"a": "ok", "b": "failed", "c": "skipped", "d": "ok"}
        switch.broken.clear()
        again = await ai.execute(path, resume=True)
        assert statuses(again) == {"a": "ok", "b": "ok", "c": "ok", "d": "ok"}
        assert (again.run, again.exit) == (first.run, 0)
        assert sorted(engine.tasks) == ["a", "b", "b", "c", "d"]
        (row,) = ai.runs.list()
        assert row.state == "ok"


async def test_where_nothing_is_left_the_result_is_given_again(tmp_path: Path) -> None:
    path = write(tmp_path, task("a"), task("b", "a"))
    engine = FakeEngine()
    async with opened(tmp_path, engine) as ai:
        first = await ai.execute(path, engine=engine)
    seen = Watcher()
    async with opened(tmp_path, FakeEngine()) as ai:
        again = await ai.execute(path, resume=True, on_events=seen)
        assert came_to(again) == came_to(first)
        assert [(row.attempts, row.turns) for row in again.tasks] == [(1, 1), (1, 1)]
        assert seen.of("attempt.reserved", "task.ended") == [], "nothing happened to them"
        new = await ai.execute(path, engine="fake", resume=True, new=True)
        plain = await ai.execute(path, engine="fake")
    assert len({first.run, new.run, plain.run}) == 3


async def test_resume_starts_a_run_where_there_is_none(tmp_path: Path) -> None:
    path = write(tmp_path, task("a"))
    async with opened(tmp_path, FakeEngine()) as ai:
        assert (await ai.execute(path, engine="fake", resume=True)).exit == 0


async def test_a_cancelled_call_can_be_resumed(tmp_path: Path) -> None:
    """The library's caller may cancel at any time: nothing is left running, and what was done stays done."""
    started, gone = asyncio.Event(), asyncio.Event()

    async def answer(request: Request, port: Port) -> str:
        if request.task == "b" and not gone.is_set():
            started.set()
            try:
                await asyncio.Event().wait()
            finally:
                gone.set()
        return f"did {request.task}"

    engine = FakeEngine(answer=answer)
    async with opened(tmp_path, engine) as ai:
        call = asyncio.create_task(
            ai.execute(tasks=[*tasks("a"), *tasks("b", depends_on=("a",))], engine=engine)
        )
        await started.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert gone.is_set()
        (row,) = ai.runs.list()
        assert row.state == "interrupted"
        again = await ai.runs.resume(row.row.id)
        assert again is not None
        assert again.exit == 0
        assert engine.tasks == ["a", "b", "b"]
        assert [r.attempts for r in again.tasks] == [1, 1]
        assert ai.runs.show() == again
    assert engine.requests[2].attempt == 2, "attempts are counted over processes"


async def test_a_run_has_one_owner(tmp_path: Path) -> None:
    path = write(tmp_path, task("a"))
    started, finish = asyncio.Event(), asyncio.Event()

    async def answer(request: Request, port: Port) -> str:
        started.set()
        await finish.wait()
        return "done"

    engine = FakeEngine(answer=answer)
    async with opened(tmp_path, engine) as ai, opened(tmp_path, FakeEngine()) as other:
        async with asyncio.TaskGroup() as group:
            call = group.create_task(ai.execute(path, engine=engine))
            await started.wait()
            with pytest.raises(BusyError) as busy:
                await other.execute(path, engine="fake", resume=True)
            assert busy.value.exit_code == 2
            with pytest.raises(BusyError):
                await other.runs.delete(other.runs.find().id)
            finish.set()
        assert call.result().exit == 0


async def test_what_another_process_finished_meanwhile_is_not_done_again(tmp_path: Path) -> None:
    """Whoever takes a run over reads what is there when it is his, not before."""
    path = write(tmp_path, task("a"), task("b", "a"))
    switch = Switch("b")
    engine = FakeEngine(answer=switch)
    async with opened(tmp_path, engine) as ai, opened(tmp_path, engine) as other:
        await ai.execute(path, engine=engine)
        switch.broken.clear()
        results = await asyncio.gather(
            ai.execute(path, resume=True), other.execute(path, resume=True), return_exceptions=True
        )
    assert engine.tasks == ["a", "b", "b"]
    assert all(isinstance(found, BusyError) or found.exit == 0 for found in results)  # type: ignore[union-attr]


async def test_a_changed_plan_keeps_what_is_the_same(tmp_path: Path) -> None:
    path = write(tmp_path, task("a"), task("b", "a"), task("c"))
    engine = FakeEngine()
    async with opened(tmp_path, engine) as ai:
        await ai.execute(path, engine=engine)
        engine.requests.clear()
        path = write(tmp_path, task("a"), task("b", "a", files="plan.yaml"), task("new", "a"))
        document = await ai.execute(path, resume=True)
    assert sorted(engine.tasks) == ["b", "new"]
    assert statuses(document) == {"a": "ok", "b": "ok", "new": "ok"}, "`c` is no part of it any more"
    assert document.counts[Outcome.OK] == 3


async def test_a_plan_that_became_wrong_is_refused_and_the_run_stays(tmp_path: Path) -> None:
    path = write(tmp_path, task("a"))
    async with opened(tmp_path, FakeEngine()) as ai:
        first = await ai.execute(path, engine="fake")
        path.write_text("tasks: [{id: a}]")
        with pytest.raises(PlanError):
            await ai.runs.resume(first.run)
        assert ai.runs.show() == first


async def test_a_plan_given_as_an_object_is_resumed_from_what_was_recorded(tmp_path: Path) -> None:
    switch = Switch("b")
    engine = FakeEngine(answer=switch)
    asked = [Task(id="a", description="x", files="*.py"), Task(id="b", description="{{ vars.v }}")]
    project(tmp_path, {"x.py": ""})
    async with opened(tmp_path, engine) as ai:
        plan = {"vars": {"v": 1}, "tasks": asked}
        first = await ai.execute(plan, engine=engine, variables={"v": 2})
        switch.broken.clear()
        again = await ai.runs.resume(first.run[:-2])
    assert again is not None
    assert again.exit == 0
    assert sorted(engine.tasks) == ["a", "b", "b"]
    assert engine.requests[-1].prompt.strip() == "2"


async def test_only_takes_what_it_depends_on(tmp_path: Path) -> None:
    path = write(tmp_path, task("a"), task("b", "a", tags=["x"]), task("c", "b"), task("d"))
    engine = FakeEngine()
    async with opened(tmp_path, engine) as ai:
        document = await ai.execute(path, engine=engine, only=["x"])
        assert statuses(document) == {"a": "ok", "b": "ok"}
        with pytest.raises(UsageError, match="nobody"):
            await ai.execute(path, engine=engine, only=["nobody"])
        whole = await ai.execute(path, engine=engine, resume=True, only=["c", "d"])
    assert (whole.run, len(engine.tasks)) == (document.run, 4)


async def test_killed_between_the_end_of_an_attempt_and_that_of_its_task(tmp_path: Path) -> None:
    """A reply that is on disk is not asked, and not paid, for again."""
    engine = FakeEngine()
    path = write(tmp_path, task("a", checks=[["test", "-e", "plan.yaml"]]))
    async with opened(tmp_path, engine) as ai:
        first = await ai.execute(path, engine=engine)
        events = list(ai.runs.events(first.run))
        cut = next(event.seq for event in events if event.type == "attempt.ended")
    copy = project(tmp_path / "copy", {"plan.yaml": path.read_text()})
    async with opened(copy, FakeEngine()) as ai:
        state = ai.project.state
    with Store.open(state) as store:
        async with store.journal.writer(first.run) as writer:
            for event in events[:cut]:
                writer.append(event.data, task=event.task, attempt=event.attempt)  # type: ignore[arg-type]
    again = FakeEngine()
    seen = Watcher()
    async with opened(copy, again, trust=True) as ai:
        document = await ai.execute(copy / "plan.yaml", resume=True, on_events=seen)
    assert again.tasks == []
    assert statuses(document) == {"a": "ok"}
    assert document.tasks[0].text == "did a"
    assert [event.data.step for event in seen.of("task.step")] == ["check"], "what it still had to pass"


async def test_a_task_that_is_done_again_has_no_result_until_it_ends(tmp_path: Path) -> None:
    """A run that was interrupted while it did a task again does not show the old result as its own."""
    started = asyncio.Event()
    hang = False

    async def answer(request: Request, port: Port) -> str:
        if hang:
            started.set()
            await asyncio.Event().wait()
        return "done"

    engine = FakeEngine(answer=answer)
    path = write(tmp_path, task("a", files="x.txt"), task("b"))
    (tmp_path / "x.txt").write_text("1")
    async with opened(tmp_path, engine) as ai:
        await ai.execute(path, engine=engine)
        hang = True
        (tmp_path / "x.txt").write_text("2")
        call = asyncio.create_task(ai.execute(path, resume=True))
        await started.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert statuses(ai.runs.show()) == {"b": "ok"}
        hang = False
        (tmp_path / "x.txt").write_text("1")
        again = await ai.execute(path, resume=True)
    assert statuses(again) == {"a": "ok", "b": "ok"}
    assert engine.tasks.count("a") == 2, "the first reply still holds: the file is as it was"


async def test_a_review_is_resumed_by_the_same_words(tmp_path: Path) -> None:
    project(tmp_path, {"a.py": "x", "b.py": "y"})
    engine = scripted(Rule(task="*b.py", error="refused", times=1), name="m")
    async with opened(tmp_path, engine) as ai:
        first = await ai.review("*.py", engine="m")
        again = await ai.review("*.py", engine="m", resume=True)
        other = await ai.review("a.py", engine="m", resume=True)
    assert first.run == again.run != other.run
    assert again.exit == 0


def test_the_time_between_processes_and_of_one_that_finds_nothing_to_do_is_nobodys_work() -> None:
    report = Report()
    steps = [
        ("10:00:00", RunStarted(1, "h", 1, "dag")),
        ("10:00:04", TaskExpanded(("a",))),
        ("11:00:00", RunStarted(2, "h", 1, "dag", True)),
        ("11:00:03", AttemptReserved("sh", LimitKey("sh"), "plan")),
        ("12:00:00", RunStarted(3, "h", 1, "dag", True)),
        ("12:00:02", TaskExpanded(("a",))),
    ]
    for seq, (at, data) in enumerate(steps, start=1):
        report.take(Event("r-1", seq, f"2026-01-01T{at}.000000Z", data.type, data))
    assert report.seconds == 7.0


@pytest.mark.parametrize("is_anew", [True, False])
def test_what_is_begun_anew_has_no_answer_from_before(is_anew: bool) -> None:
    facts = (
        AttemptStarted("sh", LimitKey("sh"), fingerprint="f"),
        AttemptEnded("sh", True, 1.0, reply=Reply(text="done")),
        TaskEnded(TaskResult(id="gui", status=Outcome.OK), "f", (1,)),
    )
    events = [Event("r-1", n, "2026-11-20T10:00:00Z", one.type, one, "gui", 1) for n, one in enumerate(facts)]
    revisited = WorkstreamRevisited("gui", is_anew, "was given up")
    events.append(Event("r-1", 9, "2026-11-20T10:00:00Z", revisited.type, revisited))

    prior = read(events)

    assert (prior.answer("gui", "sh", "f") is None) == is_anew
    assert ("gui" in prior.ended) != is_anew
    assert prior.attempts == {"gui": 1}
