"""The conflict matrix: 50 branches on a repository of 2,000 files, all anew, and after one branch moved."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figures import Figure, Options, at_most, child, table

FILES, FUNCTIONS, BRANCHES, TOUCHED, PAST = 2_000, 12, 50, 20, 300
BUSY = 100
"""A fourth of the changes meet in so many files."""
COLD_BAR, MOVED_BAR = 1.0, 0.1


def run(options: Options) -> list[Figure]:
    rounds = [child("matrix") for _ in range(min(options.rounds, 3))]
    cold, moved = (min(one[name] for one in rounds) for name in ("cold", "moved"))
    merges, conflicts = (int(rounds[0][name]) for name in ("merges", "conflicts"))
    rows = [(f"{BRANCHES} branches, {FILES} files", "seconds")]
    rows += [("all pairs, nothing known", f"{cold:.2f}"), ("one branch moved", f"{moved:.3f}")]
    print(table(rows))
    print(f"  ({merges} merges asked of git, {conflicts} conflicts found)")
    return [
        at_most("conflict matrix, cold", cold, COLD_BAR, " s"),
        at_most("conflict matrix, one branch moved", moved, MOVED_BAR, " s", 3),
    ]


class _History:
    """A made-up project, written by `git fast-import`: modules of functions, changed one at a time."""

    def __init__(self) -> None:
        self._random = random.Random(7)
        self._versions = dict.fromkeys(itertools.product(range(FILES), range(FUNCTIONS)), 0)
        self._marks = itertools.count(1)

    def write(self) -> Iterator[str]:
        """The stream for git: the past of `main`, and the branches from its end."""
        yield from self._commit("main", range(FILES))
        for _ in range(PAST):
            yield from self._commit("main", self._changed(self._versions, self._random.randint(1, 4)))
        for number in range(BRANCHES):
            own = dict(self._versions)
            touched = self._changed(own, TOUCHED, number + 1)
            yield from self._commit(f"branch-{number}", touched, own, is_first=True)

    def again(self, number: int) -> Iterator[str]:
        """One more commit on a branch."""
        own = dict(self._versions)
        yield from self._commit(f"branch-{number}", self._changed(own, 2, 999), own, is_first=True)

    def _changed(self, versions: dict[tuple[int, int], int], count: int, by: int = 0) -> list[int]:
        busy = self._random.sample(range(BUSY), count // 4)
        files = [*busy, *self._random.sample(range(BUSY, FILES), count - len(busy))]
        for file in files:
            versions[file, self._random.randrange(FUNCTIONS)] += 1 + by
        return files

    def _commit(
        self,
        branch: str,
        files: range | list[int],
        versions: dict[tuple[int, int], int] | None = None,
        *,
        is_first: bool = False,
    ) -> Iterator[str]:
        mark = next(self._marks)
        yield f"commit refs/heads/{branch}\nmark :{mark}\n"
        yield f"committer u <u@localhost> {1_700_000_000 + 60 * mark} +0000\ndata 1\nc\n"
        if is_first:
            yield "from refs/heads/main\n"
        for file in files:
            text = self._module(file, versions or self._versions)
            yield f"M 100644 inline package_{file % 40}/module_{file}.py\ndata {len(text)}\n{text}\n"

    def _module(self, file: int, versions: dict[tuple[int, int], int]) -> str:
        bodies = (
            f"def part_{file}_{at}(value):\n    total = value + {versions[file, at]}\n"
            f"    for step in range({at}):\n        total += step\n    return total\n\n\n"
            for at in range(FUNCTIONS)
        )
        return "".join(bodies)


async def looked(folder: Path) -> dict[str, float]:
    """Seconds of a first look, and the median of looks after one branch moved."""
    from parallelai.git.repository import open_repository
    from parallelai.work.conflicts import Head, Matrix

    history = _History()
    _import(folder, history.write(), is_new=True)
    repository = await open_repository(folder)
    tips = {name: await repository.commit(name) or "" for name in ("main", *_names())}
    target, matrix = Head("main", tips["main"]), Matrix(repository)
    began = time.perf_counter()
    document = await matrix.look([Head(name, tips[name]) for name in _names()], target)
    cold, merges = time.perf_counter() - began, matrix.count.merges
    moved: list[float] = []
    for number in range(5):
        _import(folder, history.again(number))
        tips[f"branch-{number}"] = await repository.commit(f"branch-{number}") or ""
        began = time.perf_counter()
        await matrix.look([Head(name, tips[name]) for name in _names()], target)
        moved.append(time.perf_counter() - began)
    conflicts = sum(pair.conflict for pair in document.pairs)
    return {"cold": cold, "moved": statistics.median(moved), "merges": merges, "conflicts": conflicts}


def _names() -> list[str]:
    return [f"branch-{number}" for number in range(BRANCHES)]


def _import(folder: Path, stream: Iterator[str], *, is_new: bool = False) -> None:
    if is_new:
        subprocess.run(["git", "init", "-q", "-b", "main", folder], check=True)
    command = ["git", "-C", str(folder), "fast-import", "--quiet", "--force"]
    subprocess.run(command, input="".join(stream).encode(), check=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        print(json.dumps(asyncio.run(looked(Path(name)))))
