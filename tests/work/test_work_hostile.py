"""Changes and records that want to reach further than they may."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from work_support import Hands, make_repository

from parallelai import AsyncParallelAI, Task
from parallelai.engines.protocol import Request
from parallelai.errors import UsageError
from parallelai.records import Outcome, RunDocument
from parallelai.work.checkout.pending import load

KEY = "sk-" + "a1" * 20
PRIVATE = "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\n"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return make_repository(tmp_path / "repo", {"a.txt": "a\n"})


async def edited(repository: Path, act: object, *ids: str) -> RunDocument:
    async with AsyncParallelAI(repository, engines=[Hands(act)]) as ai:  # type: ignore[arg-type]
        tasks = [Task(id=name, description="x", engine="hands", edits=True) for name in ids or ("t",)]
        return await ai.execute(tasks=tasks)


def one_file(request: Request, root: Path) -> str:
    (root / f"{request.task[:20]}.txt").write_text("new\n")
    return "done"


async def test_a_state_that_came_with_a_checkout_is_not_applied(repository: Path, tmp_path: Path) -> None:
    await edited(repository, one_file)
    copy = tmp_path / "copy"
    shutil.copytree(repository, copy, symlinks=True)
    async with AsyncParallelAI(copy) as ai:
        for call in (ai.changes.apply, ai.changes.unapply):
            with pytest.raises(UsageError, match="not recorded here"):
                await call()
        with pytest.raises(UsageError, match="not recorded here"):
            ai.changes.diff()
    assert not (copy / "t.txt").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"write": ".git/hooks/pre-commit"},
        {"write": "../x"},
        {"beside": ".."},
        {"beside": "/tmp"},
        {"old": "evil.sh"},
        {"new": "../x"},
    ],
    ids=str,
)
def test_a_record_that_is_not_ours_is_none(tmp_path: Path, change: dict[str, str]) -> None:
    name = ".parallelai-0123456789ab-0"
    step = {"write": "q", "beside": ".", "new": f"{name}.new", "old": f"{name}.old", "is_there": False}
    record = {"version": 1, "steps": [step], "folders": [], "modes": {}}
    (tmp_path / "record.json").write_text(json.dumps(record))
    assert load(tmp_path) is not None
    step.update(change)
    (tmp_path / "record.json").write_text(json.dumps(record))
    assert load(tmp_path) is None


async def test_records_of_tasks_do_not_meet(repository: Path) -> None:
    ids = ("t", "t.undo", "lock", "x" * 100)
    document = await edited(repository, one_file, *ids)
    assert document.exit == 0
    async with AsyncParallelAI(repository) as ai:
        assert [one.why for one in await ai.changes.apply()] == [None] * len(ids)
        for name in ids:
            (undone,) = await ai.changes.unapply(tasks=[name])
            assert (undone.task, undone.why) == (name, None)
    assert sorted(path.name for path in repository.glob("*.txt")) == ["a.txt"]


async def test_a_name_that_is_no_text_is_kept_out(repository: Path) -> None:
    def act(request: Request, root: Path) -> str:
        (root / "b.txt").write_text("b\n")
        Path(os.fsdecode(os.fsencode(root) + b"/\xff.py")).write_text("x\n")
        return "done"

    document = await edited(repository, act)
    change = document.tasks[0].change
    assert change is not None
    assert (change.files, change.kept_out) == (("b.txt",), ("\\udcff.py",))
    async with AsyncParallelAI(repository) as ai:
        (applied,) = await ai.changes.apply()
        assert applied.why is None
        await ai.changes.unapply()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("b.txt", PRIVATE.encode()),
        ("b.txt", f"++ {KEY}\n".encode()),
        ("b.txt", f"x\x0c{KEY}".encode()),
        ("b.txt", f"x\r{KEY}".encode()),
        ("b.bin", b"\0" + KEY.encode()),
        ("b.txt", KEY.encode("utf-16")),
        (f"{KEY}.txt", b"x\n"),
    ],
    ids=["private key", "pluses", "form feed", "return", "zero", "utf-16", "name"],
)
async def test_a_secret_is_found_however_it_is_written(repository: Path, name: str, data: bytes) -> None:
    def act(request: Request, root: Path) -> str:
        (root / name).write_bytes(data)
        return "done"

    document = await edited(repository, act)
    assert document.tasks[0].status is Outcome.BLOCKED
    assert document.tasks[0].error is not None
    assert document.tasks[0].error.kind == "trespass"


async def test_a_secret_that_was_there_before_blocks_nothing(repository: Path) -> None:
    (repository / "fixture.txt").write_text(f"{KEY}\n")
    (repository / "other.txt").write_text(f"{KEY[:-1]}z\n")

    def act(request: Request, root: Path) -> str:
        (root / "fixture.txt").write_text(f"{KEY}\nmore\n")
        (root / "other.txt").rename(root / "moved.txt")
        return "done"

    assert (await edited(repository, act)).exit == 0


async def test_pipes_that_git_would_read_do_not_hang_a_run(repository: Path) -> None:
    def act(request: Request, root: Path) -> str:
        (root / "src").mkdir()
        os.mkfifo(root / "src/.gitignore")
        os.mkfifo(root / ".gitattributes")
        (root / "src/b.txt").write_text("b\n")
        return "done"

    document = await edited(repository, act)
    assert document.tasks[0].change is not None
    assert document.tasks[0].change.files == ("src/b.txt",)


async def test_devices_behind_links_do_not_fill_the_memory(repository: Path) -> None:
    (repository / ".gitattributes").symlink_to("/dev/zero")
    (repository / ".worktreeinclude").symlink_to("/dev/zero")
    assert (await edited(repository, one_file)).exit == 0
