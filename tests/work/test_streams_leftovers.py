"""What an attempt or a check left in a worktree: taken out of it, and kept however much it is."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from repositories import Repository
from streams_support import Project, project

from parallelai.errors import NotFoundError
from parallelai.git.plumbing import GitError
from parallelai.work import leftovers
from parallelai.work.streams import left as left_commits
from parallelai.work.streams import taking_back
from parallelai.work.streams.clean import removable
from parallelai.work.streams.record import Stream
from parallelai.work.streams.taking_back import small_enough


@pytest.mark.parametrize("most", [10, 10_000_000])
async def test_what_is_too_much_for_a_patch_is_kept_as_a_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(taking_back, "MOST_PATCH_BYTES", most)
    shop = await project(tmp_path, {"src/a.py": "a\n", "src/gone.py": "gone\n"})
    stream = (await shop.start("gui")).stream
    there = shop.in_tree(stream)
    (there.root / "src/gone.py").unlink()
    there.write({"src/a.py": "half\n", "src/big.bin": b"\0" * 4000})

    for _ in range(2):  # a process that was killed in between does the same again
        left = await leftovers.take_out(
            shop.repository, stream, "attempt", tmp_path / "patches", is_whole=True
        )

        assert left is not None
        assert there.git("status", "--porcelain") == ""
        assert (there.root / "src/a.py").read_text() == "a\n"
        if left.patch is not None:
            there.git("apply", str(shop.user.root / left.patch))
        else:
            ref = left.why.partition("--source=")[2].partition(" ")[0]
            there.git("restore", f"--source={ref}", "--", ".")
        assert (there.root / "src/big.bin").read_bytes() == b"\0" * 4000
        assert (there.root / "src/a.py").read_text() == "half\n"
        assert not (there.root / "src/gone.py").exists()
    assert (left.patch is None) == (most == 10)
    kept = (await removable(shop.repository, shop.streams)).kept
    listed = [each.command for each in kept if each.command.startswith("git branch gui-")]
    assert len(listed) == (most == 10)
    for command in listed:  # `work clean` tells of it, and the command brings it back
        there.git(*command.split()[1:])
        assert there.git("cat-file", "-s", f"{command.split()[2]}:src/big.bin").strip() == "4000"
    shop.streams.path("gui").unlink()  # and also once nobody knows the workstream any more
    known = (await removable(shop.repository, shop.streams)).kept
    assert [(each.name, each.command) for each in known] == [("gui", command) for command in listed]
    refs = await left_commits.listed(shop.repository)
    assert [each.run for each in refs] == ["r-1"] * len(listed)
    await left_commits.let_go_of_runs(shop.repository, ("r-2",))
    assert await left_commits.listed(shop.repository) == refs
    await left_commits.let_go_of_runs(shop.repository, ("r-1",))
    assert await left_commits.listed(shop.repository) == []


def test_what_is_kept_in_git_is_known_by_its_workstream_and_by_its_own_name() -> None:
    old = left_commits.Left(f"{left_commits.LEFT}my-gui-0123456789ab", "c1")
    new = left_commits.Left(f"{left_commits.LEFT}r-1/gui-abcdefabcdef", "c2")
    assert [(each.run, each.name, each.id) for each in (old, new)] == [
        (None, "my-gui", "my-gui-0123456789ab"),
        ("r-1", "gui", "gui-abcdefabcdef"),
    ]
    found = [old, new]
    assert left_commits.chosen(found, ["gui"]) == [new]
    assert left_commits.chosen(found, ["my-gui-0123456789ab", "my-*"]) == [old]
    assert left_commits.chosen(found, ["*"]) == found
    with pytest.raises(NotFoundError, match="`x`"):
        left_commits.chosen(found, ["gui", "x"])


async def test_a_file_that_git_has_lost_is_told_before_anything_is_taken_back(tmp_path: Path) -> None:
    shop = await project(tmp_path, {"src/a.py": "a\n"})
    stream = (await shop.start("gui")).stream
    there = shop.in_tree(stream)
    blob = there.git("rev-parse", "HEAD:src/a.py").strip()
    there.write({"src/a.py": "half\n"})
    (shop.user.root / ".git/objects" / blob[:2] / blob[2:]).unlink()

    with pytest.raises(GitError, match=f"no object `{blob}`"):
        await leftovers.take_out(shop.repository, stream, "attempt", tmp_path / "patches", is_whole=True)
    assert (there.root / "src/a.py").read_text() == "half\n"


@dataclass
class Stopped:
    """A worktree whose attempt changed a file, removed one, and was stopped."""

    shop: Project
    stream: Stream

    @classmethod
    async def begin(cls, folder: Path) -> Stopped:
        files: dict[str, str | bytes] = {"src/a.py": "a\n", "src/gone.py": "gone\n", ".gitignore": "*.swp\n"}
        shop = await project(folder, files)
        stream = (await shop.start("gui")).stream
        there = shop.in_tree(stream)
        (there.root / "src/gone.py").unlink()
        there.write({"src/a.py": "half\n"})
        return cls(shop, shop.streams.update("gui", lambda it: replace(it, left_at=_later(there.root))))

    @property
    def there(self) -> Repository:
        return self.shop.in_tree(self.stream)

    async def is_a_persons(self) -> bool:
        return await leftovers.is_a_persons(self.shop.repository, self.stream)


def _later(root: Path) -> float:
    """A time that is later than all that has happened in a folder; what comes next is later still."""
    probe = root.parent / "probe"
    while True:
        probe.write_text("")
        at = time.time()
        while probe.stat().st_ctime <= at:
            probe.write_text("again")
        return at


async def test_what_comes_without_a_person_is_nobodys_edit(tmp_path: Path) -> None:
    stopped = await Stopped.begin(tmp_path)
    (stopped.there.root / "src/.a.swp").write_text("")  # ignored, and the folder is newer for it
    assert not await stopped.is_a_persons()
    (stopped.there.root / "src/a.py").write_text("mine\n")
    assert await stopped.is_a_persons()


async def test_a_file_that_a_person_removed_is_seen(tmp_path: Path) -> None:
    stopped = await Stopped.begin(tmp_path)
    (stopped.there.root / "src/a.py").unlink()
    assert await stopped.is_a_persons()


async def test_a_commit_within_the_second_of_the_stop_is_seen(tmp_path: Path) -> None:
    stopped = await Stopped.begin(tmp_path)
    stopped.there.commit()
    second = int(stopped.there.git("log", "-1", "--format=%ct"))
    for after, is_seen in ((0.9, True), (1.0, False)):
        stopped.stream = replace(stopped.stream, left_at=second + after)
        assert await stopped.is_a_persons() == is_seen


def test_of_what_a_check_left_small_files_are_kept_and_not_too_many_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(taking_back, "MOST_PATCH_BYTES", 2_500_000)
    sizes = {"a": 900_000, "build": 5_000_000, "b": 900_000, "c": 900_000, "d": 1}
    assert small_enough(sizes) == ("a", "b", "d")
    assert len(small_enough({str(number): 1 for number in range(5000)})) == taking_back.MOST_KEPT
