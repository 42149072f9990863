"""What changed between two runs, finding by finding.

A finding keeps its id while its rule, its path and the code that it is about stay as they are, wherever that
code moves to in the file. Findings without a partner by id are then paired by what else they share, about where
the lines around them went: the same rule for code that was edited a little; for reviewers who find their own
words, the same matter by `matching`; and the same finding in a file that was renamed.
"""

from __future__ import annotations

import difflib
import sys
from bisect import bisect_right, insort
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence

from msgspec import Struct

from parallelai.records import Finding, FindingState, Outcome, RunDocument, TaskResult
from parallelai.results.identity import normalise_message, squeeze
from parallelai.results.matching import THRESHOLD, Vocabulary, likeness

_PRESENT: frozenset[FindingState] = frozenset({"open", "baseline"})
_SAME_CODE = 0.6  # how alike two pieces of code are (difflib's ratio) that are one, edited
_SAME_PLACE = 20  # lines that an edited piece of code may be from where it is expected
_MOST_PAIRS = 40_000  # that are looked at one by one in a file
_MOST_CODE = 400  # characters of code that are compared

Alike = Callable[[Finding, Finding], float]
"""How alike two findings are; 0 where they are not the same one."""


class TaskPair(Struct, frozen=True):
    """What became of a task in an earlier run and in a later one; None of a run that had no such task.

    `usd` is None where the cost is unknown, too.
    """

    id: str
    status: tuple[Outcome | None, Outcome | None]
    seconds: tuple[float | None, float | None]
    usd: tuple[float | None, float | None]


class Comparison(Struct, frozen=True):
    """The findings of two runs, each ranked as its run had them, and their tasks, in plan order.

    `fixed` are the earlier run's that the later one no longer has, `new` the later one's that the earlier one
    had not, `stayed` those of both, as the later run has them. `unseen` are the earlier run's in files that
    the later one skipped or failed on: nobody knows whether they are fixed.
    """

    fixed: tuple[Finding, ...]
    new: tuple[Finding, ...]
    stayed: tuple[Finding, ...]
    unseen: tuple[Finding, ...] = ()
    tasks: tuple[TaskPair, ...] = ()


def compare(a: RunDocument, b: RunDocument) -> Comparison:
    """Compare an earlier run with a later one.

    Suppressed and refuted findings are neither fixed nor new: they were not there to be fixed, and are not
    there now.
    """
    before, after = _pair(a, b)
    unread = {note.file for note in (*b.files.skipped, *b.files.failed)}
    gone = [one for at, one in enumerate(a.findings) if one.state in _PRESENT and at not in before]
    present = [(at, one) for at, one in enumerate(b.findings) if one.state in _PRESENT]
    return Comparison(
        fixed=tuple(finding for finding in gone if finding.file not in unread),
        new=tuple(finding for at, finding in present if at not in after),
        stayed=tuple(finding for at, finding in present if at in after),
        unseen=tuple(finding for finding in gone if finding.file in unread),
        tasks=_tasks(a, b),
    )


def _tasks(a: RunDocument, b: RunDocument) -> tuple[TaskPair, ...]:
    """The tasks of both runs: those of the later one, then those that it has no more."""
    before, after = ({task.id: task for task in run.tasks} for run in (a, b))
    pairs = ((before.get(name), after.get(name), name) for name in {**after, **before})
    return tuple(
        TaskPair(
            name,
            (was.status if was is not None else None, now.status if now is not None else None),
            (was.seconds if was is not None else None, now.seconds if now is not None else None),
            (_usd(was), _usd(now)),
        )
        for was, now, name in pairs
    )


def _usd(task: TaskResult | None) -> float | None:
    return task.usage.usd if task is not None and task.usage is not None else None


def _pair(a: RunDocument, b: RunDocument) -> tuple[set[int], set[int]]:
    """Pair the findings of two runs; gives the positions in each that have a partner."""
    pairs = _Pairs(a.findings, b.findings)
    pairs.by_id()
    pairs.by_likeness(lambda finding: (finding.file, finding.rule), _edited, _has_rule)
    pairs.by_likeness(lambda finding: finding.file, _Matter(pairs.left()), _is_worded)
    seen = {*b.files.covered, *(note.file for note in (*b.files.skipped, *b.files.failed))}
    seen |= {finding.file for finding in b.findings}
    pairs.by_key(_renamed, lambda finding: bool(finding.quote), lambda finding: finding.file not in seen)
    return pairs.before, pairs.after


def _has_rule(finding: Finding) -> bool:
    return finding.rule is not None


def _is_worded(finding: Finding) -> bool:
    return finding.rule is None


def _renamed(finding: Finding) -> Hashable:
    what = finding.rule or normalise_message(finding.message)
    return what, squeeze(finding.quote or "")


class _Pairs:
    """The findings of two runs that have found a partner, by position; first come, first served, by place."""

    def __init__(self, a: Sequence[Finding], b: Sequence[Finding]) -> None:
        self._a, self._b = a, b
        self.before: set[int] = set()
        self.after: set[int] = set()
        self._moved: dict[str, list[tuple[int, int]]] = defaultdict(list)

    def left(self) -> list[Finding]:
        """All that have no partner yet."""
        earlier = [one for at, one in enumerate(self._a) if at not in self.before]
        return earlier + [one for at, one in enumerate(self._b) if at not in self.after]

    def by_id(self) -> None:
        """Pair those of the same id, which is one matter however often a document has it."""
        for earlier, later in self._groups(lambda finding: finding.id, lambda _finding: True):
            for at in range(max(len(earlier), len(later))):
                self._join(earlier[min(at, len(earlier) - 1)], later[min(at, len(later) - 1)])

    def by_key(
        self,
        key: Callable[[Finding], Hashable],
        accepts: Callable[[Finding], bool],
        is_gone: Callable[[Finding], bool],
    ) -> None:
        """Pair those of the same key; `is_gone` says which of the earlier run's may be paired."""
        groups = self._groups(key, accepts)
        for earlier, later in groups:
            may = [at for at in earlier if is_gone(self._a[at])]
            for one, other in zip(may, later, strict=False):
                self._join(one, other)

    def by_likeness(
        self, key: Callable[[Finding], Hashable], alike: Alike, accepts: Callable[[Finding], bool]
    ) -> None:
        """Pair those of the same key that are alike, the most alike first, then by place."""
        for earlier, later in self._groups(key, accepts):
            if len(earlier) * len(later) > _MOST_PAIRS:
                continue
            scored = [
                (-score, self._distance(one, other), one, other)
                for one in earlier
                for other in later
                if self._distance(one, other) <= _SAME_PLACE
                and (score := alike(self._a[one], self._b[other])) > 0
            ]
            for _, _, one, other in sorted(scored):
                if one not in self.before and other not in self.after:
                    self._join(one, other)

    def _join(self, one: int, other: int) -> None:
        self.before.add(one)
        self.after.add(other)
        if self._a[one].file == self._b[other].file:
            insort(self._moved[self._a[one].file], (self._a[one].line[0], self._b[other].line[0]))

    def _distance(self, one: int, other: int) -> int:
        """How far a finding is from where an earlier one would be, had it moved as the one before it did."""
        line = self._a[one].line[0]
        known = self._moved[self._a[one].file]
        at = bisect_right(known, (line, sys.maxsize)) - 1
        shift = known[at][1] - known[at][0] if at >= 0 else 0
        return min(abs(line + shift - self._b[other].line[0]), abs(line - self._b[other].line[0]))

    def _groups(
        self, key: Callable[[Finding], Hashable], accepts: Callable[[Finding], bool]
    ) -> Iterable[tuple[list[int], list[int]]]:
        """Those without a partner, by key, in the order of their places; only keys that both runs have."""
        groups: dict[Hashable, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
        sides = ((self._a, self.before), (self._b, self.after))
        for side, (findings, taken) in enumerate(sides):
            order = sorted(range(len(findings)), key=lambda at: findings[at].line)
            for at in order:
                if at not in taken and accepts(findings[at]):
                    groups[key(findings[at])][side].append(at)
        return [group for group in groups.values() if group[0] and group[1]]


def _edited(one: Finding, other: Finding) -> float:
    """How alike the code of two findings is, if it is the same code, edited."""
    old, new = (squeeze(finding.quote or "")[:_MOST_CODE] for finding in (one, other))
    if not old or not new:
        return 0.0
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    if matcher.real_quick_ratio() < _SAME_CODE or matcher.quick_ratio() < _SAME_CODE:
        return 0.0
    ratio = matcher.ratio()
    return ratio if ratio >= _SAME_CODE else 0.0


class _Matter:
    """How alike two findings are in what they say; the same code asks for less."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        self._vocabulary = Vocabulary(finding.message for finding in findings if _is_worded(finding))

    def __call__(self, one: Finding, other: Finding) -> float:
        if not one.quote or not other.quote:  # without code nothing tells two places apart
            return 0.0
        said = likeness(self._vocabulary.vectors(one.message), self._vocabulary.vectors(other.message))
        code = _edited(one, other)
        bar = THRESHOLD / 2 if code else THRESHOLD
        return said + code if said >= bar else 0.0
