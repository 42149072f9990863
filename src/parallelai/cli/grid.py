"""The conflict matrix as a grid of signs, one for each pair. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from parallelai.records import ConflictDocument, ConflictPair

MOST = 24
"""Sides that a grid shows; of more the list alone is easier to read."""
LEAST_PAIRS = 2
"""So many pairs make a grid worth its lines."""
MEANING = (
    "F same lines, f other definitions of a file, L logic, G another conflict of git, ? may come, . none"
)
DELETED = "D changed by one, deleted by the other"
_SIGNS = {"file": "F", "function": "f", "logic": "L", None: "G"}


def grid(found: ConflictDocument) -> list[str]:
    """Draw all sides that something is known of, against each other and the target; nothing where few are.

    A row has the pairs of a side with those after it, and with the target at the end.
    """
    known = {frozenset((pair.a, pair.b)): _sign(pair) for pair in found.pairs}
    names = [name for name in found.names if any(name in pair for pair in known)]
    if len(known) < LEAST_PAIRS or not 1 < len(names) <= MOST:
        return []
    return _drawn(names, found.target, known)


def _drawn(names: Sequence[str], target: str, known: dict[frozenset[str], str]) -> list[str]:
    digits = len(str(len(names)))
    width = max(map(len, names)) + digits + 1
    numbers = [str(number).rjust(digits) for number in range(1, len(names) + 1)]
    lines = [f"{'':{width}}  {' '.join(numbers)}  {target}"]
    for at, name in enumerate(names):
        cells = [
            "" if place < at else "-" if place == at else known.get(frozenset((name, other)), ".")
            for place, other in enumerate(names)
        ]
        row = " ".join(cell.rjust(digits) for cell in cells)
        last = known.get(frozenset((name, target)), ".")
        lines.append(f"{f'{numbers[at]} {name}':{width}}  {row}  {last}")
    meaning = [MEANING, *([DELETED] if "D" in known.values() else [])]
    return [*lines, *meaning, ""]


def _sign(pair: ConflictPair) -> str:
    if pair.is_deletion:
        return "D"
    return _SIGNS[pair.class_] if pair.is_broken else "?"
