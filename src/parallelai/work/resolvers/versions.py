"""Both sides raised the same versions: the higher ones are taken.

Lines are compared one by one; all that is no dotted version must be the same in the base and on both sides, and
one side's versions must be the higher ones throughout. A version that a side lowered, or that cannot be ordered,
is not known.
"""

from __future__ import annotations

import re

from parallelai.work.resolvers.lines import lines
from parallelai.work.resolvers.records import Conflict, rung

VERSION = re.compile(
    rb"\d{1,9}(?:\.\d{1,9})+(?:-?(?:alpha|beta|rc|dev|post|pre|a|b)(?:[.-]?\d{1,9})?(?!\w))?"
)
"""Digits with dots, and what may follow: `3.1.0rc2`, `5.0.0-alpha.1`."""
_MARK = re.compile(rb"([\d.]+)-?(?:([a-z]+)[.-]?(\d*))?")
_ORDER = {b"dev": -4, b"alpha": -3, b"a": -3, b"beta": -2, b"b": -2, b"pre": -1, b"rc": -1, b"post": 1}
Order = tuple[tuple[int, ...], int, int]


@rung("versions", rank=60, scope="hunk")
def resolve(conflict: Conflict) -> bytes | None:
    """Take the side with the higher versions."""
    base, ours, theirs = lines(conflict.base), lines(conflict.ours), lines(conflict.theirs)
    if not ours or not len(base) == len(ours) == len(theirs):
        return None
    winners: set[bool] = set()
    for old, mine, other in zip(base, ours, theirs, strict=True):
        if not _same_shape(old, mine, other):
            return None
        found = _higher(old, mine, other)
        if found is None:
            return None
        winners |= found
    if len(winners) != 1:
        return None
    return conflict.ours if winners.pop() else conflict.theirs


def order(version: bytes) -> Order:
    """What orders dotted versions: `1.2` is `1.2.0`, and `rc` is before the release."""
    found = _MARK.match(version)
    digits, word, count = found.groups() if found else (b"", b"", b"")
    numbers = [int(part) for part in digits.split(b".") if part]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers), _ORDER.get(word or b"", 0), int(count or 0)


def _same_shape(*rows: bytes) -> bool:
    return len({VERSION.sub(b"\0", row) for row in rows}) == 1


def _higher(old: bytes, mine: bytes, other: bytes) -> set[bool] | None:
    """Whether ours is higher, for each version that differs; None where one was lowered or is the same."""
    found = set()
    for was, one, two in zip(*(map(order, VERSION.findall(row)) for row in (old, mine, other)), strict=True):
        if one < was or two < was:
            return None
        if one != two:
            found.add(one > two)
    return None if mine != other and not found else found
