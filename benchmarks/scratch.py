"""Scratch folders for 20 tasks that edit, of 2,000 files: ours, `git worktree add`, and the bare files.

Once where nothing was removed, and once where as many files were a moment ago, as in a run of many tasks. In this
order: ext4 without a journal is slow for minutes at making files where others were removed (`scratch.home`).
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.figures import Figure, Options, at_most, child, table

if TYPE_CHECKING:
    from parallelai.work.scratch.place import ScratchPlace
    from parallelai.work.scratch.workspaces import RunWorkspaces

FILES, FOLDERS = 2_000, 20
SECONDS_BAR = 3.0


def run(options: Options) -> list[Figure]:
    found = child("scratch", str(min(options.rounds, 3)))
    seconds = {side: statistics.median(rounds) for side, rounds in found.items()}
    bare, ours = seconds["bare files"], seconds["ours"]
    rows = [(f"{FOLDERS} folders of {FILES:,} files", "seconds", "of the bare files", "rounds")]
    for side, took in seconds.items():
        rounds = " ".join(f"{one:.2f}" for one in found[side])
        rows.append((side, f"{took:.2f}", f"{took / bare:.2f}×", rounds))
    print(table(rows))
    return [
        at_most(f"{FOLDERS} scratch folders of {FILES:,} files", ours, SECONDS_BAR, " s"),
        Figure("  over bare files", f"{ours / bare:.2f}×"),
        Figure("  over `git worktree add`", f"{ours / seconds['git worktree add']:.2f}×"),
        Figure("  the same after a removal", f"{seconds['ours again']:.2f} s"),
    ]


def _contents() -> dict[str, bytes]:
    """Made-up modules of some kB, by path."""
    chance = random.Random(7)
    return {
        f"package_{number % 40:02}/part_{number % 5}/module_{number:04}.py": "".join(
            f"def part_{number}_{at}(value):\n    return value + {chance.randrange(10**6)}\n"
            for at in range(chance.randint(10, 120))
        ).encode()
        for number in range(FILES)
    }


def _write(top: Path, contents: dict[str, bytes]) -> None:
    """Write files as fast as one process can."""
    for folder in {os.path.dirname(path) for path in contents}:
        (top / folder).mkdir(parents=True, exist_ok=True)
    for path, data in contents.items():
        opened = os.open(f"{top}/{path}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        os.write(opened, data)
        os.close(opened)


def _git(root: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", str(root), *arguments], check=True, stdout=subprocess.DEVNULL)


def _project(root: Path) -> dict[str, bytes]:
    contents = _contents()
    _write(root, contents)
    _git(root, "init", "-q")
    _git(root, "add", "--all")
    _git(root, "-c", "user.name=u", "-c", "user.email=u@localhost", "commit", "-q", "-m", "all")
    _git(root, "gc", "-q")
    return contents


async def sides(base: Path, rounds: int) -> dict[str, list[float]]:
    """Seconds that each side takes, in turns."""
    root = base / "project"
    contents = await asyncio.to_thread(_project, root)
    names = ("bare files", "git worktree add", "ours", "bare files again", "ours again")
    took: dict[str, list[float]] = {name: [] for name in names}
    runs = []
    for number in range(rounds):
        top = base / str(number)
        top.mkdir()
        took["bare files"].append(_timed(partial(_bare, top / "bare", contents)))
        took["git worktree add"].append(_timed(partial(_worktrees, root, top)))
        runs.append(await Ours.open(root, top / "state", f"bench-{number}"))
        took["ours"].append(await runs[-1].make())
    for number, ours in enumerate(runs):
        bare = base / str(number) / "bare"
        shutil.rmtree(bare)
        took["bare files again"].append(_timed(partial(_bare, bare, contents)))
        await ours.remove()
        took["ours again"].append(await ours.make())
    return took


def _timed(call: Callable[[], None]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _bare(top: Path, contents: dict[str, bytes]) -> None:
    for number in range(FOLDERS):
        _write(top / str(number), contents)


def _worktrees(root: Path, top: Path) -> None:
    for number in range(FOLDERS):
        _git(root, "worktree", "add", "-q", "--detach", str(top / f"tree-{number}"))


class Ours:
    """The folders of a run, which has its snapshot already."""

    def __init__(self, workspaces: RunWorkspaces) -> None:
        self._workspaces = workspaces
        self._places: list[ScratchPlace] = []

    @classmethod
    async def open(cls, root: Path, state: Path, run: str) -> Ours:
        from parallelai.work.scratch.workspaces import Settings, open_workspaces

        return cls(await open_workspaces(Settings(run, root, state, state / "runs" / run)))

    async def make(self) -> float:
        """Make all at once; gives the seconds to the last one."""
        from parallelai.run.workspaces import Work

        works = [Work(edits=True, number=number) for number in range(FOLDERS)]
        began = time.perf_counter()
        opening = [self._workspaces.open(f"t{work.number}", work, 60.0, nullcontext) for work in works]
        self._places = await asyncio.gather(*opening)
        return time.perf_counter() - began

    async def remove(self) -> None:
        for place in self._places:
            await place.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
        print(json.dumps(asyncio.run(sides(Path(folder), int(sys.argv[1])))))
