"""What folders need of their machine: ports and names in their programs' environment, and slots waited for."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest
from acting_hands import Act, Hands, writes
from repositories import Repository

from parallelai.client import AsyncParallelAI
from parallelai.engines.protocol import Request
from parallelai.events import Event
from parallelai.records import Outcome, RunDocument

ALL_SLOTS = {"heavy": max(1, (os.cpu_count() or 2) // 2)}
SHOWS = """\
import os, pathlib
shown = {name: os.environ.get(name, "") for name in ("PARALLELAI_PORT_1", "PORT", "PARALLELAI_DATABASE")}
pathlib.Path(os.environ["XDG_CACHE_HOME"], "kept").write_text("x")
pathlib.Path("shown.txt").write_text("{PARALLELAI_PORT_1} {PORT} {PARALLELAI_DATABASE}".format(**shown))
"""


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    (tmp_path / "gitconfig").write_text("[user]\n\tname = Ana\n\temail = ana@example.invalid\n")
    repository = Repository.start(tmp_path / "project")
    repository.commit({"shows.py": SHOWS, "a.txt": "a\n"})
    return repository


async def carry_out(
    user: Repository,
    hands: Hands,
    plan: dict[str, Any],
    events: list[Event] | None = None,
    *,
    is_applied: bool = False,
) -> RunDocument:
    path = user.root.parent / "plan.json"
    path.write_text(json.dumps({"defaults": {"engine": "hands"}, **plan}))
    seen = events if events is not None else []
    async with AsyncParallelAI(user.root, engines=[hands]) as ai:
        document = await asyncio.wait_for(ai.execute(path, on_events=seen.extend, apply=is_applied), 60)
        held = await ai.work.ledger()
    assert not any(one.heavy or one.memory for one in held)
    assert document.exit or not held, "all of it is given back"
    return document


async def test_a_task_sees_its_ports_and_names_and_gives_them_back(user: Repository) -> None:
    plan = {
        "engines": {"sh": {"use": "command", "command": ["python3", "shows.py"]}},
        "workspace": {"needs": {"ports": 1, "database": True}},
        "tasks": [
            {
                "id": "t",
                "description": "d",
                "edits": True,
                "engine": "sh",
                "checks": [["sh", "-c", "grep -q $PARALLELAI_DATABASE shown.txt"]],
            }
        ],
    }
    (row,) = (await carry_out(user, Hands({}), plan)).tasks
    assert row.status is Outcome.OK, row.error
    (added,) = [
        line
        for line in (user.root / row.change.patch).read_text().splitlines()
        if line[:1] == "+" != line[1:2]
    ]
    port, first, database = added.removeprefix("+").split()
    assert port == first
    assert 20_000 <= int(port) < 32_768
    assert database.startswith("p_project_t_")


class Turns:
    """Whether two were at work at once."""

    def __init__(self) -> None:
        self.now = self.most = 0

    def at(self, path: str) -> Act:
        async def act(hands: Hands, request: Request) -> None:
            self.now += 1
            self.most = max(self.now, self.most)
            for _ in range(50):
                await asyncio.sleep(0.001)
            writes((path, "x\n"))(hands, request)
            self.now -= 1

        return act


@pytest.mark.parametrize("kind", ["workstreams", "tasks"])
async def test_what_one_says_of_its_folder_comes_on_top_of_what_the_plan_says(
    user: Repository, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setenv("PASSED", "p")
    user.commit({".gitignore": ".env\n"})
    (user.root / ".env").write_text("KEY")
    shows = "import os, pathlib; pathlib.Path('shown.txt').write_text(pathlib.Path('.env').read_text()"
    shows += " + os.environ['OWN'] + os.environ['PASSED'] + str('PARALLELAI_DATABASE' in os.environ))"
    own = {"description": "a", "workspace": {"env": {"OWN": "own"}, "needs": {"ports": 1}}}
    works: Any = {
        "workstreams": {"a": {**own, "owns": "shown.txt"}},
        "tasks": [{**own, "id": "a", "edits": True}],
    }
    plan = {
        "engines": {"sh": {"use": "command", "command": ["python3", "-c", shows]}},
        "defaults": {"engine": "sh"},
        "workspace": {"copy": [".env"], "pass_env": ["PASSED"], "needs": {"ports": 2, "database": True}},
        kind: works[kind],
    }
    document = await carry_out(user, Hands({}), plan, is_applied=True)
    assert document.tasks[0].status is Outcome.OK, document.tasks[0].error
    assert (user.root / "shown.txt").read_text() == "KEYownpFalse", "`needs` is one key"


async def test_tasks_wait_for_one_anothers_heavy_slots(user: Repository) -> None:
    turns = Turns()
    hands = Hands({name: [turns.at(f"{name}.txt")] for name in ("one", "two", "three")})
    task = {"description": "d", "edits": True, "workspace": {"needs": ALL_SLOTS}}
    document = await carry_out(user, hands, {"tasks": [{"id": name, **task} for name in hands.acts]})
    assert {row.status for row in document.tasks} == {Outcome.OK}, [row.error for row in document.tasks]
    assert turns.most == 1


async def test_workstreams_do_so_too_and_leave_them_while_they_wait_for_another(user: Repository) -> None:
    """`one` holds all slots, and asks for a file of `two`, which needs them to be done."""
    turns = Turns()
    asks = "```parallelai\n" + json.dumps({"lease": "two.txt", "reason": "to mention it"}) + "\n```"
    hands = Hands(
        {
            "one": [writes(("one.txt", "1\n"), says=asks), writes(("two.txt", "of both\n"))],
            "two": [turns.at("two.txt")],
            "three": [turns.at("three.txt")],
        }
    )
    events: list[Event] = []
    plan = {
        "workspace": {"needs": ALL_SLOTS},
        "workstreams": {name: {"description": name, "owns": f"{name}.txt"} for name in hands.acts},
    }
    document = await carry_out(user, hands, plan, events)
    assert {row.status for row in document.tasks} == {Outcome.OK}, [row.error for row in document.tasks]
    assert turns.most == 1
    assert (user.root / "two.txt").read_text() == "of both\n"
    assert [event for event in events if event.type == "task.step" and event.data.step == "wait"]  # type: ignore[union-attr]


async def test_who_needs_more_than_the_machine_has_is_blocked_and_told(user: Repository) -> None:
    too_many = {"heavy": ALL_SLOTS["heavy"] + 1}
    plan = {
        "workspace": {"needs": too_many},
        "tasks": [{"id": "t", "description": "d", "edits": True}],
        "workstreams": {"w": {"description": "w", "owns": "w.txt"}},
    }
    document = await carry_out(user, Hands({}), plan)
    for row in document.tasks:
        assert row.status is Outcome.BLOCKED
        assert row.error is not None
        assert "heavy slots, and this machine has" in row.error.said


# -- gates of phases, over tasks that edit

GATE = ["sh", "-c", "grep -q new a.txt && test -e b.txt && ! test -e never.txt"]


async def test_a_phases_gate_sees_what_its_tasks_changed(user: Repository) -> None:
    tasks = [{"id": name, "description": "d", "edits": True} for name in ("a", "b", "later")]
    phases = [{"name": "A", "tasks": ["a", "b"], "gate": [GATE]}, {"name": "B", "tasks": ["later"]}]
    acts = {"a": [writes(("a.txt", "new\n"))], "later": [writes(("c.txt", "c\n"))]}
    good = Hands({**acts, "b": [writes(("b.txt", "b\n"))]})
    document = await carry_out(user, good, {"tasks": tasks, "phases": phases})
    assert {row.status for row in document.tasks} == {Outcome.OK}, [row.error for row in document.tasks]
    assert (user.root / "a.txt").read_text() == "a\n", "nothing is applied for it"
    bad = Hands({**acts, "b": [writes(("b.txt", "b\n"), ("never.txt", "x\n"))]})
    document = await carry_out(user, bad, {"tasks": tasks, "phases": phases}, is_applied=True)
    rows = {row.id: row for row in document.tasks}
    assert rows["b"].status is Outcome.OK
    assert (user.root / "a.txt").read_text() == "a\n", "what its gate has not passed is not applied"
    assert rows["a"].change is not None
    assert rows["a"].change.why == "the gate of phase `A` has not passed"
    assert rows["later"].status is Outcome.SKIPPED
    (gate,) = [row for row in document.tasks if row.error is not None]
    assert gate.error is not None
    assert gate.error.kind == "gate_failed"
    assert (user.root / str(gate.error.where)).is_file()


async def test_a_phases_gate_sees_changes_and_landings_together(user: Repository) -> None:
    plan = {
        "tasks": [{"id": "a", "description": "d", "edits": True}],
        "workstreams": {"b": {"description": "b", "owns": "b.txt"}},
        "phases": [{"name": "A", "tasks": ["a", "b"], "gate": [GATE]}],
    }
    hands = Hands({"a": [writes(("a.txt", "new\n"))], "b": [writes(("b.txt", "b\n"))]})
    document = await carry_out(user, hands, plan)
    assert {row.status for row in document.tasks} == {Outcome.OK}, [row.error for row in document.tasks]
