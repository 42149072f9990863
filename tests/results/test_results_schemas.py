"""The shipped schemas: current, true of what is written, and of the contracts' own example."""

from __future__ import annotations

import copy
import functools
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from results_documents import documents

from parallelai import errors, events
from parallelai.errors import ParallelAIError, PlanError, Problem
from parallelai.records import (
    FREE,
    ConflictPair,
    Finding,
    LimitKey,
    Outcome,
    Reply,
    RunDocument,
    Severity,
    TaskResult,
    Usage,
    to_json,
)
from parallelai.results import schemas
from parallelai.results.formats import RenderContext
from parallelai.results.json import render, render_error

DATA = Path(__file__).parent / "data"
EXAMPLE = json.loads((DATA / "contracts_run.json").read_text(encoding="utf-8"))


def closed(schema):
    """The same schema, refusing keys that it does not name."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {key: closed(value) for key, value in schema.items()}
    if schema.get("type") == "object" and "properties" in schema:
        strict["additionalProperties"] = False
    return strict


# Made when a test first asks for them: every worker collects this module.
@functools.cache
def run_validator():
    return Draft202012Validator(closed(schemas.run_schema()))


@functools.cache
def event_validator():
    return Draft202012Validator(schemas.event_schema())


@functools.cache
def error_validator():
    return Draft202012Validator(closed(schemas.error_schema()))


def test_the_shipped_files_are_current():
    for name, text in schemas.files().items():
        shipped = (schemas.FOLDER / name).read_text(encoding="utf-8")
        assert shipped == text, f"{name}: run `python -m parallelai.results.schemas`"
        Draft202012Validator.check_schema(json.loads(shipped))


def test_the_example_of_the_contracts_is_valid_as_it_is():
    assert run_validator().is_valid(EXAMPLE)


@given(documents())
def test_every_document_is_valid_as_it_is_written(document):
    written = json.loads(render(document, RenderContext()))
    run_validator().validate(written)
    assert list(written) == [*EXAMPLE, "is_review"], "the keys, in the contracts' order, and a later one"


def test_the_conflicts_of_the_contracts_are_valid_as_they_are():
    text = (DATA / "contracts_conflicts.json").read_text(encoding="utf-8")
    validator = Draft202012Validator(closed(schemas.conflicts_schema()))
    validator.validate(json.loads(text))
    broken = json.loads(text)
    broken["pairs"][0]["class"] = "syntax"
    assert not validator.is_valid(broken)


def test_a_workstream_is_described():
    gate = {"command": "pytest -q", "exit": 0, "seconds": 1.5, "log": "gate.log"}
    landed = {"commit": "9f3c", "tree": "77aa", "pending": None, "gates": [gate]}
    stream = {"branch": "parallelai/gui", "worktree": "../r-worktrees/gui", "base": "9f3c", "stage": "gating"}
    example = copy.deepcopy(EXAMPLE)
    example["tasks"][0]["workstream"] = {**stream, "kept_out": [], "landed": landed}
    run_validator().validate(example)
    example["tasks"][0]["workstream"]["landed"].pop("tree")
    assert not run_validator().is_valid(example)


@pytest.mark.parametrize(
    "damage",
    [
        lambda run: run.pop("exit"),
        lambda run: run.update(schema="parallelai/run/2"),
        lambda run: run.update(outcome="blocked"),
        lambda run: run.update(surprise=1),
        lambda run: run["counts"].pop("ok"),
        lambda run: run["findings"][0].update(severity="terrible"),
        lambda run: run["findings"][0].update(line=[0, 3]),
        lambda run: run["findings"][0].update(confidence=90),
        lambda run: run["tasks"][0].update(status="done"),
        lambda run: run["tasks"][1]["error"].update(kind="oops"),
        lambda run: run["usage"].update(basis="guess"),
        lambda run: run["files"].update(covered=["src/a.py"]),
    ],
)
def test_what_is_not_a_run_document_is_refused(damage):
    example = copy.deepcopy(EXAMPLE)
    damage(example)
    assert not run_validator().is_valid(example)


def test_a_later_version_may_add_keys():
    assert Draft202012Validator(schemas.run_schema()).is_valid({**EXAMPLE, "later": 1})


# --- events

KEY = LimitKey("claude")
RESULT = TaskResult("gui", Outcome.OK, usage=FREE)
FOUND = Finding("a.py", (1, 2), Severity.LOW, "m", column=(1, 2))
REPLY = Reply(text="text", findings=(FOUND,), data={"any": [1]})
HAPPENED = [
    events.RunCreated("review", None, "/p", "0.1.0"),
    events.RunStarted(1, "host", 4, "dag"),
    events.EnginesTaken(
        (events.Taken(("mock",), "plan", 2),), {"openai": "http://127.0.0.1:9/v1"}, ("a note",)
    ),
    events.RunPaused("asked"),
    events.RunResumed("asked"),
    events.RunStopping("interrupted"),
    events.RunEnded(Outcome.OK, 0, 1.0, 2.0, {Outcome.OK: 1}, FREE),
    events.TaskExpanded(("a@1", "a@2")),
    events.TaskReady(),
    events.TaskStep("check", "checking"),
    events.LeaveLapsed(),
    events.TaskEnded(result=RESULT, fingerprint="f1"),
    events.AttemptReserved("claude", KEY, "plan", 100, None),
    events.AttemptStarted("claude"),
    events.AttemptEnded(engine="claude", ok=True, seconds=1.0, usage=FREE, reply=REPLY),
    events.TurnStarted(1),
    events.TurnEnded(1, 2.0),
    events.SessionOpened("s1"),
    events.PermissionAsked("q1", "shell", ("allow_once", "deny"), "make test"),
    events.PermissionAnswered("q1", "allow_once", "policy"),
    events.WorkspaceCreated("/tmp/w", "9f3c", True),
    events.WorkspaceRemoved("/tmp/w"),
    events.GuardKeptOut((".git/config",), "it may not be changed"),
    events.ChangeMade("p/0001.patch", ("a.py",), "9f3c", "8e2b"),
    events.ChangeApplied(("a.py",), {"a.py": ("1a", None)}),
    events.ChangeRefused(("a.py",), "it was edited since"),
    events.LimitChanged(KEY, None, 20, "start"),
    events.LimitReached("role", "backend", 2, 2),
    events.LimitWaiting(KEY, "2026-11-20T10:00:30Z", "429"),
    events.BreakerOpened(KEY, "quota"),
    events.BreakerClosed(KEY),
    events.BudgetWarned("usd", 4.0, 5.0),
    events.BudgetReached("time", 60.0, 60.0),
    events.BudgetChanged(usd=5.0),
    events.CommandReceived(1, "cancel"),
    events.CommandDone(1, True),
    events.FindingRecorded((FOUND,)),
    events.OrphanEnded(12, "sleep"),
    events.WorkspaceRepaired("/tmp/w", "its files were not all there"),
    events.LeaseAsked(("src/main.py",), "register the command"),
    events.LeaseGranted(("src/main.py",)),
    events.LeaseRefused(("AGENTS.md",), "it is protected"),
    events.LeaseEnded(("src/main.py",), "its work has landed"),
    events.ConflictSeen(ConflictPair("gui", "backend", True, "file", 1.0)),
    events.ConflictGone("gui", "backend"),
    events.ConflictWaiting(("gui",), "`src/app.py`", "`gui` uses what `backend` removed"),
    events.ConflictWaited(("gui",)),
    events.GateStarted("pytest -q", "9f3c", ("gui",)),
    events.GateEnded("pytest -q", "9f3c", True, 0, 1.5, "gates/1.log", ("gui",), flaky=("t",)),
    events.LandingQueued("9f3c", "main"),
    events.LandingLanded("main", "9f3c", "8e2b", "77aa"),
    events.LandingBlocked("the gate fails", ("gui",)),
    events.LandingAsked("review", "eyes", "m-1", True, 1.5, Usage(1000, 0, 10, 0, 0.01)),
    events.LandingUndone("main", "8e2b"),
    events.WorkstreamRevisited("gui", True, "was given up"),
    events.DecisionMade("src/app.py", "identical", "both changed the same", "ab12"),
]


def test_every_type_of_event_is_tried():
    assert {data.type for data in HAPPENED} == set(events.TYPES)


@pytest.mark.parametrize("data", HAPPENED, ids=lambda data: data.type)
def test_events_are_valid_as_they_are_written(data):
    event = events.Event("r-1", 1, "2026-11-20T10:00:00.000000Z", data.type, data, "gui", 2)
    event_validator().validate(json.loads(events.event_to_json(event)))
    described = set(schemas.event_schema()["$defs"][type(data).__name__]["properties"])
    assert set(to_json(data)) == described


def test_the_example_of_the_contracts_is_a_valid_event():
    line = (
        '{"v": 1, "run": "r-…", "seq": 418, "at": "…Z", "type": "attempt.ended",'
        ' "task": "gui", "attempt": 2, "data": {}}'
    )
    assert event_validator().is_valid(json.loads(line))


def test_types_of_later_versions_are_valid_and_broken_data_is_not():
    event = {"v": 1, "run": "r", "seq": 1, "at": "", "type": "lease.asked", "task": None, "attempt": None}
    event_validator().validate({**event, "data": {"file": "a"}})
    assert not event_validator().is_valid({**event, "type": "turn.started", "data": {"turn": "one"}})
    assert not event_validator().is_valid({**event, "seq": 0, "data": {}})
    assert not event_validator().is_valid(event)


# --- errors

KINDS = [
    kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ParallelAIError)
]


@given(st.sampled_from([kind for kind in KINDS if kind is not PlanError]), st.text(), st.none() | st.text())
def test_every_error_is_valid_as_it_is_written(kind, said, where):
    assert error_validator().is_valid(json.loads(render_error(kind(said, where=where))))


def test_a_plan_error_tells_all_problems():
    written = json.loads(
        render_error(PlanError([Problem("unknown key", "t.yaml", 9, 5), Problem("a cycle")]))
    )
    error_validator().validate(written)
    assert [problem["where"] for problem in written["error"]["problems"]] == ["t.yaml:9:5", None]


def test_the_document_of_a_run_reads_back_as_one():
    kept = {key: value for key, value in EXAMPLE.items() if key != "files"}
    from parallelai.records import from_json

    assert from_json(RunDocument, kept).tasks[1].error.kind == "rejected"
