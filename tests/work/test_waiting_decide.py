"""Who waits for whose landing: one of two at most, the later one if that can be, and never in a circle."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from parallelai.plan.model import Conflicts, Workstream
from parallelai.records import ConflictFile, ConflictPair
from parallelai.work.conflicts.waiting import (
    Standing,
    cause_of,
    place_of,
    ranks,
    reaction,
    said_of,
    who_waits,
)
from parallelai.work.guard.leases import Claim, Leases, has_circle
from parallelai.work.guard.rules import Permits
from parallelai.work.streams.record import Rules

NAMES = "abcde"
RANKS = {name: number for number, name in enumerate(NAMES)}
ALL = dict.fromkeys(NAMES, True)
pairs = st.lists(st.sampled_from(NAMES), min_size=2, max_size=2, unique=True).map(tuple)


def works(**keys: dict[str, object]) -> dict[str, Workstream]:
    return {
        name: Workstream.model_validate({"id": name, "owns": f"{name}/**", **more})
        for name, more in keys.items()
    }


def test_the_order_is_by_dependencies_then_priority_then_the_plan() -> None:
    found = ranks(works(late={"depends_on": "urgent"}, plain={}, second={}, urgent={"priority": 0.1}))
    assert sorted(found, key=found.__getitem__) == ["urgent", "late", "plain", "second"]


def test_the_later_one_waits() -> None:
    assert who_waits("b", "a", Standing(RANKS, ALL, {})) == "b"
    assert who_waits("a", "b", Standing(RANKS, ALL, {})) == "b"


def test_nobody_waits_for_one_that_is_not_worked_on() -> None:
    assert who_waits("b", "a", Standing(RANKS, {"b": True}, {})) is None
    assert who_waits("b", "main", Standing(RANKS, ALL, {})) is None


def test_who_has_finished_is_waited_for_and_does_not_wait() -> None:
    assert who_waits("a", "b", Standing(RANKS, {"a": True, "b": False}, {})) == "a"
    assert who_waits("a", "b", Standing(RANKS, {"a": False, "b": False}, {})) is None


def test_the_earlier_one_waits_where_the_later_one_would_close_a_circle() -> None:
    through_c = {"a": {"c"}, "c": {"b"}}
    assert who_waits("a", "b", Standing(RANKS, ALL, through_c)) == "a"
    assert who_waits("a", "b", Standing(RANKS, {**ALL, "a": False}, through_c)) is None


@given(st.dictionaries(st.sampled_from(NAMES), st.booleans()), st.lists(pairs, max_size=12), pairs)
def test_one_of_two_waits_and_no_circle_closes(
    live: dict[str, bool], edges: list[tuple[str, str]], pair: tuple[str, str]
) -> None:
    waits: dict[str, set[str]] = {}
    for one, other in edges:  # any graph without a circle
        waits.setdefault(one, set()).add(other)
        if has_circle(waits):
            waits[one].discard(other)
    one, other = pair
    found = who_waits(one, other, Standing(RANKS, live, waits))
    assert found == who_waits(other, one, Standing(RANKS, live, waits))
    if found is None:
        return
    assert live[found]
    waited_for = other if found == one else one
    assert waited_for in live
    waits.setdefault(found, set()).add(waited_for)
    assert not has_circle(waits)
    assert who_waits(one, other, Standing(RANKS, live, waits)) == found  # also while it waits


steps = st.one_of(
    st.tuples(st.just("conflict"), pairs),
    st.tuples(st.just("lease"), pairs),
    st.tuples(st.just("shared"), pairs),
    st.tuples(st.just("land"), pairs),
)


@given(st.lists(steps, max_size=40), st.sets(pairs, max_size=4))
def test_with_leases_and_dependencies_somebody_can_always_go_on(
    happened: list[tuple[str, tuple[str, str]]], needs: set[tuple[str, str]]
) -> None:
    after = {name: tuple(b for a, b in needs if a == name and b < a) for name in NAMES}
    claims = {
        name: Claim(Permits(Rules(owns=(f"{name}/**",), shared=("shared/**",))), after[name])
        for name in NAMES
    }
    leases = Leases(NAMES, claims)
    for kind, (one, other) in happened:
        live = dict.fromkeys(leases.live, True)
        asleep = {name for name in live if name in leases.also or name in leases.waiting()}
        if one not in live or one in asleep:
            continue
        if kind == "conflict" and who_waits(one, other, Standing(RANKS, live, leases.waits())) == one:
            leases.also[one] = frozenset({other})
        elif kind == "lease" and other in live:
            leases.ask(one, [f"{other}/x"])
        elif kind == "shared":
            leases.ask(one, [f"shared/{other}"])
        elif kind == "land" and not set(after[one]) & live.keys():
            leases.end(one)
            leases.also = {name: on - {one} for name, on in leases.also.items() if on - {one}}
        waits = {name: {each for each in after[name] if each in leases.live} for name in leases.live}
        for reason in (leases.waiting(), leases.also):
            for name, others in reason.items():
                waits[name] |= set(others)
        assert not has_circle(waits)


def test_what_the_plan_says_goes_by_class() -> None:
    conflicts = Conflicts(file="wait", function="ask")
    said = {
        class_: reaction(ConflictPair("a", "b", True, class_, 1.0), conflicts)
        for class_ in ("file", "function", "logic", None)
    }
    assert said == {"file": "wait", "function": "ask", "logic": "go-on", None: "wait"}


def test_the_place_is_said_in_a_few_words() -> None:
    files = tuple(ConflictFile(f"src/{n}.py", "content") for n in range(5))
    assert place_of(ConflictPair("a", "b", True, "file", 1.0, files[:1])) == "`src/0.py`"
    assert place_of(ConflictPair("a", "b", True, "file", 1.0, files)).endswith("`src/2.py` and 2 more")
    pair = ConflictPair("a", "b", True, "file", 1.0, files[:1])
    assert cause_of(pair) == "conflict in `src/0.py`"
    said = "`a` calls `load(path)`, which `b` removed (util.py:1)"
    assert cause_of(ConflictPair("a", "b", False, "logic", 0.8, why=said)) == said
    assert cause_of(ConflictPair("a", "b", False, "logic", 0.8, files[:1], why=said)) == said  # which merges
    assert said_of("`src/0.py`", said) == f"conflict in `src/0.py`; {said}"
