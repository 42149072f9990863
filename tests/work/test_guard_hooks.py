"""Hooks that give people the guard's check, beside those that they have."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from guard_support import RULES, Room
from guard_support import Stream as Worktree
from repositories import everything

from parallelai.errors import UsageError
from parallelai.work.guard.hooks import check, check_push, check_staged, install, uninstall
from parallelai.work.guard.words import gives_leave
from parallelai.work.scratch.workspaces import as_text
from parallelai.work.streams.record import Rules, Stream

KEY = "sk-" + "a1" * 20


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


@pytest.fixture
def hooks(room: Room) -> Path:
    folder = room.main.root / ".git/hooks"
    folder.mkdir(exist_ok=True)
    return folder


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def recorder(room: Room, exit_: int = 0) -> tuple[str, ...]:
    """A program in place of ours, which writes down how it was called."""
    log = room.folder / "called"
    made = script(room.folder / "our program", f'echo "$@" >> "{log}"\ncat >> "{log}"\nexit {exit_}')
    return (str(made),)


def stream(room: Room, worktree: Worktree, **more: object) -> Stream:
    settings = worktree.settings
    return Stream(
        name=settings.name,
        plan="plan.yaml",
        run="r-1",
        branch=settings.branch,
        worktree=str(settings.worktree),
        base=room.base,
        head=room.base,
        target="main",
        rules=settings.rules,
        **more,  # type: ignore[arg-type]
    )


def state(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {name: (mode, data) for name, (mode, _, data) in everything(folder).items()}


async def test_a_commit_in_a_worktree_asks_us_and_obeys(room: Room, hooks: Path) -> None:
    gui = room.worktree()
    assert len(await install(room.repository, recorder(room))) == 2
    gui.checkout.commit({"src/a.txt": "1\n"})
    assert (room.folder / "called").read_text() == "work guard-check --staged\n"
    recorder(room, 1)
    with pytest.raises(AssertionError):
        gui.checkout.commit({"src/a.txt": "2\n"})


async def test_hooks_that_are_there_run_first_with_all_that_git_tells(
    room: Room, hooks: Path, tmp_path: Path
) -> None:
    seen = tmp_path / "seen"
    script(hooks / "pre-commit", f'echo "commit $@" >> "{seen}"')
    script(hooks / "pre-push", f'echo "push $@" >> "{seen}"; cat >> "{seen}"')
    before = state(hooks)
    told = await install(room.repository, recorder(room))
    assert all("first" in each for each in told)
    remote = tmp_path / "remote.git"
    subprocess.run(["git", "init", "-q", "--bare", str(remote)], check=True)
    commit = room.main.commit({"x.txt": "1\n"})
    room.main.git("push", "-q", str(remote), "main:there")
    line = f"refs/heads/main {commit} refs/heads/there {'0' * 40}\n"
    assert seen.read_text() == f"commit \npush {remote} {remote}\n{line}"
    assert (room.folder / "called").read_text() == (
        f"work guard-check --staged\nwork guard-check --push -- {remote} {remote}\n{line}"
    )
    # One that says no is obeyed before we are asked.
    (room.folder / "called").unlink()
    script(hooks / "pre-commit.before-parallelai", "exit 3")
    with pytest.raises(AssertionError):
        room.main.commit({"x.txt": "2\n"})
    assert not (room.folder / "called").exists()
    script(hooks / "pre-commit.before-parallelai", f'echo "commit $@" >> "{seen}"')
    assert len(await uninstall(room.repository)) == 2
    assert state(hooks) == before


async def test_a_hook_that_git_did_not_run_is_told_as_that_and_comes_back(room: Room) -> None:
    hook = room.main.root / ".git" / "hooks" / "pre-push"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 3\n")
    hook.chmod(0o644)
    (told,) = [each for each in await install(room.repository, recorder(room)) if "was there" in each]
    assert told.endswith(
        "`pre-push.before-parallelai`, which was there, is not executable, and is not run, as before"
    )
    await uninstall(room.repository)
    assert (hook.read_text(), hook.stat().st_mode & 0o777) == ("#!/bin/sh\nexit 3\n", 0o644)


async def test_installing_twice_is_installing_once(room: Room, hooks: Path) -> None:
    script(hooks / "pre-commit", "exit 0")
    await install(room.repository, recorder(room))
    first = state(hooks)
    assert await install(room.repository, recorder(room)) == []
    assert state(hooks) == first
    assert len(await install(room.repository, ("elsewhere",))) == 2  # it was moved
    await uninstall(room.repository)
    assert await uninstall(room.repository) == []
    assert (hooks / "pre-commit").read_text() == "#!/bin/sh\nexit 0\n"
    assert not (hooks / "pre-push").exists()


async def test_a_link_and_a_hook_that_is_off_come_back_as_they_were(room: Room, hooks: Path) -> None:
    script(hooks / "real", "exit 0")
    (hooks / "pre-commit").symlink_to("real")
    (hooks / "pre-push").write_text("#!/bin/sh\nexit 1\n")  # not executable: git overlooks it
    before = state(hooks)
    await install(room.repository, recorder(room))
    room.main.commit({"x.txt": "1\n"})
    await uninstall(room.repository)
    assert state(hooks) == before


async def test_a_hook_put_over_ours_is_not_touched(room: Room, hooks: Path) -> None:
    script(hooks / "pre-commit", "exit 0")
    await install(room.repository, recorder(room))
    script(hooks / "pre-commit", "echo other")
    before = state(hooks)
    with pytest.raises(UsageError, match="another hook"):
        await install(room.repository, recorder(room))
    told = await uninstall(room.repository)
    assert any("not ours" in each for each in told)
    after = state(hooks)
    assert {name: after[name] for name in after} == {
        name: before[name] for name in before if name != "pre-push"
    }


async def test_killed_between_two_steps_it_is_finished_by_the_next(room: Room, hooks: Path) -> None:
    script(hooks / "pre-commit", "exit 0")
    before = state(hooks)
    (hooks / "pre-commit").rename(hooks / "pre-commit.before-parallelai")  # and then it was killed
    await install(room.repository, recorder(room))
    await uninstall(room.repository)
    assert state(hooks) == before


async def test_a_program_that_is_gone_stops_nobody(room: Room, hooks: Path) -> None:
    await install(room.repository, (str(room.folder / "gone"),))
    before = room.main.git("rev-parse", "HEAD")
    room.main.commit({"x.txt": "1\n"})
    assert room.main.git("rev-parse", "HEAD") != before


async def test_a_folder_of_hooks_elsewhere_is_honoured(room: Room) -> None:
    elsewhere = room.folder / "my hooks"
    elsewhere.mkdir()
    room.main.git("config", "core.hooksPath", str(elsewhere))
    await install(room.repository, recorder(room))
    room.worktree().checkout.commit({"src/a.txt": "1\n"})
    assert (room.folder / "called").read_text() == "work guard-check --staged\n"
    await uninstall(room.repository)
    assert list(elsewhere.iterdir()) == []


async def test_hooks_that_belong_to_the_project_are_left_to_people(room: Room) -> None:
    room.main.git("config", "core.hooksPath", ".husky")
    with pytest.raises(UsageError, match="part of the project") as caught:
        await install(room.repository)
    assert "`parallelai work guard-check --staged` to `.husky/pre-commit`" in str(caught.value.next)
    assert "`parallelai work guard-check --push` to `.husky/pre-push`" in str(caught.value.next)
    assert not (room.main.root / ".husky").exists()


async def test_of_a_folder_that_husky_writes_the_one_is_named_that_people_write(room: Room) -> None:
    room.main.git("config", "core.hooksPath", ".husky/_")
    with pytest.raises(UsageError, match="part of the project") as caught:
        await install(room.repository)
    assert "`.husky/pre-commit`" in str(caught.value.next)


# -- the check


async def test_what_is_staged_is_judged_by_the_same_rules(room: Room) -> None:
    gui = room.worktree()
    one = stream(room, gui)
    gui.write({"src/a.txt": "1\n", "other/x.txt": "2\n", "other/new.txt": "not staged\n"})
    gui.git("add", "src/a.txt", "other/x.txt")
    judged = await check_staged(room.repository, one)
    assert [each.path for each in judged.kept] == ["src/a.txt"]
    assert [(each.path, each.why) for each in judged.out] == [("other/x.txt", "not_owned")]
    found = await check(room.repository, [one], gui.root / "src")
    assert found.refused.splitlines() == [
        "The commit is refused. The workstream `gui` may not change this:",
        "- `other/x.txt`: not among the files that it owns",
        "`git restore --staged PATH` takes a file out of the commit; `parallelai work lease gui other/x.txt` gives"
        " leave to change it.",
    ]
    leased = stream(room, gui, leases=("other/x.txt",))
    assert (await check(room.repository, [leased], gui.root)).refused == ""
    assert (await check(room.repository, [one], room.main.root)).refused == ""


async def test_the_index_that_git_names_is_the_one_that_counts(room: Room) -> None:
    gui = room.worktree()
    gui.write({"other/x.txt": "2\n"})
    index = room.folder / "index"
    index.write_bytes((room.main.root / ".git/worktrees/gui/index").read_bytes())
    env = {**os.environ, "GIT_INDEX_FILE": str(index)}
    await asyncio.to_thread(subprocess.run, ["git", "add", "-A"], cwd=gui.root, env=env, check=True)
    one = stream(room, gui)
    assert (await check_staged(room.repository, one)).out == ()
    assert len((await check_staged(room.repository, one, index_file=index)).out) == 1


async def test_links_secrets_and_protected_files_are_seen(room: Room) -> None:
    gui = room.worktree()
    (gui.root / "src/link").symlink_to("/etc/passwd")
    gui.write({"src/key.txt": KEY, "AGENTS.md": "x\n"})
    gui.git("add", "-A")
    find = lambda text: frozenset({KEY}) if KEY in text else frozenset()  # noqa: E731
    found = await check(room.repository, [stream(room, gui)], gui.root, secrets_in=find)
    for path in ("src/link", "src/key.txt", "AGENTS.md"):
        assert f"`{path}`" in found.refused
    assert "`parallelai work lease gui AGENTS.md`" in found.refused  # for a link out there is no leave
    assert "The commit is refused. What looks like a secret is in `src/key.txt`" in found.refused
    assert KEY not in found.refused


async def test_what_is_pushed_is_judged_since_the_base(room: Room) -> None:
    gui = room.worktree()
    one = stream(room, gui)
    gui.checkout.commit({"src/a.txt": "1\n"})
    good = gui.git("rev-parse", "HEAD").strip()
    gui.checkout.commit({"other/x.txt": "1\n"})
    bad = gui.checkout.commit({"src/b.txt": "1\n"})
    assert (await check_push(room.repository, one, good)).out == ()
    assert [each.path for each in (await check_push(room.repository, one, bad)).out] == ["other/x.txt"]
    zero = "0" * 40

    async def pushed(line: str, folder: Path = room.main.root) -> str:
        return (await check(room.repository, [one], folder, pushed=line)).refused

    # `git push origin HEAD`, and a commit that is pushed to the branch's name
    assert "`other/x.txt`" in await pushed(f"HEAD {bad} refs/heads/x {zero}\n", gui.root)
    assert "`other/x.txt`" in await pushed(f"{bad} {bad} refs/heads/parallelai/gui {zero}\n")
    assert await pushed(f"HEAD {bad} refs/heads/x {zero}\n") == ""

    refused = await pushed(f"refs/heads/parallelai/gui {bad} refs/heads/x {zero}\n")
    assert refused.startswith(
        "The push is refused. The workstream `gui` may not change this:\n- `other/x.txt`:"
    )
    assert "`parallelai work done gui` takes it out of the branch, and keeps it as a patch;" in refused
    assert await pushed(f"refs/heads/parallelai/gui {good} refs/heads/x {zero}\n") == ""
    assert await pushed(f"refs/heads/main {bad} refs/heads/x {zero}\n") == ""
    assert await pushed(f"(delete) {zero} refs/heads/parallelai/gui {bad}\nnonsense\n") == ""


async def test_conflicts_with_others_are_a_warning(room: Room) -> None:
    gui, other = room.worktree(), room.worktree("other", rules=RULES)
    other.checkout.commit({"src/a.txt": "theirs\n"})
    gui.write({"src/a.txt": "ours\n"})
    gui.git("add", "-A")
    found = await check(room.repository, [stream(room, gui), stream(room, other)], gui.root)
    assert found.refused == ""
    (warning,) = found.warnings
    assert "`other`" in warning
    assert "`src/a.txt`" in warning


async def test_what_conflicts_is_seen_also_where_nobody_has_committed_it(room: Room) -> None:
    gui, other = room.worktree(), room.worktree("other", rules=RULES)
    other.write({"src/a.txt": "theirs\n"})
    gui.write({"src/a.txt": "ours\n"})
    gui.git("add", "-A")
    streams = [stream(room, gui), stream(room, other)]
    (warning,) = (await check(room.repository, streams, gui.root)).warnings
    assert "`src/a.txt`" in warning
    shutil.rmtree(other.root)  # nothing can be seen there, and nobody is stopped by it
    assert (await check(room.repository, streams, gui.root)).warnings == ()


async def test_what_git_merges_by_the_attributes_of_the_project_is_no_conflict(room: Room) -> None:
    room.base = room.main.commit({".gitattributes": "src/LOG merge=union\n", "src/LOG": "first\n"})
    gui, other = room.worktree(), room.worktree("other", rules=RULES)
    other.checkout.commit({"src/LOG": "first\ntheirs\n"})
    gui.write({"src/LOG": "first\nours\n"})
    gui.git("add", "-A")
    assert (await check(room.repository, [stream(room, gui), stream(room, other)], gui.root)).warnings == ()


async def test_what_comes_in_of_the_target_is_nobodys_change(room: Room) -> None:
    gui = room.worktree()
    one = stream(room, gui)
    gui.checkout.commit({"src/a.txt": "ours\n"})
    room.main.commit({"src/a.txt": "theirs\n", "other/x.txt": "of main\n"})
    with pytest.raises(AssertionError):
        gui.git("merge", "-q", "main")
    gui.write({"src/a.txt": "both\n"})
    gui.git("add", "-A")
    assert (await check(room.repository, [one], gui.root)).refused == ""
    gui.write({"other/x.txt": "of mine\n"})
    gui.git("add", "-A")
    assert "- `other/x.txt`: not among" in (await check(room.repository, [one], gui.root)).refused
    gui.git("restore", "--source=main", "--staged", "--worktree", "other/x.txt")
    gui.git("commit", "-qm", "merged")
    assert (await check_push(room.repository, one, gui.git("rev-parse", "HEAD").strip())).out == ()
    room.main.commit({"other/z.txt": "also of main\n"})
    gui.git("reset", "-q", "--hard", room.base)
    gui.checkout.commit({"src/b.txt": "ours\n"})
    gui.git("rebase", "-q", "main")
    assert (await check_push(room.repository, one, gui.git("rev-parse", "HEAD").strip())).out == ()
    bad = gui.checkout.commit({"other/z.txt": "of mine\n"})
    assert [each.path for each in (await check_push(room.repository, one, bad)).out] == ["other/z.txt"]


async def test_the_plan_itself_needs_a_persons_leave_also_where_all_is_owned(room: Room) -> None:
    room.base = room.main.commit({"plan.yaml": "version: 1\n"})
    gui = room.worktree(rules=Rules(owns=("**",)))
    gui.write({"plan.yaml": "version: 2\n"})
    gui.git("add", "-A")
    judged = await check_staged(room.repository, stream(room, gui))
    assert [(each.path, each.why) for each in judged.out] == [("plan.yaml", "protected")]


def test_the_command_that_gives_leave_can_be_given_as_it_is_printed() -> None:
    assert gives_leave("gui", ["a b", "c"]) == "parallelai work lease gui 'a b' c"
    assert gives_leave("gui", ["-rf", "c"]) == "parallelai work lease gui -- -rf c"
    assert gives_leave("gui", ["a\nb", as_text("\udcff.bin"), "c"]) == "parallelai work lease gui c PATH..."
    assert gives_leave("gui", ["a", "b", "c"], 2) == "parallelai work lease gui a b PATH..."
