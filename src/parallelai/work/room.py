"""The workstreams of one run: prepared, heard between turns, landed, cleaned.

The room holds what workstreams share while the run lives: leases, the landing queue, what they are to be told.
What outlasts it is on disk: the registry of workstreams, the ledger, and git.
"""

from __future__ import annotations

import asyncio
import dataclasses
import shlex
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from typing import Any

from msgspec import Struct, field

from parallelai import processes
from parallelai.engines.protocol import Request
from parallelai.engines.untrusted import clean, shorten
from parallelai.errors import ENGINE_ERRORS, EngineError, Internal, Trespass, Unavailable, UsageError
from parallelai.events import TaskStep
from parallelai.git.repository import Repository
from parallelai.plan.fields import Sandbox
from parallelai.plan.model import PhaseGate
from parallelai.records import ErrorRecord, Reply
from parallelai.run.approving import WAITS
from parallelai.run.workspaces import Measured, Parked, Told
from parallelai.work.colleagues import Colleagues, Pause
from parallelai.work.conflicts.advice import advice, has_landed, left_unsettled, marked, to_settle
from parallelai.work.conflicts.waiting import place_of
from parallelai.work.landing.explaining import request_open
from parallelai.work.landing.following import take_along
from parallelai.work.landing.queue import LandingQueue
from parallelai.work.landing.records import Arrival, Tell, candidate_of
from parallelai.work.setting import Setting
from parallelai.work.site import Site
from parallelai.work.streams.record import Stream, described, refused, waits_for_leave, with_leave
from parallelai.work.streams.registry import Streams, is_finished
from parallelai.work.streams.revisiting import landed_again
from parallelai.work.streams.worktrees import Started

MOST_SAID = 200
"""How much of what a person said is said again."""
MOST_TOLD = 6
"""Turns that a room gives an assistant in one attempt: who always asks for more is not answered for ever."""


class _Course(Struct):
    """Where one workstream is while the run lives."""

    told: int = 0
    has_begun: bool = False
    has_trespassed: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    decided: asyncio.Event = field(default_factory=asyncio.Event)
    refusal: str | None = None
    is_landing: bool = False
    broken: set[str] = field(default_factory=set)
    sent: dict[str, str] = field(default_factory=dict)
    """What people said to it that it was not told yet, by the words in which it is told."""


class Room:
    """Make one with `opening.open_room`.

    Args:
        site: the worktrees, and what is in them.
        colleagues: leases, messages and conflicts between workstreams.
        queue: lands candidates.
        gate: runs a phase's gate on a commit; raises `GateFailed`.
        tell: writes an event down.
    """

    def __init__(
        self,
        setting: Setting,
        repository: Repository,
        streams: Streams,
        site: Site,
        colleagues: Colleagues,
        queue: LandingQueue,
        gate: Callable[[PhaseGate, str], Awaitable[None]],
        tell: Tell,
    ) -> None:
        self.setting = setting
        self.repository = repository
        self.streams = streams
        self.site = site
        self._colleagues = colleagues
        self._queue = queue
        self._gate = gate
        self._tell = tell
        self._courses: dict[str, _Course] = defaultdict(_Course)
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._preparing = 0
        self.begun = asyncio.Event()
        """Set when the first worktrees are made: what is not urgent should not hold them up."""

    # -- what there is

    @property
    def tell(self) -> Tell:
        """Writes an event down."""
        return self._tell

    def has(self, task: str) -> bool:
        """Whether a task is a workstream of this run."""
        return task in self.setting.works

    def known(self, name: str) -> Stream | None:
        """A workstream as it is on disk; None before its worktree was made."""
        stream = self.streams.get(name)
        return stream if stream is not None and stream.plan == self.setting.plan_name else None

    def _mine(self, name: str) -> Stream:
        """A workstream of this plan. Raises `Unavailable` where another plan has its name by now, or nobody."""
        stream, mine = self.streams.get(name), self.known(name)
        if mine is None:  # its leave and its landing are not ours to give
            of = f"that of a workstream of `{stream.plan}` by now" if stream is not None else "gone"
            raise Unavailable(f"the name `{name}` is {of}", next="see `work status --all`")
        return mine

    def describe(self, name: str) -> dict[str, Any] | None:
        """A workstream in the run's document (CONTRACTS §5); None before its worktree was made."""
        stream = self.known(name)
        if stream is None:
            return None
        return {**described(stream), "trespasses": [dataclasses.asdict(kept) for kept in stream.kept_out]}

    # -- an attempt

    async def prepare(
        self, name: str, parked: Parked, sandbox: Sandbox = "auto", *, goes_on: bool = False
    ) -> Stream:
        """Make a workstream's worktree, or go on with the one that it has. Raises `ParallelAIError`.

        What an attempt of an earlier process left that was cut off stays if its session `goes_on`, or if a person has
        worked on it since it was stopped; else it is taken back: who begins anew must not find half of the work done.
        What stays is judged and committed as after a turn.
        While others hold the memory or the heavy slots that it needs, it waits inside of `parked`.
        """
        self._tell(name, TaskStep("prepare", "preparing"))
        self._preparing += 1
        try:
            async with self._locks[name]:
                course = self._courses[name]
                course.told, course.has_trespassed = 0, False
                if course.ended.is_set():  # it is tried again: a refusal was for what it came to before
                    course.refusal = None
                    course.ended.clear()
                self._colleagues.began(name)
                before = self.known(name)
                was_in_attempt = before is not None and before.in_attempt
                stays = goes_on or course.has_begun or (was_in_attempt and await self.site.is_a_persons(name))
                started = await self.site.prepare(name, sandbox)
                await self._judge_left(name, started, stays)
                course.has_begun = True
                if not started.is_new:  # what was put right on the target since it failed has to reach it
                    synced = await self.site.sync(name)
                    self._colleagues.keep(name, [synced] if synced else [])
                stream = self.streams.find(name)
        finally:
            self._preparing -= 1
            if not self._preparing:
                self.begun.set()
        await self.site.loans.work(name, parked)
        self._tell(name, TaskStep("perform", "working"))
        return self.streams.update(
            stream.name,
            lambda it: dataclasses.replace(it, in_attempt=True, left_at=None, is_by_hand=False),
        )

    async def _judge_left(self, name: str, started: Started, stays: bool) -> None:
        """Take back what an attempt left that was cut off; where it stays, judge it: a sync makes all commits ours."""
        stream, leased = started.stream, self._colleagues.leased(name)
        if stream.in_attempt and not stays:
            await self.site.start_over(name, leased)
        elif not started.is_new and (stream.in_attempt or await self._has_moved(stream)):
            await asyncio.to_thread(processes.sweep)  # its programs may be at it still
            said = await self.site.guard(name, leased)
            self._colleagues.keep(name, [said] if said else [])

    async def _has_moved(self, stream: Stream) -> bool:
        """Whether its branch is not where it was left: an attempt that failed may have committed, or a person."""
        return await self.repository.commit(f"refs/heads/{stream.branch}") != stream.head

    def stopped(self, name: str) -> None:
        """Nobody works in a worktree any more: where an attempt has not come to its end, it was stopped now."""
        stream = self.known(name)
        if stream is not None and stream.in_attempt:
            self.streams.update(name, lambda it: dataclasses.replace(it, left_at=time.time()))

    def attempted(self, name: str) -> None:
        """An attempt has come to its end, good or bad: nobody cut it off."""
        self.streams.update(name, lambda it: dataclasses.replace(it, in_attempt=False))

    def _resting(self, name: str, parked: Parked) -> Parked:
        """As `parked`, and without memory and heavy slots: who is waited for may need them."""

        @asynccontextmanager
        async def resting() -> AsyncIterator[None]:
            async with parked():
                await self.site.loans.rest(name)
                yield
                await self.site.loans.work(name, nullcontext)

        return resting

    async def brief(self, name: str, request: Request, has_hands: bool) -> Request:
        """Put a workstream's context before what its assistant is asked."""
        stream = self.streams.find(name)
        notes = self._colleagues.notes(name)
        self._courses[name].sent.clear()
        return await self.site.brief(stream, request, notes, has_hands=has_hands)

    async def heard(self, name: str, reply: Reply, can_go_on: bool, parked: Parked) -> Told:
        """Take in what a turn said and did; gives what its assistant is to be told.

        That others landed is no reason for a turn, which costs money: a worktree is synced only where a turn or a
        check follows, and whoever has finished is merged when it lands.
        """
        course, work = self._courses[name], self.setting.works[name]
        parked = self._resting(name, parked)
        self._colleagues.heard(name, reply.text or "")
        words = await self._colleagues.leases(name, reply.text or "", parked)
        # Who remembers nothing is told all again where it stopped for an answer; once, for a program may always ask.
        is_awaited = bool(words) and not course.told
        async with self._locks[name]:
            self._tell(name, TaskStep("guard", "guarding"))
            guarded = await self.site.guard(name, self._colleagues.leased(name))
            self._tell(name, TaskStep("perform", "working"))
            if guarded and not course.has_trespassed:
                course.has_trespassed = True
                words.append(guarded)
            words += await self._broken(name)
        pause = await self._colleagues.pause(name, parked)
        can_tell = (can_go_on or is_awaited) and course.told < MOST_TOLD
        words += await self._put_right(name, pause, can_tell)
        words += self._colleagues.news(name)
        about = _about(words, guarded, course.sent)
        if not can_tell:
            self._colleagues.keep(name, words)
            words = []
        else:
            course.sent.clear()
        untold = tuple(course.sent.values())
        if not words and not work.checks and not work.todo:
            return Told(untold=untold)
        course.told += bool(words)
        async with self._locks[name]:
            synced = await self.site.sync(name)
        asides = [synced, *self._colleagues.asides(name)]
        return Told("\n\n".join(words), "\n\n".join(filter(None, asides)), untold, about)

    async def _put_right(self, name: str, pause: Pause, can_tell: bool) -> list[str]:
        """Bring in what a workstream waited for, where it can be told; gives what it has to put right."""
        async with self._locks[name]:
            if pause.conflict is None:
                left = await self.site.unsettled(name)
                return [to_settle(left)] if left else []
            words = [has_landed(pause.waited.landed, self.setting.target, place_of(pause.conflict))]
            if can_tell:
                words.append(await self.site.take_over(name))
            left = await self.site.unsettled(name)
        if left:
            words.append(to_settle(left))
        elif not can_tell or pause.conflict.class_ == "logic":
            words.append(advice(pause.conflict))
        return [" ".join(words)]

    async def _broken(self, name: str) -> list[str]:
        """Say, once for each, which promised interfaces a workstream broke, and who would notice."""
        told = self._courses[name].broken
        new = [each for each in await self.site.broken(name) if each not in told]
        told.update(new)
        if not new:
            return []
        listed = "\n".join(f"- {each}" for each in new)
        return [
            f"These interfaces are promised to others, and what you did breaks them:\n{listed}\nKeep them."
        ]

    async def measure(self, name: str) -> Measured:
        """Say what a workstream has changed since it was cut, as it stands on its branch."""
        return await self.site.measure(name)

    async def take_back(self, name: str) -> None:
        """Undo what a check left in a worktree."""
        async with self._locks[name]:
            await self.site.take_back(name)

    # -- landing

    async def approved(self, name: str) -> None:
        """Wait for a person's leave to land. Raises `Unavailable` where nobody is there, or it was refused."""
        course = self._courses[name]
        try:
            self._mine(name)
            self._refuse_refused(name)
            self.streams.update(name, lambda it: dataclasses.replace(it, state="done"))
            self._colleagues.finished(name)
            while not (stream := self.streams.find(name)).is_approved:
                if not self.setting.is_attended and not course.decided.is_set():
                    raise waits_for_leave(stream)
                self._tell(name, WAITS)
                await course.decided.wait()
                course.decided.clear()
                self._refuse_refused(name)
        except BaseException:  # cancelled too: nobody may wait for it for ever
            course.ended.set()
            raise

    async def land(self, name: str) -> None:
        """Land a workstream. Raises the `EngineError` that keeps it from landing."""
        course = self._courses[name]
        try:
            before = self._mine(name)
            self._refuse_refused(name)
            stream = self.streams.update(name, lambda it: dataclasses.replace(it, state="done", undone=None))
            self._colleagues.finished(name)
            await self.site.loans.rest(name)
            await self._refuse_unsettled(name)
            await self._refuse_marked(name)
            await self._refuse_broken(name)
            await self._await_dependencies(stream)
            notes = await self._colleagues.logic(name)
            self._refuse_refused(name)
            candidate = candidate_of(self.streams.find(name), engine=self.setting.engine_of(name))
            course.is_landing = True
            arrival = await self._queue.land(candidate)
            if arrival.landed is None:
                raise self._blocked(name, arrival)
            landed = landed_again(arrival.landed, before, notes)
            stream = self.streams.update(
                name, lambda it: dataclasses.replace(it, state="landed", landed=landed)
            )
            if landed.pushed is not None:
                await take_along(self.repository, self.streams, landed.target, landed.pushed)
            await self.site.finished(stream)
            await self._colleagues.landed(name)
            if arrival.push_error is not None:
                why = arrival.push_error.said.removeprefix("not pushed: ")
                said = f"it has landed here, and was not pushed: {why}"
                raise Unavailable(said, next=arrival.push_error.next or "push the target yourself")
        finally:
            course.is_landing = False
            course.ended.set()

    def gave_up(self, name: str) -> None:
        """Take in that a workstream ended without landing: nobody need wait for it."""
        self._courses[name].ended.set()
        self._colleagues.gave_up(name)

    def _refuse_refused(self, name: str) -> None:
        """What a person refused, also while it was worked on, does not land. Raises `Unavailable`."""
        course = self._courses[name]
        if course.refusal is None:
            return
        refusal, course.refusal = course.refusal, None
        course.decided.clear()
        self.streams.update(name, lambda it: dataclasses.replace(it, state="open", refused_head=it.head))
        raise Unavailable(f"its landing was refused: {refusal}", next="go on with the run")

    async def _refuse_broken(self, name: str) -> None:
        """A promised interface that is broken takes a person's leave."""
        found = await self.site.broken(name)
        if found and not self.streams.find(name).is_approved:
            more = f"; and {len(found) - 5} more" if len(found) > 5 else ""
            raise Trespass(
                f"it breaks an interface that it promised: {'; '.join(found[:5])}{more}",
                next=f"if that is meant: `parallelai work approve {name}`; then go on with the run",
            )

    async def _refuse_unsettled(self, name: str) -> None:
        """What has a conflict in it that nobody settled is not finished."""
        left = await self.site.unsettled(name)
        if left:
            self.streams.update(name, lambda it: dataclasses.replace(it, state="open"))
            self._colleagues.keep(name, [to_settle(left)])
            raise left_unsettled(name, left)

    async def _refuse_marked(self, name: str) -> None:
        """Conflict markers that nobody has settled take a person's leave."""
        found = await self.site.marked(name)
        if found and not self.streams.find(name).is_approved:
            raise marked(name, found)

    async def _await_dependencies(self, stream: Stream) -> None:
        """Wait for those whose work it was cut from before they had landed (`after: finished`)."""
        for other in stream.depends_on:
            if not self.has(other):
                continue
            known = self.known(other)
            if known is None or known.state != "landed":
                await self._courses[other].ended.wait()
                known = self.known(other)
            if known is None or known.state != "landed":
                raise Unavailable(
                    f"`{other}`, which it builds on, has not landed", next=f"see `work status {other}`"
                )

    def _blocked(self, name: str, arrival: Arrival) -> EngineError:
        """The error of a workstream that did not land. What an assistant can put right is worked on again."""
        if arrival.pull_request is not None:
            opened = request_open(arrival.pull_request)
            return Unavailable(opened.said, next=opened.next)
        record = arrival.error or ErrorRecord("internal", "it did not land, and nobody said why")
        if record.kind in ("gate_failed", "conflict"):
            self.streams.update(name, lambda it: dataclasses.replace(it, state="open"))
            self._colleagues.keep(name, [f"It did not land: {record.said}\nPut that right."])
        return ENGINE_ERRORS.get(record.kind, Internal)(record.said, where=record.where, next=record.next)

    async def phase_gate(self, gate: PhaseGate) -> None:
        """Run a phase's gate on the target as it stands. Raises `GateFailed`."""
        await self._gate(gate, await self.site.tip())

    # -- what others ask of the run

    def steer(self, kind: str, args: Mapping[str, Any], by: str) -> str:
        """Do what somebody asks of a workstream, and say what was done. Raises `UsageError`."""
        name = str(args.get("name") or args.get("task") or "")
        if not self.has(name):
            known = ", ".join(f"`{each}`" for each in self.setting.works)
            raise UsageError(f"this run has no workstream `{name}`", next=f"it has {known}")
        match kind:
            case "approve":
                head = str(args.get("head") or "")
                self.streams.update(name, lambda it: with_leave(it, head, by or "somebody"))
                self._courses[name].decided.set()
                return f"`{name}` may land{self._once_over(name)}"
            case "reject":
                self._refuse_late(name)
                reason = str(args.get("reason") or "")
                self.streams.update(name, lambda it: _refused(it, by or "somebody", reason))
                self._courses[name].refusal = reason or "no reason was given"
                self._courses[name].decided.set()
                return f"`{name}` does not land; it is worked on again when the run goes on"
            case "send":
                stream = self.known(name)
                if stream is not None and is_finished(stream):
                    raise UsageError(f"`{name}` is {stream.state} already, and takes no turn more")
                text = str(args.get("text") or "")
                told = f"{by or 'Somebody'} says: {text}"
                self._colleagues.keep(name, [told])
                self._courses[name].sent[told] = text
                said = f"`{name}` is told with its next turn, if there is one"
                if stream is None or stream.state != "done" or stream.in_attempt:
                    return said
                reject = f"`parallelai work reject {shlex.quote(name)} --reason TEXT`"
                return f"{said}; its work is done: {reject} has it worked on again"
            case "lease":
                paths = tuple(str(path) for path in args.get("paths") or ())
                return self._colleagues.give(name, paths, by)
        raise UsageError(f"`{kind}` is nothing that a running run does with a workstream")

    def _refuse_late(self, name: str) -> None:
        """Say of what lands, or has ended for good, that it is too late to refuse it. Raises `UsageError`."""
        stream, takes_back = self.known(name), f"`parallelai work undo {name}` takes it back"
        if stream is not None and is_finished(stream):
            raise UsageError(f"`{name}` is {stream.state} already", next=takes_back)
        if self._courses[name].is_landing:
            stops = f"`parallelai work stop {name}` ends that, if it is in time; afterwards {takes_back}"
            raise UsageError(f"`{name}` is landing already", next=stops)

    def _once_over(self, name: str) -> str:
        """Say of one that has ended in this run, which waits for no word more, what takes it up again."""
        if not self._courses[name].ended.is_set():
            return ""
        again = f"`parallelai work run {shlex.quote(self.setting.plan_name)}`"
        return f", but it has ended in this run: once that is over, {again} lands it"

    async def tidy(self) -> None:
        """Remove the worktrees of what landed, and a killed process did not come to remove."""
        for stream in self.streams.all():
            if self.has(stream.name) and stream.plan == self.setting.plan_name and stream.state == "landed":
                await self.site.finished(stream)

    async def aclose(self) -> None:
        """Let go of what only the run needed."""
        for course in self._courses.values():
            course.ended.set()
        await self.site.aclose()


def _about(words: Sequence[str], guarded: str, sent: Mapping[str, str]) -> str:
    """What words are about, if all that they say is what was kept out, and what people said; else nothing."""
    if any(each != guarded and each not in sent for each in words):
        return ""
    said = (f"`{shorten(clean(' '.join(sent[each].split())), MOST_SAID)}`" for each in words if each in sent)
    return " and ".join([*("what was kept out" for each in words if each == guarded), *said])


def _refused(stream: Stream, by: str, reason: str) -> Stream:
    """Write down that a person refused it. A reason is told from the run's journal: mail would say it once more."""
    now = refused(stream, by, reason)
    return dataclasses.replace(now, mail=stream.mail) if reason else now
