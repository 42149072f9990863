"""The user's own repository, while programs run that nothing holds back: what they do to it is put back or told."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from work_support import Hands, git, make_repository

from parallelai import AsyncParallelAI, Task
from parallelai.engines.protocol import Request
from parallelai.records import TaskResult
from parallelai.work.guard.traces import Traced, parse
from parallelai.work.guard.watch import Moved

A, B, NONE = "a" * 40, "b" * 40, "0" * 40


@pytest.fixture
def user(tmp_path: Path) -> Path:
    """A repository with two commits, branches, a tag, a remote and two stashes."""
    root = make_repository(tmp_path / "user", {"a.py": "a = 1\n"})
    git(root, "init", "-q", "--bare", str(tmp_path / "remote.git"))
    git(root, "remote", "add", "origin", str(tmp_path / "remote.git"))
    git(root, "commit", "-q", "--allow-empty", "-m", "second")
    for name in ("theirs", "other"):
        git(root, "branch", name)
    git(root, "tag", "v1", "HEAD~1")
    for text in ("one\n", "two\n"):
        (root / "a.py").write_text(text)
        git(root, "stash", "-q")
    return root


def refs(root: Path) -> dict[str, str]:
    rows = git(root, "for-each-ref", "--format=%(refname) %(objectname)").splitlines()
    return {name: commit for name, _, commit in (row.partition(" ") for row in rows) if "/kept/" not in name}


async def unconfined(root: Path, *commands: str, **task: Any) -> TaskResult:
    """Carry a task out whose program does these things in the user's checkout, and then its work."""
    me = f"git -C {shlex.quote(str(root))} -c user.name=e -c user.email=e@localhost"
    script = "; ".join(f"{me} {command}" for command in commands)
    program = ["bash", "-c", f"{script}; echo 1 > one.txt; exit $CODE"]
    code = str(task.pop("code", 0))
    plan = {
        "engines": {"sh": {"use": "command", "command": program, "sandbox": "none", "env": {"CODE": code}}},
        "tasks": [{"id": "t", "description": "d", "engine": "sh", "edits": True, **task}],
    }
    async with AsyncParallelAI(root) as ai:
        return (await ai.execute(plan)).tasks[0]


async def test_refs_and_stashes_come_back_and_nothing_that_was_made_is_lost(user: Path) -> None:
    before, stashes = refs(user), git(user, "stash", "list")
    task = await unconfined(
        user,
        "branch -qD theirs",
        "branch -qf other HEAD~1",
        "tag -d v1",
        "branch evil",
        "branch -m evil worse",
        "commit -q --allow-empty -m mine",
        "stash drop -q stash@{1}",
    )
    assert task.status == "ok", task.error
    assert refs(user) == before
    assert git(user, "stash", "list") == stashes
    assert git(user, "fsck", "--no-dangling", "--connectivity-only") == ""
    assert task.change is not None
    named = {re.sub(r" \(.*", "", path) for path in task.change.kept_out}
    moved = ("heads/main", "heads/other", "heads/theirs", "heads/worse", "stash", "tags/v1")
    assert named == {f".git/refs/{name}" for name in moved}
    kept = git(user, "for-each-ref", "--format=%(subject)", "refs/parallelai/kept")
    assert kept.split() == ["mine"]


async def test_a_branch_goes_back_to_what_others_had_made_of_it_meanwhile(user: Path) -> None:
    me = f"env -u GIT_TRACE_REFS git -C {shlex.quote(str(user))} -c user.name=u -c user.email=u@localhost"
    meanwhile = f"status -s; {me} commit -q --allow-empty -m theirs"
    task = await unconfined(user, meanwhile, "update-ref refs/heads/main other", "branch -f other other~1")
    assert task.status == "ok", task.error
    assert git(user, "log", "-1", "--format=%s", "main").strip() == "theirs"
    assert git(user, "log", "-1", "--format=%s", "other").strip() == "second"


async def test_all_stashes_come_back_and_one_more_is_left(user: Path) -> None:
    stashes = git(user, "stash", "list")
    task = await unconfined(user, "stash clear")
    assert task.status == "ok", task.error
    assert git(user, "stash", "list") == stashes
    assert git(user, "stash", "show", "-p", "stash@{1}")
    (user / "a.py").write_text("not committed\n")
    task = await unconfined(user, "stash -q")
    assert len(git(user, "stash", "list").splitlines()) == 3
    assert task.change is not None
    assert any("git stash pop" in path for path in task.change.kept_out)


async def test_a_push_is_told(user: Path, tmp_path: Path) -> None:
    task = await unconfined(user, "push -q origin main")
    assert task.change is not None
    assert task.change.kept_out == (".git/refs/remotes/origin/main (pushed)",)


async def test_what_a_failed_attempt_did_is_put_back_and_told_with_its_error(user: Path) -> None:
    before = refs(user)
    task = await unconfined(user, "branch -qD theirs", "config core.pager evil", code=3)
    assert task.error is not None
    assert "`.git/refs/heads/theirs`" in task.error.said
    assert "`.git/config`" in task.error.said
    assert refs(user) == before
    assert "evil" not in (user / ".git" / "config").read_text()


async def test_a_check_that_touches_it_is_put_right_too(user: Path) -> None:
    before = refs(user)
    check = [sys.executable, "-c", f"import subprocess as s; s.run(['git','-C',{str(user)!r},'tag','x'])"]
    task = await unconfined(user, "status -s", checks=[check])
    assert task.status == "ok", task.error
    assert refs(user) == before


async def test_what_the_user_does_meanwhile_is_left_and_told(
    user: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("parallelai.work.scratch.workspaces.is_confined", lambda workspace: False)

    def act(request: Request, root: Path) -> str:
        git(user, "branch", "-qD", "theirs")
        git(user, "commit", "-q", "--allow-empty", "-m", "the user's")
        git(user, "stash", "pop", "-q")
        (root / "one.txt").write_text("1\n")
        return "done"

    async with AsyncParallelAI(user, engines=[Hands(act)]) as ai:
        document = await ai.execute(tasks=[Task(id="t", description="x", engine="hands", edits=True)])
    change = document.tasks[0].change
    assert change is not None
    assert change.files == ("one.txt",)
    assert "refs/heads/theirs" not in refs(user)
    assert git(user, "log", "-1", "--format=%s").strip() == "the user's"
    assert len(git(user, "stash", "list").splitlines()) == 1
    assert all("by whom is not known" in path for path in change.kept_out)


@pytest.mark.parametrize(
    ("line", "moved"),
    [
        (f'0: refs/heads/x {A} -> {B} (F=0xc, T=0x0) "branch: Reset to b"', Moved("refs/heads/x", A, B)),
        (f'1: refs/tags/x null -> {NONE} (F=0xc, T=0x0) ""', Moved("refs/tags/x", A, None)),
        ("refs/heads/x", Moved("refs/heads/x", A, None)),
        ('rename_ref: refs/heads/x -> refs/heads/y "Branch: renamed": 0', Moved("refs/heads/y", None, A)),
    ],
)
def test_each_form_of_a_trace_is_read(line: str, moved: Moved) -> None:
    known = {"refs/heads/x": A}
    assert parse(f"13:34:58.097679 refs/debug.c:153        {line}\n").has(moved, known)
    assert not parse(
        f"13:34:58.097679 refs/debug.c:153        read_raw_ref: {moved.ref}: {A} type 0: 0\n"
    ).has(moved, known)


def test_a_renamed_ref_counts_only_where_it_still_is() -> None:
    renamed = [f'rename_ref: refs/heads/{old} -> refs/heads/{new} "": 0' for old, new in ("xy", "yz", "zx")]
    trace = parse("\n".join(f"13:34:58.097679 refs/debug.c:153        {line}" for line in renamed))
    known = {"refs/heads/x": A}
    assert trace.has(Moved("refs/heads/z", None, A), known)
    assert not trace.has(Moved("refs/heads/z", None, B), known), "somebody committed on it since"


@given(st.text(alphabet='refs/hx0123456789ab ->:"()\n', max_size=200))
def test_noise_in_a_trace_breaks_nothing(text: str) -> None:
    assert isinstance(parse(text), Traced)
