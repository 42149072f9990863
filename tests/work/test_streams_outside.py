"""What git took out of a sparse worktree after it was added there is in no file, and is work all the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from repositories import Repository
from streams_support import Project, project

from parallelai.work.streams.clean import drop, remove
from parallelai.work.streams.kept import Kept
from parallelai.work.streams.record import Stream


@pytest.fixture
async def shop(tmp_path: Path) -> Project:
    return await project(tmp_path)


async def added(shop: Project, path: str) -> tuple[Stream, Repository]:
    """A sparse worktree whose index alone has what somebody wrote."""
    stream = (await shop.start("gui", sparse=("src",))).stream
    there = shop.in_tree(stream)
    there.commit({"src/a.py": "landed\n"})
    shop.user.git("merge", "--quiet", "--no-ff", "--message", "m", stream.branch)
    there.write({path: "mine\n"})
    there.git("add", "--sparse", path)
    there.git("sparse-checkout", "reapply")
    assert not (there.root / path).exists()
    return stream, there


@pytest.mark.parametrize("path", ["docs/new.md", "docs/x.md"])
async def test_it_keeps_the_worktree_and_is_in_the_patch(shop: Project, tmp_path: Path, path: str) -> None:
    stream, there = await added(shop, path)
    kept = await remove(shop.repository, shop.streams, stream)
    assert isinstance(kept, Kept)
    assert kept.why == f"what is in its worktree is not committed: `{path}`"
    done = await drop(shop.repository, shop.streams, stream, tmp_path / "patches")
    assert done.patch is not None
    assert f"b/{path}" in done.patch.read_text()
    assert "+mine" in done.patch.read_text()
    assert not there.root.exists()
