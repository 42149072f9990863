"""What programs that nothing holds back throw away in the user's repository, and where they leave its checkout."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from test_users_git import unconfined
from work_support import Hands, git, make_repository

from parallelai import AsyncParallelAI, Task
from parallelai.engines.protocol import Request
from parallelai.events import Event, WorkspaceRepaired
from parallelai.git.repository import Repository
from parallelai.records import TaskResult
from parallelai.run.workspaces import Work
from parallelai.work.guard import deeds, kept_logs
from parallelai.work.guard.standing import Checkout
from parallelai.work.scratch.users_git import UsersGit
from parallelai.work.scratch.workspaces import Settings, open_workspaces

pytestmark = pytest.mark.usefixtures("settings")


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    (tmp_path / "gitconfig").write_text("[user]\n\tname = Ana\n\temail = ana@example.invalid\n")


@pytest.fixture
def user(tmp_path: Path) -> Path:
    """A repository with a branch `other` of another content, and edits: one staged, one not."""
    root = make_repository(tmp_path / "user", {"a.py": "a = 1\n", "b.py": "b = 1\n", "c.py": "c = 1\n"})
    git(root, "checkout", "-q", "-b", "other")
    (root / "c.py").write_text("c = 2\n")
    git(root, "commit", "-qam", "on other")
    git(root, "checkout", "-q", "main")
    (root / "a.py").write_text("a = 'staged'\n")
    git(root, "add", "a.py")
    (root / "b.py").write_text("b = 'edited'\n")
    return root


def state(root: Path) -> tuple[str, ...]:
    words = ("rev-parse", "HEAD"), ("symbolic-ref", "HEAD"), ("status", "--porcelain", "-uno"), ("diff",)
    return tuple(git(root, *each) for each in (*words, ("diff", "--cached")))


def told(task: TaskResult) -> str:
    assert task.status == "ok", task.error
    assert task.change is not None
    return "\n".join(task.change.kept_out)


def drop(root: Path, text: str, days: float = 0) -> str:
    """An object that nothing refers to, written so many days ago."""
    (root / "x.tmp").write_text(text)
    name = git(root, "hash-object", "-w", "x.tmp").strip()
    (root / "x.tmp").unlink()
    age(root / ".git" / "objects" / name[:2] / name[2:], days)
    return name


def age(path: Path, days: float) -> None:
    when = time.time() - days * 86400
    os.utime(path, (when, when))


def there(root: Path, *names: str) -> list[str]:
    listed = git(root, "cat-file", "--batch-check", "--batch-all-objects").splitlines()
    return sorted({line.split()[0] for line in listed}.intersection(names))


async def test_what_gc_throws_away_comes_back(user: Path) -> None:
    git(user, "stash", "-q")
    git(user, "commit", "-q", "--allow-empty", "--amend", "-m", "amended")
    amended = git(user, "rev-parse", "HEAD@{1}").strip()
    packed = drop(user, "packed, and nothing refers to it\n")
    git(user, "repack", "-adkq")
    git(user, "prune-packed")
    loose = drop(user, "loose, and nothing refers to it\n", days=30)
    logs, stashes = git(user, "reflog", "--all"), git(user, "stash", "list")
    gc = ("reflog expire --expire=now --expire-unreachable=now --all", "stash clear", "gc -q --prune=now")
    said = told(await unconfined(user, *gc))
    assert there(user, amended, loose, packed) == sorted([amended, loose, packed])
    assert git(user, "fsck", "--no-dangling") == ""
    assert (git(user, "reflog", "--all"), git(user, "stash", "list")) == (logs, stashes)
    assert re.search(r"^\.git/objects \(\d objects thrown away, and back\)$", said, re.M)
    assert ".git/logs/HEAD (lines thrown away, and back)" in said
    assert not list((user / ".parallelai").rglob("thrown-away"))


async def test_what_an_ordinary_gc_takes_is_neither_put_back_nor_told(user: Path) -> None:
    old, new = drop(user, "old\n", days=20), drop(user, "new\n")
    assert told(await unconfined(user, "gc -q")) == ""
    assert there(user, old, new) == [new]


async def test_single_objects_that_something_refers_to_come_back_however_old(user: Path) -> None:
    git(user, "update-ref", "refs/tags/old", blob := drop(user, "referred to\n", days=90))
    program = f"hash-object --stdin </dev/null; rm -f {user}/.git/objects/{blob[:2]}/{blob[2:]}"
    assert "1 object thrown away, and back; by whom is not known" in told(await unconfined(user, program))
    assert there(user, blob) == [blob]


async def test_a_killed_process_is_followed_by_one_that_puts_back(user: Path, tmp_path: Path) -> None:
    places = (tmp_path / "traces", tmp_path / "kept", "r")
    repository = Repository(user, user / ".git")
    name = drop(user, "x\n")
    logs = git(user, "reflog")
    await UsersGit(repository, *places).look("one")
    git(user, "reflog", "expire", "--expire=now", "--all")
    git(user, "prune", "--expire=now")
    shutil.rmtree(tmp_path / "traces", ignore_errors=True)
    after = UsersGit(repository, *places)
    assert [each.partition(" (")[0] for each in await after.resume(tmp_path / "aside")][:1] == [
        ".git/objects"
    ]
    assert there(user, name) == [name]
    assert git(user, "reflog") == logs
    await after.close()
    assert not (tmp_path / "kept").exists()


async def test_a_run_that_is_resumed_says_what_it_put_back(
    user: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("parallelai.work.scratch.home.platformdirs.user_cache_dir", lambda _: str(tmp_path))
    settings = Settings(
        "r", user, user / ".parallelai" / "state", user / ".parallelai" / "state" / "runs" / "r"
    )
    git(user, "stash", "-q")
    killed = await open_workspaces(settings)
    name, before, stashes = drop(user, "x\n"), state(user), git(user, "stash", "list")
    place = await killed.open("t", Work(edits=True, sandbox="none"), 60.0, nullcontext)  # type: ignore[arg-type]
    git(user, "config", "alias.mine", "status")
    git(user, "branch", "mine")
    git(user, "prune", "--expire=now")
    for command in (
        ["stash", "drop", "-q"],
        ["checkout", "-q", "-b", "evil"],
        ["rm", "-q", "--cached", "a.py"],
    ):
        subprocess.run(["git", "-C", str(user), *command], env=place.environment(), check=True)
    resumed = await open_workspaces(settings)
    said = "\n".join(resumed.notes)
    named = re.findall(r"^your repository was touched before this run was resumed: `([^ `]*)", said, re.M)
    assert sorted(named) == [
        *(".git/HEAD", ".git/config", ".git/index", ".git/objects", ".git/refs/heads/evil", ".git/refs/stash")
    ]
    assert ".git/config (changed since, by whom is not known)" in said
    assert (state(user), git(user, "stash", "list")) == (before, stashes)
    assert git(user, "branch", "--format=%(refname:short)").split() == ["main", "mine", "other"]
    assert git(user, "config", "alias.mine") == "status\n"
    assert there(user, name) == [name]
    await resumed.aclose()
    assert not list(settings.folder.rglob("thrown-away"))


async def test_where_no_hard_link_can_be_made_the_loss_is_told(
    user: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr("os.link", refused)
    drop(user, "x\n")
    users_git = UsersGit(Repository(user, user / ".git"), tmp_path / "traces", tmp_path / "kept", "r")
    look = await users_git.look("one")
    git(user, "prune", "--expire=now")
    (said,) = await users_git.put_back(look, tmp_path / "aside")
    assert said == ".git/objects (1 object thrown away, could not be put back)"
    await users_git.close()


@pytest.mark.parametrize(
    "commands",
    [
        ("checkout -q other",),
        ("checkout -q -b evil",),
        ("checkout -q --detach other",),
        ("branch -m main evil",),
        ("commit -qam evil", "checkout -q other"),
        ("add b.py",),
        ("reset -q",),
        ("rm -q --cached c.py",),
        ("commit -qm evil", "update-index --assume-unchanged c.py"),
    ],
    ids=lambda commands: commands[0],
)
async def test_head_and_index_of_the_checkout_come_back(user: Path, commands: tuple[str, ...]) -> None:
    before, branches = state(user), git(user, "branch", "--format=%(refname) %(objectname)")
    said = told(await unconfined(user, *commands))
    assert state(user) == before
    assert git(user, "branch", "--format=%(refname) %(objectname)") == branches
    assert ".git/HEAD" in said or ".git/index" in said
    assert "may have been you" not in said


async def test_a_switch_that_would_cost_files_is_not_taken_back_and_told(user: Path) -> None:
    said = told(await unconfined(user, "checkout -q other", "rm -q --cached c.py"))
    assert git(user, "branch", "--show-current") == "other\n"
    assert (user / "c.py").read_text() == "c = 2\n"
    assert "is on `other`, could not be put back: `git checkout main` goes back" in said


async def test_what_one_attempt_did_is_not_laid_at_anothers_door(user: Path, tmp_path: Path) -> None:
    users_git = UsersGit(Repository(user, user / ".git"), tmp_path / "traces", tmp_path / "kept", "r")
    aside, before = tmp_path / "aside", state(user)
    one, two = [await users_git.look(name) for name in ("one", "two")]
    env = {**os.environ, **users_git.variables("two")}
    for command in (["checkout", "-q", "other"], ["add", "b.py"]):
        subprocess.run(["git", "-C", str(user), *command], env=env, check=True)
    late = await users_git.look("late")
    assert await users_git.put_back(one, aside) == ()
    assert [each.partition(" ")[0] for each in await users_git.put_back(two, aside)] == [
        ".git/HEAD",
        ".git/index",
    ]
    assert await users_git.put_back(late, aside) == ()
    assert state(user) == before


async def test_files_that_were_reset_are_told_and_not_written_over(user: Path) -> None:
    said = told(await unconfined(user, "reset -q --hard other"))
    assert state(user)[:2] == (git(user, "rev-parse", "main"), "refs/heads/main\n")
    assert git(user, "diff", "--cached", "--name-only") == "a.py\n"
    assert (user / "c.py").read_text() == "c = 2\n"
    assert "git status" in said


async def test_where_the_user_may_have_moved_them_they_stay_and_the_way_back_is_said(
    user: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("parallelai.work.scratch.workspaces.is_confined", lambda workspace: False)
    before = state(user)

    def act(request: Request, root: Path) -> str:
        commands = {"head": ("checkout", "-q", "other"), "index": ("add", "b.py")}
        git(user, *commands[request.prompt.strip().splitlines()[-1]])
        (root / "one.txt").write_text("1\n")
        return "done"

    async with AsyncParallelAI(user, engines=[Hands(act)]) as ai:
        head = await ai.execute(tasks=[Task(id="t", description="head", engine="hands", edits=True)])
        said = told(head.tasks[0])
        assert git(user, "branch", "--show-current") == "other\n"
        assert (
            ".git/HEAD (was on `main`, is on `other`: that may have been you; `git checkout main` goes back)"
            in said
        )
        git(user, "checkout", "-q", "main")
        assert state(user) == before
        index = await ai.execute(tasks=[Task(id="t", description="index", engine="hands", edits=True)])
        said = told(index.tasks[0])
    assert git(user, "diff", "--cached", "--name-only") == "a.py\nb.py\n"
    assert "may have been you" in said
    command = said.partition("`")[2].partition("`")[0].split(" ")
    assert command[0] == "cp"
    shutil.copy(command[1], command[2])
    assert state(user) == before


@pytest.mark.parametrize("has_landed", [False, True])
async def test_where_the_index_is_gone_that_is_told_with_what_brings_it_back(
    user: Path, tmp_path: Path, has_landed: bool
) -> None:
    users_git = UsersGit(Repository(user, user / ".git"), tmp_path / "traces", tmp_path / "kept", "r")
    look = await users_git.look("one")
    if has_landed:
        git(user, "merge", "-q", "--ff-only", "other")
    before = state(user)
    (user / ".git" / "index").unlink()  # by no command of git, so that nothing tells who it was

    said = (await users_git.put_back(look, tmp_path / "aside"))[-1]

    assert said.startswith(".git/index (gone: that may have been you; `cp ")
    subprocess.run(said.partition("`")[2].partition("`")[0], shell=True, check=True)
    assert state(user) == before


@pytest.mark.parametrize("is_staged", [False, True])
async def test_where_the_index_is_gone_and_holds_nothing_of_its_own_git_makes_one_anew(
    user: Path, tmp_path: Path, is_staged: bool
) -> None:
    if not is_staged:
        git(user, "reset", "-q")
    users_git = UsersGit(Repository(user, user / ".git"), tmp_path / "traces", tmp_path / "kept", "r")
    look = await users_git.look("one")
    git(user, "commit", "-qam", "what was staged, and what was not")
    (user / "a.py").write_text("a = 3\n")
    git(user, "commit", "-qam", "more of the same file")
    (user / ".git" / "index").unlink()

    said = (await users_git.put_back(look, tmp_path / "aside"))[-1]

    assert said == ".git/index (gone: that may have been you; `git reset` makes it anew)"
    git(user, "reset", "-q")
    assert git(user, "status", "--porcelain", "-uno") == ""


async def test_who_worked_on_where_a_killed_program_put_them_stays_there(user: Path, tmp_path: Path) -> None:
    places = (tmp_path / "traces", tmp_path / "kept", "r")
    killed = UsersGit(Repository(user, user / ".git"), *places)
    await killed.look("one")
    env = {**os.environ, **killed.variables("one")}
    subprocess.run(["git", "-C", str(user), "checkout", "-q", "other"], env=env, check=True)
    git(user, "commit", "-qam", "went on here")
    before = state(user)
    for path in ("index", "logs/HEAD"):
        age(user / ".git" / path, days=-1)
    resumed = UsersGit(Repository(user, user / ".git"), *places)
    assert await resumed.resume(tmp_path / "aside") == ()
    assert state(user) == before
    await resumed.close()


@pytest.mark.parametrize("who", ["user", "program"])
async def test_the_log_of_a_branch_that_the_user_made_anew_stays_new(
    user: Path, tmp_path: Path, who: str
) -> None:
    users_git = UsersGit(Repository(user, user / ".git"), tmp_path / "traces", tmp_path / "kept", "r")
    before, look = git(user, "reflog", "other"), await users_git.look("one")
    env = {**os.environ, **(users_git.variables("one") if who == "program" else {})}
    for command in (["branch", "-q", "-D", "other"], ["branch", "-q", "other", "main"]):
        subprocess.run(["git", "-C", str(user), *command], env=env, check=True)
    now = git(user, "reflog", "other")
    (said,) = await users_git.put_back(look, tmp_path / "aside")
    assert said.startswith(".git/refs/heads/other")
    after = git(user, "log", "-g", "--format=%H %gs", "other").splitlines()
    assert len(after) == (len(now.splitlines()) if who == "user" else len((now + before).splitlines()) + 1)
    await users_git.close()


async def test_two_attempts_in_one_folder_have_each_their_own_look(user: Path, tmp_path: Path) -> None:
    users_git = UsersGit(Repository(user, user / ".git"), tmp_path / "traces", tmp_path / "kept", "r")
    before, one = state(user), await users_git.look("base")
    env = {**os.environ, **users_git.variables("base")}
    subprocess.run(["git", "-C", str(user), "add", "b.py"], env=env, check=True)
    await users_git.look("base")
    (said,) = await users_git.put_back(one, tmp_path / "aside")
    assert said.startswith(".git/index (back as it was")
    assert state(user) == before


async def test_a_program_that_removes_its_traces_is_told_of_and_nothing_more(user: Path) -> None:
    words = "config --local parallelai.x y; rm -rf $(dirname $GIT_TRACE_REFS)"
    said = told(await unconfined(user, "branch evil", words))
    assert ".git/config" in said.splitlines()
    assert ".git/refs/heads/evil (moved, by whom is not known)" in said


async def test_where_refs_are_no_files_the_checkout_is_left_alone(user: Path, tmp_path: Path) -> None:
    head = (user / ".git" / "HEAD").read_text()
    (user / ".git" / "HEAD").write_text("ref: refs/heads/.invalid\n")
    try:
        checkout = Checkout(Repository(user, user / ".git"))
        assert await checkout.stand(tmp_path / "copies") is None
    finally:
        (user / ".git" / "HEAD").write_text(head)


def test_a_log_that_is_too_large_is_not_taken_for_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, kept = tmp_path / "logs" / "HEAD", tmp_path / "kept"
    log.parent.mkdir()
    line = f"{'a' * 40} {'b' * 40} A <a@b> 1 +0000\tx\n".encode()
    log.write_bytes(line + b"half of a li")
    kept_logs.keep_logs(tmp_path, kept)
    assert (kept / "HEAD").read_bytes() == line
    log.write_bytes(large := line.replace(b"a@b", b"c@d") * 20)
    monkeypatch.setattr(kept_logs, "_MOST_BYTES", 1000)
    assert kept_logs.cut_logs(tmp_path, kept) == {}
    assert not kept_logs.put_lines_back(tmp_path, kept, "HEAD")
    assert log.read_bytes() == large


def test_lines_of_a_log_are_joined_once_each() -> None:
    a, b, c = (
        f"{n * 40} {n * 40} A <a@b> {t} +0000\tx\n".encode() for n, t in (("a", 1), ("b", 2), ("c", 3))
    )
    assert kept_logs.missing(a + b, a + b + c) == ()
    assert kept_logs.missing(a + b, c) == (a.rstrip(), b.rstrip())
    assert kept_logs.joined(a + b, b + c) == a + b + c
    assert [kept_logs.time_of(line) for line in (a, c, b"noise")] == [1.0, 3.0, 0.0]


def test_noise_in_a_trace_of_commands_breaks_nothing() -> None:
    lines = [
        b'{"event":"start","sid":"1","time":"2026-01-01T00:00:00.5Z"}',
        b'{"event":"def_repo","sid":"1","worktree":"/x"}',
        b'{"event":"cmd_name","sid":"1","name":"add","hierarchy":"stash/add"}',
        *(b'{"event":"start"', b'{"event":"exit","sid":"1","time":7}', b'{"event":"start",' + b"[" * 50_000),
    ]
    (deed,) = deeds.parse(lines)
    assert (deed.commands, deed.checkout) == (("stash", "add"), "/x")
    assert not deeds.is_last_writer([deed], Path("/x"), deed.began), "a stash's own work is in the stash"


def test_a_process_that_was_killed_is_not_blamed_for_what_came_long_after_it() -> None:
    lines = [
        b'{"event":"start","sid":"1","time":"2026-01-01T00:00:00Z"}',
        b'{"event":"def_repo","sid":"1","time":"2026-01-01T00:00:00Z","worktree":"/x"}',
        b'{"event":"cmd_name","sid":"1","time":"2026-01-01T00:00:00Z","name":"add","hierarchy":"add"}',
        b'{"event":"region_leave","sid":"1","time":"2026-01-01T00:01:00Z","label":"do_write_index"}',
    ]
    (deed,) = deeds.parse(lines)
    assert deeds.is_last_writer([deed], Path("/x"), deed.began + 61)
    assert not deeds.is_last_writer([deed], Path("/x"), deed.began + 70)
    timeless = [re.sub(rb'"time":"[^"]*",?', b"", line).replace(b",}", b"}") for line in lines]
    assert not any(deeds.is_last_writer([each], Path("/x"), deed.began) for each in deeds.parse(timeless))


PEACEFUL = """\
import pathlib, re, subprocess, sys
(name,) = re.findall(r"^NAME (\\w+)$", sys.stdin.read(), re.M)
pathlib.Path(f"{name}.txt").write_text("done")
subprocess.run(["git", "add", f"{name}.txt"], check=True)
subprocess.run(["git", "-c", "user.name=e", "-c", "user.email=e@localhost", "commit", "-qm", name], check=True)
subprocess.run(["git", "gc", "-q", "--auto"], check=True)
"""


async def test_of_workstreams_that_only_do_their_work_nothing_is_told(tmp_path: Path) -> None:
    user = make_repository(tmp_path / "user", {"agent.py": PEACEFUL})
    plan = {
        "engines": {"sh": {"use": "command", "command": ["python3", "agent.py"], "sandbox": "none"}},
        "gates": {"landing": [["true"]], "canary": "off"},
        "workstreams": {
            name: {"description": f"d\nNAME {name}", "owns": f"{name}.txt", "engine": "sh"}
            for name in ("one", "two")
        },
    }
    events: list[Event] = []
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    async with AsyncParallelAI(user) as ai:
        document = await ai.execute(tmp_path / "plan.json", on_events=events.extend)
    assert [task.status for task in document.tasks] == ["ok", "ok"]
    assert (user / "one.txt").read_text() == (user / "two.txt").read_text() == "done"
    assert [each.data.what for each in events if isinstance(each.data, WorkspaceRepaired)] == []


SCENE = """\
import pathlib, subprocess, sys
sys.stdin.read()
for line in pathlib.Path("evil.sh").read_text().splitlines():
    subprocess.run(["bash", "-c", line], check=True)
"""


async def test_a_workstreams_assistant_is_cleaned_up_after_as_well(user: Path, tmp_path: Path) -> None:
    git(user, "stash", "-q")
    for name in ("agent.py", "evil.sh"):
        (user / name).write_text("")
    evil = [
        "git reflog expire --expire=now --expire-unreachable=now --all",
        "git gc -q --prune=now",
        f"git -C {user} branch -q mine",
        f"git -C {user} stash drop -q",
        f"unset ${{!GIT_TRACE*}}; git -C {user} stash store -m meanwhile $(git -C {user} stash create)",
        f"git -C {user} -c user.name=e -c user.email=e@localhost commit -qam mine",
        f"git -C {user} checkout -q --detach other",
        f"git -C {user} -c user.name=e -c user.email=e@localhost commit -q --allow-empty -m alone",
        f"git -C {user} add .",
        "echo 1 > one.txt",
    ]
    (user / "evil.sh").write_text("\n".join(evil))
    (user / "agent.py").write_text(SCENE)
    git(user, "add", "agent.py", "evil.sh")
    git(user, "commit", "-qm", "scene")
    git(user, "stash", "pop", "-q", "--index")
    git(user, "stash", "store", "-m", "theirs", git(user, "stash", "create").strip())
    lost, before = drop(user, "x\n"), state(user)
    branches = git(user, "branch", "--list", "main", "mine", "other", "--format=%(refname) %(objectname)")
    lines = git(user, "reflog", "--format=%H %gs")
    plan = {
        "engines": {"sh": {"use": "command", "command": ["python3", "agent.py"], "sandbox": "none"}},
        "gates": {"landing": [["true"]], "canary": "off"},
        "landing": {"target": "dev"},
        "workstreams": {"one": {"description": "d", "owns": "one.txt", "engine": "sh"}},
    }
    git(user, "branch", "dev")
    events: list[Event] = []
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    async with AsyncParallelAI(user) as ai:
        document = await ai.execute(tmp_path / "plan.json", on_events=events.extend)
    assert document.tasks[0].status == "ok", document.tasks[0].error
    assert there(user, lost) == [lost]
    assert state(user) == before
    now = git(user, "branch", "--list", "main", "mine", "other", "--format=%(refname) %(objectname)")
    assert now == branches
    kept = git(user, "for-each-ref", "--format=%(subject)", "refs/parallelai/kept")
    assert sorted(kept.split()) == ["alone", "mine"]
    assert git(user, "reflog", "--format=%H %gs").endswith(lines)
    assert git(user, "stash", "list", "--format=%gd %gs") == "stash@{0} meanwhile\nstash@{1} theirs\n"
    said = [each.data.what for each in events if isinstance(each.data, WorkspaceRepaired)]
    names = {re.sub(r"[ (].*", "", each.partition(": ")[2]) for each in said}
    assert ".git/refs/stash (stashes were dropped, and are back)" in "\n".join(said)
    assert not any(" refs/stash" in each for each in said)
    own = {".git/objects", ".git/HEAD", ".git/index", ".git/logs/HEAD", ".git/logs/refs/heads/dev"}
    assert names >= own | {"refs/heads/main", "refs/heads/mine"}
    assert not any("may have been you" in each for each in said)
    assert not list((user / ".parallelai").rglob("thrown-away*"))


async def test_what_an_ordinary_gc_takes_out_of_a_cruft_pack_is_not_put_back(user: Path) -> None:
    listed = subprocess.run(["git", "gc", "-h"], capture_output=True, check=False)
    if b"cruft" not in listed.stdout + listed.stderr:
        pytest.skip("this git makes no cruft packs")
    old, new = drop(user, "old\n", days=20), drop(user, "new\n")
    git(user, "gc", "-q", "--cruft", "--prune=never")
    assert list((user / ".git" / "objects" / "pack").glob("*.mtimes"))
    assert told(await unconfined(user, "gc -q --cruft")) == ""
    assert there(user, old, new) == [new]


async def test_what_a_turn_did_that_failed_for_good_is_put_back_at_the_runs_end(
    user: Path, tmp_path: Path
) -> None:
    git(user, "stash", "store", "-m", "theirs", git(user, "stash", "create").strip())
    words = ("branch evil", "stash clear", "checkout -q -b worse", "rm -q --cached c.py")
    program = " && ".join(f"git -C {user} {each}" for each in words)
    before = state(user)
    plan = {
        "engines": {
            "sh": {"use": "command", "command": ["bash", "-c", f"{program}; exit 3"], "sandbox": "none"}
        },
        "gates": {"landing": [["true"]], "canary": "off"},
        "workstreams": {"one": {"description": "d", "owns": "one.txt", "engine": "sh"}},
    }
    events: list[Event] = []
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    async with AsyncParallelAI(user) as ai:
        document = await ai.execute(tmp_path / "plan.json", on_events=events.extend)
    assert document.tasks[0].status == "failed"
    assert state(user) == before
    assert [each for each in git(user, "branch", "--list").split() if each in ("evil", "worse")] == []
    assert git(user, "stash", "list", "--format=%gs") == "theirs\n"
    said = "\n".join(each.data.what for each in events if isinstance(each.data, WorkspaceRepaired))
    for word in (".git/HEAD", ".git/index", ".git/refs/stash", "refs/heads/evil"):
        assert word in said
    assert not list((user / ".parallelai").rglob("thrown-away*"))
    assert not list((user / ".parallelai" / "state" / "runs").glob("*/events"))


async def test_a_commit_that_a_program_left_on_no_branch_of_the_checkout_is_kept_and_told(user: Path) -> None:
    git(user, "stash", "-q")
    git(user, "checkout", "-q", "--detach")
    git(user, "commit", "-q", "--allow-empty", "-m", "the user's own, before")
    git(user, "checkout", "-q", "main")
    before = state(user)
    task = await unconfined(
        user,
        "checkout -q --detach",
        "commit -q --allow-empty -m on-no-branch",
        "checkout -q -b idea",
        "commit -q --allow-empty -m on-a-branch",
        "checkout -q main",
        "branch -qD idea",
        "checkout -q --detach",
        "commit -q --allow-empty -m reset",
        "reset -q --hard HEAD~1",
        "checkout -q main",
    )
    kept = git(user, "for-each-ref", "--format=%(objectname:short=12) %(subject)", "refs/parallelai/kept")
    ((name, subject),) = [line.split(" ", 1) for line in kept.splitlines()]
    assert subject == "on-a-branch"  # which has the other in its history
    assert f"left on no branch: `git show {name}`" in told(task)
    assert state(user) == before
