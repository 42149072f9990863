"""Temporary folders of ours: gone after use, and after a `kill -9` with the next start; nobody else's are touched."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from processes_support import SOURCE

from parallelai.processes import sweep
from parallelai.processes.temporary import make_folder, temporary_folder

pytestmark = pytest.mark.usefixtures("temporary")

MAKER = """
from parallelai.processes.temporary import make_folder
folder = make_folder("index")
(folder / "index").write_text("x")
(folder / "deep").mkdir()
(folder / "deep" / "shut").mkdir(mode=0)
print(folder, flush=True)
input()
"""


def started(program: str) -> tuple[subprocess.Popen[str], Path]:
    """A process that goes on until its input ends, and the folder that it has made."""
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


@pytest.fixture
def left() -> Path:
    """The folder of a process that was killed."""
    process, folder = started(MAKER)
    with process:
        sweep()
        assert (folder / "index").exists(), "while its process lives it is left alone"
        process.send_signal(signal.SIGKILL)
    assert folder.is_dir()
    return folder


def test_a_folder_lasts_as_long_as_its_context(temporary: Path) -> None:
    with contextlib.suppress(KeyError), temporary_folder("index") as folder:
        assert folder.parent == temporary
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "deep").mkdir()
        raise KeyError
    assert list(temporary.iterdir()) == []


def test_what_a_killed_process_left_goes_with_the_next_start(left: Path) -> None:
    own = make_folder("index")
    sweep()
    assert not left.exists()
    assert own.is_dir()
    own.rmdir()


def test_what_is_not_ours_stays(left: Path, temporary: Path, monkeypatch: Any) -> None:
    outside = temporary.parent / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    (left / "link").symlink_to(outside)
    beside = left.with_name(f"{left.name}a")
    beside.symlink_to(outside)
    file = left.with_name(f"{left.name}b")
    file.touch()
    others = [temporary / "parallelai-mine", temporary / f"my-{left.name}"]
    for folder in others:
        folder.mkdir()
    words = left.name.split("-")
    container = temporary / "-".join([*words[:2], str(int(words[2]) + 1), *words[3:]])
    container.mkdir()

    me = os.getuid()
    with monkeypatch.context() as patch:
        patch.setattr(os, "getuid", lambda: me + 1)
        sweep()
    assert left.exists(), "another user's"

    sweep()

    assert not left.exists()
    assert (outside / "kept").exists()
    assert all(path.exists() for path in (beside, file, container, *others))


def test_on_a_temporary_folder_that_machines_share_each_removes_its_own(left: Path, monkeypatch: Any) -> None:
    here = os.uname()
    with monkeypatch.context() as patch:
        patch.setattr(os, "uname", lambda: os.uname_result((here[0], "another", *here[2:])))
        sweep()
    assert left.exists(), "its process may live on the machine that made it"
    sweep()
    assert not left.exists()


def test_under_the_proc_of_another_namespace_nothing_is_judged(left: Path, monkeypatch: Any) -> None:
    """In a container with the host's `/proc` a process finds another one under its number."""
    other, _ = started(MAKER)
    with other, monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: other.pid)
        unseen = make_folder("index")
        other.communicate("\n")
        sweep()
        assert left.exists(), "whether its process is gone cannot be seen"
    sweep()
    assert (unseen.exists(), left.exists()) == (True, False)


def test_two_that_start_at_once_sweep_the_same_folder_and_leave_each_other_s(left: Path) -> None:
    (left / "many").mkdir()
    for number in range(200):
        (left / "many" / f"{number}").mkdir()
    sweeper = "from parallelai.processes import sweep\n" + MAKER.replace("print(", "sweep()\nprint(")
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(2) as both:
        starts = list(both.map(started, [sweeper, sweeper]))
        processes = [stack.enter_context(process) for process, _ in starts]
        sweep()
        assert [(folder / "index").exists() for _, folder in starts] == [True, True]
        assert not left.exists()
        assert [process.communicate("\n")[1] for process in processes] == ["", ""]


def test_after_a_fork_the_child_names_itself(monkeypatch: Any) -> None:
    mine = make_folder("index")
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", os.getppid)
        other = make_folder("index")
    assert (str(os.getpid()) in mine.name, str(os.getppid()) in other.name) == (True, True)


def test_what_is_in_no_file_system_of_a_disk_is_swept_too(monkeypatch: Any, tmp_path: Path) -> None:
    memory = tmp_path / "memory"
    memory.mkdir()
    monkeypatch.setattr("parallelai.processes.temporary._IN_MEMORY", str(memory))
    monkeypatch.setattr("parallelai.processes.temporary._ROOM", 1)
    with temporary_folder("objects", in_memory=True) as folder:
        assert folder.parent == memory
        own = folder.name
    assert list(memory.iterdir()) == []
    words = own.split("-")
    gone = memory / "-".join([*words[:4], "1", *words[5:]])  # of a process that began at another time
    gone.mkdir()
    sweep()
    assert not gone.exists()


def test_without_room_in_memory_a_folder_lies_where_others_do(monkeypatch: Any, temporary: Path) -> None:
    monkeypatch.setattr("parallelai.processes.temporary._ROOM", 2**62)
    with temporary_folder("objects", in_memory=True) as folder:
        assert folder.parent == temporary
