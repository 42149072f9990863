"""How far a workstream is: from its record and its run's events."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from repositories import Repository

from parallelai import events
from parallelai.events import Event, EventData
from parallelai.git.repository import open_repository
from parallelai.records import ConflictPair, ErrorRecord, LimitKey, Outcome, Reply, TaskResult, Usage
from parallelai.work.status.folding import (
    SCHEMA,
    Files,
    Passed,
    StreamStatus,
    count,
    status_of,
    to_document,
)
from parallelai.work.status.progress import Watched, last_words
from parallelai.work.streams.record import KeptOut, Landed, Rules, Stream, refused, waits_for_leave

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
STREAM = Stream(
    name="gui",
    plan="plan.yaml",
    run="r-1",
    branch="parallelai/gui",
    worktree="/w/gui",
    base="b",
    head="h",
    target="main",
    rules=Rules(("src/ui/**",)),
    started_at="2026-11-20T11:00:00Z",
)
TODO = ("a", "b", "c")
RESERVED = events.AttemptReserved("claude", LimitKey("claude"), "plan")
STARTED = events.AttemptStarted("claude")
BEGUN = (RESERVED, STARTED)


def _ended(text: str = "done", *, error: ErrorRecord | None = None, usd: float = 0.5) -> events.AttemptEnded:
    usage = Usage(10, 0, 5, 0, usd, "prices")
    reply = Reply(text=text, usage=usage) if error is None else None
    return events.AttemptEnded("claude", error is None, 1.0, usage, reply, error)


def _result(status: Outcome, error: ErrorRecord | None = None) -> events.TaskEnded:
    result = TaskResult("gui", status, "claude", "default", None, "plan", 1, 1, 1.0, 0, None, error=error)
    return events.TaskEnded(result)


def _status(said: Iterable[EventData], stream: Stream = STREAM, **more: object) -> StreamStatus:
    watched = Watched(["gui"])
    for seq, data in enumerate(said, 1):
        is_pair = isinstance(data, events.ConflictSeen | events.ConflictGone)
        is_gate = isinstance(data, events.GateStarted | events.GateEnded)
        task = None if is_pair or is_gate else "gui"
        watched.take(Event("r-1", seq, f"2026-11-20T11:{seq:02}:00Z", data.type, data, task))
    given = {"now": NOW, "todo": TODO, "checks": 2, **more}
    return status_of(stream, watched.of("gui"), **given)  # type: ignore[arg-type]


def _gate(ok: bool = True, **more: object) -> events.GateEnded:
    made = events.GateEnded("pytest", "c", ok, 0 if ok else 1, 1.0, "log", ("gui",))
    return replace(made, **more)  # type: ignore[arg-type]


# Where it is


def test_a_run_that_was_killed_works_on_nothing() -> None:
    found = _status(BEGUN, is_interrupted=True)
    assert (found.stage, found.activity) == ("interrupted", "waiting")
    assert found.why == "its run was interrupted: `parallelai work run plan.yaml` goes on with it"
    preparing = _status([events.TaskStep("prepare", "preparing")], is_interrupted=True)
    assert (preparing.stage, preparing.activity) == ("interrupted", "waiting")
    ready = replace(STREAM, state="done")
    assert _status([*BEGUN, _ended()], ready, is_interrupted=True).is_ready
    gating = [
        *BEGUN,
        _ended(),
        events.LandingQueued("c", "main"),
        events.GateStarted("pytest", "c", ("gui",)),
    ]
    found = _status(gating, ready, is_interrupted=True)
    assert (found.stage, found.activity, found.is_ready) == ("queued", "waiting", True)


def test_what_was_cancelled_goes_on_once_its_run_is_over() -> None:
    said = [*BEGUN, _result(Outcome.CANCELLED)]
    assert _status(said).why == "it ended cancelled"
    found = _status(said, is_at_rest=True)
    assert found.why == "it ended cancelled: `parallelai work run plan.yaml` goes on with it"


def test_what_a_person_changed_is_no_wait_for_a_begin() -> None:
    found = _status([], files=Files(changed=1))
    assert found.why == "it has changes: `parallelai work done gui` says that it is ready to land"
    assert _status([], files=Files()).why == "it was not begun"


def test_what_was_skipped_says_what_has_to_land_first_or_what_goes_on_with_it() -> None:
    after, said = replace(STREAM, depends_on=("core", "io")), [_result(Outcome.SKIPPED)]
    assert _status(said, after).why == "it ended skipped"
    before = _status(said, after, is_at_rest=True, landed=("io",))
    assert before.why == "it ended skipped: `core` has to land first"
    then = _status(said, after, is_at_rest=True, landed=("io", "core"))
    assert then.why == "it ended skipped: `parallelai work run plan.yaml` goes on with it"


def test_what_nobody_carries_out_says_what_begins_it() -> None:
    found = _status([], files=Files(), is_at_rest=True)
    assert found.why == (
        "it was not begun: `parallelai work run plan.yaml` begins it;"
        " if you work there yourself, say `parallelai work done gui` then"
    )


def test_who_waits_for_leave_names_the_commands_that_answer() -> None:
    waits = [*BEGUN, _ended(), events.TaskStep("leave", "queued")]
    assert _status(waits).why == (
        "waits for a person's leave: `parallelai work approve gui`, or `parallelai work reject gui`"
    )
    assert _status([*waits, events.TaskStep("land", "queued")]).is_ready


def test_an_error_keeps_what_helps_against_it_as_long_as_it_is_the_reason() -> None:
    error = ErrorRecord("gate_failed", "the gate is red", None, "put it right")
    said = [*BEGUN, _ended(), _result(Outcome.BLOCKED, error=error)]
    assert (_status(said).why, _status(said).next) == ("the gate is red", "put it right")
    assert _status(said, is_lost=True).next is None
    assert _status(BEGUN).next is None


def test_what_landed_beside_its_target_says_what_is_in_the_way() -> None:
    note = "your checkout waits: `a` is in the way: move it, then `git merge --ff-only p`"
    landed = replace(STREAM, state="landed", landed=Landed("main", "b", "c", "t", "p", notes=("other", note)))
    found = _status([], landed, waits=note)
    assert (found.stage, found.landed, found.pending, found.why) == ("pending", "c", "p", note)
    assert (_status([], landed).stage, _status([], landed).pending) == ("landed", None)


def test_before_anything_happened_it_waits() -> None:
    found = _status([])
    assert (found.stage, found.activity, found.why) == ("waiting", "waiting", "it was not begun")
    assert found.todo == Passed(0, 3)
    assert found.checks == Passed(None, 2)
    assert found.tests == Passed(None, None)
    assert found.files is None
    assert found.usage is None
    assert found.quiet_seconds is None
    assert found.age_seconds == 3600.0
    assert not found.is_ready


def test_while_it_is_worked_on() -> None:
    found = _status([events.TaskReady(), *BEGUN])
    assert (found.stage, found.activity, found.engine) == ("working", "active", "claude")
    assert found.why == "it is being worked on"
    assert found.quiet_seconds == 57 * 60


def test_the_parts_of_its_task_that_are_done_are_counted_and_other_turns_are_not() -> None:
    part, other = events.TurnEnded(1, 1.0, reason="part"), events.TurnEnded(2, 1.0)
    assert _status([*BEGUN, part, events.TurnStarted(2), other]).todo == Passed(1, 3)
    assert _status([*BEGUN, part, *BEGUN]).todo == Passed(0, 3), "a new attempt begins anew"
    assert _status([*BEGUN, part, _ended()]).todo == Passed(3, 3)
    assert _status([], replace(STREAM, state="done")).todo == Passed(3, 3), "a person's word counts"
    assert _status([*BEGUN, part, part], todo=()).todo == Passed(0, 0)


def test_steps_give_the_stage() -> None:
    steps = [events.TaskStep("check", "checking")]
    assert _status([*BEGUN, _ended(), *steps]).stage == "checking"
    queued = [*BEGUN, _ended(), events.LandingQueued("c", "main")]
    assert _status(queued).stage == "queued"
    assert _status([*queued, events.GateStarted("pytest", "c", ("gui",))]).stage == "gating"


@pytest.mark.parametrize(
    ("outcome", "kind", "said"),
    [(Outcome.FAILED, "check_failed", "`pytest` failed"), (Outcome.BLOCKED, "conflict", "it conflicts")],
)
def test_how_it_ended_is_its_stage_and_why(outcome: Outcome, kind: str, said: str) -> None:
    error = ErrorRecord(kind, said)
    found = _status([*BEGUN, _ended(error=error), _result(outcome, error)])
    assert (found.stage, found.why, found.is_ready) == (str(outcome), said, False)
    again = _status([*BEGUN, _ended(error=error), _result(outcome, error), *BEGUN])
    assert (again.stage, again.why) == ("working", "it is being worked on")


def test_one_that_waited_for_leave_is_ready_once_it_has_that() -> None:
    waiting = replace(STREAM, state="done")
    has_leave = replace(waiting, approved_by="ana", approved_head=waiting.head)
    error = ErrorRecord("unavailable", waits_for_leave(waiting).said)
    said = [*BEGUN, _ended(), _result(Outcome.BLOCKED, error)]
    before, after = _status(said, waiting), _status(said, has_leave)
    assert (before.stage, before.why) == ("blocked", "it waits for a person's leave to land")
    assert (after.stage, after.is_ready) == ("queued", True)
    failed = _result(Outcome.FAILED, ErrorRecord("check_failed", "red"))
    assert _status([*said, failed], has_leave).why == "red", "leave is no remedy for that"


def test_one_that_a_person_refused_says_so_until_it_is_worked_on_again() -> None:
    stream = refused(replace(STREAM, state="done"), "ana", "the name is wrong")
    said = [*BEGUN, _ended(), _result(Outcome.BLOCKED, ErrorRecord("unavailable", "it waits"))]
    found = _status(said, stream)
    assert (found.stage, (found.why or "").split(";")[0]) == (
        "rejected",
        "rejected by ana: the name is wrong",
    )
    assert stream.mail == ("Its landing was rejected by ana: the name is wrong",), "its assistant is told"
    assert _status([*said, *BEGUN], stream).stage == "working"
    assert _status(said, replace(stream, head="i")).stage == "blocked", "it is another by now"


def test_a_landing_is_the_end_until_it_is_undone() -> None:
    landed = events.LandingLanded("main", "b", "c0ffee", "t")
    found = _status([*BEGUN, _ended(), landed, _result(Outcome.OK)])
    assert (found.stage, found.landed, found.is_ready, found.why) == (
        "landed",
        "c0ffee",
        False,
        "it has landed",
    )
    undone = _status([*BEGUN, _ended(), landed, events.LandingUndone("main", "d")])
    assert (undone.landed, undone.why) == (None, "its landing was taken back")
    assert (undone.stage, undone.activity) == ("undone", "waiting")
    record = replace(STREAM, state="done", undone="c0ffee")  # also where its run's events do not say so
    assert _status([*BEGUN, _ended(), landed], record).stage == "undone"
    record = replace(STREAM, state="landed", landed=Landed("main", "b", "abc", "t"))
    assert _status([], record).landed == "abc"


def test_what_a_person_merged_has_landed_whatever_kept_it_from_that_before() -> None:
    record = replace(STREAM, state="landed")
    found = _status([*BEGUN, _ended(), _result(Outcome.BLOCKED)], record)
    assert (found.stage, found.landed, found.is_ready, found.why) == ("landed", None, False, "it has landed")


def test_what_was_dropped_says_so() -> None:
    found = _status([*BEGUN], replace(STREAM, state="dropped"))
    assert (found.stage, found.why) == ("dropped", "it was dropped")


# Ready or not


def test_who_waits_for_slots_says_so_until_it_works() -> None:
    waits = (*BEGUN, events.TaskStep("wait", "waiting"))
    found = _status(waits)
    assert (found.stage, found.activity) == ("waiting", "waiting")
    assert "heavy slots that others hold" in str(found.why)
    found = _status([*waits, events.TaskStep("perform", "working")])
    assert (found.stage, found.activity, found.why) == ("working", "active", "it is being worked on")


def test_it_is_ready_when_it_is_worked_out_and_what_it_needs_has_landed() -> None:
    assert _status([*BEGUN, _ended()]).is_ready
    waits = replace(STREAM, depends_on=("core", "io"))
    assert _status([*BEGUN, _ended()], waits).why == "`core`, `io` have to land first"
    assert _status([*BEGUN, _ended()], waits, landed=["io"]).why == "`core` has to land first"
    assert _status([*BEGUN, _ended()], waits, landed=["io", "core"]).is_ready


def test_a_gate_that_failed_stands_in_the_way() -> None:
    found = _status([*BEGUN, _ended(), _gate(False, tests=10, passed=8, new_failures=("t::a", "t::b"))])
    assert found.why == "the gate failed: pytest"
    assert found.tests == Passed(8, 10)
    assert found.new_failures == ("t::a", "t::b")
    assert _status([*BEGUN, _ended(), _gate(False), _gate()]).is_ready


def test_a_gate_that_keeps_a_landing_from_being_taken_back_says_nothing_of_its_tests() -> None:
    landed = [*BEGUN, _ended(), _gate(tests=2, passed=2), events.LandingLanded("main", "b", "c", "t")]
    kept = _status([*landed, _gate(False, tests=1, passed=0, new_failures=("t::a",))])
    assert (kept.stage, kept.tests, kept.new_failures) == ("landed", Passed(2, 2), ())


def test_what_was_taken_back_and_is_called_ready_may_land() -> None:
    said = [events.LandingLanded("main", "b", "c", "t"), events.LandingUndone("main", "d")]
    found = _status(said, replace(STREAM, state="done", undone=None))
    assert (found.stage, found.is_ready) == ("queued", True)


def test_what_blocks_the_landing_names_the_others() -> None:
    blocked = events.LandingBlocked("it conflicts in `a.py`", ("core",))
    assert _status([*BEGUN, _ended(), blocked]).why == "it conflicts in `a.py` (with `core`)"
    assert _status([*BEGUN, _ended(), blocked, events.LandingQueued("c", "main")]).is_ready


def test_who_asks_or_waits_for_a_lease_says_for_what() -> None:
    asked = _status([*BEGUN, events.PermissionAsked("q1", "shell", ("allow", "deny"))])
    assert (asked.activity, asked.why) == ("asking", "it asks: shell")
    waits = _status([*BEGUN, events.LeaseAsked(("a", "b", "c", "d"), "x")])
    assert (waits.activity, waits.why) == ("waiting", "waits for a lease of `a`, `b`, `c` and 1 more")
    granted = _status([*BEGUN, events.LeaseAsked(("a",), "x"), events.LeaseGranted(("a",))])
    assert (granted.activity, granted.leases) == ("active", ("a",))
    assert _status([*BEGUN, events.LeaseGranted(("a", "b")), events.LeaseEnded(("a",), "landed")]).leases == (
        "b",
    )


def test_who_waits_for_another_to_land_says_for_whom_and_why() -> None:
    begins = events.ConflictWaiting(("backend",), "`src/app.py`")
    waits = _status([*BEGUN, events.TaskStep("perform", "waiting"), begins])
    assert (waits.stage, waits.activity, waits.is_ready) == ("waiting", "waiting", False)
    assert waits.why == "waits for `backend` to land: conflict in `src/app.py`"
    said = "`gui` calls `load(path)`, which `backend` removed (src/util.py:1)"
    logic = _status([*BEGUN, events.ConflictWaiting(("backend",), "", said)])
    assert logic.why == f"waits for `backend` to land: {said}"
    on = (events.ConflictWaited(("backend",)), events.TaskStep("perform", "working"))
    goes_on = _status([*BEGUN, events.TaskStep("perform", "waiting"), begins, *on])
    assert (goes_on.stage, goes_on.activity, goes_on.why) == ("working", "active", "it is being worked on")


# Checks, conflicts, what was kept out, cost


def test_checks_have_passed_once_an_attempt_ended_well() -> None:
    assert _status([*BEGUN, _ended()]).checks == Passed(2, 2)
    failed = ErrorRecord("check_failed", "x")
    assert _status([*BEGUN, _ended(error=failed)]).checks == Passed(None, 2)
    assert _status([*BEGUN, _ended()], checks=0).checks == Passed(0, 0)


def test_conflicts_come_and_go_from_both_sides() -> None:
    seen = [
        events.ConflictSeen(ConflictPair("gui", "core", True, None, 1.0)),
        events.ConflictSeen(ConflictPair("main", "gui", True, None, 1.0)),
        events.ConflictSeen(ConflictPair("a", "b", True, None, 1.0)),
    ]
    assert _status(seen).conflicts == ("core", "main")
    assert _status([*seen, events.ConflictGone("gui", "core")]).conflicts == ("main",)


def test_what_was_kept_out_is_each_path_once() -> None:
    record = replace(STREAM, kept_out=(KeptOut(("x", "y"), "not owned"),))
    assert _status([events.GuardKeptOut(("y", "z"), "not owned")], record).kept_out == ("x", "y", "z")


def test_costs_of_all_attempts_add_up_and_unknown_stays_unknown() -> None:
    found = _status([*BEGUN, _ended(error=ErrorRecord("transient", "x")), *BEGUN, _ended()])
    assert found.usage is not None
    assert (found.usage.usd, found.attempts) == (1.0, 2)


def test_events_of_others_say_nothing_of_it() -> None:
    watched = Watched(["gui", "core"])
    watched.take(Event("r-1", 1, "2026-11-20T11:00:00Z", RESERVED.type, RESERVED, "core"))
    watched.take(Event("r-1", 2, "2026-11-20T11:00:00Z", "later.kind", {"x": 1}, "gui"))
    watched.take(Event("r-1", 3, "2026-11-20T11:00:00Z", RESERVED.type, RESERVED, "a-plain-task"))
    assert watched.of("gui").stage == "waiting"
    assert watched.of("core").stage == "working"


# Words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("One.\nTwo.\n\n---\n", "Two."),
        ('I need main.\n```parallelai\n{"lease": "a"}\n```\n', "I need main."),
        ("```\nonly code\n```", "only code"),
        ("a\x1b[31mred\x07", "a\N{REPLACEMENT CHARACTER}[31mred\N{REPLACEMENT CHARACTER}"),
        ("", None),
        ("\n  \n", None),
    ],
)
def test_last_words_are_the_last_line_that_says_something(text: str, words: str | None) -> None:
    assert last_words(text) == words


@given(st.text())
def test_last_words_are_one_line_not_too_long(text: str) -> None:
    words = last_words(text)
    assert words is None or (words.isprintable() and 0 < len(words) <= 200)


def test_what_it_says_just_now_comes_before_what_it_said_before() -> None:
    assert _status([*BEGUN, _ended("before")]).words == "before"
    assert _status([*BEGUN, _ended("before")], words="just\nnow").words == "now"


# JSON and files


def test_the_document_is_plain_and_unknown_is_null() -> None:
    status = _status([*BEGUN, _ended(), _gate(tests=3, passed=3)], files=Files(1, 2, 0))
    document = json.loads(json.dumps(to_document([status], run="r-1", plan="plan.yaml", at=NOW)))
    assert document["schema"] == SCHEMA == "parallelai/status/1"
    assert document["at"] == "2026-11-20T12:00:00Z"
    found = document["workstreams"][0]
    assert found["todo"] == {"passed": 3, "of": 3}
    assert found["files"] == {"new": 1, "changed": 2, "removed": 0}
    assert found["usage"]["usd"] == 0.5
    assert found["is_ready"] is True
    assert found["why"] is None
    assert found["kept_out"] == []
    empty = to_document([_status([])], run=None, plan=None, at=NOW)["workstreams"][0]
    assert (empty["usage"], empty["files"], empty["tests"]) == (None, None, {"passed": None, "of": None})


async def test_files_are_counted_by_what_git_says(tmp_path: Path) -> None:
    repository = Repository.start(tmp_path / "repo")
    before = repository.commit({"a": "1\n", "b": "2\n", "old\nname": "3\n", "sub/c": "4\n"})
    (repository.root / "b").unlink()
    (repository.root / "old\nname").rename(repository.root / "new name")
    (repository.root / "sub/c").chmod(0o755)
    after = repository.commit({"a": "changed\n", "d": "5\n"})
    git = (await open_repository(repository.root)).git
    assert await count(git, before, after) == Files(new=2, changed=2, removed=2)
    assert await count(git, after, after) == Files()
