"""Assistants that attack the repository which they work in; whole runs, with real git and real sandboxes."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from repositories import Repository

from parallelai import processes
from parallelai.client import AsyncParallelAI
from parallelai.records import Outcome, RunDocument
from parallelai.work.landing.target import Target
from parallelai.work.streams.base import PendingError

AGENT = """\
import pathlib, re, subprocess, sys
for name in re.findall(r"^RUN (\\S+)$", sys.stdin.read(), re.M):
    subprocess.run(["bash", name])
print("done")
"""
GATE = "import pathlib, sys; sys.exit(any('BROKEN' in p.read_text() for p in pathlib.Path('.').rglob('*.txt')))\n"
COMMON = "G=$(git rev-parse --path-format=absolute --git-common-dir); A=$(git rev-parse --absolute-git-dir)\n"
needs_sandbox = pytest.mark.skipif(
    "bubblewrap" not in [str(each) for each in processes.confinements()], reason="needs bubblewrap"
)


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    (tmp_path / "gitconfig").write_text("[user]\n\tname = Ana\n\temail = ana@example.invalid\n")
    repository = Repository.start(tmp_path / "project")
    repository.commit({"agent.py": AGENT, "gate.py": GATE, "user.txt": "mine\n", "b.txt": "b\n"})
    return repository


async def attack(
    user: Repository,
    scripts: dict[str, str],
    sandbox: str = "auto",
    edited: Mapping[str, str] | None = None,
    **more: Any,
) -> RunDocument:
    """Carry out a plan whose workstreams run these scripts; each owns what is called as it is."""
    user.commit({f"{name}.sh": COMMON + script for name, script in scripts.items()})
    user.write(dict(edited or {}))
    if "landing" in more:
        user.git("branch", "-f", more["landing"]["target"])
    works = {
        name: {"description": f"Work\nRUN {name}.sh", "owns": f"{name}.txt", **more.pop(f"work_{name}", {})}
        for name in scripts
    }
    plan = {
        "engines": {"sh": {"use": "command", "command": ["python3", "agent.py"], "sandbox": sandbox}},
        "defaults": {"engine": "sh"},
        "gates": {"landing": [["python3", "gate.py"]], "canary": "off"},
        "workstreams": works,
        **more,
    }
    path = user.root.parent / "plan.json"
    path.write_text(json.dumps(plan))
    async with AsyncParallelAI(user.root) as ai:
        return await ai.execute(path)


def all_ok(document: RunDocument) -> bool:
    return all(row.status is Outcome.OK for row in document.tasks)


@pytest.mark.parametrize("sandbox", ["required", "none"])
async def test_a_forged_pending_branch_is_not_landed(user: Repository, sandbox: str) -> None:
    forge = """
    echo BROKEN > user.txt; git add user.txt; T=$(git write-tree); git reset -q --hard
    C=$(git -c user.name=x -c user.email=x@x.invalid commit-tree $T -p refs/heads/main -m evil)
    mkdir -p $G/refs/heads/parallelai/landing; echo $C > $G/refs/heads/parallelai/landing/main
    echo x > one.txt
    """
    document = await attack(user, {"one": forge}, sandbox)
    assert all_ok(document)
    assert "evil" not in user.git("log", "--format=%s", "main")
    assert (user.root / "user.txt").read_text() == "mine\n"
    said = user.git("for-each-ref", "--format=%(subject)", "refs/heads/parallelai/landing").strip()
    assert said == ("evil" if sandbox == "none" else "")


async def test_a_pending_branch_that_is_another_name_of_the_target_does_not_delete_it(
    user: Repository,
) -> None:
    alias = """
    mkdir -p $G/refs/heads/parallelai/landing
    echo 'ref: refs/heads/main' > $G/refs/heads/parallelai/landing/main
    echo x > one.txt
    """
    document = await attack(user, {"one": alias}, "none")
    assert all_ok(document)
    assert (user.root / "one.txt").exists()
    assert user.git("branch", "--show-current").strip() == "main"


async def test_what_waits_to_be_taken_over_can_be_neither_moved_on_nor_deleted(user: Repository) -> None:
    edited = {"user.txt": "being edited\n"}
    script = "echo landed > user.txt"
    first = await attack(user, {"one": script}, edited=edited, work_one={"owns": "user.txt"})
    assert all_ok(first)
    pending = user.git("rev-parse", "parallelai/landing/main").strip()
    from parallelai.git.repository import open_repository

    target = Target(await open_repository(user.root), "main", frozenset)
    user.git("update-ref", "-d", "refs/heads/parallelai/landing/main")
    assert (await target.tip()).commit == pending
    assert user.git("rev-parse", "parallelai/landing/main").strip() == pending
    forged = user.git("commit-tree", "-p", pending, "-m", "evil", f"{pending}^{{tree}}").strip()
    user.git("update-ref", "refs/heads/parallelai/landing/main", forged)
    user.git("checkout", "-q", "user.txt")
    with pytest.raises(PendingError, match="no landing put there"):
        await target.take_over()
    user.git("merge", "-q", "--ff-only", pending)
    assert (await target.tip()).pending is None


async def test_merging_the_target_does_not_take_a_landing_back(user: Repository) -> None:
    late = """
    for i in $(seq 300); do git log -1 --format=%s dev | grep -q ^Merge && break; sleep 0.2; done
    git merge -q --ff-only dev; echo x > late.txt
    """
    document = await attack(user, {"late": late, "quick": "echo x > quick.txt"}, landing={"target": "dev"})
    assert all_ok(document)
    assert {"late.txt", "quick.txt"} <= set(user.git("ls-tree", "--name-only", "dev").split())


async def test_an_engine_without_a_sandbox_leaves_no_settings_and_no_hooks(
    user: Repository, tmp_path: Path
) -> None:
    loot = tmp_path / "loot"
    plant = f"""
    git config core.fsmonitor /bin/false; git config alias.x '!true'
    printf '#!/bin/sh\\ntouch {loot}\\n' > $G/hooks/post-merge; chmod +x $G/hooks/post-merge
    """
    config = (user.root / ".git" / "config").read_bytes()
    check = ["bash", "-c", COMMON + plant]
    document = await attack(user, {"one": f"{plant}\necho x > one.txt"}, "none", work_one={"checks": [check]})
    assert all_ok(document)
    assert (user.root / "one.txt").exists()
    assert (user.root / ".git" / "config").read_bytes() == config
    assert not (user.root / ".git" / "hooks" / "post-merge").exists()
    assert not loot.exists()


async def test_logs_that_lead_elsewhere_are_not_followed(user: Repository, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious\n")
    links = f"""
    for log in $G/logs/refs/heads/parallelai/one $A/logs/HEAD; do rm -f $log; ln -s {victim} $log; done
    echo x > one.txt
    """
    assert all_ok(await attack(user, {"one": links}))
    assert victim.read_text() == "precious\n"


async def test_an_index_that_a_check_made_lead_elsewhere_is_not_written(
    user: Repository, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious\n")
    check = ["bash", "-c", f"{COMMON} rm $A/index; ln -s {victim} $A/index; echo dirt > user.txt"]
    assert all_ok(await attack(user, {"one": "echo x > one.txt"}, work_one={"checks": [check]}))
    assert victim.read_text() == "precious\n"
    assert (user.root / "user.txt").read_text() == "mine\n"


@needs_sandbox
@pytest.mark.parametrize("is_packed", [True, False])
async def test_the_user_s_objects_cannot_be_destroyed(user: Repository, is_packed: bool) -> None:
    user.commit({"old.txt": "1\n"})
    user.commit({"old.txt": "2\n"})
    if is_packed:
        user.git("gc", "-q")
    wipe = "find $G/objects -type f -exec chmod u+w {} +; find $G/objects -type f -delete; echo x > one.txt"
    document = await attack(user, {"one": wipe}, "required")
    assert all_ok(document)
    assert subprocess.run(["git", "fsck"], cwd=user.root, capture_output=True).returncode == 0
    assert user.git("show", "HEAD:old.txt") == "2\n"


WIPE = """
touch mark; for i in $(seq 600); do [ -e go ] && break; sleep 0.1; done
find $G/objects -type f -exec chmod u+w {} +; find $G/objects -type f -delete
rm -f $G/refs/heads/parallelai/other; ln -s ../main $G/refs/heads/parallelai/other
rm -f $G/packed-refs; echo x > $G/packed-refs
rm -f mark go; echo x > one.txt
"""


@pytest.mark.parametrize("by", ["bubblewrap", "landlock"])
async def test_what_others_make_meanwhile_cannot_be_destroyed(
    user: Repository, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    if by not in processes.confinements():
        pytest.skip(f"needs {by}")
    monkeypatch.setattr("parallelai.processes.confining._tried", lambda bwrap: (by,))
    worktree = user.root.parent / "project-worktrees" / "one"
    running = asyncio.create_task(attack(user, {"one": WIPE}, "required"))
    while not (worktree / "mark").exists():
        assert not running.done()
        await asyncio.sleep(0.05)
    made = user.git("commit-tree", "-p", "HEAD", "-m", "made meanwhile", "HEAD^{tree}").strip()
    user.git("update-ref", "refs/heads/parallelai/other", made)
    (worktree / "go").touch()
    assert all_ok(await running)
    assert user.git("rev-parse", "parallelai/other").strip() == made
    assert subprocess.run(["git", "fsck"], cwd=user.root, capture_output=True).returncode == 0


async def test_with_landlock_neither_assistant_nor_check_writes_what_git_keeps_of_the_worktree(
    user: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "landlock" not in processes.confinements():
        pytest.skip("needs landlock")
    monkeypatch.setattr("parallelai.processes.confining._tried", lambda bwrap: ("landlock",))
    script = "(echo x > $A/gitdir) || echo refused > one.txt; git status --porcelain >> one.txt"
    check = ["bash", "-c", f"{COMMON} ! rm -f $A/HEAD"]
    assert all_ok(await attack(user, {"one": script}, "required", work_one={"checks": [check]}))
    assert (user.root / "one.txt").read_text() == "refused\n?? one.txt\n"


SAYS = """\
import pathlib, sys, time
me = pathlib.Path.cwd().name
if me == "one" and pathlib.Path("stop").exists():
    sys.exit(1)
if me == "fails":
    sys.exit(1)
time.sleep(2 if me == "one" else 0)
pathlib.Path(f"{me}.txt").write_text("x")
print("done")
if me == "one":
    print('```parallelai\\n{"lease": "b.txt", "reason": "r"}\\n```')
"""


@pytest.mark.parametrize("how", ["failed", "landed"])
async def test_nobody_waits_for_the_lease_of_one_that_has_ended(user: Repository, how: str) -> None:
    user.commit({"agent.py": SAYS, **({"stop": ""} if how == "landed" else {})})
    other = "fails" if how == "failed" else "b"
    works = {
        "one": {"description": "One", "owns": ["one.txt", "stop"]},
        other: {"description": "B", "owns": "b.txt"},
    }
    plan = {
        "engines": {"sh": {"use": "command", "command": ["python3", "agent.py"]}},
        "defaults": {"engine": "sh"},
        "workstreams": works,
    }
    path = user.root.parent / "plan.json"
    path.write_text(json.dumps(plan))
    async with AsyncParallelAI(user.root) as ai:
        document = await asyncio.wait_for(ai.execute(path), 60)
        if how == "landed":
            assert {row.id: str(row.status) for row in document.tasks} == {"one": "failed", "b": "ok"}
            (user.root.parent / "project-worktrees" / "one" / "stop").unlink()
            document = await asyncio.wait_for(ai.execute(path, resume=True), 60)
    assert next(row for row in document.tasks if row.id == "one").status is Outcome.OK


async def test_two_runs_never_work_in_one_worktree(user: Repository) -> None:
    slow = "[ -e mark ] && echo two > clash.txt; touch mark; sleep 3; echo x > one.txt"
    user.commit({"one.sh": slow})
    plan = {
        "engines": {"sh": {"use": "command", "command": ["bash", "one.sh"]}},
        "defaults": {"engine": "sh"},
        "workstreams": {"one": {"description": "One", "owns": ["one.txt", "mark", "clash.txt"]}},
    }
    path = user.root.parent / "plan.json"
    path.write_text(json.dumps(plan))
    async with AsyncParallelAI(user.root) as ai:
        first = asyncio.create_task(ai.execute(path))
        marked = user.root.parent / "project-worktrees" / "one" / "mark"
        while not marked.exists():
            await asyncio.sleep(0.05)
        async with AsyncParallelAI(user.root) as other:
            second = await other.execute(path)
        (row,) = second.tasks
        assert (row.status, row.error and row.error.kind) == (Outcome.BLOCKED, "unavailable")
        assert all_ok(await first)
    assert not (user.root / "clash.txt").exists()


async def test_the_error_of_a_trespass_names_a_few_of_many_files(user: Repository) -> None:
    document = await attack(user, {"one": "for i in $(seq 300); do echo x > f$i; done"})
    (row,) = document.tasks
    assert row.error is not None
    assert row.error.said.endswith("and 280 more")


ANOTHER_REPOSITORY = """
A=$(sed 's/gitdir: //' .git); C=$(cd $A/../..; pwd); M=$(git rev-parse refs/heads/land)
echo "ref: refs/heads/land" > $A/HEAD
rm -f .git; git init -q .; echo "$C/objects" > .git/objects/info/alternates
echo $M > .git/HEAD; git read-tree $M
git config core.fsmonitor "id > OUTSIDE; false"
"""


@needs_sandbox
async def test_a_check_that_takes_the_target_for_its_worktree_runs_nothing_outside(
    user: Repository, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    user.commit({"check.sh": ANOTHER_REPOSITORY.replace("OUTSIDE", str(outside))})
    work = {"owns": "one.txt", "checks": [["bash", "check.sh"]]}
    document = await attack(user, {"one": "echo x > one.txt"}, work_one=work, landing={"target": "land"})
    assert not outside.exists()
    assert all_ok(document)
    assert user.git("show", "land:one.txt") == "x\n"


@needs_sandbox
async def test_a_setup_that_plants_a_repository_runs_nothing_outside(
    user: Repository, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    plant = f"""
    rm -rf sub; mkdir sub; cd sub; git init -q .
    export GIT_AUTHOR_DATE=2020-01-01T00:00:00Z GIT_COMMITTER_DATE=2020-01-01T00:00:00Z
    export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a
    echo 1 > f; git add f; git commit -qm x; git rev-parse HEAD > .git/H; mv .git/H .git/HEAD
    rm .git/index; git read-tree HEAD
    mkdir -p .git/info; echo '* filter=x' > .git/info/attributes
    git config filter.x.clean "id > {outside}; cat"
    git rev-parse HEAD
    """
    (tmp_path / "plant.sh").write_text(plant)
    made = subprocess.run(["bash", str(tmp_path / "plant.sh")], cwd=tmp_path, capture_output=True, text=True)
    user.commit({"plant.sh": plant})
    user.git("update-index", "--add", "--cacheinfo", f"160000,{made.stdout.strip()},sub")
    user.git("commit", "-qm", "a submodule")
    (user.root / "sub").mkdir()
    outside.unlink(missing_ok=True)
    setup = {"workspace": {"setup": [["bash", "plant.sh"]]}}
    document = await attack(user, {"one": "echo x > one.txt"}, work_one={"owns": "one.txt", **setup})
    assert not outside.exists()
    assert all_ok(document)


PIPES = {
    "index": "rm -f $A/index; mkfifo $A/index",
    "index-folder": "rm -f $A/index; mkdir -p $A/index/more; echo x > $A/index/more/file",
    "ref": "rm -f $G/$(git symbolic-ref HEAD); mkfifo $G/refs/heads/parallelai/one",
    "head": "rm -f $A/HEAD; mkfifo $A/HEAD",
    "rebase": "git rev-parse HEAD > $A/H; mv $A/H $A/HEAD; mkdir $A/rebase-merge; mkfifo $A/rebase-merge/head-name",
}


@needs_sandbox
@pytest.mark.parametrize("when", ["turn", "check"])
@pytest.mark.parametrize("where", PIPES)
async def test_pipes_where_git_reads_hold_nothing_up(user: Repository, where: str, when: str) -> None:
    script = f"{COMMON}{PIPES[where]}\n"
    user.commit({"pipe.sh": script})
    work: dict[str, Any] = {"owns": "one.txt"}
    if when == "check":
        work["checks"] = [["bash", "pipe.sh"]]
    turn = "echo x > one.txt" + ("\nbash pipe.sh" if when == "turn" else "")
    async with asyncio.timeout(60):
        document = await attack(user, {"one": turn}, work_one=work)
    assert all_ok(document)
    assert (user.root / "one.txt").read_text() == "x\n"
