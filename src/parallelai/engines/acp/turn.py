"""One turn with an agent: its reports go to the port, its questions too.

Reports come as they like; they are sent on by one task, in order, and what waits meanwhile is bounded. Every
task belongs to the turn's group.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from parallelai.engines.acp.updates import Updates, names_places
from parallelai.engines.protocol import Answer, EngineEvent, Port, Question, TextEvent, UsageEvent
from parallelai.engines.turns import joined
from parallelai.engines.untrusted import clean, shorten
from parallelai.errors import Invalid
from parallelai.records import Usage

MAX_PENDING_CHARS = 256 * 1024
"""Text that may wait to be sent on; what comes beyond it is in the reply only."""
MAX_PENDING_EVENTS = 20_000
SIGN_OF_LIFE_SECONDS = 5.0
"""How often a turn that only thinks says that it is alive."""
ALLOW, REJECT = "allow_once", "reject_once"


class Turn:
    """A turn under way. `group` owns what it starts; `wall` is its time-out, which stands still in questions."""

    def __init__(self, port: Port, updates: Updates, group: asyncio.TaskGroup, wall: asyncio.Timeout) -> None:
        self.updates = updates
        self._port = port
        self._group = group
        self._wall = wall
        self._pending: list[EngineEvent] = []
        self._chars = 0
        self._lost = 0
        self._is_ended = False
        self._is_listening = False
        self._news = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._heard = self._loop.time()
        self._update = asyncio.Event()
        self._asked = 0
        self._failed: asyncio.Future[None] = self._loop.create_future()
        self._pump = group.create_task(self._send_on())

    # Reports

    def listen(self) -> None:
        """Take reports from now on: those of before are a loaded session's past."""
        self._is_listening = True

    def take(self, update: Any) -> None:
        """Take one update of the session. Never raises."""
        self._update.set()
        if not self._is_listening or self._is_ended:
            if update.session_update == "usage_update":
                self.updates.take(update)
            return
        events = self.updates.take(update)
        if events:
            self._heard = self._loop.time()
            self.put(events)
        else:
            self.sign_of_life()  # thoughts are not text, but they are no silence either

    def sign_of_life(self) -> None:
        """Say that the agent works, if nothing has said so for a while."""
        now = self._loop.time()
        if now - self._heard > SIGN_OF_LIFE_SECONDS and not self._is_ended:
            self._heard = now
            self.put([TextEvent("")])

    def put(self, events: Sequence[EngineEvent]) -> None:
        """Queue events for the port."""
        for event in events:
            if isinstance(event, TextEvent):
                if self._chars > MAX_PENDING_CHARS:
                    self._lost += 1
                    continue
                self._chars += len(event.delta)
            if len(self._pending) >= MAX_PENDING_EVENTS:
                self.fail(Invalid("the agent reports more than anybody can follow"))
                return
            self._pending.append(event)
        self._news.set()

    async def spend(self, usage: Usage) -> None:
        """Report what a turn took that does not end well: it is paid all the same."""
        if usage != Usage():
            await self._port.emit(UsageEvent(usage))

    async def quiet(self, seconds: float, most_seconds: float) -> None:
        """Wait until no update has come for a while."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(most_seconds):
                while await self._is_heard_within(seconds):
                    pass

    async def _is_heard_within(self, seconds: float) -> bool:
        self._update.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._update.wait()
        except TimeoutError:
            return False
        return True

    async def end(self) -> None:
        """Send what is left, and take no more."""
        self.put(self.updates.finish())
        self._is_ended = True
        self._news.set()
        await asyncio.wait((self._pump,))

    def stop(self) -> None:
        """Send nothing more: the turn was cancelled or has failed."""
        self._is_ended = True
        self._pump.cancel()

    def fail(self, error: Exception) -> None:
        """End the turn with an error."""
        if not self._failed.done():
            self._failed.set_exception(error)

    @property
    def failed(self) -> asyncio.Future[None]:
        """Done, with an exception, when the turn cannot go on."""
        return self._failed

    def close(self) -> None:
        """Let go of the future, so that an error that nobody waited for is not complained about."""
        if self._failed.done():
            self._failed.exception()
        else:
            self._failed.cancel()

    async def _send_on(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            pending, self._pending = self._pending, []
            self._chars, lost, self._lost = 0, self._lost, 0
            if lost:
                pending.append(TextEvent(f"\n[{lost} pieces not shown]\n"))
            for event in joined(pending):
                await self._port.emit(event)
            if self._is_ended and not self._pending:
                return

    # Questions

    async def ask(self, tool_call: Any, kinds: Sequence[str]) -> bool | None:
        """Put a permission request to the port; None where the turn ended before there was an answer."""
        self._asked += 1
        kind, title = self.updates.tool(tool_call.tool_call_id)
        what = tool_call.kind or kind
        places = self.updates.places(tool_call)
        if places is None:  # what the policy allows unasked is work on the files of its folder
            what = f"{what} of what it does not name"
        elif not _are_inside(places, self.updates.root):
            what = f"{what} outside of its folder"
        elif what == "other" and names_places(tool_call):
            what = kind  # opencode asks so about a link to its folder, of which it compares the text
        options = (ALLOW, REJECT) if ALLOW in kinds else (REJECT,)
        detail = shorten(clean(tool_call.title or title), 2_000)
        question = Question(f"p{self._asked}", what, options, detail)
        try:
            asking = self._group.create_task(self._wait_for(question))
        except RuntimeError:  # the turn is being ended
            return None
        await asyncio.wait((asking,))
        if asking.cancelled():
            return None
        if (error := asking.exception()) is not None:
            if isinstance(error, Exception):
                self.fail(error)
            return None
        return asking.result().option.startswith("allow")

    async def _wait_for(self, question: Question) -> Answer:
        began, deadline = self._loop.time(), self._wall.when()
        with contextlib.suppress(RuntimeError):  # it ran out just now: the turn is being ended
            self._wall.reschedule(None)
        try:
            return await self._port.ask(question)
        finally:
            if deadline is not None and not self._wall.expired():
                with contextlib.suppress(RuntimeError):  # it has ended meanwhile
                    self._wall.reschedule(deadline + self._loop.time() - began)


def _are_inside(places: Sequence[str], root: str) -> bool:
    """Whether all places lie in a folder, also by what links lead to."""
    top = os.path.realpath(root)
    return all(_is_inside(place, top) for place in places)


def _is_inside(place: str, top: str) -> bool:
    if place.startswith("~") or "://" in place:  # an agent may well read more into it than a name
        return False
    try:
        real = os.path.realpath(os.path.join(top, place))  # noqa: PTH118
    except ValueError:  # what is in it is in no path
        return False
    return real == top or real.startswith(f"{top.rstrip('/')}/")


class Choice(Struct, frozen=True):
    """What is answered to a permission request: the id of an option, None for `cancelled`."""

    option: str | None


def choose(options: Sequence[Any], is_allowed: bool) -> Choice:
    """Choose the option that means yes once, or no. What would last (`allow_always`) is never chosen."""
    wanted = [ALLOW] if is_allowed else []
    for kind in (*wanted, REJECT):
        for option in options:
            if option.kind == kind:
                return Choice(option.option_id)
    return Choice(None)
