"""What a run is given: everything that is decided before its first task starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from parallelai.engines.protocol import Engine
from parallelai.plan.graph import Instance, TaskGraph
from parallelai.plan.model import Budget, Choice, EngineEntry, Plan, Workstream
from parallelai.plan.templates import Template
from parallelai.records import ErrorRecord, LimitKey, Severity
from parallelai.results.rank import TrackRecord
from parallelai.run.scheduling.strategies import Strategy


class LimitMemory(Protocol):
    """What was learned in earlier runs: of a key's limit, in calls at once, and of sessions' memory, in bytes."""

    def last_good_limit(self, key: LimitKey) -> int | None: ...
    def keep_limit(self, key: LimitKey, limit: int) -> None: ...
    def session_memory(self, engine: str) -> int | None: ...
    def keep_session_memory(self, engine: str, taken: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Assignment:
    """Who does the instances of one plan task, or one instance.

    `models` are the members' models, in the order of `choice.members`; `why` is "plan", "argument", "config" or
    "auto". With an `error` nobody can do it: the task ends blocked.
    """

    choice: Choice
    models: tuple[str | None, ...] = ()
    why: str = "auto"
    error: ErrorRecord | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A run's plan, who does what, and its limits.

    `places` gives a task's place in its plan file (`tasks.yaml:9:5`). `is_cacheable` is False for
    `--no-cache`; `parallel` is the ceiling of attempts in flight. `baseline` are ids of findings that were
    accepted before. `has_workspaces`: attempts can be given folders to work in. `is_applied`: changes go into
    the user's checkout at the end. `is_attended`: somebody is there to answer questions. `editing` are the
    instances whose result is a change, `hands` the engines that work in folders of their own. `record` is how
    reviewers did before. `memory_bytes` is what attempts may take together, `session_memory` what one of an
    engine's sessions took before. `performed` are workstreams whose work is done and has only to land; `left`
    are those that are not to be done, and why.
    """

    run: str
    kind: str
    plan: Plan
    name: str | None
    graph: TaskGraph
    root: Path
    logs: Path
    assignments: Mapping[str, Assignment]
    engines: Callable[[str], Engine]
    entries: Mapping[str, EngineEntry]
    templates: Mapping[str, Template]
    strategy: Strategy
    parallel: int
    budget: Budget
    concurrency: Mapping[str, int] = field(default_factory=dict)
    variables: Mapping[str, Any] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)
    estimates: Mapping[str, float] = field(default_factory=dict)
    is_cacheable: bool = True
    fail_on: Severity | None = None
    baseline: frozenset[str] = frozenset()
    has_workspaces: bool = False
    is_applied: bool = False
    is_attended: bool = False
    editing: frozenset[str] = frozenset()
    hands: frozenset[str] = frozenset()
    record: TrackRecord = field(default_factory=dict)
    memory: LimitMemory | None = None
    memory_bytes: int | None = None
    session_memory: Mapping[str, int] = field(default_factory=dict)
    performed: frozenset[str] = frozenset()
    left: Mapping[str, str] = field(default_factory=dict)

    @property
    def has_streams(self) -> bool:
        """Whether some of its tasks are workstreams."""
        return self.graph.has(Workstream)

    @property
    def has_leave(self) -> bool:
        """Whether some of its tasks wait for a person's leave."""
        return any(instance.task.approve for instance in self.graph.instances)

    def assignment(self, instance: Instance) -> Assignment:
        """Who does this instance: what its task says, unless a route told its files apart."""
        return self.assignments.get(instance.id) or self.assignments[instance.task.id]

    def changes_before(self, instance: str) -> tuple[str, ...]:
        """Name the instances whose changes an instance has to see: all that edit and come before it."""
        if not self.editing:
            return ()
        found: dict[str, None] = {}
        seen: set[str] = set()
        left = [instance]
        while left:
            one = self.graph.get(left.pop())
            awaited = (item for group in one.awaits for item in self.graph.groups[group])
            for name in (*one.depends_on, *awaited):
                if name in seen:
                    continue
                seen.add(name)
                left.append(name)
                if name in self.editing:
                    found[name] = None
        return tuple(sorted(found, key=lambda name: self.graph.get(name).index))
