"""Reviewers are judged by what became of their findings."""

from __future__ import annotations

from parallelai.client.standing import standings
from parallelai.records import Finding, Severity
from parallelai.results.rank import Standing


def finding(**more: object) -> Finding:
    return Finding("a.py", (1, 1), Severity.HIGH, "m", **more)  # type: ignore[arg-type]


def test_what_others_saw_too_held_and_what_was_refuted_or_suppressed_did_not() -> None:
    findings = [
        finding(by=("a", "b"), votes=2),
        finding(by=("a",)),
        finding(by=("b",), state="refuted"),
        finding(by=("b",), state="suppressed"),
    ]
    assert standings(findings) == {"a": Standing(1, 0), "b": Standing(1, 2)}
