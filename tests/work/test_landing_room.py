"""Disks without room under landings: the checkout stays as it is, and what cannot be cleared hides no landing."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from landing_support import Field
from repositories import Repository, lying

from parallelai.client import AsyncParallelAI
from parallelai.engines.protocol import Capabilities, Port, Request
from parallelai.errors import StoreFullError
from parallelai.git import plumbing
from parallelai.processes import Completed
from parallelai.work.guard import committing
from parallelai.work.landing import room
from parallelai.work.streams import clean
from running import FakeEngine, statuses

EDITS = Capabilities(answers=frozenset({"text", "change"}), edits=True, works_in_folder=True)


class Usage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.fixture
def field(tmp_path: Path) -> Field:
    return Field(tmp_path / "repo", {"a.txt": "1\n", "b.txt": "b\n" * 1000})


def test_a_checkout_without_room_is_left_as_it_is(field: Field, monkeypatch: pytest.MonkeyPatch) -> None:
    one = field.branch("one", {"a.txt": "x" * 5000, "new.txt": "y" * 5000})
    before, tip = lying(field.root), field.tip()
    free = room.SPARE_BYTES + 10_000
    monkeypatch.setattr(room.shutil, "disk_usage", lambda _: Usage(free * 2, free, free - 1))

    arrival = field.land([one])["one"]

    assert arrival.landed is not None
    assert arrival.landed.pending == "parallelai/landing/main"
    assert (field.tip(), lying(field.root), field.status()) == (tip, before, "")
    monkeypatch.setattr(room.shutil, "disk_usage", lambda _: Usage(free * 2, free, free))
    field.land([one])  # exactly so much is enough; what nobody changes is not counted
    assert (field.root / "new.txt").read_text() == "y" * 5000
    assert not field.has("parallelai/landing/main")


def test_a_checkout_with_a_folder_of_somebody_elses_is_left_as_it_is(
    field: Field, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = field.branch("one", {"a.txt": "2\n", "made/by/root.txt": "new\n"})
    made = field.root / "made"
    made.mkdir(mode=0o555)
    may = os.access  # who runs this may write everywhere
    monkeypatch.setattr(room.os, "access", lambda path, mode: Path(path) != made and may(path, mode))
    before, tip = lying(field.root), field.tip()

    arrival = field.land([one])["one"]

    assert arrival.landed is not None
    assert arrival.landed.pending == "parallelai/landing/main"
    assert f"you may not write in `{made}`: change its rights, then `git merge" in arrival.notes[-1]
    assert (field.tip(), lying(field.root), field.status()) == (tip, before, "")
    made.chmod(0o755)
    monkeypatch.undo()
    field.land([one])
    assert (made / "by" / "root.txt").read_text() == "new\n"


@pytest.mark.parametrize("flag", ["i", "a"])
def test_a_checkout_with_an_immutable_file_is_left_as_it_is(field: Field, flag: str) -> None:
    one = field.branch("one", {"a.txt": "2\n", "b.txt": "2\n"})
    before, tip = lying(field.root), field.tip()
    if not chattr(f"+{flag}", field.root / "b.txt"):
        pytest.skip("no file can be made immutable here")
    try:
        arrival = field.land([one])["one"]
    finally:
        chattr(f"-{flag}", field.root / "b.txt")

    assert arrival.landed is not None
    assert "`b.txt` is immutable: lift that (`chattr -ia`), then `git merge --ff-only" in arrival.notes[-1]
    assert (field.tip(), lying(field.root), field.status()) == (tip, before, "")
    field.checkout.git("merge", "-q", "--ff-only", "parallelai/landing/main")
    assert (field.root / "b.txt").read_text() == "2\n"


def chattr(change: str, path: Path) -> bool:
    try:
        return subprocess.run(["chattr", change, str(path)], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def test_a_branch_that_cannot_be_moved_for_want_of_room_is_no_race(
    field: Field, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = b"fatal: cannot lock ref: Unable to create 'x.lock': No space left on device\n"

    def full(*words: Any, **more: Any) -> Completed:
        return Completed(exit=128, signal=None, stdout=b"", stderr=said, seconds=0.0, peak_memory_bytes=0)

    monkeypatch.setattr(plumbing, "run_quick", full)
    with pytest.raises(StoreFullError, match="No space left"):
        field.run(field.repository.move("refs/heads/x", field.base, None, "x"))


def test_two_worktrees_may_bring_the_same_object_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "ab" + "0" * 38
    source, target = tmp_path / "source", tmp_path / "target"
    for folder in (source / "ab", target):
        folder.mkdir(parents=True)
    (source / "ab" / name[2:]).write_bytes(b"object")
    both = threading.Barrier(2)
    copy = shutil.copyfile

    def slow(one: Path, other: Path) -> None:
        copy(one, other)
        both.wait(60)  # each has its copy, before either puts it in place

    monkeypatch.setattr(committing.shutil, "copyfile", slow)
    failures: list[BaseException] = []

    def bring() -> None:
        try:
            committing._bring(source, target, [name])
        except OSError as error:
            failures.append(error)

    threads = [threading.Thread(target=bring) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert [path.name for path in (target / "ab").iterdir()] == [name[2:]]


async def test_a_worktree_that_cannot_be_cleared_is_still_landed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = Repository.start(tmp_path / "project")
    user.git("config", "user.name", "Ana")
    user.git("config", "user.email", "ana@example.invalid")
    user.commit({"a.txt": "a\n"})

    async def answer(request: Request, port: Port) -> str:
        (Path(request.root) / "one.txt").write_text("one\n")
        return "done"

    async def full(*words: Any, **more: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "index")

    monkeypatch.setattr(clean, "remove", full)
    plan = {"workstreams": {"one": {"description": "One", "owns": "one.txt"}}}
    async with AsyncParallelAI(user.root, engines=[FakeEngine(answer=answer, capabilities=EDITS)]) as ai:
        document = await ai.execute(plan, engine="fake")
    assert statuses(document) == {"one": "ok"}, document.tasks
    assert (user.root / "one.txt").read_text() == "one\n"
    assert (tmp_path / "project-worktrees" / "one" / "one.txt").exists()
