"""git's plumbing: what it prints into a file is whole, or not there."""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

from parallelai.errors import StoreError, StoreFullError
from parallelai.git.plumbing import Git, GitError

CONTENT = b"a line of some length\n" * 20_000


@pytest.fixture
def git(tmp_path: Path) -> Git:
    subprocess.run(["git", "init", "-q", "--bare", str(tmp_path / "r")], check=True)
    return Git(tmp_path / "r")


@contextmanager
def files_at_most(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_a_file_that_git_prints_is_whole_and_takes_no_others_place(git: Git, tmp_path: Path) -> None:
    path = tmp_path / "printed"
    blob = await git.line("hash-object", "-w", "--stdin", stdin=CONTENT)
    await git.write(path, "cat-file", "blob", blob)
    assert path.read_bytes() == CONTENT
    with pytest.raises(StoreError, match="exists"):
        await git.write(path, "cat-file", "blob", await git.line("hash-object", "-w", "--stdin"))
    assert path.read_bytes() == CONTENT
    with pytest.raises(GitError):
        await git.write(tmp_path / "other", "cat-file", "blob", "0" * 40)
    assert not (tmp_path / "other").exists()


async def test_no_half_of_a_file_stays_where_there_is_no_room(git: Git, tmp_path: Path) -> None:
    path = tmp_path / "printed"
    blob = await git.line("hash-object", "-w", "--stdin", stdin=CONTENT)
    with files_at_most(len(CONTENT) // 2), pytest.raises(StoreFullError):
        await git.write(path, "cat-file", "blob", blob)
    assert not path.exists()


async def test_a_full_disk_is_said_where_git_does_not_know_why(
    git: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = await git.line("hash-object", "-w", "--stdin", stdin=CONTENT)

    def full(path: Path, *args: Any, **kwargs: Any) -> IO[bytes]:
        return open("/dev/full", "wb")

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(StoreFullError):
        await git.write(tmp_path / "printed", "cat-file", "blob", blob)
