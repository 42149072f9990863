"""Which definitions matter for a workstream: those that it owns, and those that what it owns, or its task, uses.

A definition outside gets a share of each owned file that uses its name, more where many others use it too,
less where many files define that name: one step of a personalised PageRank over the graph of files, which on
graphs of names with such short ways ranks almost as many of them would.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import PurePosixPath

from msgspec import Struct

from parallelai.work.context.index import Indexed

MOST_RANKED = 600
_TOO_COMMON = 8
"""A name that so many files define says nothing of any of them."""
_MENTIONED = 3.0
_INTERFACE = 2.0
_READ = 1.5
_PRIVATE = 0.3
_NAMED = 3.0
"""A file whose name is among the words of an owned one is probably imported there."""
_TEST = 0.2
_PLAIN = 0.2
"""A word of plain lower case, in a file that nothing names, is seldom the name that is meant."""
_LEAST = 0.08
"""What has less than this share of the best score outside is no news."""
_INDEXES = frozenset({"__init__", "index", "mod", "lib", "main"})
_TESTS = re.compile(r"(?:^|/)(?:tests?|specs?|__tests__)/|(?:^|/)test_[^/]*$|[._-](?:test|spec)s?\.\w+$")


class About(Struct, frozen=True):
    """What a workstream is about: paths that it owns, that are interfaces, that are to be read; words of its task."""

    owned: frozenset[str] = frozenset()
    interfaces: frozenset[str] = frozenset()
    reads: frozenset[str] = frozenset()
    words: frozenset[str] = frozenset()


class Ranked(Struct, frozen=True):
    """A definition that matters: its bare name and its file."""

    path: str
    name: str
    score: float
    is_owned: bool


def rank(files: Sequence[Indexed], about: About) -> tuple[Ranked, ...]:
    """Rank definitions, the most relevant first; the same for the same files, whatever their order."""
    definers = Counter(name for file in files for name in file.names)
    users = _users(files, definers)
    owned = [file for file in files if file.path in about.owned]
    seeds = _users(owned, definers)
    told = about.words.union(*(file.words for file in owned))
    has_tests = any(_TESTS.search(file.path) for file in owned)
    found = [
        one
        for file in files
        for one in _of_file(file, about, definers, users, seeds, _factor(file.path, about, told, has_tests))
    ]
    if not any(not one.is_owned for one in found):  # nothing is there yet that would point anywhere
        found += _usual(files, about, definers, users)
    least = _LEAST * max((one.score for one in found if not one.is_owned), default=0.0)
    kept = [one for one in found if one.is_owned or one.score >= least]
    return tuple(sorted(kept, key=lambda one: (-one.score, one.path, one.name))[:MOST_RANKED])


def _users(files: Iterable[Indexed], definers: Collection[str]) -> Counter[str]:
    """How many files use each name that is defined somewhere."""
    names = frozenset(definers)
    return Counter(word for file in files for word in file.words & names)


def _of_file(
    file: Indexed,
    about: About,
    definers: Mapping[str, int],
    users: Mapping[str, int],
    seeds: Mapping[str, int],
    factor: float,
) -> Iterable[Ranked]:
    is_owned, is_interface = file.path in about.owned, file.path in about.interfaces
    for name in file.names:
        mentioned = _MENTIONED if name in about.words else 0.0
        if is_owned:
            start = 1.0 + mentioned
        elif definers[name] > _TOO_COMMON and not is_interface:
            continue
        else:
            start = math.log1p(seeds.get(name, 0)) + mentioned + (1.0 if is_interface else 0.0)
        if start:
            start *= factor * (_PRIVATE if name.startswith("_") else 1.0)
            start *= _PLAIN if factor <= 1.0 and not is_owned and name.isalpha() and name.islower() else 1.0
            yield Ranked(file.path, name, start * _weight(name, definers, users), is_owned)


def _factor(path: str, about: About, told: Collection[str], has_tests: bool) -> float:
    """How near a file is: named where it is used, an interface, to be read; tests are far from what is none."""
    if path in about.owned:
        return 1.0
    pure = PurePosixPath(path)
    stem = pure.parent.name if pure.stem in _INDEXES else pure.stem
    factor = _NAMED if stem in told else 1.0
    factor *= _INTERFACE if path in about.interfaces else _READ if path in about.reads else 1.0
    return factor * (_TEST if not has_tests and _TESTS.search(path) else 1.0)


def _weight(name: str, definers: Mapping[str, int], users: Mapping[str, int]) -> float:
    others = max(users.get(name, 0) - definers[name], 0)  # who defines it has the word in it, too
    return (1.0 + math.log1p(others)) / definers[name]


def _usual(
    files: Sequence[Indexed], about: About, definers: Mapping[str, int], users: Mapping[str, int]
) -> Iterable[Ranked]:
    """What most of the repository uses."""
    for file in files:
        if file.path in about.owned:
            continue
        for name in file.names:
            if definers[name] <= _TOO_COMMON and users.get(name, 0) > definers[name]:
                weight = _weight(name, definers, users) * (_PRIVATE if name.startswith("_") else 1.0)
                yield Ranked(file.path, name, weight / 10, False)
