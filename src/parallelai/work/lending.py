"""What the folders of one run hold of the ledger: those of its workstreams, and those of its tasks' attempts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from parallelai.errors import Unavailable, UsageError
from parallelai.events import TaskStep
from parallelai.plan import model
from parallelai.run.workspaces import Parked
from parallelai.work.ledger import Held, Lacking, Ledger

if TYPE_CHECKING:  # runs without workstreams land nothing, and need not load how that is done
    from parallelai.work.landing.records import Tell
    from parallelai.work.streams.registry import Streams

NOTHING = model.Needs()


class StreamLoans:
    """What the workstreams of a run hold. `needs` says what the plan wants for one; `tell` writes an event down."""

    def __init__(
        self, ledger: Ledger, run: str, streams: Streams, needs: Callable[[str], model.Needs], tell: Tell
    ) -> None:
        self._ledger = ledger
        self._run = run
        self._streams = streams
        self._needs = needs
        self._tell = tell
        self._held: dict[str, Held] = {}

    async def take(self, name: str) -> None:
        """Take ports and names, which stay until it has landed. Raises `Lacking` where too few ports are free."""
        registration = self._streams.path(name)
        self._held[name] = await self._ledger.take(
            self._run, name, self._needs(name), registration=registration, is_working=False
        )

    async def work(self, name: str, parked: Parked) -> None:
        """Take what only work needs as well, memory and heavy slots; waits inside of `parked` while others have them.

        Raises `UsageError` where the machine has less.
        """
        if not _is_heavy(self._needs(name)):
            return
        self._held[name] = await self._ledger.take_when_free(
            self._run,
            name,
            self._needs(name),
            registration=self._streams.path(name),
            parked=parked,
            waits=lambda lacking: self._tell(name, TaskStep("wait", "waiting")),
        )

    async def rest(self, name: str) -> None:
        """Give back what only work needs."""
        held = self._held.get(name)
        if held is not None and _is_heavy(self._needs(name)):
            await self._ledger.rest(held)

    async def release(self, name: str) -> None:
        """Give all back: it has landed."""
        held = self._held.pop(name, None)
        if held is not None:
            await self._ledger.release(held)

    async def rest_all(self) -> None:
        """Give back what this process needed for work."""
        for name in list(self._held):
            await self.rest(name)

    def variables(self, name: str) -> dict[str, str]:
        """What a workstream was given, as environment variables."""
        held = self._held.get(name)
        return dict(held.env) if held is not None else {}

    def folders(self, name: str) -> tuple[str, ...]:
        """The folders that a workstream was given: its environment names them."""
        return folders_of(self._held.get(name))


class TaskLoans:
    """What the attempts of a run's tasks hold, each while it works. `ledger` None: nobody is given anything."""

    def __init__(self, ledger: Ledger | None, run: str) -> None:
        self._ledger = ledger
        self._run = run
        self._used: set[str] = set()

    @asynccontextmanager
    async def lent(self, task: str, needs: model.Needs, parked: Parked) -> AsyncIterator[Held | None]:
        """Take what an attempt needs, all or nothing; waits inside of `parked` while others hold too much of it.

        Gives None where nothing is asked for. Raises `Unavailable` where the machine has less.
        """
        if self._ledger is None or needs == NOTHING:
            yield None
            return
        name = self._name(task)
        try:
            held = await self._take(self._ledger, name, needs, parked)
            try:
                yield held
            finally:
                await self._ledger.release(held)
        finally:
            self._used.discard(name)

    async def _take(self, ledger: Ledger, name: str, needs: model.Needs, parked: Parked) -> Held:
        try:
            return await ledger.take_when_free(self._run, name, needs, parked=parked, waits=_say_nothing)
        except UsageError as error:
            raise Unavailable(error.said, next=error.next) from None

    def _name(self, task: str) -> str:
        """The holder's name: the task's, with a number where several attempts of it work at once."""
        name, number = task, 1
        while name in self._used:
            number += 1
            name = f"{task}#{number}"
        self._used.add(name)
        return name


def folders_of(held: Held | None) -> tuple[str, ...]:
    """The folders that a workspace was given."""
    return (str(held.temporary), str(held.cache)) if held is not None else ()


def _is_heavy(needs: model.Needs) -> bool:
    return bool(needs.heavy or needs.memory)


def _say_nothing(lacking: Lacking) -> None:
    """That an attempt waits is seen by the slot that it does not hold."""
