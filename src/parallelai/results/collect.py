"""From the replies of many engines to one ranked list of findings.

In this order, file by file: places are put right (a quote that stands elsewhere in the file moves the finding
there, a quote that stands nowhere drops it), findings of different replies about the same matter are joined,
the code is quoted, ids are given, comments in the code are obeyed. The result does not depend on the order in
which replies came in, as long as they are given in plan order.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from msgspec import Struct

from parallelai.records import Finding, FindingState, Reply, light_record
from parallelai.results.identity import finding_id, lines_of, normalise_message, quote, squeeze
from parallelai.results.matching import Vocabulary
from parallelai.results.quotes import QUOTE_NOT_FOUND, Source, place_one
from parallelai.results.rank import TrackRecord, rank
from parallelai.results.suppress import is_suppressed
from parallelai.results.votes import Joined, Judgement, Report, Voice, join, needs_matching

_NOWHERE = Source(None)
_MOST_TEXTS = 5_000  # that the rareness of words is learned from


@light_record
class Reported:
    """A reply with who gave it: the task's id, and the name of the engine.

    `is_quoted`: the engine is a model, whose findings hold only with a quote that stands in the file; they
    are matched with others by their words. `files` are those that it was asked about: who looked at a file
    and did not see a matter speaks against it. Without them only files with findings count as looked at.
    `is_elsewhere`: it looked at files with changes that the checkout need not have.
    """

    task: str
    engine: str
    reply: Reply
    is_quoted: bool = False
    files: tuple[str, ...] = ()
    is_elsewhere: bool = False


class Collected(Struct, frozen=True):
    """The findings of a run, ranked, and how many were dropped, by reason."""

    findings: tuple[Finding, ...]
    dropped: dict[str, int]


class Collector:
    """Collects the findings of a run.

    Of a reply that comes in while others are still worked at, the findings can be identified at once: a run has
    thousands of them, and at its end everybody waits.
    """

    def __init__(self, read: Callable[[str], str | None]) -> None:
        """`read` gives a file's text by its path below the root, None where it cannot be read."""
        self._read = read
        self._early: dict[str, _Identified] = {}

    def take(self, reported: Reported) -> None:
        """Identify the findings of a reply, which holds where no other reply is about the same file."""
        if reported.is_quoted:  # how many saw a matter, and who looked, only the end tells
            return
        files: dict[str, list[Finding]] = defaultdict(list)
        for finding in reported.reply.findings:
            files[finding.file].append(finding)
        for path, found in files.items():
            if path not in self._early:
                source = Source(self._read(path))
                kept = [
                    placed for one in found if (placed := _put(one, source, must_quote=False)) is not None
                ]
                alone = [Joined(reported.task, (reported.engine,), 1, one) for one in kept]
                findings = tuple(_identify(alone, path, source))
                self._early[path] = _Identified(reported.reply, findings, len(found) - len(kept))

    def collect(self, reports: Iterable[Reported], record: TrackRecord | None = None) -> Collected:
        """Collect the findings of all replies, whether they were taken before or not.

        Args:
            reports: the replies, in plan order.
            record: the reviewers' track record.

        Returns:
            The findings, ranked: `id`, `task`, `quote`, `by`, `votes`, `tier` and `state` are set here.
        """
        reports = list(reports)
        files, lookers = _by_file(reports)
        placed = {
            path: _placed(entries, self._read(path))
            for path, entries in files.items()
            if needs_matching(entries)
        }
        judgement = Judgement(_vocabulary([kept for kept, _ in placed.values()]), record or {})
        findings: list[Finding] = []
        dropped = 0
        for path, entries in files.items():  # one after another: no more than one text is held
            early = self._early.get(path)
            if early is not None and all(reports[entry.reply].reply is early.reply for entry in entries):
                findings += early.findings
                dropped += early.dropped
                continue
            kept, source = placed[path] if path in placed else _placed(entries, self._read(path))
            dropped += len(entries) - len(kept)
            findings += _identify(join(kept, lookers.get(path, ()), judgement), path, source)
        return Collected(rank(findings, record), {QUOTE_NOT_FOUND: dropped})


class _Identified(NamedTuple):
    """What the findings of one reply about one file come to, if no other reply is about it."""

    reply: Reply
    findings: tuple[Finding, ...]
    dropped: int


def _by_file(
    reports: Iterable[Reported],
) -> tuple[Mapping[str, list[Report]], Mapping[str, list[Voice]]]:
    """Sort findings by file; and say of each file which reviewers looked at it."""
    files: dict[str, list[Report]] = defaultdict(list)
    lookers: dict[str, list[Voice]] = defaultdict(list)
    for number, reported in enumerate(reports):
        for finding in reported.reply.findings:
            files[finding.file].append(
                Report(
                    number,
                    reported.task,
                    reported.engine,
                    finding,
                    reported.is_quoted,
                    reported.is_elsewhere,
                )
            )
        if reported.is_quoted:
            found = (finding.file for finding in reported.reply.findings)
            for path in dict.fromkeys((*reported.files, *found)):
                lookers[path].append((reported.engine, reported.task))
    return files, lookers


def _vocabulary(files: Iterable[Sequence[Report]]) -> Vocabulary:
    """Learn how rare words are in what was said of the files in which something has to be matched."""
    texts = (entry.finding.message for entries in files if needs_matching(entries) for entry in entries)
    return Vocabulary(text for text, _ in zip(texts, range(_MOST_TEXTS), strict=False))


# --- places


def _placed(entries: Sequence[Report], text: str | None) -> tuple[list[Report], Source]:
    """Put a file's findings where their quotes stand, and leave out those that stand nowhere."""
    source = Source(text)
    return [placed for entry in entries if (placed := _place(entry, source)) is not None], source


def _place(report: Report, source: Source) -> Report | None:
    """Put a finding where its quote stands; None if it quotes what the file does not hold."""
    placed = _put(report.finding, source, must_quote=report.is_quoted)
    if report.is_elsewhere and (placed is None or not placed.quote):
        return report._replace(finding=_sound(report.finding))
    if placed is None or (placed is report.finding and not report.is_elsewhere):
        return report if placed is not None else None
    return report._replace(finding=placed, is_elsewhere=False)


def _put(finding: Finding, source: Source, *, must_quote: bool) -> Finding | None:
    return place_one(_sound(finding), source, must_quote=must_quote)


def _sound(finding: Finding) -> Finding:
    """A finding with place and confidence within what they can be: engines count from 0, or swap ends."""
    (first, last), column, confidence = finding.line, finding.column, finding.confidence
    if confidence is None and column is not None and 1 <= first <= last and 1 <= column[0] <= column[1]:
        return finding  # as nearly all of an analyser's are
    line = (max(1, first), max(1, first, last))
    if column is not None and (min(column) < 1 or (line[0] == line[1] and column[1] < column[0])):
        column = None
    if confidence is not None:
        confidence = None if math.isnan(confidence) else min(1.0, max(0.0, confidence))
    if line == finding.line and column is finding.column and confidence == finding.confidence:
        return finding
    return replace(finding, line=line, column=column, confidence=confidence)


# --- ids


def _identify(entries: Sequence[Joined], path: str, source: Source) -> Iterable[Finding]:
    """Give one file's findings their id, quote and state."""
    equals: dict[tuple[str, str], int] = defaultdict(int)
    for entry in sorted(entries, key=_place_key):
        finding = entry.finding
        code = (
            (finding.quote or "").split("\n") if entry.is_elsewhere else lines_of(source.lines, finding.line)
        )
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
            quote=quote(code) if source.is_readable and not entry.is_elsewhere else finding.quote,
            confidence=finding.confidence,
            tier=finding.tier,
            by=entry.by,
            votes=entry.votes,
            state=_state(finding, _NOWHERE if entry.is_elsewhere else source),
        )


def _place_key(entry: Joined) -> tuple[tuple[int, int], tuple[int, int], str]:
    # The message normalised: whose wording was kept must not decide which of two equals is the first.
    finding = entry.finding
    return finding.line, finding.column or (0, 0), normalise_message(finding.message)


def _state(finding: Finding, source: Source) -> FindingState:
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
