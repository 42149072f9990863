"""Which members of a batch a gate run has to hold, so that few runs tell the good ones from the bad.

Pure: what is here gives the next question and takes its answer. Members stand in the order in which they would
land, and only prefixes of that order are tried on the target's tip, so that what is green can land as it is.

The search is Hwang's generalised binary splitting ("A method for detecting all defective members in a
population by group testing", 1972): a group is as large as makes red and green equally likely. The share of
bad members, which that method takes as known, is estimated from what was seen so far.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Sequence

from msgspec import Struct

LARGEST_SET = 4
"""Members that break together and are worth naming; a larger set says little."""
FEW = 3
"""So few suspects are tried alone, one by one."""
_SHARES = (0.04, 0.07, 0.1, 0.14, 0.2)
"""What share of the candidates may be bad; each is weighed by what was seen."""


class Ask(Struct, frozen=True):
    """The members that the next gate run has to hold.

    `alone`: on the target as it was when the landing began, with nothing but what they depend on; else on the
    target's tip.
    """

    members: tuple[int, ...]
    alone: bool = False


class Found(Struct, frozen=True):
    """What a search came to: the first `green` members pass together on the tip; `bad` does not fit on them.

    `is_bad_alone`: whether `bad` fails on the target as it was, with none of the others; None if that was not
    asked. Members behind `green` other than `bad` are undecided.
    """

    green: int
    bad: int | None = None
    is_bad_alone: bool | None = None


class Odds:
    """What share of the candidates is bad, as far as is known."""

    def __init__(self) -> None:
        self.good = 0
        self.bad = 0

    def told(self, good: int, bad: int) -> None:
        """Count candidates that are decided."""
        self.good += good
        self.bad += bad

    def green(self, size: int, red: int | None = None, good: int = 0) -> float:
        """How likely `size` members are all good; where `red` is given, one of the first `red` is not.

        `good` are further members that are known to be good by now.
        """
        likely = total = 0.0
        for share in _SHARES:
            weight = share**self.bad * (1 - share) ** (self.good + good)
            none_bad = 0.0 if red is None else (1 - share) ** red
            likely += weight * ((1 - share) ** size - none_bad)
            total += weight * (1 - none_bad)
        return likely / total if total else 0.5

    def group(self, rest: int) -> int:
        """How many of the `rest` to try next: red and green as likely as can be, all while nothing bad was seen."""
        if self.bad == 0:
            return rest
        return min(range(1, rest + 1), key=lambda size: abs(self.green(size) - 0.5))


class Search:
    """Finds the first member of a batch that does not pass on top of those before it.

    `passes` are members that passed alone: what they come to is taken as known, until they are tried together.
    """

    def __init__(self, count: int, odds: Odds, passes: Collection[int] = ()) -> None:
        self.passes = set(passes)
        self._count = count
        self._odds = odds
        self._green = 0
        self._red: int | None = None

    def steps(self) -> Generator[Ask, bool, Found]:
        """Yield what to ask, take whether it passed, return what was found.

        With nothing bad in the batch and nothing bad seen before that is one run.
        """
        while self._green < self._count:
            if self._red is not None:
                bad = yield from self._few_alone(self._red)
                if bad is not None:
                    return Found(self._green, bad, True)
                if self._red - self._green == 1:
                    return Found(self._green, self._green, False)
            length = self._next()
            if (yield Ask(tuple(range(length)))):
                self._green = length
            else:
                self._red = length
        return Found(self._green)

    def _few_alone(self, red: int) -> Generator[Ask, bool, int | None]:
        """Try the last few suspects alone; gives the one that fails.

        That is also the proof, a run of its own otherwise, that no other member has a part in it.
        """
        suspects = self._unknown(red)
        if len(suspects) > FEW:
            return None
        for member in suspects:
            if not (yield Ask((member,), alone=True)):
                return member
            self.passes.add(member)
        return None

    def _unknown(self, end: int) -> list[int]:
        return [member for member in range(self._green, end) if member not in self.passes]

    def _next(self) -> int:
        """The length of the next prefix: red and green as likely as can be."""
        if self._red is None and self._odds.bad == 0:
            return self._count
        lengths = range(self._green + 1, self._count + 1 if self._red is None else self._red)
        red = None if self._red is None else len(self._unknown(self._red))
        if red == 0:  # each passed alone, and they do not pass together: any of them may be the one
            return (self._green + lengths.stop) // 2

        def unevenness(length: int) -> float:
            return abs(self._odds.green(len(self._unknown(length)), red, self._green) - 0.5)

        return min(lengths, key=lambda length: (unevenness(length), -length))


def breaking_with(weights: Sequence[float]) -> Generator[tuple[int, ...], bool, tuple[int, ...] | None]:
    """Find the smallest set of members that breaks with one that passes alone, and fails with them all.

    `weights`: for each member, how likely it has a part in that, on any scale. Yields which members to try with
    it, takes whether that passed. Each member of the set is needed: without it the others pass. None if the set
    would be larger than `LARGEST_SET`. The search is QuickXplain's (Junker 2004), likely members first.
    """
    order = sorted(range(len(weights)), key=lambda member: -weights[member])
    found: tuple[int, ...] = ()
    high = len(order)
    while high > 0 and len(found) < LARGEST_SET:
        low = 0
        while high - low > 1:
            if high - low == 2 and low > 0:
                for member in order[low:high]:
                    if not (yield (member, *found)):
                        return (member, *found)
            middle = _halfway(low, high, [weights[member] for member in order[low:high]])
            if (yield (*order[:middle], *found)):
                low = middle
            else:
                high = middle
        high -= 1
        found = (order[high], *found)
        if high == 0 or not (yield found):
            return found
    return found if found and high == 0 else None


def _halfway(low: int, high: int, weights: Sequence[float]) -> int:
    """Where both sides weigh most nearly the same, with at least one member on each."""
    total, so_far = sum(weights), 0.0
    best, least = low + 1, float("inf")
    for place in range(low + 1, high):
        so_far += weights[place - low - 1]
        if abs(2 * so_far - total) < least:
            best, least = place, abs(2 * so_far - total)
    return best
