"""The target comes into a worktree; what is not committed there stays, and conflicts change nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from repositories import Repository, everything, lying
from streams_support import Project, project

from parallelai.errors import UsageError
from parallelai.git.merging import Merged
from parallelai.work.streams.beside import lying_beside
from parallelai.work.streams.now import current
from parallelai.work.streams.record import Rules, Stream, with_leave
from parallelai.work.streams.syncing import How, sync
from parallelai.work.streams.taking_over import settling, take_over, unsettled

FILES: dict[str, str | bytes] = {
    "src/a.py": "".join(f"a{number}\n" for number in range(30)),
    "src/b.py": "b\n",
    "docs/x.md": "x\n",
    "docs/old.md": "old\n",
    ".gitignore": "*.log\n",
}
HOWS: tuple[How, ...] = ("merge", "rebase")


@pytest.fixture
async def shop(tmp_path: Path) -> Project:
    return await project(tmp_path, FILES)


def edited(number: int, text: str) -> str:
    lines = str(FILES["src/a.py"]).splitlines(keepends=True)
    lines[number] = f"{text}\n"
    return "".join(lines)


async def begun(shop: Project) -> tuple[Stream, Repository, str]:
    """A workstream with a commit, and uncommitted work of every kind; the target has moved on."""
    stream = (await shop.start("gui")).stream
    there = shop.in_tree(stream)
    there.commit({"src/b.py": "committed\n"})
    there.write(
        {"src/a.py": edited(1, "mine"), "src/new.py": "new\n", "out.log": "ignored\n", "src/staged.py": "s\n"}
    )
    there.git("add", "src/staged.py")
    (there.root / "docs/x.md").unlink()
    (shop.user.root / "docs/old.md").unlink()
    target = shop.user.commit({"src/a.py": edited(28, "theirs"), "src/t/deep.py": "t\n"})
    return stream, there, target


@pytest.mark.parametrize("how", HOWS)
async def test_the_target_comes_in_and_nothing_is_lost(shop: Project, how: How) -> None:
    stream, there, target = await begun(shop)
    done = await sync(shop.repository, shop.streams, stream, target, how)
    assert done.ok, done
    assert done.has_moved
    tip = there.git("rev-parse", "HEAD").strip()
    assert (done.stream.base, done.stream.head) == (target, tip)
    assert shop.streams.find("gui") == done.stream
    assert there.git(
        "status", "--porcelain"
    ) == " M src/a.py\n D docs/x.md\n?? src/new.py\n?? src/staged.py\n".replace(
        " M src/a.py\n D docs/x.md\n", " D docs/x.md\n M src/a.py\n"
    )
    assert (there.root / "src/a.py").read_text().splitlines()[1::27] == ["mine", "theirs"]
    assert (there.root / "src/t/deep.py").exists()
    assert not (there.root / "docs/old.md").exists()
    assert (there.root / "out.log").read_text() == "ignored\n"
    parents = there.git("log", "-1", "--format=%P").split()
    assert parents == [stream.base, target][-1:] if how == "rebase" else len(parents) == 2
    assert there.git("show", "HEAD:src/b.py") == "committed\n"
    again = await sync(shop.repository, shop.streams, done.stream, target, how)
    assert (again.ok, again.has_moved) == (True, False)


async def test_leave_outlasts_what_git_merged_and_not_what_it_could_not(shop: Project) -> None:
    _, there, target = await begun(shop)
    tip = there.git("rev-parse", "HEAD").strip()
    ready = shop.streams.update("gui", lambda it: with_leave(replace(it, head=tip, state="done"), tip, "ana"))
    assert (await sync(shop.repository, shop.streams, ready, target, "merge")).stream.is_approved
    there.commit({"src/b.py": "mine\n"})
    shop.streams.update("gui", lambda it: replace(it, head=there.git("rev-parse", "HEAD").strip()))
    assert not shop.streams.find("gui").is_approved

    ready = shop.streams.update("gui", lambda it: with_leave(it, it.head, "ana"))
    conflicting = shop.user.commit({"src/b.py": "theirs\n"})
    done = await take_over(shop.repository, shop.streams, ready, conflicting)
    assert (done.has_moved, done.stream.unsettled) == (True, ("src/b.py",))
    assert not done.stream.is_approved


async def test_what_has_no_text_comes_in_with_both_versions(shop: Project) -> None:
    shop.user.commit({"src/logo": b"\0base", "src/gone": "base\n", "src/kept": "base\n"})
    (shop.user.root / "src/link").symlink_to("a.py")
    shop.user.commit({})
    stream = (await shop.start("gui")).stream
    there = shop.in_tree(stream)
    (there.root / "src/gone").unlink()
    (there.root / "src/link").unlink()
    (there.root / "src/link").symlink_to("mine.py")
    ours = there.commit(
        {"src/logo": b"\0ours", "src/kept": "mine\n", "src/new/in": "mine\n", "src/b.py": "mine\n"}
    )
    (shop.user.root / "src/kept").unlink()
    (shop.user.root / "src/link").unlink()
    (shop.user.root / "src/link").symlink_to("theirs.py")
    theirs = shop.user.commit(
        {"src/logo": b"\0theirs", "src/gone": "theirs\n", "src/new": "theirs\n", "src/b.py": "theirs\n"}
    )

    done = await take_over(shop.repository, shop.streams, stream, theirs)

    src = there.root / "src"
    assert (done.ok, done.has_moved) == (True, True)
    beside = {f"src/{name}~{theirs}" for name in ("logo", "gone", "new", "link")} | {f"src/kept~{ours}"}
    assert set(done.stream.unsettled) == {"src/b.py", *beside}
    assert {*beside, "src/logo", "src/kept", "src/new"} <= settling(done.stream)
    assert [(src / name).read_bytes() for name in ("logo", f"logo~{theirs}")] == [b"\0ours", b"\0theirs"]
    assert [os.readlink(src / name) for name in ("link", f"link~{theirs}")] == ["mine.py", "theirs.py"]
    texts = {"gone": "theirs\n", "kept": "mine\n", f"kept~{ours}": "mine\n", f"new~{theirs}": "theirs\n"}
    assert {name: (src / name).read_text() for name in texts} == texts
    assert (src / "new/in").read_text() == "mine\n"
    assert there.git("status", "--porcelain") == ""
    assert lying_beside(there.root, [f"src/logo~{theirs}", "src/b.py"]) == [
        f"the other version of `src/logo` lies beside it as `src/logo~{theirs}`: make of `src/logo` what it should be,"
        f" or remove it, and remove `src/logo~{theirs}`"
    ]
    for path in beside - {f"src/logo~{theirs}"}:
        (there.root / path).unlink()
    head = there.commit({"src/b.py": "both\n", "src/logo": b"\0both"})
    left = await unsettled(shop.repository, theirs, head, done.stream.unsettled)
    assert left == (f"src/logo~{theirs}",)  # a decision that nobody has made


async def test_what_is_not_settled_yet_stays_so_when_more_comes_in(shop: Project) -> None:
    stream = (await shop.start("gui")).stream
    shop.in_tree(stream).commit({"src/b.py": "mine\n", "docs/x.md": "mine\n"})
    first = shop.user.commit({"src/b.py": "theirs\n"})
    stream = (await take_over(shop.repository, shop.streams, stream, first)).stream
    second = shop.user.commit({"docs/x.md": "theirs\n"})

    done = await take_over(shop.repository, shop.streams, stream, second)

    assert done.has_moved
    left = await unsettled(shop.repository, second, done.stream.head, done.stream.unsettled)
    assert set(left) == {"src/b.py", "docs/x.md"} <= settling(done.stream)
    # Where the next one is refused, because of what is not committed there, nothing of that is forgotten.
    (shop.in_tree(stream).root / "src/new.py").write_text("mine\n")
    third = shop.user.commit({"docs/x.md": "again\n", "src/new.py": "theirs\n"})
    refused = await take_over(shop.repository, shop.streams, done.stream, third)
    assert not refused.ok
    known = shop.streams.find("gui")
    assert set(await unsettled(shop.repository, second, known.head, known.unsettled)) == {
        "src/b.py",
        "docs/x.md",
    }


async def test_what_a_sparse_worktree_would_not_show_is_not_brought_in(shop: Project) -> None:
    shop.user.commit({"src/logo.png": b"\0base"})
    stream = (await shop.start("gui", sparse=("src/*.py", "src/*.png"))).stream
    whole = (await shop.start("all", sparse=("src/",))).stream
    for each in (stream, whole):
        shop.in_tree(each).commit({"src/logo.png": each.name.encode() + b"\0", "src/b.py": "mine\n"})
    theirs = shop.user.commit({"src/logo.png": b"\0theirs", "src/b.py": "theirs\n"})
    beside = f"src/logo.png~{theirs}"

    refused = await take_over(shop.repository, shop.streams, stream, theirs)
    done = await take_over(shop.repository, shop.streams, whole, theirs)

    assert (refused.ok, refused.files) == (False, (beside,))
    assert shop.streams.find("gui").unsettled == ()
    assert shop.in_tree(stream).git("status", "--porcelain") == ""
    assert set(done.stream.unsettled) == {"src/b.py", beside}
    assert (shop.in_tree(whole).root / beside).read_bytes() == b"\0theirs"


async def test_what_git_cannot_merge_at_all_is_not_brought_in(
    shop: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = (await shop.start("gui")).stream
    ours = shop.in_tree(stream).commit({"src/b.py": "mine\n"})
    theirs = shop.user.commit({"src/a.py": "theirs\n"})

    async def failed(*_: object) -> Merged:
        return Merged(await shop.repository.tree(ours), False, (), ("git failed on this merge",))

    monkeypatch.setattr("parallelai.work.streams.taking_over.merge", failed)

    done = await take_over(shop.repository, shop.streams, stream, theirs)

    assert (done.ok, done.has_moved) == (False, False)
    assert shop.in_tree(stream).git("rev-parse", "HEAD").strip() == ours


def test_leave_is_for_what_waits() -> None:
    open_ = Stream("gui", "p", "r-1", "b", "/w", "base", "head", "main", Rules(()))
    with pytest.raises(UsageError, match="waits for no leave"):
        with_leave(open_, "head", "ana")
    with pytest.raises(UsageError, match="has changed since"):
        with_leave(replace(open_, state="done"), "before", "ana")


def _as_folder(index: Path) -> None:
    index.mkdir()
    (index / "file").write_text("x")


def _as_link(index: Path) -> None:
    index.symlink_to(index.parent / "HEAD")


@pytest.mark.parametrize("put", [_as_folder, os.mkfifo, _as_link])
async def test_what_lies_in_the_place_of_the_index_is_no_index(
    shop: Project, put: Callable[[Path], None]
) -> None:
    stream = (await shop.start("gui")).stream
    there = shop.in_tree(stream)
    there.write({"src/a.py": edited(1, "mine")})
    index = Path(there.git("rev-parse", "--absolute-git-dir").strip()) / "index"
    index.unlink()
    put(index)
    seen = await current(shop.repository, stream)
    assert shop.user.git("show", f"{seen}:src/a.py") == edited(1, "mine")
    assert not index.is_file() or index.is_symlink()  # only looked at
    target = shop.user.commit({"src/b.py": "theirs\n"})
    done = await sync(shop.repository, shop.streams, stream, target, "merge")
    assert done.ok, done
    assert there.git("status", "--porcelain").split() == ["M", "src/a.py"]
    assert (there.root / "src/b.py").read_text() == "theirs\n"


async def test_a_rebase_keeps_messages_authors_and_order(shop: Project) -> None:
    stream = (await shop.start("gui")).stream
    there = shop.in_tree(stream)
    for name in ("one", "two"):
        there.write({f"src/{name}.py": name})
        there.git("add", "-A")
        there.git(
            "commit",
            "-q",
            "-m",
            f"Add {name}\n\nBody of é.",
            "--author",
            "Ana <ana@example.invalid>",
            "--date",
            "2024-01-02T03:04:05+0200",
        )
    target = shop.user.commit({"docs/y.md": "y\n"})
    assert (await sync(shop.repository, shop.streams, stream, target, "rebase")).ok
    shown = there.git("log", "--format=%an %aI %s", f"{target}..HEAD").splitlines()
    assert shown == ["Ana 2024-01-02T03:04:05+02:00 Add two", "Ana 2024-01-02T03:04:05+02:00 Add one"]
    assert there.git("log", "-1", "--format=%B").rstrip() == "Add two\n\nBody of é."
    assert there.git("status", "--porcelain") == ""


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("is_committed", [True, False])
async def test_a_conflict_changes_nothing_and_names_the_files(
    shop: Project, how: How, is_committed: bool
) -> None:
    stream = (await shop.start("gui")).stream
    there = shop.in_tree(stream)
    there.write({"src/b.py": "mine\n", "src/n.py": "n"})
    if is_committed:
        there.commit()
    target = shop.user.commit({"src/b.py": "theirs\n", "src/c.py": "c\n"})
    before, git = everything(there.root), shop.user.git("for-each-ref")
    done = await sync(shop.repository, shop.streams, stream, target, how)
    assert not done.ok
    assert done.files == ("src/b.py",)
    assert "the same places" in done.why
    assert everything(there.root) == before
    assert shop.user.git("for-each-ref") == git
    assert shop.streams.find("gui") == stream


async def test_an_edit_at_which_git_was_told_not_to_look_is_not_written_over(shop: Project) -> None:
    stream = (await shop.start("gui")).stream
    there = shop.in_tree(stream)
    there.git("update-index", "--assume-unchanged", "src/b.py")
    there.write({"src/b.py": "mine\n"})
    target = shop.user.commit({"src/b.py": "theirs\n"})
    done = await sync(shop.repository, shop.streams, stream, target, "merge")
    assert (done.ok, done.files) == (False, ("src/b.py",))
    assert (there.root / "src/b.py").read_text() == "mine\n"


async def test_files_that_lie_in_the_way_stay(shop: Project) -> None:
    stream = (await shop.start("gui", copy=("local.cfg",))).stream
    there = shop.in_tree(stream)
    there.write({"x.log": "mine, and ignored\n"})
    shop.user.write({"x.log": "theirs\n"})
    shop.user.git("add", "-f", "x.log")
    target = shop.user.commit()
    done = await sync(shop.repository, shop.streams, stream, target, "merge")
    assert (done.ok, done.files) == (False, ("x.log",))
    assert (there.root / "x.log").read_text() == "mine, and ignored\n"


async def test_what_is_brought_and_becomes_tracked_is_told(shop: Project) -> None:
    shop.user.write({"local.cfg": "secret\n"})
    stream = (await shop.start("gui", copy=("local.cfg",))).stream
    target = shop.user.commit()
    done = await sync(shop.repository, shop.streams, stream, target, "merge")
    assert (done.ok, done.files) == (False, ("local.cfg",))


async def test_an_unfinished_merge_or_another_branch_is_left_alone(shop: Project) -> None:
    stream, there, target = await begun(shop)
    there.git("stash", "-q", "-u")
    there.git("merge", "-q", "--no-commit", "--no-ff", "main")
    done = await sync(shop.repository, shop.streams, stream, target, "merge")
    assert (done.ok, "not finished" in done.why) == (False, True)
    there.git("merge", "--abort")
    there.git("switch", "-q", "--detach")
    done = await sync(shop.repository, shop.streams, stream, target, "merge")
    assert (done.ok, "not on its branch" in done.why) == (False, True)


async def test_a_rebase_does_not_lose_what_was_settled_in_a_merge(shop: Project) -> None:
    stream = (await shop.start("gui")).stream
    there = shop.in_tree(stream)
    there.commit({"src/mine.py": "mine\n"})
    one = shop.user.commit({"src/theirs.py": "theirs\n"})
    there.git("merge", "-q", "--no-commit", one)
    there.commit({"src/b.py": "what both need\n"})
    target = shop.user.commit({"docs/y.md": "y\n"})
    done = await sync(shop.repository, shop.streams, stream, target, "rebase")
    assert (done.ok, "merges" in done.why) == (False, True)
    assert (there.root / "src/b.py").read_text() == "what both need\n"
    done = await sync(shop.repository, shop.streams, stream, target, "merge")
    assert done.ok
    assert (there.root / "src/b.py").read_text() == "what both need\n"


@pytest.mark.parametrize("how", HOWS)
async def test_in_a_sparse_worktree(shop: Project, how: How) -> None:
    stream = (await shop.start("gui", sparse=("src/**",))).stream
    there = shop.in_tree(stream)
    there.commit({"src/b.py": "committed\n"})
    there.write({"src/n.py": "n\n"})
    target = shop.user.commit({"docs/x.md": "changed\n", "src/a.py": edited(3, "t")})
    done = await sync(shop.repository, shop.streams, stream, target, how)
    assert done.ok, done
    assert not (there.root / "docs").exists()
    assert there.git("status", "--porcelain") == "?? src/n.py\n"
    assert there.git("show", "HEAD:docs/x.md") == "changed\n"
    assert (there.root / "src/a.py").read_text() == edited(3, "t")


async def test_files_and_folders_that_change_places(shop: Project) -> None:
    stream = (await shop.start("gui")).stream
    there = shop.in_tree(stream)
    there.write({"src/n.py": "n\n"})
    shutil.rmtree(shop.user.root / "docs")
    (shop.user.root / "src/b.py").unlink()
    (shop.user.root / "run.sh").write_text("#!/bin/sh\n")
    (shop.user.root / "run.sh").chmod(0o755)
    (shop.user.root / "link").symlink_to("src/a.py")
    target = shop.user.commit({"docs": "a file now\n", "src/b.py/in.py": "in\n"})
    assert (await sync(shop.repository, shop.streams, stream, target, "merge")).ok
    wanted = lying(shop.user.root) | {"src/n.py": ("file", b"n\n")}
    assert {k: v for k, v in lying(there.root).items() if k != ".git"} == wanted
    assert os.access(there.root / "run.sh", os.X_OK)
