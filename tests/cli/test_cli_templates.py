"""`parallelai templates`, and reviews with other templates and checklists, by any engine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

HERE = ".parallelai/templates"


def test_list_and_show_tell_what_there_is(cli: Any, here: Path) -> None:
    called = cli("templates", "list")
    assert called.code == 0
    assert [line.split()[0] for line in called.out.splitlines()][:3] == [
        "bug-hunt",
        "code-review",
        "documentation",
    ]
    rows = {row["name"]: row for row in cli("templates", "list", "--json").document["templates"]}
    assert (rows["migration"]["output"], rows["migration"]["edits"]) == ("change", True)
    assert rows["explain"]["output"] == "text"
    shown = cli("template", "show", "migration").out
    assert "\n  source: What to move away from" in shown
    assert "(required)" in shown
    assert "\n  leftovers: " in shown
    assert cli("templates", "show", "migration", "--json").document["params"]["source"]["description"]
    wrong = cli("templates", "show", "migrate", "--json")
    assert (wrong.code, wrong.error["next"]) == (2, "did you mean `migration`?")


def test_new_writes_one_file_and_never_over_another(cli: Any, here: Path) -> None:
    before = {path for path in here.rglob("*") if path.is_file()}
    called = cli("templates", "new", "naming")
    assert (called.code, called.out.splitlines()[0]) == (0, f"written: {HERE}/naming.yaml")
    assert {path for path in here.rglob("*") if path.is_file()} - before == {here / HERE / "naming.yaml"}
    (here / HERE / "naming.yaml").write_text("prompt: mine\n")
    again = cli("templates", "new", "naming")
    assert (again.code, (here / HERE / "naming.yaml").read_text()) == (2, "prompt: mine\n")
    assert "is there" in again.err
    assert cli("templates", "new", "../up").code == 2
    assert not (here / ".parallelai/up.yaml").exists()


def test_new_begins_with_a_good_template_or_a_copy(cli: Any, here: Path) -> None:
    assert cli("templates", "new", "first").code == 0
    assert cli("templates", "new", "audit", "--like", "security-audit").code == 0
    checked = cli("templates", "check")
    assert (checked.code, checked.out) == (0, f"{HERE}/audit.yaml: ok\n{HERE}/first.yaml: ok\n")
    text = (here / HERE / "audit.yaml").read_text()
    assert "\nname: audit\n" in text
    assert text.startswith("# A security audit"), "comments stay"
    rows = {row["name"]: row for row in cli("templates", "list", "--json").document["templates"]}
    assert (rows["audit"]["source"], rows["audit"]["file"]) == ("project", f"{HERE}/audit.yaml")
    assert cli("templates", "new", "other", "--like", "nothing").code == 2


def test_new_does_not_write_through_links(cli: Any, here: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (here / ".parallelai").mkdir(exist_ok=True)
    (here / HERE).symlink_to(outside)
    called = cli("templates", "new", "naming")
    assert (called.code, list(outside.iterdir())) == (2, [])


def test_check_tells_all_problems_with_their_lines(cli: Any, here: Path) -> None:
    (here / HERE).mkdir(parents=True)
    (here / HERE / "a.yaml").write_text("prompt: |\n  {{ params.x }}\nparams:\n  y: {}\n")
    (here / HERE / "b.yaml").write_text("prompt: ok\nmodle: best\n")
    called = cli("templates", "check")
    assert called.code == 2
    assert f"{HERE}/a.yaml:1: the prompt uses `params.x`" in called.err
    assert f"{HERE}/a.yaml:4: the prompt does not use the parameter `y`" in called.err
    assert f"{HERE}/b.yaml:2: unknown key `modle`; did you mean `model`?" in called.err
    one = cli("templates", "check", f"{HERE}/b.yaml", "--json")
    assert len(one.error["problems"]) == 1
    assert cli("templates", "check", "code-review").code == 0
    assert cli("templates", "check", "gone.yaml").code == 2


@pytest.mark.parametrize("template", ["bug-hunt", "performance-review", "security-audit"])
def test_a_review_takes_another_template_with_the_analysers(cli: Any, here: Path, template: str) -> None:
    called = cli("review", "--template", template, "--checklist", "state,data", "--json")
    assert called.code == 0
    assert {finding["rule"] for finding in called.document["findings"]} == {"S101"}


def test_a_review_takes_another_template_and_checklist_with_a_command(cli: Any, here: Path) -> None:
    (here / "agent.py").write_text(
        "import pathlib, sys\npathlib.Path(sys.argv[1]).write_text(sys.stdin.read())\nprint('[]')\n"
    )
    asked = here / "asked.txt"
    (here / "parallelai.toml").write_text(
        f"[engines.sh]\nuse = 'command'\ncommand = ['{sys.executable}', '{here}/agent.py', '{asked}']\n"
    )
    called = cli(
        "review", "a.py", "--template", "bug-hunt", "--checklist", "state,own", "--engine", "sh", "--trust"
    )
    assert called.code == 0, called.err
    prompt = asked.read_text()
    assert prompt.startswith("You hunt for bugs")
    assert "- state: What is kept between calls" in prompt
    assert "- own\n" in prompt
    assert "- data:" not in prompt
    assert '"quote" (the code concerned' in prompt


def test_a_template_that_gives_no_findings_is_no_review(cli: Any, here: Path) -> None:
    called = cli("review", "--template", "explain")
    assert (called.code, "does not give findings" in called.err) == (2, True)


def test_a_plans_task_has_to_give_what_its_template_needs(cli: Any, here: Path) -> None:
    (here / "plan.yaml").write_text("tasks: [{id: move, template: migration, files: a.py, engine: mock}]\n")
    called = cli("execute", "plan.yaml", "--json")
    assert called.code == 2
    assert "needs the parameter `source`" in called.error["said"]


def test_a_template_in_place_of_one_that_ships_is_said(cli: Any, here: Path) -> None:
    (here / HERE).mkdir(parents=True)
    (here / HERE / "code-review.yaml").write_text("output: findings\nprompt: look\ndescription: Ours\n")
    note = "in place of the one that ships"
    rows = {line.split()[0]: line for line in cli("templates", "list").out.splitlines()}
    assert f"Ours ({note})" in rows["code-review"]
    assert sum(note in row for row in rows.values()) == 1

    assert f"the template `code-review` is the project's, {note}" in cli("review", "a.py").err
    assert note not in cli("review", "a.py", "--template", "bug-hunt").err
