"""What an assistant did to git is put right after its turn, and nothing that it made is lost."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from guard_support import BASE, Room, Stream, apply

from parallelai.errors import Internal, Trespass
from parallelai.work.guard.watch import files_changed_since, refs_moved_since, watch_of


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


@pytest.fixture
def gui(room: Room) -> Stream:
    return room.worktree()


def commit(gui: Stream, files: dict[str, str | bytes]) -> str:
    gui.write(files)
    gui.git("add", "-A")
    gui.git("commit", "-qm", "mine")
    return gui.git("rev-parse", "HEAD").strip()


def in_order(gui: Stream) -> None:
    """The worktree is on its branch, and nothing is half done."""
    assert gui.git("symbolic-ref", "HEAD").strip() == "refs/heads/parallelai/gui"
    folder = Path(gui.git("rev-parse", "--absolute-git-dir").strip())
    allowed = {
        "HEAD",
        "ORIG_HEAD",
        "commondir",
        "gitdir",
        "index",
        "logs",
        "refs",
        "COMMIT_EDITMSG",
        "modules",
    }
    assert {path.name for path in folder.iterdir()} <= allowed
    assert "rebase" not in gui.git("status")
    gui.git("fsck", "--strict", "--no-dangling")


async def test_its_commits_are_undone_and_their_content_is_committed_by_us(room: Room, gui: Stream) -> None:
    made: list[str] = []

    def act() -> None:
        made.append(commit(gui, {"src/a.txt": "1\n", "other/x.txt": "mine\n"}))
        made.append(commit(gui, {"src/b.txt": "2\n"}))

    found = await gui.turn(act)
    assert found.undone == tuple(reversed(made))
    assert gui.git("rev-parse", "HEAD").strip() == room.base
    assert found.files == ("src/a.txt", "src/b.txt")
    assert [each.paths for each in found.kept_out] == [("other/x.txt",)]
    ours = await gui.guard.commit("Ours")
    assert gui.git("log", "--format=%s", f"{room.base}..parallelai/gui").split() == ["Ours"]
    assert gui.shown(ours, "src/b.txt") == "2\n"
    in_order(gui)


async def test_an_amended_commit_of_ours_comes_back(gui: Stream) -> None:
    await gui.turn(lambda: gui.write({"src/a.txt": "1\n"}))
    ours = await gui.guard.commit("Ours")

    def act() -> None:
        gui.write({"src/a.txt": "2\n"})
        gui.git("commit", "-q", "--amend", "-am", "not yours any more")

    found = await gui.turn(act)
    assert gui.git("rev-parse", "HEAD").strip() == ours
    assert found.files == ("src/a.txt",)
    assert (await gui.guard.commit("Second")) != ours
    assert gui.git("rev-parse", "HEAD^").strip() == ours


async def test_a_rebase_left_half_way_gives_the_branch_back(room: Room, gui: Stream) -> None:
    def act() -> None:
        commit(gui, {"src/a.txt": "1\n"})
        commit(gui, {"src/b.txt": "2\n"})
        gui.git("-c", "sequence.editor=sed -i 1s/pick/edit/", "rebase", "-q", "-i", "HEAD~2")
        assert (gui.root / "src/b.txt").read_text() == BASE["src/b.txt"]

    found = await gui.turn(act)
    in_order(gui)
    assert found.files == ("src/a.txt", "src/b.txt")
    assert len(found.undone) == 2
    assert "rebase" in found.said


async def test_a_half_way_rebase_with_edits_keeps_both_the_files_and_the_commits(
    room: Room, gui: Stream
) -> None:
    def act() -> None:
        commit(gui, {"src/a.txt": "1\n"})
        commit(gui, {"src/b.txt": "2\n"})
        gui.git("-c", "sequence.editor=sed -i 1s/pick/edit/", "rebase", "-q", "-i", "HEAD~2")
        gui.write({"src/a.txt": "edited\n"})

    found = await gui.turn(act)
    in_order(gui)
    assert found.files == ("src/a.txt",)
    (kept,) = found.kept_out
    assert "not in the files" in kept.why
    again = room.worktree("again")
    apply(room.main.root / str(kept.patch), again.root)
    assert (again.root / "src/b.txt").read_text() == "2\n"


async def test_a_conflicting_rebase_is_ended(room: Room, gui: Stream) -> None:
    def act() -> None:
        commit(gui, {"src/a.txt": "1\n"})
        gui.git("checkout", "-q", "-b", "side", room.base)
        commit(gui, {"src/a.txt": "2\n"})
        gui.git("checkout", "-q", "parallelai/gui")
        with pytest.raises(AssertionError):
            gui.git("rebase", "-q", "side")

    found = await gui.turn(act)
    in_order(gui)
    assert "refs/heads/side" not in room.refs()
    patches = [room.main.root / str(each.patch) for each in found.kept_out if each.patch]
    assert [b"+1" in patch.read_bytes() for patch in patches] == [True]
    assert (gui.root / "src/a.txt").read_text().startswith("<<<<<<<")


@pytest.mark.parametrize("how", ["merge", "cherry-pick", "revert", "bisect"])
async def test_what_was_begun_is_ended(room: Room, gui: Stream, how: str) -> None:
    def act() -> None:
        gui.git("checkout", "-q", "-b", "side")
        commit(gui, {"src/a.txt": "2\n"})
        side = commit(gui, {"src/a.txt": "3\n"})
        gui.git("checkout", "-q", "parallelai/gui")
        if how == "bisect":
            gui.git("bisect", "start", side, room.base)
            return
        commit(gui, {"src/a.txt": "1\n"})
        with pytest.raises(AssertionError):
            gui.git(how, *(["--no-edit"] if how == "revert" else []), side)

    found = await gui.turn(act)
    in_order(gui)
    assert gui.git("rev-parse", "HEAD").strip() == room.base
    assert found.files == (() if how == "bisect" else ("src/a.txt",))


async def test_a_detached_head_is_put_back_and_its_commits_count(gui: Stream) -> None:
    def act() -> None:
        gui.git("checkout", "-q", "--detach")
        commit(gui, {"src/a.txt": "1\n"})
        gui.write({"src/b.txt": "2\n"})

    found = await gui.turn(act)
    in_order(gui)
    assert found.files == ("src/a.txt", "src/b.txt")
    assert "no branch" in found.said


@pytest.mark.parametrize("to", ["parallelai/gui", "HEAD^"])
async def test_commits_that_are_left_on_no_branch_are_kept_as_a_patch(
    room: Room, gui: Stream, to: str
) -> None:
    def act() -> None:
        gui.git("checkout", "-q", "--detach")
        commit(gui, {"src/a.txt": "1\n"})
        commit(gui, {"src/b.txt": "2\n"})
        gui.git("checkout", "-q", to)

    found = await gui.turn(act)
    in_order(gui)
    (kept,) = found.kept_out
    assert "not in the files" in kept.why
    again = room.worktree("again")
    apply(room.main.root / str(kept.patch), again.root)
    assert (again.root / "src/a.txt").read_text() + (again.root / "src/b.txt").read_text() == "1\n2\n"
    assert (await gui.turn(lambda: None)).kept_out == ()  # it is told once


async def test_what_was_left_on_no_branch_and_picked_again_is_not_told(gui: Stream) -> None:
    def act() -> None:
        gui.git("checkout", "-q", "--detach")
        made = commit(gui, {"src/a.txt": "1\n"})
        gui.git("checkout", "-q", "parallelai/gui")
        commit(gui, {"src/b.txt": "2\n"})
        gui.git("cherry-pick", made)

    found = await gui.turn(act)
    assert (found.files, found.kept_out) == (("src/a.txt", "src/b.txt"), ())


async def test_a_branch_of_its_own_is_taken_back_and_its_work_counts(room: Room, gui: Stream) -> None:
    def act() -> None:
        gui.git("checkout", "-q", "-b", "feature")
        commit(gui, {"src/a.txt": "1\n"})

    found = await gui.turn(act)
    in_order(gui)
    assert found.files == ("src/a.txt",)
    assert "refs/heads/feature" not in room.refs()
    assert any("refs/heads/feature" in each for each in found.restored)


async def test_a_renamed_branch_is_there_again(room: Room, gui: Stream) -> None:
    def act() -> None:
        commit(gui, {"src/a.txt": "1\n"})
        gui.git("branch", "-m", "better-name")

    found = await gui.turn(act)
    in_order(gui)
    assert found.files == ("src/a.txt",)
    assert "refs/heads/better-name" not in room.refs()
    assert room.refs()["refs/heads/parallelai/gui"] == room.base


async def test_files_left_at_another_commit_come_back_to_the_branchs_work(room: Room, gui: Stream) -> None:
    old = room.main.git("rev-parse", "HEAD").strip()
    room.main.write({"src/a.txt": "newer\n"})
    room.base = room.main.commit()
    gui = room.worktree("late")

    def act() -> None:
        commit(gui, {"src/b.txt": "work\n"})
        gui.git("checkout", "-q", old)
        assert (gui.root / "src/b.txt").read_text() == BASE["src/b.txt"]

    found = await gui.turn(act)
    assert found.files == ("src/b.txt",)
    assert (gui.root / "src/a.txt").read_text() == "newer\n"
    assert gui.git("symbolic-ref", "HEAD").strip() == "refs/heads/parallelai/late"


async def test_what_was_stashed_is_kept_as_a_patch_and_the_stash_is_left(room: Room, gui: Stream) -> None:
    room.main.write({"src/a.txt": "the user's\n"})
    room.main.git("stash", "-q")

    def act() -> None:
        gui.write({"src/b.txt": "stashed\n"})
        gui.git("stash", "-q")

    found = await gui.turn(act)
    assert found.files == ()
    (kept,) = found.kept_out
    assert "stashed" in kept.why
    again = room.worktree("again")
    apply(room.main.root / str(kept.patch), again.root)
    assert (again.root / "src/b.txt").read_text() == "stashed\n"
    assert len(room.main.git("stash", "list").splitlines()) == 2


async def test_a_foreign_branch_that_it_moved_is_moved_back(room: Room, gui: Stream) -> None:
    room.main.git("branch", "theirs")
    await gui.guard.before()
    tip = commit(gui, {"src/a.txt": "1\n"})
    gui.git("branch", "-f", "theirs", tip)
    gui.git("update-ref", "refs/heads/main", tip)
    found = await gui.guard.check()
    refs = room.refs()
    assert (refs["refs/heads/theirs"], refs["refs/heads/main"]) == (room.base, room.base)
    assert len([each for each in found.restored if "refs/heads/" in each]) == 2
    assert room.main.git("status", "--porcelain") in ("", "?? .parallelai/\n")


async def test_what_the_user_does_meanwhile_is_left_alone(room: Room, gui: Stream) -> None:
    room.main.git("branch", "theirs")
    await gui.guard.before()
    tip = commit(gui, {"src/a.txt": "1\n"})
    # In the main checkout: a commit, a new branch, a merge of what the assistant committed.
    room.main.git("branch", "rescue", tip)
    room.main.git("checkout", "-q", "-b", "mine")
    mine = room.main.commit({"elsewhere.txt": "1\n"})
    room.main.git("checkout", "-q", "main")
    room.main.git("merge", "-q", "--ff-only", "parallelai/gui")
    room.main.git("branch", "-f", "theirs", mine)
    room.main.git("tag", "v1")
    found = await gui.guard.check()
    refs = room.refs()
    expected = {"main": tip, "rescue": tip, "mine": mine, "theirs": mine}
    assert {name: refs[f"refs/heads/{name}"] for name in expected} == expected
    assert "refs/tags/v1" in refs
    assert found.restored == ()
    assert found.files == ("src/a.txt",)


async def test_a_branch_that_was_only_made_is_left_and_named(room: Room, gui: Stream) -> None:
    await gui.guard.before()
    tip = commit(gui, {"src/a.txt": "1\n"})
    room.main.git("branch", "rescue", tip)  # a person's, as likely as not
    found = await gui.guard.check()
    assert room.refs()["refs/heads/rescue"] == tip
    assert found.restored == ()
    assert any("refs/heads/rescue" in each for each in found.seen)


async def test_a_deleted_branch_that_somebody_is_on_comes_back(room: Room, gui: Stream) -> None:
    other = room.worktree("other")
    tip = other.checkout.commit({"other/x.txt": "theirs\n"})
    found = await gui.turn(lambda: gui.git("update-ref", "-d", "refs/heads/parallelai/other"))
    assert room.refs()["refs/heads/parallelai/other"] == tip
    assert any("parallelai/other" in each for each in found.restored)


async def test_a_branch_made_another_name_of_main_does_not_move_main(room: Room, gui: Stream) -> None:
    def act() -> None:
        gui.git("symbolic-ref", "refs/heads/parallelai/gui", "refs/heads/main")
        commit(gui, {"src/a.txt": "1\n"})

    found = await gui.turn(act)
    in_order(gui)
    assert room.refs()["refs/heads/main"] == room.base
    assert found.files == ("src/a.txt",)
    made = await gui.guard.commit("x")
    assert room.refs()["refs/heads/parallelai/gui"] == made
    assert room.refs()["refs/heads/main"] == room.base


def _config(room: Room, gui: Stream) -> None:
    gui.git("config", "core.fsmonitor", "/bin/evil")


def _alias_by_hand(room: Room, gui: Stream) -> None:
    with (room.main.root / ".git/config").open("a") as file:
        file.write('[filter "evil"]\n\tclean = touch evil\n[core]\n\tattributesFile = x\n')


def _hook(room: Room, gui: Stream) -> None:
    hook = room.main.root / ".git/hooks/post-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nevil\n")
    hook.chmod(0o755)


def _hook_changed(room: Room, gui: Stream) -> None:
    (room.main.root / ".git/hooks/pre-push").write_text("#!/bin/sh\nevil\n")


def _hook_deleted(room: Room, gui: Stream) -> None:
    (room.main.root / ".git/hooks/pre-push").unlink()


def _hooks_linked(room: Room, gui: Stream) -> None:
    shutil.rmtree(room.main.root / ".git/hooks")
    (room.main.root / ".git/hooks").symlink_to(gui.root)


def _exclude(room: Room, gui: Stream) -> None:
    (room.main.root / ".git/info").mkdir(exist_ok=True)
    (room.main.root / ".git/info/exclude").write_text("*\n")


def _alternates(room: Room, gui: Stream) -> None:
    (room.main.root / ".git/objects/info/alternates").write_text("/elsewhere\n")


def _commondir(room: Room, gui: Stream) -> None:
    (room.main.root / ".git/worktrees/gui/commondir").write_text("/elsewhere\n")


def _gitdir(room: Room, gui: Stream) -> None:
    (room.main.root / ".git/worktrees/gui/gitdir").write_text("/elsewhere/.git\n")


def _worktree_config(room: Room, gui: Stream) -> None:
    (room.main.root / ".git/worktrees/gui/config.worktree").write_text("[core]\n\tfsmonitor = evil\n")


def _config_that_is_none(room: Room, gui: Stream) -> None:
    (room.main.root / ".git/config").write_text("[[[ no config")


GIT_WRITES = [
    _config_that_is_none,
    _config,
    _alias_by_hand,
    _hook,
    _hook_changed,
    _hook_deleted,
    _hooks_linked,
    _exclude,
    _alternates,
]
GIT_WRITES += [_commondir, _gitdir, _worktree_config]


def of_git(root: Path) -> dict[str, tuple[int, bytes]]:
    found = {}
    for name in ("config", "hooks", "info", "objects/info", "worktrees/gui"):
        top = root / ".git" / name
        for path in [top, *sorted(top.rglob("*"))]:
            is_state = name == "worktrees/gui" and path.name not in ("commondir", "gitdir", "config.worktree")
            if path.is_file() and not is_state and path.suffix != ".sample":
                found[str(path.relative_to(root))] = (path.stat().st_mode, path.read_bytes())
    return found


@pytest.mark.parametrize("act", GIT_WRITES, ids=lambda act: act.__name__.strip("_"))
async def test_configuration_and_hooks_are_put_back_and_reported(
    room: Room, gui: Stream, act: Callable[[Room, Stream], None]
) -> None:
    hook = room.main.root / ".git/hooks/pre-push"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 0\n")
    hook.chmod(0o755)
    before = of_git(room.main.root)

    def both() -> None:
        gui.write({"src/a.txt": "good\n"})
        act(room, gui)

    found = await gui.turn(both)
    assert of_git(room.main.root) == before
    assert found.restored
    assert all(each.startswith(".git/") for each in found.restored)
    assert found.files == ("src/a.txt",)
    assert not (room.main.root / ".git/hooks").is_symlink()
    made = await gui.guard.commit("x")
    assert room.refs()["refs/heads/parallelai/gui"] == made
    assert not list(room.main.root.rglob("evil"))


async def test_what_was_put_back_is_kept_aside(room: Room, gui: Stream) -> None:
    await gui.turn(lambda: _hook(room, gui))
    (kept,) = (room.main.root / ".parallelai").rglob("post-commit")
    assert "evil" in kept.read_text()


async def test_everyday_configuration_is_left_alone(room: Room, gui: Stream) -> None:
    found = await gui.turn(lambda: room.main.git("config", "branch.main.description", "the main one"))
    assert found.restored == ()
    assert room.main.git("config", "branch.main.description").strip() == "the main one"


async def test_what_a_confined_assistant_could_not_write_is_left_alone(room: Room) -> None:
    gui = room.worktree(is_confined=True)
    found = await gui.turn(lambda: room.main.git("config", "remote.new.url", "x"))
    assert found.restored == ()
    assert any("config" in each for each in found.seen)
    assert room.main.git("config", "remote.new.url").strip() == "x"


@pytest.mark.parametrize("how", ["gone", "nonsense", "a link", "a folder"])
async def test_a_head_that_is_none_is_written_anew(room: Room, gui: Stream, how: str) -> None:
    head = room.main.root / ".git/worktrees/gui/HEAD"

    def act() -> None:
        gui.write({"src/a.txt": "1\n"})
        head.unlink()
        if how == "nonsense":
            head.write_text("nonsense\n")
        elif how == "a link":
            head.symlink_to(room.main.root / ".git/HEAD")
        elif how == "a folder":
            (head / "x").mkdir(parents=True)

    found = await gui.turn(act)
    assert found.files == ("src/a.txt",)
    in_order(gui)
    assert (room.main.root / ".git/HEAD").read_text() == "ref: refs/heads/main\n"


@pytest.mark.parametrize("how", ["gone", "nonsense", "below"])
async def test_a_branch_that_is_none_is_there_again(room: Room, gui: Stream, how: str) -> None:
    ref = room.main.root / ".git/refs/heads/parallelai/gui"

    def act() -> None:
        gui.write({"src/a.txt": "1\n"})
        if how == "gone":
            ref.unlink()
        elif how == "nonsense":
            ref.write_text("nonsense\n")
        else:
            gui.git("checkout", "-q", "--detach")
            gui.git("branch", "-D", "parallelai/gui")
            gui.git("checkout", "-q", "-b", "parallelai/gui/part")
            commit(gui, {"src/b.txt": "2\n"})

    found = await gui.turn(act)
    assert found.files == ("src/a.txt", "src/b.txt")[: 2 if how == "below" else 1]
    in_order(gui)
    assert room.refs()["refs/heads/parallelai/gui"] == room.base


async def test_a_git_file_that_leads_elsewhere_leads_back(room: Room, gui: Stream) -> None:
    evil = room.folder / "evil"
    evil.mkdir()

    def act() -> None:
        gui.write({"src/a.txt": "1\n"})
        (gui.root / ".git").write_text(f"gitdir: {evil}\n")

    found = await gui.turn(act)
    assert found.files == ("src/a.txt",)
    in_order(gui)


async def test_a_repository_in_place_of_the_git_file_is_kept(room: Room, gui: Stream) -> None:
    def act() -> None:
        (gui.root / ".git").unlink()
        gui.git("init", "-q")
        gui.git("add", "-A")
        gui.git("commit", "-qm", "all mine")
        gui.write({"src/a.txt": "1\n"})

    found = await gui.turn(act)
    assert found.files == ("src/a.txt",)
    in_order(gui)
    assert list((room.main.root / ".parallelai").rglob("git/HEAD"))


async def test_locks_that_its_processes_left_are_no_obstacle(room: Room, gui: Stream) -> None:
    def act() -> None:
        gui.write({"src/a.txt": "1\n"})
        folder = Path(gui.git("rev-parse", "--absolute-git-dir").strip())
        for lock in (folder / "index.lock", folder / "HEAD.lock"):
            lock.write_bytes(b"")
        (room.main.root / ".git/refs/heads/parallelai/gui.lock").write_bytes(b"")

    assert (await gui.turn(act)).files == ("src/a.txt",)
    await gui.guard.commit("x")
    assert gui.git("status", "--porcelain") == ""


async def test_an_index_that_leads_to_a_pipe_is_not_waited_for(room: Room, gui: Stream) -> None:
    await gui.guard.before()
    os.mkfifo(gui.root / "src" / "pipe")
    index = room.repository.common / "worktrees" / "gui" / "index"
    for name in (index, index.with_name("config.worktree")):
        name.unlink(missing_ok=True)
        name.symlink_to(gui.root / "src" / "pipe")
    gui.write({"src/a.txt": "b\n"})
    assert (await gui.again().check()).files == ("src/a.txt",)
    assert not index.is_symlink()


async def test_a_worktree_that_is_gone_is_said(room: Room, gui: Stream) -> None:
    await gui.guard.before()
    room.main.git("worktree", "remove", "--force", str(gui.root))
    with pytest.raises(Internal, match="taken away meanwhile"):
        await gui.guard.check()
    with pytest.raises(Internal, match="no worktree"):
        await gui.again().check()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells where an open folder is now")
async def test_of_a_worktree_that_was_moved_it_is_said_where_it_is(room: Room, gui: Stream) -> None:
    await gui.guard.before()
    moved = room.folder / "moved"
    room.main.git("worktree", "move", str(gui.root), str(moved))
    with pytest.raises(Internal, match=f"was moved meanwhile: `{gui.root}` is now `{moved}`") as error:
        await gui.guard.check()
    assert error.value.next == f"`mv {moved} {gui.root}` brings back what it did; then go on with the run"


async def test_another_folder_in_the_place_of_the_worktree_is_put_aside_and_not_judged(
    room: Room, gui: Stream
) -> None:
    await gui.guard.before()
    head = room.refs()["refs/heads/parallelai/gui"]
    shutil.rmtree(gui.root)
    gui.write({"src/new.txt": "new\n"})
    with pytest.raises(Internal, match="taken away meanwhile"):
        await gui.guard.check()
    assert not gui.root.exists()
    (aside,) = gui.settings.patches.glob("gui-replaced-*")
    assert (aside / "src/new.txt").read_text() == "new\n"
    assert room.refs()["refs/heads/parallelai/gui"] == head


async def test_a_worktree_replaced_by_a_link_is_a_trespass(room: Room, gui: Stream) -> None:
    await gui.guard.before()
    gui.root.rename(room.folder / "moved")
    gui.root.symlink_to(room.folder)
    with pytest.raises(Trespass, match="link"):
        await gui.guard.check()
    assert not (room.folder / ".git").exists()


async def test_a_branch_that_somebody_moves_before_the_commit_is_not_overwritten(
    room: Room, gui: Stream
) -> None:
    await gui.turn(lambda: gui.write({"src/a.txt": "1\n"}))
    theirs = commit(gui, {"src/b.txt": "theirs\n"})
    with pytest.raises(Internal, match="moved") as caught:
        await gui.guard.commit("x")
    assert caught.value.retry_helps
    assert room.refs()["refs/heads/parallelai/gui"] == theirs
    found = await gui.guard.check()
    assert found.files == ("src/a.txt", "src/b.txt")


async def test_a_commit_that_nobody_wrote_down_is_gone_on_from(room: Room, gui: Stream) -> None:
    await gui.turn(lambda: gui.write({"src/a.txt": "1\n"}))
    made = await gui.guard.commit("x")
    gui.guard.head = room.base  # the registry was not written: the process was killed
    found = await gui.again().check()
    assert (found.head, found.undone, found.files) == (made, (), ())


async def test_a_turn_that_was_never_judged_is_judged_by_what_was_before_it(room: Room, gui: Stream) -> None:
    await gui.guard.before()
    _hook(room, gui)
    gui.git("update-ref", "refs/heads/main", commit(gui, {"src/a.txt": "1\n"}))
    await gui.again().before()  # the process was killed, and the next one begins a turn
    found = await gui.guard.check()
    assert room.refs()["refs/heads/main"] == room.base
    assert not (room.main.root / ".git/hooks/post-commit").exists()
    assert len(found.restored) == 2


async def test_signing_that_fails_is_said_and_nothing_moves(room: Room, gui: Stream) -> None:
    from parallelai.errors import Unavailable

    room.main.git("config", "commit.gpgsign", "true")
    room.main.git("config", "gpg.program", "/bin/false")
    await gui.turn(lambda: gui.write({"src/a.txt": "1\n"}))
    with pytest.raises(Unavailable, match="commit"):
        await gui.guard.commit("x")
    assert room.refs()["refs/heads/parallelai/gui"] == room.base


async def test_without_an_identity_it_says_what_to_set(room: Room, gui: Stream) -> None:
    from parallelai.errors import Unavailable

    room.main.git("config", "--unset", "user.name")
    room.main.git("config", "--unset", "user.email")
    room.main.git("config", "user.useConfigOnly", "true")
    await gui.turn(lambda: gui.write({"src/a.txt": "1\n"}))
    with pytest.raises(Unavailable) as caught:
        await gui.guard.commit("x")
    assert "user.name" in str(caught.value.next)


# -- what git runs as hooks, beside every sandbox


@pytest.mark.parametrize("how", ["a linked folder", "a linked hook", "of all repositories"])
async def test_what_git_runs_as_hooks_is_protected_wherever_it_lies(
    room: Room, gui: Stream, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    script = room.main.root / "src" / "hooks" / "commit-msg"
    script.parent.mkdir(parents=True)
    script.write_text("exit 0\n")
    if how == "a linked folder":
        (room.main.root / "hooks").symlink_to("src/hooks")
        room.main.git("config", "core.hooksPath", "hooks")
    elif how == "a linked hook":
        (room.main.root / ".git" / "hooks").mkdir(exist_ok=True)
        (room.main.root / ".git" / "hooks" / "commit-msg").symlink_to(script)
    else:
        mine = room.folder / "gitconfig"
        mine.write_text("[core]\n\thooksPath = src/hooks\n")
        monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(mine))
    found = await gui.turn(lambda: gui.write({"src/a.txt": "1\n", "src/hooks/commit-msg": "evil\n"}))
    assert found.files == ("src/a.txt",)
    assert [each.paths for each in found.kept_out] == [("src/hooks/commit-msg",)]
    assert found.kept_out[0].why.startswith("protected")


# -- a repository looked at without a worktree


async def test_a_watch_sees_refs_configuration_and_hooks(room: Room) -> None:
    git_dir = room.main.root / ".git"
    watch = await watch_of(git_dir)
    assert not await files_changed_since(watch)
    assert not await refs_moved_since(watch)
    room.main.git("config", "alias.x", "!evil")
    room.main.git("tag", "v1")
    room.main.git("update-ref", "refs/remotes/origin/main", "HEAD")
    (git_dir / "hooks").mkdir(exist_ok=True)
    (git_dir / "hooks/pre-commit").write_text("x")
    found = await files_changed_since(watch)
    assert [os.path.relpath(path, git_dir) for path in found] == ["config", "hooks/pre-commit"]
    moves = await refs_moved_since(watch)
    assert [(move.ref, move.before, move.after) for move in moves] == [("refs/tags/v1", None, room.base)]


async def test_hooks_elsewhere_are_watched_as_well(room: Room) -> None:
    hooks = room.folder / "hooks"
    hooks.mkdir()
    room.main.git("config", "core.hooksPath", str(hooks))
    watch = await watch_of(room.main.root / ".git")
    (hooks / "pre-commit").write_text("x")
    assert await files_changed_since(watch) == (str(hooks / "pre-commit"),)
