"""Temporary folders of ours: gone after use, and after a `kill -9` with the next start; nobody else's are touched."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from processes_support import SOURCE

from parallelai.processes import sweep
from parallelai.processes.temporary import make_folder, temporary_folder

MAKER = """
from parallelai.processes.temporary import make_folder
folder = make_folder("index")
(folder / "index").write_text("x")
(folder / "deep").mkdir()
(folder / "deep" / "shut").mkdir(mode=0)
print(folder, flush=True)
input()
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's temporary folder, as it is for this test."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


@pytest.fixture
def left() -> Path:
    """The folder of a process that was killed."""
    env = {**os.environ, "PYTHONPATH": str(SOURCE)}
    with subprocess.Popen(
        [sys.executable, "-c", MAKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
    ) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
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


def test_what_a_process_made_that_could_not_see_itself_stays(left: Path, temporary: Path) -> None:
    """In a container whose `/proc` is another's no process finds itself, or any that it could ask about."""
    words = left.name.split("-")
    unseen = temporary / "-".join([*words[:4], "0", *words[5:]])
    unseen.mkdir()
    sweep()
    assert unseen.exists()


def test_two_that_start_at_once_sweep_the_same_folder_and_leave_each_other_s(left: Path) -> None:
    (left / "many").mkdir()
    for number in range(200):
        (left / "many" / f"{number}").mkdir()
    sweeper = "from parallelai.processes import sweep\n" + MAKER.replace("print(", "sweep()\nprint(")
    env = {**os.environ, "PYTHONPATH": str(SOURCE)}
    with contextlib.ExitStack() as stack:
        started = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", sweeper],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    env=env,
                )
            )
            for _ in range(2)
        ]
        made = [Path(process.stdout.readline().strip()) for process in started if process.stdout]
        sweep()
        assert [(folder / "index").exists() for folder in made] == [True, True]
        assert not left.exists()
        assert [process.communicate("\n")[1] for process in started] == ["", ""]


def test_after_a_fork_the_child_names_itself(monkeypatch: Any) -> None:
    mine = make_folder("index")
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", os.getppid)
        other = make_folder("index")
    assert (str(os.getpid()) in mine.name, str(os.getppid()) in other.name) == (True, True)
