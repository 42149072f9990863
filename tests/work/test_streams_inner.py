"""What is in the submodules of a worktree, and nowhere else, is not removed with it."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from repositories import Repository
from streams_support import RULES, Project, project

from parallelai.work.guard import inside
from parallelai.work.guard.place import Settings
from parallelai.work.streams.clean import Removed, drop, remove
from parallelai.work.streams.kept import Kept
from parallelai.work.streams.record import Stream

FILE = ("-c", "protocol.file.allow=always")


@pytest.fixture
async def shop(tmp_path: Path) -> Project:
    """A checkout with a library in it."""
    library = Repository.start(tmp_path / "library")
    library.commit({"lib.txt": "1\n"})
    made = await project(tmp_path)
    made.user.git(*FILE, "submodule", "--quiet", "add", str(library.root), "lib")
    made.user.commit()
    return made


async def landed(shop: Project) -> tuple[Stream, Repository]:
    """A workstream whose work the target has."""
    stream = (await shop.start("gui")).stream
    there = shop.in_tree(stream)
    there.commit({"src/a.py": "new\n"})
    shop.user.git("merge", "--quiet", "--no-ff", "--message", "m", stream.branch)
    return stream, there


def checks_out(there: Repository) -> Repository:
    """Make a repository of the files of a submodule, as a person would."""
    shutil.rmtree(there.root / "lib")
    there.git(*FILE, "submodule", "--quiet", "update", "--init")
    return Repository(there.root / "lib")


def commits_inside(there: Repository) -> str:
    return checks_out(there).commit({"lib.txt": "mine\n"})


def does(command: str) -> None:
    subprocess.run(shlex.split(command), check=True, capture_output=True)


async def test_commits_of_a_submodule_that_are_nowhere_else_keep_the_worktree(shop: Project) -> None:
    stream, there = await landed(shop)
    commit = commits_inside(there)
    there.git("commit", "--quiet", "--all", "--message", "move lib")
    shop.user.git("merge", "--quiet", "--no-ff", "--message", "m", stream.branch)
    kept = await remove(shop.repository, shop.streams, stream)
    assert isinstance(kept, Kept)
    assert kept.why == "the submodule `lib` has commits there that no remote has"
    does(kept.command)
    assert isinstance(await remove(shop.repository, shop.streams, stream), Removed)
    assert Repository(shop.user.root / "lib").git("show", f"{commit}:lib.txt") == "mine\n"


async def test_nor_are_they_given_up_with_it(shop: Project, tmp_path: Path) -> None:
    stream, there = await landed(shop)
    commits_inside(there)
    done = await drop(shop.repository, shop.streams, stream, tmp_path / "patches")
    assert there.root.is_dir()
    assert "no remote has: `git " in done.notes[0]
    does(done.notes[0].split("`")[5])
    done = await drop(shop.repository, shop.streams, stream, tmp_path / "patches")
    assert done.notes == ()
    assert not there.root.exists()


@pytest.mark.parametrize("edit", ["edited", "new", "hidden", "staged"])
async def test_what_a_person_changed_in_a_submodule_and_did_not_commit_keeps_the_worktree(
    shop: Project, tmp_path: Path, edit: str
) -> None:
    stream, there = await landed(shop)
    lib = checks_out(there)
    name = "new.txt" if edit == "new" else "lib.txt"
    lib.write({name: "mine\n"})
    if edit == "hidden":
        lib.git("update-index", "--assume-unchanged", name)
    elif edit == "staged":
        lib.git("add", name)

    kept = await remove(shop.repository, shop.streams, stream)
    assert isinstance(kept, Kept)
    assert kept.why == f"what was changed in the submodule `lib` is not committed there: `lib/{name}`"
    done = await drop(shop.repository, shop.streams, stream, tmp_path / "patches")
    assert f"`git -C {lib.root} status`" in done.notes[0]
    assert (lib.root / name).read_text() == "mine\n"

    lib.git("update-index", "--no-assume-unchanged", "lib.txt")
    lib.git("reset", "--quiet", "--hard")
    lib.git("clean", "--quiet", "--force")
    assert not (await drop(shop.repository, shop.streams, stream, tmp_path / "patches")).notes


async def test_nor_is_what_changed_in_a_submodule_of_a_submodule_lost(shop: Project, tmp_path: Path) -> None:
    inner = Repository.start(tmp_path / "inner")
    inner.commit({"in.txt": "1\n"})
    library = Repository(tmp_path / "library")
    library.git(*FILE, "submodule", "--quiet", "add", str(inner.root), "inner")
    library.commit()
    shop.user.git(*FILE, "submodule", "--quiet", "update", "--remote", "lib")
    shop.user.commit()
    stream = (await shop.start("gui")).stream
    there = shop.in_tree(stream)
    shutil.rmtree(there.root / "lib")
    there.git(*FILE, "submodule", "--quiet", "update", "--init", "--recursive")
    edited = there.root / "lib" / "inner" / "in.txt"
    edited.write_text("mine\n")
    done = await drop(shop.repository, shop.streams, stream, tmp_path / "patches")
    assert "in the submodule `lib/inner` is not committed there: `lib/inner/in.txt`" in done.notes[0]
    assert edited.read_text() == "mine\n"


async def test_a_repository_that_somebody_made_and_added_stays_until_it_is_moved(
    shop: Project, tmp_path: Path
) -> None:
    stream, there = await landed(shop)
    made = Repository.start(there.root / "made")
    there.write({"src/b.py": "new\n"})
    there.git("config", "user.name", "Ana")
    there.git("config", "user.email", "ana@example.invalid")
    kept = await remove(shop.repository, shop.streams, replace(stream, state="landed"))
    assert isinstance(kept, Kept)
    does(shlex.join(["sh", "-c", kept.command]))  # as printed: it takes no repository for a file
    assert there.git("show", "--format=", "--name-only", "HEAD").split() == ["src/b.py"]
    made.commit({"v.txt": "only here\n"})
    there.git("add", "made")
    there.git("commit", "--quiet", "--message", "a repository")
    shop.user.git("merge", "--quiet", "--no-ff", "--message", "m", stream.branch)
    kept = await remove(shop.repository, shop.streams, stream)
    assert isinstance(kept, Kept)
    assert kept.why == "the repository `made` has commits there that no remote has"
    does(shlex.join(["sh", "-c", kept.command]))
    assert isinstance(await remove(shop.repository, shop.streams, stream), Removed)
    assert (shop.user.root.parent / "gui-made" / "v.txt").read_text() == "only here\n"


def makes_repository(folder: Path) -> str:
    return Repository.start(folder).commit({"v.txt": "only here\n"})


def ignored(lib: Path) -> Path:
    return lib.parent / "cache" / "made"


def in_plain_files(lib: Path) -> Path:
    return lib / "made"


def in_checked_out(lib: Path) -> Path:
    return checks_out(Repository(lib.parent)).root / "made"


@pytest.mark.parametrize("where", [ignored, in_plain_files, in_checked_out])
async def test_a_repository_that_git_does_not_see_from_outside_stays_until_it_is_moved(
    shop: Project, tmp_path: Path, where: Callable[[Path], Path]
) -> None:
    shop.user.commit({".gitignore": "cache/\n"})
    stream, there = await landed(shop)
    folder = where(there.root / "lib")
    commit = makes_repository(folder)
    if where is in_checked_out:  # its file would be new there
        Repository(there.root / "lib").write({".gitignore": "made/\n.gitignore\n"})
    kept = await remove(shop.repository, shop.streams, stream)
    assert isinstance(kept, Kept)
    assert (
        kept.why == f"the repository `{folder.relative_to(there.root)}` has commits there that no remote has"
    )

    done = await drop(shop.repository, shop.streams, stream, tmp_path / "patches")
    (note,) = [note for note in done.notes if " stays: " in note]
    assert kept.command in note
    does(shlex.join(["sh", "-c", kept.command]))
    done = await drop(shop.repository, shop.streams, stream, tmp_path / "patches")
    assert not there.root.exists()
    assert Repository(shop.user.root.parent / "gui-made").git("show", f"{commit}:v.txt") == "only here\n"


async def test_a_clone_in_an_ignored_folder_that_has_nothing_new_keeps_nothing(shop: Project) -> None:
    shop.user.commit({".gitignore": "cache/\n"})
    stream, there = await landed(shop)
    there.git("clone", "--quiet", str(shop.user.root.parent / "library"), "cache/library")
    (there.root / "cache" / "library" / "lib.txt").write_text("built\n")
    assert isinstance(await remove(shop.repository, shop.streams, stream), Removed)


async def test_of_a_repository_that_the_user_has_too_only_new_commits_count(shop: Project) -> None:
    shop.user.commit({".gitignore": "cache/\n"})
    users = shop.user.root / "cache" / "made"
    makes_repository(users)
    streams = [(await landed(shop))[0], (await shop.start("api")).stream]
    one, two = [shop.in_tree(each).root / "cache" / "made" for each in streams]
    for folder in (one, two):
        shutil.copytree(users, folder)
    commit = Repository(one).commit({"v.txt": "newer\n"})
    kept = await remove(shop.repository, shop.streams, streams[0])
    assert isinstance(kept, Kept)
    does(kept.command)
    assert Repository(users).git("show", f"{commit}:v.txt") == "newer\n"
    assert isinstance(await remove(shop.repository, shop.streams, streams[0]), Removed)
    assert not (await drop(shop.repository, shop.streams, streams[1], shop.user.root / "patches")).notes


async def test_commits_that_a_remote_has_keep_nothing(shop: Project) -> None:
    stream, there = await landed(shop)
    checks_out(there)
    assert isinstance(await remove(shop.repository, shop.streams, stream), Removed)


async def test_edits_in_their_files_are_named_and_kept_as_a_patch(shop: Project, tmp_path: Path) -> None:
    stream, there = await landed(shop)
    run = shop.streams.state / "runs" / stream.run
    folder, patches = run / "guard" / stream.name, run / "patches"
    settings = Settings(shop.repository, "gui", there.root, stream.branch, RULES, folder, patches)
    await inside.remember(settings, stream.base)
    there.write({"lib/lib.txt": "mine\n", "lib/new.txt": "new\n"})
    kept = await remove(shop.repository, shop.streams, stream)
    assert isinstance(kept, Kept)
    assert "(`lib/lib.txt`, `lib/new.txt`)" in kept.why
    assert kept.command == "parallelai work done gui"
    done = await drop(shop.repository, shop.streams, stream, patches)
    assert not there.root.exists()
    (patch,) = patches.glob("gui-*.patch")
    assert str(patch) in done.notes[0]
    assert "+mine" in patch.read_text()


async def test_a_submodule_that_the_index_alone_moved_is_no_change(shop: Project, tmp_path: Path) -> None:
    stream, there = await landed(shop)
    there.git("update-index", "--cacheinfo", f"160000,{'1' * 40},lib")
    other = (await shop.start("api")).stream
    shop.in_tree(other).git("update-index", "--cacheinfo", f"160000,{'1' * 40},lib")

    removed = await remove(shop.repository, shop.streams, stream)
    dropped = await drop(shop.repository, shop.streams, other, tmp_path)

    assert isinstance(removed, Removed)
    assert dropped.patch is None  # it would have taken the submodule away


async def test_an_empty_folder_in_the_place_of_a_file_is_a_change(shop: Project, tmp_path: Path) -> None:
    (shop.user.root / "src").mkdir(exist_ok=True)
    shop.user.commit({"src/a.py": "1\n"})
    stream = (await shop.start("gui")).stream
    there = shop.in_tree(stream)
    (there.root / "src" / "a.py").unlink()
    (there.root / "src" / "a.py").mkdir()

    dropped = await drop(shop.repository, shop.streams, stream, tmp_path)

    assert dropped.patch is not None
    assert "deleted file mode 100644" in dropped.patch.read_text()
