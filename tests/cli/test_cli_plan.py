"""`parallelai plan …`: everything that can be said of a plan without carrying it out."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

BROKEN = """\
version: 1
tasks:
  - id: one
    descripton: do one
  - {id: two, description: x, depends_on: nobody}
  - {id: two, description: y, engine: nonesuch}
"""
SOLID = """\
version: 1
name: solid
vars: {who: you}
engines:
  sh: {use: command, command: [cat]}
tasks:
  - {id: each, description: "look at {{ file.path }}", files: "*.py", each: file, engine: sh, estimate: 60}
  - {id: sum, description: "tell {{ vars.who }}", depends_on: each, engine: sh, estimate: 30, tags: [end]}
"""


@pytest.fixture
def solid(here: Path) -> Path:
    path = here / "solid.yaml"
    path.write_text(SOLID)
    return path


def test_a_budget_that_cannot_hold_is_refused_and_hides_nothing_of_the_plan(cli: Any, here: Path) -> None:
    subprocess.run(["git", "init", "-q", str(here)], check=True)
    (here / "dear.yaml").write_text(
        "version: 1\nlimits: {budget: {usd: 1}}\nphases: [{name: A, tasks: [a]}, {name: B, tasks: [b]}]\n"
        "tasks: [{id: a, description: x, engine: claude-code}, {id: b, description: x, engine: mock}]\n"
    )
    said = "a money budget cannot hold: what engine `claude-code` costs is unknown"
    checked = cli("plan", "check", "dear.yaml")
    assert (checked.code, f"dear.yaml:2:18: {said}; " in checked.err) == (2, True)
    assert "a: `claude-code`" in cli("plan", "show", "dear.yaml").out
    assert "phase A: 1 task, ends after" in cli("plan", "estimate", "dear.yaml").out
    tried = cli("execute", "dear.yaml", "--dry-run")
    assert (tried.code, said in tried.err) == (2, True)


def test_a_wrong_script_of_the_mock_is_named(cli: Any, here: Path) -> None:
    (here / "script.yaml").write_text("- {text: fine}\n- {error: rejected, said: no}\n")
    (here / "mocked.yaml").write_text(
        "engines: {m: {use: mock, args: [script.yaml]}}\ntasks: [{id: a, description: x, engine: m}]\n"
    )
    called = cli("plan", "check", "mocked.yaml")
    assert (called.code, "mocked.yaml:2:9: m: script.yaml, rule 2: `said`: " in called.err) == (2, True)


def test_check_says_how_much_there_is(cli: Any, solid: Path) -> None:
    called = cli("plan", "check", "solid.yaml")

    assert (called.code, called.out, called.err) == (0, "solid.yaml: ok, 2 tasks, 4 to carry out\n", "")


def test_check_as_json(cli: Any, solid: Path) -> None:
    called = cli("plan", "check", solid, "--json")

    assert called.code == 0
    assert called.document == {"plan": "solid.yaml", "ok": True, "tasks": 2, "instances": 4, "notes": []}


def test_check_says_what_is_generated_and_what_that_needs(cli: Any, here: Path) -> None:
    (here / "solid.yaml").write_text(
        SOLID
        + "landing:\n  generated:\n    - {files: src/**, command: python make.py}\n"
        + "    - {files: api.json, command: no-such-generator --all}\n"
    )
    called = cli("plan", "check", "solid.yaml")

    assert called.code == 0
    _, first, second = called.out.splitlines()
    assert first.startswith("generated: `src/**` (")
    assert first.endswith("): made anew by `python make.py` where two changes meet")
    assert (
        second
        == "generated: `api.json` (0 files): made anew by `no-such-generator --all` where two changes meet"
    )
    assert "`api.json` of `generated` matches no file of the project" in called.err
    assert "`no-such-generator`, which makes `api.json`, is not installed here; install it" in called.err
    document = cli("plan", "check", "solid.yaml", "--json").document
    assert document["generated"][1] == {"files": [], "command": ["no-such-generator", "--all"]}


def test_check_tells_of_a_workstream_that_may_change_nothing_that_it_owns(cli: Any, here: Path) -> None:
    (here / "docs").mkdir()
    (here / "docs" / "a.md").write_text("x")
    (here / "mine.yaml").write_text(
        "protected: docs/\n"
        "workstreams:\n"
        "  a: {description: x, owns: docs/**}\n"
        "  b: {description: x, owns: [AGENTS.md, mine.yaml]}\n"
        "  c: {description: x, owns: new/**, avoids: new/}\n"
        "  d: {description: x, owns: [CLAUDE.md, src/**]}\n"
    )

    notes = [each for each in cli("plan", "check", "mine.yaml", "--json").document["notes"] if "owns" in each]

    none, lease = "may change nothing that it owns", "let it own something else; `parallelai work lease"
    gives = "gives leave once it is started"
    assert notes == [
        f"mine.yaml:3:29: the workstream `a` {none}: `docs/a.md` is protected; {lease} a docs/a.md` {gives}",
        f"mine.yaml:4:29: the workstream `b` {none}: `mine.yaml` is protected; {lease} b mine.yaml` {gives}",
        f"mine.yaml:5:29: the workstream `c` {none}: `new/new` is avoided; {lease} c new/new` {gives}",
    ]


def test_check_lists_all_problems_with_their_places(cli: Any, here: Path) -> None:
    (here / "broken.yaml").write_text(BROKEN)

    called = cli("plan", "check", "broken.yaml")

    assert (called.code, called.out) == (2, "")
    *problems, count = called.err.splitlines()
    assert count == f"{len(problems)} problems"
    places = [line.split(": ")[0] for line in problems]
    assert {"broken.yaml:4:5", "broken.yaml:5:43", "broken.yaml:6:10", "broken.yaml:6:39"} <= set(places)
    assert "`description`" in called.err


@pytest.mark.parametrize(
    "command", [["plan", verb] for verb in ["check", "show", "graph", "estimate", "convert"]]
)
def test_every_command_lists_all_problems_as_json(cli: Any, here: Path, command: list[str]) -> None:
    (here / "broken.yaml").write_text(BROKEN)

    called = cli(*command, "broken.yaml", "--json")

    assert called.code == 2
    assert called.error["kind"] == "plan"
    assert called.error["where"] == called.error["problems"][0]["where"]
    assert len(called.error["problems"]) >= 4


@pytest.mark.parametrize(
    "command", [["plan", verb] for verb in ["check", "show", "graph", "estimate", "convert"]]
)
def test_a_plan_that_is_not_there(cli: Any, here: Path, command: list[str]) -> None:
    called = cli(*command, "nope.yaml")

    assert (called.code, called.out) == (2, "")
    assert "nope.yaml" in called.err
    assert "Traceback" not in called.err


def test_check_notes_what_this_version_cannot_carry_out(cli: Any, here: Path) -> None:
    (here / "later.yaml").write_text(
        "version: 1\nworkstreams:\n"
        "  gui: {description: G, owns: 'src/**'}\n"
        "  all: {description: A, owns: 'src/deep/**', depends_on: gui}\n"
        "team: {ana: {workstreams: [gui]}}\n"
    )

    called = cli("plan", "check", "later.yaml")

    assert called.code == 0
    assert "note: later.yaml:5:7: `team`" in called.err
    assert "cannot carry it out yet" in called.err
    assert cli("plan", "check", "later.yaml", "--json").document["notes"]
    assert cli("plan", "check", "later.yaml", "--quiet").err == ""


def test_check_notes_once_what_all_tasks_lack(cli: Any, here: Path) -> None:
    works = "".join(f"  w{n}: {{description: W, owns: '{n}/**'}}\n" for n in range(5))
    (here / "nobody.yaml").write_text(f"version: 1\nworkstreams:\n{works}")

    (note,) = [line for line in cli("plan", "check", "nobody.yaml").err.splitlines() if "blocked" in line]

    said = "tasks `w0`, `w1`, `w2` and 2 more would be blocked: no engine here can give a change: "
    assert note.startswith(f"note: nobody.yaml:3:3: {said}")


def test_a_limit_that_no_role_has_is_refused_with_its_place_and_why(cli: Any, here: Path) -> None:
    (here / "p.yaml").write_text(
        "roles:\n  hands: {limits: {parallel: 2, budget: 1usd, grace: 3s}}\n"
        "tasks: [{id: a, description: x, role: hands}]\n"
    )
    called = cli("plan", "check", "p.yaml")
    assert called.code == 2
    assert called.err.startswith(
        "p.yaml:2:47: `grace` is no limit of a role: a signal ends a run as a whole; write `grace` in the `limits`"
    )


def test_estimate_counts_what_roles_allow_at_once(cli: Any, here: Path) -> None:
    text = "engines: {m: {use: mock}}\ndefaults: {engine: m, role: hands, estimate: 60s}\nroles: {hands: {ROLE}}\n"
    tasks = "".join(f"  - {{id: t{number}, description: x}}\n" for number in range(6))
    took = {}
    for role in ("", "limits: {parallel: 1}"):
        (here / "p.yaml").write_text(f"{text.replace('ROLE', role)}tasks:\n{tasks}")
        took[role] = cli("plan", "estimate", "p.yaml", "--parallel", "6", "--json").document
    alone, at_once = took["limits: {parallel: 1}"], took[""]
    assert alone["p50"] == pytest.approx(alone["one_by_one"])
    assert at_once["p50"] < alone["p50"]


def test_show_says_who_does_what_after_whom(cli: Any, solid: Path) -> None:
    called = cli("plan", "show", "solid.yaml")

    assert called.code == 0
    each, total, last = called.out.splitlines()
    assert each.startswith("each × 3: `sh` (")
    assert total.endswith("after each")
    assert last.startswith("4 to carry out, strategy dag, ")


def test_show_as_json_is_the_plan(cli: Any, solid: Path) -> None:
    document = cli("plan", "show", "solid.yaml", "--json").document

    assert document["plan"]["name"] == "solid"
    assert [task["id"] for task in document["plan"]["tasks"]] == ["each", "sum"]


@pytest.mark.parametrize(
    ("form", "beginning"), [("terminal", ""), ("mermaid", "flowchart"), ("dot", "digraph")]
)
def test_graph_draws_in_three_forms(cli: Any, solid: Path, form: str, beginning: str) -> None:
    drawn = cli("plan", "graph", "solid.yaml", "--format", form)
    document = cli("plan", "graph", "solid.yaml", "--format", form, "--json").document

    assert (drawn.code, drawn.err) == (0, "")
    assert drawn.out.startswith(beginning)
    assert "each" in drawn.out
    assert "sum" in drawn.out
    assert document["format"] == form
    assert document["drawing"].strip() == drawn.out.strip()


def test_graph_in_another_form_is_refused(cli: Any, solid: Path) -> None:
    called = cli("plan", "graph", "solid.yaml", "--format", "png")

    assert called.code == 2
    assert called.err == "error: there is no drawing `png`\n  next: one of `terminal`, `mermaid`, `dot`\n"


def test_estimate_foretells(cli: Any, solid: Path) -> None:
    called = cli("plan", "estimate", "solid.yaml", "--parallel", "2")

    assert called.code == 0
    path, parallel, alone = called.out.splitlines()
    assert path == "critical path: each@a.py → sum, 1m 30s"
    assert parallel.startswith("2 at once: ")
    assert alone.startswith("one by one: ")


def test_estimate_as_json(cli: Any, solid: Path) -> None:
    document = cli("plan", "estimate", "solid.yaml", "--parallel", "3", "--json").document

    assert document["parallel"] == 3
    assert document["p50"] < document["one_by_one"]
    assert document["critical_path"] == ["each@a.py", "sum"]
    assert 90.0 <= document["p50"] <= document["p90"]


def test_what_tasks_took_counts_more_than_their_estimates(cli: Any, here: Path) -> None:
    (here / "slow.yaml").write_text(
        "engines: {sh: {use: command, command: [echo, x]}}\n"
        "tasks: [{id: a, description: x, engine: sh, estimate: 2h}]\n"
    )
    before = cli("plan", "estimate", "slow.yaml", "--json").document
    assert cli("execute", "slow.yaml").code == 0

    after = cli("plan", "estimate", "slow.yaml", "--json").document

    assert before["critical_path_seconds"] == 7200.0
    assert after["p90"] < 600.0, "what the task took, and not what was written"


def test_convert_writes_what_check_takes(cli: Any, solid: Path, here: Path) -> None:
    printed = cli("plan", "convert", "solid.yaml")
    written = cli("plan", "convert", "solid.yaml", "--output", "again.yaml")

    assert (written.code, written.out, written.err) == (0, "", "written to again.yaml\n")
    assert (here / "again.yaml").read_text() == printed.out
    assert cli("plan", "check", "again.yaml").code == 0
    assert cli("plan", "convert", "again.yaml").out == printed.out
    assert cli("plan", "convert", "solid.yaml", "--json").document == {"yaml": printed.out}


def test_nor_do_the_others_overwrite_what_somebody_wrote(cli: Any, solid: Path, here: Path) -> None:
    (here / "mine.txt").write_text("mine\n")
    for words in (("schema", "--output", "mine.txt"), ("propose", "--write", "mine.txt")):
        refused = cli("plan", *words)
        assert (refused.code, (here / "mine.txt").read_text()) == (2, "mine\n")
        assert "not overwritten" in refused.err
    assert cli("plan", "schema", "--output", "mine.txt", "--force").code == 0
    assert "$defs" in (here / "mine.txt").read_text()


def test_convert_does_not_overwrite_what_somebody_wrote(cli: Any, solid: Path, here: Path) -> None:
    convert = ("plan", "convert", "solid.yaml", "--output", "again.yaml")
    (here / "again.yaml").touch()
    assert cli(*convert).code == 0
    assert cli(*convert).code == 0  # what it would write is there
    text = (here / "again.yaml").read_text()
    (here / "again.yaml").write_text(text + "# mine\n")

    refused = cli(*convert)

    assert (refused.code, refused.out) == (2, "")
    assert "`again.yaml` is there, and says something else; it is not overwritten" in refused.err
    assert "--force" in refused.err
    assert (here / "again.yaml").read_text() == text + "# mine\n"
    assert cli(*convert, "--force").code == 0
    assert (here / "again.yaml").read_text() == text


def test_convert_into_a_folder_that_is_not_there(cli: Any, solid: Path) -> None:
    called = cli("plan", "convert", "solid.yaml", "--output", "no/such/again.yaml")

    assert (called.code, called.out) == (2, "")
    assert "no/such" in called.err


def test_schema_is_json(cli: Any, here: Path) -> None:
    called = cli("plan", "schema")

    assert (called.code, called.err) == (0, "")
    assert json.loads(called.out)["type"] == "object"
    assert cli("plan", "schema", "--json").out == called.out


def test_a_plan_is_shown_with_no_journal_made(cli: Any, solid: Path, here: Path) -> None:
    for verb in ("check", "show", "graph", "estimate", "convert"):
        assert cli("plan", verb, "solid.yaml").code == 0

    assert not (here / ".parallelai/state").exists()


@pytest.mark.parametrize("strategy", ["magic", "'batch:x'", "batch", "'dag:3'"])
def test_a_strategy_that_is_none_is_found_at_check(cli: Any, here: Path, strategy: str) -> None:
    (here / "p.yaml").write_text(f"version: 1\nstrategy: {strategy}\ntasks: [{{id: a, description: b}}]\n")

    for words in ("plan check", "plan show", "plan graph", "execute"):
        called = cli(*words.split(), "p.yaml", "--json")
        assert (called.code, called.error["where"]) == (2, "p.yaml:2:11")
