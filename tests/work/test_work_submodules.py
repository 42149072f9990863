"""Submodules: their files are in worktrees and where gates run, or it is said that they are not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from repositories import Repository

from parallelai.client import AsyncParallelAI
from parallelai.engines.protocol import Capabilities, Port, Request
from running import FakeEngine, run_program, statuses

FILE = ("-c", "protocol.file.allow=always")
EDITS = Capabilities(answers=frozenset({"text", "change"}), edits=True, works_in_folder=True)
PLAN = {
    "workstreams": {"one": {"description": "One", "owns": "src/**"}},
    "gates": {
        "landing": [["sh", "-c", "grep -q . lib/lib.txt && grep -q . lib/deep/deep.txt"]],
        "canary": "off",
    },
}


@pytest.fixture
def library(tmp_path: Path) -> Repository:
    """A library that has a library itself."""
    deep = Repository.start(tmp_path / "deep")
    deep.commit({"deep.txt": "deep\n"})
    made = Repository.start(tmp_path / "library")
    made.commit({"lib.txt": "1\n"})
    made.git(*FILE, "submodule", "--quiet", "add", str(deep.root), "deep")
    made.commit()
    return made


@pytest.fixture
def user(tmp_path: Path, library: Repository) -> Repository:
    """A checkout with the library in it."""
    made = Repository.start(tmp_path / "project")
    made.git("config", "user.name", "Ana")
    made.git("config", "user.email", "ana@example.invalid")
    made.git(*FILE, "submodule", "--quiet", "add", str(library.root), "lib")
    made.git(*FILE, "submodule", "--quiet", "update", "--init", "--recursive")
    made.commit({"src/a.txt": "a\n"})
    return made


def bumped(user: Repository, to: str, name: str = "bump") -> None:
    """A branch on which the library is at another commit."""
    user.git("switch", "--quiet", "--create", name)
    user.git("update-index", "--cacheinfo", f"160000,{to},lib")
    user.git("commit", "--quiet", "--message", "bump")
    user.git(*FILE, "switch", "--quiet", "main")


async def test_their_files_are_there_to_read_and_never_committed(user: Repository) -> None:
    seen: list[str] = []

    async def answer(request: Request, port: Port) -> str:
        root = Path(request.root)
        seen.append((root / "lib/lib.txt").read_text() + (root / "lib/deep/deep.txt").read_text())
        (root / "lib/lib.txt").write_text("changed\n")
        (root / "lib/new.txt").write_text("new\n")
        (root / "src/new.txt").write_text("new\n")
        return "done"

    before = user.git("rev-parse", "main:lib")
    async with AsyncParallelAI(user.root, engines=[FakeEngine(answer=answer, capabilities=EDITS)]) as ai:
        document = await ai.execute(PLAN, engine="fake")
    assert statuses(document) == {"one": "ok"}, document.tasks
    assert seen == ["1\ndeep\n"]
    assert user.git("diff", "--name-only", "main~", "main").split() == ["src/new.txt"]
    assert user.git("rev-parse", "main:lib") == before
    assert (user.root / "lib/lib.txt").read_text() == "1\n"
    assert user.git("status", "--porcelain") == ""


def test_a_gate_sees_the_commit_that_would_land(user: Repository) -> None:
    inside = Repository(user.root / "lib")
    old = inside.git("rev-parse", "HEAD").strip()
    new = inside.commit({"lib.txt": "2\n"})
    inside.git("checkout", "--quiet", old)
    bumped(user, new)
    gate = "grep -qx {} lib/lib.txt"

    refused = run_program(user.root, "work", "land", "--branches", "bump", "--gate", "grep -qx 1 lib/lib.txt")
    assert (refused.returncode, "ended with exit 1" in refused.stdout) == (4, True), refused.stdout
    # Also where the same folder served another commit before: on the base this gate finds no 2.
    words = ("--gate", "grep -qE [12] lib/lib.txt", "--gate", gate.format("2"), "--allow-red-base")
    landed = run_program(user.root, "work", "land", "--branches", "bump", *words)
    assert landed.returncode == 0, landed.stdout + landed.stderr
    assert user.git("rev-parse", "main:lib").strip() == new


def test_a_commit_that_is_not_here_does_not_land_unseen(user: Repository, library: Repository) -> None:
    bumped(user, library.commit({"lib.txt": "2\n"}))

    refused = run_program(user.root, "work", "land", "--branches", "bump", "--gate", "true", "--json")

    assert refused.returncode == 4
    error = json.loads(refused.stdout)["tasks"][0]["error"]
    assert "the submodule `lib` is at" in error["said"]
    assert user.git("rev-parse", "main:lib") != user.git("rev-parse", "bump:lib")


def test_who_has_not_checked_them_out_goes_without_and_is_told(user: Repository, tmp_path: Path) -> None:
    clone = Repository(tmp_path / "clone")
    user.git("clone", "--quiet", str(user.root), str(clone.root))
    plan = {**PLAN, "gates": {"landing": [["test", "!", "-e", "lib/lib.txt"]], "canary": "off"}}
    clone.git("config", "user.name", "Ana")
    clone.git("config", "user.email", "ana@example.invalid")
    clone.write({"plan.json": json.dumps(plan)})

    started = run_program(clone.root, "work", "start", "plan.json")
    assert started.returncode == 0, started.stderr
    assert "are not in worktrees: `lib`" in started.stdout + started.stderr
    worktree = tmp_path / "clone-worktrees" / "one"
    (worktree / "src/new.txt").write_text("new\n")
    assert run_program(clone.root, "work", "done", "one").returncode == 0
    landed = run_program(clone.root, "work", "land", "one")
    assert landed.returncode == 0, landed.stdout + landed.stderr


@pytest.mark.parametrize("name", ["../../outside", "lib"])
def test_what_gitmodules_names_is_not_looked_for_elsewhere(
    user: Repository, tmp_path: Path, name: str
) -> None:
    """A branch that names somebody else's repository as its submodule gets none of its files."""
    outside = Repository.start(tmp_path / "outside")
    secret = outside.commit({"secret.txt": "secret\n"})
    if name == "lib":
        modules = user.root / ".git" / "modules"
        (modules / "lib").rename(modules / "moved")
        (modules / "lib").symlink_to(outside.root / ".git")
    user.git("switch", "--quiet", "--create", "evil")
    user.write({".gitmodules": f'[submodule "{name}"]\n\tpath = lib\n\turl = x\n'})
    user.git("update-index", "--add", ".gitmodules", "--cacheinfo", f"160000,{secret},lib")
    user.git("commit", "--quiet", "--message", "evil")
    user.git("switch", "--quiet", "main")

    gate = "test ! -e lib/secret.txt"
    called = run_program(user.root, "work", "land", "--branches", "evil", "--gate", gate)

    # Whose own folder of it is gone has it not checked out, and goes without.
    assert called.returncode == (0 if name == "lib" else 4), called.stdout
    assert ("the submodule `lib` is at" in called.stdout) == (name != "lib")
