"""Which finding a reader should see first, and which are only a maybe.

How likely a matter is true is judged in log-odds: every voice for it counts, and so does the silence of
reviewers who looked at the file and did not see it. On real reviews by twelve tools a matter that one of them
saw was true in 2 of 100 cases, one that five saw in 7 of 10 (`benchmarks/reviews.py`). A reviewer's track
record moves the weight of its voice: how often its findings held when somebody looked again.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping

from msgspec import Struct

from parallelai.records import Finding, Severity, Tier

_RANKS = {severity: severity.rank for severity in Severity}
# Between what an engine is sure of and what it doubts: an analyser gives no confidence, and is no guess.
_UNSAID_CONFIDENCE = 0.5

_START = -2.0  # nobody has said anything
_VOICE = 1.0
_SILENCE = -0.3
_MUST = -0.45  # two of two or three reviewers, three of seven, four of twelve
_USUAL_CONFIDENCE = 0.75  # what models say of what they report
_CONFIDENCE_SHARE = 0.25
_LONE_CONFIDENCE = 0.5  # what a reviewer who is alone has to be sure of
_RECORD_SHARE = 0.5
_EARLIER_CASES = 10  # a new reviewer is judged as if it had these many cases of everybody's average


class Standing(Struct, frozen=True):
    """How many of a reviewer's findings held, and how many did not, when somebody looked again."""

    confirmed: int = 0
    refuted: int = 0

    def __add__(self, other: Standing) -> Standing:
        return Standing(self.confirmed + other.confirmed, self.refuted + other.refuted)


TrackRecord = Mapping[str, Standing]
"""The standing of each reviewer, by the engine's name; the caller keeps it between runs."""


def add_up(*records: TrackRecord) -> dict[str, Standing]:
    """Add track records up, such as the one that is kept and a run's."""
    total: dict[str, Standing] = {}
    for record in records:
        for name, standing in record.items():
            total[name] = total.get(name, Standing()) + standing
    return total


def weight(reviewer: str, record: TrackRecord) -> float:
    """How much more than an average reviewer's voice this one's weighs, in log-odds; 0 for an unknown one."""
    if reviewer not in record:
        return 0.0
    total = sum(record.values(), Standing(1, 1))
    average = total.confirmed / (total.confirmed + total.refuted)
    own = record[reviewer]
    cases = own.confirmed + own.refuted + _EARLIER_CASES
    share = (own.confirmed + _EARLIER_CASES * average) / cases
    return _RECORD_SHARE * (_log_odds(share) - _log_odds(average))


def tier(
    by: Collection[str], votes: int, *, lookers: int, confidence: float | None, record: TrackRecord
) -> Tier:
    """Say whether reviewers are agreed enough that a matter must be looked at.

    Args:
        by: the engines that reported it.
        votes: the voices for it.
        lookers: the voices of all reviewers who looked at the file.
        confidence: how sure they are on average; None where nobody said.
    """
    known = sum(weight(name, record) for name in by)
    if lookers <= 1:
        sure = _log_odds(_USUAL_CONFIDENCE if confidence is None else confidence)
        return "must" if sure + known >= _log_odds(_LONE_CONFIDENCE) else "maybe"
    likely = _START + votes * _VOICE + max(0, lookers - votes) * _SILENCE + known
    if confidence is not None:
        likely += _CONFIDENCE_SHARE * (_log_odds(confidence) - _log_odds(_USUAL_CONFIDENCE))
    return "must" if likely >= _MUST else "maybe"


def rank_key(
    finding: Finding, record: TrackRecord | None = None
) -> tuple[int, bool, float, float, str, tuple[int, int], tuple[int, int], str, str]:
    """Give what findings are ordered by: severity, tier, votes with their weight, confidence, then place."""
    confidence = _UNSAID_CONFIDENCE if finding.confidence is None else finding.confidence
    column = finding.column or (0, 0)
    rule = finding.rule or finding.category
    voices = finding.votes + sum(weight(name, record) for name in finding.by) if record else finding.votes
    return (
        _RANKS[finding.severity],
        finding.tier == "maybe",
        -voices,
        -confidence,
        finding.file,
        finding.line,
        column,
        rule,
        finding.message,
    )


def rank(findings: Iterable[Finding], record: TrackRecord | None = None) -> tuple[Finding, ...]:
    """Order findings: the most severe, most agreed on and surest first, then by path and line."""
    return tuple(sorted(findings, key=lambda finding: rank_key(finding, record)))


def _log_odds(share: float) -> float:
    share = min(max(share, 0.02), 0.98)
    return math.log(share / (1 - share))
