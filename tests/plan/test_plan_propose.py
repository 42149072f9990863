"""Phases are proposed that keep what a plan says, and let nobody meet who must not."""

from __future__ import annotations

import itertools
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from parallelai.plan.check import check
from parallelai.plan.convert import to_yaml
from parallelai.plan.expand import expand
from parallelai.plan.files import FileTree
from parallelai.plan.load import loads
from parallelai.plan.model import Plan, Task, Workstream
from parallelai.plan.pairs import pairs
from parallelai.plan.propose import Wave, waves, with_phases

TREE = FileTree(Path(), ("src/a.py", "src/ui/b.py", "docs/x.md", "tests/test_a.py"))
OWNS = st.lists(
    st.sampled_from(["src/**", "src/ui/**", "docs/**", "tests/**", "lib/*.py", "lib/**", "other/x"]),
    min_size=1,
    max_size=2,
    unique=True,
)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    names = [f"w{number}" for number in range(draw(st.integers(1, 7)))]
    tasks: list[Task] = []
    streams: list[Workstream] = []
    for number, name in enumerate(names):
        more = {
            "id": name,
            "description": "x",
            "priority": draw(st.sampled_from(["urgent", "normal", "low"])),
            "depends_on": tuple(draw(st.sets(st.sampled_from(names[:number])))) if number else (),
        }
        if draw(st.integers(0, 4)):
            streams.append(Workstream(**more, owns=tuple(draw(OWNS))))  # type: ignore[arg-type]
        else:
            tasks.append(Task(**more))  # type: ignore[arg-type]
    return Plan(tasks=tuple(tasks), workstreams=tuple(streams))


@given(plans())
def test_phases_keep_every_order_and_part_all_who_meet(plan: Plan) -> None:
    found = pairs(plan, TREE.paths)
    proposed = waves(plan, found)
    at = {name: number for number, wave in enumerate(proposed) for name in wave.works}
    assert sorted(at) == sorted(work.id for work in plan.works)
    for work in plan.works:
        assert all(at[other] < at[work.id] for other in work.depends_on)
    for pair in found:
        assert pair.is_safe or at[pair.a] != at[pair.b]
    whole = with_phases(plan, proposed)
    assert check(whole, tree=TREE) == []
    assert all(pair.is_safe for pair in pairs(whole, TREE.paths))
    expand(whole, TREE)  # no phase waits for a later one
    assert loads(to_yaml(whole)) == whole


@given(plans())
def test_nobody_waits_without_a_reason(plan: Plan) -> None:
    found = pairs(plan, TREE.paths)
    proposed = waves(plan, found)
    apart = {frozenset((pair.a, pair.b)) for pair in found if not pair.is_safe}
    works = {work.id: work for work in plan.works}
    for before, wave in itertools.pairwise(proposed):
        assert wave.why
        for name in wave.works:
            assert any(
                other in works[name].depends_on or frozenset((name, other)) in apart for other in before.works
            )


def test_the_reasons_are_told() -> None:
    plan = Plan(
        workstreams=(
            Workstream(id="gui", description="x", owns=("src/ui/**",)),
            Workstream(id="all", description="x", owns=("src/**",), priority="urgent"),
            Workstream(id="tests", description="x", owns=("tests/**",), depends_on=("gui", "all")),
        )
    )
    assert waves(plan, pairs(plan, TREE.paths)) == (
        Wave("phase-1", ("all",)),
        Wave("phase-2", ("gui",), "`gui` and `all` both own `src/ui/b.py`"),
        Wave("phase-3", ("tests",), "after `gui`"),
    )
