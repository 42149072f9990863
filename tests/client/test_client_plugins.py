"""Engines and strategies of other people, given as objects or installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from parallelai import DAGStrategy, MultiEngine, ParallelAI
from parallelai.engines.protocol import (
    Capabilities,
    Estimate,
    Port,
    Request,
    SessionEvent,
    TextEvent,
    ToolEvent,
    UsageEvent,
)
from parallelai.errors import RateLimited, Transient
from parallelai.plan.model import Task
from parallelai.records import Coverage, Finding, LimitKey, Reply, Usage
from parallelai.run.scheduling.nodes import Node
from running import FakeEngine, opened, project, statuses, tasks


class Backwards:
    """A strategy of a user's own: the last of the plan goes first."""

    name = "backwards"
    batch: int | None = None

    def key(self, node: Node, place: Any) -> float:
        return -float(node.index)


async def test_a_strategy_given_as_an_object_decides_the_order(tmp_path: Path) -> None:
    engine = FakeEngine()
    async with opened(tmp_path, engine) as ai:
        asked = tasks("a", "b", "c")
        document = await ai.execute(tasks=asked, engine=engine, strategy=Backwards(), parallel=1)
        assert engine.tasks == ["c", "b", "a"]
        assert [row.id for row in document.tasks] == ["a", "b", "c"], "results are in plan order all the same"
        again = await ai.runs.resume(document.run)
    assert again is not None
    assert again.exit == 0


async def test_an_engine_given_as_an_object_is_a_member_like_any_other(tmp_path: Path) -> None:
    mine = FakeEngine("mine")
    async with opened(tmp_path) as ai:
        document = await ai.execute(
            tasks=tasks("a", "b"), strategy=DAGStrategy(), engine=MultiEngine([mine, "mock"])
        )
    assert document.exit == 0
    assert {row.engine for row in document.tasks} <= {"mine", "mock"}
    assert mine.tasks


async def test_a_plan_names_an_engine_that_the_library_user_gave(tmp_path: Path) -> None:
    project(tmp_path, {"plan.yaml": "tasks: [{id: a, description: x, engine: mine}]\n"})
    mine = FakeEngine("mine")
    async with opened(tmp_path, mine) as ai:
        document = await ai.execute(tmp_path / "plan.yaml")
    assert (mine.tasks, document.tasks[0].why) == (["a"], "plan")


class Broken(FakeEngine):
    """An engine with a bug in each of its methods but `perform`."""

    def limit_key(self, request: Request) -> LimitKey:
        raise RuntimeError("bug in limit_key")


class Unestimated(FakeEngine):
    def estimate(self, request: Request) -> Estimate:
        raise RuntimeError("bug in estimate")


async def test_a_bug_in_an_engine_fails_its_own_tasks_only(tmp_path: Path) -> None:
    async def raises(request: Request, port: Port) -> Reply:
        raise KeyError("bug in perform")

    async def nonsense(request: Request, port: Port) -> Any:
        return {"not": "a reply"}

    engines = [
        FakeEngine("raises", raises),
        FakeEngine("nonsense", nonsense),
        Broken("broken"),
        Unestimated("unestimated"),
        FakeEngine("good"),
    ]
    asked = [Task(id=engine.name, description="x", engine=engine.name) for engine in engines]
    async with opened(tmp_path, *engines) as ai:
        document = await ai.execute(tasks=asked)
    assert statuses(document) == {
        "raises": "failed",
        "nonsense": "failed",
        "broken": "ok",
        "unestimated": "failed",
        "good": "ok",
    }
    said = {row.id: row.error.said for row in document.tasks if row.error is not None}
    assert "bug in perform" in said["raises"]
    assert "bug in estimate" in said["unestimated"]
    assert "dict" in said["nonsense"]


async def test_a_reply_with_fields_of_another_type_fails_its_own_task_only(tmp_path: Path) -> None:
    """What goes into the journal must come out again: otherwise nobody could show or resume the run."""

    def found(**odd: Any) -> Reply:
        finding: dict[str, Any] = {"file": "a.py", "line": (1, 1), "severity": "high", "message": "m"}
        return Reply(text="t", findings=(Finding(**{**finding, **odd}),))

    bytes_, number, other, long_number, word = cast("Any", (b"t", 5, object(), 10**5000, "word"))
    replies = {
        "text": Reply(text=bytes_),
        "model": Reply(text="t", model=other),
        "notes": Reply(text="t", notes=number),
        "memory": Reply(text="t", memory_bytes=10**40),
        "finding": Reply(text="t", findings=(number,)),
        "severity": found(severity="weird"),
        "line": found(line=5),
        "place": found(line=(1, long_number)),
        "message": found(message=None),
        "category": found(category=None),
        "rule": found(rule=5),
        "suggestion": found(suggestion=["a"]),
        "quote": found(quote=b"q"),
        "confidence": found(confidence="high"),
        "tier": found(tier="perhaps"),
        "state": found(state="new"),
        "by": found(by="me"),
        "votes": found(votes="many"),
        "change": Reply(text="t", change=word),
        "coverage": Reply(text="t", coverage=Coverage(covered=number)),
        "skipped": Reply(text="t", coverage=Coverage(skipped=(word,))),
        "usage": Reply(text="t", usage=word),
        "tokens": Reply(text="t", usage=Usage(input=word)),
        "earned": Reply(text="t", usage=Usage(1, 0, 1, 0, -3.0, "client")),
        "basis": Reply(text="t", usage=Usage(1, 0, 1, 0, 1.0, word)),
        "data": Reply(text="t", data={"n": long_number}),
        "good": found(column=(1, 2)),
    }

    async def odd(request: Request, port: Port) -> Reply:
        return replies[request.task]

    async with opened(tmp_path, FakeEngine("odd", odd)) as ai:
        document = await ai.execute(tasks=tasks(*replies, engine="odd", retries=0))
        again = await ai.runs.resume(document.run)
    for of_run in (document, again):
        assert of_run is not None
        assert statuses(of_run) == {name: "ok" if name == "good" else "failed" for name in replies}
    assert {row.error.kind for row in document.tasks if row.error is not None} == {"invalid"}


async def test_reports_and_errors_with_fields_of_another_type_fail_their_own_task_only(
    tmp_path: Path,
) -> None:
    number, cause = cast("Any", (5, ValueError("the server said so")))
    reports = {
        "session": SessionEvent(number),
        "delta": TextEvent(number),
        "used": UsageEvent(number),
        "tokens": UsageEvent(Usage(input=cast("Any", "many"))),
        "event": cause,
    }
    errors = {
        "said": Transient(cause),
        "next": Transient("x", next=number),
        "wait": RateLimited("x", retry_after_seconds=cast("Any", "soon")),
    }
    fine = {"argument": ToolEvent("1", "shell", "started", {"what": object()})}

    async def odd(request: Request, port: Port) -> str:
        if request.task in errors:
            raise errors[request.task]
        await port.emit({**reports, **fine}[request.task])
        return "done"

    async with opened(tmp_path, FakeEngine("odd", odd)) as ai:
        asked = tasks(*reports, *errors, *fine, engine="odd", retries=0)
        document = await ai.execute(tasks=asked)
        assert ai.runs.show(document.run).tasks == document.tasks
    wrong = dict.fromkeys((*reports, *errors), "failed")
    assert statuses(document) == {**wrong, **dict.fromkeys(fine, "ok")}
    told = {row.id: row.error for row in document.tasks if row.error is not None}
    assert {told[name].kind for name in reports} == {"invalid"}
    assert "the server said so" in told["said"].said


@pytest.mark.parametrize("name", ["a/b", "", "landing"])
def test_ids_are_checked_where_tasks_are_made(name: str) -> None:
    with pytest.raises(ValueError):
        Task(id=name, description="x")


async def test_the_sync_face_works_inside_a_running_loop(tmp_path: Path) -> None:
    """As in a notebook."""
    project(tmp_path, {"a.py": "import os\n"})
    ai = ParallelAI(tmp_path)
    document = ai.execute(tasks=[Task(id="a", description="x", engine="mock")], parallel=100)
    assert document.exit == 0
    assert ai.show() == document
    assert [finding.rule for finding in ai.review(str(tmp_path / "a.py")).findings] == ["F401"]


async def test_batches_of_neighbours_are_as_large_as_the_engine_takes(tmp_path: Path) -> None:
    project(tmp_path, {f"f{n:02}.py": "" for n in range(25)})

    async def none(request: Request, port: Port) -> Reply:
        return Reply()

    engine = FakeEngine(answer=none, capabilities=Capabilities(batch=10))
    async with opened(tmp_path, engine) as ai:
        document = await ai.review(engine="fake")
    batches = sorted([file.path for file in request.files] for request in engine.requests)
    assert [len(batch) for batch in batches] == [8, 8, 9]
    assert [path for batch in batches for path in batch] == [f"f{n:02}.py" for n in range(25)]
    assert len(document.files.covered) == 25
