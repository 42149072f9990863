"""Writing to the user's checkout: all or nothing, nothing of the user's lost, and back byte by byte."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from repositories import everything, lying

from parallelai.work.checkout import placing, writing
from parallelai.work.checkout.writing import Checkout, Content, NotWritten, Write, read, written


def text(data: str, mode: int = 0o644) -> Content:
    return Content(data.encode(), mode)


def link(target: str) -> Content:
    return Content(target.encode(), 0o777, is_link=True)


def test_a_child_that_is_forked_meanwhile_keeps_nobody_waiting(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    children: list[int] = []

    def forks(checkout: Checkout) -> None:
        children.append(os.fork())
        if children[-1] == 0:
            signal.pause()
            os._exit(0)

    monkeypatch.setattr(Checkout, "_recover", forks)
    folder = tmp_path / "records"
    try:
        Checkout(root, folder).write("one", [])
        with (folder / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout with a file of each kind."""
    folder = tmp_path / "checkout"
    lay_out(folder)
    return folder


def lay_out(folder: Path) -> None:
    for name, content in {
        "a": "1\n",
        "d/b": "1\n",
        "d/only/c": "1\n",
        "swap/x": "1\n",
        "file": "1\n",
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (folder / "a").chmod(0o640)
    (folder / "d" / "only").chmod(0o750)
    (folder / "run").write_text("#!/bin/sh\n")
    (folder / "run").chmod(0o755)
    (folder / "link").symlink_to("a")
    (folder / "empty").mkdir()


def writes_of_every_kind() -> list[Write]:
    return [
        Write("a", text("1\n", 0o640), text("2\n", 0o640)),
        Write("d/b", text("1\n"), text("1\n", 0o755)),
        Write("d/only/c", text("1\n"), None),
        Write("swap/x", text("1\n"), None),
        Write("swap", None, text("now a file\n")),
        Write("file", text("1\n"), None),
        Write("file/inside", None, text("now a folder\n")),
        Write("run", text("#!/bin/sh\n", 0o755), link("a")),
        Write("link", link("a"), link("d/b")),
        Write("new/deep/file", None, text("n\n")),
        Write("empty/file", None, text("n\n")),
        Write("second", None, link("a")),
    ]


def expected(root: Path, writes: list[Write]) -> dict[str, tuple[str, bytes]]:
    found = lying(root)
    for write in writes:
        found.pop(write.path, None)
    for write in writes:
        if write.after is not None:
            kind = "link" if write.after.is_link else "program" if write.after.mode & 0o100 else "file"
            found[write.path] = (kind, write.after.data)
    return found


def without_times(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {path: (mode, content) for path, (mode, _, content) in everything(folder).items()}


def test_writes_of_every_kind_and_back_byte_by_byte(root: Path, tmp_path: Path) -> None:
    before = without_times(root)
    writes = writes_of_every_kind()
    wanted = expected(root, writes)
    checkout = Checkout(root, tmp_path / "records")
    checkout.write("task", writes)
    assert lying(root) == wanted
    assert (root / "a").stat().st_mode & 0o777 == 0o640
    back = checkout.undo("task")
    assert without_times(root) == before
    assert {write.path for write in back} == {write.path for write in writes}
    with pytest.raises(NotWritten, match="not applied"):
        checkout.undo("task")
    assert [path.name for path in (tmp_path / "records").iterdir()] == ["lock"]


def test_an_edit_in_between_keeps_all_of_it_out(root: Path, tmp_path: Path) -> None:
    (root / "a").write_text("the user's\n")
    before = without_times(root)
    with pytest.raises(NotWritten) as caught:
        Checkout(root, tmp_path / "records").write("task", writes_of_every_kind())
    assert caught.value.paths == ("a",)
    assert without_times(root) == before


@pytest.mark.parametrize("is_exchanging", [True, False])
@pytest.mark.parametrize("path", ["a", "d/only/c", "link"])
def test_an_edit_in_the_last_moment_is_not_lost(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, is_exchanging: bool
) -> None:
    """The user saves after everything was looked at, just before the file changes places."""
    exchange, rename = placing.exchange, os.rename

    def save() -> None:
        if not (root / path).is_symlink():
            (root / path).write_text("just saved\n")
        else:
            (root / path).unlink()
            (root / path).symlink_to("just-saved")
        monkeypatch.setattr(writing, "exchange", exchange if is_exchanging else lambda *_: False)
        monkeypatch.setattr(os, "rename", rename)

    def saving_exchange(folder: int, name: str, other: str) -> bool:
        if other == Path(path).name and is_exchanging:
            save()
        return exchange(folder, name, other) if is_exchanging else False

    def saving_rename(source: str, target: str, **places: int) -> None:
        if source == Path(path).name:
            save()
        rename(source, target, **places)

    monkeypatch.setattr(writing, "exchange", saving_exchange)
    monkeypatch.setattr(os, "rename", saving_rename)
    before = without_times(root)
    with pytest.raises(NotWritten) as caught:
        Checkout(root, tmp_path / "records").write("task", writes_of_every_kind())
    assert caught.value.paths == (path,)
    after = without_times(root)
    assert b"just" in after.pop(path)[1]
    before.pop(path)
    assert after == before


def test_a_file_that_the_user_makes_in_the_last_moment_stays(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = without_times(root)
    put = placing.put

    def late(folder: int, name: str, into: int, new: str) -> None:
        if new == "second":
            (root / "second").write_text("the user's\n")
        put(folder, name, into, new)

    monkeypatch.setattr(writing, "put", late)
    with pytest.raises(NotWritten) as caught:
        Checkout(root, tmp_path / "records").write("task", writes_of_every_kind())
    assert caught.value.paths == ("second",)
    after = without_times(root)
    assert after.pop("second")[1] == b"the user's\n"
    assert after == before


@pytest.mark.parametrize("nth", [0, 1, 5, 20, 24, 30, 31, 32, 33, 36, 40, 44, 48, 60])
def test_a_disk_that_is_full_changes_nothing(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    """Whatever call first meets the full disk."""
    before = without_times(root)
    calls = 0

    def full(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls > nth:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    checkout = Checkout(root, tmp_path / "records")
    wanted = expected(root, writes_of_every_kind())
    with contextlib.suppress(NotWritten):
        checkout.write("task", writes_of_every_kind())
        assert lying(root) == wanted
        return
    assert without_times(root) == before
    assert nth < 48


def test_an_edit_since_is_not_undone(root: Path, tmp_path: Path) -> None:
    checkout = Checkout(root, tmp_path / "records")
    checkout.write("task", writes_of_every_kind())
    (root / "swap").write_text("edited\n")
    (root / "second").unlink()
    before = without_times(root)
    with pytest.raises(NotWritten) as caught:
        checkout.undo("task")
    assert caught.value.paths == ("swap",)  # what is gone already stands in nobody's way
    assert without_times(root) == before


def test_writing_again_what_is_there_keeps_what_undoes_it(root: Path, tmp_path: Path) -> None:
    before = without_times(root)
    checkout = Checkout(root, tmp_path / "records")
    checkout.write("task", writes_of_every_kind())
    checkout.write("task", [])
    (root / "a").write_text("1\n")
    checkout.write("task", [Write("a", text("1\n", 0o640), text("2\n", 0o640))])
    checkout.undo("task")
    assert without_times(root) == before


@pytest.mark.parametrize(
    "path", ["../out", "/etc/x", ".git/config", "sub/.GIT/hooks/x", "git~1/x", ".git /x", "."]
)
def test_paths_out_of_the_project_and_gits_own_are_refused(root: Path, tmp_path: Path, path: str) -> None:
    with pytest.raises(NotWritten, match="may not be written"):
        Checkout(root, tmp_path / "records").write("task", [Write(path, None, text("x"))])


@pytest.mark.parametrize("kind", ["write", "create", "delete"])
def test_no_link_is_followed_out_of_the_project(root: Path, tmp_path: Path, kind: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "b").write_text("1\n")
    (root / "d" / "b").unlink()
    (root / "d" / "only" / "c").unlink()
    (root / "d" / "only").rmdir()
    (root / "d").rmdir()
    (root / "d").symlink_to(outside)
    wanted = {
        "write": Write("d/b", text("1\n"), text("2\n")),
        "create": Write("d/new/x", None, text("2\n")),
        "delete": Write("d/b", text("1\n"), None),
    }
    with pytest.raises(NotWritten):
        Checkout(root, tmp_path / "records").write("task", [wanted[kind]])
    assert lying(outside) == {"b": ("file", b"1\n")}
    assert not (outside / "new").exists()
    with pytest.raises(NotWritten, match="behind a link"):
        read(root, "d/b")


def test_a_file_is_not_written_through(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("1\n")
    (root / "a").unlink()
    (root / "a").symlink_to(outside)
    with pytest.raises(NotWritten):
        Checkout(root, tmp_path / "records").write("task", [Write("a", text("1\n"), text("2\n"))])
    assert outside.read_text() == "1\n"


def test_what_is_no_file_is_not_opened(root: Path) -> None:
    os.mkfifo(root / "pipe")
    with pytest.raises(NotWritten, match="no file"):
        read(root, "pipe")
    assert read(root, "d") is None


def test_hashes_of_what_was_written() -> None:
    found = written([Write("a", None, text("1")), Write("b", text("1"), None)])
    assert found["a"][0] is None
    assert found["a"][1] == found["b"][0]


CHILD = textwrap.dedent(
    """
    # For each step: a process that is killed there, then others that go on with what it left.
    import os, signal, sys
    from pathlib import Path
    sys.path.insert(0, sys.argv[1])
    from parallelai.work.checkout import writing
    from test_work_checkout import lay_out, writes_of_every_kind, without_times
    base, what = Path(sys.argv[2]), sys.argv[3]
    os.fsync = lambda descriptor: None  # a kill loses nothing that was written; what only the disk loses is not seen

    def counted(call, last):
        def wrapped(*arguments, **places):
            global calls
            calls += 1
            if calls == last:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **places)
        return wrapped

    def killed(what, made, last):
        child = os.fork()
        if child:
            return os.waitpid(child, 0)[1] != 0
        if what == "undo":
            made.write("task", writes_of_every_kind())
        for name in ("rename", "link", "unlink", "mkdir", "rmdir", "fsync", "symlink", "replace", "chmod"):
            setattr(os, name, counted(getattr(os, name), last))
        writing.exchange = counted(writing.exchange, last)
        {"recover": made.recover, "undo": lambda: made.undo("task")}.get(
            what, lambda: made.write("task", writes_of_every_kind()))()
        os._exit(0)

    calls = 0
    lay_out(base / "as-it-was")
    untouched = without_times(base / "as-it-was")
    writing.Checkout(base / "as-it-was", base / "r").write("task", writes_of_every_kind())
    applied = without_times(base / "as-it-was")
    number, is_killed = 1, True
    while is_killed:
        root, records = base / f"c{number}", base / f"r{number}"
        lay_out(root)
        made = writing.Checkout(root, records)
        is_killed = killed(what, made, number)
        if is_killed:
            killed("recover", made, 1 + number % 17)
        made.recover()
        now = without_times(root)
        assert now in (untouched, applied), f"step {number}: {set(now.items()) ^ set(untouched.items())}"
        if not is_killed:
            assert now == (untouched if what == "undo" else applied)
        elif now == applied:
            made.undo("task")
            assert without_times(root) == untouched, f"undone after step {number}"
        number += 1
    print(number)
    """
)


@pytest.mark.parametrize("what", ["write", "undo"])
def test_killed_at_any_step_it_is_all_or_nothing(tmp_path: Path, what: str) -> None:
    """And killed again while it is taken back, at a step that goes on with the first."""
    argv = [sys.executable, "-c", CHILD, str(Path(__file__).parent), str(tmp_path), what]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 60


class Killed(BaseException):
    """Ends a call as a kill would: nothing after it is done."""


def half_written(root: Path, records: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave a checkout as a process leaves it that is killed with the first files written."""

    def kill(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Checkout, "_create", kill)
        patch.setattr(Checkout, "_take_back", lambda *_: False)
        with pytest.raises(Killed):
            Checkout(root, records).write("task", writes_of_every_kind())


def test_after_a_kill_another_task_finds_it_as_it_was(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = without_times(root)
    half_written(root, tmp_path / "records", monkeypatch)
    assert (root / "a").read_text() == "2\n"
    checkout = Checkout(root, tmp_path / "records")
    checkout.write("other", [Write("b", None, text("x"))])
    checkout.undo("other")
    assert without_times(root) == before


def test_what_the_user_saved_after_a_kill_stays(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = without_times(root)
    half_written(root, tmp_path / "records", monkeypatch)
    (root / "a").write_text("the user's\n")
    Checkout(root, tmp_path / "records").recover()
    after = without_times(root)
    assert after.pop("a")[1] == b"the user's\n"
    del before["a"]
    assert after == before
