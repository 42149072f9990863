"""The plans of the field are carried out from end to end: by a command that follows scripts, and by real assistants."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import field_repository as field
import pytest
from field_support import (
    KEY,
    PYTEST,
    Before,
    Called,
    call,
    check_checkout,
    check_green,
    check_order,
    check_removed,
    clients,
    events,
    first_parents,
    text_at,
)
from repositories import Repository

from parallelai.engines.models.table import MODELS
from scripted import ScriptedServer, serving


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return field.build(tmp_path / "bookshelf")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedServer]:
    monkeypatch.setenv("TEST_CLIENT_KEY", KEY)
    with serving() as running:
        yield running


def check_landed(name: str, repository: Repository, called: Called, before: Before, folder: Path) -> None:
    """All that the plan asked for is on the target, in order, green at every step; nothing else has changed."""
    plan = field.shipped(name)
    assert called.code == 0, called.told
    assert {task["status"] for task in called.tasks.values()} == {"ok"}
    commits = first_parents(repository, before.commit)
    depends_on = {key: work.get("depends_on", []) for key, work in plan["workstreams"].items()}
    for stream in plan["workstreams"]:
        told = called.tasks[stream]["workstream"]
        assert told["kept_out"] == []
        assert told["landed"]["commit"] in commits
        assert told["landed"]["pending"] is None
        assert all(gate["exit"] == 0 for gate in told["landed"]["gates"])
        for step in field.WORK[name][stream]:
            if step.get("tool") == "write":
                assert text_at(repository, step["path"]) == step["text"]
            elif step.get("tool") == "edit":
                assert step["new"].strip() in (text_at(repository, step["path"]) or "")
    check_order(called, depends_on, commits)
    check_green(repository, commits, PYTEST, folder)
    check_removed(repository)
    check_checkout(repository, before)
    changed = set(repository.git("diff", "--name-only", before.commit, "main").split())
    assert changed == {path for stream in plan["workstreams"] for path in field.written_by(name, stream)}


def check_phases(name: str, repository: Repository) -> None:
    """No attempt of a phase was begun before all of the phase before had landed."""
    order = [
        (event["type"], event["task"])
        for event in events(repository.root, "landing.landed", "attempt.started")
    ]
    phases = [set(phase["tasks"]) for phase in field.shipped(name).get("phases", ())]
    for first, second in itertools.pairwise(phases):
        last_landed = max(
            at for at, (kind, task) in enumerate(order) if kind == "landing.landed" and task in first
        )
        first_begun = min(
            at for at, (kind, task) in enumerate(order) if kind == "attempt.started" and task in second
        )
        assert last_landed < first_begun, (first, second)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", field.PLANS)
def test_real_assistants_land_a_plan_of_the_field(
    name: str, repository: Repository, tmp_path: Path, server: ScriptedServer, home: Path
) -> None:
    engines = clients(server, home)
    choice: Any = "claude-code" if name == "five-days" else {"spread": list(engines)}
    plan = field.by_engines(field.with_scripts(field.shipped(name)), engines, choice)
    path = field.save(repository, plan)
    before = Before.of(repository)
    called = call(repository.root, "work", "run", path)
    assert not server.problems
    check_landed(name, repository, called, before, tmp_path / "commits")
    check_phases(name, repository)
    if name == "five-days":
        works = {**plan["workstreams"], **{task["id"]: task for task in plan["tasks"]}}
        for stream, work in works.items():
            asked = {request.call.model for request in server.of(stream)}
            assert asked == {MODELS["anthropic"][work["model"]]}, stream
    else:
        assert {task["engine"] for task in called.tasks.values() if task["workstream"]} == set(engines)


def test_a_landed_plan_has_nothing_left_to_do(repository: Repository, tmp_path: Path) -> None:
    path = field.save(repository, field.by_hands(field.with_scripts(field.shipped("book-cataloger"))))
    before = Before.of(repository)
    first = call(repository.root, "work", "run", path)
    check_landed("book-cataloger", repository, first, before, tmp_path / "commits")
    tip = repository.git("rev-parse", "main")
    again = call(repository.root, "work", "run", path)
    assert again.code == 0, again.told
    assert again.document["run"] == first.document["run"]
    assert repository.git("rev-parse", "main") == tip


def test_a_stream_that_fails_its_gate_is_left_out_and_all_else_lands(
    repository: Repository, tmp_path: Path
) -> None:
    plan = field.with_scripts(field.shipped("book-cataloger"))
    bad = field.write("src/bookshelf/storage/sqlite_file.py", "def load(:\n")
    broken = field.with_scripts(field.shipped("book-cataloger"), {"backend": [bad]})
    plan["workstreams"]["backend"] = broken["workstreams"]["backend"]
    repository.commit({"tests/test_syntax.py": _SYNTAX})
    path = field.save(repository, field.by_hands(plan))
    before = Before.of(repository)
    called = call(repository.root, "work", "run", path)
    assert called.code == 4, called.told
    came_to = {name: task["status"] for name, task in called.tasks.items()}
    assert came_to.pop("backend") in {"failed", "blocked"}
    assert came_to == {"gui": "ok", "testing": "skipped", "integration": "skipped"}
    assert called.error("backend") == "gate_failed"
    assert text_at(repository, "src/bookshelf/gui/window.py") is not None
    assert text_at(repository, "src/bookshelf/storage/sqlite_file.py") is None
    check_green(repository, first_parents(repository, before.commit), PYTEST, tmp_path / "commits")
    check_checkout(repository, before)


_SYNTAX = """\
import ast
from pathlib import Path


def test_all_can_be_read():
    for path in Path("src").rglob("*.py"):
        ast.parse(path.read_text())
"""
