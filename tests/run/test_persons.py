"""What persons are asked in a run: leave for results, and choices; both hold over the end of a process."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from parallelai.engines.protocol import Answer, Question, Workspace
from parallelai.errors import CheckFailed, Unavailable, UsageError
from parallelai.events import (
    AttemptEnded,
    AttemptStarted,
    CommandDone,
    CommandReceived,
    Event,
    EventData,
    LeaveLapsed,
    PermissionAnswered,
    PermissionAsked,
    RunStarted,
)
from parallelai.records import Reply
from parallelai.run import resume
from parallelai.run.approving import Approvals, Leave, looked_at, mark_of
from parallelai.run.asking import Questions
from parallelai.run.executors.base import AttemptId
from parallelai.run.resume import Prior

ASKED = Question("q", "conflict of `a` with `b`", ("wait", "go-on"), "both change `x`")


def events(*facts: EventData, task: str | None = "a", attempt: int | None = None) -> list[Event]:
    return [
        Event("r-1", number, "2026-01-01T00:00:00Z", fact.type, fact, task, attempt)
        for number, fact in enumerate(facts, 1)
    ]


async def nothing() -> None:
    return None


def approvals(leave: Leave | None = None) -> Approvals:
    return Approvals("r-1", leave or Leave(), is_attended=True, flush=nothing, tell=lambda task, data: None)


async def waiting(asked: Approvals) -> asyncio.Task[None]:
    task = asyncio.create_task(asked.leave("a"))
    await asyncio.sleep(0)
    return task


def test_a_mark_names_one_instance_of_several() -> None:
    results, leave = {"a@a.py": "one", "a@b.py": "one"}, Leave()
    assert looked_at("r-1", "a", results, mark_of("a@b.py", "one"), leave) == {"a@b.py": "one"}
    with pytest.raises(UsageError, match="`a` came to") as refused:
        looked_at("r-1", "a", results, mark_of("a@b.py", "two"), leave)
    assert refused.value.next == "`a` is 2 tasks: name one, such as `a@a.py`"
    leave.shown.add(mark_of("a@a.py", "two"))
    with pytest.raises(UsageError, match="changed since you looked"):
        looked_at("r-1", "a@a.py", {"a@a.py": "one"}, mark_of("a@a.py", "two"), leave)


def test_the_beginning_of_a_mark_is_enough_and_what_is_none_is_said() -> None:
    mark = mark_of("a", "one")
    for given in (mark, mark[:7]):
        assert looked_at("r-1", "a", {"a": "one"}, given, Leave()) == {"a": "one"}
    for wrong in ("", mark[:6], "deadbeef", f"{mark}0"):
        with pytest.raises(UsageError) as refused:
            looked_at("r-1", "a", {"a": "one"}, wrong, Leave())
        assert refused.value.said == f"`{wrong}` is no mark of what `a` came to; it is `{mark}`"
        assert refused.value.next == "look at it: `parallelai runs show r-1`; then approve that"


async def test_who_is_there_gives_leave_or_refuses_it() -> None:
    asked = approvals(came_to("one"))
    with pytest.raises(UsageError, match="does not wait"):
        asked.decide("approve", "a", "", "ana", came_to("one").result("a"))
    task = await waiting(asked)
    for result in ("", came_to("two").result("a")):
        with pytest.raises(UsageError, match="changed since you looked"):
            asked.decide("approve", "a", "", "ana", result)
    assert asked.decide("approve", "a", "", "ana", came_to("one").result("a")) == "`a` may go on"
    await task
    task = await waiting(asked)
    asked.decide("reject", "a", "too slow", "ana")
    with pytest.raises(CheckFailed, match="refused by ana: too slow"):
        await task


def attempt(text: str, grounds: str = "f1", *, is_cached: bool = False) -> tuple[EventData, EventData]:
    reply = Reply(text=text)
    return AttemptStarted("sh", None, grounds), AttemptEnded(
        "sh", True, 1.0, None, reply, is_cached=is_cached
    )


def came_to(text: str) -> Leave:
    leave = Leave()
    leave.take_all(events(*attempt(text)))
    return leave


def given(args: dict[str, Any], *later: EventData) -> Leave:
    """What is known where `a` came to "one", and leave was given in an earlier process."""
    leave = came_to("one")
    leave.take_all(events(RunStarted(1, "host", 1, "plan", True), task=None))
    leave.take_all(events(CommandReceived(7, "approve", args, "ana"), CommandDone(7, True, ""), task=None))
    leave.take_all(events(*later, attempt=2))
    return leave


async def test_leave_for_what_an_earlier_process_came_to_is_refused_once_it_is_something_else() -> None:
    leave = came_to("one")
    leave.wanted.add("a")
    asked, seen = approvals(leave), leave.result("a")
    assert asked.decide("approve", "a", "", "ana", seen) == "`a` may go on"
    leave.take_all(events(RunStarted(1, "host", 1, "plan", True), task=None))
    leave.take_all(events(*attempt("two"), attempt=2))
    with pytest.raises(UsageError, match="changed since you looked"):
        asked.decide("approve", "a", "", "ana", seen)


ONE: dict[str, Any] = {"name": "a", "result": came_to("one").result("a")}


async def test_leave_is_for_the_result_that_was_there() -> None:
    await approvals(given(ONE, *attempt("one", is_cached=True))).leave("a")
    for other in (
        given(ONE, *attempt("one")),  # done anew
        given(ONE, *attempt("two", is_cached=True)),  # a reply that was paid for before
        given(ONE, *attempt("one", "f2", is_cached=True)),  # the same words of another file
        given({"name": "a"}, *attempt("one", is_cached=True)),  # nobody said for what
        given({"name": "a"}),
    ):
        told: list[object] = []
        anew = Approvals(
            "r-1",
            other,
            is_attended=False,
            flush=nothing,
            tell=lambda task, data, told=told: told.append(data),
        )
        with pytest.raises(Unavailable, match="waits for a person's leave"):
            await anew.leave("a")
        assert told == [LeaveLapsed()], "whoever gave it is told that it holds no more"
        other.take_all(events(LeaveLapsed()))
        assert not other.has_lapsed("a"), "and is told once"


def questions(prior: Prior) -> Questions:
    return Questions(
        lambda *_, **__: None, is_attended=False, is_confined=lambda _: True, chosen=prior.chosen
    )  # type: ignore[arg-type, return-value]


async def test_what_a_person_chose_is_not_asked_again_in_a_later_process() -> None:
    facts = (
        PermissionAsked("q1", ASKED.what, ASKED.options, ASKED.detail),
        PermissionAnswered("q1", "wait", "ana"),
    )
    prior = resume.read(events(*facts))
    answer = await questions(prior).choose("a", ASKED, asyncio.Event())
    assert answer == Answer("wait", "ana")
    for other in (
        questions(Prior()).choose("a", ASKED, asyncio.Event()),
        questions(prior).choose("b", ASKED, asyncio.Event()),
        questions(resume.read(events(*facts, attempt=1))).choose(
            "a", ASKED, asyncio.Event()
        ),  # leave for once
        questions(resume.read(events(facts[0], PermissionAnswered("q1", "wait", "policy")))).choose(
            "a", ASKED, asyncio.Event()
        ),
    ):
        with pytest.raises(Unavailable):
            await other


@pytest.mark.parametrize(
    ("permissions", "helps"), [("ask", "`permissions: auto` in a sandbox"), ("auto", "a sandbox")]
)
async def test_what_helps_where_nobody_is_there_to_answer(permissions: Any, helps: str) -> None:
    asked = Questions(lambda *_, **__: None, is_attended=False, is_confined=lambda _: False)  # type: ignore[arg-type, return-value]
    workspace = Workspace(edits=True, temporary="/tmp", permissions=permissions)
    with pytest.raises(Unavailable) as caught:
        await asked.ask(AttemptId("a", 1), Question("q", "shell", ("allow_once", "deny")), workspace)
    assert helps in (caught.value.next or "")
