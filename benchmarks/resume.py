"""`kill -9` at random points of a graph run, resumed each time: what was lost, and what was done twice.

It counts with the helper of the crash tests (`tests/crash_support.py`): tasks of a mock and programs that leave
a line each time they really run. What was finished before a kill must not be attempted again, and at the end
every task is done, every program has run, and the result is that of a run that was left alone. A program that
was running when the kill came runs again: that is neither.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.figures import ROOT, Figure, Options, left_out, table

NAME = "resume after `kill -9`"
TASKS = 500
PROGRAMS = 120
POINTS_OF_A_RUN = 6
JITTER_SECONDS = 0.03


@dataclass
class Kills:
    """What so many kills came to. `late` ones found nothing to kill, `early` ones no run that had begun."""

    points: int = 0
    runs: int = 0
    early: int = 0
    late: int = 0
    kept: int = 0
    lost: int = 0
    twice: int = 0


def run(options: Options) -> list[Figure]:
    try:
        support = _support()
    except ImportError as failure:
        return [left_out(NAME, f"the crash tests' helper cannot be imported ({failure})")]
    seed = random.SystemRandom().randrange(10**6)
    print(f"  seed {seed}")
    kills = _killed(support, options.points, random.Random(seed), support.graph_plan(seed, TASKS, PROGRAMS))
    rows = [("kill points", "runs", "too early", "too late", "finished at a kill", "lost", "twice")]
    counted = (kills.points, kills.runs, kills.early, kills.late, kills.kept, kills.lost, kills.twice)
    print(table([*rows, tuple(map(str, counted))]))
    measured = f"{kills.lost} lost, {kills.twice} twice in {kills.points}"
    return [Figure(NAME, measured, "0 lost, 0 twice", not kills.lost and not kills.twice)]


def _support() -> Any:
    sys.path.insert(0, str(ROOT / "tests"))
    try:
        import crash_support
    finally:
        sys.path.remove(str(ROOT / "tests"))
    return crash_support


def _killed(support: Any, points: int, chance: random.Random, plan: dict[str, Any]) -> Kills:
    kills = Kills()
    with tempfile.TemporaryDirectory() as folder:
        expected, total = support.left_alone(support.graph_project(Path(folder) / "alone", plan))
        while kills.points < points:
            root = support.graph_project(Path(folder) / f"killed-{kills.runs}", plan)
            kills.runs += 1
            for _ in range(min(points - kills.points, POINTS_OF_A_RUN)):
                count = chance.randrange(0, 2 * total // (POINTS_OF_A_RUN + 1))
                if not _kill_at(support, root, count, chance, kills):
                    break
            _finish(support, root, plan, expected, kills)
            print(f"  {kills.points} of {points}: {kills.lost} lost, {kills.twice} twice", flush=True)
    return kills


def _kill_at(support: Any, root: Path, count: int, chance: random.Random, kills: Kills) -> bool:
    """Go on with the run, and kill it after about `count` events; False if it had ended by then."""
    before, ran = support.standing(root), support.programs(root)
    child = support.Child(root, root.parent / f"{root.name}.jsonl")
    child.wait_for(count)
    time.sleep(chance.random() * JITTER_SECONDS)  # not only just after a commit
    was_alive = child.process.poll() is None
    child.kill()
    now = support.standing(root)
    if now.run is not None:
        support.await_none(now.run)
    _compare(before, now, ran, support.programs(root), kills)
    kills.points += was_alive and now.run is not None
    kills.early += was_alive and now.run is None
    kills.late += not was_alive
    kills.kept += len(now.ok) if was_alive else 0
    return was_alive


def _compare(before: Any, after: Any, ran: Counter[str], ran_after: Counter[str], kills: Kills) -> None:
    """Hold what is now against what was finished before."""
    attempted = {name for name in before.ok if after.attempts[name] != before.attempts[name]}
    carried_out = {name for name in before.answered if ran_after[name] != ran[name]}
    kills.lost += len(before.ok - after.ok)
    kills.twice += len(attempted | carried_out)


def _finish(support: Any, root: Path, plan: dict[str, Any], expected: Any, kills: Kills) -> None:
    """Let the run end; every task has to be done, every program to have run, with the result of the other."""
    before, ran = support.standing(root), support.programs(root)
    child = support.Child(root, root.parent / f"{root.name}.jsonl")
    complaint = child.finish()
    if child.process.returncode:
        raise RuntimeError(f"the resumed run ended with {child.process.returncode}: {complaint[-500:]}")
    after, programs = support.standing(root), support.programs(root)
    _compare(before, after, ran, programs, kills)
    tasks = {task["id"]: task["engine"] for task in plan["tasks"]}
    kills.lost += sum(
        name not in after.ok or (engine == "sh" and name not in programs) for name, engine in tasks.items()
    )
    if support.came_to(support.document(root)) != expected:
        raise RuntimeError(f"{root.name} came to something else than the run that was left alone")
