"""Make a task ready to start: does it run at all, is its result known, what is its prompt."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from parallelai.engines.protocol import OutputKind, Request
from parallelai.errors import ParallelAIError
from parallelai.plan.graph import Instance
from parallelai.plan.model import EngineEntry, Role, SchemaOutput, Task, Workstream
from parallelai.plan.prompt import TaskView, evaluate, render
from parallelai.plan.resolve import workspace_of
from parallelai.plan.roles import told_by
from parallelai.plan.templates import Template
from parallelai.records import ErrorRecord, Finding, Outcome, Reply
from parallelai.results import quotes
from parallelai.run.approving import told_before
from parallelai.run.closing import is_model, read_source
from parallelai.run.fingerprint import (
    EntryDigests,
    FileDigests,
    definition_digest,
    doers_digest,
    fingerprint,
    reply_digest,
)
from parallelai.run.job import Assignment, Job
from parallelai.run.resume import Prior
from parallelai.run.scheduling.nodes import Settled

NOBODY = ("", None)
"""The engine and the model of a phase's gate."""


class Ready(NamedTuple):
    """A task that can start: the request of its first attempt, by the first member, and its fingerprint.

    Most tasks have no other; those of others are copies of it.
    """

    request: Request
    fingerprint: str


class TaskViews(Mapping[str, TaskView]):
    """What prompts and conditions see of the tasks that have ended, by plan task or instance.

    A view is made when it is asked for: most tasks are never looked at by another.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._outcomes: dict[str, Outcome] = {}
        self._replies: dict[str, Reply] = {}
        self._digests: dict[str, str] = {}
        self._views: dict[str, TaskView] = {}

    def adopt(self, job: Job) -> None:
        """Go on with a job that has more tasks."""
        self._job = job

    def ended(self, instance: str, outcome: Outcome, reply: Reply | None) -> None:
        """Remember how an instance ended."""
        self._outcomes[instance] = outcome
        if self._views:
            self._views.pop(instance, None)
            self._views.pop(self._job.graph.get(instance).task.id, None)
        self._digests.pop(instance, None)  # it may have been done again
        self._replies.pop(instance, None)
        if reply is not None:
            self._replies[instance] = reply

    def digest(self, instance: str) -> str:
        """Hash what dependents see of an instance."""
        reply = self._replies.get(instance)
        if reply is None:
            return str(self._outcomes.get(instance, "none"))
        known = self._digests.get(instance)
        if known is None:
            known = self._digests[instance] = reply_digest(reply)
        return known

    def __getitem__(self, name: str) -> TaskView:
        known = self._views.get(name)
        if known is None:
            known = self._views[name] = self._whole(name)
        return known

    def _whole(self, name: str) -> TaskView:
        items = self._job.graph.items(name)
        if not items:
            raise KeyError(name)
        is_spread = self._job.graph.get(items[0]).task.each is not None and items != (name,)
        replies = [self._replies[item] for item in items if item in self._replies]
        outcomes = {self._outcomes[item] for item in items if item in self._outcomes}
        worst = Outcome.OK if outcomes <= {Outcome.OK} else next(iter(sorted(outcomes - {Outcome.OK})))
        return TaskView(
            text="\n\n".join(reply.text for reply in replies if reply.text),
            findings=tuple(finding for item in items for finding in self._findings(item)),
            items=tuple(self._view(item) for item in items) if is_spread else (),
            outcome=str(worst),
        )

    def _view(self, item: str) -> TaskView:
        reply = self._replies.get(item)
        outcome = str(self._outcomes.get(item, ""))
        if reply is None:
            return TaskView(text="", findings=(), items=(), outcome=outcome)
        return TaskView(text=reply.text or "", findings=self._findings(item), items=(), outcome=outcome)

    def _findings(self, item: str) -> tuple[Finding, ...]:
        """What is left of an instance's findings: not what was refuted, nor what quotes code that is nowhere.

        Of one that looked at the changes of others the quotes were looked up where these are.
        """
        reply, job = self._replies.get(item), self._job
        if reply is None or not reply.findings:
            return ()
        found = [one for one in reply.findings if one.state == "open"]
        must_quote = all(is_model(job, name) for name in job.assignment(job.graph.get(item)).choice.members)
        if job.changes_before(item) or not (must_quote or any(one.quote for one in found)):
            return tuple(found)
        return quotes.place(
            found, functools.partial(read_source, job.root, {}), must_quote=must_quote
        ).findings

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(str(instance.task.id) for instance in self._job.graph.instances))

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Preparation:
    """Prepares tasks of one job. Reads files; calls no engine."""

    def __init__(self, job: Job, prior: Prior, base_digest: Callable[[str], str] | None = None) -> None:
        """`base_digest` gives the content hash of a file in the run's base, for tasks that edit."""
        self.views = TaskViews(job)
        self._base_digest = base_digest
        self._root = str(job.root)
        self._job = job
        self._prior = prior
        self._files = FileDigests(job.root, prior.written, job.graph.seen)
        self._entries = EntryDigests()
        self._definitions: dict[tuple[str, tuple[str, ...]], str] = {}
        self._doers: dict[int, tuple[Assignment, str]] = {}  # by identity, which holds while it is kept here

    @property
    def files(self) -> FileDigests:
        """The content hashes of the project's files, as first read."""
        return self._files

    @property
    def entries(self) -> EntryDigests:
        """The hashes of the engines' entries."""
        return self._entries

    def adopt(self, job: Job) -> None:
        """Go on with a job that has more tasks."""
        self._job = job
        self.views.adopt(job)

    def prepare(self, instance: Instance) -> Ready | Settled:
        """Decide what becomes of a task whose dependencies have ended.

        Returns:
            `Settled` if nothing is to be done: its condition is false, nobody can do it, or its result is
            known from before; otherwise its request.
        """
        try:
            if instance.id in self._job.left:
                return Settled(Outcome.SKIPPED, why=self._job.left[instance.id])
            if instance.task.when is not None and not self._holds(instance):
                return Settled(Outcome.SKIPPED, why="its `when` does not hold")
            mark = self.fingerprint(instance)
            if not isinstance(instance.task, Workstream) and self._prior.kept(instance.id, mark) is not None:
                return Settled(Outcome.OK)
            who = self._job.assignment(instance)
            if who.error is not None:
                return Settled(Outcome.BLOCKED, who.error)
            return Ready(self._request(instance, who), mark)
        except ParallelAIError as failure:
            record = ErrorRecord("invalid", failure.said, failure.where, failure.next)
            return Settled(Outcome.FAILED, record)

    def fingerprint(self, instance: Instance) -> str:
        """Hash what the result of a task depends on; its dependencies must have ended."""
        graph = self._job.graph
        awaited = (
            item
            for group in instance.awaits
            if not group.startswith("phase:")
            for item in graph.groups[group]
        )
        names = [*instance.depends_on, *awaited]
        dependencies = ((name, self.views.digest(name)) for name in names)
        is_based = instance.task.edits and self._base_digest is not None
        files = self._base_digest if is_based and self._base_digest else self._files.of
        return fingerprint(instance, self._definition(instance), files, dependencies)

    def _holds(self, instance: Instance) -> bool:
        return evaluate(str(instance.task.when), self.views, self._job.variables, instance)

    def _definition(self, instance: Instance) -> str:
        """Hash what the plan says of a task; once for all its instances, and for each choice of who does them."""
        task, who = instance.task, self._job.assignment(instance)
        if task.each is None:  # it has no other instance
            return self._digest(task, who)
        name = (task.id, who.choice.members)
        known = self._definitions.get(name)
        if known is None:
            known = self._definitions[name] = self._digest(task, who)
        return known

    def _digest(self, task: Task, who: Assignment) -> str:
        return definition_digest(
            task, self._template(task), self._doers_of(who), self._job.variables, self._role(task)
        )

    def _doers_of(self, who: Assignment) -> str:
        """Hash who does a task: once for each assignment, which thousands of tasks may share."""
        known = self._doers.get(id(who))
        if known is None:
            members = [
                (member, self._entries.of(self._job.entries.get(member)), model)
                for member, model in zip(who.choice.members, who.models, strict=True)
            ]
            known = self._doers[id(who)] = (who, doers_digest(who.choice, members))
        return known[1]

    def _role(self, task: Task) -> Role | None:
        return self._job.plan.roles.get(task.role) if task.role is not None else None

    def _template(self, task: Task) -> Template | None:
        return self._job.templates[task.template] if task.template is not None else None

    def _request(self, instance: Instance, who: Assignment) -> Request:
        """The request of the first attempt that this process makes, by the first of who does the task."""
        job, prior, task = self._job, self._prior, instance.task
        template, workspace = self._template(task), workspace_of(job.plan, task)
        prompt = render(instance, template=template, root=job.root, tasks=self.views, vars=job.variables)
        output, schema = output_of(task, template)
        refused = prior.leave.refused.get(instance.id)
        engine, model = next(zip(who.choice.members, who.models, strict=True), NOBODY)
        wall, idle = timeouts(task, job.entries.get(engine))
        attempt = prior.attempts.get(instance.id, 0) + 1
        return Request(
            run=job.run,
            task=instance.id,
            attempt=attempt,
            root=self._root,
            prompt=prompt.text + (told_before(refused) if refused is not None else ""),
            shared=prompt.shared,
            files_at=prompt.files_at,
            files=instance.files,
            output=output,
            schema=schema,
            model=model,
            repeat=prior.repeats.get(instance.id, 0),
            log=log_of(job, instance, attempt),
            timeout_seconds=wall,
            idle_timeout_seconds=idle,
            grace_seconds=job.plan.limits.grace,
            env=dict(workspace.env),
            pass_env=workspace.pass_env,
            checklist=task.checklist,
            **_of_role(self._role(task), task),
        )


def log_of(job: Job, instance: Instance, attempt: int) -> str:
    """The file for what an attempt prints."""
    return f"{job.logs}/output/{instance.index}-{attempt}.log"


def _of_role(role: Role | None, task: Task) -> dict[str, Any]:
    """What a role adds to its tasks' requests.

    A workstream's role is told in its context, after what all workstreams share: instructions come before
    the prompt, and what differs there would leave nothing for a provider to cache.
    """
    if role is None:
        return {}
    return {
        "instructions": None if isinstance(task, Workstream) else told_by(role, edits=task.edits),
        "temperature": role.temperature,
        "max_tokens": role.max_tokens,
    }


def output_of(task: Task, template: Template | None) -> tuple[OutputKind, dict[str, object] | None]:
    """Say what a task's reply has to be: its own word, else its template's, else text (a change if it edits)."""
    output = task.output if task.output is not None else (template.output if template is not None else None)
    if isinstance(output, SchemaOutput):
        return "schema", dict(output.schema_)
    if output is not None:
        return output, None
    return ("change" if task.edits else "text"), None


def timeouts(task: Task, entry: EngineEntry | None) -> tuple[float, float]:
    """The attempt's time-out and idle time-out in seconds: the task's own word, else the engine's."""
    if entry is None or (entry.timeout is None and entry.idle_timeout is None):
        return task.timeout, task.idle_timeout
    given = task.model_fields_set
    wall = task.timeout if "timeout" in given or entry.timeout is None else entry.timeout
    idle = task.idle_timeout if "idle_timeout" in given or entry.idle_timeout is None else entry.idle_timeout
    return wall, idle
