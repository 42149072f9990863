"""Which finding a reader should see first."""

from __future__ import annotations

from collections.abc import Iterable

from parallelai.records import Finding, Severity

_RANKS = {severity: severity.rank for severity in Severity}
# Between what an engine is sure of and what it doubts: an analyser gives no confidence, and is no guess.
_UNSAID_CONFIDENCE = 0.5


def rank_key(finding: Finding) -> tuple[int, int, float, str, tuple[int, int], tuple[int, int], str, str]:
    """Give what findings are ordered by: severity, votes, confidence, then place."""
    confidence = _UNSAID_CONFIDENCE if finding.confidence is None else finding.confidence
    column = finding.column or (0, 0)
    rule = finding.rule or finding.category
    return (
        _RANKS[finding.severity],
        -finding.votes,
        -confidence,
        finding.file,
        finding.line,
        column,
        rule,
        finding.message,
    )


def rank(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Order findings: the most severe, most agreed on and surest first, then by path and line."""
    return tuple(sorted(findings, key=rank_key))
