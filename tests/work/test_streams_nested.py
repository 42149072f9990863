"""Repositories in ignored folders of a worktree: whatever form they have, what is in them alone is not removed."""

from __future__ import annotations

import errno
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from repositories import Repository
from streams_support import Project, project

from parallelai.errors import UsageError
from parallelai.work.sheltering import folder_of
from parallelai.work.streams import inner
from parallelai.work.streams.clean import Removed, drop, remove
from parallelai.work.streams.inner import Unsafe
from parallelai.work.streams.kept import Kept
from parallelai.work.streams.places import Place
from parallelai.work.streams.record import Stream

FILE = ("-c", "protocol.file.allow=always")


@pytest.fixture
async def shop(tmp_path: Path) -> Project:
    """A checkout that ignores `cache/`, beside a library that others have."""
    library = Repository.start(tmp_path / "library")
    library.commit({"lib.txt": "1\n"})
    made = await project(tmp_path)
    made.user.commit({".gitignore": "cache/\n"})
    return made


async def landed(shop: Project) -> tuple[Stream, Path]:
    """A workstream whose work the target has, with its ignored folder."""
    stream = (await shop.start("gui")).stream
    there = shop.in_tree(stream)
    there.commit({"src/a.py": "new\n"})
    shop.user.git("merge", "--quiet", "--no-ff", "--message", "m", stream.branch)
    (there.root / "cache").mkdir()
    return stream, there.root / "cache"


def cloned(cache: Path, *options: str) -> Repository:
    library = cache.parent.parent.parent / "library"
    Repository(cache).git(*FILE, "clone", "--quiet", *options, f"file://{library}", "clone")
    return Repository(cache / "clone")


def follow(command: str) -> None:
    subprocess.run(["sh", "-ec", command], check=True, capture_output=True)


# -- where commits may be


def with_an_own_tag(cache: Path) -> str:
    made = Repository.start(cache / "made")
    commit = made.commit({"v.txt": "only here\n"})
    made.git("tag", "v1")
    return commit


def with_an_own_tag_in_a_clone(cache: Path) -> str:
    clone = cloned(cache)
    commit = clone.commit({"v.txt": "only here\n"})
    clone.git("tag", "v1")
    clone.git("reset", "--quiet", "--hard", "HEAD~1")
    return commit


def with_an_older_stash(cache: Path) -> str:
    clone = cloned(cache)
    for text in ("older\n", "newer\n"):
        clone.write({"lib.txt": text})
        clone.git("stash")
    clone.git(*FILE, "push", "--quiet", "origin", "refs/stash:refs/heads/newer")
    return clone.git("rev-parse", "stash@{1}").strip()


def with_notes(cache: Path) -> str:
    clone = cloned(cache)
    clone.git("notes", "add", "--message", "only here")
    return clone.git("rev-parse", "refs/notes/commits").strip()


def bare(cache: Path) -> str:
    store = Repository.start(cache / "store.git", "--bare")
    clone = cloned(cache)
    commit = clone.commit({"v.txt": "only here\n"})
    clone.git(*FILE, "push", "--quiet", str(store.root), "HEAD:refs/heads/main")
    shutil.rmtree(clone.root)
    return commit


def with_its_git_folder_beside(cache: Path) -> str:
    made = Repository.start(cache / "made", "--separate-git-dir", str(cache / "store"))
    return made.commit({"v.txt": "only here\n"})


def with_its_git_folder_behind_a_link(cache: Path) -> str:
    made = Repository.start(cache / "made")
    commit = made.commit({"v.txt": "only here\n"})
    (made.root / ".git").rename(cache / "store")
    (made.root / ".git").symlink_to("../store")
    return commit


def in_a_worktree_of_its_own(cache: Path) -> str:
    cloned(cache).git("worktree", "add", "--quiet", "--detach", "../other")
    return Repository(cache / "other").commit({"v.txt": "only here\n"})


WHERE = [
    with_an_own_tag,
    with_an_own_tag_in_a_clone,
    with_an_older_stash,
    with_notes,
    bare,
    with_its_git_folder_beside,
    with_its_git_folder_behind_a_link,
    in_a_worktree_of_its_own,
]


@pytest.mark.parametrize("where", WHERE)
async def test_commits_of_a_repository_that_are_nowhere_else_stay(
    shop: Project, where: Callable[[Path], str]
) -> None:
    stream, cache = await landed(shop)
    commit = where(cache)
    kept = await remove(shop.repository, shop.streams, stream)
    assert isinstance(kept, Kept)
    assert "has commits there that no remote has" in kept.why
    follow(kept.command)
    assert isinstance(await remove(shop.repository, shop.streams, stream), Removed)
    saved = next(shop.user.root.parent.glob("gui-*"))
    assert Repository(saved).git("cat-file", "-t", commit) == "commit\n"


async def test_a_worktree_of_the_users_that_lies_in_one_stays(shop: Project, tmp_path: Path) -> None:
    stream, cache = await landed(shop)
    shop.user.git("worktree", "add", "--quiet", "--detach", str(cache / "mine"))
    commit = Repository(cache / "mine").commit({"v.txt": "only here\n"})
    done = await drop(shop.repository, shop.streams, stream, tmp_path / "patches")
    (note,) = done.notes
    assert "another worktree of yours lies in it: `cache/mine`" in note
    follow(f"cd {shlex.quote(str(shop.user.root))} && {note.split('`')[5]}")
    assert not (await drop(shop.repository, shop.streams, stream, tmp_path / "patches")).notes
    assert Repository(tmp_path / "gui-mine").git("rev-parse", "HEAD").strip() == commit


@pytest.mark.parametrize("options", [(), ("--bare",), ("--mirror",), ("--depth=1", "--branch=v1")])
async def test_a_mere_copy_keeps_nothing(shop: Project, tmp_path: Path, options: tuple[str, ...]) -> None:
    library = Repository(tmp_path / "library")
    library.commit({"lib.txt": "2\n"})
    library.git("tag", "v1")
    stream, cache = await landed(shop)
    cloned(cache, *options)
    assert isinstance(await remove(shop.repository, shop.streams, stream), Removed)


FETCHED = "git init --quiet made && cd made && git fetch --quiet --depth=1 {} main && git checkout --quiet FETCH_HEAD"


@pytest.mark.parametrize(("source", "kind"), [("file://{}", Removed), ("{}", Kept)])
async def test_nor_does_one_of_what_was_fetched_by_a_remotes_address(
    shop: Project, tmp_path: Path, source: str, kind: type[Kept | Removed]
) -> None:
    """As tools do that bring one commit (`FETCH_HEAD`); a path may be that of a folder that is removed, too."""
    stream, cache = await landed(shop)
    follow(
        f"cd {shlex.quote(str(cache))} && {FETCHED.format(shlex.quote(source.format(tmp_path / 'library')))}"
    )
    assert isinstance(await remove(shop.repository, shop.streams, stream), kind)


async def test_nor_does_a_bare_repository_whose_files_git_has(shop: Project) -> None:
    stream = (await shop.start("gui")).stream
    there = shop.in_tree(stream)
    store = Repository.start(there.root / "src" / "fixture.git", "--bare")
    made = Repository.start(there.root.parent / "made")
    made.commit({"v.txt": "1\n"})
    made.git(*FILE, "push", "--quiet", str(store.root), "HEAD:refs/heads/main")
    there.commit()
    shop.user.git("merge", "--quiet", "--no-ff", "--message", "m", stream.branch)
    assert isinstance(await remove(shop.repository, shop.streams, stream), Removed)


async def test_what_is_committed_in_one_while_it_is_removed_stays(
    shop: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream, cache = await landed(shop)
    made = Repository.start(cache / "made")
    looks = inner.unsafe

    async def late(place: Place, stream: Stream, commit: str, shelter: Path | None = None) -> Unsafe | None:
        found = await looks(place, stream, commit, shelter)
        if place.path == Path(stream.worktree):
            made.commit({"v.txt": "only here\n"})
        return found

    monkeypatch.setattr(inner, "unsafe", late)
    kept = await remove(shop.repository, shop.streams, stream)
    assert isinstance(kept, Kept)
    assert kept.why == "it was changed while it was to be removed"
    assert (made.root / "v.txt").read_text() == "only here\n"


async def test_a_folder_that_cannot_be_read_stays(shop: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    stream, cache = await landed(shop)

    def refused(_: object, onerror: Callable[[OSError], None]) -> list[object]:  # of root nothing is refused
        onerror(PermissionError(errno.EACCES, "no", str(cache)))
        return []

    monkeypatch.setattr("parallelai.work.streams.nested.os.walk", refused)
    kept = await remove(shop.repository, shop.streams, stream)
    assert isinstance(kept, Kept)
    assert kept.why == "nobody can say what is in `cache`, which cannot be read"
    assert kept.command == f"chmod u+rwx {cache}"


# -- what is in git's own folder of a worktree


@pytest.fixture
async def gone(shop: Project) -> tuple[Stream, Path]:
    """A worktree that somebody deleted, and in git's folder of it a submodule with a commit that is nowhere else."""
    library = shop.user.root.parent / "library"
    shop.user.git(*FILE, "submodule", "--quiet", "add", str(library), "lib")
    shop.user.commit()
    stream, _ = await landed(shop)
    there = shop.in_tree(stream)
    shutil.rmtree(there.root / "lib")
    there.git(*FILE, "submodule", "--quiet", "update", "--init")
    Repository(there.root / "lib").commit({"lib.txt": "mine\n"})
    folder = Path(there.git("rev-parse", "--absolute-git-dir").strip()) / "modules" / "lib"
    shutil.rmtree(there.root)
    return stream, folder


async def test_commits_in_the_submodules_of_a_worktree_that_is_gone_stay(
    shop: Project, gone: tuple[Stream, Path], tmp_path: Path
) -> None:
    stream, folder = gone
    kept = await remove(shop.repository, shop.streams, stream)
    assert isinstance(kept, Kept)
    assert kept.why == "the submodule `lib` has commits there that no remote has"
    done = await drop(shop.repository, shop.streams, stream, tmp_path / "patches")
    assert any(kept.command in note for note in done.notes)
    assert folder.is_dir()
    follow(kept.command)
    done = await drop(shop.repository, shop.streams, stream, tmp_path / "patches")
    assert not folder.exists()


async def test_nor_do_they_go_when_it_is_made_again(shop: Project, gone: tuple[Stream, Path]) -> None:
    stream, folder = gone
    with pytest.raises(
        UsageError, match="the submodule `lib` has commits there that no remote has"
    ) as caught:
        await shop.start("gui")
    assert folder.is_dir()
    follow((caught.value.next or "").strip("`"))
    assert (await shop.start("gui")).stream.name == stream.name
    assert shop.in_tree(stream).git("status", "--porcelain") == ""


@pytest.fixture
async def detached(shop: Project) -> tuple[Stream, str]:
    """A worktree that somebody deleted after they had committed there on no branch."""
    stream, _ = await landed(shop)
    there = shop.in_tree(stream)
    there.git("switch", "--quiet", "--detach")
    commit = there.commit({"src/a.py": "only here\n"})
    shutil.rmtree(there.root)
    return stream, commit


async def test_a_commit_on_no_branch_stays_where_the_worktree_is_gone(
    shop: Project, detached: tuple[Stream, str]
) -> None:
    stream, commit = detached
    kept = await remove(shop.repository, shop.streams, stream)
    assert isinstance(kept, Kept)
    assert kept.why == "its worktree is gone, and what was committed on no branch would be lost"
    follow(f"cd {shlex.quote(str(shop.user.root))} && {kept.command}")
    assert isinstance(await remove(shop.repository, shop.streams, stream), Removed)
    assert shop.user.git("branch", "--contains", commit).strip() == f"gui-{commit[:10]}"


async def test_and_where_it_is_dropped(shop: Project, detached: tuple[Stream, str], tmp_path: Path) -> None:
    stream, commit = detached
    done = await drop(shop.repository, shop.streams, stream, tmp_path / "patches")
    (note,) = [note for note in done.notes if "on no branch is kept in git" in note]
    follow(f"cd {shlex.quote(str(shop.user.root))} && {note.split('`')[1]}")
    assert shop.user.git("branch", "--contains", commit).strip().startswith("gui-")


async def test_and_where_it_is_made_again(shop: Project, detached: tuple[Stream, str]) -> None:
    stream, commit = detached
    started = await shop.start("gui")
    (note,) = [note for note in started.notes if "on no branch is kept in git" in note]
    follow(f"cd {shlex.quote(str(shop.user.root))} && {note.split('`')[1]}")
    assert shop.user.git("branch", "--contains", commit).strip().startswith("gui-")
    assert shop.in_tree(stream).git("branch", "--show-current").strip() == stream.branch


async def test_commits_in_submodules_that_a_killed_sandbox_had_stay(
    shop: Project, gone: tuple[Stream, Path], tmp_path: Path
) -> None:
    stream, folder = gone
    commit = Repository(folder).git("--work-tree=.", "rev-parse", "HEAD").strip()
    in_sandbox = folder_of(shop.streams.state, stream.name) / "admin" / "modules"
    in_sandbox.parent.mkdir(parents=True)
    folder.parent.rename(in_sandbox)
    await shop.start("gui")
    kept = await remove(shop.repository, shop.streams, stream)
    assert isinstance(kept, Kept)
    done = await drop(shop.repository, shop.streams, stream, tmp_path / "patches")
    assert any(kept.command in note for note in done.notes)
    follow(kept.command)
    assert isinstance(await remove(shop.repository, shop.streams, stream), Removed)
    assert not in_sandbox.exists()
    assert Repository(shop.user.root / "lib").git("cat-file", "-t", commit) == "commit\n"
