"""From a plan to its task graph: spread fan-outs over files, tie tasks together, put phases in order.

The same plan over the same files gives the same graph. Nothing is run; files are looked at only to leave out
what nobody should read, and to cut them into chunks.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct, field

from parallelai.errors import UsageError
from parallelai.plan.chunks import chunk
from parallelai.plan.contents import Seen
from parallelai.plan.files import Tree, match, read_text, triage, triage_safety
from parallelai.plan.graph import Instance, TaskGraph, find_cycle
from parallelai.plan.model import Chunk, Defaults, Phase, PhaseGate, Plan, Task, Workstream
from parallelai.plan.resolve import resolve_all
from parallelai.plan.templates import Template
from parallelai.records import FileNote, FilePart


def expand(
    plan: Plan,
    tree: Tree,
    *,
    settings_defaults: Defaults | None = None,
    strategy: str | None = None,
    templates: Mapping[str, Template] | None = None,
) -> TaskGraph:
    """Make the task graph of a plan: its tasks, its workstreams, and the gates of its phases.

    Args:
        settings_defaults: the config's defaults, below the plan's own.
        strategy: instead of the plan's; only `pipeline` matters here, which ties each task to the one before.
        templates: complete the tasks that name one.

    Raises:
        UsageError: a dependency that is no task, tasks that wait for each other, a bad pattern, a template's
            parameter that is missing.
    """
    tasks = [_placed(task) for task in resolve_all(plan, settings_defaults, templates)]
    sieve = _Sieve(tree)
    items = {task.id: sieve.items(task) for task in tasks}
    if len(items) != len(tasks):
        raise UsageError("two tasks have the same id", next="give each task an id of its own")
    phase_of = {name: number for number, phase in enumerate(plan.phases) for name in phase.tasks}
    is_pipeline = (strategy or plan.strategy) == "pipeline"
    ties = _Ties(tasks, items, phase_of, is_pipeline)
    ties.refuse_cycle()
    barriers = _barriers(plan.phases, items)
    gates = _gates_before(plan.phases)
    instances: list[Instance] = []
    for task in tasks:
        phase = phase_of.get(task.id, 0)
        awaited = barriers[phase] if barriers else ()
        instances.extend(ties.instances(task, phase, awaited, gates[phase] if gates else (), len(instances)))
    instances.extend(_gate_instances(plan.phases, barriers, gates, len(instances)))
    graph = TaskGraph(
        tuple(instances),
        _groups(instances, ties, plan.phases),
        tuple(plan.phases),
        tuple(FileNote(path, why) for path, why in sorted(sieve.skipped.items())),
        sieve.seen,
    )
    if barriers:
        graph.topological()  # a dependency on a later phase is a cycle with the barrier
    return graph


def _placed(task: Task) -> Task:
    """A workstream is about no file in particular, and is one instance."""
    if not isinstance(task, Workstream) or (task.files is None and task.each is None):
        return task
    return task.model_copy(update={"files": None, "each": None})


class _Item(Struct, frozen=True):
    """One instance of a task before it is tied to others; `suffix` is what its id has after the task's."""

    suffix: str
    files: tuple[FilePart, ...]


_ONE = (_Item("", ()),)
"""Of a task that is about no file in particular: most are."""


class _Sieve(Struct):
    """Selects files for tasks, looking at each file once."""

    tree: Tree
    skipped: dict[str, str] = field(default_factory=dict)
    seen: dict[str, Seen] = field(default_factory=dict)
    _selected: dict[tuple[str, ...] | None, Sequence[str]] = field(default_factory=dict)
    _sources: dict[str, str | None] = field(default_factory=dict)
    _safe: dict[str, str | None] = field(default_factory=dict)
    _folders: dict[str, str] = field(default_factory=dict)
    _chunks: dict[tuple[str, int], tuple[FilePart, ...]] = field(default_factory=dict)
    _items: dict[tuple[tuple[str, ...] | None, str, int], tuple[_Item, ...]] = field(default_factory=dict)

    def items(self, task: Task) -> tuple[_Item, ...]:
        """Spread a task over its files. Equal requests give the same tuple: tasks that pair compare fast."""
        each = task.each
        if each is None and task.files is None:
            return _ONE
        is_sifted = each is not None or _is_review(task)
        size = each.chunk if isinstance(each, Chunk) else 0
        key = (task.files, "single" if each is None and not is_sifted else str(each is not None), size)
        if key not in self._items:
            paths = self._paths(task.files, is_sifted)
            if each is None:
                self._items[key] = (_Item("", tuple(FilePart(path) for path in paths)),)
            else:
                self._items[key] = tuple(self._spread(paths, size))
        return self._items[key]

    def _spread(self, paths: Sequence[str], size: int) -> Iterator[_Item]:
        for path in paths:
            if not size:
                yield _Item(f"@{path}", (FilePart(path),))
                continue
            for number, part in enumerate(self._parts(path, size), start=1):
                yield _Item(f"@{path}#{number}", (part,))

    def _parts(self, path: str, size: int) -> tuple[FilePart, ...]:
        if (path, size) not in self._chunks:
            try:
                text = read_text(self.tree.root, path)
            except (OSError, UsageError):  # it went away, or became something else, since it was looked at
                self.skipped[path] = "unreadable"
                return ()
            self._chunks[path, size] = tuple(
                FilePart(path, first, last) for first, last in chunk(text, size, path=path)
            ) or (FilePart(path),)
        return self._chunks[path, size]

    def _paths(self, patterns: tuple[str, ...] | None, is_sifted: bool) -> list[str]:
        if patterns not in self._selected:
            paths = self.tree.paths
            self._selected[patterns] = paths if patterns is None else match(patterns, paths)
        return [path for path in self._selected[patterns] if self._keeps(path, is_sifted)]

    def _keeps(self, path: str, is_sifted: bool) -> bool:
        known = self._sources if is_sifted else self._safe
        if path not in known:
            known[path] = self._why_not(path, is_sifted)
        why = known[path]
        if why is not None:
            self.skipped[path.encode("utf-8", "backslashreplace").decode()] = why
        return why is None

    def _why_not(self, path: str, is_sifted: bool) -> str | None:
        if not path.isascii() and any("\ud800" <= char <= "\udfff" for char in path):
            return "its name is not UTF-8"
        root = self.tree.root
        full = os.path.join(root, path)  # noqa: PTH118  # texts: there are thousands
        if is_sifted:
            return triage(full, root=root, folders=self._folders, seen=self.seen)
        return triage_safety(full, root, folders=self._folders)


def _is_review(task: Task) -> bool:
    """Say whether a task reads its files as source; where only its template says what comes out, it does."""
    return task.output == "findings" or (task.output is None and task.template is not None and not task.edits)


class _Ties:
    """What each task comes after, as tasks; then, item by item or as a whole, as instances."""

    def __init__(
        self,
        tasks: Sequence[Task],
        items: dict[str, tuple[_Item, ...]],
        phase_of: dict[str, int],
        is_pipeline: bool,
    ) -> None:
        self._items = items
        self._tasks = {task.id: task for task in tasks}
        self._suffixes: dict[int, frozenset[str]] = {}
        self._before = {task.id: self._named(task) for task in tasks}
        self._stage_before: dict[str, str] = {}
        if is_pipeline:
            self._add_stages(tasks, phase_of)

    def refuse_cycle(self) -> None:
        """Raise `UsageError` that prints the cycle, if tasks wait for each other."""
        cycle = find_cycle(self._before)
        if cycle:
            advice = "in a pipeline each task comes after the one before it" if self._stage_before else None
            raise UsageError(f"tasks wait for each other: {' → '.join(cycle)}", next=advice)

    def ids(self, name: str) -> tuple[str, ...]:
        """The ids of a task's instances."""
        return tuple(name + item.suffix for item in self._items[name])

    def instances(
        self, task: Task, phase: int, barriers: tuple[str, ...], gates: tuple[str, ...], first: int
    ) -> Iterator[Instance]:
        """Make a task's instances, numbered from `first`; `gates` are those of earlier phases."""
        own = task.id
        pairs, singles, wholes = self._sorted_out(task) if self._before[own] else ((), (), ())
        awaits, singles = (*wholes, *barriers), (*singles, *gates)
        for index, item in enumerate(self._items[own], start=first):
            depends_on = (*singles, *(name + item.suffix for name in pairs)) if pairs else singles
            yield Instance(own + item.suffix, task, index, item.files, depends_on, awaits, phase)

    def _named(self, task: Task) -> tuple[str, ...]:
        for name in task.depends_on:
            if name not in self._items:
                raise UsageError(f"`{task.id}` depends on `{name}`, which is no task of the plan")
        return task.depends_on

    def _add_stages(self, tasks: Sequence[Task], phase_of: dict[str, int]) -> None:
        latest: dict[int, str] = {}
        for task in tasks:
            phase = phase_of.get(task.id, 0)
            before = latest.get(phase)
            if before is not None and before not in self._before[task.id]:
                self._stage_before[task.id] = before
                self._before[task.id] = (*self._before[task.id], before)
            latest[phase] = task.id

    def _sorted_out(self, task: Task) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
        """Split what a task comes after: paired item by item, a single instance, awaited as a whole."""
        pairs: list[str] = []
        singles: list[str] = []
        wholes: list[str] = []
        for name in self._before[task.id]:
            items = self._items[name]
            if self._is_paired(task, name):
                pairs.append(name)
            elif len(items) == 1:
                singles.append(name + items[0].suffix)
            else:
                wholes.append(name)
        return tuple(pairs), tuple(singles), tuple(wholes)

    def _is_paired(self, task: Task, name: str) -> bool:
        """Same `each` over the same files; in a pipeline it is enough that the stage before has them all."""
        mine, theirs = self._items[task.id], self._items[name]
        if task.each is None or task.each != self._tasks[name].each:
            return False
        if mine is theirs or mine == theirs:
            return True
        return self._stage_before.get(task.id) == name and self._suffixes_of(mine) <= self._suffixes_of(
            theirs
        )

    def _suffixes_of(self, items: tuple[_Item, ...]) -> frozenset[str]:
        if id(items) not in self._suffixes:
            self._suffixes[id(items)] = frozenset(item.suffix for item in items)
        return self._suffixes[id(items)]


def _barriers(phases: Sequence[Phase], items: dict[str, tuple[_Item, ...]]) -> list[tuple[str, ...]]:
    """For each phase the groups that its tasks await.

    A phase with a barrier awaits the ones before it itself, so the last one is enough, unless it has no
    instance that could wait.
    """
    awaited: tuple[str, ...] = ()
    barriers: list[tuple[str, ...]] = []
    for number, phase in enumerate(phases):
        for name in phase.tasks:
            if name not in items:
                raise UsageError(f"the phase `{phase.name}` names `{name}`, which is no task of the plan")
        barriers.append(awaited)
        if phase.barrier:
            has_instances = any(items[name] for name in phase.tasks)
            awaited = (f"phase:{number}",) if has_instances else (*awaited, f"phase:{number}")
    return barriers


def gate_id(phase: Phase) -> str:
    """The id under which a phase's gate is carried out and shown."""
    return f"gate@{phase.name}"


def _gates_before(phases: Sequence[Phase]) -> list[tuple[str, ...]]:
    """For each phase the gates that its tasks depend on: of the last phase before it with a gate and a barrier."""
    before: tuple[str, ...] = ()
    found: list[tuple[str, ...]] = []
    for phase in phases:
        found.append(before)
        if phase.gate and phase.barrier:
            before = (gate_id(phase),)
    return found


def _gate_instances(
    phases: Sequence[Phase], barriers: list[tuple[str, ...]], gates: list[tuple[str, ...]], first: int
) -> Iterator[Instance]:
    index = first
    for number, phase in enumerate(phases):
        if phase.gate:
            name = gate_id(phase)
            task = PhaseGate.model_construct(
                id=name,
                kind="gate",
                description=f"The gate of phase {phase.name}",
                commands=phase.gate,
                pass_rate=phase.pass_rate,
            )
            awaits = (*barriers[number], f"phase:{number}")
            yield Instance(name, task, index, (), gates[number], awaits, number)
            index += 1


def _groups(
    instances: Sequence[Instance], ties: _Ties, phases: Sequence[Phase]
) -> dict[str, tuple[str, ...]]:
    """Give the members of every group that somebody awaits, and of every phase."""
    names = dict.fromkeys(name for instance in instances for name in instance.awaits)
    groups = {name: ties.ids(name) for name in names if not name.startswith("phase:")}
    members: dict[int, list[str]] = {number: [] for number in range(len(phases))}
    for instance in instances:
        if phases and not isinstance(instance.task, PhaseGate):
            members[instance.phase].append(instance.id)
    return groups | {f"phase:{number}": tuple(ids) for number, ids in members.items()}
