"""The task graph: what a plan becomes once its fan-outs are spread out.

Awaiting a whole fan-out is one name (a group) and not an edge to each of its instances, so that a thousand
reviews before a thousand fixes stay two thousand references. All here is linear in tasks and edges.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from parallelai.errors import UsageError
from parallelai.plan.contents import Seen
from parallelai.plan.model import Phase, Task
from parallelai.records import FileNote, FilePart, light_record


@light_record
class Instance:
    """One thing to do: a task, or its part for one file or chunk.

    `task` is resolved, and shared by all instances of a fan-out. `depends_on` are ids of instances, `awaits`
    names of groups that must have ended as a whole: a task's id, or `phase:N`. `index` is the place in the
    graph, which is plan order; `phase` counts from 0.
    """

    id: str
    task: Task
    index: int
    files: tuple[FilePart, ...] = ()
    depends_on: tuple[str, ...] = ()
    awaits: tuple[str, ...] = ()
    phase: int = 0


@dataclass(frozen=True, slots=True)
class TaskGraph:
    """Instances in plan order, the groups that some of them await, and the files that were left out.

    `seen` is what files held (by absolute path) that were read when the graph was made.
    """

    instances: tuple[Instance, ...]
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    phases: tuple[Phase, ...] = ()
    skipped: tuple[FileNote, ...] = ()
    seen: Mapping[str, Seen] = field(default_factory=dict, repr=False, compare=False)
    _by_id: Mapping[str, Instance] = field(init=False, repr=False, compare=False)
    _by_task: Mapping[str, tuple[str, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_task: dict[str, list[str]] = {}
        for instance in self.instances:
            by_task.setdefault(instance.task.id, []).append(instance.id)
        object.__setattr__(self, "_by_id", {instance.id: instance for instance in self.instances})
        object.__setattr__(self, "_by_task", {name: tuple(ids) for name, ids in by_task.items()})

    def __len__(self) -> int:
        return len(self.instances)

    def get(self, id: str) -> Instance:
        """Give an instance. Raises `KeyError`."""
        return self._by_id[id]

    def has(self, *kinds: type[Task]) -> bool:
        """Whether some of what is to be done is of one of these kinds, such as a workstream."""
        found = {type(instance.task) for instance in self.instances}  # few: `isinstance` of each is slow
        return any(issubclass(kind, kinds) for kind in found)

    def items(self, name: str) -> tuple[str, ...]:
        """Give the ids of a task's instances in plan order; of an instance its own; else nothing."""
        return self._by_task.get(name) or ((name,) if name in self._by_id else ())

    @property
    def task_ids(self) -> tuple[str, ...]:
        """The plan's tasks that have instances, in plan order."""
        return tuple(self._by_task)

    def edges(self) -> dict[str, tuple[str, ...]]:
        """Map each instance and each group to what must come before it.

        A group's name is prefixed by `group:` here, since a task may have the id of its own only instance.
        """
        before: dict[str, tuple[str, ...]] = {
            f"group:{name}": tuple(members) for name, members in self.groups.items()
        }
        for instance in self.instances:
            before[instance.id] = (*instance.depends_on, *(f"group:{name}" for name in instance.awaits))
        return before

    def topological(self) -> tuple[Instance, ...]:
        """Give the instances so that each comes after all that it needs, else in plan order.

        Raises `UsageError` that prints the cycle, if there is one.
        """
        edges = self.edges()
        order = topological_order(edges)
        if order is None:
            raise UsageError(f"tasks wait for each other: {' → '.join(self._cycle(edges))}")
        return tuple(self._by_id[name] for name in order if name in self._by_id)

    def only(self, wanted: Iterable[str]) -> TaskGraph:
        """Keep the tasks of these ids or tags, and what they depend on. Raises `UsageError` for a name of nobody."""
        keep: set[str] = set()
        for name in wanted:
            found = [i.id for i in self.instances if name in (i.id, i.task.id) or name in i.task.tags]
            if not found:
                raise UsageError(f"no task has the id or tag `{name}`", next="`plan show` lists them")
            keep.update(found)
        for instance in reversed(self.topological()):
            if instance.id in keep:
                awaited = (item for group in instance.awaits for item in self.groups[group])
                keep.update(instance.depends_on, awaited)
        kept = [instance for instance in self.instances if instance.id in keep]
        groups = {name: tuple(i for i in items if i in keep) for name, items in self.groups.items()}
        renumbered = (replace(instance, index=number) for number, instance in enumerate(kept))
        return TaskGraph(tuple(renumbered), groups, self.phases, self.skipped, self.seen)

    def _cycle(self, edges: Mapping[str, tuple[str, ...]]) -> list[str]:
        return [name.removeprefix("group:") for name in find_cycle(edges) or []]


def topological_order(edges: Mapping[str, Iterable[str]]) -> list[str] | None:
    """Order nodes so that each comes after those that it maps to; None if there is a cycle.

    Among those that could come next, the one that was ready first comes first, and of several the one that
    the mapping has first. Names that are only mapped to, and are no keys, do not count.
    """
    missing: dict[str, int] = {}
    after: dict[str, list[str]] = {name: [] for name in edges}
    for name, before in edges.items():
        known = [other for other in dict.fromkeys(before) if other in after]
        missing[name] = len(known)
        for other in known:
            after[other].append(name)
    ready = deque(name for name, count in missing.items() if count == 0)
    order: list[str] = []
    while ready:
        name = ready.popleft()
        order.append(name)
        for other in after[name]:
            missing[other] -= 1
            if missing[other] == 0:
                ready.append(other)
    return order if len(order) == len(after) else None


def find_cycle(edges: Mapping[str, Collection[str]]) -> list[str] | None:
    """Find one cycle: `[a, b, a]` if a maps to b and b to a, None if there is none.

    Names that are no keys have no edges. The search is iterative: plans may be ten thousand tasks deep.
    """
    done: set[str] = {name for name, others in edges.items() if not others}
    for start in edges:
        if start in done:
            continue
        path: dict[str, Iterator[str]] = {start: iter(edges[start])}  # in the order walked
        while path:
            name, others = next(reversed(path.items()))
            other = next(others, None)
            if other is None:
                done.add(name)
                del path[name]
            elif other in path:
                walked = list(path)
                return [*walked[walked.index(other) :], other]
            elif other in edges and other not in done:
                path[other] = iter(edges[other])
    return None


def critical_path(graph: TaskGraph, seconds: Mapping[str, float]) -> tuple[str, ...]:
    """Give the ids of the instances on the longest path, first to last; `seconds` is by instance id.

    Those without a figure count as 0. Raises `UsageError` where there is a cycle.
    """
    graph.topological()
    edges = graph.edges()
    longest: dict[str, float] = {}
    came_from: dict[str, str | None] = {}
    for name in topological_order(edges) or []:
        before = max(edges[name], key=lambda other: longest.get(other, 0.0), default=None)
        came_from[name] = before
        longest[name] = (longest.get(before, 0.0) if before else 0.0) + seconds.get(name, 0.0)
    at = max(longest, key=lambda name: longest[name], default=None)
    path: list[str] = []
    while at is not None:
        if not at.startswith("group:"):
            path.append(at)
        at = came_from.get(at)
    return tuple(reversed(path))
