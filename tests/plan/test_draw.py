"""Drawings: folded, escaped, bounded."""

import re
from pathlib import Path

import pytest

from parallelai.plan.draw import boxes, dot, mermaid, terminal
from parallelai.plan.expand import expand
from parallelai.plan.files import FileTree
from parallelai.plan.graph import Instance, TaskGraph
from parallelai.plan.model import Phase, Plan, Task


def fan_out(count: int, phases: tuple[Phase, ...] = ()) -> TaskGraph:
    review = Task(id="review", description="x", each="file")
    instances = [Instance(f"review@f{index}.py", review, index) for index in range(count)]
    instances.append(
        Instance("sum", Task(id="sum", description="x"), count, awaits=("review",), phase=len(phases[1:]))
    )
    return TaskGraph(
        tuple(instances), {"review": tuple(f"review@f{index}.py" for index in range(count))}, phases
    )


def test_a_fan_out_is_one_box_with_a_count() -> None:
    graph = fan_out(1000)
    assert mermaid(graph) == 'flowchart LR\n  n0["review ×1000"]\n  n1["sum"]\n  n0 --> n1\n'
    assert 'n0 [label="review ×1000"];' in dot(graph)
    assert "n0 -> n1;" in dot(graph)
    assert terminal(graph) == "  1  review ×1000\n  2  sum  ← review ×1000\n"


def test_without_unicode_it_is_plain_ascii() -> None:
    assert terminal(fan_out(3), ascii_only=True) == "  1  review x3\n  2  sum  <- review x3\n"


def test_phases_are_frames() -> None:
    phases = (Phase(name='A "quoted" <b>', tasks=("review",)), Phase(name="B\n", tasks=("sum",)))
    graph = fan_out(2, phases)
    assert 'subgraph p0["A #quot;quoted#quot; #lt;b#gt;"]' in mermaid(graph)
    assert "p0 -.-> p1" in mermaid(graph)
    assert r'label="A \"quoted\" <b>";' in dot(graph)
    assert "ltail=cluster_0, lhead=cluster_1" in dot(graph)
    assert "phase B?" in terminal(graph)


def test_no_arrow_between_phases_without_a_barrier() -> None:
    phases = (Phase(name="A", tasks=("review",), barrier=False), Phase(name="B", tasks=("sum",)))
    assert "-.->" not in mermaid(fan_out(2, phases))


@pytest.mark.parametrize("width", [20, 40, 80])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    tasks = tuple(Task(id=f"task-{index}-{'x' * 60}", description="x") for index in range(5))
    last = Task(id="end", description="x", depends_on=tuple(task.id for task in tasks))
    graph = expand(Plan(tasks=(*tasks, last)), FileTree(Path("/"), ()))
    assert all(len(line) <= width for line in terminal(graph, width).splitlines())


def test_ten_thousand_tasks_stay_a_picture() -> None:
    tasks = [Task(id="first", description="x")]
    tasks += [Task(id=f"t{index}", description="x", depends_on=("first",)) for index in range(10_000)]
    tasks.append(Task(id="last", description="x", depends_on=tuple(task.id for task in tasks[1:])))
    graph = expand(Plan(tasks=tuple(tasks)), FileTree(Path("/"), ()))
    assert [box.label() for box in boxes(graph)] == ["first", "t0 … t9999 (10000 tasks)", "last"]
    assert len(mermaid(graph).splitlines()) == 6
    assert terminal(graph).splitlines()[1] == "  2  t0 … t9999 (10000 tasks)  ← first"


def test_what_cannot_be_folded_is_cut_in_the_terminal_only() -> None:
    tasks = [Task(id=f"a{index}", description="x") for index in range(150)]
    tasks += [Task(id=f"b{index}", description="x", depends_on=(f"a{index}",)) for index in range(150)]
    graph = expand(Plan(tasks=tuple(tasks)), FileTree(Path("/"), ()))
    assert len(re.findall(r"-->", mermaid(graph))) == 150
    assert len(terminal(graph).splitlines()) == 42
    assert "and 130 more" in terminal(graph)


def test_an_empty_graph_can_be_drawn() -> None:
    empty = TaskGraph(())
    assert mermaid(empty) == "flowchart LR\n"
    assert dot(empty).startswith("digraph")
    assert terminal(empty) == "no tasks\n"
