"""What an assistant's git took out of a scratch folder's files (`sparse-checkout`) is work, and no deletion."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from repositories import Repository

from parallelai.work.scratch import folders
from parallelai.work.scratch.folders import Folder, Measure
from parallelai.work.scratch.snapshot import Snapshot, take_snapshot

FILES: dict[str, str | bytes] = {"src/a": "1\n", "docs/x": "1\n", "docs/deep/y": "1\n", "README": "1\n"}
SHOWN = [("--cone", "src"), ("--cone", "--sparse-index", "src"), ("--no-cone", "/src/")]


@pytest.fixture
async def snapshot(tmp_path: Path) -> Snapshot:
    repository = Repository.start(tmp_path / "r")
    repository.commit(FILES)
    return await take_snapshot(repository.root, tmp_path / "private" / "base.git")


async def cut(snapshot: Snapshot, *wanted: str) -> tuple[Folder, Repository]:
    home = snapshot.repository.parent
    folder = await folders.check_out(
        snapshot, snapshot.commit, home / "w", home / "indexes" / "w", wanted=wanted
    )
    await folders.make_repository(snapshot, folder)
    return folder, Repository(folder.path)


async def content(snapshot: Snapshot, measured: Measure, path: str) -> bytes:
    return await snapshot.git.run("cat-file", "blob", f"{measured.commit}:{path}")


def hide(own: Repository, files: dict[str, str | bytes], *, committed: bool) -> None:
    own.write(files)
    own.git("add", "--sparse", *files)
    if committed:
        own.git("commit", "--quiet", "--message", "own")
    own.git("sparse-checkout", "reapply")


@pytest.mark.parametrize("wanted", [(), ("src/**",)])
@pytest.mark.parametrize("shown", SHOWN)
@pytest.mark.parametrize("committed", [False, True])
async def test_what_was_added_there_is_part_of_the_change(
    snapshot: Snapshot, wanted: tuple[str, ...], shown: tuple[str, ...], committed: bool
) -> None:
    folder, own = await cut(snapshot, *wanted)
    own.git("sparse-checkout", "set", *shown)
    hide(own, {"docs/new": "mine\n", "src/a": "2\n"}, committed=committed)
    assert not (folder.path / "docs").exists()
    measured = await folders.measure(snapshot, folder)
    assert (measured.files, measured.kept_out) == (("docs/new", "src/a"), ())
    assert await content(snapshot, measured, "docs/new") == b"mine\n"
    assert (await folders.measure(snapshot, folder)).files == ("docs/new", "src/a")


async def test_nor_is_it_lost_from_an_index_in_two_parts(snapshot: Snapshot) -> None:
    folder, own = await cut(snapshot)
    own.git("sparse-checkout", "set", "--no-cone", "/src/")
    own.git("update-index", "--split-index")
    hide(own, {"docs/new": "mine\n"}, committed=True)
    assert (await folders.measure(snapshot, folder)).files == ("docs/new",)


async def test_what_nobody_has_read_is_kept_out_there_too(snapshot: Snapshot) -> None:
    folder, own = await cut(snapshot, "src/**")
    own.git("sparse-checkout", "set", "--no-cone", "/src/")
    hide(own, {"docs/x": "mine\n"}, committed=True)
    measured = await folders.measure(snapshot, folder)
    assert (measured.files, measured.kept_out, measured.unseen) == ((), ("docs/x",), ("docs/x",))


async def test_what_has_no_place_is_named_and_nothing_is_written_behind_a_link(
    snapshot: Snapshot, tmp_path: Path
) -> None:
    folder, own = await cut(snapshot)
    own.git("sparse-checkout", "set", "--no-cone", "/src/")
    hide(own, {"new/x": "mine\n", "other/x": "mine\n"}, committed=True)
    (tmp_path / "beside").mkdir()
    (folder.path / "new").symlink_to(tmp_path / "beside")
    measured = await folders.measure(snapshot, folder)
    assert (measured.files, measured.kept_out) == (("other/x",), ("new", "new/x"))
    assert list((tmp_path / "beside").iterdir()) == []


async def test_a_removal_stays_one(snapshot: Snapshot) -> None:
    folder, own = await cut(snapshot)
    own.git("sparse-checkout", "set", "--no-cone", "/src/")
    own.git("rm", "--quiet", "--sparse", "docs/x")
    assert (await folders.measure(snapshot, folder)).files == ("docs/x",)


async def test_no_other_repository_is_looked_at(snapshot: Snapshot, tmp_path: Path) -> None:
    folder, own = await cut(snapshot)
    other = Repository.start(tmp_path / "other")
    other.commit({"src/a": "1\n", "secret": "theirs\n"})
    other.git("sparse-checkout", "set", "--no-cone", "/src/")
    (own.root / ".git").rename(tmp_path / "aside")
    os.symlink(other.root / ".git", own.root / ".git")
    assert (await folders.measure(snapshot, folder)).files == ()
