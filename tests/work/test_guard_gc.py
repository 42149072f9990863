"""Programs beside a turn that throw away what git has just written: the turn is looked at again, and then told."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from guard_support import Room

from parallelai.errors import Unavailable
from parallelai.git.plumbing import GitError
from parallelai.processes.removing import remove
from parallelai.work.guard import beside_gc, committing
from parallelai.work.guard.aftercare import Aftercare


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Room:
    monkeypatch.setattr(beside_gc, "WAITS", (0.0, 0.0))
    return Room(tmp_path)


@pytest.fixture
def care(room: Room) -> Aftercare:
    return Aftercare(room.repository, room.folder / "events", room.folder / "kept")


def collect(room: Room, care: Aftercare) -> None:
    """A program of another place throws away what nothing refers to."""
    env = {**os.environ, **care.variables("other")}
    subprocess.run(["git", "gc", "-q", "--prune=now"], cwd=room.main.root, env=env, check=True)


def loosened(room: Room) -> set[Path]:
    return {path for path in (room.main.root / ".git/objects").glob("[0-9a-f][0-9a-f]/*") if path.is_file()}


@pytest.mark.parametrize("when", ["make_commit", "refuse_incomplete"])
async def test_a_commit_whose_objects_were_thrown_away_is_made_again_and_whole(
    room: Room, care: Aftercare, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    gui = room.worktree(aftercare=care, is_confined=False)
    found = await gui.turn(lambda: gui.write({"src/a.txt": "1\n"}))
    assert found.files == ("src/a.txt",)
    collect(room, care)
    real: Any = getattr(committing, when)
    calls: list[str] = []

    async def beside(*arguments: Any) -> Any:
        calls.append(when)
        if len(calls) == 1:
            for path in loosened(room):
                path.unlink()
        return await real(*arguments)

    monkeypatch.setattr(committing, when, beside)
    made = await gui.guard.commit("x")
    assert len(calls) == 2
    assert gui.shown(made, "src/a.txt") == "1\n"
    room.main.git("fsck", "--connectivity-only")


async def test_a_turn_is_looked_at_again_and_tells_what_the_first_look_put_back(
    room: Room, care: Aftercare, monkeypatch: pytest.MonkeyPatch
) -> None:
    gui = room.worktree(aftercare=care, is_confined=False)
    config = room.main.root / ".git" / "config"
    before = config.read_bytes()
    from parallelai.work.guard import facts

    real, calls = facts.judged, list[int]()

    async def judged(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            collect(room, care)
            remove(gui.settings.objects)
            raise GitError("`git diff-tree` failed: unable to read tree")
        return await real(*arguments)

    monkeypatch.setattr(facts, "judged", judged)

    def act() -> None:
        gui.write({"src/a.txt": "1\n"})
        room.main.git("config", "core.pager", "evil")

    found = await gui.turn(act)
    assert (found.files, config.read_bytes()) == (("src/a.txt",), before)
    assert any(".git/config was put back" in each for each in found.touched)
    assert gui.shown(await gui.guard.commit("x"), "src/a.txt") == "1\n"


async def test_what_does_not_end_is_told_as_what_it_is_and_other_failures_as_they_are(
    room: Room, care: Aftercare
) -> None:
    tries: list[int] = []

    async def look() -> None:
        tries.append(1)
        raise GitError("`git diff-tree` failed: unable to read tree")

    for its, error, count in ((None, GitError, 1), (care, GitError, 1), (care, Unavailable, 3)):
        if error is Unavailable:
            collect(room, care)
        tries.clear()
        with pytest.raises(error) as caught:
            await beside_gc.despite_gc(its, look, lambda: None)
        assert len(tries) == count
    assert caught.value.said.startswith("programs beside it threw away what git had just written (`git gc`")
    assert caught.value.said.endswith("unable to read tree")
