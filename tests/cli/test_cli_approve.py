"""A person's leave for what a task came to: nothing builds on it before, and it is not paid for twice."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

PLAN = """\
engines:
  sh: {use: command, command: [sh, agent.sh], env: {COUNT: COUNT_FILE}, sandbox: none}
  look: {use: command, command: [cat, a.txt]}
tasks:
  - {id: fix, description: Fix it, edits: true, engine: sh, approve: true}
  - {id: after, description: Look at it, engine: look, depends_on: [fix]}
"""


@pytest.fixture
def counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the program says each time that it was run; one is in the project then."""
    root, count = tmp_path / "project", tmp_path / "count"
    root.mkdir()
    (root / "plan.yaml").write_text(PLAN.replace("COUNT_FILE", str(count)))
    (root / "agent.sh").write_text('echo ran >> "$COUNT"\necho new > a.txt\n')
    (root / "a.txt").write_text("old\n")
    author = {"GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@example.org"}
    committer = {"GIT_COMMITTER_NAME": "A", "GIT_COMMITTER_EMAIL": "a@example.org"}
    for words in (("init", "-qb", "main"), ("add", "-A"), ("commit", "-qm", "first")):
        subprocess.run(["git", *words], cwd=root, check=True, env={**os.environ, **author, **committer})
    monkeypatch.chdir(root)
    return count


def rows(document: Any) -> dict[str, Any]:
    return {row["id"]: row for row in document["tasks"]}


def test_a_task_waits_for_leave_and_is_not_done_again_for_it(cli: Any, counted: Path) -> None:
    called = cli("execute", "plan.yaml", "--json")
    found = rows(called.document)
    assert (called.code, found["fix"]["status"], found["after"]["status"]) == (4, "blocked", "skipped")
    assert "work approve fix" in found["fix"]["error"]["next"]
    assert "+new" in cli("runs", "diff", called.document["run"], "fix").out
    assert cli("work", "approve", "nobody").code == 2

    assert cli("work", "approve", "fix").code == 0
    resumed = cli("runs", "resume", "--json")
    found = rows(resumed.document)
    assert (resumed.code, found["fix"]["status"], found["after"]["text"]) == (0, "ok", "new\n")
    assert counted.read_text() == "ran\n"


def test_leave_for_one_result_is_none_for_another(cli: Any, counted: Path) -> None:
    cli("execute", "plan.yaml")
    assert cli("work", "approve", "fix").code == 0
    plan = Path("plan.yaml")
    plan.write_text(plan.read_text().replace("Fix it", "Fix it otherwise"))

    resumed = cli("runs", "resume", "--json")

    assert rows(resumed.document)["fix"]["status"] == "blocked"
    assert counted.read_text() == "ran\n" * 2
