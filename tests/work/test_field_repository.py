"""The plans of the field: as they are shipped they pass `plan check`, and their work fits to what they own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import field_repository as field
import jsonschema
import pytest
from repositories import Repository

from parallelai.plan.files import Matcher
from parallelai.plan.graph import topological_order
from parallelai.plan.load import from_mapping
from parallelai.plan.pairs import pairs
from running import run_program


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return field.build(tmp_path / "bookshelf")


def test_all_plans_of_the_folder_are_known() -> None:
    assert sorted(path.stem for path in field.EXAMPLES.glob("*.yaml")) == sorted(field.PLANS)
    page = (field.EXAMPLES.parent / "README.md").read_text(encoding="utf-8")
    assert all(f"(field/{name}.yaml)" in page for name in field.PLANS)


@pytest.mark.parametrize("name", field.PLANS)
def test_a_shipped_plan_is_right_where_it_is_run(name: str, repository: Repository) -> None:
    text = (field.EXAMPLES / f"{name}.yaml").read_text(encoding="utf-8")
    (repository.root / "plan.yaml").write_text(text, encoding="utf-8")
    for arguments in (["check"], ["graph"], ["propose"], ["convert"]):
        done = run_program(repository.root, "plan", *arguments, "plan.yaml")
        assert done.returncode == 0, done.stderr
    document = json.loads(run_program(repository.root, "plan", "check", "plan.yaml", "--json").stdout)
    assert document["ok"]
    assert all(pair["is_safe"] for pair in document["pairs"])
    named = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", text.splitlines()[0])
    assert named is not None
    schema = json.loads((field.EXAMPLES / named[1]).read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(field.shipped(name))


@pytest.mark.parametrize("name", field.PLANS)
def test_each_writes_only_what_it_owns(name: str) -> None:
    plan = from_mapping(field.with_scripts(field.shipped(name)))
    assert set(field.WORK[name]) == {work.id for work in plan.works}
    for work in plan.workstreams:
        owns = Matcher(work.owns)
        paths = field.written_by(name, work.id)
        assert paths
        assert all(owns.selects(path) for path in paths), work.id
        assert "```script" in work.description
    assert all(pair.is_safe for pair in pairs(plan, field.FILES))


@pytest.mark.parametrize("name", field.PLANS)
def test_every_state_on_the_way_is_green(name: str, repository: Repository) -> None:
    """The work, done one after the other, passes its gate each time; so a red landing is the landing's fault."""
    plan = field.shipped(name)
    order = topological_order({key: work.get("depends_on", []) for key, work in plan["workstreams"].items()})
    assert order is not None
    for stream in order:
        told = field.with_scripts(plan)["workstreams"][stream]["description"]
        subprocess.run(
            field.HANDS, cwd=repository.root, input=told, text=True, check=True, capture_output=True
        )
        changed = repository.git("status", "--porcelain", "-uall").split("\n")[:-1]
        assert {line[3:] for line in changed} == field.written_by(name, stream)
        repository.commit()
        tested = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:hypothesispytest"],
            cwd=repository.root,
            capture_output=True,
            text=True,
        )
        assert tested.returncode == 0, f"{stream}:\n{tested.stdout}"
