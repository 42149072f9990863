"""A disk that is full, and a journal that was cut: a clear error, nothing lost that need not be, and on it goes."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from crash_support import (
    Child,
    await_none,
    document,
    graph_plan,
    graph_project,
    left_alone,
    points_asked,
    standing,
)
from parallelai.client import AsyncParallelAI, setup
from parallelai.errors import StoreCorruptError, StoreFullError
from running import FakeEngine, came_to, opened, project, tasks

COUNT = 60


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB, where one may be mounted."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root may mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def filled(folder: Path) -> Path:
    """Fill a disk to the last byte; gives what to delete to empty it."""
    blocker = folder / "blocker"
    with blocker.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"\0" * 4096)
    return blocker


@pytest.mark.slow
def test_a_full_disk(tmp_path: Path, small_disk: Path) -> None:
    """The run ends with the error that says so; with room again it goes on, and nothing is done twice."""
    plan = graph_plan(7, COUNT, 20)
    expected, total = left_alone(graph_project(tmp_path / "alone", plan))
    root = graph_project(small_disk, plan)
    child = Child(root, tmp_path / "events.jsonl")
    child.wait_for(total // 3)
    blocker = filled(small_disk)
    complaint = child.finish()
    if child.process.returncode != 0:  # else it was through before the disk was full
        assert "StoreFullError" in complaint
        assert "ExceptionGroup" not in complaint.splitlines()[-1]
    blocker.unlink()
    before = standing(root)
    assert before.run is not None
    await_none(before.run)
    child = Child(root, tmp_path / "events.jsonl")
    complaint = child.finish()
    assert child.process.returncode == 0, complaint
    after = standing(root)
    assert all(after.attempts[name] == before.attempts[name] for name in before.ok)
    assert came_to(document(root)) == expected


@pytest.mark.slow
def test_a_limit_on_the_size_of_files(tmp_path: Path) -> None:
    """What a quota does; everybody can have that."""
    plan = graph_plan(8, COUNT, 20)
    expected, _ = left_alone(graph_project(tmp_path / "alone", plan))
    root = graph_project(tmp_path / "limited", plan)
    child = Child(root, tmp_path / "events.jsonl", most_bytes=150_000)
    complaint = child.finish()
    assert child.process.returncode != 0
    assert "StoreFullError" in complaint
    before = standing(root)
    assert before.run is not None
    await_none(before.run)
    child = Child(root, tmp_path / "events.jsonl")
    complaint = child.finish()
    assert child.process.returncode == 0, complaint
    after = standing(root)
    assert all(after.attempts[name] == before.attempts[name] for name in before.ok)
    assert came_to(document(root)) == expected


async def test_a_full_disk_is_an_error_of_ours(tmp_path: Path, small_disk: Path) -> None:
    blocker: list[Path] = []

    async def answer(request: object, port: object) -> str:
        if not blocker:
            blocker.append(filled(small_disk))
        return "x" * 100_000

    engine = FakeEngine(answer=answer)
    async with opened(small_disk, engine) as ai:
        with pytest.raises(StoreFullError) as full:
            await ai.execute(tasks=tasks(*(f"t{n}" for n in range(50))), engine=engine)
    assert full.value.retry_helps
    blocker[0].unlink()
    engine = FakeEngine()
    async with opened(small_disk, engine) as ai:
        again = await ai.runs.resume()
    assert again is not None
    assert again.exit == 0


async def finished(root: Path) -> tuple[str, int]:
    """A run of some tasks, closed; gives its id and how large its journal is."""
    project(root)
    async with opened(root, FakeEngine()) as ai:
        run = (await ai.execute(tasks=tasks(*(f"t{n}" for n in range(COUNT))), engine="fake")).run
    return run, (root / ".parallelai/state/journal.db").stat().st_size


@pytest.mark.slow
async def test_a_journal_cut_at_random_bytes(tmp_path: Path) -> None:
    run, size = await finished(tmp_path / "whole")
    chance = random.Random(size)
    for number in range(max(4, points_asked() // 4)):
        root = tmp_path / f"cut-{number}"
        shutil.copytree(tmp_path / "whole", root)
        state = root / ".parallelai/state"
        os.truncate(state / "journal.db", chance.randrange(1, size))
        for left_over in ("journal.db-wal", "journal.db-shm"):
            (state / left_over).unlink(missing_ok=True)
        await hold_to_repair(root, run)


@pytest.mark.slow
async def test_a_journal_with_random_bytes_changed(tmp_path: Path) -> None:
    run, size = await finished(tmp_path / "whole")
    chance = random.Random(size + 1)
    for number in range(max(4, points_asked() // 4)):
        root = tmp_path / f"torn-{number}"
        shutil.copytree(tmp_path / "whole", root)
        with (root / ".parallelai/state/journal.db").open("r+b") as file:
            file.seek(chance.randrange(0, size - 4096))
            file.write(chance.randbytes(4096))
        await hold_to_repair(root, run, may_be_unseen=True)


async def hold_to_repair(root: Path, run: str, *, may_be_unseen: bool = False) -> None:
    """Damage is told as what it is; after `doctor --repair` what could be read is there, and it goes on."""
    engine = FakeEngine()
    advice = ""
    try:
        async with opened(root, engine, trust=True) as ai:
            list(ai.runs.events(run))
            assert ai.project.store.journal.check() or may_be_unseen
    except StoreCorruptError as error:
        advice = str(error.next)
    assert not advice or "doctor --repair" in advice
    kept = repaired(root)
    names = {row.row.id for row in kept}
    async with opened(root, engine, trust=True) as ai:
        if run in names and any(event.type == "run.created" for event in ai.runs.events(run)):
            done = {event.task for event in ai.runs.events(run) if event.type == "task.ended"}
            document = await ai.runs.resume(run)
            assert document is not None
            assert document.exit == 0
            assert len(document.tasks) == COUNT
            assert done.isdisjoint(engine.tasks), "what could be saved was not done again"
        else:
            assert (await ai.execute(tasks=tasks("new"), engine="fake")).exit == 0


def repaired(root: Path) -> tuple[object, ...]:
    """Repair as `doctor --repair` does; the damaged file stays beside the new one."""
    ai = AsyncParallelAI(root)
    try:
        assert setup.repair(ai.project)
    finally:
        ai.project.close()
    ai = AsyncParallelAI(root)
    try:
        assert ai.project.store.journal.check() == []
        return ai.runs.list()
    finally:
        ai.project.close()
