"""Workstreams of a run that wait for one another's landing because they conflict (`landing: {conflicts: …}`)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from parallelai.engines.protocol import Answer, Question
from parallelai.errors import Unavailable
from parallelai.events import ConflictWaited, ConflictWaiting, TaskStep
from parallelai.plan.fields import Reaction
from parallelai.records import ConflictPair
from parallelai.run.workspaces import Parked
from parallelai.work.conflicts.advice import advice
from parallelai.work.conflicts.waiting import (
    Standing,
    cause_of,
    place_of,
    ranks,
    reaction,
    uses_of,
    who_waits,
)
from parallelai.work.guard.leases import Leases
from parallelai.work.landing.records import Tell
from parallelai.work.setting import Setting
from parallelai.work.streams.registry import Streams

Ask = Callable[[str, Question, asyncio.Event], Awaitable[Answer | None]]
"""Has a person choose for a workstream; None where the event says first that it is moot. Raises `Unavailable`."""


class Notices(Protocol):
    """Who tells the workstreams."""

    def begins_to_wait(self, name: str, other: str, pair: ConflictPair) -> None:
        """One begins to wait for another."""

    def both_go_on(self, pair: ConflictPair) -> None:
        """A person decided that neither waits."""


Check = Callable[[Collection[str]], bool]
"""Whether a workstream need not be woken, by those that it should wait for now."""


class Waited(Struct, frozen=True):
    """For whom a workstream waited: those that landed, and those that ended without. Both may be empty."""

    landed: tuple[str, ...] = ()
    left: tuple[str, ...] = ()


NOT_WAITED = Waited()


class Holding:
    """Decides who waits, and holds them until they may go on.

    Only those that this process works on are waited for: others might not be begun before the one that waits ends.

    Args:
        leases: is told who waits, so that no circle closes through a lease.
        ask: has a person choose; None where nobody can be asked.
        notices: tells the workstreams.
    """

    def __init__(
        self,
        setting: Setting,
        leases: Leases,
        streams: Streams,
        tell: Tell,
        ask: Ask | None,
        notices: Notices,
    ) -> None:
        self._conflicts = setting.plan.landing.conflicts
        self._ranks = ranks(setting.works)
        self._leases = leases
        self._streams = streams
        self._tell = tell
        self._ask = ask
        self._notices = notices
        self._pairs: Sequence[ConflictPair] = ()
        self._live: dict[str, bool] = {}
        self._answers: dict[frozenset[str], Reaction] = {}
        self._wakers: dict[str, tuple[Check, asyncio.Event]] = {}

    # -- what happens

    def began(self, name: str) -> None:
        """A workstream is worked on, maybe again."""
        self._live[name] = True
        self._review()

    def finished(self, name: str) -> None:
        """A workstream has only to land: nothing can be put right in it any more."""
        self._live[name] = False
        self._review()

    def ended(self, name: str) -> None:
        """A workstream has landed, or will not."""
        self._live.pop(name, None)
        self._review()

    def seen(self, pairs: Sequence[ConflictPair]) -> None:
        """Take in which pairs conflict now."""
        self._pairs = pairs
        found = {frozenset((pair.a, pair.b)) for pair in pairs}
        self._answers = {key: answer for key, answer in self._answers.items() if key in found}
        self._review()

    def _review(self) -> None:
        """Wake those who wait for others than they have to wait for now."""
        for name, (is_right, waker) in self._wakers.items():
            if not is_right(self._due(name).keys()):
                waker.set()

    # -- who waits

    def reaction(self, pair: ConflictPair) -> Reaction:
        """What is done about a conflict: what a person said, or else the plan."""
        return self._answers.get(frozenset((pair.a, pair.b))) or reaction(pair, self._conflicts)

    def is_settled(self, pair: ConflictPair) -> bool:
        """Whether one of two workstreams waits, or a person is asked about it: they need not be told more."""
        return self.reaction(pair) != "go-on" and self._waiter(pair) is not None

    def is_waiting(self, name: str) -> bool:
        """Whether a workstream waits now."""
        return name in self._leases.also

    def _waiter(self, pair: ConflictPair) -> str | None:
        return who_waits(pair.a, pair.b, Standing(self._ranks, self._live, self._leases.waits()))

    def _due(self, name: str) -> Mapping[str, ConflictPair]:
        """Those that a workstream should let land before it goes on, and what it conflicts with them in."""
        mine = [pair for pair in self._pairs if name in (pair.a, pair.b)]
        return {
            pair.b if pair.a == name else pair.a: pair
            for pair in mine
            if self.reaction(pair) != "go-on" and self._waiter(pair) == name
        }

    # -- waiting

    async def settle(self, name: str, parked: Parked) -> Waited:
        """Wait, without a slot, as long as the plan or a person wants it.

        Raises `Unavailable` where a person has to say so, and nobody is there.
        """
        waited: dict[str, None] = {}
        async with contextlib.AsyncExitStack() as stack:
            if self._due(name):
                await stack.enter_async_context(parked())
            while due := self._due(name):
                asked = next((other for other in due if self.reaction(due[other]) == "ask"), None)
                if asked is not None:
                    await self._put(name, asked, due[asked])
                    continue
                for other in due.keys() - waited.keys():
                    self._notices.begins_to_wait(name, other, due[other])
                waited |= dict.fromkeys(due)
                await self._wait(name, due)
        if not waited:
            return NOT_WAITED
        known = {other: self._streams.get(other) for other in waited}
        landed = tuple(other for other, stream in known.items() if stream and stream.state == "landed")
        left = tuple(other for other in waited if other not in (*landed, *self._live))
        told = Waited(landed, left)
        self._tell(name, ConflictWaited(told.landed, told.left))
        self._tell(name, TaskStep("perform", "working"))
        return told

    async def _wait(self, name: str, due: Mapping[str, ConflictPair]) -> None:
        others, waker = frozenset(due), asyncio.Event()
        where, why = (
            separator.join(dict.fromkeys(filter(None, map(said, due.values()))))
            for separator, said in ((", ", place_of), ("; ", uses_of))
        )
        self._tell(name, TaskStep("perform", "waiting"))
        self._tell(name, ConflictWaiting(tuple(due), where, why))
        self._leases.also[name] = others
        self._wakers[name] = (lambda now: now == others, waker)
        try:
            await waker.wait()
        finally:
            self._wakers.pop(name, None)
            self._leases.also.pop(name, None)

    async def _put(self, name: str, other: str, pair: ConflictPair) -> None:
        """Ask a person whether a workstream waits for another, unless that is settled by itself meanwhile."""
        detail = f"{advice(pair)} Is `{name}` to wait until `{other}` has landed?"
        question = Question("conflict", f"conflict of `{name}` with `{other}`", ("wait", "go-on"), detail)
        moot = asyncio.Event()
        self._wakers[name] = (lambda now: other in now, moot)
        try:
            if self._ask is None:
                raise Unavailable("nobody is there to answer")
            given = await self._ask(name, question, moot)
        except Unavailable:
            raise Unavailable(
                f"it does not fit `{other}` ({cause_of(pair)}), and nobody is there to say whether it waits",
                next=f"go on with the run once `{other}` has landed, or on a terminal; or write `wait` or"
                " `go-on` into the plan (`landing: {conflicts: …}`)",
            ) from None
        finally:
            self._wakers.pop(name, None)
        if given is None:
            return
        self._answers[frozenset((name, other))] = "wait" if given.option == "wait" else "go-on"
        if given.option != "wait":
            self._notices.both_go_on(pair)
