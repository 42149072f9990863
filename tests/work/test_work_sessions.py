"""What was interrupted goes on in its session and folder: after a kill, a cancel, a time-out."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from work_support import Hands, make_repository

from parallelai import AsyncParallelAI, Task
from parallelai.engines.protocol import Request

PROGRAM = Path(__file__).with_name("interrupted_program.py")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return make_repository(tmp_path / "repo", {"a.txt": "a\n"})


def finish(request: Request, root: Path) -> str:
    (root / "whole.txt").write_text((root / "half.txt").read_text() + "whole\n")
    return "done"


async def check_resumed(repository: Path, folder: str | None) -> None:
    engine = Hands(finish)
    async with AsyncParallelAI(repository, engines=[engine]) as ai:
        document = await ai.runs.resume()
        assert document is not None
        assert document.exit == 0, document.tasks
        (change,) = ai.changes.diff()
    assert change.change.files == ("half.txt", "whole.txt")
    (request,) = engine.requests
    assert request.session == "session of t"
    assert "interrupted" in request.prompt
    assert folder is None or request.root == folder
    assert not Path(request.root).exists()


async def test_a_killed_session_is_continued_where_it_was(repository: Path) -> None:
    program = subprocess.Popen(
        [sys.executable, PROGRAM, repository], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert program.stdout is not None
    assert program.stderr is not None
    try:
        assert await asyncio.to_thread(program.stdout.readline) == "begun\n"
        async with AsyncParallelAI(repository) as ai:  # the session is on disk before anybody is told of it
            while not any(event.type == "session.opened" for event in ai.runs.events()):
                await asyncio.sleep(0.01)
    finally:
        program.kill()
        program.wait()
        program.stdout.close()
        program.stderr.close()
    await check_resumed(repository, None)


async def test_a_timed_out_session_is_continued_when_resumed(repository: Path) -> None:
    roots: list[str] = []

    async def forever(request: Request, root: Path) -> str:
        roots.append(str(root))
        (root / "half.txt").write_text("half\n")
        await asyncio.Event().wait()
        return ""

    async with AsyncParallelAI(repository, engines=[Hands(forever)]) as ai:
        task = Task(id="t", description="x", engine="hands", edits=True, timeout=1.5)
        document = await ai.execute(tasks=[task])
        assert document.tasks[0].error is not None
        assert document.tasks[0].error.kind == "timed_out"
        assert Path(roots[0]).exists()
    await check_resumed(repository, roots[0])


async def test_a_cancelled_session_is_continued_when_resumed(repository: Path) -> None:
    begun = asyncio.Event()

    async def forever(request: Request, root: Path) -> str:
        (root / "half.txt").write_text("half\n")
        begun.set()
        await asyncio.Event().wait()
        return ""

    async with AsyncParallelAI(repository, engines=[Hands(forever)]) as ai, asyncio.TaskGroup() as group:
        task = Task(id="t", description="x", engine="hands", edits=True)
        run = group.create_task(ai.execute(tasks=[task]))
        await begun.wait()
        await ai.runs.cancel()
        assert (await run).exit == 4
    await check_resumed(repository, None)


async def test_folders_go_with_their_run(repository: Path) -> None:
    async def forever(request: Request, root: Path) -> str:
        await asyncio.Event().wait()
        return ""

    engine = Hands(forever)
    async with AsyncParallelAI(repository, engines=[engine]) as ai:
        document = await ai.execute(
            tasks=[Task(id="t", description="x", engine="hands", edits=True, timeout=1.0)]
        )
        root = Path(engine.requests[0].root)
        assert root.exists()
        await ai.runs.delete(document.run)
    assert not root.exists()


async def test_a_silent_assistant_is_nudged_once_in_its_session(repository: Path) -> None:
    async def silent_at_first(request: Request, root: Path) -> str:
        if request.turn == 1:
            await asyncio.Event().wait()
        (root / "a.txt").write_text("after\n")
        return "done"

    engine = Hands(silent_at_first, streams=True)
    async with AsyncParallelAI(repository, engines=[engine]) as ai:
        task = Task(id="t", description="x", engine="hands", edits=True, idle_timeout=0.2)
        document = await ai.execute(tasks=[task])
    assert document.exit == 0
    assert [request.turn for request in engine.requests] == [1, 2]
    assert engine.requests[1].session == "session of t"
