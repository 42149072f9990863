"""The place of a run's folders."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from parallelai.work.scratch.home import set_apart


def test_the_file_system_is_told_that_folders_lie_apart_where_it_can_be_told(tmp_path: Path) -> None:
    ours, like_it = tmp_path / "ours", tmp_path / "like-it"
    for folder in (ours, like_it):
        folder.mkdir()
    set_apart(ours)
    set_apart(tmp_path / "none")  # only a hint: nothing fails for want of it
    assert list(ours.iterdir()) == []
    if shutil.which("chattr") is not None:
        subprocess.run(["chattr", "+T", like_it], check=False, capture_output=True)
        assert _flags(ours) == _flags(like_it)


def _flags(folder: Path) -> bytes:
    """What lsattr(1) shows of a folder; nothing where its file system has no flags."""
    return subprocess.run(["lsattr", "-d", folder], check=False, capture_output=True).stdout.partition(b" ")[
        0
    ]
