"""A landing whose process is killed at any of its calls of git, and carried out again."""

from __future__ import annotations

import copy
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from landing_scene import NAMES, land, passes
from landing_support import Field, landed

from crash_support import points_asked

HERE = Path(__file__).parent
PATIENCE_SECONDS = 30.0


def scene(folder: Path, method: str) -> Field:
    field = Field(folder / "repo", {"a.txt": "1\n2\n3\n", "dirty.txt": "x\n"})
    field.checkout.git("tag", "start")
    field.branch("one", {"a.txt": "one\n2\n3\n", "one.txt": "1"})
    field.branch("two", {"two.txt": "2"})
    field.branch("worse", {"worse.txt": "bad"})
    field.branch("clash", {"a.txt": "clash\n2\n3\n"})
    field.branch("last", {"last.txt": "l"})
    field.checkout.write({"dirty.txt": "mine\n"})
    (folder / "method").write_text(method)
    return field


Death = tuple[Path, int, str]
"""The repository, the call of git, and how it dies there."""


def killed(*deaths: Death) -> list[list[int]]:
    """Land in a process for each, one after the other; gives their exit codes, and the calls of those that ended."""
    told = "".join(f"{root}\t{number}\t{how}\n" for root, number, how in deaths)
    folders = os.pathsep.join(str(place) for place in (HERE, HERE.parent))
    done = subprocess.run(
        [sys.executable, str(HERE / "landing_program.py")],
        env={**os.environ, "PYTHONPATH": folders},
        input=told,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    ends = [[int(word) for word in line.split()] for line in done.stdout.splitlines()]
    # What is asked at the same time is asked once or twice: another run may have some calls fewer, and end.
    assert {code for code, *_ in ends} <= {0, -9}, done.stderr
    return ends


def at_rest(field: Field) -> None:
    """Wait until no git that the killed process left behind works in the repository."""
    limit = time.monotonic() + PATIENCE_SECONDS
    while works_in(field.root):
        assert time.monotonic() < limit
        time.sleep(0.01)


def works_in(root: Path) -> bool:
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                place = (process / "cwd").readlink()
            except OSError:
                continue
            if place.is_relative_to(root):
                return True
    return False


def hold(field: Field) -> None:
    """What has to hold at any moment: the target is green, and the user's checkout is as git left it."""
    assert field.run(field.gate(passes).green_history("main", field.base))
    assert (field.root / "dirty.txt").read_text() == "mine\n"
    assert field.status() == " M dirty.txt\n"


@pytest.mark.parametrize("method", ["merge", "squash", "rebase"])
def test_a_killed_landing_is_finished_by_the_next_one(tmp_path: Path, method: str) -> None:
    template = scene(tmp_path / "template", method)
    shutil.copytree(tmp_path / "template", tmp_path / "whole", symlinks=True)
    ((_, calls),) = killed((tmp_path / "whole" / "repo", 0, "before"))
    chance = random.Random(method)
    count = min(calls, points_asked())
    # The last calls are those that matter most: commits, the move, what is looked at afterwards.
    points = {chance.randint(1, calls) for _ in range(count)} | set(range(max(1, calls - 4), calls + 1, 2))
    deaths = []
    for number in sorted(points):
        folder = tmp_path / str(number)
        shutil.copytree(tmp_path / "template", folder, symlinks=True)
        deaths.append((folder / "repo", number, chance.choice(["before", "during", "after"])))
    for (root, number, _), (code, *_) in zip(deaths, killed(*deaths), strict=True):
        assert code == -9 or number > calls - 5
        field = copy.copy(template)
        field.move_to(root)
        at_rest(field)
        hold(field)
        arrivals = land(field.root)
        hold(field)
        assert landed(arrivals) == {"one", "two", "last"}, number
        assert not field.has("parallelai/landing/main")
        subjects = field.checkout.git("log", "--format=%B", "main", f"^{field.base}")
        lands = Counter(line for line in subjects.splitlines() if line.startswith("ParallelAI-Lands"))
        most = 2 if method == "merge" else 1  # a batch's merge says it, and each member's
        assert set(lands.values()) <= set(range(1, most + 1))
        assert set(NAMES) == set(arrivals)
        shutil.rmtree(root.parent)
