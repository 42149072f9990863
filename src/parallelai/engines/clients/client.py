"""Clients that print a stream of JSON lines: how one is run, read, spoken to and judged.

What differs between clients is data and one reader of lines each (`claude_stream`, `codex_stream`). A reader is
pure: lines in, events out, and at the end what the client said of its own success. Exit codes are hints.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import re
import signal
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from parallelai.engines.clients.errors import judge
from parallelai.engines.own_folders import package_version
from parallelai.engines.protocol import Answer, EngineEvent, Port, Question, TextEvent
from parallelai.engines.turns import joined
from parallelai.engines.untrusted import clean, shorten
from parallelai.errors import (
    EngineError,
    Internal,
    Invalid,
    ProgramError,
    Transient,
    Unavailable,
    first_error,
)
from parallelai.processes import Completed, Feed, Program, run
from parallelai.records import Usage

MAX_LINE_BYTES = 16 * 1024 * 1024
"""Longer lines are cut, and then counted as malformed."""
MAX_PENDING_CHARS = 256 * 1024
MAX_PENDING_EVENTS = 20_000
LINGER_SECONDS = 3.0
"""How long a client may stay after its final event."""
SIGN_OF_LIFE_SECONDS = 5.0
LAST_CHARS = 2_000
_NEVER_SECONDS = 1e9
_VERSION = re.compile(r"\d+\.\d+\.\d+[\w.+-]*")
_SESSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z_.-]{0,127}")


class Ask(Struct, frozen=True):
    """A client's question: `id` is its own, `data` what its answer must repeat."""

    id: str
    question: Question
    data: object = None


class Reader(Protocol):
    """Reads the lines of one turn."""

    session: str | None
    is_done: bool
    """The final event has come."""
    failure: EngineError | None
    """What the final event says went wrong."""
    known: int
    strange: int
    """Lines that were understood, and those that were not."""

    def take(self, line: bytes) -> Sequence[EngineEvent | Ask]:
        """Read one line. Raises an `EngineError` where it is of no use to wait for the end."""

    def usage(self) -> Usage | None:
        """Say what the turn took so far, as a difference to the session before; None if nothing is known."""


class Voice(Protocol):
    """How a client is spoken to while it runs."""

    def message(self, text: str) -> bytes:
        """Write what `send` brings."""

    def answer(self, ask: Ask, answer: Answer) -> bytes:
        """Write the answer to a question."""


async def converse(
    program: Program, reader: Reader, port: Port, wall: asyncio.Timeout, voice: Voice | None = None
) -> Completed | None:
    """Run a client to its end; None where it had to be ended after its final event.

    With a `voice` the program has a feed: messages and answers go into it, and it is closed at the final
    event. The wall clock stands still while a question is open. Raises what the reader raises, an
    `EngineError` where it cannot be started, and `CancelledError`; no process is left in any case.
    """
    try:
        async with asyncio.TaskGroup() as group:
            talk = _Conversation(program, reader, port, wall, voice, group)
            return await talk.hold()
    except BaseExceptionGroup as errors:
        raise _translated(first_error(errors, EngineError, ProgramError)) from None


class _Conversation:
    def __init__(
        self,
        program: Program,
        reader: Reader,
        port: Port,
        wall: asyncio.Timeout,
        voice: Voice | None,
        group: asyncio.TaskGroup,
    ) -> None:
        self._program = program
        self._reader = reader
        self._port = port
        self._wall = wall
        self._voice = voice
        self._group = group
        self._feed = program.feed if voice is not None else None
        self._pending: list[EngineEvent] = []
        self._chars = self._lost = self._open = 0
        self._loop = asyncio.get_running_loop()
        self._heard = self._stopped = self._loop.time()
        self._deadline: float | None = None
        self._news = asyncio.Event()
        self._done = asyncio.Event()
        self._is_ended = False

    async def hold(self) -> Completed | None:
        """Run the client beside a pump for its events and a reader of the inbox."""
        pump = self._group.create_task(self._send_on())
        inbox = None if self._feed is None else self._group.create_task(self._listen(self._feed))
        # Its own idle time-out is the caller's; this one only has the program say that it works.
        watched = dataclasses.replace(
            self._program, on_active=self.sign_of_life, idle_timeout_seconds=_NEVER_SECONDS
        )
        running = self._group.create_task(run(watched, on_line=self._take))
        try:
            completed = await self._end_of(running)
        finally:
            if inbox is not None:
                inbox.cancel()
            self._is_ended = True
            self._news.set()
        await asyncio.wait((pump,))
        return completed

    async def _end_of(self, running: asyncio.Task[Completed]) -> Completed | None:
        done = self._group.create_task(self._done.wait())
        try:
            await asyncio.wait((running, done), return_when=asyncio.FIRST_COMPLETED)
            if not running.done():
                await asyncio.wait((running,), timeout=LINGER_SECONDS)
        finally:
            done.cancel()
        if running.done():
            return running.result()
        running.cancel()
        await asyncio.wait((running,))
        return None

    # What the client prints

    def _take(self, stream: str, line: bytes) -> None:
        if stream != "stdout" or not line.strip():
            return
        for item in self._reader.take(line):
            if isinstance(item, Ask):
                self._begin(self._ask(item))
            else:
                self._put(item)
        if self._reader.is_done and not self._open:
            self._done.set()
            if self._feed is not None:
                self._feed.close()

    def _begin(self, asking: Coroutine[None, None, None]) -> None:
        try:
            self._group.create_task(asking)
        except RuntimeError:  # the turn is being ended: nobody answers any more
            asking.close()

    def sign_of_life(self) -> None:
        """Say that the client works: it may think for long without a line."""
        self._put(TextEvent(""))

    def _put(self, event: EngineEvent) -> None:
        now = self._loop.time()
        if isinstance(event, TextEvent):
            if not event.delta and now - self._heard < SIGN_OF_LIFE_SECONDS:
                return
            if self._chars > MAX_PENDING_CHARS:
                self._lost += 1
                return
            self._chars += len(event.delta)
        if len(self._pending) >= MAX_PENDING_EVENTS:
            raise Invalid("it reports more than anybody can follow")
        self._heard = now
        self._pending.append(event)
        self._news.set()

    async def _send_on(self) -> None:
        """Send what was taken, in order, until the end; text that has gathered goes in one piece."""
        while not (self._is_ended and not self._pending):
            await self._news.wait()
            self._news.clear()
            if self._lost:
                self._pending.append(TextEvent(f"\n[{self._lost} pieces not shown]\n"))
            events, self._pending, self._chars, self._lost = self._pending, [], 0, 0
            for event in joined(events):
                await self._port.emit(event)
            if self._is_ended:
                self._news.set()

    # What the client is told

    async def _listen(self, feed: Feed) -> None:
        async for message in self._port.inbox():
            if self._voice is not None:
                feed.write(self._voice.message(message.text))

    async def _ask(self, ask: Ask) -> None:
        """Have a question answered; the time that this takes is not the client's."""
        self._open += 1
        if self._open == 1:
            self._stopped, self._deadline = self._loop.time(), self._wall.when()
            with contextlib.suppress(RuntimeError):  # it ran out just now: the turn is being ended
                self._wall.reschedule(None)
        try:
            answer = await self._port.ask(ask.question)
        finally:
            self._open -= 1
            if not self._open and self._deadline is not None:
                with contextlib.suppress(RuntimeError):
                    self._wall.reschedule(self._deadline + self._loop.time() - self._stopped)
        if self._feed is not None and self._voice is not None:
            self._feed.write(self._voice.answer(ask, answer))


def check_end(client: str, version: str | None, reader: Reader, completed: Completed | None) -> None:
    """Raise the error that the end of a turn stands for; return where its final event says that all is well."""
    if reader.failure is not None:
        raise reader.failure
    if reader.is_done:
        return
    if completed is None:  # cannot be: only a final event ends the wait
        raise Internal(f"`{client}` was ended")
    last = last_words(completed.stderr)
    told = f": {last}" if last else ""
    if completed.ended_by == "memory":
        raise Internal(f"`{client}` took more memory than it may, and was ended{told}")
    if completed.signal is not None or completed.exit is None:
        name = "somebody" if completed.signal is None else _signal_name(completed.signal)
        raise Transient(f"`{client}` was ended by {name} before its final event{told}")
    judged = judge(client, last)
    if last and not isinstance(judged, Internal):
        raise judged
    named = client if version is None else f"{client} {version}"
    if reader.known and not reader.strange:
        raise Transient(
            f"the stream of `{named}` was cut: it ended (exit {completed.exit}) without its final event{told}"
        )
    raise _unread(client, named, reader, f"(exit {completed.exit}){told}")


def _unread(client: str, named: str, reader: Reader, ended: str) -> Invalid:
    """A client that ended without its final event and printed nothing, or lines that no reader knows."""
    if not reader.strange:
        advice = f"`parallelai engines test {client}` asks it one small thing"
        return Invalid(f"`{named}` printed nothing and ended {ended}", next=advice)
    lines = f"{reader.strange} of the {reader.known + reader.strange} lines that it printed"
    return Invalid(
        f"`{named}` ended without an answer, and ParallelAI cannot read {lines} {ended}",
        next=f"it may be a version that prints otherwise: `parallelai engines conform {client}` tells, "
        "and `parallelai doctor` names the version that is tested",
    )


def last_words(stderr: bytes) -> str:
    """The end of what a client complained, on one line."""
    tail = clean(stderr[-4 * LAST_CHARS :].decode("utf-8", "replace"))
    text = " ".join(tail.split())
    return text if len(text) <= LAST_CHARS else f"…{text[1 - LAST_CHARS :]}"


def version_of(program: Path) -> str | None:
    """Read a client's version without starting it: from its package, or the name of its file."""
    found = package_version(program)
    if found is not None:
        return found
    match = _VERSION.search(program.resolve().name)
    return match[0] if match else None


def installation(program: Path) -> str:
    """Give the folder that a client was installed into, with all that belongs to it."""
    real = program.resolve()
    return str(next((folder for folder in real.parents if folder.name == "node_modules"), real.parent))


def session_of(value: object) -> str:
    """Take a session's id, which stands on command lines later. Raises `ValueError` for what could be an option."""
    if not isinstance(value, str) or not is_session(value):
        raise ValueError("no id of a session")
    return value


def is_session(text: str) -> bool:
    """Say whether an id of a session may stand on a command line: it is one word, and no option."""
    return _SESSION.fullmatch(text) is not None


def note(text: str) -> str:
    """Make a stranger's words fit for a note."""
    return shorten(" ".join(clean(text).split()), 500)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _translated(error: BaseException) -> BaseException:
    if isinstance(error, ProgramError) and error.retry_helps:  # no more processes, memory or files just now
        return Transient(error.said, where=error.where, next=error.next)
    if isinstance(error, ProgramError):
        return Unavailable(error.said, where=error.where, next=error.next)
    return error
