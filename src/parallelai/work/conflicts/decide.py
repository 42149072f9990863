"""Where two sides meet in a file, and what class that is. Pure: hunks and definitions in, a decision out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product

from msgspec import Struct

from parallelai.records import ConflictClass, ConflictPlace
from parallelai.work.conflicts.changes import Hunk
from parallelai.work.conflicts.logic import names_defined
from parallelai.work.symbols import Definition

NEAR = 3
"""Lines between two changes of a file of no known language, up to which they count as one place."""
MOST_PLACES = 50
_HOLDING = {"class", "interface", "module", "type"}


@dataclass(frozen=True, slots=True)
class Version:
    """One side's changes of a file, with what it defines before, and after where that was looked at.

    What it defines before is the same for many sides: reading only that is enough unless they conflict.
    """

    hunks: tuple[Hunk, ...]
    before: tuple[Definition, ...] = ()
    after: tuple[Definition, ...] = ()
    is_known: bool = False  # whether its language is


class Meeting(Struct, frozen=True):
    """What both sides do to one file: places where they touch, what is defined there, the class, the distance.

    `gap` is the number of unchanged lines between the nearest two changes, 0 where they touch; None where one
    side changes no line. `is_alike` says that both made some of the same changes, which do not count otherwise.
    """

    places: tuple[ConflictPlace, ...]
    symbols: tuple[str, ...]
    class_: ConflictClass | None
    gap: int | None
    is_alike: bool = False


def meet(a: Version, b: Version, *, is_conflict: bool = False) -> Meeting:
    """Compare two sides' changes of one file against the same base.

    Where git says that they conflict, the nearest changes are the place, if none touch: among equal lines git's
    merge may align a change otherwise than a diff for readers.
    """
    whole = len(a.hunks)
    a, b = _apart(a, b)
    groups = touching(a.hunks, b.hunks)
    if is_conflict and not groups:
        groups = _nearest(a.hunks, b.hunks)
    gap = 0 if groups else distance(a.hunks, b.hunks)
    is_known = a.is_known and b.is_known
    if groups:
        sides = [(definitions_at(a, ours), definitions_at(b, theirs)) for ours, theirs in groups]
        is_apart = is_known and all(ours and theirs and ours.isdisjoint(theirs) for ours, theirs in sides)
        class_: ConflictClass | None = "function" if is_apart else "file"
    else:
        sides = [(definitions_at(a, a.hunks), definitions_at(b, b.hunks))]
        ours, theirs = sides[0]
        class_ = _clean_class(ours, theirs, is_known, gap)
        if class_ == "file" and is_known:
            sides = [(ours & theirs, ours & theirs)]
    names = dict.fromkeys(name for ours, theirs in sides for name in (*sorted(ours), *sorted(theirs)))
    places = tuple(ConflictPlace(_lines(ours), _lines(theirs)) for ours, theirs in groups[:MOST_PLACES])
    return Meeting(places, tuple(names)[:MOST_PLACES], class_, gap, len(a.hunks) < whole)


def _apart(a: Version, b: Version) -> tuple[Version, Version]:
    """Leave out what both sides changed alike: git takes it once."""
    alike = {(hunk.old, hunk.added) for hunk in a.hunks} & {(hunk.old, hunk.added) for hunk in b.hunks}
    if not alike:
        return a, b
    kept = [tuple(hunk for hunk in one.hunks if (hunk.old, hunk.added) not in alike) for one in (a, b)]
    return replace(a, hunks=kept[0]), replace(b, hunks=kept[1])


def _clean_class(
    ours: frozenset[str], theirs: frozenset[str], is_known: bool, gap: int | None
) -> ConflictClass | None:
    """Two sides that merge cleanly: the same definition, different ones, or lines only."""
    if ours & theirs:
        return "file"
    if ours and theirs:
        return "function"
    if not is_known and gap is not None and gap <= NEAR:
        return "file"
    return None


def touching(a: Sequence[Hunk], b: Sequence[Hunk]) -> list[tuple[list[Hunk], list[Hunk]]]:
    """Group the changes of two sides that overlap or lie side by side."""
    marked = sorted(
        [(hunk.old, 0, hunk) for hunk in a] + [(hunk.old, 1, hunk) for hunk in b], key=lambda row: row[:2]
    )
    groups: list[tuple[list[Hunk], list[Hunk]]] = []
    end = -1
    for old, side, hunk in marked:
        if old[0] > end or not groups:
            groups.append(([], []))
        groups[-1][side].append(hunk)
        end = max(end, old[1])
    return [(ours, theirs) for ours, theirs in groups if ours and theirs]


def distance(a: Sequence[Hunk], b: Sequence[Hunk]) -> int | None:
    """Count the unchanged lines between the nearest changes of two sides."""
    if not a or not b:
        return None
    best = None
    ours, theirs = iter(a), iter(b)
    x, y = next(ours, None), next(theirs, None)
    while x is not None and y is not None:  # both are in the order of the file
        gap = max(0, x.old[0] - y.old[1], y.old[0] - x.old[1])
        best = gap if best is None else min(best, gap)
        if x.old[1] <= y.old[1]:
            x = next(ours, None)
        else:
            y = next(theirs, None)
    return best


def _nearest(a: Sequence[Hunk], b: Sequence[Hunk]) -> list[tuple[list[Hunk], list[Hunk]]]:
    pairs = ((distance([x], [y]) or 0, at, x, y) for at, (x, y) in enumerate(product(a[:200], b[:200])))
    best = min(pairs, key=lambda row: row[:2], default=None)
    return [] if best is None else [([best[2]], [best[3]])]


def definitions_at(version: Version, hunks: Iterable[Hunk]) -> frozenset[str]:
    """Name the innermost definitions that changes lie in: of new lines, and of old ones where none are new."""
    found: set[str] = set()
    for hunk in hunks:
        if hunk.added and version.after:
            found |= _innermost(version.after, hunk.new, hunk.added)
        elif hunk.removed:
            found |= _innermost(version.before, hunk.old, hunk.removed)
        else:
            found |= _inserted(version.before, hunk)
    return frozenset(found)


def _inserted(before: Sequence[Definition], hunk: Hunk) -> set[str]:
    """Where new lines went, told by the file as it was: into a definition, or new ones in a class or at the top."""
    at = hunk.old[0]
    around = [one for one in before if one.first <= at < one.last]
    inner = around[-1] if around else None
    if inner is not None and inner.kind not in _HOLDING:
        return {inner.name}
    prefix = f"{inner.name}." if inner is not None else ""
    return {prefix + name for name in names_defined(hunk.added)[:MOST_PLACES]}


def _innermost(definitions: Sequence[Definition], lines: tuple[int, int], texts: Sequence[str]) -> set[str]:
    """The innermost definition around each line that is not empty; they come from the outermost on."""
    start, end = lines[0] + 1, lines[1]
    around: dict[int, str] = {}
    for one in definitions:
        for line in range(max(one.first, start), min(one.last, end) + 1):
            around[line] = one.name
    written = {line for line, text in enumerate(texts, start) if text.strip()}
    return {name for line, name in around.items() if line in written}


def _lines(hunks: Sequence[Hunk]) -> tuple[int, int]:
    """The lines of one side, from 1; where it has none, the line at which they were."""
    first = min(hunk.new[0] for hunk in hunks) + 1
    last = max(hunk.new[1] for hunk in hunks)
    return (first, last) if last >= first else (max(last, 1), max(last, 1))
