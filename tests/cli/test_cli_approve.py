"""A person's leave for what a task came to: nothing builds on it before, and it is not paid for twice."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from parallelai import AsyncParallelAI
from parallelai.client.approvals import Approvals
from parallelai.client.options import CarryOut
from parallelai.events import Event
from parallelai.records import Outcome, RunDocument
from parallelai.run.approving import WAITS

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
    diff = cli("runs", "diff", "latest", "fix", "--json").document
    assert (diff["run"], "+new" in diff["changes"][0]["text"]) == (called.document["run"], True)
    assert f", `runs diff {called.document['run']} fix`; then" in found["fix"]["error"]["next"]
    assert cli("work", "approve", "nobody").code == 2
    Path("other.yaml").write_text("tasks:\n  - {id: fix, description: Another, engine: mock}\n")
    assert cli("execute", "other.yaml").code == 0

    run = called.document["run"]
    assert f"approved `fix` of run {run}" in cli("work", "approve", "fix").out
    shown = rows(cli("runs", "show", run, "--json").document)["fix"]["error"]
    assert shown["said"] == "it waited for a person's leave, and has it now"
    assert shown["next"] == f"`parallelai runs resume {run}` goes on with it"
    resumed = cli("runs", "resume", run, "--json")
    found = rows(resumed.document)
    assert (resumed.code, found["fix"]["status"], found["after"]["text"]) == (0, "ok", "new\n")
    assert counted.read_text() == "ran\n"


def test_what_a_person_refused_is_done_again_and_its_assistant_is_told_why(cli: Any, counted: Path) -> None:
    Path("agent.sh").write_text('cat >> "$COUNT"\necho new > a.txt\n')
    run = cli("execute", "plan.yaml", "--json").document["run"]
    waits = cli("runs", "retry", "fix")
    assert (waits.code, "work reject fix" in waits.err) == (2, True)

    assert cli("work", "reject", "fix", "--reason", "mind the tests").code == 0
    shown = cli("runs", "show", run, "--json").document
    assert rows(shown)["fix"]["status"] == "failed"
    assert "mind the tests" in rows(shown)["fix"]["error"]["said"]
    assert cli("work", "approve", "fix").code == 2
    assert "mind the tests" not in counted.read_text()

    resumed = cli("runs", "resume", "latest", "--json")
    assert rows(resumed.document)["fix"]["status"] == "blocked"
    assert "refused it: mind the tests" in counted.read_text()
    assert cli("work", "approve", "fix").code == 0
    assert cli("runs", "resume").code == 0


def test_leave_for_one_result_is_none_for_another(cli: Any, counted: Path) -> None:
    cli("execute", "plan.yaml")
    assert cli("work", "approve", "fix").code == 0
    plan = Path("plan.yaml")
    plan.write_text(plan.read_text().replace("Fix it", "Fix it otherwise"))

    resumed = cli("runs", "resume", "--json")

    assert rows(resumed.document)["fix"]["status"] == "blocked"
    assert counted.read_text() == "ran\n" * 2
    assert (
        resumed.err.count("`fix` came to something else than leave was given for: that leave has lapsed") == 1
    )
    assert "lapsed" not in cli("runs", "resume").err  # it is told once


def mark_in(row: Any) -> str:
    """The mark by which a row that waits names what its task came to."""
    return str(row["error"]["next"].partition("--result ")[2].partition("`")[0])


async def look() -> tuple[str, dict[str, str]]:
    """What somebody who gives leave now gives it for."""
    async with AsyncParallelAI(".") as ai:
        return ai.runs._approvals._waiting("fix")


def test_leave_is_for_what_the_person_looked_at(
    cli: Any, counted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = mark_in(rows(cli("execute", "plan.yaml", "--json").document)["fix"])
    stale = asyncio.run(look())
    plan = Path("plan.yaml")
    plan.write_text(plan.read_text().replace("Fix it", "Fix it otherwise"))
    resumed = rows(cli("runs", "resume", "--json").document)["fix"]
    refused = cli("work", "approve", "fix", "--result", seen, "--json")
    assert (refused.code, refused.error["said"]) == (2, "what `fix` came to changed since you looked")
    with monkeypatch.context() as late:  # the run went on between the look and what would be written
        late.setattr(Approvals, "_waiting", lambda runs, name: stale)
        refused = cli("work", "approve", "fix", "--json")
    assert (refused.code, refused.error["said"]) == (2, "what `fix` came to changed since you looked")
    assert rows(cli("runs", "resume", "--json").document)["fix"]["status"] == "blocked"
    assert cli("work", "approve", "fix", "--result", mark_in(resumed)).code == 0
    assert cli("runs", "resume").code == 0


def test_what_only_waits_for_leave_ends_at_the_first_ctrl_c(cli: Any, counted: Path) -> None:
    plan = Path("plan.yaml")
    plan.write_text("limits: {grace: 3600}\n" + plan.read_text())
    run = cli("execute", "plan.yaml", "--json").document["run"]

    async def interrupted() -> RunDocument | None:
        async with AsyncParallelAI(".") as ai:

            def watch(events: Sequence[Event]) -> None:
                if any(event.data == WAITS for event in events):
                    ai.interrupt(signal.SIGINT)

            carry = CarryOut(is_attended=True, on_events=watch)
            return await asyncio.wait_for(ai.runs.resume(run, carry), 60)

    document = asyncio.run(interrupted())
    assert document is not None
    assert document.exit == 130
    assert {row.id: row.status for row in document.tasks}["fix"] is Outcome.CANCELLED
    assert cli("work", "approve", "fix").code == 0  # it still waits
    assert cli("runs", "resume", run).code == 0
    assert counted.read_text() == "ran\n"


def test_a_change_that_waits_for_leave_is_named_when_it_is_to_be_applied(cli: Any, counted: Path) -> None:
    assert "runs apply" not in cli("execute", "plan.yaml").err
    applied = cli("runs", "apply", "--json")
    assert (applied.code, "not applied: fix" in applied.err) == (0, True)
    assert applied.document == {"run": cli("runs", "show", "--json").document["run"], "changes": []}
    assert cli("runs", "apply", "fix").code == 2
    assert Path("a.txt").read_text() == "old\n"
