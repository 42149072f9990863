"""Workstreams that are interrupted or tried again: nothing is lost, nobody stays behind, who waits goes on waiting."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from repositories import Repository

from crash_support import await_none
from parallelai.client import AsyncParallelAI
from parallelai.engines.protocol import Capabilities, Port, Request, SessionEvent, Workspace
from parallelai.errors import StoreFullError, Unavailable
from parallelai.events import LandingBlocked, TaskStep
from parallelai.run.workspaces import Work
from parallelai.work.stream_places import StreamPlace
from parallelai.work.streams.record import Rules, Stream
from parallelai.work.streams.registry import Streams
from running import FakeEngine, Watcher, run_program, start_program, statuses

CHECK = "import pathlib, sys; sys.exit(any('BROKEN' in p.read_text() for p in pathlib.Path('.').rglob('*.txt')))\n"
EDITS = Capabilities(answers=frozenset({"text", "change"}), edits=True, resumes=True, works_in_folder=True)
WAITS = """\
echo half >> src/half.txt
touch src/begun.txt
trap '' INT TERM
while [ ! -e src/go.txt ]; do sleep 1000 & wait $!; done
"""


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    (tmp_path / "gitconfig").write_text("[user]\n\tname = Ana\n\temail = ana@example.invalid\n")
    repository = Repository.start(tmp_path / "project")
    repository.commit({"gate.py": CHECK, "src/a.txt": "a\n"})
    return repository


# -- tried again in a live run


async def test_who_builds_on_one_that_is_tried_again_waits_for_it_again(user: Repository) -> None:
    begun, again, fixed, finished = (asyncio.Event() for _ in range(4))
    tries: list[str] = []

    async def answer(request: Request, port: Port) -> str:
        root = Path(request.root)
        if request.task == "late":
            begun.set()
            (root / "late.txt").write_text("late\n")
            await finished.wait()
            return "done"
        tries.append(request.prompt)
        if len(tries) > 1:
            again.set()
            await fixed.wait()
        (root / "first.txt").write_text("right\n" if len(tries) > 1 else "BROKEN\n")
        return "done"

    plan = {
        "workstreams": {
            # Who builds on it starts, however soon its gate fails.
            "first": {"description": "First", "owns": "first.txt", "on_failure": "continue"},
            "late": {
                "description": "Late",
                "owns": "late.txt",
                "depends_on": ["first"],
                "after": "finished",
            },
        },
        "gates": {"landing": [["python3", "gate.py"]], "canary": "off"},
    }
    seen = Watcher()
    async with AsyncParallelAI(user.root, engines=[FakeEngine(answer=answer, capabilities=EDITS)]) as ai:
        async with asyncio.TaskGroup() as group:
            call = group.create_task(ai.execute(plan, engine="fake", on_events=seen))
            await begun.wait()
            await seen.until(lambda s: any(isinstance(e.data, LandingBlocked) for e in s.events))
            await seen.until(lambda s: any(e.task == "first" for e in s.of("task.ended")))
            await ai.runs.ask(seen.events[0].run, "retry", {"task": "first"})
            await again.wait()
            finished.set()
            await seen.until(lambda s: any(_lands(e.task, e.data) for e in s.events))
            fixed.set()
        document = call.result()

    assert statuses(document) == {"first": "ok", "late": "ok"}, document.tasks
    assert (user.root / "first.txt").read_text() == "right\n"
    assert (user.root / "late.txt").read_text() == "late\n"
    assert "It did not land" in tries[1]


def _lands(task: str | None, data: object) -> bool:
    return task == "late" and isinstance(data, TaskStep) and data.step == "land"


# -- leave given before


async def test_leave_that_a_person_gave_before_is_taken_up_by_the_next_run(user: Repository) -> None:
    told: list[str] = []

    async def answer(request: Request, port: Port) -> str:
        told.append(request.prompt)
        for name in ("one.txt", "AGENTS.md", "src/a.txt"):
            (Path(request.root) / name).write_text("new\n")
        return "done"

    plan = {"engines": {}, "workstreams": {"one": {"description": "One", "owns": "one.txt"}}}
    user.commit({"plan.yaml": yaml.safe_dump(plan), "AGENTS.md": "Be kind.\n"})
    async with AsyncParallelAI(user.root, engines=[FakeEngine(answer=answer, capabilities=EDITS)]) as ai:
        await ai.work.start(user.root / "plan.yaml")
        await ai.work.lease("one", ["AGENTS.md"])  # protected always: only a person can give it
        document = await ai.execute(user.root / "plan.yaml", engine="fake", resume=True)
    assert statuses(document) == {"one": "ok"}, document.tasks
    assert "You have the lease of `AGENTS.md`" in told[0]
    assert (user.root / "AGENTS.md").read_text() == "new\n"
    assert (user.root / "src/a.txt").read_text() == "a\n"


# -- told while it works


@pytest.mark.parametrize("resumes", [True, False])
async def test_who_takes_no_message_is_told_with_the_next_turn_or_it_is_said(
    user: Repository, resumes: bool
) -> None:
    begun, sent = asyncio.Event(), asyncio.Event()
    told: list[str] = []

    async def answer(request: Request, port: Port) -> str:
        told.append(request.prompt)
        await port.emit(SessionEvent("s-1"))
        (Path(request.root) / "src" / "a.txt").write_text("new\n")
        begun.set()
        await sent.wait()
        return "done"

    plan = {"engines": {}, "workstreams": {"one": {"description": "One", "owns": "src/**"}}}
    user.commit({"plan.yaml": yaml.safe_dump(plan)})
    engine = FakeEngine(answer=answer, capabilities=dataclasses.replace(EDITS, resumes=resumes))
    seen = Watcher()
    async with AsyncParallelAI(user.root, engines=[engine]) as ai:
        call = asyncio.create_task(ai.execute(user.root / "plan.yaml", engine="fake", on_events=seen))
        await begun.wait()
        said = await ai.work.send("one", "Mind the gap.")
        sent.set()
        assert statuses(await call) == {"one": "ok"}
    assert said == "`fake` takes no message while it works: `one` is told with its next turn, if there is one"
    (ended,) = seen.of("attempt.ended")
    assert len(told) == 1 + resumes
    assert ("Mind the gap." in told[-1]) is resumes
    assert ended.data.reply.notes == (() if resumes else ("was not told: Mind the gap.",))


# -- interrupted


async def test_an_assistant_that_goes_on_in_its_session_finds_its_files(user: Repository) -> None:
    begun = asyncio.Event()

    async def answer(request: Request, port: Port) -> str:
        await port.emit(SessionEvent("s-1"))
        with (Path(request.root) / "src" / "a.txt").open("a") as file:
            file.write("more\n")
        if request.session is None:
            begun.set()
            await asyncio.Event().wait()
        return "done"

    plan = {"engines": {}, "workstreams": {"one": {"description": "One", "owns": "src/**"}}}
    user.commit({"plan.yaml": yaml.safe_dump(plan)})
    async with AsyncParallelAI(user.root, engines=[FakeEngine(answer=answer, capabilities=EDITS)]) as ai:
        first = asyncio.create_task(ai.execute(user.root / "plan.yaml", engine="fake"))
        await begun.wait()
        await ai.runs.cancel()
        await first
        document = await ai.execute(user.root / "plan.yaml", engine="fake", resume=True)
    assert statuses(document) == {"one": "ok"}, document.tasks
    assert (user.root / "src" / "a.txt").read_text() == "a\nmore\nmore\n"


@pytest.mark.parametrize("edit", ["write", "remove", "commit"])
async def test_what_a_person_did_after_a_stop_stays_where_it_is(user: Repository, edit: str) -> None:
    begun, found = asyncio.Event(), list[list[str]]()

    async def answer(request: Request, port: Port) -> str:
        found.append(sorted(path.name for path in (Path(request.root) / "src").iterdir()))
        (Path(request.root) / "src" / "half.txt").write_text("half\n")
        if len(found) == 1:
            begun.set()
            await asyncio.Event().wait()
        return "done"

    plan = {"engines": {}, "workstreams": {"one": {"description": "One", "owns": "src/**"}}}
    user.commit({"plan.yaml": yaml.safe_dump(plan)})
    engine = FakeEngine(answer=answer, capabilities=dataclasses.replace(EDITS, resumes=False))
    async with AsyncParallelAI(user.root, engines=[engine]) as ai:
        call = asyncio.create_task(ai.execute(user.root / "plan.yaml", engine="fake"))
        await begun.wait()
        await ai.runs.cancel()
        await call
        edited_after(ai.work.find("one"), edit)
        user.commit({"later.txt": "what has landed meanwhile\n"})
        document = await ai.execute(user.root / "plan.yaml", engine="fake", resume=True)
    assert statuses(document) == {"one": "ok"}, document.tasks
    mine = {
        "write": ["a.txt", "half.txt", "mine.txt"],
        "remove": ["half.txt"],
        "commit": ["a.txt", "half.txt", "mine.txt"],
    }
    assert found == [["a.txt"], mine[edit]]
    assert document.tasks[0].workstream is not None
    assert document.tasks[0].workstream["kept_out"] == (["other.txt"] if edit == "commit" else [])
    assert not (user.root / "other.txt").exists()


def edited_after(stream: Stream, edit: str) -> None:
    """Do something in a worktree as a person does: later than its attempt was stopped, by every clock."""
    there, at = Repository(Path(stream.worktree)), stream.left_at
    assert at is not None
    mine, removed = there.root / "src" / "mine.txt", there.root / "src" / "a.txt"
    while True:
        mine.write_text("mine\n")
        if edit == "remove":
            mine.unlink()
            removed.unlink(missing_ok=True)
        changed = mine.parent if edit == "remove" else mine
        if changed.stat().st_ctime > at:
            break
        time.sleep(0.01)
    if edit == "commit":
        there.commit({"other.txt": "what it does not own\n"})


async def test_what_a_failed_attempt_committed_is_judged_before_the_target_comes_in(user: Repository) -> None:
    tries = 0

    async def answer(request: Request, port: Port) -> str:
        nonlocal tries
        tries += 1
        there = Repository(Path(request.root))
        if tries == 1:
            there.commit({"src/a.txt": "new\n", "other.txt": "what it does not own\n"})
            user.commit({"later.txt": "what has landed meanwhile\n"})
            raise Unavailable("it went away")
        return "done"

    plan = {"engines": {}, "workstreams": {"one": {"description": "One", "owns": "src/**"}}}
    user.commit({"plan.yaml": yaml.safe_dump(plan)})
    async with AsyncParallelAI(user.root, engines=[FakeEngine(answer=answer, capabilities=EDITS)]) as ai:
        await ai.execute(user.root / "plan.yaml", engine="fake")
        document = await ai.execute(user.root / "plan.yaml", engine="fake", resume=True)
    assert statuses(document) == {"one": "ok"}, document.tasks
    assert document.tasks[0].workstream is not None
    assert document.tasks[0].workstream["kept_out"] == ["other.txt"]
    assert (user.root / "src/a.txt").read_text() == "new\n"
    assert not (user.root / "other.txt").exists()


def write_plan(user: Repository) -> None:
    plan = {
        "engines": {"sh": {"use": "command", "command": ["sh", "-c", WAITS]}},
        "limits": {"grace": 3600},
        "workstreams": {"one": {"description": "One", "owns": "src/**", "engine": "sh"}},
        "gates": {"landing": [["python3", "gate.py"]], "canary": "off"},
    }
    user.commit({"plan.yaml": yaml.safe_dump(plan)})


async def test_a_stop_that_cannot_be_written_down_still_ends_the_attempt(tmp_path: Path) -> None:
    temporary, rested = tmp_path / "tmp-one", list[str]()
    temporary.mkdir()

    def stopped(name: str) -> None:
        raise StoreFullError("the disk is full")

    async def rest(name: str) -> None:
        rested.append(name)
        raise OSError("no room for this, either")

    async def see_to(name: str) -> None:
        assert name == "one"

    site = SimpleNamespace(see_to=see_to, loans=SimpleNamespace(rest=rest))
    room: Any = SimpleNamespace(stopped=stopped, site=site)
    stream = Stream("one", "p", "r-1", "b", str(tmp_path), "base", "head", "main", Rules(()))
    workspace = Workspace(edits=True, temporary=str(temporary))
    with pytest.raises(OSError, match="no room"):
        await StreamPlace(room, stream, workspace, Work(edits=True)).close()
    assert rested == ["one"]
    assert not temporary.exists()


@pytest.fixture
def program(user: Repository) -> Iterator[Popen[str]]:
    """`work run`, at the point where its assistant works and would not end."""
    write_plan(user)
    process = start_program(user.root, "work", "run", "plan.yaml", "--json")
    begun = user.root.parent / "project-worktrees" / "one" / "src" / "begun.txt"
    limit = time.monotonic() + 60
    while not begun.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit, "its assistant never began"
        time.sleep(0.01)
    yield process
    with process:
        process.kill()


def test_a_second_interruption_ends_the_run_at_once_and_it_goes_on_later(
    user: Repository, program: Popen[str]
) -> None:
    """With a grace of an hour this ends only if the second interruption waits for nothing."""
    assert program.stderr is not None
    program.send_signal(signal.SIGINT)
    assert any("Ctrl-C again ends it now" in line for line in program.stderr)
    program.send_signal(signal.SIGINT)
    out, _ = program.communicate(timeout=60)

    assert program.returncode == 130
    document = json.loads(out)
    assert [task["status"] for task in document["tasks"]] == ["cancelled"]
    await_none(document["run"])
    worktree = user.root.parent / "project-worktrees" / "one"
    assert (worktree / "src" / "half.txt").read_text() == "half\n"
    assert user.git("status", "--porcelain") == ""
    # By which edits of a person are told from what the program left.
    left_at = Streams(user.root / ".parallelai" / "state").find("one").left_at
    assert left_at is not None
    assert left_at > (worktree / "src" / "half.txt").stat().st_ctime

    user.commit({"src/go.txt": "go\n"})
    again = run_program(user.root, "work", "run", "plan.yaml", "--json")
    assert again.returncode == 0, again.stderr
    row: dict[str, Any] = json.loads(again.stdout)["tasks"][0]
    assert json.loads(again.stdout)["run"] == document["run"]
    assert row["workstream"]["landed"]["commit"] == user.git("rev-parse", "main").strip()
    # Its program begins from nothing, and does not find what it left; which is not lost.
    assert (user.root / "src" / "half.txt").read_text() == "half\n"
    (kept,) = row["workstream"]["trespasses"]
    assert "cut off" in kept["why"]
    assert "+half" in (user.root / kept["patch"]).read_text()
    assert not worktree.exists()
    await_none(document["run"])
