"""Which findings of different reporters are about the same matter, told by their words and their places.

Two texts are as alike as the mean of two cosines: of their words, identifiers taken apart and endings cut off,
and of their runs of four characters, both weighted by how rare they are (TF-IDF, Salton and Buckley 1988).
Findings are then joined pair by pair, the most alike first, as long as what is joined is alike enough both in
the mean and at its best, and holds no two findings of one reporter: who lists two things means two things.

Places decide where they are known: the same lines ask for less likeness, others for more, and far apart the
same words are about another place with the same fault.
`benchmarks/reviews.py` measures all of this on real reviews of twelve tools.
"""

from __future__ import annotations

import functools
import heapq
import math
import re
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence

from msgspec import Struct

THRESHOLD = 0.24
"""How alike two findings of unknown places have to be. Fixed on one half of the reviews, tested on the other."""
NEAR_THRESHOLD = 0.16
APART_THRESHOLD = 0.32
NEAR_LINES = 2
FAR_LINES = 40
MOST_AT_ONCE = 250
"""Of more findings in one file only these many neighbours are compared with each other."""

_MOST_CHARACTERS = 1_500  # of a text; what follows says the same again
_LEAST_WORDS = 0.04  # words less alike than this are not compared further
_GRAM = 4
_PRIOR_TEXTS = 30  # the rareness of words is judged as if there were these many more texts without them
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[^\W_]+")
_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")
_PLAIN = re.compile(r"[^\W_]+")
_ENDINGS_LISTED = "ization ations ation ingly edly ings ing ness ies ied ers er ed es s ly ity ment"
_ENDINGS = tuple(_ENDINGS_LISTED.split())
_COMMON_WORDS = (
    "a an the is are was were be been being of in on to for and or with without by as at from this that these"
    " those it its which when where if then than not no can could may might will would should does do did has"
    " have had into via so because but instead rather also only same such there their they them etc e g i ie eg"
    " per"
)
_COMMON = frozenset(_COMMON_WORDS.split())

Vector = Mapping[str, float]


class Statement(Struct, frozen=True):
    """What one reporter, or several in the same words, said of a matter in one file.

    `reporters` are who said it; two statements with one in common are never joined. `line` is None where the
    place is not known. `is_fixed`: it comes from an analyser, which means exactly what it says, so that it is
    never joined with another fixed one.
    """

    reporters: frozenset[Hashable]
    text: str
    line: tuple[int, int] | None = None
    is_fixed: bool = False


class Vocabulary:
    """How rare words are among the texts of a run."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._words: Counter[str] = Counter()
        self._grams: Counter[str] = Counter()
        self._texts = _PRIOR_TEXTS
        for text in texts:
            self._texts += 1
            self._words.update(set(words(text)))
            self._grams.update(set(grams(text)))

    def vectors(self, text: str) -> tuple[Vector, Vector]:
        """Give a text's two vectors, each of length 1: of words, and of runs of characters."""
        return self._weigh(words(text), self._words), self._weigh(grams(text), self._grams)

    def _weigh(self, features: Sequence[str], seen: Mapping[str, int]) -> Vector:
        whole = math.log(1 + self._texts) + 1
        counted = Counter(features).items()
        vector = {
            key: (1 + math.log(times)) * (whole - math.log(1 + seen.get(key, 0))) for key, times in counted
        }
        length = math.sqrt(sum(value * value for value in vector.values())) or 1.0
        return {key: value / length for key, value in vector.items()}


def likeness(a: tuple[Vector, Vector], b: tuple[Vector, Vector]) -> float:
    """How alike two texts are, from 0 to 1."""
    by_words = _cosine(a[0], b[0])
    return 0.0 if by_words < _LEAST_WORDS else (by_words + _cosine(a[1], b[1])) / 2


def group(
    statements: Sequence[Statement], vocabulary: Vocabulary, *, threshold: float = THRESHOLD
) -> list[list[int]]:
    """Group the statements about one file by the matter that they are about.

    The groups do not depend on the order of the statements, unless two are equal in all.

    Returns:
        The positions of each group's members, ascending, groups by their first member.
    """
    order = sorted(
        range(len(statements)), key=lambda at: (statements[at].line or (0, 0), statements[at].text)
    )
    groups: list[list[int]] = []
    for start in range(0, len(order), MOST_AT_ONCE):
        part = order[start : start + MOST_AT_ONCE]
        joined = _join([statements[at] for at in part], vocabulary, threshold)
        groups += [sorted(part[index] for index in members) for members in joined]
    return sorted(groups)


def is_same(a: tuple[Vector, Vector], b: tuple[Vector, Vector], *, threshold: float = THRESHOLD) -> bool:
    """Say whether two texts, of which no place is known, are about the same matter."""
    return likeness(a, b) >= threshold


# --- joining


class _Groups:
    """Groups of statements while they grow. A group keeps the number of its first member."""

    def __init__(self, statements: Sequence[Statement], pairs: Mapping[tuple[int, int], float]) -> None:
        self.members = {index: [index] for index in range(len(statements))}
        self._pairs = pairs
        self._taken = [set(statement.reporters) for statement in statements]
        for taken, statement in zip(self._taken, statements, strict=True):
            if statement.is_fixed:
                taken.add(_FIXED)
        self._near: list[set[int]] = [set() for _ in statements]
        for a, b in pairs:
            self._near[a].add(b)
            self._near[b].add(a)

    def alike(self, a: int, b: int) -> float:
        """How alike two groups are: between the mean and the best of their pairs."""
        found = [
            self._pairs.get((min(x, y), max(x, y)), 0.0) for x in self.members[a] for y in self.members[b]
        ]
        return (sum(found) / len(found) + max(found)) / 2

    def may_join(self, a: int, b: int) -> bool:
        return a in self.members and b in self.members and self._taken[a].isdisjoint(self._taken[b])

    def join(self, a: int, b: int) -> Iterable[int]:
        """Make one group of two; gives the groups that it may be joined with next."""
        self.members[a] += self.members.pop(b)
        self._taken[a] |= self._taken[b]
        self._near[a] = {
            near for near in self._near[a] | self._near[b] if self.may_join(a, near) and near != a
        }
        for near in self._near[a]:
            self._near[near].add(a)
        return self._near[a]


_FIXED = object()


def _join(
    statements: Sequence[Statement], vocabulary: Vocabulary, threshold: float
) -> Iterable[Sequence[int]]:
    pairs = _pairs(statements, vocabulary, threshold)
    groups = _Groups(statements, pairs)
    heap = [(-alike, 1, 1, a, b) for (a, b), alike in pairs.items() if alike >= threshold]
    heapq.heapify(heap)
    while heap:
        _, size_a, size_b, a, b = heapq.heappop(heap)
        if not groups.may_join(a, b) or (len(groups.members[a]), len(groups.members[b])) != (size_a, size_b):
            continue
        for near in groups.join(a, b):
            first, second = min(a, near), max(a, near)
            alike = groups.alike(first, second)
            if alike >= threshold:
                sizes = (len(groups.members[first]), len(groups.members[second]))
                heapq.heappush(heap, (-alike, *sizes, first, second))
    return groups.members.values()


def _pairs(
    statements: Sequence[Statement], vocabulary: Vocabulary, threshold: float
) -> dict[tuple[int, int], float]:
    """How alike two statements are, for the pairs that could be joined and have something in common.

    What places say is put into the figure: it is scaled so that `threshold` is the bar for every pair.
    """
    vectors = [vocabulary.vectors(statement.text) for statement in statements]
    pairs: dict[tuple[int, int], float] = {}
    for b, second in enumerate(statements):
        for a in range(b):
            first = statements[a]
            if (first.is_fixed and second.is_fixed) or not first.reporters.isdisjoint(second.reporters):
                continue
            bar = _bar(first.line, second.line, threshold)
            alike = likeness(vectors[a], vectors[b]) if bar is not None else 0.0
            if bar is not None and alike > 0.0:
                pairs[a, b] = alike * threshold / bar
    return pairs


def _bar(a: tuple[int, int] | None, b: tuple[int, int] | None, threshold: float) -> float | None:
    """How alike two statements have to be, by the lines between their places; None: they are never the same."""
    if a is None or b is None:
        return threshold
    gap = max(a[0] - b[1], b[0] - a[1], 0)
    if gap <= NEAR_LINES:
        return min(NEAR_THRESHOLD, threshold)
    return max(APART_THRESHOLD, threshold) if gap <= FAR_LINES else None


def _cosine(a: Vector, b: Vector) -> float:
    if len(a) > len(b):
        a, b = b, a
    return sum(value * b[key] for key, value in a.items() if key in b)


# --- what a text consists of


def words(text: str) -> list[str]:
    """The words of a text that say something, without endings; an identifier as a whole and in its parts."""
    found: list[str] = []
    for word in _WORD.findall(text[:_MOST_CHARACTERS]):
        parts = _PART.findall(word)
        low = word.lower()
        if len(parts) > 1:
            found.append("=" + low)
            found += (_stem(part) for part in map(str.lower, parts) if part not in _COMMON)
        elif low not in _COMMON:
            found.append(_stem(low))
    return found


def grams(text: str) -> list[str]:
    """The runs of four characters in the words of a text that say something."""
    low = _HUMP.sub(" ", text[:_MOST_CHARACTERS]).lower()
    plain = f" {' '.join(word for word in _PLAIN.findall(low) if word not in _COMMON)} "
    return [plain[at : at + _GRAM] for at in range(len(plain) - _GRAM + 1)]


@functools.lru_cache(maxsize=8192)
def _stem(word: str) -> str:
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 4:
            return word[: -len(ending)]
    return word
