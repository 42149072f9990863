"""Choices of engines, retries, time-outs, and ways to end: as a caller sees them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from parallelai import MultiEngine
from parallelai.engines.mock import MockEngine, Rule
from parallelai.engines.protocol import Capabilities, Estimate, Port, Request, TextEvent, ToolEvent
from parallelai.errors import RateLimited, Refused, Transient, Unavailable
from parallelai.events import Event
from parallelai.plan.model import Choice, Task
from parallelai.records import FREE, Finding, Reply, Severity
from running import FakeEngine, Watcher, opened, project, scripted, statuses, tasks


async def never(request: Request, port: Port) -> str:
    await asyncio.Event().wait()
    return "never"


def failing(kind: str, name: str, **rule: object) -> object:
    return scripted(Rule(error=kind, **rule), name=name)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["unavailable", "rejected", "transient", "timed_out"])
async def test_fallback_goes_over(tmp_path: Path, kind: str) -> None:
    a, b, seen = failing(kind, "a"), FakeEngine("b"), Watcher()
    async with opened(tmp_path, a, b) as ai:
        document = await ai.execute(
            tasks=tasks("t", retries=0), engine={"fallback": ["a", "b"]}, on_events=seen
        )
    (row,) = document.tasks
    assert (str(row.status), row.engine, row.attempts) == ("ok", "b", 2)
    (note,) = [
        note for event in seen.of("attempt.ended") if event.data.reply for note in event.data.reply.notes
    ]
    assert note.startswith("`a` was passed over: ")


@pytest.mark.parametrize("kind", ["refused", "invalid"])
async def test_fallback_does_not_go_over_what_another_would_say_too(tmp_path: Path, kind: str) -> None:
    a, b = failing(kind, "a"), FakeEngine("b")
    async with opened(tmp_path, a, b) as ai:
        document = await ai.execute(tasks=tasks("t"), engine={"fallback": ["a", "b"]})
    (row,) = document.tasks
    assert str(row.status) == "failed"
    assert row.error is not None
    assert row.error.kind == kind
    assert b.tasks == []
    assert document.exit == 4


async def test_fallback_takes_over_from_one_that_cannot_even_be_made(tmp_path: Path) -> None:
    b = FakeEngine("b")
    async with opened(tmp_path, b) as ai:
        document = await ai.execute(tasks=tasks("t"), engine={"fallback": ["claude-code", "b"]})
    assert statuses(document) == {"t": "ok"}
    assert document.tasks[0].engine == "b"


async def test_each_member_is_estimated_and_asked_as_its_own_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    estimated: list[tuple[str, str | None]] = []
    asked: list[tuple[str, str | None, int, str]] = []
    perform = MockEngine.perform

    def estimate(engine: MockEngine, request: Request) -> Estimate:
        estimated.append((engine.name, request.model))
        return Estimate()

    async def performed(engine: MockEngine, request: Request, port: Port) -> Reply:
        asked.append((engine.name, request.model, request.attempt, Path(request.log or "").name))
        return await perform(engine, request, port)

    monkeypatch.setattr(MockEngine, "estimate", estimate)
    monkeypatch.setattr(MockEngine, "perform", performed)
    engines = {name: {"use": "mock", "model": f"model-{name}"} for name in "ab"}
    task = {"id": "t", "description": "Do it.", "engine": {"vote": ["a", "b"]}}
    async with opened(tmp_path) as ai:
        await ai.execute({"engines": engines, "tasks": [task]})
    assert estimated == [("a", "model-a"), ("b", "model-b")]
    assert sorted(asked) == [("a", "model-a", 1, "0-1.log"), ("b", "model-b", 2, "0-2.log")]


async def test_race_takes_the_first_good_one_and_cancels_the_others(tmp_path: Path) -> None:
    cancelled = asyncio.Event()
    started = asyncio.Event()

    async def slow(request: Request, port: Port) -> str:
        started.set()
        try:
            return await never(request, port)
        finally:
            cancelled.set()

    async def quick(request: Request, port: Port) -> str:
        await started.wait()
        return "first"

    a, b = FakeEngine("a", slow), FakeEngine("b", quick)
    seen = Watcher()
    async with opened(tmp_path, a, b) as ai:
        document = await ai.execute(tasks=tasks("t"), engine=MultiEngine([a, b], rule="race"), on_events=seen)
    (row,) = document.tasks
    assert (str(row.status), row.text, row.engine, row.attempts) == ("ok", "first", "b", 2)
    assert cancelled.is_set()
    ended = {event.data.engine: event.data.ok for event in seen.of("attempt.ended")}
    assert ended == {"a": False, "b": True}, "the loser's end is written down, too"


async def test_race_is_lost_only_if_all_fail(tmp_path: Path) -> None:
    a, b = failing("rejected", "a"), failing("refused", "b")
    async with opened(tmp_path, a, b) as ai:
        document = await ai.execute(tasks=tasks("t"), engine={"race": ["a", "b"]})
    assert statuses(document) == {"t": "failed"}


async def test_a_vote_joins_what_engines_agree_on(tmp_path: Path) -> None:
    project(tmp_path, {"x.py": "a = 1\nb = 2\n"})

    def finding(line: int, message: str) -> Finding:
        return Finding("x.py", (line, line), Severity.HIGH, message, rule="R1")

    def engine(name: str, *found: Finding) -> FakeEngine:
        async def answer(request: Request, port: Port) -> Reply:
            return Reply(findings=found, usage=FREE)

        return FakeEngine(name, answer)

    both = finding(1, "same thing")
    engines = [engine("a", both), engine("b", both, finding(2, "only b"))]
    async with opened(tmp_path, *engines) as ai:
        document = await ai.review("x.py", engine=["a", "b"])
    assert [(f.line[0], f.votes, f.by) for f in document.findings] == [(1, 2, ("a", "b")), (2, 1, ("b",))]
    assert document.findings[0].quote == "a = 1"
    assert document.tasks[0].attempts == 2


async def test_votes_stand_in_the_order_of_the_choice_whoever_was_quicker(tmp_path: Path) -> None:
    quick_is_done = asyncio.Event()

    async def slow(request: Request, port: Port) -> str:
        await quick_is_done.wait()
        return "of a"

    async def quick(request: Request, port: Port) -> str:
        return "of b"

    def watch(events: Sequence[Event]) -> None:
        if any(event.type == "attempt.ended" for event in events):
            quick_is_done.set()

    a, b = FakeEngine("a", slow), FakeEngine("b", quick)
    async with opened(tmp_path, a, b) as ai:
        document = await ai.execute(tasks=tasks("t"), engine={"vote": ["a", "b"]}, on_events=watch)
    (row,) = document.tasks
    assert (row.engine, row.voters) == ("a", ("a", "b"))
    assert row.text == "`a`:\nof a\n\n`b`:\nof b"


async def test_a_vote_survives_a_voter(tmp_path: Path) -> None:
    a, b = failing("refused", "a"), FakeEngine("b")
    async with opened(tmp_path, a, b) as ai:
        document = await ai.execute(tasks=tasks("t"), engine=["a", "b"])
    (row,) = document.tasks
    assert (str(row.status), row.text, row.engine) == ("ok", "did t", "b")


async def test_spread_uses_all(tmp_path: Path) -> None:
    waiting = {"a": 0, "b": 0}
    full = asyncio.Event()

    def engine(name: str) -> FakeEngine:
        async def answer(request: Request, port: Port) -> str:
            waiting[name] += 1
            if sum(waiting.values()) == 8:
                full.set()
            await full.wait()
            return "done"

        return FakeEngine(name, answer)

    async with opened(tmp_path, engine("a"), engine("b")) as ai:
        document = await ai.execute(
            tasks=tasks(*"abcdefgh"), engine=MultiEngine(["a", "b"], rule="spread"), parallel=8
        )
    assert document.exit == 0
    assert waiting == {"a": 4, "b": 4}


async def test_a_route_goes_by_kind_tag_and_file(tmp_path: Path) -> None:
    project(tmp_path, {"x.py": "", "y.js": ""})
    a, b, c = FakeEngine("a"), FakeEngine("b"), FakeEngine("c")
    route = Choice.model_validate({"route": {"docs": "a", "*.py": "b", "else": "c"}})
    asked = [
        Task(id="kind", description="x", kind="docs"),
        Task(id="tag", description="x", tags=("docs",)),
        Task(id="each", description="x", files=("x.py", "y.js"), each="file"),
        Task(id="rest", description="x"),
    ]
    async with opened(tmp_path, a, b, c) as ai:
        document = await ai.execute(tasks=asked, engine=route)
    assert document.exit == 0
    assert sorted(a.tasks) == ["kind", "tag"]
    assert b.tasks == ["each@x.py"]
    assert sorted(c.tasks) == ["each@y.js", "rest"]


class Flaky:
    """Fails with each of some errors, then does it."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)

    async def __call__(self, request: Request, port: Port) -> str:
        if self.errors:
            raise self.errors.pop(0)
        return "done"


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Back-offs of no length: what is tested is that there is another attempt."""
    monkeypatch.setattr(
        "parallelai.run.scheduling.attempts.backoff_seconds", lambda retry, random, asked=None: 0.0
    )
    monkeypatch.setattr("parallelai.run.scheduling.attempts.limited_seconds", lambda limited, random: 0.0)


@pytest.mark.usefixtures("hasty")
async def test_transient_errors_are_tried_again_as_often_as_allowed(tmp_path: Path) -> None:
    for failures, outcome, attempts in ((2, "ok", 3), (3, "failed", 3)):
        engine = FakeEngine(answer=Flaky(*(Transient("503") for _ in range(failures))))
        async with opened(tmp_path, engine) as ai:
            document = await ai.execute(tasks=tasks("t", retries=2), engine=engine)
        (row,) = document.tasks
        assert (str(row.status), row.attempts) == (outcome, attempts)


@pytest.mark.usefixtures("hasty")
async def test_rate_limits_do_not_count_as_tries(tmp_path: Path) -> None:
    engine = FakeEngine(answer=Flaky(*(RateLimited("429", retry_after_seconds=0.001) for _ in range(4))))
    async with opened(tmp_path, engine) as ai:
        document = await ai.execute(tasks=tasks("t", retries=0), engine=engine)
    (row,) = document.tasks
    assert (str(row.status), row.attempts) == ("ok", 5)


async def test_retry_after_is_kept(tmp_path: Path) -> None:
    """Nothing of that key starts before the time that the provider named."""
    loop = asyncio.get_running_loop()
    times: list[float] = []

    async def answer(request: Request, port: Port) -> str:
        times.append(loop.time())
        if len(times) == 1:
            raise RateLimited("429", retry_after_seconds=0.3)
        return "done"

    engine = FakeEngine(answer=answer)
    async with opened(tmp_path, engine) as ai:
        document = await ai.execute(tasks=tasks("a", "b", "c"), engine=engine, parallel=1)
    assert document.exit == 0
    assert times[1] - times[0] >= 0.29


async def test_a_wait_beyond_max_wait_blocks_and_says_until_when(tmp_path: Path) -> None:
    engine = FakeEngine(answer=Flaky(RateLimited("quota", retry_after_seconds=7200)))
    seen = Watcher()
    plan = {"limits": {"max_wait": "1h"}, "tasks": [{"id": "t", "description": "x"}]}
    async with opened(tmp_path, engine) as ai:
        document = await ai.execute(plan, engine=engine, on_events=seen)
        (row,) = document.tasks
        assert str(row.status) == "blocked"
        assert row.error is not None
        assert row.error.kind == "rate_limited"
        assert row.error.retry_helps
        until = seen.of("breaker.opened")[0].data.until
        assert until is not None
        assert row.error.next == f"resume the run after {until}"
        resumed = await ai.runs.resume(document.run)
    assert resumed is not None
    assert statuses(resumed) == {"t": "ok"}


async def test_a_fallback_takes_over_from_a_quota(tmp_path: Path) -> None:
    a = FakeEngine("a", Flaky(RateLimited("quota", is_quota=True, retry_after_seconds=9000)))
    b = FakeEngine("b")
    async with opened(tmp_path, a, b) as ai:
        document = await ai.execute(tasks=tasks("t", "u", "v"), engine={"fallback": ["a", "b"]}, parallel=1)
    assert document.exit == 0
    assert a.tasks == ["t"], "its breaker is open: the others do not even try it"
    assert b.tasks == ["t", "u", "v"]


async def test_a_time_out_ends_the_whole_tree(tmp_path: Path) -> None:
    project(tmp_path)
    script = "sleep 1000 & echo $! > child; sleep 1000"
    plan = {
        "engines": {"sh": {"use": "command", "command": ["sh", "-c", script]}},
        "limits": {"grace": 0.1},
        "tasks": [{"id": "t", "description": "x", "engine": "sh", "timeout": 0.5}],
    }
    async with opened(tmp_path) as ai:
        document = await ai.execute(plan)
    (row,) = document.tasks
    assert str(row.status) == "failed"
    assert row.error is not None
    assert row.error.kind == "timed_out"
    child = int((tmp_path / "child").read_text())
    assert not Path(f"/proc/{child}").exists()


async def test_the_time_out_of_any_engine_is_the_run_s(tmp_path: Path) -> None:
    engine = FakeEngine(answer=never)
    async with opened(tmp_path, engine) as ai:
        document = await ai.execute(tasks=tasks("t", timeout=0.05), engine=engine)
    assert document.tasks[0].error is not None
    assert document.tasks[0].error.kind == "timed_out"


async def test_an_engine_s_own_time_out_error_is_not_taken_for_the_run_s(tmp_path: Path) -> None:
    async def answer(request: Request, port: Port) -> str:
        raise TimeoutError("socket")

    engine = FakeEngine(answer=answer)
    async with opened(tmp_path, engine) as ai:
        document = await ai.execute(tasks=tasks("t"), engine=engine)
    error = document.tasks[0].error
    assert error is not None
    assert (error.kind, "socket" in error.said) == ("internal", True)


async def test_retry_on_adds_kinds(tmp_path: Path, hasty: None) -> None:
    engine = FakeEngine(answer=Flaky(Refused("no")))
    async with opened(tmp_path, engine) as ai:
        document = await ai.execute(tasks=tasks("t", retry_on=("refused",)), engine=engine)
    assert (statuses(document), document.tasks[0].attempts) == ({"t": "ok"}, 2)


async def test_a_silent_stream_is_ended_but_not_while_a_tool_runs(tmp_path: Path) -> None:
    """Silence counts only where the engine could have said something."""

    async def answer(request: Request, port: Port) -> str:
        await port.emit(TextEvent("beginning"))
        if request.task == "tool":
            await port.emit(ToolEvent("1", "shell", "started"))
            try:
                await asyncio.wait_for(asyncio.Event().wait(), 0.5)
            except TimeoutError:
                await port.emit(ToolEvent("1", "shell", "ended"))
            return "done"
        return await never(request, port)

    engine = FakeEngine(answer=answer, capabilities=Capabilities(streams=True))
    async with opened(tmp_path, engine) as ai:
        document = await ai.execute(tasks=tasks("tool", "silent", idle_timeout=0.1), engine=engine)
    assert statuses(document) == {"tool": "ok", "silent": "failed"}
    error = document.tasks[1].error
    assert error is not None
    assert (error.kind, "said nothing" in error.said) == ("timed_out", True)


async def test_an_engine_without_a_stream_has_no_idle_time_out(tmp_path: Path) -> None:
    async def answer(request: Request, port: Port) -> str:
        await asyncio.sleep(0.2)
        return "done"

    engine = FakeEngine(answer=answer)
    async with opened(tmp_path, engine) as ai:
        document = await ai.execute(tasks=tasks("t", idle_timeout=0.01), engine=engine)
    assert statuses(document) == {"t": "ok"}


async def test_on_failure(tmp_path: Path) -> None:
    for rule, expected in (
        ("skip-dependents", {"a": "failed", "b": "skipped", "c": "ok", "d": "ok"}),
        ("continue", {"a": "failed", "b": "ok", "c": "ok", "d": "ok"}),
        ("stop", {"a": "failed", "b": "skipped", "c": "cancelled", "d": "cancelled"}),
    ):
        engine = scripted(Rule(task="a", error="refused"))
        plan = [
            Task(id="a", description="x", on_failure=rule),
            Task(id="b", description="{{ tasks['a'].outcome }}", depends_on=("a",)),
            Task(id="c", description="x"),
            Task(id="d", description="x", depends_on=("c",)),
        ]
        async with opened(tmp_path, engine) as ai:
            document = await ai.execute(tasks=plan, engine="m", parallel=1, cache=False)
        assert statuses(document) == expected, rule
        assert document.exit == 4


async def test_when_sees_what_came_before(tmp_path: Path) -> None:
    engine = scripted(Rule(task="a", text="yes"))
    plan = [
        Task(id="a", description="x"),
        Task(id="b", description="x", depends_on=("a",), when="'yes' in tasks['a'].text"),
        Task(id="c", description="x", depends_on=("a",), when="tasks['a'].findings"),
        Task(id="d", description="x", depends_on=("c",)),
    ]
    async with opened(tmp_path, engine) as ai:
        document = await ai.execute(tasks=plan, engine="m")
    assert statuses(document) == {"a": "ok", "b": "ok", "c": "skipped", "d": "skipped"}
    assert document.exit == 0, "what was skipped by decision did not fail"


async def test_phases_wait_for_each_other(tmp_path: Path) -> None:
    async def answer(request: Request, port: Port) -> str:
        for _ in range(5):
            await asyncio.sleep(0)
        return "done"

    engine = FakeEngine(answer=answer)
    plan = {
        "phases": [{"name": "one", "tasks": ["a", "b"]}, {"name": "two", "tasks": ["c"]}],
        "tasks": [{"id": name, "description": "x"} for name in ("c", "a", "b")],
    }
    async with opened(tmp_path, engine) as ai:
        document = await ai.execute(plan, engine=engine)
    assert document.exit == 0
    assert engine.tasks == ["a", "b", "c"]


async def test_a_failed_check_fails_the_task(tmp_path: Path) -> None:
    engine = FakeEngine()
    asked = [
        Task(id="good", description="x", checks=(("test", "-e", "."),)),
        Task(id="bad", description="x", checks=(("true",), ("sh", "-c", "echo broken >&2; exit 3"))),
        Task(id="next", description="x", depends_on=("bad",)),
    ]
    async with opened(tmp_path, engine) as ai:
        document = await ai.execute(tasks=asked, engine=engine)
        assert statuses(document) == {"good": "ok", "bad": "failed", "next": "skipped"}
        error = document.tasks[1].error
        assert error is not None
        assert (error.kind, "broken" in error.said) == ("check_failed", True)
        await ai.runs.resume(document.run)
    assert sorted(engine.tasks) == ["bad", "bad", "good"], (
        "a reply that was not good enough is asked for again"
    )


async def test_nobody_who_can_do_it_blocks_and_says_what_to_install(tmp_path: Path) -> None:
    async with opened(tmp_path) as ai:
        document = await ai.execute(tasks=tasks("t"))
    (row,) = document.tasks
    assert str(row.status) == "blocked"
    assert row.error is not None
    assert row.error.kind == "unavailable"
    assert row.error.next
    assert document.exit == 3, "nothing could be attempted"


async def test_an_engine_that_goes_away_is_said(tmp_path: Path) -> None:
    engine = FakeEngine(answer=Flaky(Unavailable("it is gone", next="start it")))
    async with opened(tmp_path, engine) as ai:
        document = await ai.execute(tasks=tasks("t", "u"), engine=engine, parallel=1)
    assert statuses(document) == {"t": "blocked", "u": "ok"}
    assert document.exit == 4


async def test_a_blocked_task_does_not_block_others_of_its_engine(tmp_path: Path) -> None:
    plan = {
        "engines": {"sh": {"use": "command", "command": ["cat"]}},
        "tasks": [
            {"id": "a", "description": "Edit outside git.", "engine": "sh", "edits": True},
            {"id": "b", "description": "Say it.", "engine": "sh"},
        ],
    }
    async with opened(tmp_path) as ai:
        assert statuses(await ai.execute(plan)) == {"a": "blocked", "b": "ok"}
