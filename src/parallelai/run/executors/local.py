"""The executor in this process: each attempt is a task of one task group."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence

from msgspec import Struct

from parallelai.engines.protocol import (
    Answer,
    Engine,
    EngineEvent,
    Message,
    Permit,
    Question,
    Request,
    SessionEvent,
    ToolEvent,
    UsageEvent,
)
from parallelai.errors import EngineError, Internal, ParallelAIError, TimedOut, Unavailable
from parallelai.records import LimitKey, Reply, Usage
from parallelai.run.executors.attempt import (
    Doers,
    Result,
    SilentEngine,
    carry_out,
    completed,
    is_one_turn,
)
from parallelai.run.executors.base import (
    AttemptDone,
    AttemptId,
    AttemptParked,
    AttemptPlaced,
    AttemptSpec,
    AttemptStreamed,
    AttemptTurned,
    Coordinator,
    ExecutorEvent,
)
from parallelai.run.executors.starting import Opened, Starts
from parallelai.run.forms import check_event, check_usage, sound
from parallelai.run.steps import disk_full
from parallelai.run.streams import IN_JOURNAL
from parallelai.run.workspaces import PLAIN, Workspaces
from parallelai.store import faults

LEAST_STARTS = 2
"""So many programs may start up at once on the smallest machine; on others one for each core."""


class _Clock(Struct):
    """The two time-outs of one attempt. Waits for permits and for answers do not count."""

    wall: asyncio.Timeout  # without an end, until `arm`
    is_over: bool = False
    last: float = 0.0
    tools: int = 0
    _waits: int = 0  # how many of the attempt's waits are under way; some wait for two permits at once
    _began: float = 0.0
    _deadline: float | None = None

    def saw(self, event: EngineEvent) -> None:
        self.last = asyncio.get_running_loop().time()
        if isinstance(event, ToolEvent):
            self.tools += 1 if event.state == "started" else -1

    def arm(self, deadline: float) -> None:
        """Set when the attempt has to be done, on the loop's clock."""
        if self._waits:
            self._deadline = deadline
        else:
            self.wall.reschedule(deadline)

    def begin_turn(self) -> None:
        self.last, self.tools = asyncio.get_running_loop().time(), 0

    @contextlib.asynccontextmanager
    async def stopped(self) -> AsyncIterator[None]:
        """Do not count the time that is spent inside."""
        loop = asyncio.get_running_loop()
        if not self._waits:
            self._began, self._deadline = loop.time(), self.wall.when()
            self.wall.reschedule(None)
        self._waits += 1
        self.tools += 1  # nor is the engine idle while it waits for us
        try:
            yield
        finally:
            self.tools -= 1
            self.last = loop.time()
            self._waits -= 1
            if not self._waits and self._deadline is not None and not self.wall.expired():
                self.wall.reschedule(self._deadline + loop.time() - self._began)

    @contextlib.asynccontextmanager
    async def last_turn(self, error: TimedOut) -> AsyncIterator[None]:
        """Let the time-out end only what is inside of it, as this error: what was done before is kept."""
        whole = self.wall
        if whole.expired():  # too late
            yield
            return
        turn = asyncio.timeout_at(whole.when())
        try:
            async with turn:
                whole.reschedule(None)
                self.wall = turn
                yield
        except TimeoutError:
            if not turn.expired():
                raise  # the engine's own
            raise error from None
        finally:
            self.wall, self.is_over = whole, turn.expired()
            if not self.is_over:
                whole.reschedule(turn.when())

    async def watch_idle(self, turn: asyncio.Timeout, seconds: float) -> None:
        """End a turn when its engine has said nothing for too long and runs no tool."""
        loop = asyncio.get_running_loop()
        while True:
            left = self.last + seconds - loop.time()
            if self.tools <= 0 and left <= 0:
                turn.reschedule(loop.time())
                return
            await asyncio.sleep(max(left, 0.05) if self.tools <= 0 else min(seconds, 1.0))


class _Port(Struct):
    """How an attempt talks to the run (`attempt.AttemptPort`)."""

    id: AttemptId
    executor: LocalExecutor
    clock: _Clock
    request: Request
    engine: str
    usage: Usage | None = None
    session: str | None = None
    calls: int = 0
    kept: str | None = None
    takes_messages: bool = False
    waits_for_start: bool = False  # its program may not start yet
    opened: Opened | None = None  # to be called when its session is open, where others wait for that
    waited: float = 0.0  # seconds until its program might start, which are none of its own
    _streamed: Usage | None = None  # what the turn has reported so far
    _has_streamed: bool = False  # something that is worth a log; most calls say no more than their end
    _turn_began: float = 0.0
    _messages: asyncio.Queue[Message] | None = None  # made when somebody needs it: few turns do

    @property
    def is_out_of_time(self) -> bool:
        return self.clock.is_over or self.clock.wall.expired()

    @property
    def messages(self) -> asyncio.Queue[Message]:
        if self._messages is None:
            self._messages = asyncio.Queue()
        return self._messages

    async def emit(self, event: EngineEvent) -> None:
        check_event(event)
        self.clock.saw(event)
        if isinstance(event, UsageEvent):
            self._streamed = event.usage if self._streamed is None else self._streamed + event.usage
        elif isinstance(event, SessionEvent):
            self.session = event.id
            if self.opened is not None:
                self.opened()
        if self._has_streamed or not isinstance(event, IN_JOURNAL):
            self._has_streamed = True
            self.executor.report(AttemptStreamed(self.id, event))

    async def permit(self, key: LimitKey, tokens: int) -> Permit:
        async with self.clock.stopped():
            permit = await self.executor.coordinator.permit(self.id, key, tokens)
        self.calls += 1
        return permit

    async def ask(self, question: Question) -> Answer:
        async with self.clock.stopped():
            return await self.executor.coordinator.ask(self.id, question, self.request.workspace)

    async def inbox(self) -> AsyncIterator[Message]:
        self.takes_messages = True  # also of an engine that did not say so
        while True:
            yield await self.messages.get()

    def untold(self) -> tuple[str, ...]:
        """The messages that came too late for the last turn, as notes."""
        late = self._messages
        if late is None:
            return ()
        return tuple(f"was not told: {late.get_nowait().text}" for _ in range(late.qsize()))

    def used(self, usage: Usage) -> None:
        """Count a turn that ended with a reply: its own figure, rather than the sum of what it reported."""
        check_usage(usage)
        self._add(usage)
        self._streamed = None

    def placed(self, path: str, base: str, edits: bool, *, is_over: bool = False) -> None:
        self.executor.report(AttemptPlaced(self.id, path, base, edits, is_over))

    @contextlib.asynccontextmanager
    async def parked(self) -> AsyncIterator[None]:
        async with self.clock.stopped():
            self.executor.report(AttemptParked(self.id, True))
            try:
                yield
            finally:
                self.executor.report(AttemptParked(self.id, False))

    def last_turn(self) -> contextlib.AbstractAsyncContextManager[None]:
        return self.clock.last_turn(self.timed_out())

    def timed_out(self) -> TimedOut:
        said = f"engine `{self.engine}` was not done after {self.request.timeout_seconds:g} s"
        return TimedOut(said, next="raise `timeout`, or make the task smaller")

    def begins_later(self, seconds: float) -> None:
        """Take what a turn waited until its program might start off what it took."""
        self.waited += seconds
        self._turn_began += seconds

    def turn_started(self, turn: int) -> None:
        self._turn_began = time.monotonic()
        self.executor.report(AttemptTurned(self.id, turn))

    def turn_ended(self, turn: int, reason: str) -> None:
        seconds = time.monotonic() - self._turn_began
        self.executor.report(AttemptTurned(self.id, turn, seconds, reason))
        self.settle()

    def settle(self) -> None:
        """Count what a turn reported that ended without a reply."""
        if self._streamed is not None:
            self._add(self._streamed)
            self._streamed = None

    def _add(self, usage: Usage) -> None:
        self.usage = usage if self.usage is None else self.usage + usage


class LocalExecutor:
    """Carry out attempts in this process (see `base.Executor`).

    `group` owns every attempt; `engine_of` gives the engine of a name, and may raise `Unavailable`. `places`
    makes the folders that attempts work in; None where there are none, outside git.
    """

    def __init__(
        self,
        group: asyncio.TaskGroup,
        engine_of: Callable[[str], Engine],
        coordinator: Coordinator,
        places: Workspaces | None = None,
    ) -> None:
        self.coordinator = coordinator
        self._places = places
        self._group = group
        self._loop = asyncio.get_running_loop()
        self._engine_of = engine_of
        self._running: dict[AttemptId, asyncio.Task[None]] = {}
        self._ports: dict[AttemptId, _Port] = {}
        self._fresh: list[AttemptId] = []  # of which no time-out is set yet
        self._news: list[ExecutorEvent] = []
        self._has_news = asyncio.Event()
        self._is_closed = False
        self._starts = Starts(max(LEAST_STARTS, os.cpu_count() or 1))

    def start(self, spec: AttemptSpec) -> AttemptId:
        self._to_arm(spec.id)
        self._running[spec.id] = self._group.create_task(self._perform(spec, time.monotonic()))
        return spec.id

    def _to_arm(self, id: AttemptId) -> None:
        """Have an attempt's time-out set once it has begun: one that answers at once needs no timer."""
        if not self._fresh:
            self._loop.call_later(0, self._arm)
        self._fresh.append(id)

    def _arm(self) -> None:
        """Set the time-outs of those that are still at work."""
        fresh, self._fresh = self._fresh, []
        now = self._loop.time()
        for id in fresh:
            port = self._ports.get(id)
            if port is not None:
                port.clock.arm(now + port.request.timeout_seconds)
            elif id in self._running:  # it was started in this very round, and begins in the next
                self._to_arm(id)

    async def events(self) -> AsyncIterator[Sequence[ExecutorEvent]]:
        while not self._is_closed or self._news:
            await self._has_news.wait()
            self._has_news.clear()
            news, self._news = self._news, []
            if news:
                yield news

    def send(self, id: AttemptId, message: Message) -> bool:
        port = self._ports.get(id)
        if port is None or not port.takes_messages:
            return False
        port.messages.put_nowait(message)
        return True

    def cancel(self, id: AttemptId) -> None:
        task = self._running.get(id)
        if task is None:
            return
        task.cancel()
        if id not in self._ports:  # it has not begun, and never will
            self._ended(id, AttemptDone(id, 0.0))

    def capacity(self) -> int | None:
        return None

    def hold_starts(self, is_held: bool) -> None:
        """Let no assistant's program start up, or let them again; attempts whose programs run go on."""
        self._starts.hold(is_held)

    def not_started(self) -> set[str]:
        """The tasks of which nothing runs yet: all of their attempts wait until a program may start."""
        waiting = {id for id, port in self._ports.items() if port.waits_for_start}
        return {id.task for id in waiting} - {id.task for id in self._running if id not in waiting}

    def report(self, event: ExecutorEvent) -> None:
        self._news.append(event)
        self._has_news.set()

    def close(self) -> None:
        """Let `events` end once it has given what there is."""
        self._is_closed = True
        self._has_news.set()

    def _ended(self, id: AttemptId, done: AttemptDone) -> None:
        del self._running[id]
        self._ports.pop(id, None)
        self.report(done)

    def _done(
        self, id: AttemptId, began: float, result: Result | None, error: EngineError | None
    ) -> AttemptDone:
        seconds, port = time.monotonic() - began, self._ports.get(id)
        if port is None:
            return AttemptDone(id, seconds, error=error)
        seconds -= port.waited
        port.settle()
        if result is None:
            return AttemptDone(id, seconds, None, error, port.usage, calls=port.calls, kept=port.kept)
        reply = result.reply
        if untold := port.untold():
            reply = dataclasses.replace(reply, notes=(*reply.notes, *untold))
        return AttemptDone(id, seconds, reply, None, port.usage, result.measured, port.calls)

    async def _perform(self, spec: AttemptSpec, began: float) -> None:
        """Carry an attempt out, and report its end, also of one that is cancelled meanwhile."""
        result: Result | None = None
        error: EngineError | None = None
        try:
            result = await self._attempt(spec, began)
        except EngineError as failure:
            error = sound(failure)
        except ParallelAIError as failure:
            error = Unavailable(failure.said, where=failure.where, next=failure.next)
        except (Exception, SystemExit) as failure:  # other people's code: its bug is this attempt's failure
            if isinstance(failure, OSError) and faults.is_full(failure):
                error = disk_full(failure)
            else:
                error = Internal(f"engine `{spec.engine}` failed: {type(failure).__name__}: {failure}")
        finally:
            self._ended(spec.id, self._done(spec.id, began, result, error))

    async def _attempt(self, spec: AttemptSpec, began: float) -> Result:
        engine = self._engine_of(spec.engine)
        request = spec.request
        port: _Port | None = None
        try:
            async with asyncio.timeout(None) as wall:
                port = self._ports[spec.id] = _Port(spec.id, self, _Clock(wall), request, spec.engine)
                port._turn_began = began
                port.takes_messages = engine.capabilities.messages
                # Most attempts are that; all else is for those with more.
                if spec.work is PLAIN and is_one_turn(engine):
                    return await self._only_turn(engine, port, request)
                perform = functools.partial(self._turn, engine, port)
                doers = Doers(engine, perform, functools.partial(self._second_pass, spec, port))
                return await carry_out(doers, request, spec.work, port, self._places)
        except TimeoutError:
            if port is None or not port.clock.wall.expired():
                raise  # the engine's own, not ours
            raise port.timed_out() from None

    async def _only_turn(self, engine: Engine, port: _Port, request: Request) -> Result:
        reply = await self._turn(engine, port, completed(engine, request))
        if not isinstance(reply, Reply):
            raise TypeError(f"it gave no reply, but {type(reply).__name__}")
        port.used(reply.usage)
        return Result(reply)

    async def _second_pass(self, spec: AttemptSpec, port: _Port, request: Request) -> Reply:
        """Ask the engine that tries to refute findings."""
        name = spec.work.verify or spec.engine
        model = request.model if name == spec.engine else None
        return await self._turn(self._engine_of(name), port, dataclasses.replace(request, model=model))

    async def _turn(self, engine: Engine, port: _Port, request: Request) -> Reply:
        """Perform a turn; one that opens a session in a program of its own, once that may start."""
        port.request = request
        if not engine.capabilities.streams:
            return await engine.perform(request, port)
        if not (engine.capabilities.resumes and request.session is None):
            return await self._watched(engine, port, request)
        size = engine.estimate(request).memory_bytes
        if not size:  # it starts no program
            return await self._watched(engine, port, request)
        asked = time.monotonic()
        port.waits_for_start = True
        try:
            async with port.clock.stopped():
                port.opened = opened = await self._starts.begin(size)
        finally:  # also where it is cancelled meanwhile
            port.waits_for_start = False
            port.begins_later(time.monotonic() - asked)
        try:
            return await self._watched(engine, port, request)
        finally:
            opened()

    async def _watched(self, engine: Engine, port: _Port, request: Request) -> Reply:
        """Perform a turn of an engine that streams, beside a watch on its silence."""
        seconds = request.idle_timeout_seconds
        port.clock.begin_turn()
        scope = asyncio.timeout(None)
        try:
            async with scope as turn:
                watch = self._group.create_task(port.clock.watch_idle(turn, seconds))
                try:
                    return await engine.perform(request, port)
                finally:
                    watch.cancel()
        except TimeoutError:
            if not scope.expired():
                raise
            said = f"engine `{engine.name}` said nothing for {seconds:g} s"
            raise SilentEngine(said, next="raise `idle_timeout`, or look at the log") from None
