"""The order of candidates, and the search for bad ones: pure, tried with Hypothesis."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parallelai.errors import UsageError
from parallelai.work.landing import relating
from parallelai.work.landing.batches import Odds, Search, breaking_with
from parallelai.work.landing.order import closure, largest_without_conflict, order
from parallelai.work.landing.records import Candidate


def candidate(name: str, *needs: str, priority: float = 1.0) -> Candidate:
    return Candidate(name, "c" * 40, "b" * 40, depends_on=needs, priority=priority)


def pair(a: str, b: str) -> frozenset[str]:
    return frozenset((a, b))


# -- order


def test_dependencies_then_conflicts_then_priority() -> None:
    candidates = [
        candidate("late", "base"),
        candidate("slow", priority=3),
        candidate("base"),
        candidate("urgent", priority=0),
    ]
    assert order(candidates, ()) == ("urgent", "base", "late", "slow")
    assert order(candidates, [pair("urgent", "slow"), pair("urgent", "base")]) == (
        "base",
        "late",
        "slow",
        "urgent",
    )


@pytest.mark.parametrize("name", ["a", "z"])
def test_who_conflicts_with_a_dependency_keeps_its_dependents_out_too(name: str) -> None:
    candidates = [candidate(name, priority=0), candidate("m"), candidate("b", "m"), candidate("c", "m")]
    assert order(candidates, [pair(name, "m")]) == ("m", "b", "c", name)


def test_who_conflicts_with_the_target_comes_last_with_its_dependents() -> None:
    candidates = [candidate("a"), candidate("b", "a"), candidate("c")]
    assert order(candidates, (), {"a"}) == ("c", "a", "b")


def test_a_circle_is_refused() -> None:
    with pytest.raises(UsageError, match="circle"):
        order([candidate("a", "b"), candidate("b", "a"), candidate("c")], ())


@st.composite
def fields(draw: st.DrawFn) -> tuple[list[Candidate], set[frozenset[str]]]:
    count = draw(st.integers(1, 9))
    names = [f"n{number}" for number in range(count)]
    made = []
    for number, name in enumerate(names):
        needs = draw(st.sets(st.sampled_from([*names[:number], "elsewhere"]), max_size=2))
        made.append(candidate(name, *sorted(needs), priority=draw(st.integers(0, 2))))
    pairs = draw(
        st.sets(st.sampled_from([pair(a, b) for a, b in combinations(names, 2)] or [pair("x", "y")]))
    )
    return draw(st.permutations(made)), pairs


@given(fields())
def test_order_is_complete_and_after_dependencies(field: tuple[list[Candidate], set[frozenset[str]]]) -> None:
    candidates, pairs = field
    found = order(candidates, pairs)
    assert sorted(found) == sorted(one.name for one in candidates)
    for one in candidates:
        assert all(found.index(need) < found.index(one.name) for need in one.depends_on if need in found)


def landing(found: Iterable[str], candidates: list[Candidate], pairs: set[frozenset[str]]) -> set[str]:
    """Who lands in an order, if pairs are all that conflicts."""
    needs = {one.name: set(one.depends_on) & {each.name for each in candidates} for one in candidates}
    done: set[str] = set()
    for name in found:
        if needs[name] <= done and not any(pair(name, other) in pairs for other in done):
            done.add(name)
    return done


@given(fields())
@settings(max_examples=200)
def test_as_many_land_as_can(field: tuple[list[Candidate], set[frozenset[str]]]) -> None:
    candidates, pairs = field
    needs = closure(candidates)
    most = 0
    for size in range(len(candidates), 0, -1):
        for some in combinations(needs, size):
            closed = all(needs[name] <= set(some) for name in some)
            if closed and not any(pair(a, b) in pairs for a, b in combinations(some, 2)):
                most = size
                break
        if most:
            break
    assert len(landing(order(candidates, pairs), candidates, pairs)) == most


def test_a_knot_too_large_to_look_through_still_gets_an_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parallelai.work.landing.order.STEPS", 3)
    chance = random.Random(7)
    names = [f"n{number:02}" for number in range(40)]
    against: dict[str, set[str]] = {name: set() for name in names}
    for a, b in combinations(names, 2):
        if chance.random() < 0.3:
            against[a].add(b)
            against[b].add(a)
    chosen = largest_without_conflict(names, against)
    assert not any(b in against[a] for a, b in combinations(chosen, 2))
    assert len(chosen) >= 6


# -- the search


class Gates:
    """Gates that know who is bad, alone or together; counts what it is asked."""

    def __init__(self, bad: Iterable[int], together: Iterable[frozenset[int]] = ()) -> None:
        self.bad = set(bad)
        self.together = list(together)
        self.said: dict[frozenset[int], bool] = {}

    def __call__(self, members: Iterable[int]) -> bool:
        asked = frozenset(members)
        self.said[asked] = not asked & self.bad and not any(some <= asked for some in self.together)
        return self.said[asked]


def landed_by(
    count: int, gates: Gates, hint: Callable[[int, int], float]
) -> tuple[list[int], dict[int, set[int]]]:
    """Land members 0 to `count` - 1 as a session does; gives who landed, and who was named for the others."""
    odds, queue, landed, passed = Odds(), list(range(count)), [], set()
    out: dict[int, set[int]] = {}
    while queue:
        search = Search(len(queue), odds, [place for place, one in enumerate(queue) if one in passed])
        steps = search.steps()
        try:
            ask = next(steps)
            while True:
                some = [queue[place] for place in ask.members]
                ask = steps.send(gates(some if ask.alone else [*landed, *some]))
        except StopIteration as end:
            found = end.value
        passed |= {queue[place] for place in search.passes}
        landed += queue[: found.green]
        assert not found.green or gates.said[frozenset(landed)]
        odds.told(found.green, int(found.bad is not None))
        if found.bad is not None:
            bad = queue[found.bad]
            out[bad] = set() if found.is_bad_alone else named(bad, landed, gates, hint)
        queue = [one for place, one in enumerate(queue) if place >= found.green and place != found.bad]
    return landed, out


def named(bad: int, landed: list[int], gates: Gates, hint: Callable[[int, int], float]) -> set[int]:
    steps = breaking_with([hint(bad, one) for one in landed])
    try:
        tried = next(steps)
        while True:
            tried = steps.send(gates([bad, *(landed[place] for place in tried)]))
    except StopIteration as end:
        return {landed[place] for place in end.value or ()}


def no_hint(_: int, __: int) -> float:
    return 1.0


@given(st.data(), st.integers(1, 30))
@settings(max_examples=300)
def test_all_good_lands_and_the_bad_are_named(data: st.DataObject, count: int) -> None:
    numbers = data.draw(st.permutations(range(count)))
    bad = data.draw(st.integers(0, min(6, count)))
    sizes = data.draw(st.lists(st.integers(2, 3), max_size=2))
    rest, together = numbers[bad:], []
    for size in sizes:
        if len(rest) >= size:
            together.append(frozenset(rest[:size]))
            rest = rest[size:]
    gates = Gates(numbers[:bad], together)
    landed, out = landed_by(count, gates, lambda a, b: float((a * 7 + b * 3) % 5 + 1))
    assert sorted([*landed, *out]) == list(range(count))
    expected = {one: set() for one in numbers[:bad]} | {
        max(some): set(some) - {max(some)} for some in together
    }
    assert out == expected


def test_good_branches_cost_one_run() -> None:
    gates = Gates([])
    assert landed_by(50, gates, no_hint) == (list(range(50)), {})
    assert len(gates.said) == 1


@pytest.mark.parametrize(("bad", "together", "mean"), [(1, 0, 12), (5, 0, 29), (5, 1, 39)])
def test_bad_branches_cost_few_runs(bad: int, together: int, mean: float) -> None:
    chance = random.Random(11)
    runs = []
    for _ in range(30):
        some = chance.sample(range(47), bad + 2 * together)
        gates = Gates(some[:bad], [frozenset(some[bad:])] if together else [])
        landed_by(47, gates, no_hint)
        runs.append(len(gates.said))
    assert sum(runs) / len(runs) <= mean


def test_a_hint_saves_most_of_the_search_for_a_partner() -> None:
    chance = random.Random(12)
    for _ in range(20):
        some = chance.sample(range(47), 7)
        together = frozenset(some[5:])
        gates = Gates(some[:5], [together])
        landed_by(47, gates, lambda a, b, with_=together: 48.0 if {a, b} == with_ else 1.0)
        assert len(gates.said) <= 38


@given(st.integers(1, 20), st.integers(0, 2**32))
def test_gates_that_contradict_themselves_end_the_search(count: int, seed: int) -> None:
    chance = random.Random(seed)
    search = Search(count, Odds())
    steps = search.steps()
    try:
        ask = next(steps)
        for _ in range(200):
            assert all(0 <= member < count for member in ask.members)
            ask = steps.send(chance.random() < 0.5)
    except StopIteration as end:
        found = end.value
    assert 0 <= found.green <= count  # unbound where it did not end


def test_a_rare_shared_word_outweighs_all_others() -> None:
    others = [{"def", "total", f"part{n}"} if n == 7 else {"def", f"part{n}"} for n in range(20)]
    weights = relating.weights({"total", "def", "mine"}, others)
    assert weights[7] > sum(weight for place, weight in enumerate(weights) if place != 7)
    assert set(weights[:7] + weights[8:]) == {1.0}
