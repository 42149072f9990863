"""What is remembered of a repository holds as long as it is true: git's own answer, with fewer processes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from parallelai.errors import UsageError
from parallelai.git import repository as repositories
from parallelai.git.repository import Repository, _loose, open_repository

MISSING = "1" * 40
WHO = ("-c", "user.name=t", "-c", "user.email=t@example.invalid", "-c", "commit.gpgsign=false")


class _User:
    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()
        self.git("init", "-q", "-b", "main")

    def git(self, *arguments: str) -> str:
        argv = ["git", *WHO, *arguments]
        return subprocess.run(argv, cwd=self.root, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self) -> str:
        self.git("commit", "-q", "--allow-empty", "-m", "c")
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def user(tmp_path: Path) -> _User:
    return _User(tmp_path / "user")


@pytest.fixture
async def repository(user: _User) -> Repository:
    return await open_repository(user.root)


async def test_a_branch_is_where_git_says_however_it_is_kept(user: _User, repository: Repository) -> None:
    seen = []
    for _ in range(2):
        made = user.commit()
        seen.append(await repository.commit("refs/heads/main") == made)
        seen.append(await repository.commit("refs/heads/main") == made)
    user.git("pack-refs", "--all")
    seen.append(await repository.commit("refs/heads/main") == made)
    user.git("symbolic-ref", "refs/heads/other", "refs/heads/main")
    seen.append(await repository.commit("refs/heads/other") == made)
    before = user.git("rev-parse", "HEAD~1")
    user.git("update-ref", "refs/heads/main", before)  # a plain file again, over the packed one
    seen.append(await repository.commit("refs/heads/main") == before)
    seen.append(await repository.commit("refs/heads/other") == before)
    assert all(seen), seen


@pytest.mark.parametrize("name", ["refs/heads/none", "refs/heads/", "refs/heads/../../config", MISSING])
async def test_what_is_no_commit_is_none(user: _User, repository: Repository, name: str) -> None:
    user.commit()
    assert await repository.commit(name) is None


async def test_a_branch_that_somebody_wrote_by_hand_is_asked_of_git(
    user: _User, repository: Repository
) -> None:
    made = user.commit()
    (user.root / ".git/refs/heads/gone").write_text(f"{MISSING}\n")
    (user.root / ".git/refs/heads/far").symlink_to(user.root / "outside")
    (user.root / "outside").write_text(f"{made}\n")
    os.mkfifo(user.root / ".git/refs/heads/pipe")
    assert await repository.commit("refs/heads/main") == made
    assert await repository.commit("refs/heads/gone") is None
    assert _loose(repository.common, "refs/heads/pipe") is None  # and nobody waits for what writes there
    asked = "refs/heads/far"  # the link is git's to judge
    done = await repository.git.attempt("rev-parse", "--verify", "--quiet", f"{asked}^{{commit}}")
    assert await repository.commit(asked) == (done.stdout.decode().strip() or None)


async def test_what_a_worktree_sets_counts_there_alone(user: _User, repository: Repository) -> None:
    user.commit()
    user.git("config", "extensions.worktreeConfig", "true")
    user.git("worktree", "add", "-q", "--detach", "../tree")
    user.git("-C", "../tree", "config", "--worktree", "filter.here.clean", "cat")
    user.git("config", "--worktree", "filter.main.clean", "cat")
    pattern, tree = r"^filter\.(here|main)\.clean$", user.root.parent / "tree"
    admin = {"GIT_DIR": str(user.root / ".git/worktrees/tree"), "GIT_COMMON_DIR": str(user.root / ".git")}
    common = {"GIT_DIR": str(user.root / ".git")}
    for _ in range(2):
        assert set(await repository.settings(pattern, tree, common)) == {"filter.main.clean"}
        assert set(await repository.settings(pattern, tree, admin)) == {"filter.here.clean"}
    user.git("-C", "../tree", "config", "--worktree", "--unset", "filter.here.clean")
    assert await repository.settings(pattern, tree, admin) == {}


async def test_a_commit_that_has_submodules_is_told_from_one_that_has_none(
    user: _User, repository: Repository
) -> None:
    plain = user.commit()
    (user.root / ".gitmodules").write_text("")
    user.git("add", "-A")
    later = user.commit()
    for commit in (plain, later):
        await repository.commit(commit)
    for _ in range(2):
        assert [await repository.has_modules(each) for each in (plain, later)] == [False, True]
    assert not await repository.has_modules(MISSING)


async def test_a_repository_of_somebody_elses_is_told_as_that(
    user: _User, monkeypatch: pytest.MonkeyPatch
) -> None:
    variable = "GIT_TEST_ASSUME_DIFFERENT_OWNER"
    monkeypatch.setattr(repositories, "_PASSED", (*repositories._PASSED, variable))
    monkeypatch.setenv(variable, "true")
    with pytest.raises(UsageError) as error:
        await open_repository(user.root)
    assert "another user's" in error.value.said
    assert f"safe.directory {user.root}" in (error.value.next or "")
