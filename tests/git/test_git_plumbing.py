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
from parallelai.git.plumbing import Git, GitError, failure
from parallelai.processes import Completed

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


@pytest.fixture
def partial(tmp_path: Path, git: Git) -> tuple[Git, str, str]:
    """A partial clone, with a file that it has and one that it has not."""

    def call(*words: str | Path) -> str:
        done = subprocess.run(["git", "-C", git.git_dir, *words], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    files = "".join(f"M 100644 inline {name}\ndata 2\n{name}\n" for name in "ab")
    made = f"commit refs/heads/main\ncommitter a <a@b> 1 +0000\ndata 0\n{files}"
    subprocess.run(["git", "-C", git.git_dir, "fast-import", "--quiet"], input=made, text=True, check=True)
    call("config", "uploadpack.allowFilter", "true")
    call("config", "uploadpack.allowAnySHA1InWant", "true")
    clone, there, away = tmp_path / "clone", call("rev-parse", "main:a"), call("rev-parse", "main:b")
    url = f"file://{git.git_dir}"
    call("clone", "-q", "--filter=blob:none", "--no-checkout", "-b", "main", url, clone)
    call("-C", clone, "cat-file", "blob", there)
    return Git(clone / ".git"), there, away


async def test_a_partial_clone_gives_what_it_has(partial: tuple[Git, str, str]) -> None:
    git, there, away = partial
    assert await git.blobs([there, away]) == {there: b"a\n"}


async def test_what_only_a_remote_has_is_told_with_the_command_that_brings_it(
    partial: tuple[Git, str, str],
) -> None:
    git, _, away = partial
    with pytest.raises(GitError) as raised:
        await git.run("cat-file", "blob", away)
    assert raised.value.next is not None
    command = raised.value.next.split("`")[1]
    subprocess.run(command.split(), cwd=git.git_dir.parent, check=True, capture_output=True)
    assert await git.run("cat-file", "blob", away) == b"b\n"


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("fatal: could not create leading directories of '.git/worktrees/gui': Permission denied", True),
        ("error: unable to create file a: Read-only file system", True),
        ("git@host: Permission denied (publickey).", False),
    ],
)
def test_where_git_may_not_write_it_is_said_what_to_do(said: str, advice: bool) -> None:
    error = failure(("worktree",), Completed(128, None, b"", said.encode(), 0.1))
    assert ("may write there" in (error.next or "")) is advice


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
