"""What gemini's own report says of how an answer ended."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallelai.engines.acp_report import read_report, stop_of

SINCE = "2026-11-21T10:00:00.000Z"


def _answer(
    *reasons: str, session: str = "s", at: str = "2026-11-21T10:00:01.000Z", role: str = "main"
) -> str:
    attributes = {
        "session.id": session,
        "event.name": "gemini_cli.api_response",
        "event.timestamp": at,
        "finish_reasons": list(reasons),
        "role": role,
    }
    return json.dumps({"resource": {"a": "}\n{"}, "attributes": attributes}, indent=2) + "\n"


@pytest.mark.parametrize(
    ("report", "stop"),
    [
        ("", None),
        (_answer("stop"), "end_turn"),
        (_answer("stop", "length"), "max_tokens"),
        (_answer("stop", "content_filter"), "refusal"),
        (_answer("length") + _answer("stop"), "end_turn"),  # the last answer of a turn counts
        (_answer("length", session="another"), None),
        (_answer("length", at="2026-11-21T09:59:59.999Z"), None),  # of the turn before
        (_answer("stop") + _answer("length", role="utility_router"), "end_turn"),
        (_answer("length")[:-9] + "\n" + _answer("stop"), None),  # written in the midst of another
        (_answer(), "end_turn"),
    ],
)
def test_the_last_answer_of_a_turn_says_how_it_ended(report: str, stop: str | None) -> None:
    assert stop_of(report, "s", SINCE) == stop


@given(cut=st.integers(0, 400), noise=st.text(max_size=40))
def test_a_garbled_report_says_nothing_or_the_truth(cut: int, noise: str) -> None:
    whole = _answer("length")
    assert stop_of(whole[:cut] + noise + whole[cut:], "s", SINCE) in {None, "max_tokens", "end_turn"}


def test_what_an_agent_puts_in_the_reports_place_is_not_waited_for(tmp_path: Path) -> None:
    assert read_report(tmp_path) == ""
    os.mkfifo(tmp_path / "calls.json")
    assert read_report(tmp_path) == ""
