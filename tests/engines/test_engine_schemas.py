"""The shipped schemas of the engine protocol: current, and true of the contracts' own examples."""

from __future__ import annotations

import functools
import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from parallelai.engines import schemas
from parallelai.engines.protocol import (
    AskingEvent,
    EngineEvent,
    FilesEvent,
    FinalEvent,
    LimitsEvent,
    LimitWindow,
    PlanEvent,
    Request,
    SessionEvent,
    StderrEvent,
    TextEvent,
    ToolEvent,
    UsageEvent,
    WaitingEvent,
    stream_to_json,
)
from parallelai.records import FilePart, LimitKey, Usage, from_json, to_json


# Made when a test first asks for them: every worker collects this module.
@functools.cache
def stream_validator() -> Draft202012Validator:
    return Draft202012Validator(schemas.stream_schema())


@functools.cache
def request_validator() -> Draft202012Validator:
    return Draft202012Validator(schemas.request_schema())


# CONTRACTS §7, the stream of one turn.
EXAMPLES = [
    {"type": "session", "id": "…"},
    {"type": "text", "delta": "…"},
    {"type": "stderr", "delta": "…"},
    {"type": "tool", "id": "t1", "name": "shell", "args": {}, "state": "started", "exit": 0},
    {"type": "files", "paths": ["src/a.py"]},
    {"type": "plan", "items": ["first", "second"]},
    {"type": "asking", "id": "q1", "what": "shell", "options": ["allow_once", "deny"]},
    {"type": "waiting", "why": "rate_limited", "until": "…", "key": ["claude-code", "default", "m"]},
    {"type": "limits", "requests": {"limit": 60, "remaining": 12, "reset_seconds": 8}, "tokens": None},
    {
        "type": "usage",
        "input": 900,
        "cached": 800,
        "output": 40,
        "reasoning": 0,
        "usd": None,
        "basis": "unknown",
    },
    {"type": "final", "ok": True, "reason": "end_turn"},
]


def test_the_shipped_files_are_current() -> None:
    for name, text in schemas.files().items():
        shipped = (schemas.FOLDER / name).read_text(encoding="utf-8")
        assert shipped == text, f"{name}: run `make schemas`"
        Draft202012Validator.check_schema(json.loads(shipped))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: str(example["type"]))
def test_the_stream_of_the_contracts_is_valid(example: dict[str, Any]) -> None:
    assert stream_validator().is_valid(example)


@pytest.mark.parametrize(
    "event",
    [
        SessionEvent("s"),
        TextEvent("…"),
        StderrEvent("…"),
        ToolEvent("t1", "shell", "ended", {"command": "ls"}, 0),
        FilesEvent(("src/a.py",)),
        PlanEvent(("first",)),
        AskingEvent("q1", "shell", ("allow_once", "deny")),
        WaitingEvent("rate_limited", "2026-11-20T10:00:00Z", LimitKey("codex")),
        LimitsEvent(LimitWindow(60, 12, 8.0), None),
        UsageEvent(Usage(900, 800, 40, 0)),
        FinalEvent(True),
    ],
    ids=lambda event: str(event.type),
)
def test_what_engines_report_is_written_as_the_contracts_say(event: EngineEvent) -> None:
    written = json.loads(json.dumps(stream_to_json(event)))
    stream_validator().validate(written)
    example = next(example for example in EXAMPLES if example["type"] == event.type)
    assert set(written) == set(example)


@pytest.mark.parametrize("broken", [{"type": "text"}, {"type": "nothing"}, {"type": "tool", "id": "t1"}, {}])
def test_what_is_no_event_of_a_stream_is_refused(broken: dict[str, Any]) -> None:
    assert not stream_validator().is_valid(broken)


def test_a_request_is_plain_json_and_reads_back() -> None:
    request = Request(
        "r-1", "a@src/a.py", 1, "/p", "Look.", (FilePart("src/a.py", 1, 9),), env={"A": "b"}, checklist=("x",)
    )
    written = json.loads(json.dumps(to_json(request)))
    request_validator().validate(written)
    assert from_json(Request, written) == request
