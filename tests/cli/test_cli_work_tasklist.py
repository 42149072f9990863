"""A Markdown task list, all the way: converted, run, landed, its boxes ticked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from shops import git, shop_with

TASKS = """\
# The shop

Ordered by importance.

- [ ] Write the orders as CSV (files: src/export.py)
  - [ ] a header, such as {{ id }}
  - [ ] a line for each
- [ ] Write the orders as CSV, with a test (files: tests/**; depends on: Write the orders as CSV)
- [x] Choose a name
- [ ] Paint the door

## Agent 2: Report

**AGENT**: reporter
**GOAL**: Add up the orders of a month.
**FILES**: `src/report.py`
**DEPENDENCIES**: None (can start at once)

1. [ ] add up
2. [ ] print
"""
ENGINE = """\
engines: {hand: {use: command, command: [python3, hand.py]}}
defaults: {engine: hand}
"""
HAND = """\
import pathlib, sys
told = sys.stdin.read()
paths = {"reporter": "src/report.py", "write-the-orders-as-csv": "src/export.py"}
with open(paths.get(pathlib.Path.cwd().name, "door.txt"), "a") as file:
    file.write(f"# {'{{ id }}' in told}\\n")
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a task list, and a program that does its tasks."""
    return shop_with(tmp_path, monkeypatch, {"TASKS.md": TASKS, "hand.py": HAND})


def test_a_list_is_converted_run_landed_and_ticked(cli: Any, shop: Path) -> None:
    converted = cli("plan", "convert", "TASKS.md", "--output", "plan.yaml")
    assert converted.code == 0
    assert "1 task is done, and left out: `choose-a-name`" in converted.err
    plan = shop / "plan.yaml"
    text = plan.read_text()
    assert "  write-the-orders-as-csv:  # TASKS.md:5:7\n" in text
    assert "  reporter:  # TASKS.md:12:4\n" in text
    plan.write_text(text + ENGINE)
    git(shop, "add", "plan.yaml")
    git(shop, "commit", "-qm", "the plan")

    ran = cli("work", "run", "plan.yaml", "--only", "write-the-orders-as-csv", "--only", "reporter", "--json")

    outcomes = {row["id"]: row["status"] for row in ran.document["tasks"]}
    assert outcomes == {"write-the-orders-as-csv": "ok", "reporter": "ok"}, ran.err
    assert (shop / "src" / "report.py").is_file()
    assert (
        shop / "src" / "export.py"
    ).read_text() == "# True\n# False\n"  # a turn for each part, told literally

    ticked = cli("work", "status", "--write", "TASKS.md")

    assert ticked.err == "ticked in TASKS.md\n"
    done = TASKS.replace("- [ ] Write the orders as CSV (", "- [x] Write the orders as CSV (")
    for part in ("  - [ ] a h", "  - [ ] a l", "1. [ ]", "2. [ ]"):
        done = done.replace(part, part.replace("[ ]", "[x]"))
    assert (shop / "TASKS.md").read_text() == done
    assert cli("plan", "convert", "TASKS.md").err.startswith("note: 3 tasks are done, and left out: ")


def test_a_task_list_is_a_plan_itself(cli: Any, shop: Path) -> None:
    checked = cli("plan", "check", "TASKS.md")
    assert checked.out.startswith("TASKS.md: ok, 4 tasks, 4 to carry out\n")
    assert "note: 1 task is done, and left out: `choose-a-name`" in checked.err
    (shop / "TASKS.md").write_text("- [ ] Paint the door\n- [x] Choose a name\n")

    (shop / "parallelai.toml").write_text(
        "[engines.hand]\nuse = 'command'\ncommand = ['python3', 'hand.py']\n"
    )

    ran = cli("execute", "TASKS.md", "--engine", "hand", "--trust", "--apply")

    assert "1 task is done, and left out: `choose-a-name`" in ran.err
    assert (shop / "door.txt").is_file()
    assert cli("work", "status", "--write", "TASKS.md").err == "ticked in TASKS.md\n"
    assert (shop / "TASKS.md").read_text() == "- [x] Paint the door\n- [x] Choose a name\n"
    (shop / "TASKS.md").write_text("- [ ] Paint the door\n- [x] Choose a name\n")
    assert "1 task is done" in cli("execute", "TASKS.md", "--engine", "hand", "--trust", "--dry-run").err
    (shop / "TASKS.md").write_text("- [ ] Paint (depends on: nobody)\n")
    assert "TASKS.md:1:26: `paint` depends on `nobody`" in cli("execute", "TASKS.md").err


def test_a_plain_task_of_a_converted_list_is_ticked_once_its_change_is_applied(cli: Any, shop: Path) -> None:
    (shop / "TASKS.md").write_text("- [ ] Paint the door\n- [ ] Oil it (depends on: 1)\n")
    assert cli("plan", "convert", "TASKS.md", "--output", "plan.yaml").code == 0
    with (shop / "plan.yaml").open("a") as file:
        file.write(ENGINE)
    ran = cli("execute", "plan.yaml", "--only", "paint-the-door", "--trust", "--json")
    assert ran.code == 0, ran.err

    told = cli("work", "status", "--write", "TASKS.md")

    run = ran.document["run"]
    apply = f"`parallelai runs apply {run} paint-the-door`"
    assert (
        told.err
        == f"nothing to tick in TASKS.md\n`paint-the-door` is not ticked: {apply} puts its change here first\n"
    )
    assert cli("runs", "apply", run, "paint-the-door").code == 0
    assert cli("work", "status", "--write", "TASKS.md").err == "ticked in TASKS.md\n"
    assert (shop / "TASKS.md").read_text() == "- [x] Paint the door\n- [ ] Oil it (depends on: 1)\n"
    (shop / "TASKS.md").write_text("- [ ] Paint the door\n- [ ] Oil it (depends on: 1)\n")
    (shop / "door.txt").unlink()  # discarded since
    assert "nothing to tick in TASKS.md\n`paint-the-door`" in cli("work", "status", "--write", "TASKS.md").err


def test_a_table_of_tasks_is_carried_out_and_left_as_it_is(cli: Any, shop: Path) -> None:
    table = (
        "| Task | Depends on | Status |\n|---|---|---|\n| Paint the door | 2 | |\n| Buy paint | | done |\n"
    )
    (shop / "TASKS.md").write_text(table)
    (shop / "parallelai.toml").write_text(
        "[engines.hand]\nuse = 'command'\ncommand = ['python3', 'hand.py']\n"
    )

    ran = cli("execute", "TASKS.md", "--engine", "hand", "--trust", "--apply", "--json")

    assert [(task["id"], task["status"]) for task in ran.document["tasks"]] == [("paint-the-door", "ok")]
    assert (shop / "door.txt").exists()
    told = "rows of a table are not ticked: `paint-the-door` is done, set its `Status` to `done`\n"
    assert cli("work", "status", "--write", "TASKS.md").err == told
    assert (shop / "TASKS.md").read_text() == table
    assert cli("runs", "unapply", ran.document["run"]).code == 0
    told = cli("work", "status", "--write", "TASKS.md").err
    assert "puts its change here; then set its `Status` to `done`" in told
    refused = cli("work", "run", "TASKS.md")
    assert refused.code == 2
    assert "`TASKS.md` has no workstreams left" in refused.err
    assert "`parallelai execute TASKS.md`" in refused.err


def test_a_task_of_another_plan_with_the_same_id_ticks_nothing(cli: Any, shop: Path) -> None:
    (shop / "TASKS.md").write_text("- [ ] Paint the door\n")
    tasks = "tasks: [{id: paint-the-door, description: Paint another door, edits: true}]\n"
    (shop / "plan.yaml").write_text(f"version: 1\n{tasks}{ENGINE}")
    assert cli("execute", "plan.yaml", "--trust", "--apply").code == 0

    assert cli("work", "status", "--write", "TASKS.md").err == "nothing to tick in TASKS.md\n"


@pytest.mark.parametrize("verb", [["execute"], ["work", "run"]])
def test_a_list_in_which_all_is_done_is_no_mistake(cli: Any, shop: Path, verb: list[str]) -> None:
    (shop / "TASKS.md").write_text("- [x] Paint the door\n- [x] Choose a name\n")

    checked = cli("plan", "check", "TASKS.md")
    ran = cli(*verb, "TASKS.md")

    assert (checked.code, checked.out) == (0, "TASKS.md: ok, all 2 tasks are done\n")
    assert (ran.code, ran.out) == (0, "TASKS.md: nothing to do, all of it is done\n")
    assert cli(*verb, "TASKS.md", "--json").document["tasks"] == []
    assert cli(*verb, "TASKS.md", "--dry-run").code == 0
    assert cli("work", "start", "TASKS.md").out == "nothing to start\n"
    assert cli("plan", "convert", "TASKS.md", "--output", "plan.yaml").code == 0
    assert not (shop / "plan.yaml").exists()


def test_a_run_whose_list_was_ticked_since_has_nothing_left(cli: Any, shop: Path) -> None:
    (shop / "TASKS.md").write_text("- [ ] Paint the door\n")
    (shop / "parallelai.toml").write_text("[engines.hand]\nuse = 'command'\ncommand = ['false']\n")
    ran = cli("execute", "TASKS.md", "--engine", "hand", "--trust", "--json")
    assert ran.code == 4
    (shop / "TASKS.md").write_text("- [x] Paint the door\n")

    again = cli("runs", "resume", ran.document["run"], "--trust")

    assert (again.code, again.out) == (0, "TASKS.md: nothing to do, all of it is done\n")
