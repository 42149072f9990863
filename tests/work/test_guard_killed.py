"""Killed at any step of looking after a worktree, nothing is lost, and the next process finishes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("guard_program.py")


def killed(folder: Path, first: int, stride: int) -> int:
    argv = [sys.executable, str(PROGRAM), str(folder), str(first), str(stride)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().isdigit(), done.stdout
    return int(done.stdout)


@pytest.mark.parametrize("first", [1, 13])
def test_killed_at_many_steps_it_goes_on(tmp_path: Path, first: int) -> None:
    assert killed(tmp_path / "room", first, 24) > 100
