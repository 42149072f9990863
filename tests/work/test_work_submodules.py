"""Submodules: their files are in worktrees and where gates run, or it is said that they are not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from repositories import Repository
from streams_support import Project

from parallelai.client import AsyncParallelAI
from parallelai.engines.protocol import Capabilities, Port, Request
from parallelai.git import repository as users
from parallelai.git.repository import open_repository
from parallelai.git.submodules import lay_out, submodules
from parallelai.work.gates.trees import Settings, SetupFailed, open_trees
from parallelai.work.streams.registry import Streams
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
    stream = document.tasks[0].workstream
    assert stream is not None
    assert stream["kept_out"] == ["lib/lib.txt", "lib/new.txt"]
    (trespass,) = stream["trespasses"]
    assert "another repository" in trespass["why"]
    assert "+changed" in (user.root / trespass["patch"]).read_text()
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


async def test_nor_does_one_inside_a_submodule(tmp_path: Path, user: Repository) -> None:
    inside = Repository(user.root / "lib")
    inside.git("update-index", "--cacheinfo", f"160000,{'1' * 40},deep")
    inside.git("commit", "--quiet", "--message", "bump")
    bumped(user, inside.git("rev-parse", "HEAD").strip())
    async with open_trees(await open_repository(user.root), Settings("r-1", tmp_path / "logs")) as trees:
        with pytest.raises(SetupFailed, match=r"the submodule `lib/deep` is at 1{10}"):
            async with trees.at(user.git("rev-parse", "bump").strip()):
                pass
        async with trees.at(user.git("rev-parse", "main").strip()) as tree:
            assert (tree.path / "lib/deep/deep.txt").read_text() == "deep\n"


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


def test_a_run_of_plain_tasks_tells_it_too(user: Repository, tmp_path: Path) -> None:
    clone = Repository(tmp_path / "clone")
    user.git("clone", "--quiet", str(user.root), str(clone.root))
    plan = {
        "engines": {"writer": {"use": "command", "command": ["sh", "-c", "echo new > new.txt"]}},
        "tasks": [{"id": "one", "description": "One", "engine": "writer", "edits": True}],
    }
    clone.write({"plan.json": json.dumps(plan)})

    ran = run_program(clone.root, "execute", "plan.json", "--trust")

    assert "are not in worktrees: `lib` (" in ran.stdout + ran.stderr, ran.stdout + ran.stderr


async def test_of_one_inside_another_it_is_told_too(user: Repository, tmp_path: Path) -> None:
    shutil.rmtree(user.root / ".git/modules/lib/modules")
    shop = Project(user, await open_repository(user.root), Streams(tmp_path / "state"))
    started = await shop.start("one")
    assert any(note.startswith("submodules are there") and note.endswith(": `lib`") for note in started.notes)
    assert any("are not in worktrees: `lib/deep` (" in note for note in started.notes)


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


# -- what an attacker tries


def trap(root: Path, seen: Path) -> str:
    """A repository whose own settings run a program when its files are written; gives its commit."""
    made = Repository.start(root)
    commit = made.commit({".gitattributes": "* filter=x\n", "trap.txt": "1\n"})
    set_trap(root / ".git", seen)
    return commit


def set_trap(git_dir: Path, seen: Path) -> None:
    """Let a git folder name a filter for all files, which leaves a file behind."""
    with (git_dir / "config").open("a", encoding="utf-8") as file:
        file.write(f'[filter "x"]\n\tsmudge = "touch {seen}; cat"\n')
    (git_dir / "info").mkdir(exist_ok=True)
    (git_dir / "info" / "attributes").write_text("* filter=x\n")


def with_link(user: Repository, modules: str, path: str, commit: str) -> None:
    """A branch `evil` with a submodule of a stranger's choosing."""
    user.git("switch", "--quiet", "--create", "evil")
    user.write({".gitmodules": modules})
    user.git("update-index", "--add", ".gitmodules", "--cacheinfo", f"160000,{commit},{path}")
    user.git("commit", "--quiet", "--message", "evil")
    user.git("switch", "--quiet", "main")


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("fixtures", "fixtures/repo"),  # a folder that the project tracks: named by its absolute path
        ("private", "private"),  # the user's own, which the project ignores
        ("link/other", "../elsewhere/other"),  # somewhere else, behind the user's link
        (".wt/one/build", ".wt/one/build"),  # what an assistant made, in a worktree below the checkout
    ],
)
def test_no_folder_of_a_branchs_choice_is_read_or_obeyed(
    tmp_path: Path, user: Repository, path: str, place: str
) -> None:
    seen = tmp_path / "seen"
    (user.root / ".git/info/exclude").write_text("/fixtures\n/private\n/link\n/.wt\n")
    folder = (user.root / place).resolve()
    commit = trap(folder, seen)
    name = path
    if path == "fixtures":
        name = str((folder / ".git").rename(user.root / "fixtures/repo.git"))
    known = (user.root / ".gitmodules").read_text()
    with_link(user, f'{known}[submodule "{name}"]\n\tpath = {path}\n\turl = x\n', path, commit)
    if path == "link/other":
        (user.root / "link").symlink_to(folder.parent)

    called = run_program(
        user.root, "work", "land", "--branches", "evil", "--gate", f"test ! -e {path}/trap.txt"
    )

    assert called.returncode == 4, called.stdout
    assert f"the submodule `{path}` is at" in called.stdout
    assert not seen.exists()


def test_what_the_users_git_folders_configure_is_run_nowhere(tmp_path: Path, user: Repository) -> None:
    seen = tmp_path / "seen"
    library = user.root / ".git/modules/lib"
    user.git("switch", "--quiet", "--create", "more")
    user.commit({"src/b.txt": "b\n"})
    user.git("switch", "--quiet", "main")
    for git_dir in (library, library / "modules/deep"):
        set_trap(git_dir, seen)
    user.write({"plan.json": json.dumps(PLAN)})

    gates = ("--gate", "grep -qx 1 lib/lib.txt", "--gate", "grep -qx deep lib/deep/deep.txt")
    landed = run_program(user.root, "work", "land", "--branches", "more", *gates)
    started = run_program(user.root, "work", "start", "plan.json")

    assert (landed.returncode, started.returncode) == (0, 0), landed.stdout + started.stderr
    assert (tmp_path / "project-worktrees/one/lib/deep/deep.txt").read_text() == "deep\n"
    assert not seen.exists()


@pytest.mark.parametrize("how", ["absolute", "link"])
async def test_a_submodule_in_one_is_looked_for_as_carefully(
    tmp_path: Path, user: Repository, how: str
) -> None:
    outside = tmp_path / "outside"
    commit = trap(outside, tmp_path / "seen")
    inside = Repository(user.root / "lib")
    name = str(outside / ".git") if how == "absolute" else "deep"
    inside.write({".gitmodules": f'[submodule "{name}"]\n\tpath = deep\n\turl = x\n'})
    inside.git("update-index", "--add", ".gitmodules", "--cacheinfo", f"160000,{commit},deep")
    inside.git("commit", "--quiet", "--message", "evil")
    bumped(user, inside.git("rev-parse", "HEAD").strip())
    if how == "link":
        deep = user.root / ".git/modules/lib/modules"
        shutil.rmtree(deep)
        deep.symlink_to(tmp_path / "linked")
        (tmp_path / "linked").mkdir()
        (outside / ".git").rename(tmp_path / "linked/deep")

    found = await submodules(users.Repository(user.root, user.root / ".git"), "bump")
    for folder in ("lib", "lib/deep"):
        (tmp_path / "top" / folder).mkdir(parents=True)
    await lay_out(found[0], tmp_path / "top")

    assert (tmp_path / "top/lib/lib.txt").read_text() == "1\n"
    assert list((tmp_path / "top/lib/deep").iterdir()) == []
    assert not (tmp_path / "seen").exists()


NAMES = [
    "./lib",
    "lib/",
    "lib//modules/deep",
    "../modules/lib",
    "lib/../lib",
    ".GIT/lib",
    "linked/lib",
    "x" * 5000,
]


@pytest.mark.parametrize("name", [*NAMES, "lib"])
async def test_a_name_only_leads_down_below_the_folder_of_modules(
    tmp_path: Path, user: Repository, name: str
) -> None:
    modules = user.root / ".git/modules"
    for place in (modules / ".GIT/lib", tmp_path / "outside/lib"):
        shutil.copytree(modules / "lib", place)
    (modules / "linked").symlink_to(tmp_path / "outside")
    lib = user.git("rev-parse", "main:lib").strip()
    with_link(user, f'[submodule "{name}"]\n\tpath = lib\n\turl = x\n', "lib", lib)

    (found,) = await submodules(users.Repository(user.root, user.root / ".git"), "evil")

    assert (found.folder, found.is_begun) == ((modules / "lib", True) if name == "lib" else (None, False))


async def test_gitmodules_takes_in_no_other_file(tmp_path: Path, user: Repository) -> None:
    (tmp_path / "more").write_text('[submodule "lib"]\n\tpath = lib\n')
    lib = user.git("rev-parse", "main:lib").strip()
    with_link(user, f"[include]\n\tpath = {tmp_path / 'more'}\n", "lib", lib)

    (found,) = await submodules(users.Repository(user.root, user.root / ".git"), "evil")

    assert found.folder is None
