"""Which of two workstreams that conflict waits until the other has landed (`landing: {conflicts: …}`). Pure.

Whoever lands later waits, unless nothing can be put right there any more, or a circle of waiting would close: also
through leases and dependencies. So there is always somebody who can go on.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from msgspec import Struct

from parallelai.plan.fields import Reaction
from parallelai.plan.model import Conflicts, Workstream
from parallelai.records import ConflictPair
from parallelai.work.landing.order import order
from parallelai.work.landing.records import Candidate

MOST_NAMED = 3


class Standing(Struct, frozen=True):
    """Where the workstreams of a run stand.

    Attributes:
        ranks: their places in the order of landing.
        live: those that are worked on now, or about to land; True where there can be another turn.
        waits: who waits for whom already, whatever for; it has no circle.
    """

    ranks: Mapping[str, int]
    live: Mapping[str, bool]
    waits: Mapping[str, Collection[str]]


def ranks(works: Mapping[str, Workstream]) -> dict[str, int]:
    """The places of workstreams in the order of landing: dependencies, then priority, then the plan's order."""
    candidates = [
        Candidate(name, "", "", depends_on=work.depends_on, priority=work.priority)
        for name, work in works.items()
    ]
    return {name: number for number, name in enumerate(order(candidates, ()))}


def reaction(pair: ConflictPair, conflicts: Conflicts) -> Reaction:
    """What a plan says about a conflict; what has no class, such as a binary file, is the file's."""
    match pair.class_:
        case "function":
            return conflicts.function
        case "logic":
            return conflicts.logic
    return conflicts.file


def who_waits(a: str, b: str, standing: Standing) -> str | None:
    """Which of two waits for the other; None where neither may, and both go on."""
    if a not in standing.live or b not in standing.live:
        return None
    first, later = sorted((a, b), key=lambda name: (standing.ranks.get(name, len(standing.ranks)), name))
    for one, other in ((later, first), (first, later)):
        if standing.live[one] and not _leads(standing.waits, other, one):
            return one
    return None


def _leads(waits: Mapping[str, Collection[str]], start: str, end: str) -> bool:
    """Whether one waits for another, directly or through others."""
    seen, left = {start}, [start]
    while left:
        name = left.pop()
        if name == end:
            return True
        fresh = set(waits.get(name, ())) - seen
        seen |= fresh
        left += fresh
    return False


def cause_of(pair: ConflictPair) -> str:
    """What the matter is, without a full stop: a conflict of lines, or what one uses and the other changed."""
    return said_of(place_of(pair), uses_of(pair))


def said_of(where: str, why: str) -> str:
    """Say a place, from `place_of`, and a reason, from `uses_of`; either may be empty."""
    return "; ".join(part for part in (f"conflict in {where}" if where else "", why) if part)


def uses_of(pair: ConflictPair) -> str:
    """Of a logic conflict what one uses and the other changed, as a sentence without a full stop; else nothing."""
    return (pair.why or "one uses what the other changed") if pair.class_ == "logic" else ""


def merged_logic(pair: ConflictPair) -> str | None:
    """What is noted of a landing with a logic conflict that git merges; None of all other pairs."""
    is_merged = pair.class_ == "logic" and not pair.conflict and bool(pair.why)
    return f"logic conflict, which git merges: {pair.why}" if is_merged else None


def place_of(pair: ConflictPair) -> str:
    """The files that do not merge, in a few words; nothing for a logic conflict, which merges."""
    if pair.class_ == "logic":
        return ""
    shown = ", ".join(f"`{one.path}`" for one in pair.files[:MOST_NAMED])
    more = f" and {len(pair.files) - MOST_NAMED} more" if len(pair.files) > MOST_NAMED else ""
    return f"{shown}{more}"
