"""`kill -9` at many points of a start, a sync, a removal and a drop; each is then done again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("streams_program.py")
POINTS = int(os.environ.get("PARALLELAI_KILL_POINTS", "4"))


@pytest.mark.parametrize("what", ["start", "sparse", "merge", "rebase", "remove", "drop"])
def test_killed_and_done_again(tmp_path: Path, what: str) -> None:
    step = max(1, 36 // POINTS)
    done = subprocess.run(
        [
            sys.executable,
            str(PROGRAM),
            str(tmp_path),
            what,
            str(step),
            os.environ.get("PARALLELAI_SEED", "7"),
        ],
        env={**os.environ, "PYTHONPATH": str(PROGRAM.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    deaths, _, points = done.stdout.strip().partition(" of ")
    assert points.isdigit(), done.stdout + done.stderr
    assert int(deaths) >= 2
