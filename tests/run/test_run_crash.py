"""`kill -9` at random points of a graph run, resumed each time (DESIGN §7: none run again, none lost)."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from crash_support import (
    graph_plan,
    graph_project,
    killed_and_resumed,
    left_alone,
    points_asked,
    programs,
    standing,
)
from running import came_to

POINTS_OF_A_RUN = 6


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_killed_at_random_points(tmp_path: Path) -> None:
    points, number = points_asked(), 0
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")  # shown when it fails
    chance = random.Random(seed)
    plan = graph_plan(seed, 500, 120)
    expected, total = left_alone(graph_project(tmp_path / "alone", plan))
    while points > 0:
        here = min(points, POINTS_OF_A_RUN)
        root = graph_project(tmp_path / f"killed-{number}", plan)
        document = killed_and_resumed(root, here, chance, total)
        assert came_to(document) == expected
        assert standing(root).ok == {task["id"] for task in plan["tasks"]}
        assert set(programs(root)) == {task["id"] for task in plan["tasks"] if task["engine"] == "sh"}
        points, number = points - here, number + 1
