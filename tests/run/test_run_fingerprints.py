"""What runs again when a run is resumed, and what does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from parallelai.client.options import CarryOut
from parallelai.engines.protocol import Port, Request
from parallelai.records import RunDocument
from running import FakeEngine, opened, project

PLAN: dict[str, Any] = {
    "vars": {"tone": "kind", "other": 1},
    "tasks": [
        {"id": "a", "description": "read it", "files": "a.txt", "tags": ["x"]},
        {"id": "b", "description": "answer in a {{ vars.tone }} tone", "depends_on": ["a"]},
        {"id": "c", "description": "by itself"},
    ],
}


async def carry_out(root: Path, plan: dict[str, Any], engine: FakeEngine, **asked: Any) -> RunDocument:
    (root / "plan.yaml").write_text(yaml.safe_dump(plan, sort_keys=False))
    async with opened(root, engine) as ai:
        asked = {"engine": engine.name, "resume": True, "cache": False, **asked}
        document = await ai.execute(root / "plan.yaml", **asked)
        assert document.exit == 0, document
        return document


async def again(root: Path, change: dict[str, dict[str, Any]], **asked: Any) -> list[str]:
    """Run the plan, change it, resume; gives the tasks that ran again."""
    project(root, {"a.txt": "one\n"})
    await carry_out(root, PLAN, FakeEngine())
    engine = FakeEngine()
    tasks = [{**task, **change.get(task["id"], {})} for task in PLAN["tasks"]]
    await carry_out(root, {**PLAN, "tasks": tasks, **change.get("plan", {})}, engine, **asked)
    return engine.tasks


async def test_nothing_runs_again_where_nothing_changed(tmp_path: Path) -> None:
    assert await again(tmp_path, {}) == []


@pytest.mark.parametrize(
    "change",
    [
        {"a": {"priority": "urgent"}},
        {"c": {"timeout": "7m"}},
        {"a": {"retries": 9, "retry_on": ["timeout"]}},
        {"a": {"tags": ["y"]}, "b": {"on_failure": "continue"}},
        {"a": {"estimate": "2h"}},
        {"plan": {"vars": {"tone": "kind", "other": 2}}},
        {"plan": {"limits": {"parallel": 1}, "strategy": "parallel", "description": "better"}},
    ],
    ids=lambda change: str(change)[:40],
)
async def test_when_and_how_long_do_not_count(tmp_path: Path, change: dict[str, Any]) -> None:
    assert await again(tmp_path, change) == []


async def test_order_and_comments_do_not_count(tmp_path: Path) -> None:
    project(tmp_path, {"a.txt": "one\n"})
    first = await carry_out(tmp_path, PLAN, FakeEngine())
    plan = yaml.safe_dump({**PLAN, "tasks": [PLAN["tasks"][2], *PLAN["tasks"][:2]]}, sort_keys=False)
    (tmp_path / "plan.yaml").write_text(f"# a comment\n{plan}")
    engine = FakeEngine()
    async with opened(tmp_path, engine) as ai:
        document = await ai.execute(tmp_path / "plan.yaml", resume=True)
    assert engine.tasks == []
    assert document.run == first.run
    assert [task.id for task in document.tasks] == ["c", "a", "b"], "in the plan's new order"


@pytest.mark.parametrize(
    ("change", "ran"),
    [
        ({"c": {"description": "by itself, and better"}}, ["c"]),
        ({"c": {"template": "code-review"}}, ["c"]),
        ({"c": {"checklist": ["speed"]}}, ["c"]),
        ({"c": {"params": {"x": 1}}}, ["c"]),
        ({"c": {"checks": [["true"]]}}, ["c"]),
        ({"c": {"model": "large"}}, ["c"]),
        ({"plan": {"vars": {"tone": "stern", "other": 1}}}, ["b"]),
    ],
    ids=lambda change: str(change)[:40],
)
async def test_what_the_plan_says_counts(tmp_path: Path, change: dict[str, Any], ran: list[str]) -> None:
    assert await again(tmp_path, change) == ran


async def test_a_variable_from_the_command_line_counts(tmp_path: Path) -> None:
    assert await again(tmp_path, {}, variables={"tone": "stern"}) == ["b"]


async def test_the_content_of_a_file_counts_not_its_age(tmp_path: Path) -> None:
    project(tmp_path, {"a.txt": "one\n"})
    await carry_out(tmp_path, PLAN, FakeEngine())
    (tmp_path / "a.txt").write_text("one\n")
    engine = FakeEngine()
    await carry_out(tmp_path, PLAN, engine)
    assert engine.tasks == []
    (tmp_path / "a.txt").write_text("two\n")
    await carry_out(tmp_path, PLAN, engine)
    assert engine.tasks == ["a"], "and `b` does not, because `a` said the same as before"


async def test_dependents_run_again_if_the_reply_is_another(tmp_path: Path) -> None:
    project(tmp_path, {"a.txt": "one\n"})

    async def says(request: Request, port: Port) -> str:
        return (tmp_path / "a.txt").read_text() if request.task == "a" else "done"

    await carry_out(tmp_path, PLAN, FakeEngine(answer=says))
    (tmp_path / "a.txt").write_text("two\n")
    engine = FakeEngine(answer=says)
    await carry_out(tmp_path, PLAN, engine)
    assert engine.tasks == ["a", "b"]
    assert "two" in engine.requests[1].prompt


@pytest.mark.parametrize("spread", [{}, {"each": "file"}], ids=["as one", "file by file"])
async def test_a_file_that_a_task_wrote_is_read_anew_for_the_next(
    tmp_path: Path, spread: dict[str, str]
) -> None:
    """What was known of a file before a task of the run wrote it says nothing of its content after.

    Of a task that goes file by file all are looked at before the run begins.
    """
    project(tmp_path, {"a.txt": "one\n"})
    about = {"description": "x", "files": "a.txt", **spread}
    plan = {
        "tasks": [
            {"id": "before", **about},
            {"id": "write", "description": "x", "depends_on": ["before"]},
            {"id": "after", **about, "depends_on": ["write"]},
        ]
    }

    async def writes(request: Request, port: Port) -> str:
        if request.task == "write":
            (tmp_path / "a.txt").write_text("two\n")
        return "done"

    await carry_out(tmp_path, plan, FakeEngine(answer=writes))
    engine = FakeEngine(answer=writes)
    await carry_out(tmp_path, plan, engine)
    ran = [task.partition("@")[0] for task in engine.tasks]
    assert ran == ["before"], "`after` saw what is there now"


async def test_who_does_it_counts(tmp_path: Path) -> None:
    project(tmp_path, {"a.txt": "one\n"})
    await carry_out(tmp_path, PLAN, FakeEngine("one"))
    two = FakeEngine("two")
    await carry_out(tmp_path, PLAN, two)
    assert two.tasks == ["a", "c", "b"]


@pytest.mark.parametrize(
    ("entry", "ran"),
    [
        ({"command": ["sh", "-c", "echo x >> ran; echo better"]}, 2),
        ({"env": {"X": "1"}}, 2),
        ({"concurrency": 1, "timeout": "9m"}, 1),
    ],
)
async def test_an_engine_s_entry_counts_but_for_its_limits(
    tmp_path: Path, entry: dict[str, Any], ran: int
) -> None:
    project(tmp_path)
    base = {"use": "command", "command": ["sh", "-c", "echo x >> ran; echo done"]}
    for engine in (base, {**base, **entry}):
        plan = {"engines": {"sh": engine}, "tasks": [{"id": "a", "description": "x", "engine": "sh"}]}
        (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan))
        async with opened(tmp_path) as ai:
            assert (await ai.execute(tmp_path / "plan.yaml", resume=True)).exit == 0
    assert (tmp_path / "ran").read_text().count("x") == ran


async def test_runs_resume_keeps_who_did_it_and_with_which_model(tmp_path: Path) -> None:
    project(tmp_path, {"a.txt": "one\n"})
    first = await carry_out(tmp_path, PLAN, FakeEngine(), model="large")
    engine = FakeEngine()
    async with opened(tmp_path, engine) as ai:
        document = await ai.runs.resume(first.run, CarryOut())
    assert document is not None
    assert document.exit == 0
    assert engine.tasks == []
