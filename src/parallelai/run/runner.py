"""Carry a job out: the loop that does what the scheduler decides, and writes down all that happens."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import random
import socket
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterable, Sequence

from parallelai import processes
from parallelai.engines.protocol import Request
from parallelai.errors import EngineError, StoreError, first_error
from parallelai.events import (
    Event,
    EventData,
    LandingAsked,
    OrphanEnded,
    RunCreated,
    RunStarted,
    RunStopping,
    TaskReady,
)
from parallelai.plan.graph import Instance
from parallelai.records import LimitKey, Outcome, RunDocument
from parallelai.run import approving, assembly, limiting
from parallelai.run.applying import apply_changes
from parallelai.run.asking import Questions, RunCoordinator
from parallelai.run.closing import Closing, How
from parallelai.run.collector import collecting_seldom
from parallelai.run.commanded import Commanded, Grow, Hands, Steer
from parallelai.run.endings import ended_of
from parallelai.run.executors.base import (
    AttemptDone,
    AttemptParked,
    AttemptPlaced,
    AttemptTurned,
    ExecutorEvent,
)
from parallelai.run.executors.local import LocalExecutor
from parallelai.run.flights import Flights, Tally
from parallelai.run.job import Job
from parallelai.run.keeping import Keeping, kept
from parallelai.run.masking import Masker
from parallelai.run.preparation import Preparation
from parallelai.run.readiness import Readiness
from parallelai.run.report import Report
from parallelai.run.resume import Prior, measured_before
from parallelai.run.scheduling.decisions import Cancel, Decision, Finish, RunStep, Start, Wait
from parallelai.run.scheduling.nodes import Node
from parallelai.run.scheduling.scheduler import Scheduler
from parallelai.run.steering import POLL_SECONDS, Steering
from parallelai.run.stepping import Stepping
from parallelai.run.steps import CheckStep, Step
from parallelai.run.validation import record_of
from parallelai.run.workspaces import Workspaces
from parallelai.store import RunWriter, Store

HURRY_SECONDS = 0.05
NEWS_AT_ONCE = 100
"""How much news is taken before what it made room for is started: of a hundred attempts that end together the
first must not wait until all the others are written down."""

STARTS_AT_ONCE = 16
"""How many attempts are started before they are let do something: the first of a hundred calls must not wait
until all are made ready."""

Watch = Callable[[Sequence[Event]], None]


class Runner:
    """One process's part of one run. Make it, `carry_out` once; `interrupt` may be called meanwhile.

    Args:
        job: what to do.
        store: the project's commands and cache.
        writer: the run's journal; whoever holds it is the one that carries the run out.
        prior: what earlier processes of the run finished.
        report: what earlier processes of the run wrote, folded; the run's document is folded into it.
        created: the run's first event, None if the run is there already.
        grow: how a task that somebody adds becomes part of the job.
        news: what else to write down at the start.
        steps: the steps after `perform`, in order; by default the tasks' checks.
        watch: is given events, in order, once they are on disk.
        workspaces: makes the folders that attempts work in; None where they work in the project's.
        steer: does what others ask of a workstream, and of a task that waits for leave; None where nobody can.
        questions: what persons are asked; by default for attempts that nothing confines.
    """

    def __init__(
        self,
        job: Job,
        store: Store,
        writer: RunWriter,
        *,
        prior: Prior,
        report: Report,
        created: RunCreated | None,
        grow: Grow,
        news: Sequence[EventData] = (),
        steps: Sequence[Step] | None = None,
        watch: Watch | None = None,
        masker: Masker | None = None,
        workspaces: Workspaces | None = None,
        steer: Steer | None = None,
        questions: Questions | None = None,
    ) -> None:
        self._job = job
        self._store = store
        self._writer = writer
        self._prior = prior
        self._report = report
        self._created = created
        self._grow = grow
        self._news = news
        if steps is None:
            steps = (CheckStep(functools.partial(assembly.works_in_folder, job)),)
        self._stepping = Stepping(steps, writer.append)
        self._watch = watch
        self._masker = masker or Masker()
        self._workspaces = workspaces
        self._steer = steer
        self._questions = questions or Questions(
            writer.append, is_attended=job.is_attended, is_confined=lambda workspace: False
        )
        base_digest = workspaces.digest if workspaces is not None else None
        self._preparation = Preparation(job, prior, base_digest)
        self._readiness = Readiness(job, self._preparation)
        itself: Runner = weakref.proxy(self)  # in no circle, so that all of it is freed as soon as it is done
        self._flights = Flights(
            job,
            prior,
            self._preparation.files,
            self._preparation.entries,
            store.cache,
            self._masker,
            writer.append,
            lambda: itself._executor,
        )
        self._closing = Closing(job)
        self._inbox: list[ExecutorEvent] = []
        self._wake = asyncio.Event()
        self._permits = limiting.coordinator_of(job, writer.append, self._wake.set)
        self._clock_offset = time.time() - time.monotonic()
        self._signal: int | None = None
        self._has_reached_budget = False
        self._scheduler = Scheduler(
            self._nodes_of(job, job.graph.instances),
            job.graph.groups,
            assembly.settings_of(job, report.spent, report.seconds, self._permits.is_crowded),
            prepare=self._readiness.prepare,
            random=random.Random(),  # noqa: S311 -- spreads retries; no secret
            now=self._now(),
        )

    async def carry_out(self) -> RunDocument:
        """Do all that is left of the run.

        Returns:
            The document of the whole run, earlier processes included.

        Raises:
            StoreError: the journal cannot be written; what was written is kept.
        """
        masking = processes.MASKING.set(self._masker.text)  # of what programs print into their logs
        try:
            with collecting_seldom():
                await self._carry_out(self._writer)
        finally:
            processes.MASKING.reset(masking)
        return self._report.document()

    async def _carry_out(self, writer: RunWriter) -> None:
        # The report has a subscription of its own: a watcher that fails is told no more.
        watches = (self._learn, self._closing.learn, self._watch)
        leave = [writer.subscribe(watch) for watch in watches if watch is not None]
        try:
            self._open(writer)
            orphans = await asyncio.to_thread(processes.sweep)
            await writer.flush()  # the run is on disk before anything of it starts, and may cost
            self._expand(writer)  # ten thousand rows, that are written while the first tasks run
            for orphan in orphans:
                writer.append(OrphanEnded(orphan.pid, orphan.command))
            await self._steering.begin()
            await self._work(writer)
            await self._steering.end()
            await self._apply(writer)
            await self._close(writer)
        finally:
            for each in leave:
                each()

    async def _work(self, writer: RunWriter) -> None:
        """Carry out every task. What fails here is told as it is, not as the group that it failed in."""
        try:
            async with self._executing():
                try:
                    await self._drive(writer)
                finally:
                    await asyncio.to_thread(self._flights.close)
                    learned = self._permits.close()
            if learned:
                await asyncio.to_thread(self._permits.keep, learned)
            if self._job.memory is not None:
                for engine, taken in self._flights.memory_taken.items():
                    await asyncio.to_thread(self._job.memory.keep_session_memory, engine, taken)
        except BaseExceptionGroup as failures:
            raise first_error(failures) from failures

    def interrupt(self, signal: int) -> None:
        """Stop: at first no new start, and what is in flight has `grace` to end; at the second call, at once.

        What only waits for a person's leave, or for its program's start, ends at the first.
        """
        is_first, self._signal = self._signal is None, signal
        if is_first:
            with contextlib.suppress(StoreError):  # whoever carries the run out is told of it
                self._writer.append(RunStopping("interrupted"))
            self._scheduler.stop("interrupted")
            for task in self._stepping.of_kind(approving.STEP):
                self._scheduler.cancel(task, "interrupted")
            asyncio.get_running_loop().call_later(self._job.plan.limits.grace, self._cancel_all)
        else:
            self._cancel_all()
            self._hurry()
        self._wake.set()

    # -- the beginning and the end

    def _open(self, writer: RunWriter) -> None:
        job = self._job
        self._steering = Steering(
            job.run,
            self._store.commands,
            self._scheduler,
            Commanded(job, self._scheduler, self._flights, self._questions, self._hands()),
            writer.append,
            writer.flush,
            self._prior.commands,
        )
        if self._created is not None:
            writer.append(self._created)
        writer.append(
            RunStarted(
                os.getpid(), socket.gethostname(), job.parallel, job.strategy.name, self._created is None
            )
        )

    def _hands(self) -> Hands:
        itself: Runner = weakref.proxy(self)  # in no circle, so that all of it is freed as soon as it is done
        return Hands(
            self._grow,
            lambda job, instances: itself._nodes_of(job, instances),
            lambda job: itself._adopt(job),
            self._writer.append,
            lambda: itself._now(),
            self._steer,
        )

    def _expand(self, writer: RunWriter) -> None:
        for data in self._news:
            writer.append(data)
        graph = self._job.graph
        writer.append(assembly.expansion(self._job, graph.instances, tuple(graph.skipped)))
        Keeping(
            self._job,
            self._prior,
            self._report,
            self._preparation,
            self._scheduler,
            writer.append,
            self._workspaces,
            has_streams=self._job.has_streams,
        ).settle()

    @contextlib.asynccontextmanager
    async def _executing(self) -> AsyncIterator[None]:
        coordinator = RunCoordinator(self._permits.permit, self._questions.ask)
        async with asyncio.TaskGroup() as group:
            self._executor = LocalExecutor(group, self._job.engines, coordinator, self._workspaces)
            self._group = group
            helpers = (group.create_task(self._pump(self._executor)), group.create_task(self._obey()))
            try:
                yield
            finally:
                for helper in helpers:
                    helper.cancel()

    async def _apply(self, writer: RunWriter) -> None:
        """Apply changes to the user's checkout, where that was asked for."""
        if self._workspaces is not None and self._job.is_applied:
            await writer.flush()  # the report knows now what there is
            await apply_changes(self._job, self._report, self._workspaces, writer.append)

    async def _close(self, writer: RunWriter) -> None:
        await writer.flush()
        self._store.cache.flush()
        how = How(self._signal, self._has_reached_budget)
        await self._closing.close(self._job, self._report, self._masker, writer, how)

    def _learn(self, events: Sequence[Event]) -> None:
        for event in events:
            self._report.take(event)
            if isinstance(event.data, LandingAsked) and event.data.usage is not None:
                self._scheduler.use(event.data.usage)

    # -- the loop

    async def _drive(self, writer: RunWriter) -> None:
        while not self._scheduler.is_done:
            self._hold_starts()
            until = await self._carry_out_all(self._scheduler.decide(self._now()))
            for notice in self._scheduler.notices():
                self._has_reached_budget |= notice.type == "budget.reached"
                writer.append(notice)
            if not self._scheduler.is_done:
                await self._sleep(until)
                self._take_news()

    def _hold_starts(self) -> None:
        """Where nothing is to start any more, no program of an attempt does that still waits to start its own."""
        self._executor.hold_starts(self._scheduler.is_paused or self._signal is not None)
        if self._signal is not None:
            for task in self._executor.not_started():
                self._scheduler.cancel(task, "interrupted")

    async def _sleep(self, until: float | None) -> None:
        """Wait for news, or for a time on the scheduler's clock."""
        if self._wake.is_set() or (until is not None and until <= self._now()):
            await asyncio.sleep(0)  # let others work, then ask again
        elif until is None:
            await self._wake.wait()
        else:
            timer = asyncio.get_running_loop().call_later(until - self._now(), self._wake.set)
            await self._wake.wait()
            timer.cancel()
        self._wake.clear()

    async def _pump(self, executor: LocalExecutor) -> None:
        async for news in executor.events():
            self._inbox.extend(news)
            self._wake.set()

    async def _obey(self) -> None:
        while True:
            await self._steering.obey(self._wake.set)
            await asyncio.sleep(POLL_SECONDS)

    def _take_news(self) -> None:
        news, self._inbox = self._inbox[:NEWS_AT_ONCE], self._inbox[NEWS_AT_ONCE:]
        if self._inbox:
            self._wake.set()
        for item in news:
            if isinstance(item, AttemptDone):
                task, number, result = self._flights.done(item)
                result = self._permits.judged(item.id, result)
                self._scheduler.attempt_ended(task, number, result, self._now())
            elif isinstance(item, AttemptTurned):
                self._flights.turned(item)
            elif isinstance(item, AttemptPlaced):
                self._flights.placed(item)
            elif isinstance(item, AttemptParked):
                self._scheduler.park(*self._flights.number(item.id), item.is_waiting)
            else:
                self._flights.streamed(item)
                limiting.heed(item.event, self._scheduler, self._permits, self._now())

    async def _carry_out_all(self, decisions: Sequence[Decision]) -> float | None:
        """Do what was decided; gives the time at which to ask again, None for no time."""
        until: float | None = None
        started = 0
        for decision in decisions:
            match decision:
                case Start():
                    self._start(decision)
                    started += 1
                    if started % STARTS_AT_ONCE == 0:
                        await asyncio.sleep(0)
                case Finish():
                    self._finish(decision)
                case RunStep():
                    self._run_step(decision)
                case Cancel():
                    self._cancel(decision)
                case Wait():
                    until = decision.until
        for task in self._readiness.waiting():
            self._writer.append(TaskReady(), task=task)
        return until

    # -- what the scheduler decided

    def _start(self, start: Start) -> None:
        instance = self._job.graph.get(start.task)
        result = self._flights.start(start, instance, self._readiness.start(start.task))
        if result is not None:
            self._scheduler.attempt_ended(start.task, start.attempt, result, self._now())
            self._wake.set()

    def _cancel(self, decision: Cancel) -> None:
        if decision.attempt:
            self._flights.cancel(decision.task, decision.attempt)
        else:
            self._stepping.cancel(decision.task)

    def _cancel_all(self) -> None:
        self._scheduler.cancel(None, "interrupted")
        self._wake.set()

    def _hurry(self) -> None:
        """Cancel what is in flight until it is gone: the second time leaves a program no grace."""
        if self._flights.cancel_all() | self._stepping.cancel_all():
            asyncio.get_running_loop().call_later(HURRY_SECONDS, self._hurry)

    def _finish(self, finish: Finish) -> None:
        task = finish.task
        mark = self._readiness.end(task)
        tally = self._flights.finished(task, finish.outcome) or self._stepping.tally(task)
        about = self._workspaces.workstream(task) if self._workspaces is not None else None
        if tally is None and finish.outcome is Outcome.OK and task in self._prior.ended:
            ended = kept(self._prior.ended[task], about)
        else:
            ended = ended_of(self._job, finish, tally or Tally(), mark, about)
        self._writer.append(ended, task=task)
        if finish.outcome is Outcome.OK:
            made = tally.change if tally is not None else measured_before(self._prior, task)
            if self._workspaces is not None:
                self._workspaces.ended(task, made)
        elif self._workspaces is not None:
            self._workspaces.gave_up(task)
        reply = tally.reply if tally is not None else self._report.reply(task)
        self._preparation.views.ended(task, finish.outcome, reply)

    # -- steps

    def _run_step(self, decision: RunStep) -> None:
        instance = self._job.graph.get(decision.task)
        self._stepping.start(decision.step, instance, self._job, self._group, self._step_done)

    def _step_done(self, step: str, task: str, error: EngineError | None) -> None:
        record = self._masker.record(record_of(error)) if error is not None else None
        self._scheduler.step_ended(task, step, record, self._now())
        self._wake.set()

    # -- small things

    def _nodes_of(self, job: Job, instances: Iterable[Instance]) -> list[Node]:
        return assembly.nodes_of(job, instances, self._stepping.steps, self._key_of)

    def _adopt(self, job: Job) -> None:
        """Go on with a job that has more tasks."""
        self._job = job
        self._readiness.adopt(job)
        self._flights.adopt(job)

    def _key_of(self, engine: str, request: Request) -> LimitKey:
        return assembly.key_of(self._job, engine, request)

    def _now(self) -> float:
        """The Unix time, from a clock that never goes back."""
        return time.monotonic() + self._clock_offset
