"""A resumed run sees what the user put right."""

from __future__ import annotations

import subprocess
from pathlib import Path

from parallelai import AsyncParallelAI

PLAN = """\
version: 1
engines:
  look: {use: command, command: [sh, -c, "cat state.txt; grep -q right state.txt"]}
tasks:
  - {id: look, description: Look at the state., engine: look}
"""


async def test_who_only_reads_is_asked_again_about_the_files_as_they_are_now(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    (tmp_path / "plan.yaml").write_text(PLAN)
    (tmp_path / "state.txt").write_text("wrong\n")
    async with AsyncParallelAI(tmp_path) as ai:
        before = await ai.execute(tmp_path / "plan.yaml")
        (tmp_path / "state.txt").write_text("right\n")
        after = await ai.execute(tmp_path / "plan.yaml", resume=True)
    assert before.tasks[0].status == "failed"
    assert (after.run, after.tasks[0].status) == (before.run, "ok")
    assert str(after.tasks[0].text).strip() == "right"
