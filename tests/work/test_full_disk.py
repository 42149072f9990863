"""The disk becomes full at many points of a run of workstreams; with room again the same command finishes it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("full_disk_program.py")
POINTS = int(os.environ.get("PARALLELAI_FULL_POINTS", "2"))
ALL = 460
"""About so many points a run has."""


def may_mount() -> tuple[str, ...] | None:
    """The words that give a program a mount table of its own; None where nobody may have one."""
    for prefix in (("unshare", "--mount"), ("unshare", "--mount", "--map-root-user")):
        with contextlib.suppress(FileNotFoundError):
            words = [*prefix, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
            if subprocess.run(words, capture_output=True, check=False).returncode == 0:
                return prefix
    return None


@pytest.mark.slow
@pytest.mark.parametrize("what", ["all", "repository"])
def test_full_and_done_again(tmp_path: Path, what: str) -> None:
    prefix = may_mount()
    if prefix is None:
        pytest.skip("nobody may mount a small disk here")
    step, seed = max(2, ALL // POINTS), os.environ.get("PARALLELAI_SEED", "7")
    done = subprocess.run(
        [*prefix, sys.executable, str(PROGRAM), str(tmp_path), what, str(step), seed],
        env={**os.environ, "PYTHONPATH": str(PROGRAM.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    points, _, of = done.stdout.strip().partition(" of ")
    assert of.isdigit(), done.stdout + done.stderr
    assert int(points) >= 2
