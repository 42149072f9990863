"""What a killed attempt committed in its sandbox alone is kept when its workstream is given up."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from repositories import Repository
from streams_support import Project, project

from parallelai.work.sheltering import Shelter, folder_of
from parallelai.work.streams.clean import drop
from parallelai.work.streams.left import listed
from parallelai.work.streams.places import entry_of
from parallelai.work.streams.record import Stream


@pytest.fixture
async def shop(tmp_path: Path) -> Project:
    return await project(tmp_path)


class Sandbox:
    """A workstream's git as its sandbox has it, without the sandbox."""

    def __init__(self, shop: Project, stream: Stream) -> None:
        entry = entry_of(shop.repository, Path(stream.worktree))
        assert entry is not None
        common = shop.repository.common
        self.shelter = Shelter(folder_of(shop.streams.state, stream.name), common, stream.branch)
        self.shelter.lay(entry.admin, stream.base)
        self.root = Path(stream.worktree)
        self.stream = stream
        who = {f"GIT_{role}_{what}": "a" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        self.env = {
            **os.environ,
            **who,
            "GIT_DIR": str(common),
            "GIT_WORK_TREE": str(self.root),
            "GIT_INDEX_FILE": str(self.shelter.admin / "index"),
            "GIT_OBJECT_DIRECTORY": str(self.shelter.objects),
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(common / "objects"),
        }

    def git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=self.root, env=self.env, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def commit(self, files: dict[str, str | bytes]) -> str:
        Repository(self.root).write(files)
        self.git("add", "--all")
        commit = self.git("commit-tree", self.git("write-tree"), "-p", self.stream.base, "-m", "own")
        self.at(commit)
        return commit

    def at(self, commit: str, branch: str | None = None) -> None:
        name = (branch or self.stream.branch).removeprefix("parallelai/")
        path = self.shelter.folder / "refs" / name
        path.write_text(f"{commit}\n")

    def log(self, *moves: tuple[str, str]) -> None:
        logs = self.shelter.admin / "logs"
        logs.mkdir(exist_ok=True)
        lines = (f"{old} {new} a <a> 0 +0000\tcheckout: moving from x to y\n" for old, new in moves)
        (logs / "HEAD").write_text("".join(lines))


def looks_back(sandbox: Sandbox, commit: str) -> None:
    """An older commit is checked out."""
    (sandbox.shelter.admin / "HEAD").write_text(f"{sandbox.stream.base}\n")


def on_another_branch(sandbox: Sandbox, commit: str) -> None:
    sandbox.at(sandbox.stream.base)
    sandbox.at(commit, "side")


def on_no_branch(sandbox: Sandbox, commit: str) -> None:
    sandbox.at(sandbox.stream.base)
    sandbox.log((commit, sandbox.stream.base))


def amid_a_rebase(sandbox: Sandbox, commit: str) -> None:
    (sandbox.shelter.admin / "HEAD").write_text(f"{sandbox.stream.base}\n")
    (sandbox.shelter.admin / "rebase-merge").mkdir()
    (sandbox.shelter.admin / "rebase-merge" / "orig-head").write_text(f"{commit}\n")


@pytest.mark.parametrize("act", [looks_back, on_another_branch, on_no_branch, amid_a_rebase])
async def test_commits_that_are_in_no_file_are_kept(shop: Project, tmp_path: Path, act: object) -> None:
    stream = (await shop.start("gui")).stream
    sandbox = Sandbox(shop, stream)
    commit = sandbox.commit({"src/new.py": "only there\n"})
    (sandbox.root / "src" / "new.py").unlink()
    assert callable(act)
    act(sandbox, commit)
    done = await drop(shop.repository, shop.streams, stream, tmp_path / "patches")
    assert done.patch is None
    (note,) = done.notes
    assert note.startswith("what was committed in its sandbox")
    (left,) = await listed(shop.repository)
    assert left.commit == commit
    assert shop.user.git("cat-file", "blob", f"{left.ref}:src/new.py") == "only there\n"
    shop.user.git("fsck", "--connectivity-only")
    assert not sandbox.shelter.folder.exists()


async def test_what_lies_in_the_files_is_in_the_patch_alone(shop: Project, tmp_path: Path) -> None:
    stream = (await shop.start("gui")).stream
    Sandbox(shop, stream).commit({"src/new.py": "mine\n"})
    done = await drop(shop.repository, shop.streams, stream, tmp_path / "patches")
    assert done.patch is not None
    assert "+mine" in done.patch.read_text()
    assert done.notes == ()


async def test_without_the_files_it_is_kept(shop: Project, tmp_path: Path) -> None:
    stream = (await shop.start("gui")).stream
    sandbox = Sandbox(shop, stream)
    commit = sandbox.commit({"src/new.py": "only there\n"})
    sandbox.root.rename(tmp_path / "away")
    shop.user.git("worktree", "prune")
    done = await drop(shop.repository, shop.streams, stream, tmp_path / "patches")
    assert any("committed in its sandbox" in each for each in done.notes)
    assert [each.commit for each in await listed(shop.repository)] == [commit]
