"""Folders that tasks share: one for each state of the files, made anew where making it has failed."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from repositories import Repository

from parallelai.errors import Unavailable
from parallelai.plan import model
from parallelai.run.workspaces import Measured, Work
from parallelai.work.scratch import folders
from parallelai.work.scratch.place import ScratchPlace
from parallelai.work.scratch.workspaces import RunWorkspaces, Settings, open_workspaces

SETUPS = {"bad": ("false",), "good": ("true",), "other": ("sh", "-c", "true")}
READ = Work(sandbox="none")


@pytest.fixture
async def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RunWorkspaces]:
    monkeypatch.setattr("parallelai.work.scratch.home.platformdirs.user_cache_dir", lambda _: str(tmp_path))
    repository = Repository.start(tmp_path / "r")
    repository.commit({"a": "1\n", "b": "1\n"})
    state = tmp_path / "state"

    def wanted(task: str) -> model.Workspace:
        return model.Workspace(setup=(SETUPS[task],)) if task in SETUPS else model.Workspace()

    workspaces = await open_workspaces(
        Settings("r", repository.root, state, state / "runs" / "r", of_task=wanted)
    )
    yield workspaces
    await workspaces.aclose()


async def at(workspaces: RunWorkspaces, task: str, work: Work = READ) -> ScratchPlace:
    return await workspaces.open(task, work, 60.0, nullcontext)  # type: ignore[arg-type]


def full_once(real: Callable[..., Any]) -> Callable[..., Any]:
    """Fails the first time, as on a disk that becomes full, and on which somebody then makes room."""
    calls: list[None] = []

    async def full(*given: Any, **more: Any) -> Any:
        calls.append(None)
        if len(calls) == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return await real(*given, **more)

    return full


async def test_a_folder_that_could_not_be_made_is_made_for_the_next_ones(
    made: RunWorkspaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "check_out", full_once(folders.check_out))
    first = await asyncio.gather(at(made, "one"), at(made, "two"), return_exceptions=True)
    assert [type(each) for each in first] == [Unavailable, Unavailable]
    await at(made, "edits", Work(edits=True, sandbox="none"))
    three, four = await asyncio.gather(at(made, "three"), at(made, "four"))
    assert three.root == four.root
    assert three.root.endswith("-0"), (
        "where a resumed run lays it, too: a session goes on by the path of its folder"
    )
    assert sorted(path.name for path in Path(three.root).iterdir()) == [".git", "a", "b"]


async def test_of_a_folder_that_could_not_be_made_nothing_takes_room(
    made: RunWorkspaces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "make_repository", full_once(folders.make_repository))
    before = set((tmp_path / "workspaces").rglob("*"))
    for task, work in (("one", Work(edits=True, sandbox="none")), ("bad", READ)):
        with pytest.raises(Unavailable):
            await at(made, task, work)
        assert set((tmp_path / "workspaces").rglob("*")) - before <= {(tmp_path / "workspaces" / "r")}
    assert Path((await at(made, "two")).root).parent == tmp_path / "workspaces" / "r"


async def test_changes_that_could_not_be_put_together_are_for_the_next_task(
    made: RunWorkspaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ab":
        place = await at(made, name, Work(edits=True, sandbox="none"))
        (Path(place.root) / name).write_text("2\n")
        measured = await place.measure()
        assert isinstance(measured, Measured)
        made.ended(name, measured)
    monkeypatch.setattr(folders, "merge", full_once(folders.merge))
    after = Work(after=("a", "b"), sandbox="none")
    with pytest.raises(Unavailable, match="No space"):
        await at(made, "one", after)
    root = Path((await at(made, "two", after)).root)
    assert [(root / name).read_text() for name in "ab"] == ["2\n", "2\n"]


async def test_no_folder_takes_the_place_of_one_that_is_in_use(made: RunWorkspaces) -> None:
    bad, good = await asyncio.gather(at(made, "bad"), at(made, "good"), return_exceptions=True)
    assert isinstance(bad, Unavailable)
    assert isinstance(good, ScratchPlace)
    (Path(good.root) / "mine").touch()
    other = await at(made, "other")
    assert other.root != good.root
    assert (Path(good.root) / "mine").exists()
