"""Draw a task graph: Mermaid, Graphviz's DOT, or lines for a terminal. Pure, at any size.

A fan-out is one box with a count. Where that still leaves more boxes than anybody can look at, tasks that
come after the same and before the same are drawn as one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from msgspec import Struct

from parallelai.plan.graph import TaskGraph, topological_order

MAX_BOXES = 200
_ROWS_PER_STEP = 20


class Box(Struct, frozen=True):
    """What is drawn as one: `tasks` with `count` instances together; `before` are indices of boxes."""

    tasks: tuple[str, ...]
    count: int
    phase: int
    before: tuple[int, ...]

    def label(self, multiply: str = "×") -> str:
        """Name the box: `review ×12`, or `a … z (40 tasks)`."""
        if len(self.tasks) > 1:
            name = f"{self.tasks[0]} … {self.tasks[-1]} ({len(self.tasks)} tasks)"
            return name if self.count == len(self.tasks) else f"{name} {multiply}{self.count}"
        return self.tasks[0] if self.count == 1 else f"{self.tasks[0]} {multiply}{self.count}"


def boxes(graph: TaskGraph) -> tuple[Box, ...]:
    """Fold a graph into what is drawn, in plan order."""
    before = _task_edges(graph)
    phases = {name: graph.get(graph.items(name)[0]).phase for name in graph.task_ids}
    names = list(graph.task_ids)
    folded = _folded(names, before, phases) if len(names) > MAX_BOXES else [(name,) for name in names]
    box_of = {name: index for index, tasks in enumerate(folded) for name in tasks}
    return tuple(
        Box(
            tasks,
            sum(len(graph.items(name)) for name in tasks),
            phases[tasks[0]],
            tuple(dict.fromkeys(box_of[other] for name in tasks for other in before[name])),
        )
        for tasks in folded
    )


def mermaid(graph: TaskGraph) -> str:
    """Draw as a Mermaid flowchart."""
    drawn = boxes(graph)
    lines = ["flowchart LR"]
    for title, members in _by_phase(graph, drawn):
        indent = "  "
        if title is not None:
            lines.append(f'  subgraph p{drawn[members[0]].phase}["{_escape_mermaid(title)}"]')
            indent = "    "
        lines += (f'{indent}n{index}["{_escape_mermaid(drawn[index].label())}"]' for index in members)
        if title is not None:
            lines.append("  end")
    lines += (f"  n{other} --> n{index}" for index, box in enumerate(drawn) for other in box.before)
    lines += (f"  p{before} -.-> p{after}" for before, after in _phase_edges(graph, drawn))
    return "\n".join(lines) + "\n"


def dot(graph: TaskGraph) -> str:
    """Draw in Graphviz's language."""
    drawn = boxes(graph)
    lines = ["digraph plan {", "  rankdir=LR;", "  compound=true;", "  node [shape=box];"]
    for title, members in _by_phase(graph, drawn):
        indent = "  "
        if title is not None:
            lines.append(f"  subgraph cluster_{drawn[members[0]].phase} {{")
            lines.append(f'    label="{_escape_dot(title)}";')
            indent = "    "
        lines += (f'{indent}n{index} [label="{_escape_dot(drawn[index].label())}"];' for index in members)
        if title is not None:
            lines.append("  }")
    lines += (f"  n{other} -> n{index};" for index, box in enumerate(drawn) for other in box.before)
    first = {box.phase: index for index, box in reversed(list(enumerate(drawn)))}
    lines += (
        f"  n{first[before]} -> n{first[after]} "
        f"[style=dashed, ltail=cluster_{before}, lhead=cluster_{after}];"
        for before, after in _phase_edges(graph, drawn)
    )
    lines.append("}")
    return "\n".join(lines) + "\n"


def terminal(graph: TaskGraph, width: int = 80, ascii_only: bool = False) -> str:
    """Draw as lines of at most `width` columns: what can start together, step by step, and after what."""
    drawn = boxes(graph)
    if not drawn:
        return "no tasks\n"
    multiply, arrow, dots = ("x", "<-", "...") if ascii_only else ("×", "←", "…")
    labels = [_plain(box.label(multiply)) for box in drawn]
    lines: list[str] = []
    for title, members in _by_phase(graph, drawn):
        if title is not None:
            lines.append(f"phase {_plain(title)}")
        for number, step in enumerate(_steps(drawn, members), start=1):
            for row, index in enumerate(step[:_ROWS_PER_STEP]):
                after = ", ".join(labels[other] for other in drawn[index].before[:_ROWS_PER_STEP])
                lead = f"{number:>3}  " if row == 0 else "     "
                lines.append(lead + labels[index] + (f"  {arrow} {after}" if after else ""))
            if len(step) > _ROWS_PER_STEP:
                lines.append(f"     {dots} and {len(step) - _ROWS_PER_STEP} more")
    if ascii_only:
        lines = [line.replace("…", "...").encode("ascii", "replace").decode() for line in lines]
    return "".join(_cut(line, width, dots) + "\n" for line in lines)


def _task_edges(graph: TaskGraph) -> dict[str, tuple[str, ...]]:
    """Map each task to the tasks that it comes after."""
    before: dict[str, dict[str, None]] = {name: {} for name in graph.task_ids}
    for instance in graph.instances:
        mine = before[instance.task.id]
        mine.update((graph.get(other).task.id, None) for other in instance.depends_on)
        mine.update((name, None) for name in instance.awaits if name in before)
    return {name: tuple(others) for name, others in before.items()}


def _folded(
    names: Sequence[str], before: Mapping[str, tuple[str, ...]], phases: Mapping[str, int]
) -> list[tuple[str, ...]]:
    """Group tasks that have the same tasks before and after them."""
    after: dict[str, list[str]] = {name: [] for name in names}
    for name in names:
        for other in before[name]:
            after[other].append(name)
    groups: dict[tuple[object, ...], list[str]] = {}
    for name in names:
        key = (phases[name], tuple(sorted(before[name])), tuple(sorted(after[name])))
        groups.setdefault(key, []).append(name)
    return [tuple(group) for group in groups.values()]


def _by_phase(graph: TaskGraph, drawn: Sequence[Box]) -> list[tuple[str | None, list[int]]]:
    if not graph.phases:
        return [(None, list(range(len(drawn))))]
    members: dict[int, list[int]] = {}
    for index, box in enumerate(drawn):
        members.setdefault(box.phase, []).append(index)
    return [(graph.phases[number].name, members[number]) for number in sorted(members)]


def _phase_edges(graph: TaskGraph, drawn: Iterable[Box]) -> list[tuple[int, int]]:
    shown = sorted({box.phase for box in drawn}) if graph.phases else []
    return [(before, after) for before, after in pairwise(shown) if graph.phases[before].barrier]


def _steps(drawn: Sequence[Box], members: Sequence[int]) -> list[list[int]]:
    """Split boxes into steps: each comes in the first step that is after all that it needs."""
    inside = set(members)
    edges = {
        str(index): [str(other) for other in drawn[index].before if other in inside] for index in members
    }
    depth: dict[int, int] = {}
    for name in topological_order(edges) or list(edges):
        depth[int(name)] = 1 + max((depth.get(int(other), -1) for other in edges[name]), default=-1)
    steps: list[list[int]] = [[] for _ in range(1 + max(depth.values(), default=-1))]
    for index in members:
        steps[depth[index]].append(index)
    return steps


def _plain(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)


def _cut(line: str, width: int, dots: str) -> str:
    width = max(width, 20)
    return line if len(line) <= width else line[: width - len(dots)] + dots


def _escape_mermaid(text: str) -> str:
    escaped = {'"': "#quot;", "#": "#35;", "<": "#lt;", ">": "#gt;", "`": "#96;"}
    return "".join(escaped.get(char, char) for char in _plain(text))


def _escape_dot(text: str) -> str:
    return _plain(text).replace("\\", "\\\\").replace('"', '\\"')
