"""Turn a job into what the scheduler takes, nodes and settings, and what the journal says of its tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from parallelai.engines.protocol import Request
from parallelai.events import TaskExpanded
from parallelai.plan.graph import Instance
from parallelai.plan.model import PhaseGate, Task, Workstream
from parallelai.plan.roles import forbidden_by
from parallelai.records import FileNote, LimitKey, Usage
from parallelai.run.job import Assignment, Job
from parallelai.run.preparation import output_of
from parallelai.run.scheduling.nodes import Allowance, Member, Node, RoleLimit, Rule
from parallelai.run.scheduling.settings import Settings
from parallelai.run.steps import PERFORM, Step
from parallelai.run.workspaces import HOMELESS, PLAIN, Work

LEAST_WEIGHT = 0.01
USUAL_SECONDS = 60.0
"""What a task is taken to last that nobody knows anything of."""
_NOTHING: frozenset[str] = frozenset()  # one for all: most tasks say nothing


class _Course(NamedTuple):
    """The steps of a task, and what the scheduler has to know of them; see `Node`."""

    steps: tuple[str, ...]
    unslotted: frozenset[str]
    finish_step: int


def nodes_of(
    job: Job, instances: Iterable[Instance], steps: Sequence[Step], key_of: Callable[[str, Request], LimitKey]
) -> list[Node]:
    """Make the scheduler's nodes of instances, in plan order.

    Args:
        steps: all that are registered; each instance gets those that apply to it.
        key_of: gives the limit that an engine's requests count for.
    """
    nodes = _Nodes(job, steps, key_of)
    return [nodes.node(instance) for instance in instances]


class _Nodes:
    """Makes nodes. What thousands of them have in common is made once."""

    def __init__(self, job: Job, steps: Sequence[Step], key_of: Callable[[str, Request], LimitKey]) -> None:
        self._job = job
        self._steps = steps
        self._key_of = key_of
        self._unslotted = frozenset(step.kind for step in steps if getattr(step, "is_unslotted", False))
        self._members: dict[tuple[tuple[str, ...], tuple[str | None, ...]], tuple[Member, ...]] = {}
        self._courses: dict[tuple[str, ...], _Course] = {}

    def node(self, instance: Instance) -> Node:
        task, who = instance.task, self._job.assignment(instance)
        course = self._course(instance)
        rule: Rule = "one" if who.choice.rule == "route" else who.choice.rule
        return Node(
            id=instance.id,
            index=instance.index,
            depends_on=instance.depends_on,
            awaits=instance.awaits,
            steps=course.steps,
            rule=rule,
            members=() if who.error is not None else self._members_of(who, instance),
            estimate_seconds=self._job.estimates.get(
                task.id, task.estimate if task.estimate is not None else USUAL_SECONDS
            ),
            weight=max(task.priority, LEAST_WEIGHT),
            retries=task.retries,
            retry_on=frozenset(_kind(kind) for kind in task.retry_on) if task.retry_on else _NOTHING,
            on_failure=task.on_failure,
            phase=instance.phase,
            role=_role_limit(self._job, task),
            budget=task.budget,
            unslotted=course.unslotted,
            finish_step=course.finish_step,
            after_finish=_finish_is_enough(self._job, instance),
        )

    def _members_of(self, who: Assignment, instance: Instance) -> tuple[Member, ...]:
        key = (who.choice.members, who.models)
        known = self._members.get(key)
        if known is None:
            known = self._members[key] = tuple(
                Member(name, self._key_of(name, _blank(self._job, instance, model)))
                for name, model in zip(who.choice.members, who.models, strict=True)
            )
        return known

    def _course(self, instance: Instance) -> _Course:
        kinds = tuple([step.kind for step in self._steps if step.applies(instance)])
        begun = self._job.performed if isinstance(instance.task, Workstream) else ()
        is_performed = isinstance(instance.task, PhaseGate) or instance.id in begun
        own = kinds if is_performed else (PERFORM, *kinds)
        known = self._courses.get(own)
        if known is None:
            finish = next((at for at, kind in enumerate(own) if kind in self._unslotted), 0)
            known = self._courses[own] = _Course(own, self._unslotted & frozenset(own), finish)
        return known


def _role_limit(job: Job, task: Task) -> RoleLimit | None:
    """How many attempts of a task's role may be in flight at once; None where the role does not say."""
    role = job.plan.roles.get(task.role) if task.role is not None else None
    if role is None or role.limits is None or role.limits.parallel is None:
        return None
    return RoleLimit(task.role or "", role.limits.parallel)


def _finish_is_enough(job: Job, instance: Instance) -> frozenset[str]:
    """The workstreams whose work is enough for a task (`after: finished`); else they have to have landed."""
    if instance.task.after != "finished":
        return _NOTHING
    others = (job.graph.get(name) for name in instance.depends_on)
    return frozenset(other.id for other in others if isinstance(other.task, Workstream))


def works_in_folder(job: Job, instance: Instance) -> bool:
    """Say whether somebody who may do a task works in a folder of its own: edits do, and assistants."""
    if not job.has_workspaces:
        return False
    return instance.task.edits or any(
        _has_hands(job, name) for name in job.assignment(instance).choice.members
    )


def _has_hands(job: Job, engine: str) -> bool:
    return engine in job.hands


def work_of(job: Job, instance: Instance, engine: str) -> Work:
    """Say what an attempt of a task does beside answering its prompt; most do nothing."""
    task, entry = instance.task, job.entries.get(engine)
    is_placed = job.has_workspaces and (task.edits or bool(job.editing) or _has_hands(job, engine))
    is_command = entry is not None and entry.use == "command"
    if not job.has_workspaces and not is_command and _has_hands(job, engine):
        return HOMELESS
    if not is_placed and not task.todo and not task.verify:
        return PLAIN
    return Work(
        sandbox=entry.sandbox if entry is not None else "auto",
        network=entry.network if entry is not None else None,
        edits=task.edits,
        todo=task.todo,
        checks=task.checks if works_in_folder(job, instance) else (),
        is_empty_ok=task.empty == "ok",
        after=job.changes_before(instance.id),
        number=instance.index,
        verify=_verifier(task, engine),
        avoids=forbidden_by(job.plan.roles.get(task.role or "")) if task.edits else (),
        is_stream=isinstance(task, Workstream),
    )


def _verifier(task: Task, engine: str) -> str | None:
    """Who tries to refute a task's findings: another engine, or the same one, asked anew."""
    if isinstance(task.verify, bool):
        return engine if task.verify else None
    return task.verify.members[0]


def _kind(word: str) -> str:
    """The error kind that a plan's `retry_on` means."""
    return {"timeout": "timed_out"}.get(word, word)


def _blank(job: Job, instance: Instance, model: str | None) -> Request:
    """A request that has all that a limit key can depend on."""
    return Request(run=job.run, task=instance.id, attempt=0, root=str(job.root), prompt="", model=model)


def key_of(job: Job, engine: str, request: Request) -> LimitKey:
    """Give the limit that a request counts for; what cannot say so has one of its own."""
    try:
        return job.engines(engine).limit_key(request)
    except Exception:  # missing, or other people's code with a bug: the attempt will say so
        return LimitKey(engine)


def settings_of(
    job: Job,
    spent: Usage,
    spent_seconds: float,
    is_crowded: Callable[[LimitKey, int], bool] | None = None,
) -> Settings:
    """Make the scheduler's settings; `spent` is what earlier processes of this run used, as far as known."""
    limits = job.plan.limits
    phases = {
        number: phase.parallel for number, phase in enumerate(job.graph.phases) if phase.parallel is not None
    }
    return Settings(
        parallel=job.parallel,
        concurrency=job.concurrency,
        phase_parallel=phases,
        strategy=job.strategy,
        budget=job.budget,
        on_budget=limits.on_budget,
        max_wait_seconds=limits.max_wait,
        memory_bytes=job.memory_bytes,
        spent=Allowance(usd=spent.usd, tokens=spent.tokens, time=spent_seconds),
        is_crowded=is_crowded,
    )


def expansion(job: Job, instances: Sequence[Instance], skipped: tuple[FileNote, ...]) -> TaskExpanded:
    """Make the event that tells of instances, and of the files that were left out."""
    files = {
        instance.id: tuple(dict.fromkeys(part.path for part in instance.files))
        for instance in instances
        if instance.files
    }
    editing = tuple(instance.id for instance in instances if instance.files and instance.task.edits)
    is_review = any(
        output_of(instance.task, job.templates.get(instance.task.template or ""))[0] == "findings"
        for instance in instances
    )
    items = tuple(instance.id for instance in instances)
    return TaskExpanded(items, files, skipped, editing=editing, is_review=is_review)
