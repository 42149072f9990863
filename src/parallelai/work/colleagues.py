"""What the workstreams of a run have to do with each other: leases, messages, conflicts while they form."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from parallelai.errors import ParallelAIError, UsageError
from parallelai.events import (
    ConflictGone,
    ConflictSeen,
    LeaseAsked,
    LeaseEnded,
    LeaseGranted,
    LeaseRefused,
)
from parallelai.git.repository import Repository
from parallelai.plan.pairs import earlier
from parallelai.records import ConflictPair
from parallelai.run.workspaces import Parked
from parallelai.work.conflicts import Head, Matrix
from parallelai.work.conflicts.advice import advice
from parallelai.work.conflicts.waiting import cause_of, merged_logic
from parallelai.work.context.notes import notes_of
from parallelai.work.context.text import Note
from parallelai.work.guard.leases import (
    Answer,
    Claim,
    Granted,
    LeaseRequest,
    Leases,
    NeedsPerson,
    Refused,
    Waits,
    requests,
)
from parallelai.work.guard.links import link_above
from parallelai.work.guard.rules import Permits
from parallelai.work.holding import NOT_WAITED, Ask, Holding, Waited
from parallelai.work.landing.history import to_merge
from parallelai.work.landing.records import Tell
from parallelai.work.leaving import no_file_among
from parallelai.work.setting import Setting
from parallelai.work.streams.record import Stream
from parallelai.work.streams.registry import Streams

NOTE_CHARACTERS = 4000
"""How much of what one workstream says at its end the others are told."""


class Pause(Struct, frozen=True):
    """What came of a pause between turns: for whom it was, and the conflict with the target to put right now."""

    waited: Waited = NOT_WAITED
    conflict: ConflictPair | None = None


class Colleagues:
    """One run's. `tell` writes an event of a workstream down; `ask` has a person choose, where one can be asked."""

    def __init__(
        self, setting: Setting, repository: Repository, streams: Streams, tell: Tell, ask: Ask | None = None
    ) -> None:
        self._setting = setting
        self._repository = repository
        self._streams = streams
        self._tell = tell
        self._matrix = Matrix(repository, setting.state / "cache" / "conflicts")
        self._looking = asyncio.Lock()
        self._known: dict[tuple[str, str], ConflictPair] = {}
        self._mail: dict[str, tuple[str, ...]] = {}
        self._asides: dict[str, list[str]] = {}
        self._to_take: set[str] = set()
        self._finished: dict[str, str] = {}
        self._waiting: dict[str, asyncio.Future[Granted | Refused]] = {}
        order = list(setting.works)
        self._earlier = earlier(setting.plan)
        self._gone: set[str] = set()
        mine = [each for each in streams.all() if each.plan == setting.plan_name]
        landed = {each.name for each in mine if each.landed is not None}
        claims = {name: self._claim(name) for name in order if name not in landed}
        self._leases = Leases(order, claims, link_above=self._link_above)
        self._holding = Holding(setting, self._leases, streams, tell, ask, self)
        for stream in streams.open(setting.plan_name):
            if stream.name in self._leases.live:
                self._leases.restore(stream.name, stream.leases)
                self._mail[stream.name] = stream.mail

    def _claim(self, name: str) -> Claim:
        root, plan = self._setting.root, self._setting.plan_name
        is_below = not Path(plan).is_absolute() and (root / plan).is_file()
        permits = Permits(self._setting.rules[name], plan_file=plan if is_below else None)
        return Claim(permits, tuple(self._earlier.get(name, ())))

    def _link_above(self, name: str, path: str) -> str | None:
        stream, root = self._streams.get(name), self._setting.root
        return link_above((root,) if stream is None else (Path(stream.worktree), root), path)

    # -- what they are told

    def keep(self, name: str, words: Sequence[str]) -> None:
        """Keep words for a workstream's next turn, also for a later process of the run."""
        if words:
            self._set_mail(name, (*self._mail.get(name, ()), *words))

    def _taken(self, name: str) -> tuple[str, ...]:
        """Take what is kept for a workstream."""
        words = self._mail.get(name, ())
        if words:
            self._set_mail(name, ())
        return words

    def _set_mail(self, name: str, words: tuple[str, ...]) -> None:
        self._mail[name] = words
        if self._streams.get(name) is not None:
            self._streams.update(name, lambda it: dataclasses.replace(it, mail=words))

    def began(self, name: str) -> None:
        """A workstream is worked on, maybe again."""
        self._gone.discard(name)
        self._holding.began(name)

    def finished(self, name: str) -> None:
        """A workstream has only to land. What it said is kept for a later process of the run."""
        self._holding.finished(name)
        said = self._finished.get(name)
        if said is not None:
            self._streams.update(name, lambda it: dataclasses.replace(it, said=said))

    def heard(self, name: str, text: str) -> None:
        """Remember what a workstream's assistant said last: the others are told when it has finished."""
        self._finished[name] = text[-NOTE_CHARACTERS:]

    def notes(self, name: str) -> list[Note]:
        """What a workstream should know when it begins: what was made before it, what was decided, what it is told."""
        mine = [each for each in self._streams.all() if each.plan == self._setting.plan_name]
        return notes_of(mine, self._setting.works[name].depends_on, self._taken(name), self._finished)

    def news(self, name: str) -> list[str]:
        """What a workstream is to be told now: messages, and conflicts that it is not told of yet."""
        return list(self._taken(name))

    def asides(self, name: str) -> list[str]:
        """What a workstream is told with its next turn, if there is one."""
        return self._asides.pop(name, [])

    # -- leases

    def leased(self, name: str) -> frozenset[str]:
        """The files that a workstream may change beside its own."""
        return self._leases.of(name)

    async def leases(self, name: str, text: str, parked: Parked) -> list[str]:
        """Answer what the closing block of a turn's text asks for; waits, without a slot, where that is due."""
        return [await self._lease(name, request, parked) for request in requests(text)]

    async def _lease(self, name: str, request: LeaseRequest, parked: Parked) -> str:
        if request.problem is not None:
            return f"You have no lease: {request.problem}."
        self._tell(name, LeaseAsked(request.paths, request.reason))
        several = await no_file_among(self._repository, self._streams.find(name), request.paths)
        if several is not None:
            self._tell(name, LeaseRefused(request.paths, several))
            return f"You have no lease: {several}. Ask for the files that you need in it, by their paths."
        answer = self._leases.ask(name, request.paths)
        if isinstance(answer, Waits):
            gone = next((each for each in answer.on if each in self._gone), None)
            if gone is None:
                answer = await self._wait(answer, parked)
            else:
                self._leases.withdraw(name)
                answer = Refused(name, answer.paths, f"`{gone}` has them, and did not land")
        return self._answered(answer)

    async def _wait(self, waits: Waits, parked: Parked) -> Granted | Refused:
        future: asyncio.Future[Granted | Refused] = asyncio.get_running_loop().create_future()
        self._waiting[waits.stream] = future
        try:
            async with parked():
                return await future
        finally:
            self._waiting.pop(waits.stream, None)
            if not future.done() or future.cancelled():
                self._leases.withdraw(waits.stream)

    def _answered(self, answer: Answer) -> str:
        shown = ", ".join(f"`{path}`" for path in answer.paths)
        match answer:
            case Granted():
                self._tell(answer.stream, LeaseGranted(answer.paths, answer.by))
                self._note_leases(answer.stream)
                if not answer.paths:
                    return "You may change those files already. Go on."
                return f"You have the lease of {shown} until your work has landed. Go on with your task."
            case NeedsPerson():
                named = ", ".join(f"`{path}`" for path in answer.because)
                why = f"{named} is protected: a person has to give leave"
                self._tell(answer.stream, LeaseRefused(answer.paths, why))
                return f"You have no lease of {shown}: {why}. Go on without, and say what is missing."
            case Refused():
                self._tell(answer.stream, LeaseRefused(answer.paths, answer.why))
                return f"You have no lease of {shown}: {answer.why}. Go on without, and say what is missing."
            case Waits():
                return f"You wait for {shown}."

    def _note_leases(self, name: str) -> None:
        """Write down what a workstream holds, for a later process of the run."""
        held = tuple(sorted(self._leases.of(name)))
        self._streams.update(name, lambda it: dataclasses.replace(it, leases=held))

    def give(self, name: str, paths: Sequence[str], by: str) -> str:
        """Give a workstream leave by a person's word. Raises `UsageError` where it cannot have it now."""
        if name not in self._leases.live:
            raise UsageError(f"`{name}` has ended")
        answer = self._leases.leave(name, paths, by or "a person")
        if isinstance(answer, Waits):
            shown, others = (", ".join(f"`{each}`" for each in some) for some in (answer.paths, answer.on))
            return f"`{name}` gets {shown} when {others} {'has' if len(answer.on) == 1 else 'have'} landed"
        said = self._answered(answer)
        future = self._waiting.get(name)
        if isinstance(answer, Granted | Refused) and future is not None and not future.done():
            future.set_result(answer)  # what it waited for is forgotten with a new decision
        if isinstance(answer, Refused):
            raise UsageError(answer.why)
        self.keep(name, [said])
        return f"`{name}` is told with its next turn"

    # -- ends

    async def landed(self, name: str) -> None:
        """A workstream has landed or was given up: its leases are free, and the picture is another one."""
        held, served = self._leases.end(name)
        if held:
            self._tell(name, LeaseEnded(held, "its work has landed"))
        for answer in served:
            self._served(answer)
        await self.look()
        self._holding.ended(name)

    def gave_up(self, name: str) -> None:
        """A workstream has ended without landing: its leases stay its own, and who waits for them does not get them."""
        self._gone.add(name)
        self._holding.ended(name)
        self._leases.withdraw(name)
        for stream, on in self._leases.waiting().items():
            if name in on:
                paths = self._leases.withdraw(stream)
                self._served(Refused(stream, paths, f"`{name}` has them, and did not land"))

    def _served(self, answer: Granted | Refused) -> None:
        """Answer who waits for files; who goes on meanwhile, as a person asked for it, is told with its next turn."""
        future = self._waiting.get(answer.stream)
        if future is None:
            self.keep(answer.stream, [self._answered(answer)])
        elif not future.done():
            future.set_result(answer)

    # -- conflicts

    async def look(self) -> None:
        """Compare all that is committed now; tell of each conflict once, and of those that are gone."""
        async with self._looking:
            live = [each for each in self._streams.open(self._setting.plan_name) if each.head != each.base]
            target = await self._repository.commit(f"refs/heads/{self._setting.target}")
            if target is None or not live:
                return
            tips = {each.name: await to_merge(self._repository, each, each.head, target) for each in live}
            heads = [Head(each.name, tips[each.name], each.rules.owns) for each in live]
            document = await self._matrix.look(heads, Head(self._setting.target, target))
            found = {(pair.a, pair.b): pair for pair in document.pairs if pair.is_broken}
            for key, pair in found.items():
                if key not in self._known:
                    self._seen(pair, {each.name: each for each in live})
            for a, b in self._known.keys() - found.keys():
                self._tell(None, ConflictGone(a, b))
            self._known = found
            self._holding.seen(tuple(found.values()))

    async def logic(self, name: str) -> tuple[str, ...]:
        """What a workstream that is about to land does not work together with, though git merges it; for its notes."""
        about = self._setting.target
        async with self._looking:
            done = [each for each in self._streams.open(self._setting.plan_name) if each.state == "done"]
            target = await self._repository.commit(f"refs/heads/{about}")  # then: one that lands is in either
            heads = [Head(each.name, each.head, each.rules.owns) for each in done if each.head != each.base]
            if target is None:
                return ()
            try:
                found = await self._matrix.look(heads, Head(about, target))
            except ParallelAIError:  # only a note: it keeps nothing from landing
                return ()
        notes = (merged_logic(pair) for pair in found.pairs if name in (pair.a, pair.b))
        return tuple(note for note in notes if note is not None)

    def _seen(self, pair: ConflictPair, live: dict[str, Stream]) -> None:
        """Tell of a conflict: by a message where neither waits, else with what follows from the wait."""
        self._tell(None, ConflictSeen(pair))
        sides = {name: live[name] for name in (pair.a, pair.b) if name in live}
        alone = next(iter(sides)) if len(sides) == 1 else None
        if alone is not None and (self._holding.is_waiting(alone) or self._holding.reaction(pair) == "wait"):
            self._to_take.add(alone)
        elif alone is not None or not self._holding.is_settled(pair):
            self._advise(pair, sides)

    def _advise(self, pair: ConflictPair, sides: dict[str, Stream]) -> None:
        for name, stream in sides.items():
            if stream.state == "open":
                self.keep(name, [advice(pair, is_with_target=len(sides) == 1)])

    def begins_to_wait(self, name: str, other: str, pair: ConflictPair) -> None:
        """Tell the one that is waited for (`holding.Notices`)."""
        said = f"What you do does not fit what `{name}` does: {cause_of(pair)}."
        self._asides.setdefault(other, []).append(f"{said} It waits until your work has landed: go on.")

    def both_go_on(self, pair: ConflictPair) -> None:
        """Tell both what to do about a conflict (`holding.Notices`)."""
        known = {name: self._streams.get(name) for name in (pair.a, pair.b)}
        self._advise(pair, {name: stream for name, stream in known.items() if stream is not None})

    async def pause(self, name: str, parked: Parked) -> Pause:
        """Look at the conflicts, and wait, without a slot, where one is to be waited for.

        Raises `Unavailable` where a person has to say so, and nobody is there.
        """
        await self.look()
        waited = await self._holding.settle(name, parked)
        if name not in self._to_take:
            return Pause(waited)
        self._to_take.discard(name)
        return Pause(waited, self._known.get((name, self._setting.target)))
