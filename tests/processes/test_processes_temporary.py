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


def test_after_a_fork_the_child_names_itself(monkeypatch: Any) -> None:
    mine = make_folder("index")
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", os.getppid)
        other = make_folder("index")
    assert (str(os.getpid()) in mine.name, str(os.getppid()) in other.name) == (True, True)
