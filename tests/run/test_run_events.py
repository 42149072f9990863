"""What a run writes down, tells, masks, and shows long after."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from parallelai.engines.mock import Rule
from parallelai.engines.protocol import Capabilities, Port, Request, TextEvent
from parallelai.errors import Refused
from parallelai.events import Event, event_to_json
from parallelai.plan.model import Task
from parallelai.records import FREE, Finding, Reply, RunDocument, Severity, Usage, to_json
from parallelai.results.document import to_data
from running import FakeEngine, Watcher, opened, project, scripted, statuses, tasks

SECRET = "hunter2-hunter2"


def schema(name: str) -> jsonschema.Draft202012Validator:
    text = resources.files("parallelai").joinpath(f"schemas/{name}.json").read_text()
    return jsonschema.Draft202012Validator(json.loads(text))


def printed(document: RunDocument) -> Any:
    return json.loads(json.dumps(to_json(to_data(document))))


async def test_events_are_on_disk_before_anybody_sees_them(tmp_path: Path) -> None:
    told: list[int] = []

    def watch(events: Sequence[Event]) -> None:
        with sqlite3.connect(f"file:{tmp_path}/.parallelai/state/journal.db?mode=ro", uri=True) as database:
            (stored,) = database.execute("SELECT count(*) FROM events").fetchone()
        database.close()
        assert stored >= events[-1].seq
        told.extend(event.seq for event in events)

    async with opened(tmp_path, scripted()) as ai:
        document = await ai.execute(tasks=tasks(*(f"t{n}" for n in range(50))), engine="m", on_events=watch)
        assert told == list(range(1, len(told) + 1)), "all of them, in order, without gaps"
        assert [event.seq for event in ai.runs.events(document.run)] == told


async def test_what_is_written_meets_the_schemas(tmp_path: Path) -> None:
    project(tmp_path, {"a.py": "x = 1\n", "b.py": "y = 2\n"})
    finding = Finding("a.py", (1, 1), Severity.HIGH, "m", rule="R")
    engine = scripted(
        Rule(task="fail", error="refused"),
        Rule(task="limited", error="rate_limited", retry_after=9999.0),
        Rule(task="look*", findings=(finding,)),
    )
    plan = [
        *tasks("fail", "limited"),
        Task(id="look", description="x", files="*.py", each="file", output="findings"),
        Task(id="after", description="x", depends_on=("fail",)),
        Task(id="checked", description="x", checks=(("true",),)),
    ]
    seen = Watcher()
    async with opened(tmp_path, engine) as ai:
        document = await ai.execute(tasks=plan, engine="m", on_events=seen, budget="5usd")
        lines = list(ai.runs.export())
    assert len(lines) == len(seen.events)
    of_event = schema("event")
    for line in lines:
        of_event.validate(json.loads(line))
    assert lines == [event_to_json(event) for event in seen.events], "live and stored are the same"
    schema("run").validate(printed(document))
    assert {event.type for event in seen.events} >= {
        "run.created", "run.started", "task.expanded", "task.step", "task.ended",
        "attempt.reserved", "attempt.started", "attempt.ended", "breaker.opened", "finding.recorded", "run.ended",
    }  # fmt: skip


async def test_a_run_shown_later_is_what_was_returned(tmp_path: Path) -> None:
    project(tmp_path, {"a.py": "x = 1\n"})
    finding = Finding("a.py", (1, 1), Severity.HIGH, "m", rule="R")
    engine = scripted(Rule(task="look", findings=(finding,)), Rule(task="bad", error="invalid"))
    plan = [Task(id="look", description="x", files="*.py", output="findings"), *tasks("bad", "good")]
    async with opened(tmp_path, engine) as ai:
        document = await ai.execute(tasks=plan, engine="m")
    async with opened(tmp_path) as later:
        assert later.runs.show() == document
        assert later.runs.show(document.run[:12]) == document
        assert later.runs.state().state == "failed"
        assert document.findings[0].id


async def test_a_watcher_that_fails_does_not_stop_the_run(tmp_path: Path) -> None:
    def watch(events: Sequence[Event]) -> None:
        raise ValueError("a watcher's own bug")

    async with opened(tmp_path, scripted()) as ai:
        document = await ai.execute(tasks=tasks("a"), engine="m", on_events=watch)
        assert statuses(document) == {"a": "ok"}
        assert ai.runs.show() == document


async def test_secrets_are_masked_once_before_anybody_sees_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_TOKEN", SECRET)
    key = "sk-" + "a1B2" * 8

    async def answer(request: Request, port: Port) -> Reply:
        await port.emit(TextEvent(f"it is {SECRET}"))
        if request.task == "bad":
            raise Refused(f"cannot use {SECRET}", next=f"do not use {SECRET}")
        found = Finding("a.py", (1, 1), Severity.HIGH, f"{SECRET} in the code", quote=key)
        return Reply(
            text=f"{SECRET} and {key}", findings=(found,), data={"k": [SECRET]}, notes=(key,), usage=FREE
        )

    project(tmp_path, {"a.py": "x = 1\n"})
    engine = FakeEngine(answer=answer, capabilities=Capabilities(is_repeatable=True, streams=True))
    plan = {
        "workspace": {"pass_env": ["MY_TOKEN"]},
        "tasks": [{"id": name, "description": "x"} for name in ("good", "bad")],
    }
    seen = Watcher()
    async with opened(tmp_path, engine) as ai:
        document = await ai.execute(plan, engine=engine, on_events=seen)
        assert document.tasks[0].text == "•••• and ••••"
        assert ai.runs.show() == document
        state = ai.project.state
    for path in state.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert SECRET.encode() not in content, path
            assert key.encode() not in content, path
    assert SECRET not in str(seen.events)


async def test_streams_and_output_are_kept_for_each_attempt(tmp_path: Path) -> None:
    project(tmp_path)
    plan = {
        "engines": {"sh": {"use": "command", "command": ["sh", "-c", "echo to out; echo to err >&2"]}},
        "tasks": [{"id": "a", "description": "x", "engine": "sh"}],
    }
    async with opened(tmp_path) as ai:
        await ai.execute(plan)
        (log,) = ai.runs.logs(None, "a")
        assert "to out" in log.path.read_text()
        (output,) = (ai.project.state / "runs").rglob("output/*.log")
        assert "to err" in output.read_text()


async def test_every_file_is_accounted_for(tmp_path: Path) -> None:
    project(tmp_path, {"a.py": "x = 1\n", "b.py": "y\n", "c.py": "z\n"})
    (tmp_path / "d.py").write_bytes(b"\0\1\2" * 100)
    engine = scripted(Rule(task="*b.py", error="refused"))
    task = Task(id="t", description="x", files="*.py", each="file", output="findings")
    async with opened(tmp_path, engine) as ai:
        document = await ai.execute(tasks=[task], engine="m")
    files = document.files
    assert files.covered == ("a.py", "c.py")
    assert [note.file for note in files.failed] == ["b.py"]
    assert [(note.file, note.why) for note in files.skipped] == [("d.py", "binary")]


async def test_a_file_that_went_away_fails_its_own_task_only(tmp_path: Path) -> None:
    project(tmp_path, {"a.txt": "one", "b.txt": "two"})
    asked = [
        Task(id="first", description="x"),
        Task(id="t", description="{{ file.text }}", files="*.txt", each="file", depends_on=("first",)),
    ]

    async def answer(request: Request, port: Port) -> str:
        if request.task == "first":
            (tmp_path / "a.txt").unlink()
        return request.prompt

    engine = FakeEngine(answer=answer)
    async with opened(tmp_path, engine) as ai:
        document = await ai.execute(tasks=asked, engine=engine)
    assert statuses(document) == {"first": "ok", "t@a.txt": "failed", "t@b.txt": "ok"}
    error = document.tasks[1].error
    assert error is not None
    assert "a.txt" in error.said


async def test_an_error_names_its_place_in_the_plan(tmp_path: Path) -> None:
    project(tmp_path, {"plan.yaml": "tasks:\n  - id: a\n    description: x\n  - id: b\n    description: y\n"})
    async with opened(tmp_path, scripted(Rule(task="b", error="refused"))) as ai:
        document = await ai.execute(tmp_path / "plan.yaml", engine="m")
    assert document.tasks[1].error is not None
    assert document.tasks[1].error.where == "plan.yaml:4:5"


async def test_a_program_that_is_not_there_is_told_with_the_place_in_the_plan(tmp_path: Path) -> None:
    engines = "engines:\n  e: {use: command, command: [no-such-program-here]}\n"
    plan = f"{engines}tasks:\n  - {{id: a, description: x, engine: e}}\n"
    project(tmp_path, {"plan.yaml": plan})
    async with opened(tmp_path) as ai:
        document = await ai.execute(tmp_path / "plan.yaml")
    error = document.tasks[0].error
    assert error is not None
    assert (error.kind, error.where) == ("unavailable", "plan.yaml:4:5")


async def test_a_task_whose_text_is_no_unicode_fails_alone(tmp_path: Path) -> None:
    """`runs add` from another process may bring one: bytes of a command line that are not UTF-8."""
    asked = [Task(id="odd", description="x\udcff", engine="m"), Task(id="good", description="x", engine="m")]
    async with opened(tmp_path, scripted()) as ai:
        document = await ai.execute(tasks=asked)
    assert statuses(document) == {"odd": "failed", "good": "ok"}
    error = document.tasks[0].error
    assert error is not None
    assert "not Unicode" in error.said


async def test_a_task_that_starts_at_once_has_four_events(tmp_path: Path) -> None:
    seen = Watcher()
    async with opened(tmp_path, scripted()) as ai:
        await ai.execute(tasks=tasks("a"), engine="m", on_events=seen)
    course = [event.type for event in seen.events if event.task == "a"]
    assert course == ["attempt.reserved", "attempt.started", "attempt.ended", "task.ended"]


async def test_a_task_that_is_ready_and_has_to_wait_says_so(tmp_path: Path) -> None:
    engine = scripted(Rule(usage=Usage(input=900, cached=0, output=100)))
    seen = Watcher()
    async with opened(tmp_path, engine) as ai:
        await ai.execute(tasks=tasks("a", "b"), engine="m", budget="1500tok", parallel=2, on_events=seen)
    assert [event.task for event in seen.of("task.ready")] == ["b"], "its tokens are not to be had yet"
    assert [event.task for event in seen.of("attempt.reserved")] == ["a"]


async def test_what_checks_print_is_masked_before_it_is_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_TOKEN", SECRET)
    half = len(SECRET) // 2
    pieces = (
        f"printf %s {SECRET[:half]}; sleep 0; printf '%s\\n' {SECRET[half:]}; printf %s \"last $MY_TOKEN\""
    )
    plan = {
        "workspace": {"pass_env": ["MY_TOKEN"]},
        "tasks": [{"id": "a", "description": "x", "checks": [["sh", "-c", pieces]]}],
    }
    async with opened(tmp_path, scripted()) as ai:
        document = await ai.execute(plan, engine="m")
        logs = [path.read_text() for path in ai.project.state.rglob("steps/*.log")]
    assert statuses(document) == {"a": "ok"}
    assert logs == ["••••\nlast ••••"]


async def test_what_findings_quote_of_files_is_masked(tmp_path: Path) -> None:
    key = "sk-" + "a1B2" * 8
    project(tmp_path, {"a.py": f'x = 1\nKEY = "{key}"\n'})
    found = (
        Finding("a.py", (1, 1), Severity.HIGH, "a number"),
        Finding("a.py", (2, 2), Severity.HIGH, "a key"),
    )
    engine = scripted(Rule(findings=found))
    async with opened(tmp_path, engine) as ai:
        document = await ai.execute(
            tasks=[Task(id="a", description="x", files="a.py", output="findings")],  # type: ignore[arg-type]
            engine="m",
        )
        stored = [path.read_bytes() for path in ai.project.state.rglob("*") if path.is_file()]
    assert {finding.quote for finding in document.findings} == {"x = 1", 'KEY = "••••"'}
    assert not any(key.encode() in content for content in stored)
