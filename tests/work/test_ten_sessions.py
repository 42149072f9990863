"""Ten assistants at once, each of which writes what it owns and one file that it does not."""

from __future__ import annotations

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
    check_removed,
    clients,
    events,
    first_parents,
    text_at,
)
from repositories import Repository

from scripted import ScriptedServer, block, serving

TEN = tuple(f"part{number}" for number in range(10))


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = field.build(tmp_path / "bookshelf")
    made.commit({f"src/bookshelf/{name}/__init__.py": f'"""{name}"""\n' for name in TEN})
    return made


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedServer]:
    monkeypatch.setenv("TEST_CLIENT_KEY", KEY)
    with serving() as running:
        yield running


def trespass(number: int) -> dict[str, Any]:
    """What a session must not write: a neighbour's file, a new one that nobody owns, or one of the project."""
    neighbour = TEN[(number + 1) % len(TEN)]
    path = (
        f"src/bookshelf/{neighbour}/stolen{number}.py",
        f"src/bookshelf/stray{number}.py",
        f"docs/s{number}.md",
    )
    return field.write(path[number % 3], f"# {TEN[number]} was here\n")


def plan_of(engines: dict[str, Any]) -> dict[str, Any]:
    """Ten workstreams, given to the engines by turns."""
    names = list(engines)
    streams = {}
    for number, name in enumerate(TEN):
        steps = (
            field.write(f"src/bookshelf/{name}/value.py", f"VALUE = {number}\n"),
            trespass(number),
            {"say": f"{name} is done"},
        )
        streams[name] = {
            "description": f"Give {name} its value.\n\n{block(*steps, id=name)}",
            "owns": f"src/bookshelf/{name}/**",
            "engine": names[number % len(names)],
        }
    return {
        "version": 1,
        "name": "ten",
        "engines": engines,
        "limits": {"parallel": 10},
        "workstreams": streams,
        "gates": {"landing": ["pytest -q --junitxml={report}"]},
    }


def check_kept_out(repository: Repository, called: Called, before: Before, folder: Path) -> None:
    assert called.code == 0, called.told
    told = {event["task"]: event["data"] for event in events(repository.root, "guard.kept_out")}
    for number, name in enumerate(TEN):
        task = called.tasks[name]
        stolen = trespass(number)["path"]
        assert task["status"] == "ok", task
        assert task["workstream"]["kept_out"] == [stolen]
        assert list(told[name]["paths"]) == [stolen]
        patch = (repository.root / told[name]["patch"]).read_text()
        assert f"+# {name} was here" in patch
        assert text_at(repository, f"src/bookshelf/{name}/value.py") == f"VALUE = {number}\n"
        assert text_at(repository, stolen) is None
        assert not (repository.root / stolen).exists()
    check_green(repository, first_parents(repository, before.commit), PYTEST, folder)
    check_removed(repository)
    check_checkout(repository, before)


@pytest.mark.timeout(600)
def test_ten_trespasses_of_real_assistants_are_kept_out(
    repository: Repository, tmp_path: Path, server: ScriptedServer, home: Path
) -> None:
    path = field.save(repository, plan_of(clients(server, home)))
    before = Before.of(repository)
    called = call(repository.root, "work", "run", path)
    assert not server.problems
    check_kept_out(repository, called, before, tmp_path / "commits")
    for number, name in enumerate(TEN):  # each was told, in its own session, what it must not change
        asked = [request.user_text for request in server.of(name)]
        assert trespass(number)["path"] in asked[-1]
