"""From the replies of many engines to one ranked list of findings.

In this order, file by file: places are put right (a quote that stands elsewhere in the file moves the finding
there, a quote that stands nowhere drops it), equal findings of different replies are joined, the code is
quoted, ids are given, comments in the code are obeyed. The result does not depend on the order in which
replies came in, as long as they are given in plan order.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from parallelai.records import Finding, FindingState, Reply
from parallelai.results.identity import (
    finding_id,
    lines_of,
    normalise_message,
    quote,
    split_lines,
    squeeze,
)
from parallelai.results.rank import rank
from parallelai.results.suppress import has_comments, is_suppressed

QUOTE_NOT_FOUND = "quote_not_found"


@dataclass(frozen=True, slots=True)
class Reported:
    """A reply with who gave it: the task's id, and the name of the engine."""

    task: str
    engine: str
    reply: Reply


@dataclass(frozen=True, slots=True)
class Collected:
    """The findings of a run, ranked, and how many were dropped, by reason."""

    findings: tuple[Finding, ...]
    dropped: dict[str, int]


class _Report(NamedTuple):
    """A finding with the number of the reply that it came in."""

    reply: int
    task: str
    engine: str
    finding: Finding


class _Joined(NamedTuple):
    """A finding with everybody who reported it."""

    task: str
    by: tuple[str, ...]
    votes: int
    finding: Finding


def collect(reports: Iterable[Reported], *, read: Callable[[str], str | None]) -> Collected:
    """Collect the findings of a run.

    Args:
        reports: the replies, in plan order.
        read: gives a file's text by its path below the root, None where it cannot be read; called once
            a file.

    Returns:
        The findings, ranked: `id`, `task`, `quote`, `by`, `votes` and `state` are set here.
    """
    files: dict[str, list[_Report]] = defaultdict(list)
    for number, reported in enumerate(reports):
        for finding in reported.reply.findings:
            files[finding.file].append(_Report(number, reported.task, reported.engine, finding))
    findings: list[Finding] = []
    dropped = 0
    for path, entries in files.items():
        source = _Source(read(path))
        placed = [entry for report in entries if (entry := _place(report, source)) is not None]
        dropped += len(entries) - len(placed)
        findings += _identify([_join(group) for group in _groups(placed)], path, source)
    return Collected(rank(findings), {QUOTE_NOT_FOUND: dropped})


# --- places


class _Source:
    """A file's text as findings need it. `lines` is empty where the file could not be read."""

    def __init__(self, text: str | None) -> None:
        self.is_readable = text is not None
        self.lines = split_lines(text) if text else []
        self.has_comments = bool(text) and has_comments(text or "")
        self._squeezed: tuple[str, list[int], list[int]] | None = None

    def place(self, snippet: str, near: int) -> tuple[int, int] | None:
        """Find the lines nearest to line `near` on which a squeezed snippet stands; None if none."""
        text, starts, numbers = self._squeeze()
        middle = starts[min(bisect_right(numbers, near - 1), len(starts) - 1)] if starts else 0
        after, before = text.find(snippet, middle), text.rfind(snippet, 0, middle + len(snippet))
        places = []
        for start in {after, before} - {-1}:
            first = numbers[bisect_right(starts, start) - 1]
            places.append((first, numbers[bisect_right(starts, start + len(snippet) - 1) - 1]))
        return min(places, key=lambda place: (abs(place[0] - near), place), default=None)

    def _squeeze(self) -> tuple[str, list[int], list[int]]:
        """The whole text squeezed, where in it each line that is not blank starts, and that line's number."""
        if self._squeezed is None:
            parts, starts, numbers, offset = [], [], [], 0
            for number, line in enumerate(self.lines, 1):
                if part := squeeze(line):
                    parts.append(part)
                    starts.append(offset)
                    numbers.append(number)
                    offset += len(part) + 1
            self._squeezed = (" ".join(parts), starts, numbers)
        return self._squeezed


def _place(report: _Report, source: _Source) -> _Report | None:
    """Put a finding where its quote stands; None if it quotes what the file does not hold."""
    finding = report.finding
    line, column, confidence = _sound(finding)
    snippet = squeeze(finding.quote) if finding.quote and source.is_readable else ""
    if snippet and snippet not in squeeze("\n".join(lines_of(source.lines, line))):
        found = source.place(snippet, line[0])
        if found is None:
            return None
        if found != line:
            line, column = found, None
    if (line, column, confidence) == (finding.line, finding.column, finding.confidence):
        return report
    return report._replace(finding=replace(finding, line=line, column=column, confidence=confidence))


def _sound(finding: Finding) -> tuple[tuple[int, int], tuple[int, int] | None, float | None]:
    """A finding's place and confidence within what they can be: engines count from 0, or swap ends."""
    first = max(1, finding.line[0])
    line = (first, max(first, finding.line[1]))
    column = finding.column
    if column is not None and (min(column) < 1 or (line[0] == line[1] and column[1] < column[0])):
        column = None
    confidence = finding.confidence
    if confidence is not None:
        confidence = None if math.isnan(confidence) else min(1.0, max(0.0, confidence))
    return line, column, confidence


# --- votes


def _votes(group: Sequence[_Report]) -> int:
    """Count the voices behind a finding: engines, each as often as one task asked it.

    So the same analyser, met by two tasks, is one voice; an engine asked twice by one task is two.
    """
    asked = Counter((entry.engine, entry.task) for entry in group)
    most: dict[str, int] = {}
    for (engine, _), times in asked.items():
        most[engine] = max(times, most.get(engine, 0))
    return sum(most.values())


def _groups(entries: Sequence[_Report]) -> Iterable[list[_Report]]:
    """Put together what is one finding: same line, rule and message, out of different replies."""
    alike: dict[tuple[int, str, str], list[_Report]] = defaultdict(list)
    for entry in entries:
        finding = entry.finding
        key = (finding.line[0], finding.rule or finding.category, normalise_message(finding.message))
        alike[key].append(entry)
    for group in alike.values():
        if len(group) == 1:
            yield group
        else:
            yield from _match(group)


def _match(alike: Sequence[_Report]) -> Iterable[list[_Report]]:
    """Match equal findings of different replies: first in the same column, then wherever one is missing.

    Two of one reply are never put together: who lists a thing twice means two things.
    """
    columns: dict[tuple[tuple[int, int], int], list[_Report]] = defaultdict(list)
    seen: dict[tuple[int, tuple[int, int]], int] = defaultdict(int)
    for entry in alike:
        column = entry.finding.column or (0, 0)
        columns[column, seen[entry.reply, column]].append(entry)
        seen[entry.reply, column] += 1
    slots: list[tuple[set[int], list[_Report]]] = []
    for _, group in sorted(columns.items(), key=lambda item: item[0]):
        replies = {entry.reply for entry in group}
        free = next((slot for slot in slots if slot[0].isdisjoint(replies)), None)
        if free is None:
            slots.append((replies, list(group)))
        else:
            free[0].update(replies)
            free[1].extend(group)
    return [sorted(group, key=lambda entry: entry.reply) for _, group in slots]


def _join(group: Sequence[_Report]) -> _Joined:
    """Make one finding of equal ones: the worst severity, the highest confidence, everybody's name."""
    first = group[0]
    if len(group) == 1:
        return _Joined(first.task, (first.engine,), 1, first.finding)
    findings = [entry.finding for entry in group]
    exact = min(findings, key=lambda finding: (finding.column is None, finding.column or (0, 0)))
    joined = replace(
        exact,
        severity=min((finding.severity for finding in findings), key=lambda severity: severity.rank),
        rule=next((finding.rule for finding in findings if finding.rule), None),
        suggestion=next((finding.suggestion for finding in findings if finding.suggestion), None),
        confidence=max((f.confidence for f in findings if f.confidence is not None), default=None),
        tier="must" if any(finding.tier == "must" for finding in findings) else "maybe",
        state="refuted" if all(finding.state == "refuted" for finding in findings) else "open",
    )
    by = tuple(dict.fromkeys(entry.engine for entry in group))
    return _Joined(first.task, by, _votes(group), joined)


# --- ids


def _identify(entries: Sequence[_Joined], path: str, source: _Source) -> Iterable[Finding]:
    """Give one file's findings their id, quote and state."""
    equals: dict[tuple[str, str], int] = defaultdict(int)
    for entry in sorted(entries, key=_place_key):
        finding = entry.finding
        code = lines_of(source.lines, finding.line)
        rule = finding.rule or finding.category
        snippet = squeeze("\n".join(code)) or normalise_message(finding.message)
        ordinal = equals[rule, snippet]
        equals[rule, snippet] += 1
        yield Finding(
            file=path,
            line=finding.line,
            severity=finding.severity,
            message=finding.message,
            id=finding_id(rule, path, snippet, ordinal),
            task=entry.task,
            column=finding.column,
            category=finding.category,
            rule=finding.rule,
            suggestion=finding.suggestion,
            quote=quote(code) if source.is_readable else finding.quote,
            confidence=finding.confidence,
            tier=finding.tier,
            by=entry.by,
            votes=entry.votes,
            state=_state(finding, source),
        )


def _place_key(entry: _Joined) -> tuple[tuple[int, int], tuple[int, int], str]:
    # The message normalised: whose wording was kept must not decide which of two equals is the first.
    finding = entry.finding
    return finding.line, finding.column or (0, 0), normalise_message(finding.message)


def _state(finding: Finding, source: _Source) -> FindingState:
    if finding.state == "refuted":
        return "refuted"
    if source.has_comments:
        rule, category = finding.rule, finding.category
        return (
            "suppressed"
            if is_suppressed(source.lines, finding.line[0], rule=rule, category=category)
            else "open"
        )
    return "open"
