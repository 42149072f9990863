"""What a user does to a workstream while its assistant works: nothing of it is lost, and the same call finishes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from repositories import Repository

from parallelai.client import AsyncParallelAI
from parallelai.engines.protocol import Capabilities, Port, Request
from parallelai.records import RunDocument
from running import FakeEngine, statuses

EDITS = Capabilities(answers=frozenset({"text", "change"}), edits=True, works_in_folder=True)
Deed = Callable[[Repository, Repository], object]


def rebases(user: Repository, tree: Repository) -> None:
    user.commit({"theirs.txt": "theirs\n"})
    tree.git("rebase", "-q", "--autostash", "main")


def rewrites_the_target(user: Repository, tree: Repository) -> None:
    user.commit({"theirs.txt": "theirs\n"})
    user.git("commit", "-q", "--amend", "-m", "amended")


def locks_the_index(user: Repository, tree: Repository) -> None:
    """As a git does that is killed in the worktree."""
    Path(tree.git("rev-parse", "--absolute-git-dir").strip(), "index.lock").touch()


DEEDS: dict[str, Deed] = {
    "edits": lambda user, tree: tree.write({"src/user.txt": "theirs\n"}),
    "commits": lambda user, tree: tree.commit({"src/user.txt": "theirs\n"}),
    "rebases": rebases,
    "moves the target": lambda user, tree: user.commit({"theirs.txt": "theirs\n"}),
    "rewrites the target": rewrites_the_target,
    "locks the index": locks_the_index,
    "deletes the folder": lambda user, tree: shutil.rmtree(tree.root),
    "removes the worktree": lambda user, tree: user.git("worktree", "remove", "--force", str(tree.root)),
}


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    (tmp_path / "gitconfig").write_text("[user]\n\tname = Ana\n\temail = ana@example.invalid\n")
    repository = Repository.start(tmp_path / "project")
    plan = {"engines": {}, "workstreams": {"one": {"description": "One", "owns": "src/**"}}}
    repository.commit({"plan.yaml": yaml.safe_dump(plan), "src/a.txt": "a\n", "mine.txt": "1\n"})
    repository.write({"mine.txt": "being edited\n", "new.txt": "of nobody else\n"})
    return repository


async def carried_out(user: Repository, deed: Deed, is_stubborn: bool) -> RunDocument:
    """Run the plan; the user acts once, between two writes of the first attempt. Where need be the call is repeated."""
    deeds = [deed]

    async def answer(request: Request, port: Port) -> str:
        tree = Repository(Path(request.root))
        tree.write({"src/b.txt": "b\n"})
        if deeds:
            deeds.pop()(user, tree)
        if is_stubborn:  # as a program that no sandbox holds, which makes the folders that it needs
            tree.write({"src/c.txt": "c\n"})
        else:
            (tree.root / "src" / "c.txt").write_text("c\n")
        return "done"

    for _ in range(2):
        async with AsyncParallelAI(user.root, engines=[FakeEngine(answer=answer, capabilities=EDITS)]) as ai:
            document = await ai.execute(user.root / "plan.yaml", engine="fake", resume=True)
        if document.exit == 0:
            break
    return document


@pytest.mark.parametrize("is_stubborn", [False, True])
@pytest.mark.parametrize("what", DEEDS)
async def test_what_a_user_does_meanwhile_costs_nobody_anything(
    user: Repository, what: str, is_stubborn: bool
) -> None:
    document = await carried_out(user, DEEDS[what], is_stubborn)
    assert statuses(document) == {"one": "ok"}, document.tasks
    landed = {path: user.git("show", f"main:{path}") for path in ("src/a.txt", "src/b.txt", "src/c.txt")}
    assert landed == {"src/a.txt": "a\n", "src/b.txt": "b\n", "src/c.txt": "c\n"}
    if what in ("edits", "commits"):
        assert user.git("show", "main:src/user.txt") == "theirs\n"
    if what in ("rebases", "moves the target", "rewrites the target"):
        assert user.git("show", "main:theirs.txt") == "theirs\n"
    assert (user.root / "mine.txt").read_text() == "being edited\n"
    assert (user.root / "new.txt").read_text() == "of nobody else\n"
    assert user.git("worktree", "list").count("\n") == 1
    assert user.git("fsck", "--no-dangling") == ""
