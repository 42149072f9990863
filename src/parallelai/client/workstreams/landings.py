"""Landing by hand: workstreams that are ready, or any branches; undone again; and what stands in the way of it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import parallelai
from parallelai.client.project import OpenProject
from parallelai.client.runs import Runs
from parallelai.client.secrets import secrets_finder
from parallelai.client.workstreams.arrivals import (
    document_of,
    ended_of,
    into,
    now_in,
    pushes_of,
    result_of,
    row_left_out,
    told,
)
from parallelai.client.workstreams.asked import Asked
from parallelai.client.workstreams.askers import PortsOf, refuse_unknown
from parallelai.client.workstreams.branches_meant import branches_meant
from parallelai.client.workstreams.checked_out import as_they_are
from parallelai.client.workstreams.gates_of_config import TO_LAND, refuse_ignored_gate
from parallelai.client.workstreams.landable import (
    left_out,
    missing,
    ready,
    refuse_empty,
    said_of_leave,
    said_of_markers,
    said_ready,
    there_already,
    unsettled,
    with_there,
)
from parallelai.client.workstreams.landed_branches import (
    KIND,
    gates_of,
    is_branch,
    landed_branches,
)
from parallelai.client.workstreams.landing_means import LandingMeans, Opened
from parallelai.client.workstreams.logic_notes import with_notes
from parallelai.client.workstreams.pushes import Pushes
from parallelai.client.workstreams.stream_plans import StreamPlans
from parallelai.client.workstreams.undoing import Step, branch_again, named, steps, taken_over
from parallelai.errors import BusyError, NotFoundError, ParallelAIError
from parallelai.events import (
    EventData,
    LandingUndone,
    RunCreated,
    RunStarted,
    TaskEnded,
    TaskExpanded,
)
from parallelai.git.repository import Repository, open_repository
from parallelai.plan.model import Plan
from parallelai.records import (
    ConflictDocument,
    RunDocument,
    TaskResult,
    new_run_id,
)
from parallelai.run.report import Report
from parallelai.store import RunWriter
from parallelai.work.conflicts import Head, Matrix
from parallelai.work.conflicts.advice import made_anew
from parallelai.work.guards import by_hand
from parallelai.work.landing.following import follow
from parallelai.work.landing.records import Arrival, Breaking, Candidate, Preview, Shadow, candidate_of
from parallelai.work.landing.reverts import note_reverts
from parallelai.work.resolvers.decisions import Decision, Decisions
from parallelai.work.streams import adopting
from parallelai.work.streams.base import choose_base
from parallelai.work.streams.landed import gone
from parallelai.work.streams.more import more_than_done, said_of
from parallelai.work.streams.record import (
    Landed,
    Stream,
    described,
    how_taken_back,
    is_reverted,
    is_undone,
    taken_back,
)
from parallelai.work.streams.registry import Streams, is_finished


class Landings:
    """Landings of a project that no run carries out at the time."""

    def __init__(self, project: OpenProject, runs: Runs, ports: PortsOf) -> None:
        """`ports` gives what the landings of a plan may ask engines for."""
        self._project = project
        self._plans = StreamPlans(project, runs)
        self._means = LandingMeans(project, ports)
        self._pushes = Pushes(project, self._plans, self._means)

    @property
    def _streams(self) -> Streams:
        return self._means.streams

    async def tip(self, repository: Repository, target: str) -> str:
        """The commit of a target, as `LandingMeans.tip` says. Raises `NotFoundError`."""
        return await self._means.tip(repository, target)

    def plan_of(self, stream: Stream) -> Plan:
        """The plan that a workstream lands, and is synced, by: its file as it is now, over config."""
        return self._plans.of(stream)

    # -- workstreams

    async def done(self, stream: Stream) -> str:
        """Judge and commit what a person has in a worktree, and mark it as ready to land.

        What a person merged with the target there, or put on top of it, counts as settled. Raises `Trespass` where all
        that was done there was kept out of it, `UsageError` where a merge or rebase is not done yet.
        """
        repository = await open_repository(self._project.root)
        folder = self._project.state / "runs" / stream.run
        target = await self.tip(repository, stream.target)
        before, stream = stream, await adopting.adopt(repository, self._streams, stream, target)
        said = await by_hand(repository, self._streams, stream, folder, secrets_finder())
        now = self._streams.find(stream.name)
        left = await adopting.left_open(repository, before, now)
        now = self._streams.update(now.name, lambda it: dataclasses.replace(it, unsettled=left))
        if left:
            self._streams.update(now.name, lambda it: dataclasses.replace(it, state="open"))
            raise adopting.not_settled(now, left)
        if now.head == now.base and not self._may_be_empty(now):
            self._streams.update(now.name, lambda it: dataclasses.replace(it, state="open"))
            refuse_empty(now, repository.root)
        now = self._streams.update(stream.name, lambda it: dataclasses.replace(it, state="done", undone=None))
        new = [kept for kept in now.kept_out if kept not in stream.kept_out]
        lines = [*map(told, new), said_of_leave(now, new)] if new else [said]  # `said` speaks to an assistant
        if now.head == now.base:
            lines.append(f"note: `{stream.name}` has changed nothing")
        lines.append(await adopting.taken_out(repository, before, now))
        lines.append(await said_of_markers(repository, now))
        lines.append(said_ready(self._streams, now))
        return "\n".join(line for line in lines if line)

    def _may_be_empty(self, stream: Stream) -> bool:
        """Whether its plan says that it need not change anything."""
        works = self._plans.of(stream).works
        return any(work.id == stream.name and work.empty == "ok" for work in works)

    async def land(self, names: Sequence[str], asked: Asked) -> RunDocument:
        """Land workstreams that are ready, in order, behind the gates; without names all but `left_out`.

        Raises `BusyError` while their run is live.
        """
        repository = await open_repository(self._project.root)
        await note_reverts(repository, self._streams)
        there, wanted = await there_already(repository, self._streams, names)
        if there and not wanted:
            await follow(
                repository, self._streams
            )  # a checkout that could not follow, if git would move it by now
            there, _ = await there_already(repository, self._streams, names)
            there = await self._pushes.of_there(repository, there, asked)
            return document_of(self._plans.report(self._streams.find(names[0])), tuple(there.values()))
        left = {} if names else self.left_out()  # who names one gives leave
        found = await ready(repository, self._streams, wanted, left)
        run = found[0].run
        if self._project.store.journal.is_owned(run):
            raise BusyError(f"run `{run}` is carried out, and lands them itself", next="`runs logs --follow`")
        plan = self._plans.of(found[0])
        refuse_ignored_gate(self._project, plan, asked.gates, next=TO_LAND)
        await refuse_unknown(self._project, plan, asked.engine)
        async with self._plans.writer(found[0]) as writer:
            report = Report()
            for event in self._project.store.journal.events(run):
                report.take(event)
            leave = writer.subscribe(into(report))
            try:
                rows = await self._land_streams(found, asked, plan, report, writer)
                await writer.flush()
            finally:
                leave()
        there = await self._pushes.of_there(repository, there, asked, rows)
        out = tuple(row_left_out(self._streams.find(name), why) for name, why in left.items())
        return document_of(report, (*rows, *there.values()), out)

    def left_out(self) -> dict[str, str]:
        """Name the workstreams that are ready and that a landing of all leaves out, and say why of each."""
        waiting = [each for each in self._streams.all() if each.state == "done"]
        return left_out(waiting, {each.run: self._plans.of(each) for each in waiting})

    async def nothing_left(self) -> dict[str, str] | None:
        """Where nothing is left to land, say why of what a landing of all leaves out; None where something is.

        Raises `UsageError` in a project that is no repository.
        """
        await note_reverts(await open_repository(self._project.root), self._streams)
        left = self.left_out()
        is_left = any(not is_finished(each) and each.name not in left for each in self._streams.all())
        return None if is_left else left

    async def _land_streams(
        self,
        found: Sequence[Stream],
        asked: Asked,
        plan: Plan,
        report: Report,
        writer: RunWriter,
    ) -> tuple[TaskResult, ...]:
        rows = []
        by = {name: ended.result.engine for name, ended in report.results.items()}
        async with self._means.opened(found[0].run, plan, asked, writer.append, found[0].target) as landing:
            tasks = frozenset(task.id for task in plan.tasks)
            out = {**await missing(landing.repository, self._streams, found, tasks)}
            out |= await unsettled(landing.repository, found)
            arrivals = [Arrival(name, None, error) for name, error in out.items()]
            able = [each for each in found if each.name not in out]
            candidates = [candidate_of(each, among=able, engine=by.get(each.name)) for each in able]
            logic = await self._means.logic(landing, candidates)
            landed = await landing.lander.land(candidates) if candidates else []
            arrivals += with_notes(landed, logic)
            reverted = {each.name: f"it {how_taken_back(each)} before" for each in found if is_reverted(each)}
            for arrival in arrivals:
                stream = self._took(arrival)
                more = await more_than_done(landing.repository, stream)  # also what came while gates ran
                said = [reverted[arrival.name]] if arrival.name in reverted else []
                said += [said_of(more, stream, has_landed=arrival.landed is not None)] if more else []
                arrival = dataclasses.replace(arrival, notes=(*arrival.notes, *said))
                rows.append(result_of(arrival, described(stream), by.get(arrival.name)))
                writer.append(TaskEnded(rows[-1]), task=arrival.name)
        return tuple(rows)

    def _took(self, arrival: Arrival) -> Stream:
        """Write down what became of a workstream."""
        landed = arrival.landed
        if landed is None:
            return self._streams.find(arrival.name)
        return self._streams.update(
            arrival.name, lambda it: dataclasses.replace(it, state="landed", landed=landed, undone=None)
        )

    async def undo(self, names: Sequence[str], asked: Asked) -> list[Stream]:
        """Take landings back, the last first, by new, gated commits; without names the latest one.

        What landed in one commit with others, and cannot be told apart from them, goes with them. What was taken back
        before, as by the same call that was killed, is given as it is.
        """
        repository = await open_repository(self._project.root)
        await note_reverts(repository, self._streams)
        known = self._streams.all()
        branches = await self._landed_branches(repository, known)
        wanted = [await named(repository, self._streams, branches, name) for name in names]
        known += branches.values()
        if over := await taken_over(repository, self._streams, wanted, known):
            return over
        done = [each for each in wanted if is_undone(each)]
        lost = await gone(repository, known) if not wanted else ()  # the latest is the latest that is there
        for step in await steps(repository, wanted, [each for each in known if each.name not in lost]):
            try:
                done += await self._take_back(step, asked)
            except ParallelAIError as error:
                if done:  # of which nobody else would tell
                    before = ", ".join(f"`{each.name}`" for each in done)
                    error.said = f"{error.said} (taken back before that: {before})"
                raise
        return done

    async def _landed_branches(self, repository: Repository, known: Sequence[Stream]) -> dict[str, Stream]:
        """The branches that landed without a plan, but what is a workstream's landing, or has the name of one."""
        if not self._project.has_store:
            return {}
        landed = [each for each in known if each.landed is not None]
        taken = {name for each in landed for name in (each.name, each.branch)}
        found = await landed_branches(repository, self._project.store.journal)
        return {name: each for name, each in found.items() if name not in taken}

    async def _take_back(self, step: Step, asked: Asked) -> list[Stream]:
        from parallelai.work.landing.undo import undo

        first = step.streams[0]
        if first.landed is None:
            return []
        async with self._plans.writer(first) as writer:
            plan = self._means.standing_plan() if is_branch(first) else self._plans.of(first)
            if (
                is_branch(first) and not asked.gates
            ):  # the `--gate` that it came in by; of config's, today's count
                asked = dataclasses.replace(asked, gates=gates_of(self._project.store.journal, first.run))
            refuse_ignored_gate(self._project, plan, asked.gates, next=TO_LAND)
            async with self._means.opened(first.run, plan, asked, writer.append, first.target) as landing:

                def tell(task: str | None, data: EventData) -> None:
                    is_undone = isinstance(data, LandingUndone)
                    for name in [each.name for each in step.streams] if is_undone else [task or first.name]:
                        writer.append(data, task=name)

                means = (landing.repository, landing.lander.plan, first.landed, landing.gates, tell)
                made = await undo(*means, ours=self._streams.worktrees, name=first.name, commit=step.part)
                branches = [await branch_again(landing.repository, each) for each in step.streams]
            await writer.flush()
        pairs = zip(step.streams, branches, strict=True)
        return [self._took_back(each, made, branch) for each, branch in pairs]

    def _took_back(self, stream: Stream, by: Landed, branch: str) -> Stream:
        """Write down that a landing was taken back; of a branch without a plan the journal says so already."""

        def change(it: Stream) -> Stream:
            return dataclasses.replace(taken_back(it, by), branch=branch)

        return change(stream) if is_branch(stream) else self._streams.update(stream.name, change)

    # -- any branches

    async def land_branches(self, patterns: Sequence[str], asked: Asked) -> RunDocument:
        """Land branches that no plan made. Raises `NotFoundError`, `UsageError`."""
        run, plan = new_run_id(), self._means.standing_plan()
        refuse_ignored_gate(self._project, plan, asked.gates, next=TO_LAND)
        await refuse_unknown(self._project, plan, asked.engine)
        repository = await open_repository(self._project.root)
        target = (await choose_base(repository, asked.target, fetch=False)).target
        found = await branches_meant(repository, patterns, target)
        report = Report()
        async with self._project.store.journal.writer(run) as writer:
            leave = writer.subscribe(into(report))
            try:
                await self._land_branches(found, asked, plan, target, run, writer, report)
            finally:
                leave()
        return report.document()

    async def _land_branches(
        self,
        found: Sequence[tuple[str, str]],
        asked: Asked,
        plan: Plan,
        target: str,
        run: str,
        writer: RunWriter,
        report: Report,
    ) -> None:
        options = {"branches": [name for name, _ in found], "target": target, "gates": list(asked.gates)}
        root = str(self._project.root)
        writer.append(RunCreated(KIND, None, root, parallelai.__version__, {}, options))
        writer.append(RunStarted(os.getpid(), os.uname().nodename, 1, "land"))
        writer.append(TaskExpanded(tuple(name for name, _ in found)))
        async with self._means.opened(run, plan, asked, writer.append, target) as landing:
            able, held = await self._means.parted(landing, found, run)
            logic = await self._means.logic(landing, able)
            landed = with_notes(await landing.lander.land(able), logic)
            arrivals = {each.name: each for each in (*landed, *held)}
            rows = []
            for arrival in (arrivals[name] for name, _ in found):
                about: dict[str, Any] = {
                    "branch": arrival.name,
                    "worktree": None,
                    "base": dict(found)[arrival.name],
                    "stage": "landed" if arrival.landed else "open",
                    "kept_out": [],
                    "landed": dataclasses.asdict(arrival.landed) if arrival.landed else None,
                }
                rows.append(result_of(arrival, about))
                writer.append(TaskEnded(rows[-1]), task=arrival.name)
        await writer.flush()
        writer.append(ended_of(report))
        await writer.flush()
        await self._pushes.took_along(landing.repository, pushes_of(rows))

    # -- before landing

    async def preview(self, names: Sequence[str], patterns: Sequence[str], asked: Asked) -> Preview:
        """Say what a landing would do: the order, expected conflicts, how many gate runs (`--dry-run`)."""
        repository = await open_repository(self._project.root)
        await note_reverts(repository, self._streams)
        there, wanted = await there_already(repository, self._streams, names)
        if there and not wanted:
            return with_there(Preview(()), there)
        async with self._before(wanted, patterns, asked) as (landing, able, held):
            refused = tuple((each.name, each.error.said) for each in held if each.error is not None)
            found = await landing.lander.preview(able)
            notes = [f"nothing would land: {landing.ignored} ({TO_LAND})"] if landing.ignored else []
            notes += (each.said for each in await self._means.logic(landing, able))
            left = {} if names or patterns else self.left_out()
            notes += (f"`{name}` is left out: {why}" for name, why in left.items())
            for stream in (self._streams.find(each.name) for each in able if not patterns):
                more = await more_than_done(landing.repository, stream)
                notes += [f"`{stream.name}`: {said_of(more, stream, has_landed=False)}"] if more else []
            told = (*found.notes, *notes)
            found = dataclasses.replace(found, refused=(*refused, *found.refused), notes=told)
            return with_there(found, there)

    def live(self, plan: str | None = None) -> list[str]:
        """The names of the workstreams that are worked on: of a plan, or of all. Raises `NotFoundError`."""
        return [each.name for each in self._live((), plan)]

    async def shadow(self, names: Sequence[str], patterns: Sequence[str], asked: Asked) -> Shadow:
        """Try a landing of all that is live, gates included; nothing moves."""
        async with self._before(names, patterns, asked, is_shadow=True) as (landing, able, held):
            found = await landing.lander.shadow(able)
            out = (Breaking((one.name,), "conflict", one.error.said) for one in held if one.error is not None)
            notes = await self._means.logic(landing, able)
            logic = tuple(Breaking(one.names, "logic", one.said) for one in notes if len(set(one.names)) > 1)
            return dataclasses.replace(found, breaking=(*found.breaking, *out), logic=logic)

    @asynccontextmanager
    async def _before(
        self, names: Sequence[str], patterns: Sequence[str], asked: Asked, *, is_shadow: bool = False
    ) -> AsyncIterator[tuple[Opened, list[Candidate], list[Arrival]]]:
        """Open a landing that is only tried: what may land, and what conflict markers keep from it."""
        run = new_run_id()
        if patterns:
            repository = await open_repository(self._project.root)
            target = (await choose_base(repository, asked.target, fetch=False)).target
            found = await branches_meant(repository, patterns, target)
            found = await as_they_are(repository, self._streams, found) if is_shadow else found
            async with self._means.opened(run, self._means.standing_plan(), asked, None, target) as landing:
                yield landing, *(await self._means.parted(landing, found, run, is_shadow=is_shadow))
            return
        if is_shadow:
            streams = self._live(names)
        else:
            out = () if names else self.left_out()
            streams = await ready(await open_repository(self._project.root), self._streams, names, out)
        plan = self._plans.of(streams[0])
        async with self._means.opened(run, plan, asked, None, streams[0].target) as landing:
            if is_shadow:  # what is in the worktrees now, committed or not
                tips = {each.name: await now_in(landing.repository, each) for each in streams}
                streams = [dataclasses.replace(each, head=tips[each.name]) for each in streams]
            left = await unsettled(landing.repository, streams)
            able = [each for each in streams if each.name not in left]
            held = [Arrival(name, None, error) for name, error in left.items()]
            yield landing, [candidate_of(each, among=able) for each in able], held

    def _live(self, names: Sequence[str], plan: str | None = None) -> list[Stream]:
        from parallelai.client.naming import plan_name

        known = plan_name(Path(plan), self._project.root) if plan is not None else None
        found = [self._streams.find(name) for name in names] or self._streams.open(known)
        if not found:
            raise NotFoundError("no workstream is started", next=f"`parallelai work start {plan or 'PLAN'}`")
        return found

    async def conflicts(
        self, plan: str | None, patterns: Sequence[str], base: str | None, target: str | None
    ) -> ConflictDocument:
        """Compare what is in the worktrees now, or branches, with each other and with the target."""
        look = await self.watching(plan, patterns, base, target)
        return await look()

    async def watching(
        self, plan: str | None, patterns: Sequence[str], base: str | None, target: str | None
    ) -> Callable[[], Awaitable[ConflictDocument]]:
        """What looks for conflicts again and again, in a tenth of the time from the second look on."""
        repository = await open_repository(self._project.root)
        matrix = Matrix(repository, self._means.conflicts_cache)

        async def look() -> ConflictDocument:
            is_idle = plan is None and not self._streams.open()
            streams = [] if patterns or is_idle else self._live((), plan)
            own = streams[0].target if streams else None
            tip = await repository.commit(base) if base else None
            if base and tip is None:
                raise NotFoundError(f"`{base}` is no commit")
            name = target or own
            if name is None and (tip is None or await repository.branch() is not None):
                name = (await choose_base(repository, None, fetch=False)).target
            onto = str(tip) if name is None else await self.tip(repository, name)
            heads = [Head(one.name, await now_in(repository, one, onto), one.rules.owns) for one in streams]
            if patterns:
                meant = await branches_meant(repository, patterns, name or "")
                heads = [Head(*one) for one in await as_they_are(repository, self._streams, meant)]
            shown = base or name or ""
            found = await matrix.look(heads, Head(shown, tip or onto))
            return made_anew(
                found, lambda: self._plans.of(streams[0]) if streams else self._means.standing_plan()
            )

        return look

    # -- how conflicts were settled

    async def decisions(self) -> tuple[Decision, ...]:
        """How conflicts were settled here."""
        return await self._decisions().all()

    async def forget(self, key: str) -> bool:
        """Forget how a conflict was settled; False where nothing was known of it."""
        return await self._decisions().forget(key)

    def _decisions(self) -> Decisions:
        return Decisions(self._project.state / "work" / "decisions")
