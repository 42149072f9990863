"""Submodules under guard: they need their path, and a commit that others can get."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from guard_support import BASE, Room, Stream
from repositories import Repository

from parallelai.git.submodules import lay_out, submodules
from parallelai.work.guard.hooks import check
from parallelai.work.guard.inside import refresh
from parallelai.work.streams.record import Rules
from parallelai.work.streams.record import Stream as Record

FILE = ("-c", "protocol.file.allow=always")


@pytest.fixture
def library(tmp_path: Path) -> Repository:
    made = Repository.start(tmp_path / "library")
    made.commit({"lib.txt": "1\n"})
    return made


@pytest.fixture
def room(tmp_path: Path, library: Repository) -> Room:
    made = Room(tmp_path / "room")
    made.main.git(*FILE, "submodule", "--quiet", "add", str(library.root), "src/lib")
    made.base = made.main.commit()
    return made


def fetched(room: Room) -> None:
    """The user fetches in their own checkout of the submodule."""
    Repository(room.main.root / "src/lib").git(*FILE, "fetch", "-q", "origin")


@pytest.fixture
def gui(room: Room) -> Stream:
    made = room.worktree()
    made.git(*FILE, "submodule", "--quiet", "update", "--init")
    return made


async def test_a_submodule_that_nobody_touched_is_no_change(gui: Stream) -> None:
    found = await gui.turn(lambda: gui.write({"src/a.txt": "1\n"}))
    assert found.files == ("src/a.txt",)
    made = await gui.guard.commit("x")
    assert gui.files(made)["src/lib"] == "160000"
    assert (gui.root / "src/lib/lib.txt").exists()


async def test_one_that_is_not_checked_out_is_no_change_either(room: Room) -> None:
    gui = room.worktree("bare")
    found = await gui.turn(lambda: gui.write({"src/a.txt": "1\n"}))
    assert (found.files, found.kept_out) == (("src/a.txt",), ())


async def test_a_commit_that_no_remote_has_is_kept_out_and_told_once(room: Room, gui: Stream) -> None:
    inside = Repository(gui.root / "src/lib")
    found = await gui.turn(lambda: inside.commit({"lib.txt": "mine\n"}))
    assert found.files == ()
    assert [each.paths for each in found.kept_out] == [("src/lib",)]
    assert "remotes" in found.kept_out[0].why
    assert (gui.root / "src/lib/lib.txt").read_text() == "mine\n"
    later = await gui.turn(lambda: gui.write({"src/a.txt": "1\n"}))
    assert (later.files, later.kept_out) == (("src/a.txt",), ())
    assert gui.files(await gui.guard.commit("x"))["src/lib"] == "160000"
    assert gui.git("rev-parse", "HEAD:src/lib") == room.main.git("rev-parse", "HEAD:src/lib")
    inside.git("update-ref", "refs/remotes/origin/mine", "HEAD")  # as if it were pushed
    assert (await gui.turn()).files == ()
    inside.git(*FILE, "push", "-q", "origin", "HEAD:refs/heads/mine")
    assert (await gui.turn()).files == ()
    fetched(room)
    assert (await gui.turn()).files == ("src/lib",)


async def test_a_commit_of_the_remote_is_a_change_of_what_is_owned(
    room: Room, gui: Stream, library: Repository
) -> None:
    newer = library.commit({"lib.txt": "2\n"})
    fetched(room)
    inside = Repository(gui.root / "src/lib")

    def act() -> None:
        inside.git(*FILE, "fetch", "-q", "origin")
        inside.git("checkout", "-q", newer)

    found = await gui.turn(act)
    assert found.files == ("src/lib",)
    made = await gui.guard.commit("x")
    assert gui.git("rev-parse", f"{made}:src/lib").strip() == newer
    other = room.worktree("other", rules=Rules(owns=("other/**",)))
    other.git(*FILE, "submodule", "--quiet", "update", "--init")
    kept = await other.turn(lambda: Repository(other.root / "src/lib").git("checkout", "-q", newer))
    assert [each.why for each in kept.kept_out] == ["not among the files that it owns"]


async def test_edits_inside_are_kept_as_a_patch_told_and_taken_back(gui: Stream) -> None:
    def act() -> None:
        gui.write({"src/lib/lib.txt": "edited\n", "src/lib/new.txt": "new\n", "src/a.txt": "a\n"})

    found = await gui.turn(act)
    assert found.files == ("src/a.txt",)
    (kept,) = found.kept_out
    assert kept.paths == ("src/lib/lib.txt", "src/lib/new.txt")
    assert "another repository" in kept.why
    assert "`src/lib/lib.txt`" in found.said
    assert kept.patch is not None
    patch = (gui.guard.settings.repository.root / kept.patch).read_text()
    assert "+++ b/src/lib/lib.txt" in patch
    assert "+edited" in patch
    assert "+new" in patch
    assert (gui.root / "src/lib/lib.txt").read_text() == "1\n"
    assert not (gui.root / "src/lib/new.txt").exists()
    assert (await gui.turn()).kept_out == ()


async def test_what_it_ignores_and_repositories_inside_are_kept_and_told(
    library: Repository, tmp_path: Path
) -> None:
    library.commit({"made/f.txt": "tracked, and ignored\n"})
    library.commit({".gitignore": "made\n"})
    room = Room(tmp_path / "other")
    room.main.git(*FILE, "submodule", "--quiet", "add", str(library.root), "lib")
    room.base = room.main.commit()
    gui = room.worktree()
    for module in await submodules(gui.guard.settings.repository, room.base):
        await lay_out(module, gui.root)
    made = gui.root / "lib/made"

    def act() -> None:
        gui.write({"lib/made/f.txt": "edited\n"})

    (kept,) = (await gui.turn(act)).kept_out
    assert kept.paths == ("lib/made/f.txt",)
    assert (made / "f.txt").read_text() == "tracked, and ignored\n"

    def act_again() -> None:
        (made / "f.txt").unlink()
        made.rmdir()
        made.symlink_to(tmp_path)
        Repository.start(gui.root / "lib/inner").commit({"only.txt": "here\n"})

    found = await gui.turn(act_again)
    assert {each.paths for each in found.kept_out} == {("lib/made/f.txt",), ("lib/made",), ("lib/inner",)}
    assert (made / "f.txt").read_text() == "tracked, and ignored\n"
    assert not (gui.root / "lib/inner").exists()
    aside = room.main.root / ".parallelai/state/patches/gui-0002.files/lib"
    assert (aside / "inner/only.txt").read_text() == "here\n"
    assert (aside / "inner/.git").is_dir()
    assert (aside / "made").is_symlink()
    assert (await gui.turn()).kept_out == ()


async def test_a_turn_that_an_older_version_began_loses_nothing(gui: Stream) -> None:
    mine = Repository.start(gui.root / "src/lib/mine")
    mine.commit({"f.txt": "mine\n"})
    await gui.guard.before()
    (noted,) = (gui.guard.settings.folder / "inside").glob("*/apart")
    noted.unlink()  # it did not write this
    gui.write({"src/lib/new.txt": "new\n"})
    (gui.root / "src/lib/lib.txt").unlink()
    other = Repository.start(gui.root / "src/lib/lib.txt")  # in the place of a file
    other.commit({"g.txt": "other\n"})
    kept = {path: each for each in (await gui.guard.check()).kept_out for path in each.paths}
    assert {"src/lib/lib.txt", "src/lib/new.txt"} <= kept.keys()
    assert (gui.root / "src/lib/lib.txt").read_text() == "1\n"
    assert (mine.root / "f.txt").read_text() == "mine\n"
    aside = list(gui.guard.settings.patches.rglob("g.txt"))
    assert [file.read_text() for file in aside] == ["other\n"]


async def test_a_turn_that_was_cut_off_as_it_began_is_none(
    gui: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def cut_off(settings: object, head: str) -> None:
        raise OSError("killed")

    await gui.turn()
    with monkeypatch.context() as patched:
        patched.setattr("parallelai.work.guard.inside.remember", cut_off)
        with pytest.raises(OSError, match="killed"):
            await gui.guard.before()
    gui.write({"src/lib/lib.txt": "of a person\n"})
    assert (await gui.turn()).kept_out == ()
    assert (gui.root / "src/lib/lib.txt").read_text() == "of a person\n"


async def test_a_removed_submodule_is_judged_like_a_file(room: Room, gui: Stream) -> None:
    other = room.worktree("other", rules=Rules(owns=("other/**",)))
    other.git(*FILE, "submodule", "--quiet", "update", "--init")

    def act() -> None:
        other.git("rm", "-q", "-f", "src/lib")

    found = await other.turn(act)
    assert {path for each in found.kept_out for path in each.paths} == {"src/lib", ".gitmodules"}
    made = await other.guard.commit("x")
    assert set(other.files(made)) == {*BASE, "src/lib", ".gitmodules"}
    assert (await other.turn()).kept_out == ()


async def test_a_new_submodule_takes_a_persons_leave(room: Room, library: Repository) -> None:
    gui = room.worktree("new")

    def act() -> None:
        gui.git(*FILE, "submodule", "--quiet", "add", str(library.root), "src/more")

    found = await gui.turn(act)
    assert {path for each in found.kept_out for path in each.paths} == {"src/more", ".gitmodules"}
    assert found.files == ()
    allowed = room.worktree("allowed")
    await allowed.guard.before()
    allowed.git(*FILE, "submodule", "--quiet", "add", str(library.root), "src/more")
    found = await allowed.guard.check((".gitmodules",))
    assert found.files == (".gitmodules", "src/more")
    made = await allowed.guard.commit("x")
    assert allowed.files(made)["src/more"] == "160000"


@pytest.mark.parametrize("how", ["packed", "tag", "shallow", "pipe"])
async def test_what_the_user_has_of_the_remote_counts_however_it_is_kept(
    room: Room, gui: Stream, library: Repository, how: str
) -> None:
    newer = library.commit({"lib.txt": "2\n"})
    users = Repository(room.main.root / "src/lib")
    refs = room.main.root / ".git/modules/src/lib/refs/remotes/origin"
    if how == "tag":
        library.git("tag", "-a", "-m", "v2", "v2")
        users.git(*FILE, "fetch", "-q", library.root.as_uri(), "refs/tags/v2:refs/tags/v2")
    elif how == "shallow":
        newer = library.commit({"lib.txt": "3\n"})
        users.git(*FILE, "fetch", "-q", "--depth=2", library.root.as_uri(), "main:refs/remotes/origin/new")
    else:
        fetched(room)
    if how == "packed":
        users.git("pack-refs", "--all")
        assert not (refs / "main").exists()
    if how == "pipe":
        os.mkfifo(refs / "waits")
    inside = Repository(gui.root / "src/lib")

    def act() -> None:
        inside.git(*FILE, "fetch", "-q", "origin")
        inside.git("checkout", "-q", newer)

    assert (await gui.turn(act)).files == ("src/lib",)


async def test_where_the_user_has_none_of_it_nothing_says_that_others_have_it(
    room: Room, gui: Stream, library: Repository
) -> None:
    newer = library.commit({"lib.txt": "2\n"})
    inside = Repository(gui.root / "src/lib")
    (room.main.root / ".git/modules/src/lib").rename(room.folder / "away")

    def act() -> None:
        inside.git(*FILE, "fetch", "-q", "origin")
        inside.git("checkout", "-q", newer)

    found = await gui.turn(act)
    assert (found.files, [each.paths for each in found.kept_out]) == ((), [("src/lib",)])


async def test_what_went_to_another_commit_is_laid_out_anew(
    room: Room, gui: Stream, library: Repository, tmp_path: Path
) -> None:
    repository = gui.guard.settings.repository
    before = room.base
    (library.root / "lib.txt").rename(library.root / "other.txt")
    newer = library.commit()
    fetched(room)
    Repository(room.main.root / "src/lib").git("checkout", "-q", newer)
    now = room.main.commit()
    worktree = tmp_path / "plain"
    for module in await submodules(repository, before):
        (worktree / module.path).mkdir(parents=True)
        await lay_out(module, worktree)
    assert await refresh(repository, worktree, before, now) == ("src/lib/other.txt",)
    assert sorted(path.name for path in (worktree / "src/lib").iterdir()) == ["other.txt"]
    assert await refresh(repository, gui.root, before, now) == (), "what was checked out by hand stays"
    assert (gui.root / "src/lib/lib.txt").exists()


async def test_hooks_refuse_a_commit_that_no_remote_has_as_done_does(room: Room, gui: Stream) -> None:
    inside = Repository(gui.root / "src/lib")
    inside.commit({"lib.txt": "mine\n"})
    gui.git("add", "src/lib")
    settings = gui.settings
    stream = Record(
        name=settings.name,
        plan="plan.yaml",
        run="r-1",
        branch=settings.branch,
        worktree=str(gui.root),
        base=room.base,
        head=room.base,
        target="main",
        rules=settings.rules,
    )

    refused = (await check(room.repository, [stream], gui.root)).refused
    assert "- `src/lib`: a submodule's commit that none of its remotes has" in refused
    gui.git("commit", "-qm", "mine")
    pushed = f"refs/heads/{stream.branch} {gui.git('rev-parse', 'HEAD').strip()} refs/heads/x {'0' * 40}\n"
    assert "`src/lib`" in (await check(room.repository, [stream], gui.root, pushed=pushed)).refused

    inside.git(*FILE, "push", "-q", "origin", "HEAD:refs/heads/mine")
    fetched(room)
    assert (await check(room.repository, [stream], gui.root, pushed=pushed)).refused == ""
