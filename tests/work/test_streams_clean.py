"""What has landed is removed, proven by its content; everything else is kept, and named with what saves it."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from repositories import Repository, lying
from streams_support import Project, project

from parallelai.errors import StoreError, UsageError
from parallelai.work.streams import clean
from parallelai.work.streams.aside import aside
from parallelai.work.streams.clean import Removed, drop, removable, remove
from parallelai.work.streams.kept import Kept
from parallelai.work.streams.landed import landed_by_content
from parallelai.work.streams.now import Now
from parallelai.work.streams.record import Landed, Stream


@pytest.fixture
async def shop(tmp_path: Path) -> Project:
    lines = "".join(f"{number}\n" for number in range(30))
    return await project(tmp_path, {"src/a.py": lines, "src/b.py": "b = 1\n", "docs/x.md": "x\n"})


async def working(shop: Project, name: str = "gui") -> tuple[Stream, Repository]:
    """A workstream with two commits."""
    stream = (await shop.start(name)).stream
    there = shop.in_tree(stream)
    there.commit({f"src/{name}.py": "one\n"})
    there.commit({f"src/{name}.py": "two\n", "docs/x.md": f"{name}\n"})
    return stream, there


def land(shop: Project, how: str, branch: str = "parallelai/gui") -> None:
    git = shop.user.git
    match how:
        case "merge":
            git("merge", "-q", "--no-ff", "-m", "m", branch)
        case "squash":
            git("merge", "-q", "--squash", branch)
            git("commit", "-q", "-m", "s")
        case "rebase":
            shop.user.commit({"other": "moved on\n"})
            for commit in git("rev-list", "--reverse", f"main..{branch}").split():
                git("cherry-pick", commit)


# -- the proof


@pytest.mark.parametrize("how", ["merge", "squash", "rebase"])
@pytest.mark.parametrize("later", ["nothing", "edit", "revert"])
async def test_landed_however_and_whatever_came_later(shop: Project, how: str, later: str) -> None:
    stream, _ = await working(shop)
    tip = shop.user.git("rev-parse", stream.branch).strip()
    assert not await landed_by_content(shop.repository, tip, shop.user.git("rev-parse", "main").strip())
    land(shop, how)
    if later == "edit":
        shop.user.commit({"src/gui.py": "rewritten\n", "docs/x.md": "again\n"})
    if later == "revert":
        (shop.user.root / "src/gui.py").unlink()
        shop.user.commit({"docs/x.md": "x\n"})
    assert await landed_by_content(shop.repository, tip, shop.user.git("rev-parse", "main").strip())


async def test_a_part_or_something_alike_is_no_proof(shop: Project) -> None:
    await working(shop)
    tip = shop.user.git("rev-parse", "parallelai/gui").strip()
    for files in ({"src/gui.py": "two\n"}, {"docs/x.md": " gui\n"}):
        shop.user.commit(dict(files))
        assert not await landed_by_content(shop.repository, tip, shop.user.git("rev-parse", "main").strip())


async def test_histories_that_have_nothing_in_common(shop: Project) -> None:
    shop.user.git("checkout", "-q", "--orphan", "alone")
    alone = shop.user.commit({"z": "z"})
    shop.user.git("checkout", "-q", "main")
    assert not await landed_by_content(shop.repository, alone, shop.user.git("rev-parse", "main").strip())


# -- clean


async def test_what_is_not_ours_to_remove_of_a_worktree_is_named(
    shop: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream, _ = await working(shop)
    land(shop, "merge")
    monkeypatch.setattr("parallelai.work.streams.aside.remove", lambda _: None)  # a container filled it
    done = await remove(shop.repository, shop.streams, stream)
    assert isinstance(done, Removed)
    assert done.left is not None
    assert (done.left / "src" / "gui.py").exists()
    (told,) = clean.what_stays(done)
    assert told.command == f"sudo rm -rf {done.left}"
    given_up, _ = await working(shop, "more")
    notes = (await drop(shop.repository, shop.streams, given_up, shop.streams.state)).notes
    assert "is not yours to remove: `sudo rm -rf" in notes[0]


async def test_a_new_name_that_only_case_tells_from_another_is_seen(shop: Project) -> None:
    stream, there = await working(shop)
    if (there.root / ".GIT").exists():
        pytest.skip("this file system does not tell names apart by case")
    land(shop, "merge")
    shop.user.git("config", "core.ignoreCase", "true")  # as on the machine that it was copied from
    there.write({"src/A.py": "mine\n"})
    kept = await remove(shop.repository, shop.streams, stream)
    assert isinstance(kept, Kept)
    assert "`src/A.py`" in kept.why


@pytest.mark.parametrize("option", ["--assume-unchanged", "--skip-worktree"])
async def test_an_edit_at_which_git_was_told_not_to_look_is_kept(shop: Project, option: str) -> None:
    stream, there = await working(shop)
    land(shop, "merge")
    for key, value in (("user.name", "Ana"), ("user.email", "ana@example.invalid")):
        shop.user.git("config", key, value)
    there.git("update-index", option, "src/b.py")
    there.write({"src/b.py": "mine\n"})
    kept = await remove(shop.repository, shop.streams, stream)
    assert isinstance(kept, Kept)
    assert "`src/b.py`" in kept.why
    shop.streams.update(
        "gui", lambda it: replace(it, state="landed", landed=Landed("main", *3 * [stream.head]))
    )
    (told,) = (await removable(shop.repository, shop.streams)).kept
    await asyncio.to_thread(subprocess.run, ["sh", "-ec", told.command], check=True, capture_output=True)
    assert there.git("show", "HEAD:src/b.py") == "mine\n"


@pytest.mark.parametrize("how", ["merge", "squash", "rebase"])
async def test_what_landed_is_removed(shop: Project, how: str) -> None:
    shop.user.write({".env": "1"})
    stream = (await shop.start("gui", copy=(".env",))).stream
    shop.in_tree(stream).commit({"src/a.py": "new\n"})
    shop.in_tree(stream).git("reset", "-q", "--soft", "HEAD^")
    shop.in_tree(stream).git("restore", "--staged", ".env")
    shop.in_tree(stream).git("commit", "-q", "-m", "c")
    land(shop, how)
    released: list[str] = []

    async def release(one: Stream) -> None:
        released.append(one.name)

    found = await removable(shop.repository, shop.streams)
    assert [each.name for each in found.removable] == ["gui"]
    assert found.kept == ()
    done = await remove(shop.repository, shop.streams, stream, release=release)
    assert isinstance(done, Removed)
    assert done.branch == "parallelai/gui"
    assert released == ["gui"]
    assert not Path(stream.worktree).exists()
    assert list(Path(stream.worktree).parent.iterdir()) == []
    assert shop.user.git("worktree", "list", "--porcelain").count("worktree ") == 1
    assert "gui" not in shop.user.git("for-each-ref")
    assert shop.streams.find("gui").state == "landed"
    assert await removable(shop.repository, shop.streams) == clean.Cleanable((), ())


async def test_what_is_kept_and_why(shop: Project) -> None:
    for name in ("dirty", "new", "ahead", "locked", "away", "used", "fresh", "pending", "ignored"):
        stream, there = (
            await working(shop, name) if name != "fresh" else ((await shop.start(name)).stream, None)
        )
        if name in ("ahead", "fresh"):
            continue
        land(shop, "squash", stream.branch)
        shop.streams.update(name, lambda known: replace(known, state="landed"))
        assert there is not None
        match name:
            case "dirty":
                there.write({"src/a.py": "not committed\n"})
            case "new":
                there.write({"src/new.py": "not tracked\n"})
            case "locked":
                shop.user.git("worktree", "lock", stream.worktree)
            case "away":
                there.git("switch", "-q", "--detach")
            case "ignored":
                (there.root / "x.pyc").write_text("")
                shop.user.git("config", "core.excludesFile", str(there.root.parent / "ignore"))
                (there.root.parent / "ignore").write_text("*.pyc\n")
            case "pending":
                tip = shop.user.git("rev-parse", stream.branch).strip()
                landed = Landed("main", tip, tip, tip, pending="parallelai/landing/main")
                shop.streams.update(name, lambda known, landed=landed: replace(known, landed=landed))
    found = await removable(shop.repository, shop.streams, in_use=("used",))
    assert [each.name for each in found.removable] == ["ignored"]
    kept = {each.name: (each.why, each.command) for each in found.kept}
    trees = shop.user.root.parent / "shop-worktrees"
    assert kept["dirty"] == (
        "what is in its worktree is not committed: `src/a.py`",
        f"git -C {trees}/dirty add --all && git -C {trees}/dirty commit -m 'More of dirty'",
    )
    assert "`src/new.py`" in kept["new"][0]
    assert kept["ahead"] == (
        "its work is not in `main`",
        "parallelai work done ahead && parallelai work land ahead",
    )
    assert kept["fresh"][1] == "parallelai work drop fresh"
    assert kept["locked"][1] == f"git worktree unlock {trees}/locked"
    assert kept["away"][1] == f"git -C {trees}/away switch parallelai/away"
    assert kept["used"][1] == "parallelai work stop used"
    assert kept["pending"][1].endswith(" merge parallelai/landing/main")  # `main` has commits that it has not
    for each in found.kept:
        stream = shop.streams.find(each.name)
        again = await remove(shop.repository, shop.streams, stream, in_use=("used",))
        assert isinstance(again, Kept)
        assert Path(stream.worktree).exists()


async def test_a_change_in_the_last_moment_keeps_it(shop: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    stream, there = await working(shop)
    land(shop, "merge")
    real = clean.measure

    async def late(*words: object, **more: object) -> Now:
        if len(words) == 3:  # the second look, where it was moved to
            (Path(str(words[2])) / "src/late.py").write_text("late\n")
        return await real(*words, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(clean, "measure", late)
    done = await remove(shop.repository, shop.streams, stream)
    assert isinstance(done, Kept)
    assert (there.root / "src/late.py").read_text() == "late\n"


async def test_what_a_killed_removal_moved_aside_is_put_back(shop: Project) -> None:
    stream, there = await working(shop)
    there.write({"src/n.py": "n\n"})
    before = lying(there.root)
    there.root.rename(aside(there.root))
    started = await shop.start("gui")
    assert "it was half removed: it is back" in started.repaired
    assert lying(there.root) == before
    assert started.stream == stream


# -- the next of the same name


async def test_a_name_is_used_again_after_a_landing(shop: Project) -> None:
    await working(shop)
    land(shop, "squash")
    shop.streams.update("gui", lambda known: replace(known, state="landed"))
    started = await shop.start("gui", plan="next.yaml")
    assert started.is_new
    assert started.stream.base == shop.user.git("rev-parse", "main").strip()
    assert [each.plan for each in shop.streams.history()] == ["plan.yaml"]


async def test_a_name_whose_work_would_be_lost_is_not(shop: Project) -> None:
    stream, there = await working(shop)
    shop.streams.update("gui", lambda known: replace(known, state="landed"))
    with pytest.raises(UsageError, match="not in `main`") as error:
        await shop.start("gui", plan="next.yaml")
    assert error.value.next == "`parallelai work land gui`"
    assert (there.root / "src/gui.py").exists()
    assert shop.streams.find("gui").plan == stream.plan


# -- drop


async def test_what_is_given_up_is_in_the_patch(shop: Project, tmp_path: Path) -> None:
    stream, there = await working(shop)
    there.write({"src/a.py": "not committed\n", "src/bin": b"\x00\xff" * 50, "src/new é.py": "n\n"})
    (there.root / "src/b.py").unlink()
    wanted = {k: v for k, v in lying(there.root).items() if k != ".git"}
    before = shop.checkout()
    done = await drop(shop.repository, shop.streams, stream, tmp_path / "patches")
    assert shop.checkout() == before
    assert done.notes == ()
    assert done.patch == tmp_path / "patches" / "gui.patch"
    assert (done.stream.state, done.stream.patch) == ("dropped", str(done.patch))
    assert not there.root.exists()
    assert "gui" not in shop.user.git("for-each-ref")
    other = Repository.start(tmp_path / "other")
    other.git("fetch", "-q", str(shop.user.root), "main")
    other.git("checkout", "-q", "FETCH_HEAD")
    other.git("apply", str(done.patch))
    assert lying(other.root) == wanted
    again = await drop(shop.repository, shop.streams, done.stream, tmp_path / "patches")
    assert again.patch is None
    assert again.stream.patch == str(done.patch)


async def test_a_worktree_that_no_patch_can_hold_stays(shop: Project, tmp_path: Path) -> None:
    stream, there = await working(shop)
    Repository.start(there.root / "inner").commit({"f": "f"})
    done = await drop(shop.repository, shop.streams, stream, tmp_path / "patches")
    assert "the repository `inner` has commits there that no remote has" in done.notes[0]
    assert (there.root / "inner" / "f").exists()
    assert done.patch is not None
    found = await removable(shop.repository, shop.streams)
    assert [each.command for each in found.kept] == ["parallelai work drop gui"]
    shutil.rmtree(there.root / "inner")
    done = await drop(shop.repository, shop.streams, done.stream, tmp_path / "patches")
    assert done.notes == ()
    assert not there.root.exists()
    assert len(list((tmp_path / "patches").iterdir())) == 1


async def test_a_patch_that_cannot_be_written_keeps_everything(shop: Project, tmp_path: Path) -> None:
    stream, there = await working(shop)
    (tmp_path / "patches").write_text("in the way")
    before = lying(there.root)
    with pytest.raises(StoreError):
        await drop(shop.repository, shop.streams, stream, tmp_path / "patches")
    assert lying(there.root) == before
    assert shop.streams.find("gui").state == "open"


async def test_one_whose_folder_is_gone(shop: Project, tmp_path: Path) -> None:
    stream, there = await working(shop)
    shutil.rmtree(there.root)
    done = await drop(shop.repository, shop.streams, stream, tmp_path / "patches")
    assert done.patch is not None
    assert "+two" in done.patch.read_text()
    assert shop.user.git("worktree", "list", "--porcelain").count("worktree ") == 1
    started = await shop.start("gui")
    assert started.is_new
