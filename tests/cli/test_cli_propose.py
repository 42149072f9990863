"""`parallelai plan propose`, and what `plan check` says of workstreams beside each other."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

MEETING = """\
version: 1
name: meeting
workstreams:
  gui: {description: G, owns: 'src/**'}
  core: {description: C, owns: 'src/deep/**', priority: high}
  tests: {description: T, owns: 'tests/**', depends_on: [gui, core]}
"""
SAFE = MEETING.replace("'src/**'", "['src/**', '!src/deep/**']")


@pytest.fixture
def meeting(here: Path) -> Path:
    path = here / "meeting.yaml"
    path.write_text(MEETING)
    return path


def test_check_explains_who_may_not_run_together(cli: Any, meeting: Path) -> None:
    called = cli("plan", "check", meeting)

    assert (called.code, called.out) == (2, "")
    assert "meeting.yaml:5:32: `gui` and `core` both own `src/deep/c.py`, and neither waits" in called.err
    assert "add `!src/deep/**` to what `gui` owns" in called.err


def test_check_explains_who_may(cli: Any, here: Path) -> None:
    (here / "safe.yaml").write_text(SAFE)

    lines = cli("plan", "check", "safe.yaml").out.splitlines()
    verbose = cli("plan", "check", "safe.yaml", "--verbose").out
    document = cli("plan", "check", "safe.yaml", "--json").document

    assert lines[1:] == [
        "3 pairs of workstreams, 1 may run together",
        "phase-1: gui, core",
        "phase-2: tests (after `gui` and `core`)",
    ]
    assert "  `gui` and `core` own different files\n" in verbose
    assert "  `gui` and `tests` own different files; `tests` waits for `gui`\n" in verbose
    assert [(pair["a"], pair["b"], pair["together"], pair["why"]) for pair in document["pairs"]] == [
        ("gui", "core", True, "disjoint"),
        ("gui", "tests", False, "ordered"),
        ("core", "tests", False, "ordered"),
    ]
    assert document["phases"][1] == {"name": "phase-2", "tasks": ["tests"], "why": "after `gui` and `core`"}


def test_phases_are_proposed_for_who_meets(cli: Any, meeting: Path) -> None:
    called = cli("plan", "propose", "meeting.yaml")
    document = cli("plan", "propose", "meeting.yaml", "--json").document

    assert called.code == 0
    assert called.out.splitlines() == [
        "3 pairs of workstreams, 0 may run together",
        "phase-1: core",
        "phase-2: gui (`gui` and `core` both own `src/deep/c.py`)",
        "phase-3: tests (after `gui`)",
    ]
    assert (
        "note: `gui` and `core` both own `src/deep/c.py`, and neither waits for the other; add" in called.err
    )
    assert [phase["tasks"] for phase in document["phases"]] == [["core"], ["gui"], ["tests"]]
    assert document["pairs"][0]["example"] == "src/deep/c.py"


def test_a_plan_that_was_wrong_is_right_with_its_phases(cli: Any, meeting: Path, here: Path) -> None:
    written = cli("plan", "propose", "meeting.yaml", "--write", "phases.yaml")

    assert (written.code, written.out) == (0, "")
    assert "written to phases.yaml" in written.err
    assert cli("plan", "check", "phases.yaml").code == 0
    assert cli("plan", "convert", "phases.yaml").out == (here / "phases.yaml").read_text()
    assert meeting.read_text() == MEETING


def test_phases_that_are_there_are_not_written_over(cli: Any, meeting: Path, here: Path) -> None:
    cli("plan", "propose", "meeting.yaml", "--write", "phases.yaml")
    before = (here / "phases.yaml").read_text()

    called = cli("plan", "propose", "phases.yaml", "--write", "phases.yaml")

    assert (called.code, (here / "phases.yaml").read_text()) == (2, before)
    assert "has phases already" in called.err
    assert cli("plan", "propose", "phases.yaml").code == 0


def test_a_first_plan_is_made_of_the_project(cli: Any, here: Path) -> None:
    printed = cli("plan", "propose")
    document = cli("plan", "propose", "--json").document
    (here / "first.yaml").write_text(printed.out)

    assert (printed.code, printed.err) == (0, "")
    assert "\n  # 1 file, 12 bytes\n  deep:\n" in printed.out
    assert cli("plan", "check", "first.yaml").code == 0
    assert document["plan"] is None
    assert document["yaml"] == printed.out
    assert cli("plan", "propose", "--write", "again.yaml").code == 0
    assert "version: 1" in (here / "again.yaml").read_text()


def test_there_is_something_to_propose(cli: Any, plan: Path, here: Path) -> None:
    called = cli("plan", "propose", "plan.yaml")

    assert called.code == 2
    assert "`plan.yaml` has no workstreams" in called.err
    assert cli("plan", "propose", "nope.yaml").code == 2


def test_nothing_is_written_by_looking(cli: Any, meeting: Path, here: Path) -> None:
    before = sorted(path for path in here.rglob("*"))
    cli("plan", "propose", "meeting.yaml")
    cli("plan", "propose")
    assert sorted(path for path in here.rglob("*")) == before


def test_show_says_who_owns_what_and_what_a_gate_runs(cli: Any, here: Path) -> None:
    subprocess.run(["git", "init", "-q"], cwd=here, check=True)
    (here / "safe.yaml").write_text(
        SAFE + "phases:\n  - {name: one, tasks: [gui, core], gate: [python3 check.py]}\n"
        "  - {name: two, tasks: [tests]}\ndefaults: {engine: sh}\n"
        "engines: {sh: {use: command, command: [cat]}}\n"
    )

    lines = cli("plan", "show", "safe.yaml").out.splitlines()

    assert lines[:4] == [
        "gui: `sh` (plan)  owns src/**, !src/deep/**",
        "core: `sh` (plan)  owns src/deep/**",
        "tests: `sh` (plan)  owns tests/**  after gui, core",
        "gate@one: python3 check.py",
    ]
    tasks = cli("plan", "show", "safe.yaml", "--json").document["tasks"]
    assert [(task["id"], task["engine"]) for task in tasks][-1] == ("gate@one", [])


@pytest.fixture
def own(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with tests whose pytest is in its own environment, and PATH has none."""
    program = here / ".venv" / "bin" / "pytest"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    (here / "test_a.py").write_text("import pytest\n")
    monkeypatch.setenv("PATH", str(here / "no-such-folder"))
    return program


def test_a_first_plan_names_pytest_where_it_is(cli: Any, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proposed = cli("plan", "propose").out
    own.chmod(0o644)
    unusable = cli("plan", "propose").out
    own.chmod(0o755)
    elsewhere = own.parents[2] / "elsewhere" / "pytest"  # it lacks what the project needs
    elsewhere.parent.mkdir()
    elsewhere.write_text("#!/bin/sh\nexit 2\n")
    elsewhere.chmod(0o755)
    monkeypatch.setenv("PATH", str(elsewhere.parent))
    on_path = cli("plan", "propose").out

    for text in (proposed, on_path):
        assert "link:\n    - .venv\n" in text
        assert "    - .venv/bin/pytest -q --junitxml={report}\n" in text
    assert ("    - pytest -q --junitxml={report}\n" in unusable, "link:" in unusable) == (True, False)


def test_a_gate_whose_program_is_not_here_is_told_before_a_run(cli: Any, here: Path, own: Path) -> None:
    gates = "gates: {landing: [pytest -q, no-such-program, .venv/bin/pytest -q, {review: code-review}]}\n"
    (here / "safe.yaml").write_text(SAFE + gates)

    told = [line for line in cli("plan", "check", "safe.yaml").err.splitlines() if "gate" in line]
    (here / "safe.yaml").write_text(SAFE + gates + "workspace: {setup: [sh install.sh]}\n")
    set_up = cli("plan", "check", "safe.yaml").err

    assert told == [
        "note: gate `pytest -q` could not be run: `pytest` was not found on PATH; `.venv/bin/pytest` is here:"
        " name that, and add `workspace: {link: [.venv]}` to the plan",
        "note: gate `no-such-program` could not be run: `no-such-program` was not found on PATH;"
        " install `no-such-program`, or give its full path",
    ]
    assert "gate" not in set_up
