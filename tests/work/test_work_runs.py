"""Runs of workstreams: an assistant with a memory works in real worktrees, and what it made lands by real git."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import shutil
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from acting_hands import Act, Hands, writes
from repositories import Repository, everything

from parallelai.client import AsyncParallelAI
from parallelai.client.options import CarryOut
from parallelai.engines.protocol import Port, Request
from parallelai.errors import ConsentError, EngineError, Rejected, TimedOut, Transient, Trespass, UsageError
from parallelai.events import AttemptEnded, Event, TaskEnded, WorkspaceRepaired
from parallelai.plan.load import load
from parallelai.records import Outcome, Reply, RunDocument
from parallelai.run.approving import WAITS
from parallelai.run.executors import local
from parallelai.work.landing.queue import LandingQueue
from parallelai.work.landing.records import Arrival, Candidate
from parallelai.work.scratch.home import home

GATE = ["python3", "gate.py"]
CHECK = "import pathlib, sys; sys.exit(any('BROKEN' in p.read_text() for p in pathlib.Path('.').rglob('*.txt')))\n"


@dataclass
class Late(Hands):
    """An assistant whose turns end when a file is there."""

    waits_for: Path = Path()
    name: str = "late"

    async def perform(self, request: Request, port: Port) -> Reply:
        while not self.waits_for.exists():
            await asyncio.sleep(0.01)
        return await super().perform(request, port)


def asks(path: str | list[str]) -> str:
    return "I need it.\n```parallelai\n" + json.dumps({"lease": path, "reason": "to register it"}) + "\n```"


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    (tmp_path / "gitconfig").write_text("[user]\n\tname = Ana\n\temail = ana@example.invalid\n")
    repository = Repository.start(tmp_path / "project")
    repository.commit({"gate.py": CHECK, "a.txt": "a\n", "b.txt": "b\n", "main.txt": "1\n2\n3\n"})
    return repository


async def carry_out(
    user: Repository, hands: Hands, plan: dict[str, Any], events: list[Event] | None = None, **more: Any
) -> RunDocument:
    path = user.root.parent / "plan.json"
    path.write_text(json.dumps({"defaults": {"engine": "hands"}, "gates": {"landing": [GATE]}, **plan}))
    seen = events if events is not None else []
    async with AsyncParallelAI(user.root, engines=[hands]) as ai:
        return await ai.execute(path, resume=True, on_events=seen.extend, **more)


def rows(document: RunDocument) -> dict[str, Any]:
    return {row.id: row for row in document.tasks}


async def test_what_was_made_lands_in_order_and_the_checkout_follows(user: Repository) -> None:
    (user.root / "notes.txt").write_text("the user's own\n")
    seen_by_late: list[str] = []

    def late(hands: Hands, request: Request) -> str:
        seen_by_late.append((Path(request.root) / "new.txt").read_text())
        return writes(("late.txt", "late\n"))(hands, request)

    hands = Hands({"first": [writes(("new.txt", "of first\n"))], "late": [late]})
    plan = {
        "workstreams": {
            "late": {"description": "Late", "owns": "late.txt", "depends_on": ["first"]},
            "first": {"description": "First", "owns": "new.txt"},
        }
    }
    document = await carry_out(user, hands, plan)
    assert {name: row.status for name, row in rows(document).items()} == {
        "first": Outcome.OK,
        "late": Outcome.OK,
    }
    assert document.exit == 0
    assert not home(document.run).exists()
    assert seen_by_late == ["of first\n"]
    assert (user.root / "late.txt").read_text() == "late\n"
    assert (user.root / "notes.txt").read_text() == "the user's own\n"
    assert user.git("status", "--short").split() == ["??", "notes.txt"]
    assert user.git("worktree", "list").count("\n") == 1
    subjects = user.git("log", "--first-parent", "--format=%s").splitlines()
    assert [line.split(":")[0] for line in subjects[:2]] == ["Merge late", "Merge first"]
    assert "ParallelAI-Task: first" in user.git("log", "--format=%B")
    assert user.git("log", "-1", "--format=%an <%ae>").strip() == "Ana <ana@example.invalid>"


async def test_only_what_is_left_asks_for_leave_to_go_to_another_address(user: Repository) -> None:
    plan: dict[str, Any] = {
        "workstreams": {"one": {"description": "One", "owns": "one.txt"}},
        "tasks": [{"id": "fix", "description": "Fix it", "files": "b.txt", "edits": True}],
    }

    def hands(address: str) -> Hands:
        made = Hands({"one": [writes(("one.txt", "1\n"))], "fix": [writes(("b.txt", "2\n"))]})
        made.capabilities = dataclasses.replace(made.capabilities, is_remote=True, asks_at=address)
        return made

    first = await carry_out(user, hands("http://a.invalid"), plan)
    (user.root / "b.txt").write_text("the user's own\n")  # what is done was done from the recorded base
    shown = await carry_out(user, hands("http://b.invalid"), plan)
    assert (first.exit, shown.exit, shown.run) == (0, 0, first.run)
    plan["tasks"].append({"id": "more", "description": "More"})
    with pytest.raises(ConsentError, match=r"now; so far to http://a\.invalid"):
        await carry_out(user, hands("http://b.invalid"), plan)


async def test_a_trespass_is_kept_out_told_and_the_rest_lands(user: Repository) -> None:
    hands = Hands({"one": [writes(("one.txt", "1\n"), ("a.txt", "not mine\n")), writes(("one.txt", "2\n"))]})
    events: list[Event] = []
    plan = {"workstreams": {"one": {"description": "One", "owns": "one.txt"}}}
    row = rows(await carry_out(user, hands, plan, events))["one"]
    assert row.status is Outcome.OK
    assert row.workstream["kept_out"] == ["a.txt"]
    assert row.change.kept_out == ("a.txt",)
    assert len(hands.told["one"]) == 2
    assert "`a.txt`" in hands.told["one"][1]
    assert (user.root / "a.txt").read_text() == "a\n"
    assert (user.root / "one.txt").read_text() == "2\n"
    kept = next(event.data for event in events if event.type == "guard.kept_out")
    assert "+not mine" in (user.root / kept.patch).read_text()


@pytest.mark.parametrize("error", [Transient("the stream was cut off"), TimedOut("it said nothing")])
async def test_a_told_turn_that_is_cut_off_leaves_the_rest_to_land(
    user: Repository, error: EngineError
) -> None:
    def cut_off(hands: Hands, request: Request) -> None:
        writes(("more.txt", "more\n"), ("b.txt", "not mine\n"))(hands, request)
        raise error

    hands = Hands({"one": [writes(("one.txt", "1\n"), ("a.txt", "not mine\n")), cut_off]})
    plan = {"workstreams": {"one": {"description": "One", "owns": ["one.txt", "more.txt"]}}}
    events: list[Event] = []
    row = rows(await carry_out(user, hands, plan, events))["one"]
    assert (row.status, row.attempts, len(hands.told["one"])) == (Outcome.OK, 1, 2)
    assert row.workstream["kept_out"] == ["a.txt", "b.txt"]
    (reply,) = (event.data.reply for event in events if isinstance(event.data, AttemptEnded))
    assert reply is not None
    assert any(note.endswith(f"did not come to its end: {error.said}") for note in reply.notes)
    assert [(user.root / name).read_text() for name in ("a.txt", "b.txt", "one.txt")] == ["a\n", "b\n", "1\n"]


OVERSTEPS = writes(("one.txt", "1\n"), ("a.txt", "not mine\n"))


@pytest.fixture
def hangs(monkeypatch: pytest.MonkeyPatch) -> Act:
    """A turn in which the attempt's time is over."""
    clocks: list[local._Clock] = []

    def made(wall: asyncio.Timeout) -> local._Clock:
        clocks.append(Clock(wall))
        return clocks[-1]

    async def act(hands: Hands, request: Request) -> None:
        writes(("more.txt", "more\n"), ("b.txt", "not mine\n"))(hands, request)
        clocks[-1].arm(asyncio.get_running_loop().time())
        await asyncio.Event().wait()

    Clock = local._Clock
    monkeypatch.setattr(local, "_Clock", made)
    return act


def limited(**more: Any) -> dict[str, Any]:
    one = {"description": "One", "owns": ["one.txt", "more.txt"], "timeout": 500, "retries": 0, **more}
    return {"workstreams": {"one": one}}


async def test_a_told_turn_in_which_the_time_is_over_leaves_the_rest_to_land(
    user: Repository, hangs: Act
) -> None:
    hands = Hands({"one": [OVERSTEPS, hangs]})
    checks = [[sys.executable, "-c", "open('more.txt')"]]  # there is time for that
    events: list[Event] = []
    row = rows(await carry_out(user, hands, limited(checks=checks), events))["one"]
    assert (row.status, row.attempts, len(hands.told["one"])) == (Outcome.OK, 1, 2), row.error
    assert row.workstream["kept_out"] == ["a.txt", "b.txt"]
    (reply,) = (event.data.reply for event in events if isinstance(event.data, AttemptEnded))
    assert reply is not None
    said = "did not come to its end: engine `hands` was not done after 500 s"
    assert any(note.endswith(said) for note in reply.notes)
    assert [(user.root / name).read_text() for name in ("a.txt", "one.txt", "more.txt")] == [
        "a\n",
        "1\n",
        "more\n",
    ]


@pytest.mark.parametrize("error", [None, Transient("the stream was cut off"), TimedOut("it said nothing")])
async def test_what_a_person_said_in_a_turn_that_is_cut_off_is_noted_and_the_rest_lands(
    user: Repository, hangs: Act, error: EngineError | None
) -> None:
    async def first(hands: Hands, request: Request) -> None:
        OVERSTEPS(hands, request)
        async with AsyncParallelAI(user.root) as ai:
            await ai.work.send("one", "Mind\nthe gap.")

    def cut_off(hands: Hands, request: Request) -> Any:
        if error is None:
            return hangs(hands, request)
        raise error

    hands = Hands({"one": [first, cut_off]})
    events: list[Event] = []
    row = rows(await carry_out(user, hands, limited(retries=2), events))["one"]
    assert (row.status, row.attempts, len(hands.told["one"])) == (Outcome.OK, 1, 2), row.error
    (reply,) = (event.data.reply for event in events if isinstance(event.data, AttemptEnded))
    assert reply is not None
    said = "the turn in which it was told what was kept out and `Mind the gap.` did not come to its end: "
    assert any(note.startswith(said) for note in reply.notes)
    assert (user.root / "one.txt").read_text() == "1\n"


async def test_a_turn_for_which_it_stopped_to_be_told_has_to_come_to_its_end(
    user: Repository, hangs: Act
) -> None:
    hands = Hands({"one": [writes(("one.txt", "1\n"), says=asks("main.txt")), hangs]})
    row = rows(await carry_out(user, hands, {"shared": ["main.txt"], **limited()}))["one"]
    assert (row.error.kind, len(hands.told["one"])) == ("timed_out", 2)
    assert not (user.root / "one.txt").exists()


@pytest.mark.parametrize(
    ("more", "kind"),
    [({"checks": ["false"]}, "check_failed"), ({"todo": ["begin", "go on"]}, "timed_out")],
)
async def test_who_is_out_of_time_has_no_turn_more(
    user: Repository, hangs: Act, more: dict[str, Any], kind: str
) -> None:
    hands = Hands({"one": [OVERSTEPS, hangs]})
    row = rows(await carry_out(user, hands, limited(**more)))["one"]
    assert (row.error.kind, row.attempts, len(hands.told["one"])) == (kind, 1, 2)
    assert not (user.root / "one.txt").exists()


async def test_only_a_trespass_blocks_the_workstream(user: Repository) -> None:
    hands = Hands({"one": [writes(("a.txt", "not mine\n"))]})
    plan = {"workstreams": {"one": {"description": "One", "owns": "one.txt"}}}
    document = await carry_out(user, hands, plan)
    row = rows(document)["one"]
    assert (row.status, row.error.kind, document.exit) == (Outcome.BLOCKED, "trespass", 4)
    assert (user.root / "a.txt").read_text() == "a\n"


async def test_what_breaks_the_gate_does_not_land_and_its_dependents_wait(user: Repository) -> None:
    hands = Hands(
        {
            "good": [writes(("good.txt", "fine\n"))],
            "bad": [writes(("bad.txt", "BROKEN\n")), writes(("bad.txt", "mended\n"))],
            "after": [writes(("after.txt", "after\n"))],
        }
    )
    plan = {
        "workstreams": {
            "good": {"description": "Good", "owns": "good.txt"},
            "bad": {"description": "Bad", "owns": "bad.txt"},
            "after": {"description": "After", "owns": "after.txt", "depends_on": ["bad"]},
        }
    }
    first = rows(await carry_out(user, hands, plan))
    assert {name: str(row.status) for name, row in first.items()} == {
        "good": "ok",
        "bad": "blocked",
        "after": "skipped",
    }
    assert first["bad"].error.kind == "gate_failed"
    assert not (user.root / "bad.txt").exists()
    # The second time the assistant is told why, and does it better; what has landed is not done again.
    second = await carry_out(user, hands, plan)
    assert {str(row.status) for row in second.tasks} == {"ok"}
    assert "did not land" in hands.told["bad"][1]
    assert len(hands.told["good"]) == 1
    assert (user.root / "bad.txt").read_text() == "mended\n"
    assert (user.root / "after.txt").exists()


async def test_leases_are_granted_one_after_another(user: Repository) -> None:
    def add(name: str, line: str) -> Act:
        def act(hands: Hands, request: Request) -> str:
            path = Path(request.root) / "main.txt"
            lines = path.read_text().splitlines()
            lines.insert(0 if name == "one" else len(lines), line)
            path.write_text("\n".join(lines) + "\n")
            return "registered"

        return act

    hands = Hands(
        {
            name: [writes((f"{name}.txt", "x\n"), says=asks("main.txt")), add(name, f"of {name}")]
            for name in ("one", "two")
        }
    )
    events: list[Event] = []
    plan = {
        "shared": ["main.txt"],
        "limits": {"parallel": 1},
        "workstreams": {name: {"description": name, "owns": f"{name}.txt"} for name in ("one", "two")},
    }
    document = await carry_out(user, hands, plan, events)
    assert {str(row.status) for row in document.tasks} == {"ok"}, [row.error for row in document.tasks]
    assert (user.root / "main.txt").read_text() == "of one\n1\n2\n3\nof two\n"
    kinds = [(event.task, event.type) for event in events if event.type.startswith("lease.")]
    assert [kind for kind in kinds if kind[1] == "lease.granted"] == [
        ("one", "lease.granted"),
        ("two", "lease.granted"),
    ]
    assert kinds.index(("one", "lease.ended")) < kinds.index(("two", "lease.granted"))


async def test_who_remembers_nothing_is_told_all_again_with_the_answer_that_it_stopped_for(
    user: Repository,
) -> None:
    def first(hands: Hands, request: Request) -> str:
        user.commit({"landed.txt": "meanwhile\n"})
        (Path(request.root) / "one.txt").write_text("1\n")
        return asks("main.txt")

    hands = Hands({"one": [first, writes(("main.txt", "of one\n"), says=asks("other.txt"))]})
    hands.capabilities = dataclasses.replace(hands.capabilities, resumes=False)
    plan = {"shared": ["main.txt"], "workstreams": {"one": {"description": "One", "owns": "one.txt"}}}

    assert rows(await carry_out(user, hands, plan))["one"].status is Outcome.OK

    assert (user.root / "main.txt").read_text() == "of one\n"
    begun, answered = hands.told["one"]  # a program that always asks is answered once
    assert answered.startswith(begun)
    assert "You have the lease of `main.txt`" in answered.removeprefix(begun)
    assert "`landed.txt`" in answered.removeprefix(begun)


async def test_a_push_of_a_run_takes_along_what_landed_in_an_earlier_one(user: Repository) -> None:
    remote = user.root.parent / "remote.git"
    user.git("init", "-q", "--bare", str(remote))
    user.git("remote", "add", "origin", str(remote))
    plan: dict[str, Any] = {"workstreams": {"one": {"description": "One", "owns": "one.txt"}}}
    hands = Hands({"one": [writes(("one.txt", "1\n"))], "two": [writes(("two.txt", "2\n"))]})
    assert rows(await carry_out(user, hands, plan))["one"].status is Outcome.OK
    plan["workstreams"]["two"] = {"description": "Two", "owns": "two.txt"}
    plan["landing"] = {"push": True}

    assert rows(await carry_out(user, hands, plan))["two"].status is Outcome.OK

    async with AsyncParallelAI(user.root) as ai:
        pushed = {name: ai.work.find(name).landed for name in ("one", "two")}
    assert {name: how and how.pushed for name, how in pushed.items()} == {
        "one": "origin/main",
        "two": "origin/main",
    }
    assert user.git("rev-parse", "main") == user.git("-C", str(remote), "rev-parse", "main")


async def test_who_has_landed_takes_no_message(user: Repository) -> None:
    refused: list[str] = []

    async def second(hands: Hands, request: Request) -> None:
        (Path(request.root) / "two.txt").write_text("2\n")
        async with AsyncParallelAI(user.root) as ai:
            with pytest.raises(UsageError) as caught:
                await ai.work.send("one", "One more thing.")
        refused.append(caught.value.said)

    hands = Hands({"one": [writes(("one.txt", "1\n"))], "two": [second]})
    plan = {
        "workstreams": {
            "one": {"description": "One", "owns": "one.txt"},
            "two": {"description": "Two", "owns": "two.txt", "depends_on": ["one"]},
        }
    }
    assert rows(await carry_out(user, hands, plan))["two"].status is Outcome.OK
    assert refused == ["`one` is landed already, and takes no turn more"]


async def test_a_lease_of_a_file_of_a_later_batch_is_waited_for(user: Repository) -> None:
    hands = Hands(
        {
            "one": [
                writes(("one.txt", "1\n"), says=asks("two.txt")),
                writes(("two.txt", "2\nand of one\n")),
            ],
            "two": [writes(("two.txt", "2\n"))],
        }
    )
    events: list[Event] = []
    plan = {
        "strategy": "batch:1",
        "workstreams": {name: {"description": name, "owns": f"{name}.txt"} for name in ("one", "two")},
    }
    document = await carry_out(user, hands, plan, events)
    assert {str(row.status) for row in document.tasks} == {"ok"}, [row.error for row in document.tasks]
    assert (user.root / "two.txt").read_text() == "2\nand of one\n"
    assert [event.task for event in events if event.type == "lease.granted"] == ["one"]


async def test_no_lease_is_given_through_a_link(user: Repository, tmp_path: Path) -> None:
    (user.root / "out").symlink_to(tmp_path)
    user.git("add", "out")
    user.commit({"more.txt": "more\n"})
    ask = writes(("one.txt", "1\n"), says=asks("out/passwd"))
    hands = Hands({"one": [ask, writes(("one.txt", "1\n2\n"))]})
    plan = {"workstreams": {"one": {"description": "One", "owns": "one.txt"}}}
    row = rows(await carry_out(user, hands, plan))["one"]
    assert row.status is Outcome.OK
    assert "`out` is a link" in hands.told["one"][1]


async def test_protected_files_take_a_person(user: Repository) -> None:
    ask = writes(("one.txt", "1\n"), says=asks("AGENTS.md"))
    hands = Hands({"one": [ask, writes(("AGENTS.md", "obey me\n"))]})
    plan = {"workstreams": {"one": {"description": "One", "owns": ["one.txt", "AGENTS.md"]}}}
    row = rows(await carry_out(user, hands, plan))["one"]
    assert row.status is Outcome.OK
    assert "a person has to give leave" in hands.told["one"][1]
    assert not (user.root / "AGENTS.md").exists()
    assert row.workstream["kept_out"] == ["AGENTS.md"]


async def test_a_promised_interface_takes_a_person(user: Repository) -> None:
    user.commit({"api.py": "def load(path):\n    return path\n"})
    breaks = writes(("api.py", "def read(path):\n    return path\n"))
    hands = Hands({"one": [breaks]})
    plan = {"workstreams": {"one": {"description": "One", "owns": "api.py", "contracts": ["api.py"]}}}
    first = rows(await carry_out(user, hands, plan))["one"]
    assert (first.status, first.error.kind) == (Outcome.BLOCKED, "trespass")
    assert "`load`" in hands.told["one"][1]
    async with AsyncParallelAI(user.root, engines=[hands]) as ai:
        await ai.work.approve("one")
    second = rows(await carry_out(user, hands, plan))["one"]
    assert second.status is Outcome.OK
    assert "def read" in (user.root / "api.py").read_text()


async def test_what_is_promised_no_more_holds_nothing_back(user: Repository) -> None:
    user.commit({"api.py": "def load(path):\n    return path\n"})
    work = {"description": "One", "owns": "api.py"}
    hands = Hands({"one": [writes(("api.py", "def read(path):\n    return path\n"))]})
    before = await carry_out(user, hands, {"workstreams": {"one": {**work, "contracts": ["api.py"]}}})
    assert before.exit == 4

    after = rows(await carry_out(user, hands, {"workstreams": {"one": work}}))["one"]

    assert after.status is Outcome.OK, after.error
    assert "def read" in (user.root / "api.py").read_text()


async def test_a_checkout_in_the_way_keeps_what_landed_beside_it(user: Repository) -> None:
    (user.root / "a.txt").write_text("being edited\n")
    before = everything(user.root)
    hands = Hands({"one": [writes(("a.txt", "landed\n"))], "two": [writes(("two.txt", "2\n"))]})
    plan = {
        "workstreams": {
            "one": {"description": "One", "owns": "a.txt"},
            "two": {"description": "Two", "owns": "two.txt", "depends_on": ["one"]},
        }
    }
    document = await carry_out(user, hands, plan)
    assert {str(row.status) for row in document.tasks} == {"ok"}
    assert document.exit == 4
    pending = rows(document)["two"].workstream["landed"]["pending"]
    assert pending == "parallelai/landing/main"
    after = everything(user.root)
    assert {path: after[path][2] for path in before if ".git" not in path and ".parallelai" not in path} == {
        path: content[2]
        for path, content in before.items()
        if ".git" not in path and ".parallelai" not in path
    }
    user.git("checkout", "-q", "a.txt")
    user.git("merge", "-q", "--ff-only", pending)
    assert (user.root / "a.txt").read_text() == "landed\n"
    assert (user.root / "two.txt").read_text() == "2\n"


async def test_approval_is_asked_for_and_work_is_not_done_twice(user: Repository) -> None:
    hands = Hands({"one": [writes(("one.txt", "1\n"))]})
    plan = {"workstreams": {"one": {"description": "One", "owns": "one.txt", "approve": True}}}
    first = rows(await carry_out(user, hands, plan))["one"]
    assert (first.status, first.error.kind) == (Outcome.BLOCKED, "unavailable")
    assert not (user.root / "one.txt").exists()
    async with AsyncParallelAI(user.root, engines=[hands]) as ai:
        await ai.work.approve("one")
    assert rows(await carry_out(user, hands, plan))["one"].status is Outcome.OK
    assert len(hands.told["one"]) == 1
    assert (user.root / "one.txt").read_text() == "1\n"


async def test_who_is_refused_while_a_run_waits_does_it_again_with_the_reason(user: Repository) -> None:
    hands = Hands({"one": [writes(("one.txt", "1\n")), writes(("one.txt", "2\n"))]})
    work = {"description": "One", "owns": "one.txt", "approve": True}
    path = user.root / "plan.json"
    path.write_text(json.dumps({"defaults": {"engine": "hands"}, "workstreams": {"one": work}}))

    async def waited_for(person: Callable[[AsyncParallelAI], Awaitable[str]]) -> tuple[str, Any]:
        """Carry the plan out, and have a person say something as soon as it waits; gives what that came to."""
        waits = asyncio.Event()

        def see(events: list[Event]) -> None:
            if any(event.data == WAITS for event in events):
                waits.set()

        carry = CarryOut(is_resume=True, is_attended=True, on_events=see)
        async with AsyncParallelAI(user.root, engines=[hands]) as ai, asyncio.TaskGroup() as group:
            running = group.create_task(ai.carry_out_plan(load(path, root=user.root), "plan.json", carry))
            await waits.wait()
            said = await person(ai)
        return said, rows(running.result())["one"]

    said, row = await waited_for(lambda ai: ai.work.reject("one", "it is to be two"))
    assert said == "`one` does not land; it is worked on again when the run goes on"
    assert (row.status, row.error.said) == (Outcome.BLOCKED, "its landing was refused: it is to be two")
    assert not (user.root / "one.txt").exists()

    async def sent_and_approved(ai: AsyncParallelAI) -> str:
        said = await ai.work.send("one", "it is to be three")
        await ai.work.approve("one")
        return said

    said, row = await waited_for(sent_and_approved)
    done = "`parallelai work reject one --reason TEXT` has it worked on again"
    assert said == f"`one` is told with its next turn, if there is one; its work is done: {done}"
    assert row.status is Outcome.OK, row.error
    assert hands.told["one"][1].count("it is to be two") == 1
    assert "A person looked at what came of this task before, and refused it" in hands.told["one"][1]
    assert (user.root / "one.txt").read_text() == "2\n"


@pytest.mark.parametrize("approve", [False, True])
async def test_who_is_refused_while_it_is_worked_on_does_not_land(user: Repository, approve: bool) -> None:
    def refused(hands: Hands, request: Request) -> Any:
        async def act() -> str:
            async with AsyncParallelAI(user.root, engines=[hands]) as person:
                said.append(await person.work.reject("one", "it is to be two"))
            return str(writes(("one.txt", "1\n"))(hands, request))

        return act()

    said: list[str] = []
    hands = Hands({"one": [refused, writes(("one.txt", "2\n"))]})
    plan = {"workstreams": {"one": {"description": "One", "owns": "one.txt", "approve": approve}}}
    row = rows(await carry_out(user, hands, plan))["one"]

    assert said == ["`one` does not land; it is worked on again when the run goes on"]
    assert (row.status, row.error.said) == (Outcome.BLOCKED, "its landing was refused: it is to be two")
    assert not (user.root / "one.txt").exists()
    async with AsyncParallelAI(user.root, engines=[hands]) as ai:
        (status,) = await ai.work.status()
    assert (status.stage, status.is_ready) == ("rejected", False)

    await carry_out(user, hands, plan)
    assert hands.told["one"][1].count("it is to be two") == 1


async def test_what_is_landing_cannot_be_refused_any_more(
    user: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    lands, said = LandingQueue.land, list[str]()

    async def refused(queue: LandingQueue, candidate: Candidate) -> Arrival:
        async with AsyncParallelAI(user.root, engines=[hands]) as person:
            with pytest.raises(UsageError) as error:
                await person.work.reject("one", "no")
        said.append(error.value.said)
        return await lands(queue, candidate)

    monkeypatch.setattr(LandingQueue, "land", refused)
    hands = Hands({"one": [writes(("one.txt", "1\n"))]})
    document = await carry_out(
        user, hands, {"workstreams": {"one": {"description": "One", "owns": "one.txt"}}}
    )
    assert rows(document)["one"].status is Outcome.OK
    assert "`one` is landing already" in said[0]
    async with AsyncParallelAI(user.root, engines=[hands]) as ai:
        assert ai.work.find("one").state == "landed"


async def test_what_it_is_told_when_it_is_worked_on_again_is_to_be_heeded(user: Repository) -> None:
    hands = Hands({"one": [writes(("one.txt", "BROKEN\n")), writes(("one.txt", "2\n"))]})
    plan = {"workstreams": {"one": {"description": "One", "owns": "one.txt"}}}
    await carry_out(user, hands, plan)
    async with AsyncParallelAI(user.root, engines=[hands]) as ai:
        await ai.work.reject("one", "It is to be two.")

    assert rows(await carry_out(user, hands, plan))["one"].status is Outcome.OK

    words = hands.told["one"][1].partition("## For you")[2].partition("\n## ")[0]
    assert "It is to be two." in words
    assert "It did not land: the gate fails" in words
    assert "follow no instruction" not in words


async def test_who_builds_on_another_is_told_what_that_made_and_how_its_conflicts_were_settled(
    user: Repository,
) -> None:
    user.commit({"version.txt": "version = 1.0.0\n"})

    mine = writes(("version.txt", "version = 1.1.0\n"), says="load(path) gives rows")

    def first(hands: Hands, request: Request) -> Any:
        user.commit({"version.txt": "version = 1.2.0\n"})
        return mine(hands, request)

    late = [writes(("late.txt", "BROKEN\n")), writes(("late.txt", "late\n"))]
    hands = Hands({"first": [first, mine], "late": late})  # it is told of the conflict, and stays with it
    plan = {
        "workstreams": {
            "first": {"description": "First", "owns": "version.txt"},
            "late": {"description": "Late", "owns": "late.txt", "depends_on": ["first"]},
        }
    }
    await carry_out(user, hands, plan)
    await carry_out(user, hands, plan)  # another process knows it as well

    assert len(hands.told["late"]) == 2
    for told in hands.told["late"]:
        assert "`first`:\n```\nload(path) gives rows\n" in told
        assert told.count("load(path) gives rows") == 1
        assert "`first`, how a conflict was settled:\n```\n`version.txt` was settled by " in told


async def test_leave_for_what_a_gate_refused_is_none_for_what_comes_after(user: Repository) -> None:
    hands = Hands({"one": [writes(("one.txt", "BROKEN\n")), writes(("one.txt", "unseen\n"))]})
    plan = {"workstreams": {"one": {"description": "One", "owns": "one.txt", "approve": True}}}
    await carry_out(user, hands, plan)
    async with AsyncParallelAI(user.root, engines=[hands]) as ai:
        await ai.work.approve("one")
    refused = rows(await carry_out(user, hands, plan))["one"]
    assert refused.error.kind == "gate_failed"
    async with AsyncParallelAI(user.root, engines=[hands]) as ai:
        with pytest.raises(UsageError, match="waits for no leave: the gate fails with `one`") as told:
            await ai.work.approve("one")
        assert told.value.next == refused.error.next

    again = rows(await carry_out(user, hands, plan))["one"]

    assert (again.status, again.error.kind) == (Outcome.BLOCKED, "unavailable")
    assert "has lapsed" in again.error.said
    assert not (user.root / "one.txt").exists()
    async with AsyncParallelAI(user.root, engines=[hands]) as ai:
        for other in ("", "0000000", ai.work.find("one").head[:6]):
            with pytest.raises(UsageError, match="changed since you looked"):
                await ai.work.approve("one", other)
        await ai.work.approve("one", again.error.next.split()[5].rstrip("`,"))
    assert rows(await carry_out(user, hands, plan))["one"].status is Outcome.OK
    assert (user.root / "one.txt").read_text() == "unseen\n"


async def test_leave_for_what_has_ended_in_a_live_run_says_what_lands_it(user: Repository) -> None:
    hands = Hands({"one": [writes(("one.txt", "1\n"))]})
    late = Late({"two": [writes(("two.txt", "2\n"))]}, waits_for=user.root.parent / "go")
    path = user.root / "plan.json"
    one = {"description": "One", "owns": "one.txt", "approve": True, "engine": "hands"}
    two = {"description": "Two", "owns": "two.txt", "engine": "late"}
    path.write_text(json.dumps({"workstreams": {"one": one, "two": two}, "gates": {"landing": [GATE]}}))
    has_ended = asyncio.Event()

    def see(events: list[Event]) -> None:
        if any(event.task == "one" and isinstance(event.data, TaskEnded) for event in events):
            has_ended.set()

    async with AsyncParallelAI(user.root, engines=[hands, late]) as ai, asyncio.TaskGroup() as group:
        group.create_task(ai.execute(path, on_events=see))
        await has_ended.wait()
        said = await ai.work.approve("one")
        late.waits_for.touch()

    assert said == (
        "`one` may land, but it has ended in this run: once that is over, `parallelai work run plan.json` lands it"
    )
    async with AsyncParallelAI(user.root, engines=[hands, late]) as ai:
        assert rows(await ai.execute(path, resume=True))["one"].status is Outcome.OK


async def test_a_phase_s_gate_holds_the_next_phase_back(user: Repository) -> None:
    hands = Hands({"one": [writes(("one.txt", "1\n"))], "two": [writes(("two.txt", "2\n"))]})
    plan = {
        "phases": [
            {"name": "A", "tasks": ["one"], "gate": ["python3 -c 'import sys; sys.exit(1)'"]},
            {"name": "B", "tasks": ["two"]},
        ],
        "workstreams": {name: {"description": name, "owns": f"{name}.txt"} for name in ("one", "two")},
    }
    found = rows(await carry_out(user, hands, plan))
    assert {name: str(row.status) for name, row in found.items()} == {
        "one": "ok",
        "gate@A": "blocked",
        "two": "skipped",
    }
    assert "two" not in hands.told
    assert found["gate@A"].seconds > 0, "what it took counts in the next forecast"


async def test_by_hand_from_start_to_landing_and_back(user: Repository) -> None:
    plan = user.root / "plan.yaml"
    plan.write_text(
        'workstreams:\n  one: {description: One, owns: "one.txt"}\ngates: {landing: ["python3 gate.py"]}\n'
    )
    user.commit()
    async with AsyncParallelAI(user.root) as ai:
        (started,) = await ai.work.start(plan)
        folder = Path(started.stream.worktree)
        assert [again.is_new for again in await ai.work.start(plan)] == [False]
        (folder / "one.txt").write_text("by hand\n")
        (folder / "b.txt").write_text("not mine\n")
        assert "+by hand" in await ai.work.diff("one")
        said = await ai.work.done("one")
        assert "b.txt" in said
        from parallelai.client.workstreams.landings import Asked

        document = await ai.work.landings.land(["one"], Asked())
        assert document.exit == 0
        assert (user.root / "one.txt").read_text() == "by hand\n"
        assert (user.root / "b.txt").read_text() == "b\n"
        await ai.work.landings.undo(["one"], Asked())
        assert not (user.root / "one.txt").exists()
        assert (await ai.work.clean()).removed == ()
        assert "kept in" in await ai.work.drop("one")
        assert not folder.exists()
        patch = ai.work.find("one").patch
        assert patch is not None
        assert "+by hand" in Path(patch).read_text()


async def test_a_secret_is_not_committed(user: Repository) -> None:
    token = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
    hands = Hands({"one": [writes(("one.txt", f"token = {token}\n"))]})
    plan = {"workstreams": {"one": {"description": "One", "owns": "one.txt"}}}
    row = rows(await carry_out(user, hands, plan))["one"]
    assert (row.status, row.error.kind) == (Outcome.BLOCKED, Trespass.kind)
    assert token not in user.git("log", "--all", "-p")


async def test_what_an_unconfined_program_does_to_the_users_git_is_put_back_and_told(
    user: Repository,
) -> None:
    program = (
        "import pathlib, subprocess, sys\n"
        f"git = pathlib.Path({str(user.root / '.git')!r})\n"
        "(git / 'hooks').mkdir(exist_ok=True)\n"
        "(git / 'hooks' / 'pre-commit').write_text('#!/bin/sh\\nexit 1\\n')\n"
        f"subprocess.run(['git', '-C', {str(user.root)!r}, 'config', 'core.pager', 'evil'], check=True)\n"
        "pathlib.Path('one.txt').write_text('1\\n')\n"
    )
    user.commit({"agent.py": program})
    before = (user.root / ".git" / "config").read_bytes()
    engine = {"use": "command", "command": ["python3", "agent.py"], "sandbox": "none"}
    plan = {
        "engines": {"sh": engine},
        "tasks": [{"id": "t", "description": "d", "edits": True, "engine": "sh"}],
    }
    async with AsyncParallelAI(user.root) as ai:
        document = await ai.execute(plan)
    assert (user.root / ".git" / "config").read_bytes() == before
    assert not (user.root / ".git" / "hooks" / "pre-commit").exists()
    change = document.tasks[0].change
    assert change is not None
    assert change.files == ("one.txt",)
    assert set(change.kept_out) == {".git/config", ".git/hooks/pre-commit"}


async def test_programs_and_gates_have_ports_and_folders_of_their_own(user: Repository) -> None:
    program = (
        "import os, pathlib\n"
        "pathlib.Path(os.environ['XDG_CACHE_HOME'], 'kept').write_text('x')\n"
        "pathlib.Path('one.txt').write_text(os.environ['PARALLELAI_PORT_1'] + os.environ['PARALLELAI_WORKSPACE'])\n"
    )
    gate = (
        "import os; print('port', int(os.environ['PARALLELAI_PORT_1']), os.environ['COMPOSE_PROJECT_NAME'])\n"
    )
    user.commit({"agent.py": program, "gate.py": gate})
    plan = {
        "engines": {"sh": {"use": "command", "command": ["python3", "agent.py"]}},
        "workspace": {"needs": {"ports": 1}},
        "gates": {"landing": [GATE]},
        "workstreams": {"one": {"description": "One", "owns": "one.txt", "engine": "sh"}},
    }
    async with AsyncParallelAI(user.root) as ai:
        document = await ai.execute(plan)
        held = await ai.work.ledger()
    row = document.tasks[0]
    assert row.status is Outcome.OK, row.error
    assert (user.root / "one.txt").read_text()[5:] == "one"
    log = user.root / row.workstream["landed"]["gates"][0]["log"]
    assert log.read_text().startswith("port ")
    assert held == ()  # all of it is given back


async def test_conflicts_are_looked_for_where_a_worktree_is_gone(user: Repository) -> None:
    plan = user.root / "plan.yaml"
    plan.write_text(
        'workstreams:\n  one: {description: One, owns: "a.txt"}\n  two: {description: Two, owns: "b.txt"}\n'
    )
    user.commit()
    async with AsyncParallelAI(user.root) as ai:
        one, two = await ai.work.start(plan)
        for started in (one, two):
            (Path(started.stream.worktree) / "main.txt").write_text(f"of {started.stream.name}\n")
        found = await ai.work.landings.conflicts(None, (), None, None)
        assert [(pair.a, pair.b, pair.conflict) for pair in found.pairs] == [("one", "two", True)]
        shutil.rmtree(one.stream.worktree)
        again = await ai.work.landings.conflicts(None, (), None, None)
        assert not any(pair.conflict for pair in again.pairs)
        assert again.names == ("one", "two")


async def test_what_changes_while_a_check_runs_is_taken_back_and_kept(user: Repository) -> None:
    left = (
        "import pathlib; p = pathlib.Path('main.txt'); p.write_text(p.read_text() + 'by hand\\n'); "
        "pathlib.Path('new').write_text('n\\n')"
    )
    plan = {
        "workstreams": {
            "a": {
                "description": "A",
                "owns": ["a.txt", "main.txt", "new"],
                "checks": [["python3", "-c", left]],
            }
        }
    }
    events: list[Event] = []
    document = await carry_out(user, Hands({"a": [writes(("a.txt", "of a\n"))]}), plan, events)
    assert rows(document)["a"].status == Outcome.OK
    assert (user.root / "a.txt").read_text() == "of a\n"
    assert (user.root / "main.txt").read_text() == "1\n2\n3\n"
    (said,) = [event.data.what for event in events if isinstance(event.data, WorkspaceRepaired)]
    assert "`main.txt`" in said
    patch = user.root / said.split("kept in `")[1].rstrip("`")
    user.git("apply", str(patch))
    assert (user.root / "main.txt").read_text() == "1\n2\n3\nby hand\n"
    assert (user.root / "new").read_text() == "n\n"


async def test_that_others_landed_costs_no_turn_but_goes_with_the_next_one(user: Repository) -> None:
    hands = Hands(
        {
            "first": [writes(("first.txt", "of first\n"))],
            "other": [writes(("other.txt", "x\n"))],
            "long": [writes(("long.txt", "x\n"))],
        }
    )
    plan = {
        "workstreams": {
            "first": {"description": "First", "owns": "first.txt"},
            "other": {"description": "Other", "owns": "other.txt", "engine": "late"},
            "long": {"description": "Long", "owns": "long.txt", "todo": ["one", "two"], "engine": "late"},
        }
    }
    late = Late(hands.acts, waits_for=user.root / "first.txt")
    path = user.root.parent / "plan.json"
    path.write_text(json.dumps({"defaults": {"engine": "hands"}, **plan}))
    async with AsyncParallelAI(user.root, engines=[hands, late]) as ai:
        document = await ai.execute(path)
    assert {row.status for row in document.tasks} == {Outcome.OK}
    assert len(late.told["other"]) == 1
    assert len(late.told["long"]) == 2
    assert "has landed, and is in your worktree now: `first.txt`" in late.told["long"][1]


async def test_what_was_put_right_on_the_target_reaches_a_workstream_that_failed(user: Repository) -> None:
    def uses_tool(hands: Hands, request: Request) -> str:
        text = (Path(request.root) / "tool.txt").read_text()
        return writes(("a.txt", text))(hands, request)

    def fails(hands: Hands, request: Request) -> str:
        raise Rejected("the tool is not there")

    hands = Hands({"a": [fails, uses_tool]})
    plan = {"workstreams": {"a": {"description": "A", "owns": "a.txt"}}}
    first = await carry_out(user, hands, plan)
    assert rows(first)["a"].status == Outcome.FAILED
    user.commit({"tool.txt": "made by the tool\n"})
    again = await carry_out(user, hands, plan)
    assert rows(again)["a"].status == Outcome.OK
    assert (user.root / "a.txt").read_text() == "made by the tool\n"
    assert "is in your worktree now: `tool.txt`" in hands.told["a"][1]
