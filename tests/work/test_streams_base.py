"""From where worktrees are cut: every way in which a branch and its remote can stand to each other."""

from __future__ import annotations

from pathlib import Path

import pytest
from repositories import Repository, everything

from parallelai.errors import UsageError
from parallelai.git.repository import Repository as Users
from parallelai.git.repository import open_repository
from parallelai.work.streams import base as module
from parallelai.work.streams.base import choose_base


@pytest.fixture
async def pair(tmp_path: Path) -> tuple[Repository, Repository, Users]:
    """A checkout whose `main` comes from a bare remote, and another checkout that pushes there."""
    other = Repository.start(tmp_path / "other")
    other.commit({"a": "1\n"})
    other.git("clone", "-q", "--bare", ".", str(tmp_path / "remote dir.git"))
    other.git("remote", "add", "origin", str(tmp_path / "remote dir.git"))
    other.git("clone", "-q", str(tmp_path / "remote dir.git"), str(tmp_path / "mine"))
    mine = Repository(tmp_path / "mine")
    return mine, other, await open_repository(mine.root)


Pair = tuple[Repository, Repository, Users]


def pushed(other: Repository, content: str = "2\n") -> str:
    commit = other.commit({"b": content})
    other.git("push", "-q", "origin", "main")
    return commit


async def test_the_remote_is_ahead(pair: Pair) -> None:
    mine, other, repository = pair
    commit = pushed(other)
    before = {
        k: v
        for k, v in everything(mine.root).items()
        if not k.startswith((".git/objects", ".git/refs/remotes", ".git/logs/refs/remotes"))
    }
    base = await choose_base(repository, None, fetch=True)
    after = {
        k: v
        for k, v in everything(mine.root).items()
        if not k.startswith((".git/objects", ".git/refs/remotes", ".git/logs/refs/remotes"))
    }
    assert (base.commit, base.target) == (commit, "main")
    assert base.note is not None
    assert "is ahead" in base.note
    assert {key for key in after if after[key][2] != before.get(key, (0, 0, b""))[2]} == set()
    assert "refs/parallelai" not in mine.git("for-each-ref")
    assert mine.git("rev-parse", "origin/main").strip() == commit


async def test_both_are_alike_or_the_local_one_is_ahead(pair: Pair) -> None:
    mine, _, repository = pair
    assert (await choose_base(repository, None, fetch=True)).note is None
    tip = mine.commit({"c": "3\n"})
    base = await choose_base(repository, "refs/heads/main", fetch=True)
    assert (base.commit, base.note) == (tip, None)


async def test_diverged_is_refused_with_the_command(pair: Pair) -> None:
    mine, other, repository = pair
    pushed(other)
    mine.commit({"c": "3\n"})
    with pytest.raises(UsageError, match="diverged") as error:
        await choose_base(repository, None, fetch=True)
    assert f"git -C {mine.root} pull --rebase origin main" in str(error.value.next)
    mine.git("checkout", "-q", "-b", "side")
    with pytest.raises(UsageError) as error:
        await choose_base(repository, "main", fetch=True)
    assert "checkout main && git" in str(error.value.next)


async def test_offline_and_never(pair: Pair, tmp_path: Path) -> None:
    mine, other, repository = pair
    pushed(other)
    tip = mine.git("rev-parse", "main").strip()
    base = await choose_base(repository, None, fetch=False)
    assert base.commit == tip
    assert base.note is not None
    assert "was not asked" in base.note
    (tmp_path / "remote dir.git").rename(tmp_path / "away")
    base = await choose_base(repository, None, fetch=True)
    assert base.commit == tip
    assert base.note is not None
    assert "could not be asked" in base.note


async def test_the_upstream_s_own_name_and_remote_count(pair: Pair) -> None:
    mine, other, repository = pair
    other.git("push", "-q", "origin", "main:trunk")
    commit = other.commit({"t": "t"})
    other.git("push", "-q", "origin", "main:trunk")
    mine.git("remote", "rename", "origin", "up.stream")
    mine.git("remote", "add", "origin", "nowhere")
    mine.git("config", "branch.main.merge", "refs/heads/trunk")
    base = await choose_base(repository, None, fetch=True)
    assert base.commit == commit
    assert base.note is not None
    assert "`trunk`" in base.note
    assert "`up.stream`" in base.note


async def test_no_remote_and_a_branch_as_upstream(tmp_path: Path) -> None:
    mine = Repository.start(tmp_path / "r")
    tip = mine.commit({"a": "1"})
    repository = await open_repository(mine.root)
    base = await choose_base(repository, None, fetch=True)
    assert base.commit == tip
    assert base.note is not None
    assert "no remote" in base.note
    mine.git("checkout", "-q", "-b", "side", "--track", "main")
    assert (await choose_base(repository, None, fetch=True)).target == "side"


async def test_what_cannot_be_a_target(tmp_path: Path) -> None:
    mine = Repository.start(tmp_path / "r")
    repository = await open_repository(mine.root)
    with pytest.raises(UsageError, match="no commit yet"):
        await choose_base(repository, None, fetch=True)
    mine.commit({"a": "1"})
    for name in ("nope", "-x", "a..b", "parallelai/landing/main", "HEAD"):
        with pytest.raises(UsageError):
            await choose_base(repository, name, fetch=True)
    mine.git("checkout", "-q", "--detach")
    with pytest.raises(UsageError, match="detached"):
        await choose_base(repository, None, fetch=True)
    assert (await choose_base(repository, "main", fetch=False)).target == "main"


async def test_a_branch_that_only_the_remote_has(pair: Pair) -> None:
    mine, other, repository = pair
    other.git("push", "-q", "origin", "main:next")
    mine.git("fetch", "-q")
    with pytest.raises(UsageError, match="only on") as error:
        await choose_base(repository, "next", fetch=True)
    assert error.value.next == "`git branch next origin/next`"


async def test_what_landed_and_was_not_taken_over_is_the_base(pair: Pair) -> None:
    mine, other, repository = pair
    mine.git("checkout", "-q", "-b", "parallelai/landing/main")
    landed = mine.commit({"l": "l"})
    mine.git("update-ref", "refs/parallelai/pending/main", "HEAD")  # as a landing writes it down
    mine.git("checkout", "-q", "main")
    base = await choose_base(repository, None, fetch=True)
    assert (base.commit, base.target, base.pending) == (landed, "main", "parallelai/landing/main")
    pushed(other)
    with pytest.raises(UsageError, match="diverged"):
        await choose_base(repository, None, fetch=True)
    mine.git("merge", "-q", "--ff-only", "parallelai/landing/main")
    mine.git("fetch", "-q")
    mine.git("merge", "-q", "-m", "m", "origin/main")
    assert (await choose_base(repository, None, fetch=True)).pending is None


async def test_what_landed_beside_the_user_s_own_commits_is_told(pair: Pair) -> None:
    mine, _, repository = pair
    mine.git("checkout", "-q", "-b", "parallelai/landing/main")
    mine.commit({"l": "l"})
    mine.git("update-ref", "refs/parallelai/pending/main", "HEAD")  # as a landing writes it down
    mine.git("checkout", "-q", "main")
    mine.commit({"m": "m"})
    with pytest.raises(UsageError, match="holds what landed") as error:
        await choose_base(repository, None, fetch=True)
    assert "merge parallelai/landing/main" in str(error.value.next)


async def test_a_remote_that_does_not_answer_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = Repository.start(tmp_path / "r")
    tip = mine.commit({"a": "1"})
    mine.git("remote", "add", "origin", "ssh://nobody.invalid/x")
    (tmp_path / "ssh").write_text("#!/bin/sh\nexec sleep 1000\n")
    (tmp_path / "ssh").chmod(0o755)
    monkeypatch.setenv("GIT_SSH", str(tmp_path / "ssh"))
    monkeypatch.setattr(module, "FETCH_SECONDS", 0.3)
    base = await choose_base(await open_repository(mine.root), None, fetch=True)
    assert base.commit == tip
    assert base.note is not None
    assert "did not answer within 0.3 s" in base.note
