"""Reviews and plans carried out: from what was asked to a job, the rooms that it needs, and its runner."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import parallelai
from parallelai.client import batches, recorded
from parallelai.client.destinations import Known, Yes, heading
from parallelai.client.engines import require
from parallelai.client.folders import workspaces_for
from parallelai.client.growing import Growing
from parallelai.client.in_checkout import as_it_is
from parallelai.client.jobs import Builder
from parallelai.client.notes import notes_of, of_ignored
from parallelai.client.options import CarryOut
from parallelai.client.project import OpenProject
from parallelai.client.ready import with_ready
from parallelai.client.reviews import ReviewOptions, listed_files, nothing_to_do, review_name
from parallelai.client.rooms import (
    approvals_of,
    places_of,
    refuse_renamed,
    refuse_without_git,
    room_for,
    steer_of,
    steps_of,
    taken_up,
)
from parallelai.client.secrets import masker_of
from parallelai.client.variables import refuse_unused
from parallelai.client.workstreams.gates_of_config import TO_RUN, refuse_ignored_gate
from parallelai.errors import BusyError, UsageError
from parallelai.events import Event, EventData, RunCreated
from parallelai.plan import load
from parallelai.plan.files import Tree
from parallelai.plan.graph import TaskGraph
from parallelai.plan.model import Plan, Workstream, positions
from parallelai.records import RunDocument, new_run_id
from parallelai.results import baseline
from parallelai.run.approving import Approvals
from parallelai.run.asking import Questions
from parallelai.run.collector import collecting_seldom
from parallelai.run.job import Job
from parallelai.run.keeping import asked_again
from parallelai.run.masking import Masker
from parallelai.run.report import Report
from parallelai.run.resume import Answered, Prior
from parallelai.run.resume import read as read_prior
from parallelai.run.runner import Runner
from parallelai.run.workspaces import Workspaces
from parallelai.store import RunWriter
from parallelai.work.scratch.confined import is_confined

if TYPE_CHECKING:
    from parallelai.client.workstreams.askers import PortsOf
    from parallelai.work.opening import Ports
    from parallelai.work.room import Room
    from parallelai.work.scratch.workspaces import RunWorkspaces
    from parallelai.work.streams.worktrees import Started


@dataclasses.dataclass(frozen=True, slots=True)
class _Asked:
    """What is to be carried out, as what.

    Attributes:
        kind: `review` or `execute`.
        name: what it is known by; None for a plan that is not a file.
        run: the run that is gone on with; None for a new one.
        review: what a review is about.
        named: what this call asked for by `only`, whatever the run was asked for before.
        engines: those that this call names, whatever the run was asked for before.
    """

    kind: str
    name: str | None
    plan: Plan
    graph: TaskGraph
    run: str | None
    review: ReviewOptions | None = None
    named: Sequence[str] = ()
    engines: Sequence[str] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class _Rooms:
    """What is open while a run lives; `notes` are what the user has to be told of it."""

    masker: Masker
    workspaces: RunWorkspaces | None
    questions: Questions
    streams: Room | None
    approvals: Approvals
    notes: tuple[str, ...]

    @property
    def places(self) -> Workspaces | None:
        """The folders that attempts work in; None where they work in the project's."""
        return places_of(self.streams, self.workspaces)


class _Past:
    """What earlier processes of a run did; nothing of a new one."""

    def __init__(self) -> None:
        self.prior, self.report, self.known = Prior(), Report(), Known()

    def read(self, events: Iterable[Event]) -> None:
        """Learn the events of the run."""
        self.prior = read_prior(self._reported(events))

    def _reported(self, events: Iterable[Event]) -> Iterator[Event]:
        for event in events:
            self.report.take(event)
            self.known.take(event)
            yield event


class Carrier:
    """Carries out the reviews and plans of a project; several may be under way at once."""

    def __init__(self, project: OpenProject, ports: PortsOf) -> None:
        self._project = project
        self._ports = ports
        self._runners: set[Runner] = set()

    def interrupt(self, signal: int) -> bool:
        """Stop what is being carried out; see `Runner.interrupt`. False if nothing is."""
        for runner in list(self._runners):
            runner.interrupt(signal)
        return bool(self._runners)

    # -- reviews

    async def review(self, options: ReviewOptions, carry: CarryOut) -> RunDocument:
        """Carry a review out."""
        tree = await listed_files(self._project, options)
        if not tree.paths:
            return nothing_to_do()
        engines = _members(carry)
        name = _review_name(options, carry)
        run, given = self.before(options, carry), carry.variables
        carry = self._as_before(run, carry)
        async with self._builder(carry, {}, run, tree=tree) as builder:
            plan, graph = batches.review_graph(builder, options)
            refuse_unused(self._project, plan, given)
            asked = _Asked("review", name, plan, graph, run, options, engines=engines)
            return await self._carry_out(builder, asked)

    def before(self, options: ReviewOptions, carry: CarryOut) -> str | None:
        """The run that a review would go on with, by engines that are chosen already; None for a new one."""
        if not carry.is_resume or carry.is_new:
            return None
        return self._latest(_review_name(options, carry), "review")

    async def preview(self, options: ReviewOptions, carry: CarryOut) -> tuple[list[str], list[str], str]:
        """Say what a review would do: its files, the engines, and why they would be taken."""
        tree = await listed_files(self._project, options)
        if not tree.paths:
            return [], [], "nothing"
        async with self._builder(carry, {}, tree=tree) as builder:
            plan, graph = batches.review_graph(builder, options)
            refuse_unused(self._project, plan, carry.variables)
            who = builder.job("preview", "review", None, plan, graph).assignment(graph.instances[0])
            return list(tree.paths), list(who.choice.members) if not who.error else [], who.why

    # -- plans

    async def plan(self, plan: Plan, name: str | None, carry: CarryOut) -> RunDocument:
        """Carry a plan out. Raises `PlanError` for one that this version cannot carry out."""
        if positions(plan).finished:
            return nothing_to_do(name)
        run = self._latest(name, "execute") if name and carry.is_resume and not carry.is_new else None
        named, engines = carry.only, _members(carry)
        carry = self._as_before(run, carry)
        async with self._builder(carry, plan.engines, run) as builder:
            builder.checked(plan)
            graph = builder.graph(plan)
            asked = _Asked("execute", name, plan, graph, run, named=named, engines=engines)
            return await self._carry_out(builder, asked)

    async def start(self, plan: Plan, name: str, names: Sequence[str]) -> list[Started]:
        """Make the worktrees of a plan's workstreams, without their assistants."""
        if positions(plan).finished:
            return []
        if not self._project.has_git:
            return await self._start(plan, name, names)  # which says so, and writes nothing before
        from parallelai.work.streams.locks import starting

        async with starting(self._project.state, name) as has_waited:
            first, *rest = await self._start(plan, name, names)
        waited = ("another start of this plan was waited for",) if has_waited else ()
        return [dataclasses.replace(first, notes=(*waited, *first.notes)), *rest]

    async def _start(self, plan: Plan, name: str, names: Sequence[str]) -> list[Started]:
        run = self._latest(name, "execute")
        if run is not None and self._project.store.journal.is_owned(run):
            raise BusyError(
                f"run `{run}` is carried out, and starts them itself", next="`parallelai work status`"
            )
        carry = CarryOut()
        async with self._builder(carry, plan.engines, run) as builder, contextlib.AsyncExitStack() as stack:
            builder.checked(plan)
            job = builder.job(run or new_run_id(), "execute", name, plan, builder.graph(plan))
            refuse_without_git(self._project, job.graph)
            refuse_renamed(self._project, name, job.graph.only(names), is_anew=True)
            writer = await stack.enter_async_context(self._project.store.journal.writer(job.run))
            if run is None:
                writer.append(self._creation(job, plan, carry, None))
            masker = masker_of(job)
            notes = of_ignored(self._project)
            room = await stack.enter_async_context(
                room_for(self._project, job, writer, masker, _no_ports, notes.append)
            )
            if room is None:
                raise UsageError(
                    f"`{name}` has no workstreams", next=f"`parallelai execute {name}` runs its tasks"
                )
            started = [await room.site.start(each) for each in names]
            # They are about what this call made: what was there was cut from another base.
            return [dataclasses.replace(it, notes=(*notes, *it.notes)) if it.is_new else it for it in started]

    # -- both

    async def resume(self, run: str, carry: CarryOut) -> RunDocument:
        """Go on with a run of any kind, from what it recorded (`runs resume`)."""
        engines, given = _members(carry), carry.variables
        carry = self._as_before(run, carry)
        created = recorded.created(self._project.store.journal, run)
        if created.kind == "review":
            options = recorded.review_options(created)
            plan = recorded.plan_of(created, self._project.settings.vars)
            refuse_unused(self._project, plan, given)
            tree = await listed_files(self._project, options)
            async with self._builder(carry, {}, run, tree=tree) as builder:
                graph = builder.graph(plan)
                if plan.tasks[0].each is None:
                    graph = batches.batched(builder, plan, graph)
                asked = _Asked("review", created.plan, plan, graph, run, options, engines=engines)
                return await self._carry_out(builder, asked)
        await self._project.listed()
        plan = self._recorded_plan(created, carry.variables)
        refuse_unused(self._project, plan, given)
        if positions(plan).finished:
            return nothing_to_do(created.plan)
        async with self._builder(carry, plan.engines, run) as builder:
            builder.checked(plan)
            graph = builder.graph(plan)
            asked = _Asked("execute", created.plan, plan, graph, run, engines=engines)
            return await self._carry_out(builder, asked)

    def _as_before(self, run: str | None, carry: CarryOut) -> CarryOut:
        """What is asked of a run that is gone on with: what it was asked for before, where this call says nothing."""
        if run is None:
            return carry
        self._project.refuse_foreign_state()
        recorded.refuse_stopping(self._project.store.journal, run)
        return recorded.options(*recorded.beginning(self._project.store.journal, run), carry)

    def _recorded_plan(self, created: RunCreated, variables: Iterable[str]) -> Plan:
        """The plan file as it is now; what was given as an object, as it was recorded."""
        project = self._project
        path = project.root / created.plan if created.plan is not None else None
        if path is not None and path.is_file():
            return load.load(path, root=project.root, names=project.names(variables), tree=project.tree)
        return recorded.plan_of(created)

    async def _carry_out(self, builder: Builder, asked: _Asked) -> RunDocument:
        """Carry a job out: take up what earlier processes of its run did, open what it needs, and run it."""
        refuse_without_git(self._project, asked.graph)  # before anything is written
        if asked.graph.has(Workstream):
            refuse_ignored_gate(self._project, asked.plan, next=TO_RUN)
            is_anew = asked.run is not None or builder.options.is_new or not builder.options.is_resume
            refuse_renamed(self._project, asked.name, asked.graph, is_anew=is_anew)
        store, past, created = self._project.store, _Past(), None
        async with contextlib.AsyncExitStack() as stack:
            if asked.run is not None:  # its journal is read by its owner only: another would read too early
                writer = await stack.enter_async_context(store.journal.writer(asked.run))
                past.read(store.journal.events(asked.run))
                asked = _with_added(builder, asked, past.prior)
            job, news = await self._job(builder, asked, past.prior)
            if asked.run is None:
                created = self._creation(job, asked.plan, builder.options, asked.review)
                past.prior.spare = self._spare(job)
                writer = await stack.enter_async_context(store.journal.writer(job.run))
            growing = Growing(job, builder.grow)
            rooms = await self._rooms(stack, growing, writer, past.prior)
            if created is not None and rooms.notes:
                created = dataclasses.replace(created, notes=(*created.notes, *rooms.notes))
            if asked.run is not None:
                news = (*self._taken(builder.options, asked, growing, rooms, past), *news)
            runner = Runner(
                job,
                store,
                writer,
                prior=past.prior,
                report=past.report,
                created=created,
                grow=growing.grow,
                news=news,
                watch=builder.options.on_events,
                masker=rooms.masker,
                workspaces=rooms.places,
                steps=steps_of(rooms.streams, growing.now, rooms.workspaces, rooms.approvals),
                steer=steer_of(rooms.streams, rooms.approvals),
                questions=rooms.questions,
            )
            with self._running(runner):
                return as_it_is(await runner.carry_out(), past.report, job.root)

    def _taken(
        self, options: CarryOut, asked: _Asked, growing: Growing, rooms: _Rooms, past: _Past
    ) -> tuple[EventData, ...]:
        """Say who goes on with a run, where their requests go, and what it has now that it had not before.

        Raises `ConsentError` where these go elsewhere, and nobody said that they may.
        """
        job = growing.now()
        asks = functools.partial(asked_again, job, past.prior, past.report, rooms.places)
        yes = Yes(asked.engines, options.agreed)
        elsewhere, addresses = heading(job, past.known.addresses, asks, yes)
        growing.addresses = addresses
        notes = (*(one.said for one in elsewhere), *notes_of(self._project, job), *rooms.notes)
        return (recorded.taken(job, addresses, notes), *recorded.changes(options, past.prior))

    async def _job(self, builder: Builder, asked: _Asked, prior: Prior) -> tuple[Job, Sequence[EventData]]:
        """Decide the job, and say what became of the plan's workstreams in earlier runs."""
        job = builder.job(asked.run or new_run_id(), asked.kind, asked.name, asked.plan, asked.graph)
        job = await with_ready(job, builder.registry)
        is_afresh = asked.run is None and (builder.options.is_new or not builder.options.is_resume)
        job, news = await taken_up(self._project, job, prior, is_afresh=is_afresh, only=asked.named)
        if asked.review is not None and asked.review.baseline is not None:
            job = dataclasses.replace(job, baseline=baseline.load(asked.review.baseline))
        return job, news

    def _creation(self, job: Job, plan: Plan, carry: CarryOut, review: ReviewOptions | None) -> RunCreated:
        """The first event of a new run."""
        return recorded.creation(
            job, plan, carry, review, notes_of(self._project, job), parallelai.__version__
        )

    async def _rooms(
        self, stack: contextlib.AsyncExitStack, growing: Growing, writer: RunWriter, prior: Prior
    ) -> _Rooms:
        """Open what a run needs beside its engines; closed with the stack."""
        job = growing.now()
        masker = masker_of(job)
        workspaces = await workspaces_for(self._project, growing.now, masker, prior)
        if workspaces is not None:
            growing.has_folders = True
            stack.push_async_callback(workspaces.aclose)
        questions = Questions(
            writer.append, is_attended=job.is_attended, is_confined=is_confined, chosen=prior.chosen
        )

        def ports() -> Ports:
            def tell(task: str | None, data: EventData) -> None:
                writer.append(data, task=task)

            ports = self._ports(job.plan, job.logs, tell)
            return dataclasses.replace(ports, choose=questions.choose)

        notes = [] if workspaces is None else workspaces.notes
        streams = await stack.enter_async_context(
            room_for(self._project, job, writer, masker, ports, notes.append)
        )
        approvals = approvals_of(growing, prior, writer)
        return _Rooms(masker, workspaces, questions, streams, approvals, tuple(notes))

    # -- small things

    @contextlib.contextmanager
    def _running(self, runner: Runner) -> Iterator[None]:
        self._runners.add(runner)
        try:
            yield
        finally:
            self._runners.discard(runner)

    @contextlib.asynccontextmanager
    async def _builder(
        self,
        carry: CarryOut,
        entries: Mapping[str, Any],
        run: str | None = None,
        *,
        tree: Tree | None = None,
    ) -> AsyncIterator[Builder]:
        registry = self._project.registry(entries)
        require(registry, carry.engine)
        kept = recorded.chosen(self._project.store.journal, run) if run is not None else {}
        try:
            with collecting_seldom():
                yield Builder(self._project, registry, carry, tree or self._project.tree, kept)
        finally:
            await registry.aclose()

    def _latest(self, name: str, kind: str) -> str | None:
        if not self._project.has_store:
            return None
        row = self._project.store.journal.latest(plan=name, kind=kind)
        return row.id if row is not None else None

    def _spare(self, job: Job) -> dict[str, dict[int, Answered]]:
        """What a killed run of the same was answered, where stored replies may be used."""
        if not job.is_cacheable or not self._project.is_own_state:
            return {}
        return recorded.spare(self._project.store.journal, job.name, job.kind)


def _members(carry: CarryOut) -> tuple[str, ...]:
    """The engines that a call names."""
    return carry.engine.members if carry.engine is not None else ()


def _review_name(options: ReviewOptions, carry: CarryOut) -> str:
    return review_name(options, ",".join(_members(carry)) or "auto")


def _with_added(builder: Builder, asked: _Asked, prior: Prior) -> _Asked:
    """Take in again what `runs add` brought to the run."""
    plan, graph = asked.plan, asked.graph
    known = {task.id for task in plan.tasks}  # somebody may have written it into the plan since
    for task in prior.added:
        if task.get("id") not in known:
            plan, graph = builder.with_task(plan, graph, task)
    return dataclasses.replace(asked, plan=plan, graph=graph)


def _no_ports() -> Ports:
    """For worktrees that are only made: nobody is asked for anything."""
    from parallelai.work.opening import Ports

    return Ports()
