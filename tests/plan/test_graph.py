"""The graph helpers against what they promise, on random graphs."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallelai.errors import UsageError
from parallelai.plan.graph import Instance, TaskGraph, critical_path, find_cycle, topological_order
from parallelai.plan.model import Task

NODES = st.integers(0, 7).map(lambda number: f"n{number}")
EDGES = st.dictionaries(NODES, st.lists(NODES, max_size=3), max_size=8)


def graph_of(edges: dict[str, list[str]], groups: dict[str, tuple[str, ...]] | None = None) -> TaskGraph:
    groups = groups or {}
    return TaskGraph(
        tuple(
            Instance(
                name,
                Task(id=name, description="x"),
                index,
                depends_on=tuple(other for other in before if other not in groups),
                awaits=tuple(other for other in before if other in groups),
            )
            for index, (name, before) in enumerate(edges.items())
        ),
        groups,
    )


def has_cycle(edges: dict[str, list[str]]) -> bool:
    left = {name: {other for other in before if other in edges} for name, before in edges.items()}
    while ready := [name for name, before in left.items() if not before & left.keys()]:
        for name in ready:
            del left[name]
    return bool(left)


@given(EDGES)
def test_a_cycle_is_found_exactly_if_there_is_one_and_is_real(edges: dict[str, list[str]]) -> None:
    cycle = find_cycle(edges)
    assert (cycle is not None) == has_cycle(edges)
    if cycle is not None:
        assert cycle[0] == cycle[-1]
        assert len(set(cycle)) == len(cycle) - 1
        assert all(after in edges[name] for name, after in pairwise(cycle))


@given(EDGES)
def test_the_order_respects_every_edge_and_has_every_node_once(edges: dict[str, list[str]]) -> None:
    order = topological_order(edges)
    if order is None:
        assert has_cycle(edges)
        return
    assert sorted(order) == sorted(edges)
    place = {name: index for index, name in enumerate(order)}
    assert all(place[other] < place[name] for name in edges for other in edges[name] if other in place)


def test_ten_thousand_in_a_row_need_no_recursion() -> None:
    edges = {f"t{index}": [f"t{index + 1}"] for index in range(10_000)}
    assert find_cycle(edges) is None
    assert topological_order(edges)[0] == "t9999"  # type: ignore[index]
    edges["t9999"] = ["t0"]
    assert len(find_cycle(edges) or ()) == 10_001


def test_groups_are_waited_for_as_a_whole() -> None:
    graph = graph_of({"c": ["all"], "a": [], "b": ["a"]}, {"all": ("a", "b")})
    assert [instance.id for instance in graph.topological()] == ["a", "b", "c"]


def test_a_cycle_through_a_group_is_printed() -> None:
    graph = graph_of({"a": ["all"], "b": ["a"]}, {"all": ("b",)})
    with pytest.raises(UsageError, match=r"wait for each other.*a"):
        graph.topological()


def test_items_of_tasks_and_instances() -> None:
    task = Task(id="a", description="x")
    graph = TaskGraph((Instance("a@x", task, 0), Instance("a@y", task, 1)))
    assert graph.items("a") == ("a@x", "a@y")
    assert graph.items("a@y") == ("a@y",)
    assert graph.items("b") == ()
    assert graph.get("a@x").index == 0
    with pytest.raises(KeyError):
        graph.get("a")


def every_path(edges: dict[str, list[str]], name: str) -> list[list[str]]:
    longer = [path for other in edges[name] for path in every_path(edges, other)]
    return [[*path, name] for path in longer] + [[name]]


@given(
    st.lists(st.tuples(st.lists(st.integers(0, 6), max_size=2), st.integers(0, 9)), min_size=1, max_size=7)
)
def test_the_critical_path_is_a_longest_path(rows: list[tuple[list[int], int]]) -> None:
    edges = {f"n{i}": sorted({f"n{j}" for j in before if j < i}) for i, (before, _) in enumerate(rows)}
    seconds = {f"n{i}": float(length) for i, (_, length) in enumerate(rows)}
    found = critical_path(graph_of(edges), seconds)
    assert all(name in edges[after] for name, after in pairwise(found))
    best = max(sum(seconds[name] for name in path) for start in edges for path in every_path(edges, start))
    assert sum(seconds[name] for name in found) == best


def test_the_critical_path_goes_through_groups() -> None:
    graph = graph_of({"a": [], "b": [], "c": ["all"]}, {"all": ("a", "b")})
    assert critical_path(graph, {"a": 1.0, "b": 5.0, "c": 1.0}) == ("b", "c")
    assert critical_path(TaskGraph(()), {}) == ()
