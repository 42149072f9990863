"""The user's checkout: all or nothing, whatever happens meanwhile, and nothing of the user's is lost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from work_support import Hands, git, make_repository

from parallelai import AsyncParallelAI, Task
from parallelai.engines.protocol import Request
from parallelai.work import checkout
from parallelai.work.checkout import Checkout, Content, NotWritten, Write, read

PROGRAM = Path(__file__).with_name("checkout_program.py")


def test_a_process_killed_at_any_step_leaves_all_or_nothing(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    done = subprocess.run(
        [sys.executable, PROGRAM, tmp_path / "root", tmp_path / "records"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    steps, undo_steps = (int(word) for word in done.stdout.split())
    assert steps > 30
    assert undo_steps > 30


def write(root: Path, folder: Path, after: dict[str, bytes | None]) -> None:
    writes = [
        Write(path, read(root, path), None if data is None else Content(data, 0o644))
        for path, data in after.items()
    ]
    Checkout(root, folder).write("t", writes)


def test_a_full_disk_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "a").write_text("a\n")
    put, count = checkout._put, 0

    for room in range(12):
        count = 0

        def full(path: Path, data: bytes, mode: str = "wb", room: int = room) -> None:
            nonlocal count
            count += 1
            if count > room:
                raise OSError(28, "No space left on device")
            put(path, data, mode)

        monkeypatch.setattr(checkout, "_put", full)
        try:
            write(root, tmp_path / "records", {"a": b"2\n", "b": b"new\n", "c/d": b"new\n"})
            break
        except NotWritten as error:
            assert "No space left" in error.said
            assert sorted(str(p.relative_to(root)) for p in root.rglob("*")) == ["a"]
            assert (root / "a").read_text() == "a\n"
    else:
        pytest.fail("it was never written")
    assert (root / "c/d").read_text() == "new\n"


def test_what_the_user_saves_in_the_middle_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's editor writes between the look at a file and its replacement."""
    root = tmp_path / "root"
    root.mkdir()
    for name in ("a", "b"):
        (root / name).write_text(f"{name}\n")
    mark = checkout._mark

    def edited(record: Path, state: str) -> None:
        mark(record, state)
        if state == checkout.APPLYING:
            (root / "b").write_text("by the user\n")

    monkeypatch.setattr(checkout, "_mark", edited)
    with pytest.raises(NotWritten) as caught:
        write(root, tmp_path / "records", {"a": b"2\n", "b": b"2\n", "c": b"2\n"})
    assert caught.value.paths == ("b",)
    found = {path.name: path.read_text() for path in root.iterdir()}
    assert found == {"a": "a\n", "b": "by the user\n"}


@pytest.mark.parametrize("path", [".git/config", "sub/.GIT/hooks/x", "../x", "/tmp/x", "out/x"])
def test_nothing_is_written_outside(tmp_path: Path, path: str) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (root / "out").symlink_to(outside)
    with pytest.raises(NotWritten):
        write(root, tmp_path / "records", {path: b"x"})
    assert not list(outside.iterdir())


NAMES = st.sampled_from(["a", "b", "d/c", "d/e/f", "g"])
TEXTS = st.binary(max_size=20)


@settings(max_examples=60, deadline=None)
@given(before=st.dictionaries(NAMES, TEXTS), after=st.dictionaries(NAMES, st.none() | TEXTS))
def test_undo_gives_back_byte_by_byte(
    tmp_path_factory: pytest.TempPathFactory, before: dict[str, bytes], after: dict[str, bytes | None]
) -> None:
    top = tmp_path_factory.mktemp("undo")
    root = top / "root"
    root.mkdir()
    for path, data in before.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)

    def state() -> dict[str, bytes]:
        return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}

    write(root, top / "records", after)
    assert state() == {path: data for path, data in {**before, **after}.items() if data is not None}
    Checkout(root, top / "records").undo("t")
    assert state() == before
    assert not list((top / "records").iterdir())


# -- changes of runs, applied while the user works


TEN = "".join(f"line {n}\n" for n in range(10))


async def applied(repository: Path, edit: str, users: str | None) -> tuple[str, str | None]:
    """Let a task make `a.txt` what `edit` says, the user `users` meanwhile; gives the file and why it was refused."""

    def act(request: Request, root: Path) -> str:
        (root / "a.txt").write_text(edit)
        (root / "other.txt").write_text("other\n")
        return "done"

    async with AsyncParallelAI(repository, engines=[Hands(act)]) as ai:
        await ai.execute(tasks=[Task(id="t", description="x", engine="hands", edits=True)])
        if users is not None:
            (repository / "a.txt").write_text(users)
        (done,) = await ai.changes.apply()
        assert (repository / "other.txt").exists() == (done.why is None), "all or nothing"
        return (repository / "a.txt").read_text(), done.why


async def test_an_edit_elsewhere_in_the_file_is_kept(tmp_path: Path) -> None:
    repository = make_repository(tmp_path / "r", {"a.txt": TEN})
    text, why = await applied(
        repository, TEN.replace("line 1\n", "ONE\n"), TEN.replace("line 8\n", "EIGHT\n")
    )
    assert (text, why) == (TEN.replace("line 1\n", "ONE\n").replace("line 8\n", "EIGHT\n"), None)


async def test_an_edit_of_the_same_line_keeps_the_change_out(tmp_path: Path) -> None:
    repository = make_repository(tmp_path / "r", {"a.txt": TEN})
    users = TEN.replace("line 1\n", "users\n")
    text, why = await applied(repository, TEN.replace("line 1\n", "ONE\n"), users)
    assert text == users
    assert why is not None


async def test_a_locked_index_is_no_obstacle_and_the_index_is_not_touched(tmp_path: Path) -> None:
    repository = make_repository(tmp_path / "r", {"a.txt": TEN, "b.txt": "b\n"})
    (repository / "b.txt").write_text("staged\n")
    git(repository, "add", "b.txt")
    (repository / ".git/index.lock").write_text("")
    index = (repository / ".git/index").read_bytes()
    text, why = await applied(repository, "new\n", None)
    assert (text, why) == ("new\n", None)
    assert (repository / ".git/index").read_bytes() == index


@pytest.mark.parametrize("attributes", ["* text=auto\n", "*.txt text eol=crlf\n"])
async def test_line_ends_are_taken_as_they_lie_on_disk(tmp_path: Path, attributes: str) -> None:
    repository = make_repository(tmp_path / "r", {"a.txt": "x\n", ".gitattributes": attributes})
    (repository / "a.txt").write_bytes(b"one\r\ntwo\r\n")
    seen: list[bytes] = []

    def act(request: Request, root: Path) -> str:
        seen.append((root / "a.txt").read_bytes())
        (root / "a.txt").write_bytes(b"one\r\nTWO\r\n")
        return "done"

    async with AsyncParallelAI(repository, engines=[Hands(act)]) as ai:
        await ai.execute(tasks=[Task(id="t", description="x", engine="hands", edits=True)])
        (done,) = await ai.changes.apply()
    assert (seen, done.why) == ([b"one\r\ntwo\r\n"], None)
    assert (repository / "a.txt").read_bytes() == b"one\r\nTWO\r\n"


async def test_unapply_keeps_what_was_edited_since(tmp_path: Path) -> None:
    repository = make_repository(tmp_path / "r", {"a.txt": TEN})
    await applied(repository, "new\n", None)
    (repository / "a.txt").write_text("users\n")
    async with AsyncParallelAI(repository) as ai:
        (undone,) = await ai.changes.unapply()
        assert undone.refused == ("a.txt",)
    assert (repository / "a.txt").read_text() == "users\n"
    assert (repository / "other.txt").exists()


async def test_apply_at_the_end_of_a_run_tells_what_was_refused(tmp_path: Path) -> None:
    repository = make_repository(tmp_path / "r", {"a.txt": TEN})

    def act(request: Request, root: Path) -> str:
        (root / f"{request.task}.txt").write_text("by the task\n")
        if request.task == "a":
            (repository / "a.txt").write_text("by the user\n")
        return "done"

    plan = {"tasks": [{"id": i, "description": "x", "engine": "hands", "edits": True} for i in "ab"]}
    process = Hands(act)
    async with AsyncParallelAI(repository, engines=[process]) as ai:
        document = await ai.execute(plan, apply=True)
        assert [task.change.applied for task in document.tasks if task.change] == [False, True]
        assert document.exit == 4
        assert (repository / "a.txt").read_text() == "by the user\n"
        (repository / "a.txt").write_text(TEN)
        (again,) = await ai.changes.apply()
        assert again.why is None
