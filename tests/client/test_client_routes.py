"""A review whose engine is picked by a route."""

from __future__ import annotations

from pathlib import Path

from parallelai.engines.mock import Rule
from parallelai.records import Finding, Severity
from running import opened, project, scripted

CONFIG = """\
[engines.a]
use = "mock"
[defaults.engine.route]
"lib/**" = "mine"
else = "mock"
"""


async def test_each_file_goes_to_the_engine_of_its_route(tmp_path: Path) -> None:
    project(tmp_path, {"lib/a.py": "x = 1\n", "b.py": "y = 2\n", "parallelai.toml": CONFIG})
    finding = Finding("lib/a.py", (1, 1), Severity.HIGH, "m", rule="R")
    mine = scripted(Rule(findings=(finding,)), name="mine")
    async with opened(tmp_path, mine, trust=True) as ai:
        document = await ai.review("**/*.py")
    who = {task.id.partition("@")[2]: task.engine for task in document.tasks}
    assert who == {"lib/a.py": "mine", "b.py": "mock"}
    assert [found.file for found in document.findings] == ["lib/a.py"]
