"""Stored replies: whose, which, and between whom they are shared."""

from __future__ import annotations

import asyncio
from pathlib import Path

from parallelai.engines.protocol import Capabilities, Port, Request
from parallelai.plan.model import Task
from parallelai.records import FREE, Finding, Reply, Severity
from running import FakeEngine, Watcher, opened, project, tasks

REPEATABLE = Capabilities(is_repeatable=True)


async def test_replies_are_shared_between_runs_and_tasks(tmp_path: Path) -> None:
    project(tmp_path, {"a.py": "x = 1\n"})
    engine = FakeEngine(capabilities=REPEATABLE)
    asked = [Task(id="a", description="same", files="a.py")]
    seen = Watcher()
    async with opened(tmp_path, engine) as ai:
        first = await ai.execute(tasks=asked, engine=engine)
        second = await ai.execute(
            tasks=[asked[0].model_copy(update={"id": "b"})], engine=engine, on_events=seen
        )
    assert engine.tasks == ["a"]
    assert second.run != first.run
    assert [task.text for task in second.tasks] == ["did a"]
    assert seen.of("attempt.ended")[0].data.is_cached
    assert second.tasks[0].turns == 0, "nobody was asked"
    assert ai.project.state.exists()


async def test_another_question_file_or_model_is_another_reply(tmp_path: Path) -> None:
    project(tmp_path, {"a.py": "x = 1\n"})
    engine = FakeEngine(capabilities=REPEATABLE)
    asked = Task(id="a", description="same", files="a.py")
    async with opened(tmp_path, engine) as ai:
        await ai.execute(tasks=[asked], engine=engine)
        await ai.execute(tasks=[asked.model_copy(update={"description": "other"})], engine=engine)
        await ai.execute(tasks=[asked], engine=engine, model="large")
        (tmp_path / "a.py").write_text("x = 2\n")
        await ai.execute(tasks=[asked], engine=engine)
        assert len(engine.tasks) == 4
        (tmp_path / "a.py").write_text("x = 1\n")
        await ai.execute(tasks=[asked], engine=engine)
    assert len(engine.tasks) == 4


async def test_what_is_not_repeatable_is_asked_each_time(tmp_path: Path) -> None:
    engine = FakeEngine()
    async with opened(tmp_path, engine) as ai:
        for _ in range(2):
            await ai.execute(tasks=tasks("a"), engine=engine)
    assert engine.tasks == ["a", "a"]


async def test_no_cache_neither_reads_nor_writes(tmp_path: Path) -> None:
    engine = FakeEngine(capabilities=REPEATABLE)
    async with opened(tmp_path, engine) as ai:
        await ai.execute(tasks=tasks("a"), engine=engine, cache=False)
        assert ai.project.store.cache.info().entries == 0
        await ai.execute(tasks=tasks("a"), engine=engine)
        await ai.execute(tasks=tasks("a"), engine=engine, cache=False)
        assert len(engine.tasks) == 3
        await ai.execute(tasks=tasks("a"), engine=engine)
    assert len(engine.tasks) == 3


async def test_no_cache_does_not_undo_a_resume(tmp_path: Path) -> None:
    project(tmp_path, {"plan.yaml": "tasks: [{id: a, description: x}]\n"})
    engine = FakeEngine(capabilities=REPEATABLE)
    async with opened(tmp_path, engine) as ai:
        first = await ai.execute(tmp_path / "plan.yaml", engine=engine)
        again = await ai.execute(tmp_path / "plan.yaml", engine=engine, resume=True, cache=False)
    assert (engine.tasks, again.run) == (["a"], first.run)


async def test_only_valid_replies_are_stored(tmp_path: Path) -> None:
    async def answer(request: Request, port: Port) -> Reply:
        outside = Finding("../x", (1, 1), Severity.LOW, "m")
        return Reply(findings=(outside,), usage=FREE)

    engine = FakeEngine(answer=answer, capabilities=REPEATABLE)
    async with opened(tmp_path, engine) as ai:
        document = await ai.execute(tasks=tasks("a", output="findings", retries=0), engine=engine)
        assert document.tasks[0].error is not None
        assert document.tasks[0].error.kind == "invalid"
        assert document.findings == ()
        assert ai.project.store.cache.info().entries == 0


async def test_a_reply_whose_check_failed_is_not_stored_and_another_is_asked_for(tmp_path: Path) -> None:
    """Who tries again wants another reply than the one that was not good enough."""
    engine = FakeEngine(capabilities=REPEATABLE)
    asked = [Task(id="a", description="x", checks=(("test", "-e", "there"),))]
    async with opened(tmp_path, engine) as ai:
        first = await ai.execute(tasks=asked, engine=engine)
        assert first.exit == 4
        assert ai.project.store.cache.info().entries == 0
        (tmp_path / "there").touch()
        again = await ai.runs.resume(first.run)
    assert again is not None
    assert again.exit == 0
    assert [request.repeat for request in engine.requests] == [0, 1]


async def test_a_stored_reply_that_is_not_good_enough_any_more_is_not_taken_twice(tmp_path: Path) -> None:
    """`runs retry` of a task whose stored reply failed its check asks the engine."""
    engine, hanging = FakeEngine(capabilities=REPEATABLE), FakeEngine("hang", answer=never)
    asked = [Task(id="a", description="x", checks=(("test", "-e", "there"),), engine="fake")]
    (tmp_path / "there").touch()
    seen = Watcher()
    async with opened(tmp_path, engine, hanging) as ai, opened(tmp_path) as other:
        assert (await ai.execute(tasks=asked)).exit == 0
        (tmp_path / "there").unlink()
        async with asyncio.TaskGroup() as group:
            more = [*asked, Task(id="b", description="x", engine="hang")]
            call = group.create_task(ai.execute(tasks=more, on_events=seen))
            await seen.until(lambda s: s.of("task.ended"))
            (tmp_path / "there").touch()
            await other.runs.retry(None, "a")
            await seen.until(lambda s: len(s.of("task.ended")) == 2)
            await other.runs.cancel()
        assert str(call.result().tasks[0].status) == "ok"
    assert [request.repeat for request in engine.requests] == [0, 1]


async def never(request: Request, port: Port) -> str:
    await asyncio.Event().wait()
    return "never"
