"""Workstreams that conflict: told, held until the other has landed, or asked about, as the plan says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from acting_hands import Act, Hands, writes
from repositories import Repository

from parallelai.client import AsyncParallelAI
from parallelai.client.options import CarryOut
from parallelai.client.workstreams.landings import Asked
from parallelai.engines.protocol import Request
from parallelai.errors import Unavailable, UsageError
from parallelai.events import Event
from parallelai.plan.load import load
from parallelai.records import RunDocument


def once(seen: asyncio.Event, then: Act) -> Act:
    """Do something as soon as something was seen."""

    async def turn(hands: Hands, request: Request) -> Any:
        await seen.wait()
        return then(hands, request)

    return turn


@dataclass
class Watch:
    """What a run wrote down; `on` gives what is set at the first event of a kind (of a task)."""

    events: list[Event] = field(default_factory=list)
    _waited: list[tuple[str, str | None, asyncio.Event]] = field(default_factory=list)

    def __call__(self, events: Any) -> None:
        self.events.extend(events)
        for kind, task, seen in self._waited:
            if any(event.type == kind and task in (None, event.task) for event in events):
                seen.set()

    def on(self, kind: str, task: str | None = None) -> asyncio.Event:
        seen = asyncio.Event()
        self._waited.append((kind, task, seen))
        return seen

    def kinds(self, *kinds: str) -> list[tuple[str | None, str]]:
        return [(event.task, event.type) for event in self.events if event.type in kinds]

    def data(self, kind: str) -> list[Any]:
        return [event.data for event in self.events if event.type == kind]


@pytest.fixture
def owned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """A project in which no two workstreams of a plan may own the same file, as always."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    (tmp_path / "gitconfig").write_text("[user]\n\tname = Ana\n\temail = ana@example.invalid\n")
    repository = Repository.start(tmp_path / "project")
    repository.commit({"main.txt": "import nothing\n", "util.py": "def load(path):\n    return path\n"})
    return repository


@pytest.fixture
def user(owned: Repository, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """One in which they may, so that conflicts form at will."""
    monkeypatch.setattr("parallelai.plan.check._Checker.ownership", lambda self: ())
    return owned


def plan_of(conflicts: Mapping[str, str], **streams: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "defaults": {"engine": "hands"},
        "landing": {"conflicts": dict(conflicts)},
        "workstreams": {
            name: {"description": name, "owns": [f"{name}.txt", "main.txt", "*.py"], **more}
            for name, more in streams.items()
        },
    }


async def carry_out(
    user: Repository, hands: Hands, plan: dict[str, Any], watch: Watch, **more: Any
) -> RunDocument:
    path = user.root.parent / "plan.json"
    path.write_text(json.dumps(plan))
    async with AsyncParallelAI(user.root, engines=[hands]) as ai:
        return await ai.execute(path, resume=True, on_events=watch, **more)


def statuses(document: RunDocument) -> dict[str, str]:
    return {row.id: str(row.status) for row in document.tasks}


WAITS = ("conflict.waiting", "conflict.waited")


async def test_the_later_one_waits_takes_over_what_landed_and_puts_it_right(user: Repository) -> None:
    watch = Watch()
    begun, waiting = watch.on("turn.ended", "one"), watch.on("conflict.waiting", "two")

    def settles(hands: Hands, request: Request) -> None:
        text = (Path(request.root) / "main.txt").read_text()
        assert "<<<<<<<" in text
        assert text.index("import two") < text.index("=======") < text.index("import one")
        (Path(request.root) / "main.txt").write_text("import one, two\n")

    first = [writes(("main.txt", "import one\n")), once(waiting, writes(("one.txt", "1\n")))]
    second = [once(begun, writes(("main.txt", "import two\n"), ("two.txt", "2\n"))), settles]
    hands = Hands({"one": first, "two": second})
    plan = plan_of({"file": "wait"}, one={"todo": ["begin", "go on"]}, two={})
    document = await asyncio.wait_for(carry_out(user, hands, plan, watch), 60)
    assert statuses(document) == {"one": "ok", "two": "ok"}, [row.error for row in document.tasks]
    assert (user.root / "main.txt").read_text() == "import one, two\n"
    landed = ("one", "landing.landed"), ("two", "landing.landed")
    order = watch.kinds(*WAITS, "landing.landed")
    assert order == [("two", WAITS[0]), landed[0], ("two", WAITS[1]), landed[1]]
    (waits,) = watch.data("conflict.waiting")
    assert (waits.names, waits.where) == (("one",), "`main.txt`")
    assert watch.data("conflict.waited")[0].landed == ("one",)
    assert len(hands.told["two"]) == 2
    assert "`one` has landed" in hands.told["two"][1]
    assert "`main.txt`" in hands.told["two"][1]
    assert len(hands.told["one"]) == 2  # it need do nothing about it


async def test_by_default_both_are_told_and_nobody_waits(user: Repository) -> None:
    watch = Watch()
    begun, seen = watch.on("turn.ended", "one"), watch.on("conflict.seen")
    first = [
        writes(("main.txt", "import one\n")),
        once(seen, writes(("one.txt", "1\n"), ("main.txt", "import one, two\n"))),
    ]
    second = [
        once(begun, writes(("main.txt", "import two\n"), ("two.txt", "2\n"))),
        writes(("main.txt", "import one, two\n")),
    ]
    hands = Hands({"one": first, "two": second})
    plan = plan_of({}, one={"todo": ["begin", "go on"]}, two={})
    document = await asyncio.wait_for(carry_out(user, hands, plan, watch), 60)
    assert statuses(document) == {"one": "ok", "two": "ok"}, [row.error for row in document.tasks]
    assert watch.kinds(*WAITS) == []
    for name in ("one", "two"):
        assert any("change the same lines" in told for told in hands.told[name]), name


async def test_whoever_newly_uses_what_another_changes_waits_for_that(owned: Repository) -> None:
    watch = Watch()
    begun, waiting = watch.on("turn.ended", "one"), watch.on("conflict.waiting", "two")
    renamed = "def read(path):\n    return path\n"

    def adapts(hands: Hands, request: Request) -> None:
        assert (Path(request.root) / "util.py").read_text() == renamed
        (Path(request.root) / "two.py").write_text("from util import read\n\nprint(read('x'))\n")

    uses = writes(("two.py", "import util\nfrom util import load\n\nprint(load('x'))\n"))
    first = [writes(("util.py", renamed)), once(waiting, writes(("one.txt", "1\n")))]
    hands = Hands({"one": first, "two": [once(begun, uses), adapts]})
    one = {"owns": ["one.txt", "util.py"], "todo": ["begin", "go on"]}
    plan = plan_of({"logic": "wait"}, one=one, two={"owns": "two.py"})
    document = await asyncio.wait_for(carry_out(owned, hands, plan, watch), 60)
    assert statuses(document) == {"one": "ok", "two": "ok"}, [row.error for row in document.tasks]
    assert "read('x')" in (owned.root / "two.py").read_text()
    assert "`one` has landed" in hands.told["two"][1]
    assert "`load" in hands.told["two"][1]
    (waits,) = watch.data("conflict.waiting")
    assert (waits.names, waits.where) == (("one",), "")
    assert waits.why.startswith("`two` calls `load(path)`, which `one` ")
    assert watch.kinds("guard.kept_out") == []


async def test_different_definitions_at_one_place_make_the_later_one_wait(owned: Repository) -> None:
    """Both own the file, as one comes after the other; its worktree was made before, and it need not have landed."""
    app = "class App:\n    def start(self):\n        return 1\n"
    menu, export = (
        "\n    def menu(self):\n        return 2\n",
        "\n    def export(self):\n        return 3\n",
    )
    owned.commit({"app.py": app})
    watch = Watch()
    waiting = watch.on("conflict.waiting", "two")

    def settles(hands: Hands, request: Request) -> None:
        text = (Path(request.root) / "app.py").read_text()
        assert "<<<<<<<" in text
        assert "menu" in text
        (Path(request.root) / "app.py").write_text(app + menu + export)

    hands = Hands(
        {"one": [writes(("app.py", app + menu))], "two": [writes(("app.py", app + export)), settles]}
    )
    plan = plan_of(
        {"function": "wait"}, one={"approve": True}, two={"depends_on": ["one"], "after": "finished"}
    )
    path = owned.root / "plan.json"
    path.write_text(json.dumps(plan))
    async with AsyncParallelAI(owned.root, engines=[hands]) as ai, asyncio.timeout(60):
        await ai.work.start(path)
        async with asyncio.TaskGroup() as group:
            carry = CarryOut(on_events=watch, is_attended=True, is_resume=True)
            running = group.create_task(ai.carry_out_plan(load(path, root=owned.root), "plan.json", carry))
            await waiting.wait()
            await ai.work.approve("one")
    assert statuses(running.result()) == {"one": "ok", "two": "ok"}
    assert watch.data("conflict.seen")[0].pair.class_ == "function"
    order = watch.kinds(*WAITS, "landing.landed")
    assert order == [
        ("two", "conflict.waiting"),
        ("one", "landing.landed"),
        ("two", "conflict.waited"),
        ("two", "landing.landed"),
    ]
    assert "`one` has landed" in hands.told["two"][1]
    assert (owned.root / "app.py").read_text() == app + menu + export


async def test_a_file_in_a_folder_that_another_moves_waits_for_that(owned: Repository) -> None:
    watch = Watch()
    begun, waiting = watch.on("turn.ended", "one"), watch.on("conflict.waiting", "two")
    owned.commit({f"lib/{name}.txt": f"{name}\n" * 9 for name in "abc"})

    def moves(hands: Hands, request: Request) -> None:
        (Path(request.root) / "lib").rename(Path(request.root) / "kit")

    def agrees(hands: Hands, request: Request) -> None:
        kit = Path(request.root) / "kit"
        assert (kit / "new.txt").read_text() == "new\n"  # where git proposes to have it
        next(kit.glob("new.txt~*")).unlink()

    first = [moves, once(waiting, writes(("one.txt", "1\n")))]
    second = [once(begun, writes(("lib/new.txt", "new\n"))), agrees]
    hands = Hands({"one": first, "two": second})
    own = ["kit/**", "!kit/new.txt", "lib/**", "!lib/new.txt", "one.txt"]
    one = {"owns": own, "todo": ["begin", "go on"]}
    plan = plan_of({"file": "wait"}, one=one, two={"owns": ["lib/new.txt", "kit/new.txt"]})
    document = await asyncio.wait_for(carry_out(owned, hands, plan, watch), 60)
    assert statuses(document) == {"one": "ok", "two": "ok"}, [row.error for row in document.tasks]
    assert watch.data("conflict.waiting")[0].names == ("one",)
    assert "`one` has landed" in hands.told["two"][1]
    assert "conflicts with that in `kit/new.txt`" in hands.told["two"][1]
    assert sorted(path.name for path in (owned.root / "kit").iterdir()) == [
        "a.txt",
        "b.txt",
        "c.txt",
        "new.txt",
    ]
    assert not (owned.root / "lib").exists()


async def test_in_a_batch_each_waits_only_for_those_of_its_own(user: Repository) -> None:
    watch = Watch()
    begun, waiting = watch.on("turn.ended", "one"), watch.on("conflict.waiting", "two")
    first = [writes(("main.txt", "import one\n")), once(waiting, writes(("one.txt", "1\n")))]
    second = [once(begun, writes(("main.txt", "import two\n"))), writes(("main.txt", "import one, two\n"))]
    third = [writes(("main.txt", "import one, two, three\n"))]
    hands = Hands({"one": first, "two": second, "three": third})
    plan = plan_of({"file": "wait"}, one={"todo": ["begin", "go on"]}, two={}, three={})
    plan["strategy"] = "batch:2"
    document = await asyncio.wait_for(carry_out(user, hands, plan, watch), 60)
    assert set(statuses(document).values()) == {"ok"}, [row.error for row in document.tasks]
    assert watch.kinds("conflict.waiting") == [("two", "conflict.waiting")]
    order = watch.kinds("landing.landed", "attempt.started")
    assert order.index(("three", "attempt.started")) > order.index(("two", "landing.landed"))
    assert (user.root / "main.txt").read_text() == "import one, two, three\n"


async def test_who_waits_leaves_its_slot_to_others(user: Repository) -> None:
    watch = Watch()
    begun, third = watch.on("turn.ended", "one"), watch.on("attempt.started", "three")
    first = [writes(("main.txt", "import one\n")), once(third, writes(("one.txt", "1\n")))]
    second = [once(begun, writes(("main.txt", "import two\n"))), writes(("main.txt", "import one, two\n"))]
    hands = Hands({"one": first, "two": second, "three": [writes(("three.txt", "3\n"))]})
    plan = plan_of({"file": "wait"}, one={"todo": ["begin", "go on"]}, two={}, three={})
    plan["limits"] = {"parallel": 2}
    document = await asyncio.wait_for(carry_out(user, hands, plan, watch), 60)
    assert set(statuses(document).values()) == {"ok"}, [row.error for row in document.tasks]
    assert ("two", "conflict.waiting") in watch.kinds(*WAITS)


async def test_of_three_each_waits_for_those_before_it(user: Repository) -> None:
    watch = Watch()
    begun = watch.on("turn.ended", "one")
    two, three = watch.on("conflict.waiting", "two"), watch.on("conflict.waiting", "three")

    async def waits_for_both(hands: Hands, request: Request) -> None:
        await two.wait()
        await three.wait()

    first = [writes(("main.txt", "import one\n")), waits_for_both]
    second = [once(begun, writes(("main.txt", "import two\n"))), writes(("main.txt", "import one, two\n"))]
    third = [
        once(begun, writes(("main.txt", "import three\n"))),
        writes(("main.txt", "import one, two, three\n")),
    ]
    hands = Hands({"one": first, "two": second, "three": third})
    plan = plan_of({"file": "wait"}, one={"todo": ["begin", "go on"]}, two={}, three={})
    document = await asyncio.wait_for(carry_out(user, hands, plan, watch), 60)
    assert set(statuses(document).values()) == {"ok"}, [row.error for row in document.tasks]
    assert [task for task, _ in watch.kinds("landing.landed")] == ["one", "two", "three"]
    assert (user.root / "main.txt").read_text() == "import one, two, three\n"
    assert len(hands.told["three"]) == 2  # told once, of both
    assert watch.data("conflict.waited")[-1].landed == ("one", "two")


async def test_nobody_is_waited_for_who_gives_up(user: Repository) -> None:
    watch = Watch()
    begun, waiting = watch.on("turn.ended", "one"), watch.on("conflict.waiting", "two")
    first = [writes(("main.txt", "import one\n")), once(waiting, writes(("one.txt", "1\n")))]
    hands = Hands({"one": first, "two": [once(begun, writes(("main.txt", "import two\n")))]})
    plan = plan_of({"file": "wait"}, one={"todo": ["begin", "go on"], "checks": ["false"]}, two={})
    document = await asyncio.wait_for(carry_out(user, hands, plan, watch), 60)
    assert statuses(document) == {"one": "failed", "two": "ok"}
    assert (user.root / "main.txt").read_text() == "import two\n"
    assert watch.data("conflict.waited")[0].left == ("one",)
    assert len(hands.told["two"]) == 1


async def test_a_lease_cannot_close_a_circle_of_waiting(user: Repository) -> None:
    watch = Watch()
    begun, waiting = watch.on("turn.ended", "one"), watch.on("conflict.waiting", "two")

    def asks(hands: Hands, request: Request) -> str:
        request = json.dumps({"lease": "two.txt", "reason": "to mention it"})
        return f"I need it.\n```parallelai\n{request}\n```"

    first = [writes(("main.txt", "import one\n")), once(waiting, asks), writes(("one.txt", "1\n"))]
    second = [once(begun, writes(("main.txt", "import two\n"))), writes(("main.txt", "import one, two\n"))]
    hands = Hands({"one": first, "two": second})
    plan = plan_of({"file": "wait"}, one={"todo": ["begin", "go on"]}, two={})
    document = await asyncio.wait_for(carry_out(user, hands, plan, watch), 60)
    assert statuses(document) == {"one": "ok", "two": "ok"}, [row.error for row in document.tasks]
    assert "waits for this workstream itself" in hands.told["one"][2]
    assert (user.root / "main.txt").read_text() == "import one, two\n"


async def test_no_lease_waits_for_one_that_a_barrier_holds_back(user: Repository) -> None:
    def asks(hands: Hands, request: Request) -> str:
        (Path(request.root) / "one.txt").write_text("1\n")
        return f"I need it.\n```parallelai\n{json.dumps({'lease': 'two.txt', 'reason': 'x'})}\n```"

    hands = Hands({"one": [asks], "two": [writes(("two.txt", "2\n"))]})
    plan = plan_of({}, one={"owns": "one.txt"}, two={"owns": "two.txt"})
    plan["phases"] = [{"name": "A", "tasks": ["one"]}, {"name": "B", "tasks": ["two"]}]
    document = await asyncio.wait_for(carry_out(user, hands, plan, Watch()), 60)
    assert statuses(document) == {"one": "ok", "two": "ok"}, [row.error for row in document.tasks]
    assert "waits for this workstream itself" in hands.told["one"][1]


async def test_what_others_put_on_the_target_is_taken_over_at_once(user: Repository) -> None:
    watch = Watch()

    def meets(hands: Hands, request: Request) -> None:
        (Path(request.root) / "main.txt").write_text("import one\n")
        user.commit({"main.txt": "import somebody\n"})

    def settles(hands: Hands, request: Request) -> None:
        assert ">>>>>>>" in (Path(request.root) / "main.txt").read_text()
        (Path(request.root) / "main.txt").write_text("import one, somebody\n")

    hands = Hands({"one": [meets, settles]})
    document = await asyncio.wait_for(carry_out(user, hands, plan_of({"file": "wait"}, one={}), watch), 60)
    assert statuses(document) == {"one": "ok"}, [row.error for row in document.tasks]
    assert watch.kinds(*WAITS) == []
    assert "`main` has moved on" in hands.told["one"][1]
    assert (user.root / "main.txt").read_text() == "import one, somebody\n"


async def test_what_has_conflict_markers_left_does_not_land(user: Repository) -> None:
    def meets(hands: Hands, request: Request) -> None:
        (Path(request.root) / "main.txt").write_text("import one\n")
        user.commit({"main.txt": "import somebody\n"})

    hands = Hands({"one": [meets]})  # it does nothing about them, however often it is told
    plan = plan_of({"file": "wait"}, one={})
    document = await asyncio.wait_for(carry_out(user, hands, plan, Watch()), 60)
    (row,) = document.tasks
    assert (str(row.status), row.error.kind) == ("blocked", "conflict")
    assert "`main.txt`" in row.error.said
    assert (user.root / "main.txt").read_text() == "import somebody\n"
    settled = writes(("main.txt", "import one, somebody\n"))
    again = Hands({"one": [settled]})
    document = await asyncio.wait_for(carry_out(user, again, plan, Watch()), 60)
    assert "conflict markers" in again.told["one"][0]
    assert statuses(document) == {"one": "ok"}, [row.error for row in document.tasks]
    assert (user.root / "main.txt").read_text() == "import one, somebody\n"


async def test_what_has_no_text_is_settled_by_whoever_is_told_and_not_by_silence(user: Repository) -> None:
    def meets(hands: Hands, request: Request) -> None:
        (Path(request.root) / "main.txt").write_bytes(b"\0mine")
        user.commit({"main.txt": b"\0theirs"})

    def leaves(hands: Hands, request: Request) -> None:
        (beside,) = Path(request.root).glob("main.txt~*")
        assert beside.read_bytes() == b"\0theirs"

    def settles(hands: Hands, request: Request) -> None:
        (beside,) = Path(request.root).glob("main.txt~*")
        (Path(request.root) / "main.txt").write_bytes(b"\0both")
        beside.unlink()

    hands = Hands({"one": [meets, leaves, settles]})
    document = await asyncio.wait_for(carry_out(user, hands, plan_of({"file": "wait"}, one={}), Watch()), 60)
    assert statuses(document) == {"one": "ok"}, [row.error for row in document.tasks]
    for told in hands.told["one"][1:3]:
        assert "git cannot merge `main.txt`" in told
    assert (user.root / "main.txt").read_bytes() == b"\0both"
    assert [path.name for path in user.root.glob("main.txt*")] == ["main.txt"]


async def test_nor_does_it_land_by_hand(user: Repository) -> None:
    def meets(hands: Hands, request: Request) -> None:
        (Path(request.root) / "main.txt").write_text("import one\n")
        user.commit({"main.txt": "import somebody\n"})

    await asyncio.wait_for(
        carry_out(user, Hands({"one": [meets]}), plan_of({"file": "wait"}, one={}), Watch()), 60
    )
    async with AsyncParallelAI(user.root) as ai:
        with pytest.raises(UsageError, match=r"not settled in `main\.txt`"):
            await ai.work.done("one")
        with pytest.raises(UsageError, match="not ready to land"):
            await ai.work.landings.land(["one"], Asked())
        (Path(ai.work.find("one").worktree) / "main.txt").write_text("import one, somebody\n")
        await ai.work.done("one")
        assert (await ai.work.landings.land(["one"], Asked())).exit == 0
    assert (user.root / "main.txt").read_text() == "import one, somebody\n"


# -- a person is asked


def both(watch: Watch, until: asyncio.Event) -> Hands:
    """`one` begins, and goes on at an event; `two` gets in its way, and puts it right when it is told."""
    begun = watch.on("turn.ended", "one")
    first = [
        writes(("main.txt", "import one\n")),
        once(until, writes(("main.txt", "import one\n"), ("one.txt", "1\n"))),
    ]
    second = [once(begun, writes(("main.txt", "import two\n"))), writes(("main.txt", "import one, two\n"))]
    return Hands({"one": first, "two": second})


async def asked_in(
    user: Repository, watch: Watch, option: str | None, until: str
) -> tuple[Hands, RunDocument]:
    """Carry a run out in which a person answers as soon as there is a question."""
    question = watch.on("permission.asked")
    hands = both(watch, watch.on(until))
    plan = plan_of({"file": "ask"}, one={"todo": ["begin", "go on"]}, two={})
    path = user.root.parent / "plan.json"
    path.write_text(json.dumps(plan))
    async with AsyncParallelAI(user.root, engines=[hands]) as ai, asyncio.TaskGroup() as group:
        carry = CarryOut(on_events=watch, is_attended=True)
        running = group.create_task(ai.carry_out_plan(load(path, root=user.root), "plan.json", carry))
        await question.wait()
        (open_,) = ai.runs.questions()
        assert open_.options == ("wait", "go-on")
        assert "`one`" in open_.what
        assert "`main.txt`" in open_.detail
        if option is not None:
            await ai.runs.answer(None, open_.id, option)
    return hands, running.result()


async def test_a_person_lets_one_wait(user: Repository) -> None:
    watch = Watch()
    _, document = await asyncio.wait_for(asked_in(user, watch, "wait", "conflict.waiting"), 60)
    assert statuses(document) == {"one": "ok", "two": "ok"}, [row.error for row in document.tasks]
    assert watch.kinds(*WAITS) == [("two", "conflict.waiting"), ("two", "conflict.waited")]
    assert (user.root / "main.txt").read_text() == "import one, two\n"
    assert len(watch.data("permission.asked")) == 1


async def test_a_person_lets_both_go_on(user: Repository) -> None:
    watch = Watch()
    hands, _ = await asyncio.wait_for(asked_in(user, watch, "go-on", "permission.answered"), 60)
    assert watch.kinds(*WAITS) == []
    assert watch.data("permission.answered")[0].option == "go-on"
    assert "change the same lines" in hands.told["two"][1]


async def test_a_question_that_settles_itself_is_withdrawn(user: Repository) -> None:
    watch = Watch()
    hands, document = await asyncio.wait_for(asked_in(user, watch, None, "permission.asked"), 60)
    assert watch.kinds(*WAITS) == []
    (answer,) = watch.data("permission.answered")
    assert (answer.option, answer.by) == ("withdrawn", "policy")
    assert statuses(document)["one"] == "ok"
    assert "change the same lines" in hands.told["two"][1]  # now with what landed


async def test_with_nobody_to_ask_the_workstream_is_blocked_and_goes_on_later(user: Repository) -> None:
    watch = Watch()
    hands = both(watch, watch.on("task.ended", "two"))
    plan = plan_of({"file": "ask"}, one={"todo": ["begin", "go on"]}, two={})
    document = await asyncio.wait_for(carry_out(user, hands, plan, watch), 60)
    assert statuses(document) == {"one": "ok", "two": "blocked"}
    row = next(row for row in document.tasks if row.id == "two")
    assert row.error.kind == Unavailable.kind
    assert "it does not fit `one` (conflict in `main.txt`), and nobody" in row.error.said
    assert "conflicts: …" in row.error.next
    again = await asyncio.wait_for(carry_out(user, hands, plan, Watch()), 60)
    assert statuses(again)["one"] == "ok"
    assert "change the same lines" in hands.told["two"][-1]


async def test_a_question_takes_only_its_own_answers(user: Repository) -> None:
    watch = Watch()
    with pytest.raises(ExceptionGroup) as failed:
        await asyncio.wait_for(asked_in(user, watch, "allow_once", "run.ended"), 60)
    assert failed.group_contains(UsageError, match="is no answer")


def asking(path: str) -> str:
    return "```parallelai\n" + json.dumps({"lease": path, "reason": "to register it"}) + "\n```"


SHARING = {
    "shared": ["main.txt"],
    "workstreams": {
        "one": {"description": "one", "owns": "one.txt"},
        "two": {"description": "two", "owns": "two.txt", "todo": ["begin", "go on"]},
    },
}


@pytest.mark.parametrize("is_landed", [True, False])
async def test_a_lease_that_a_person_gives_of_a_file_that_another_holds_comes_when_that_has_ended(
    owned: Repository, is_landed: bool
) -> None:
    watch, given = Watch(), asyncio.Event()
    held = watch.on("lease.granted", "one")
    answered = watch.on("lease.granted" if is_landed else "lease.refused", "two")
    said: list[str] = []

    async def leaves(hands: Hands, request: Request) -> None:
        await held.wait()
        async with AsyncParallelAI(owned.root) as ai:
            said.append(await ai.work.lease("two", ["main.txt"]))
        given.set()
        await answered.wait()
        (Path(request.root) / "two.txt").write_text("2\n")

    def ends(hands: Hands, request: Request) -> None:
        if not is_landed:
            raise Unavailable("it is gone")

    first = [writes(("one.txt", "1\n"), says=asking("main.txt")), once(given, ends)]
    hands = Hands({"one": first, "two": [leaves]})
    plan = {"defaults": {"engine": "hands", "retries": 0}, **SHARING}
    document = await asyncio.wait_for(carry_out(owned, hands, plan, watch), 60)
    assert statuses(document)["two"] == "ok", [row.error for row in document.tasks]
    assert said == ["`two` gets `main.txt` when `one` has landed"]
    told = "You have the lease of" if is_landed else "You have no lease of"
    assert f"{told} `main.txt`" in hands.told["two"][1]


async def test_who_waits_for_a_lease_of_one_that_ends_without_landing_is_told_of_which_file(
    owned: Repository,
) -> None:
    watch = Watch()
    held, asked = watch.on("lease.granted", "one"), watch.on("lease.asked", "two")

    def fails(hands: Hands, request: Request) -> None:
        raise Unavailable("it is gone")

    first = [writes(("one.txt", "1\n"), says=asking("main.txt")), once(asked, fails)]
    second = [once(held, writes(("two.txt", "2\n"), says=asking("main.txt")))]
    hands = Hands({"one": first, "two": second})
    plan = {"defaults": {"engine": "hands", "retries": 0}, **SHARING}
    await asyncio.wait_for(carry_out(owned, hands, plan, watch), 60)
    assert "You have no lease of `main.txt`: `one` has them, and did not land" in hands.told["two"][1]
    assert [each.paths for each in watch.data("lease.refused")] == [("main.txt",)]


@pytest.mark.parametrize("path", ["common", "common/", "common/*.txt", "made"])
async def test_a_lease_of_a_folder_is_refused_with_what_to_ask_for_instead(
    owned: Repository, path: str
) -> None:
    watch = Watch()
    owned.commit({"common/menu.txt": "1\n"})
    files = ("common/menu.txt", "made/new.txt")
    oversteps = writes(("one.txt", "1\n"), ("made/new.txt", "1\n"))
    asks = writes(("one.txt", "1\n"), says=asking(path))
    asks_again = writes(("one.txt", "1\n"), says=f"```parallelai\n{json.dumps({'lease': files})}\n```")
    hands = Hands({"one": [oversteps, asks, asks_again, writes(*((file, "2\n") for file in files))]})
    plan = {
        "defaults": {"engine": "hands"},
        "workstreams": {"one": {"description": "one", "owns": "one.txt"}},
    }
    document = await asyncio.wait_for(carry_out(owned, hands, plan, watch), 60)
    assert statuses(document) == {"one": "ok"}, [row.error for row in document.tasks]
    assert "You have no lease" in hands.told["one"][2]
    assert "by their paths" in hands.told["one"][2]
    assert [each.paths for each in watch.data("lease.granted")] == [files]
    assert [(owned.root / file).read_text() for file in files] == ["2\n", "2\n"]
