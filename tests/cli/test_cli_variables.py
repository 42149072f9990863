"""`--set`: a variable that nothing uses is a slip of the hand, and refused wherever one can be set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

PLAN = """\
vars: {who: nobody}
engines: {sh: {use: command, command: [cat]}}
tasks:
  - {id: greet, description: "hello {{ vars.who }}, {{ vars.title|default('sir') }}", engine: sh}
  - {id: part, description: bye, engine: sh, when: "vars['late']|default(true)"}
"""
WHEREVER = ("execute", "execute --dry-run", "plan check", "plan show", "plan estimate", "plan graph")


@pytest.fixture
def greeting(here: Path) -> str:
    (here / "greeting.yaml").write_text(PLAN)
    return "greeting.yaml"


@pytest.mark.parametrize("words", WHEREVER)
def test_what_nothing_uses_is_refused(cli: Any, greeting: str, words: str) -> None:
    near = cli(*words.split(), greeting, "--set", "titel=madam", "--json")
    far = cli(*words.split(), greeting, "--set", "colour=red", "--json")

    assert (near.code, near.error["next"]) == (2, "did you mean `title`?")
    assert far.error["said"] == "nothing here uses the variable `colour`, which was set"
    assert far.error["next"] == "the variables are `late`, `title`, `who`"


def test_what_a_text_a_condition_or_the_plan_names_is_taken(cli: Any, greeting: str) -> None:
    given = ("--set", "who=Ann", "--set", "title=madam", "--set", "late=false")

    tasks = cli("execute", greeting, *given, "--json").document["tasks"]

    assert ["hello Ann, madam" in (task["text"] or "") for task in tasks] == [True, False]
    assert tasks[1]["status"] == "skipped"


@pytest.mark.parametrize("text", ["{% for name in vars %}{{ name }} {% endfor %}", "{{ vars['a' ~ 'b'] }}"])
def test_where_nobody_can_tell_what_is_used_all_is_taken(cli: Any, here: Path, text: str) -> None:
    (here / "any.yaml").write_text(f'tasks: [{{id: a, engine: mock, description: "{text}"}}]\n')

    assert cli("execute", "any.yaml", "--set", "ab=1", "--json").document["exit"] == 0


def test_the_template_of_the_defaults_counts(cli: Any, here: Path) -> None:
    folder = here / ".parallelai" / "templates"
    folder.mkdir(parents=True)
    (folder / "tone.yaml").write_text("name: tone\nprompt: Speak {{ vars.tone }}.\noutput: text\n")
    (here / "p.yaml").write_text(
        "defaults: {template: tone, engine: mock}\ntasks: [{id: a, description: x}]\n"
    )

    assert cli("execute", "p.yaml", "--trust", "--set", "tone=softly").code == 0
    assert cli("execute", "p.yaml", "--trust", "--set", "tome=softly").code == 2


def test_a_review_and_a_run_that_goes_on_refuse_it_too(cli: Any, greeting: str) -> None:
    assert cli("review", "a.py", "--set", "titel=x").code == 2
    assert cli("review", "a.py", "--dry-run", "--set", "titel=x").code == 2
    assert cli("execute", greeting).code == 0

    again = cli("runs", "resume", "--set", "titel=madam", "--json")

    assert (again.code, again.error["next"]) == (2, "did you mean `title`?")
