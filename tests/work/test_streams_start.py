"""Worktrees in real repositories: made, found again, put right, and never at the user's cost."""

from __future__ import annotations

import asyncio
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from repositories import Repository, lying
from streams_support import Project, project

from parallelai.errors import CheckFailed, EngineError, ParallelAIError, Unavailable, UsageError
from parallelai.git.repository import open_repository
from parallelai.work.streams.base import choose_base
from parallelai.work.streams.now import current, measure
from parallelai.work.streams.registry import Held, Streams
from parallelai.work.streams.worktrees import repair


@pytest.fixture
async def shop(tmp_path: Path) -> Project:
    return await project(tmp_path)


def files_of(commit: str, repository: Repository) -> list[str]:
    return repository.git("ls-tree", "-r", "--name-only", commit).split()


# -- made


async def test_a_start_leaves_a_dirty_checkout_as_it_was(shop: Project) -> None:
    shop.user.write({"src/a.py": "dirty\n", "staged.py": "s\n", "new.py": "n\n"})
    shop.user.git("add", "staged.py")
    before = shop.checkout()
    started = await shop.start("gui")
    assert shop.checkout() == before
    assert started.is_new
    assert not started.repaired
    stream = started.stream
    assert Path(stream.worktree) == shop.user.root.parent / "shop-worktrees" / "gui"
    assert (stream.branch, stream.target) == ("parallelai/gui", "main")
    there = shop.in_tree(stream)
    assert there.git("status", "--porcelain") == ""
    assert (there.root / "src" / "a.py").read_text() == "a = 1\n"
    assert there.git("symbolic-ref", "--short", "HEAD").strip() == "parallelai/gui"
    assert shop.user.git("config", "--get-regexp", "^core.bare") == "core.bare false\n"


async def test_a_second_start_changes_nothing(shop: Project) -> None:
    one = await shop.start("gui")
    shop.in_tree(one.stream).write({"src/a.py": "mine\n"})
    before = lying(Path(one.stream.worktree))
    shop.user.commit({"src/c.py": "the target moves on\n"})
    two = await shop.start("gui")
    assert not two.is_new
    assert not two.repaired
    assert two.stream == one.stream
    assert lying(Path(one.stream.worktree)) == before


async def test_what_git_says_of_a_worktree_is_not_believed_as_long_as_it_is_there(shop: Project) -> None:
    stream = (await shop.start("gui")).stream
    admin = shop.repository.common / "worktrees" / "gui"
    (admin / "gitdir").write_text("/elsewhere/.git\n")
    assert {stream.worktree, str(admin)} <= shop.streams.worktrees()
    shop.user.git("worktree", "prune", "--expire=now")
    shutil.rmtree(stream.worktree)
    assert str(admin) not in shop.streams.worktrees()  # the user's next worktree may have this name


async def test_many_at_once(shop: Project) -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(shop.start(f"s{number}")) for number in range(6)]
    assert all(task.result().is_new for task in tasks)
    listed = shop.user.git("worktree", "list", "--porcelain")
    assert listed.count("worktree ") == 7


async def test_from_a_linked_worktree_with_spaces_and_other_letters(tmp_path: Path) -> None:
    user = Repository.start(tmp_path / "my schöner laden")
    user.commit({"src/ä b.py": "x\n"})
    user.git("worktree", "add", "-q", "-b", "side", str(tmp_path / "sei te"))
    repository = await open_repository(tmp_path / "sei te")
    shop = Project(user, repository, Streams(tmp_path / "stäte"))
    started = await shop.start("gui")
    assert Path(started.stream.worktree) == tmp_path / "my schöner laden-worktrees" / "gui"
    assert started.stream.target == "main"
    shop.in_tree(started.stream).write({"src/n é.py": "new\n"})
    commit = await current(repository, started.stream)
    assert user.git("-c", "core.quotePath=false", "diff", "--name-only", "main", commit) == "src/n é.py\n"


async def test_in_a_bare_repository(tmp_path: Path) -> None:
    user = Repository.start(tmp_path / "shop")
    user.commit({"a": "1\n"})
    user.git("clone", "-q", "--bare", ".", str(tmp_path / "bare.git"))
    repository = await open_repository(tmp_path / "bare.git")
    shop = Project(Repository(tmp_path / "bare.git"), repository, Streams(tmp_path / "state"))
    started = await shop.start("gui", copy=(".env",))
    assert Path(started.stream.worktree) == tmp_path / "bare-worktrees" / "gui"
    assert any("bare" in note for note in started.notes)
    assert lying(Path(started.stream.worktree)).keys() >= {"a"}


@pytest.mark.parametrize("patterns", [("src/ui/**",), ("src/u*/*.py", "!src/ui/big.py")])
async def test_a_sparse_plan(tmp_path: Path, patterns: tuple[str, ...]) -> None:
    shop = await project(tmp_path, {"src/ui/a.py": "a\n", "src/db/b.py": "b\n", "src/ui/big.py": "big\n"})
    shop.user.write({"src/db/b.py": "dirty\n"})
    before = shop.checkout()
    started = await shop.start("gui", sparse=patterns)
    after = shop.checkout()
    assert started.stream.is_sparse
    assert any("extensions.worktreeConfig" in note for note in started.notes)
    there = Path(started.stream.worktree)
    assert (there / "src/ui/a.py").exists()
    assert not (there / "src/db").exists()
    assert (there / "src/ui/big.py").exists() == (len(patterns) == 1)
    assert {path for path in after if after[path] != before.get(path)} == {".git/config"}
    assert await current(shop.repository, started.stream) == started.stream.base
    shop.in_tree(started.stream).write({"src/db/b.py": "outside of the patterns\n", "src/ui/n.py": "n\n"})
    now = await measure(shop.repository, started.stream)
    assert now.changed == ("src/db/b.py", "src/ui/n.py")
    assert files_of(now.commit, shop.user) == ["src/db/b.py", "src/ui/a.py", "src/ui/big.py", "src/ui/n.py"]
    again = await shop.start("more", sparse=patterns)
    assert not any("extensions" in note for note in again.notes)


async def test_a_sparse_checkout_makes_a_sparse_worktree_and_that_is_said(shop: Project) -> None:
    shop.user.commit({"big/b.bin": "big\n"})
    shop.user.git("sparse-checkout", "set", "src")
    started = await shop.start("gui")
    assert not Path(started.stream.worktree, "big").exists()
    assert "your checkout is sparse, and so is the worktree" in " ".join(started.notes)
    named = await shop.start("more", sparse=("big/**",))
    assert Path(named.stream.worktree, "big/b.bin").exists()
    assert "your checkout" not in " ".join(named.notes)


# -- what comes along


async def test_what_is_brought_is_never_in_a_commit(shop: Project) -> None:
    shop.user.write({".env": "KEY=1\n", "node_modules/m/index.js": "m\n", "conf/local.ini": "l\n"})
    shop.user.commit({"conf/base.ini": "b\n", ".gitignore": ".env\n", ".worktreeinclude": "*.secret\n"})
    shop.user.git("rm", "-q", "-r", "--cached", "node_modules", "conf/local.ini")
    shop.user.git("commit", "-q", "-m", "out")
    shop.user.write({"own.secret": "s\n"})
    ran: list[tuple[str, ...]] = []

    async def set_up(folder: Path, argv: tuple[str, ...]) -> EngineError | None:
        ran.append(argv)
        (folder / "made.txt").write_text("by setup\n")
        (folder / "src" / "a.py").write_text("setup was here\n")
        return None

    started = await shop.start(
        "gui", copy=(".env", "conf"), link=("node_modules",), setup=(("make", "it"),), set_up=set_up
    )
    stream = started.stream
    there = Path(stream.worktree)
    assert ran == [("make", "it")]
    assert (there / ".env").read_text() == "KEY=1\n"
    assert (there / "conf/local.ini").exists()
    assert (there / "own.secret").exists()
    assert (there / "node_modules").readlink() == shop.user.root / "node_modules"
    assert stream.links == (str(shop.user.root / "node_modules"),)
    assert set(stream.brought) == {".env", "conf/local.ini", "node_modules", "own.secret", "made.txt"}
    assert (there / "src/a.py").read_text() == "a = 1\n"
    assert any("`src/a.py`" in note for note in started.notes)
    assert await current(shop.repository, stream) == stream.base
    shop.in_tree(stream).write({"conf/base.ini": "mine\n", "conf/new.ini": "n\n"})
    assert (await measure(shop.repository, stream)).changed == ("conf/base.ini", "conf/new.ini")


async def test_a_setup_that_failed_is_run_again(shop: Project) -> None:
    answers: list[EngineError | None] = [CheckFailed("no network"), None]

    async def set_up(folder: Path, argv: tuple[str, ...]) -> EngineError | None:
        (folder / f"left-{len(answers)}").write_text("")
        return answers.pop(0)

    with pytest.raises(Unavailable, match="no network"):
        await shop.start("gui", setup=(("x",),), set_up=set_up)
    assert not shop.streams.find("gui").is_ready
    started = await shop.start("gui", setup=(("x",),), set_up=set_up)
    assert started.stream.is_ready
    assert set(started.stream.brought) == {"left-1", "left-2"}


# -- refused


@pytest.mark.parametrize(
    "name", ["landing", "Landing", "../x", "a/b", "x.lock", "a..b", "", "-x", "x" * 101, "é", "x."]
)
async def test_names_that_cannot_be(shop: Project, name: str) -> None:
    before = shop.checkout()
    with pytest.raises(UsageError):
        await shop.start(name)
    assert shop.checkout() == before
    assert not shop.streams.all()


@pytest.mark.parametrize(
    "branch", ["main", "MAIN", "-b", "a..b", "parallelai/landing/main", "HEAD", "refs/heads/x", "main/x"]
)
async def test_branches_that_cannot_be(shop: Project, branch: str) -> None:
    with pytest.raises(UsageError):
        await shop.start("gui", branch=branch)
    assert not shop.streams.all()


async def test_what_is_there_and_not_ours_is_refused(shop: Project) -> None:
    shop.user.git("branch", "parallelai/gui")
    shop.user.git("branch", "parallelai/Backend")
    for name in ("gui", "backend"):
        with pytest.raises(UsageError, match="parallelai/"):
            await shop.start(name)
    folder = shop.user.root.parent / "shop-worktrees" / "docs"
    folder.mkdir(parents=True)
    (folder / "mine").write_text("keep")
    with pytest.raises(UsageError, match="there already"):
        await shop.start("docs")
    (folder.parent / "DB").mkdir()
    with pytest.raises(UsageError, match="upper and lower"):
        await shop.start("db")
    assert (folder / "mine").read_text() == "keep"
    assert not shop.streams.all()


async def test_a_branch_that_stands_in_the_way_of_the_name(shop: Project) -> None:
    shop.user.git("branch", "parallelai")
    with pytest.raises(UsageError, match="`parallelai`"):
        await shop.start("gui")


async def test_a_folder_in_the_checkout_has_to_be_ignored(shop: Project) -> None:
    with pytest.raises(UsageError, match=r"\.gitignore"):
        await shop.start("gui", folder=Path(".trees"))
    shop.user.commit({".gitignore": ".trees/\n"})
    started = await shop.start("gui", folder=Path(".trees"))
    assert Path(started.stream.worktree) == shop.user.root / ".trees" / "gui"
    assert shop.user.git("status", "--porcelain") == ""


async def test_a_name_held_by_another_plan(shop: Project) -> None:
    await shop.start("gui")
    with pytest.raises(Held, match=r"`other\.yaml`|`plan\.yaml`"):
        await shop.start("gui", plan="other.yaml")


# -- put right


@pytest.mark.parametrize("branch", ["parallelai/gui", "parallelai/Gui", "parallelai/gui/more"])
async def test_a_branch_that_another_workstream_has_is_refused_in_its_name(
    shop: Project, branch: str
) -> None:
    await shop.start("gui")
    with pytest.raises(Held, match=r"belongs to the workstream `gui` of `plan\.yaml`, which is not finished"):
        await shop.start("other", branch=branch)


async def test_a_deleted_folder_is_made_again(shop: Project) -> None:
    shop.user.write({".env": "1"})
    stream = (await shop.start("gui", copy=(".env",))).stream
    there = shop.in_tree(stream)
    tip = there.commit({"src/a.py": "committed\n"})
    shop.streams.update("gui", lambda known: replace(known, head=tip))
    shutil.rmtree(stream.worktree)
    started = await shop.start("gui", copy=(".env",))
    assert started.repaired == ("the folder was gone: it was made again from the branch",)
    assert (there.root / "src/a.py").read_text() == "committed\n"
    assert (there.root / ".env").exists()
    assert started.stream.is_ready


async def test_a_deleted_branch_is_made_again_and_the_work_stays(shop: Project) -> None:
    stream = (await shop.start("gui")).stream
    shop.in_tree(stream).write({"src/a.py": "mine\n", "src/new.py": "n\n"})
    shop.user.git("update-ref", "-d", "refs/heads/parallelai/gui")
    done = await repair(shop.repository, shop.streams, "gui")
    assert done == ("the branch was gone: it is where our last commit was",)
    assert (await measure(shop.repository, stream)).changed == ("src/a.py", "src/new.py")


async def test_a_deleted_branch_and_folder(shop: Project) -> None:
    stream = (await shop.start("gui")).stream
    shutil.rmtree(stream.worktree)
    shop.user.git("worktree", "prune")
    shop.user.git("branch", "-q", "-D", "parallelai/gui")
    started = await shop.start("gui")
    assert len(started.repaired) == 2
    assert shop.in_tree(stream).git("status", "--porcelain") == ""


async def test_a_worktree_that_git_forgot_is_taken_as_it_lies(shop: Project) -> None:
    stream = (await shop.start("gui")).stream
    shop.in_tree(stream).write({"src/a.py": "mine\n", "src/new.py": "n\n"})
    (Path(stream.worktree) / "src/b.py").unlink()
    shutil.rmtree(shop.user.root / ".git" / "worktrees" / "gui")
    before = lying(Path(stream.worktree))
    done = await repair(shop.repository, shop.streams, "gui")
    assert "git had forgotten the worktree: it was taken as it lies" in done
    now = lying(Path(stream.worktree))
    assert {k: v for k, v in now.items() if k != ".git"} == {k: v for k, v in before.items() if k != ".git"}
    assert shop.in_tree(stream).git("status", "--porcelain") == " M src/a.py\n D src/b.py\n?? src/new.py\n"
    assert len(list(Path(stream.worktree).parent.iterdir())) == 1


async def test_a_pointer_that_leads_elsewhere_is_written_anew_and_never_followed(
    shop: Project, tmp_path: Path
) -> None:
    stream = (await shop.start("gui")).stream
    evil = Repository.start(tmp_path / "evil")
    evil.commit({"x": "x"})
    evil.git("config", "core.fsmonitor", f"touch {tmp_path / 'pwned'}; false")
    (Path(stream.worktree) / ".git").write_text(f"gitdir: {evil.root / '.git'}\n")
    assert await current(shop.repository, stream) == stream.base
    done = await repair(shop.repository, shop.streams, "gui")
    assert done == ("its `.git` did not lead to the repository: it was written anew",)
    assert not (tmp_path / "pwned").exists()
    assert shop.in_tree(stream).git("rev-parse", "HEAD").strip() == stream.base


async def test_settings_of_a_worktree_that_name_programs_are_not_obeyed(tmp_path: Path) -> None:
    shop = await project(tmp_path)
    stream = (await shop.start("gui", sparse=("src/**",))).stream
    admin = shop.user.root / ".git" / "worktrees" / "gui"
    with (admin / "config.worktree").open("a") as file:
        file.write(f'[filter "x"]\n\tclean = touch {tmp_path / "pwned"}; cat\n')
    shop.in_tree(stream).write({".gitattributes": "* filter=x\n", "src/a.py": "new\n"})
    await current(shop.repository, stream)
    assert not (tmp_path / "pwned").exists()
    (admin / "index").unlink()
    with pytest.raises(ParallelAIError, match=r"filter\.x\.clean"):
        await repair(shop.repository, shop.streams, "gui")
    assert not (tmp_path / "pwned").exists()


async def test_a_lock_left_by_a_killed_git_is_removed_and_a_living_one_is_not(shop: Project) -> None:
    stream = (await shop.start("gui")).stream
    lock = shop.user.root / ".git" / "worktrees" / "gui" / "index.lock"
    lock.write_text("")
    with lock.open():
        await repair(shop.repository, shop.streams, "gui")
        assert lock.exists()
    await repair(shop.repository, shop.streams, "gui")
    assert not lock.exists()
    assert stream.is_ready


async def test_somebody_else_s_repository_in_the_place_of_the_worktree(shop: Project) -> None:
    stream = (await shop.start("gui")).stream
    (Path(stream.worktree) / ".git").unlink()
    shop.in_tree(stream).git("init", "-q")
    with pytest.raises(UsageError, match="something else"):
        await shop.start("gui")
    assert (Path(stream.worktree) / "src/a.py").exists()


async def test_a_worktree_on_another_branch_is_told(shop: Project) -> None:
    stream = (await shop.start("gui")).stream
    shop.in_tree(stream).git("switch", "-q", "--detach")
    with pytest.raises(UsageError, match="not on its branch"):
        await shop.start("gui")


# -- what is there now


async def test_what_is_there_now_without_touching_it(shop: Project) -> None:
    stream = (await shop.start("gui")).stream
    there = shop.in_tree(stream)
    there.write(
        {
            "src/a.py": "changed\n",
            "src/new.py": "n\n",
            ".gitignore": "*.log\n",
            "x.log": "l\n",
            "st.py": "1\n",
        }
    )
    there.git("add", "st.py")
    there.write({"st.py": "2\n", "src/deep/c.py": "c\n"})
    there.git("rm", "-q", "--cached", "docs/x.md")
    (there.root / "src/b.py").unlink()
    inside = Repository.start(there.root / "inner")
    inside.write({"f": "f"})
    index = shop.user.root / ".git" / "worktrees" / "gui" / "index"
    before = (index.read_bytes(), index.stat().st_mtime_ns, lying(there.root))
    now = await measure(shop.repository, stream)
    assert (index.read_bytes(), index.stat().st_mtime_ns, lying(there.root)) == before
    os.mkfifo(there.root / "pipe")
    assert now.changed == (".gitignore", "src/a.py", "src/b.py", "src/deep/c.py", "src/new.py", "st.py")
    assert now.left_out == ("inner/",)
    assert shop.user.git("show", f"{now.commit}:st.py") == "2\n"
    assert "docs/x.md" in files_of(now.commit, shop.user)
    assert shop.user.git("rev-parse", f"{now.commit}^").strip() == stream.base
    assert await current(shop.repository, stream) == now.commit
    assert shop.user.git("for-each-ref", "--format=%(refname)").split() == [
        "refs/heads/main",
        "refs/heads/parallelai/gui",
    ]


async def test_a_file_that_became_a_folder_and_the_other_way_round(shop: Project) -> None:
    stream = (await shop.start("gui")).stream
    there = shop.in_tree(stream).root
    (there / "src/a.py").unlink()
    (there / "src/a.py").mkdir()
    (there / "src/a.py" / "in.py").write_text("in\n")
    shutil.rmtree(there / "docs")
    (there / "docs").symlink_to("src")
    now = await measure(shop.repository, stream)
    assert files_of(now.commit, shop.user) == ["docs", "src/a.py/in.py", "src/b.py"]


async def test_what_is_committed_by_others_is_there_too(shop: Project) -> None:
    stream = (await shop.start("gui")).stream
    there = shop.in_tree(stream)
    tip = there.commit({"src/a.py": "committed\n"})
    assert await current(shop.repository, stream) == tip
    there.write({"src/a.py": "a = 1\n"})
    now = await measure(shop.repository, stream)
    assert (now.tip, now.changed) == (tip, ("src/a.py",))


async def test_filters_and_line_ends_are_as_git_add_would_have_them(shop: Project) -> None:
    shop.user.commit({".gitattributes": "*.txt text eol=crlf\n", "t.txt": "one\ntwo\n"})
    stream = (await shop.start("gui")).stream
    there = Path(stream.worktree)
    assert (there / "t.txt").read_bytes() == b"one\r\ntwo\r\n"
    (there / "t.txt").write_bytes(b"one\r\nthree\r\n")
    commit = await current(shop.repository, stream)
    assert shop.user.git("show", f"{commit}:t.txt") == "one\nthree\n"


async def test_the_branch_that_is_checked_out_elsewhere_is_told(shop: Project) -> None:
    stream = (await shop.start("gui")).stream
    shutil.rmtree(stream.worktree)
    shop.user.git("worktree", "prune")
    shop.user.git("checkout", "-q", "parallelai/gui")
    base = await choose_base(shop.repository, "main", fetch=False)
    assert base.target == "main"
    with pytest.raises(UsageError, match="checked out in"):
        await repair(shop.repository, shop.streams, "gui")
