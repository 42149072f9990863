"""What each two workstreams have to do with each other: may they run together, why, and what to write if not.

Two workstreams are safe beside each other if no file is owned by both, also none that does not exist yet; if what
both own is `shared`, and so edited under a lease; or if one runs after the other, by `depends_on` or by phases.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from parallelai.plan.files import Matcher
from parallelai.plan.model import Plan, Workstream
from parallelai.plan.ownership import Overlap, overlaps
from parallelai.plan.resolve import role_of

Why = Literal["disjoint", "ordered", "shared", "overlap"]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two workstreams, in plan order.

    Attributes:
        why: `disjoint`: no file is of both; `ordered`: one runs after the other; `shared`: they meet only in
            shared files; `overlap`: both may change the same file at the same time, which no plan may have.
        said: the same in one sentence.
        example: a file that both own; None where there is none.
        is_there: whether that file exists, or only could.
        files: how many files that exist are owned by both.
        next: what to write, where it is not safe.
    """

    a: str
    b: str
    why: Why
    said: str
    example: str | None = None
    is_there: bool = False
    files: int = 0
    next: str | None = None

    @property
    def is_safe(self) -> bool:
        return self.why != "overlap"

    @property
    def together(self) -> bool:
        """Whether both may run at the same time."""
        return self.why in {"disjoint", "shared"}


def pairs(plan: Plan, paths: Iterable[str] | None = None) -> tuple[Pair, ...]:
    """Look at each two workstreams of a plan; `paths` are the project's files, None if they are not known."""
    owned = owned_files(plan)
    known = tuple(paths or ())
    found = {(a, b): both for a, b, both in overlaps(owned, known)}
    lines = _Lines(plan, owned, known if paths is not None else None)
    return tuple(lines.pair(a, b, found.get((a, b), Overlap())) for a, b in combinations(owned, 2))


def owned_files(plan: Plan) -> dict[str, tuple[str, ...]]:
    """Map each workstream to the patterns of what it may change: what it owns, without what it avoids.

    What is avoided with exceptions (`!…`) cannot be taken out of patterns, and counts as owned.
    """
    return {work.id: (*work.owns, *_left_out(plan, work)) for work in plan.workstreams}


def _left_out(plan: Plan, work: Workstream) -> tuple[str, ...]:
    role = role_of(plan, work)
    avoided = (*work.avoids, *(role.avoids if role else ()))
    return () if any(text.startswith("!") for text in avoided) else tuple(f"!{text}" for text in avoided)


def before(plan: Plan) -> dict[str, frozenset[str]]:
    """Map each workstream to those that have to land before it starts, directly or not, over tasks as well."""
    direct = {work.id: work.depends_on for work in plan.works}
    streams = {work.id for work in plan.workstreams}
    found: dict[str, frozenset[str]] = {}
    for name in streams:
        seen: set[str] = set()
        waiting = list(direct[name])
        while waiting:
            other = waiting.pop()
            if other not in seen:
                seen.add(other)
                waiting.extend(direct.get(other, ()))
        found[name] = frozenset(seen & streams)
    return found


def earlier(plan: Plan) -> dict[str, frozenset[str]]:
    """Map each workstream to those that have to end before it starts: by dependencies, or by barriers of phases."""
    found = before(plan)
    done: frozenset[str] = frozenset()
    so_far: frozenset[str] = frozenset()
    for phase in plan.phases:
        for name in found.keys() & set(phase.tasks):
            found[name] |= done
        so_far |= found.keys() & set(phase.tasks)
        done = so_far if phase.barrier else done
    return found


class _Lines:
    """Decides and words what one pair is."""

    def __init__(self, plan: Plan, owned: Mapping[str, Sequence[str]], paths: Sequence[str] | None) -> None:
        self.plan, self.owned, self.knows_files = plan, owned, paths is not None
        self.before = before(plan)
        self.phase_of = {name: number for number, phase in enumerate(plan.phases) for name in phase.tasks}
        shared = Matcher(plan.shared)
        self.shared = frozenset(path for path in paths or () if shared.selects(path)) if plan.shared else ()

    def pair(self, a: str, b: str, both: Overlap) -> Pair:
        order = self._order(a, b)
        if not both:
            said = f"`{a}` and `{b}` own different files"
            return Pair(a, b, "ordered" if order else "disjoint", f"{said}; {order}" if order else said)
        apart = self._apart_from_shared(a, b, both)
        if order:
            return self._described(a, b, "ordered", both, f"{self._said(a, b, apart or both)}; {order}")
        if not apart:
            said = f"`{a}` and `{b}` both own only what is shared, such as `{both.example}`: who edits it"
            return self._described(a, b, "shared", both, f"{said} holds a lease")
        said = f"{self._said(a, b, apart)}, and neither waits for the other"
        return self._described(a, b, "overlap", apart, said, self._advice(a, b, apart))

    def _apart_from_shared(self, a: str, b: str, both: Overlap) -> Overlap:
        if not self.plan.shared:
            return both
        existing = tuple(path for path in both.existing if path not in self.shared)
        if existing:
            return Overlap(existing)
        owned = {a: self.owned[a], b: self.owned[b]}
        found = list(overlaps(owned, apart_from=self.plan.shared))
        return found[0][2] if found else Overlap()

    def _order(self, a: str, b: str) -> str | None:
        for first, second in ((a, b), (b, a)):
            if first in self.before[second]:
                return f"`{second}` waits for `{first}`"
            here, there = self.phase_of.get(first), self.phase_of.get(second)
            if here is not None and there is not None and here < there and self.plan.phases[here].barrier:
                names = [self.plan.phases[number].name for number in (here, there)]
                return f"`{first}` is in phase `{names[0]}`, `{second}` in `{names[1]}` after it"
        return None

    def _said(self, a: str, b: str, both: Overlap) -> str:
        if both.existing or not self.knows_files:
            more = f" and {len(both.existing) - 1} more" if len(both.existing) > 1 else ""
            return f"`{a}` and `{b}` both own `{both.example}`{more}"
        return f"`{a}` and `{b}` would both own `{both.example}` if it were made"

    def _described(
        self, a: str, b: str, why: Why, both: Overlap, said: str, advice: str | None = None
    ) -> Pair:
        return Pair(a, b, why, said, both.example, bool(both.existing), len(both.existing), advice)

    def _advice(self, a: str, b: str, both: Overlap) -> str:
        example = both.example or ""
        owner, pattern = self._to_leave_out(a, b, example)
        return (
            f"add `!{pattern}` to what `{owner}` owns, list it under `shared`,"
            f" or write `depends_on: [{a}]` in `{b}`"
        )

    def _to_leave_out(self, a: str, b: str, example: str) -> tuple[str, str]:
        """Of two that own a file, the one whose pattern says less about it, and what to take out of that."""
        mine, theirs = (_selecting(self.owned[name], example) for name in (a, b))
        if mine == theirs:
            return b, example
        return (a, theirs) if len(_fixed(theirs)) >= len(_fixed(mine)) else (b, mine)


def _selecting(patterns: Sequence[str], path: str) -> str:
    """The pattern of a list by which a path is in it; one that only takes out begins with all."""
    return next(
        (text for text in patterns if not text.startswith("!") and Matcher([text]).selects(path)), "**"
    )


def _fixed(pattern: str) -> str:
    """What a pattern begins with before anything in it is free."""
    return re.split(r"[*?\[\\]", pattern.removeprefix("./").removeprefix("/"), maxsplit=1)[0]
