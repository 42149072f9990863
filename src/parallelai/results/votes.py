"""One finding of what several reporters found of the same matter, with everybody's vote.

Findings are equal if line, rule and message are; such of different replies are one. What reviewers say in their
own words (models, and all who quote code) is then matched by words and places.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from parallelai.records import Finding, Severity, Tier
from parallelai.results import matching
from parallelai.results.identity import normalise_message
from parallelai.results.matching import Statement, Vocabulary
from parallelai.results.rank import TrackRecord, tier

_LONG_MESSAGE = 600  # one that goes on for longer does not speak for others

Voice = tuple[str, str]
"""An engine, and the task that asked it."""


class Report(NamedTuple):
    """A finding with the number of the reply that it came in; `is_quoted`: its reporter must quote.

    `is_elsewhere`: what it is about is not in the checkout, but in a tree with changes that nobody has applied.
    """

    reply: int
    task: str
    engine: str
    finding: Finding
    is_quoted: bool = False
    is_elsewhere: bool = False

    @property
    def is_worded(self) -> bool:
        """Whether the reporter chose its own words: analysers say the same of the same, and quote nothing."""
        return self.is_quoted or self.finding.quote is not None


class Joined(NamedTuple):
    """A finding with everybody who reported it."""

    task: str
    by: tuple[str, ...]
    votes: int
    finding: Finding
    is_elsewhere: bool = False


class Judgement(NamedTuple):
    """What is known of a whole run when votes are counted."""

    vocabulary: Vocabulary
    record: TrackRecord


def join(entries: Sequence[Report], lookers: Iterable[Voice], judgement: Judgement) -> list[Joined]:
    """Make one finding of each matter of one file.

    Args:
        entries: what was reported of the file, in plan order.
        lookers: the reviewers who looked at it, once for each time.
    """
    is_of_one = all(entry.reply == entries[0].reply for entry in entries)  # who lists a thing twice means two
    groups = [[entry] for entry in entries] if is_of_one else list(_equal(entries))
    if not is_of_one and needs_matching(entries):
        groups = _matched(groups, judgement.vocabulary)
    voices = _count(lookers) if lookers else 0
    return [_join(group, voices, judgement.record) for group in groups]


def needs_matching(entries: Sequence[Report]) -> bool:
    """Say whether there is anything to match by words: several reporters, one of them in words of its own."""
    first = entries[0].reply if entries else 0
    return any(entry.is_worded for entry in entries) and any(entry.reply != first for entry in entries)


# --- who is one


def _equal(entries: Sequence[Report]) -> Iterable[list[Report]]:
    """Put together what is one finding: same line, rule and message, out of different replies."""
    alike: dict[tuple[int, str, str], list[Report]] = defaultdict(list)
    for entry in entries:
        finding = entry.finding
        key = (finding.line[0], finding.rule or finding.category, normalise_message(finding.message))
        alike[key].append(entry)
    for group in alike.values():
        if len(group) == 1:
            yield group
        else:
            yield from _match(group)


def _match(alike: Sequence[Report]) -> Iterable[list[Report]]:
    """Match equal findings of different replies: first in the same column, then wherever one is missing.

    Two of one reply are never put together: who lists a thing twice means two things.
    """
    columns: dict[tuple[tuple[int, int], int], list[Report]] = defaultdict(list)
    seen: dict[tuple[int, tuple[int, int]], int] = defaultdict(int)
    for entry in alike:
        column = entry.finding.column or (0, 0)
        columns[column, seen[entry.reply, column]].append(entry)
        seen[entry.reply, column] += 1
    slots: list[tuple[set[int], list[Report]]] = []
    for _, group in sorted(columns.items(), key=lambda item: item[0]):
        replies = {entry.reply for entry in group}
        free = next((slot for slot in slots if slot[0].isdisjoint(replies)), None)
        if free is None:
            slots.append((replies, list(group)))
        else:
            free[0].update(replies)
            free[1].extend(group)
    return [sorted(group, key=lambda entry: entry.reply) for _, group in slots]


def _matched(groups: Sequence[list[Report]], vocabulary: Vocabulary) -> list[list[Report]]:
    """Put groups together that are about the same matter in other words."""
    statements = [
        Statement(
            frozenset(entry.reply for entry in group),
            group[0].finding.message,
            group[0].finding.line,
            is_fixed=not any(entry.is_worded for entry in group),
        )
        for group in groups
    ]
    joined: list[list[Report]] = []
    for members in matching.group(statements, vocabulary):
        entries = [entry for at in members for entry in groups[at]]
        joined.append(sorted(entries, key=lambda entry: entry.reply))
    return joined


# --- what they say together


def _count(voices: Iterable[Voice]) -> int:
    """Count voices: engines, each as often as one task asked it.

    So the same analyser, met by two tasks, is one voice; an engine asked twice by one task is two.
    """
    most: dict[str, int] = {}
    for (engine, _), times in Counter(voices).items():
        most[engine] = max(times, most.get(engine, 0))
    return sum(most.values())


def _join(group: Sequence[Report], lookers: int, record: TrackRecord) -> Joined:
    """Make one finding of a group."""
    first = group[0]
    if len(group) == 1 and not first.is_quoted:
        return Joined(first.task, (first.engine,), 1, first.finding, first.is_elsewhere)
    by = tuple(dict.fromkeys(entry.engine for entry in group))
    votes = _count((entry.engine, entry.task) for entry in group)
    findings = [entry.finding for entry in group]
    said = [finding.confidence for finding in findings if finding.confidence is not None]
    joined = replace(
        _spokesman(group),
        severity=_severity(group),
        rule=next((finding.rule for finding in findings if finding.rule), None),
        suggestion=next((finding.suggestion for finding in findings if finding.suggestion), None),
        confidence=max(said, default=None),
        tier=_tier(group, by, votes, lookers, record),
        state="refuted" if all(finding.state == "refuted" for finding in findings) else "open",
    )
    return Joined(first.task, by, votes, joined, all(entry.is_elsewhere for entry in group))


def _spokesman(group: Sequence[Report]) -> Finding:
    """The finding whose words and place are kept: an analyser's, else of the commonest line, with a column."""
    lines = Counter(entry.finding.line[0] for entry in group)

    def key(entry: Report) -> tuple[bool, int, bool, tuple[int, int], tuple[int, int], int, str]:
        finding = entry.finding
        column = finding.column or (0, 0)
        length = len(finding.message) if len(finding.message) <= _LONG_MESSAGE else 0
        place = (entry.is_worded, -lines[finding.line[0]], finding.column is None, column, finding.line)
        # Of those who chose their words, who says most is kept; of equal ones who came first.
        return (*place, -length, finding.message) if _is_mixed(group) else (*place, 0, "")

    return min(group, key=key).finding


def _is_mixed(group: Sequence[Report]) -> bool:
    words = normalise_message(group[0].finding.message)
    return any(normalise_message(entry.finding.message) != words for entry in group)


def _severity(group: Sequence[Report]) -> Severity:
    """The worst that an analyser says; else, of reviewers, the middle one, so that one voice is not all."""
    graded = sorted((entry.finding.severity for entry in group), key=lambda severity: severity.rank)
    fixed = [entry.finding.severity for entry in group if not entry.is_quoted]
    if fixed:
        return min(fixed, key=lambda severity: severity.rank)
    return graded[(len(graded) - 1) // 2]


def _tier(
    group: Sequence[Report], by: tuple[str, ...], votes: int, lookers: int, record: TrackRecord
) -> Tier:
    """An analyser's finding is what it says; reviewers have to be agreed, and at least one be sure."""
    if all(entry.finding.tier == "maybe" for entry in group):
        return "maybe"
    if any(not entry.is_quoted and entry.finding.tier == "must" for entry in group):
        return "must"
    said = [entry.finding.confidence for entry in group if entry.finding.confidence is not None]
    confidence = sum(said) / len(said) if said else None
    return tier(by, votes, lookers=max(lookers, votes), confidence=confidence, record=record)
