"""An agent's process, and the connection to it: started, spoken to by the protocol's SDK, ended.

The process is started and ended by `processes`, never by the SDK. One agent may hold several sessions.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pydantic import ValidationError

from parallelai.engines.acp.errors import read_error, read_words
from parallelai.engines.acp.sdk import acp, schema
from parallelai.engines.acp.transport import LineTransport
from parallelai.engines.acp.turn import Turn, choose
from parallelai.engines.untrusted import clean, shorten
from parallelai.errors import EngineError, Internal, Invalid, ProgramError, Transient, Unavailable
from parallelai.processes import Completed, Feed, Program, run

if TYPE_CHECKING:
    from acp.client.connection import ClientSideConnection

STDERR_CHARS = 16_000
"""What is kept of an agent's stderr, to say why it ended."""
NEVER_SECONDS = 1e9
EXIT_SECONDS = 1.0
"""How long an agent may take to end by itself once its input has ended."""

T = TypeVar("T")


class Agent:
    """One agent. Make it, `start` it, and `close` it whatever happens.

    Args:
        name: how errors call it.
        program: what to start, without a feed.

    `report_folder` is the folder that it reports in, `report` the end of its report once it has ended itself;
    `is_over` is set when there will be no more of it.
    """

    def __init__(self, name: str, program: Program) -> None:
        self.name = name
        self.turns: dict[str, Turn] = {}
        self.about: schema.InitializeResponse | None = None
        self.is_tainted = False
        self.report_folder: Path | None = None
        self.report = ""
        self.is_over = asyncio.Event()
        self._feed = Feed()
        # Whether it is idle is for whoever waits for the turn to judge; this one only says that it works.
        self._program = replace(
            program, feed=self._feed, on_active=self._active, idle_timeout_seconds=NEVER_SECONDS
        )
        self._transport = LineTransport(self._feed, self._update)
        self._stderr = ""
        self._completed: Completed | None = None
        self._failure: EngineError | None = None
        self._live: asyncio.Task[None] | None = None
        self._requests: set[asyncio.Task[Any]] = set()
        self._connection: ClientSideConnection | None = None

    # Life

    async def start(self) -> None:
        """Start the program and shake hands. Raises an `EngineError`."""
        self._live = asyncio.create_task(self._run())
        self._connection = acp.connect_to_agent(cast(acp.Client, _Answering(self)), self._transport)
        info = schema.Implementation(name="parallelai", version="0")
        # No files and no terminal: agents then work in their folder by themselves (CLIENTS §6).
        self.about = await self.call(
            lambda c: c.initialize(acp.PROTOCOL_VERSION, schema.ClientCapabilities(), info), "initialize"
        )
        if self.about.protocol_version != acp.PROTOCOL_VERSION:
            said = f"`{self.name}` speaks version {self.about.protocol_version} of the protocol, not "
            raise Unavailable(
                f"{said}{acp.PROTOCOL_VERSION}", next="install a version of it that speaks that"
            )

    @property
    def peak_memory_bytes(self) -> int | None:
        """What it took at most, once it has ended by itself; None where that was not measured."""
        return None if self._completed is None else self._completed.peak_memory_bytes

    @property
    def is_alive(self) -> bool:
        """Say whether it can be spoken to."""
        return self._live is not None and not self._live.done() and not self.is_tainted

    async def close(self, *, at_once: bool = False) -> None:
        """End the agent and all that it started; first by the end of its input, unless `at_once`."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
        live, self._live = self._live, None
        if live is None:
            return
        try:
            if not at_once:
                await asyncio.wait((live,), timeout=EXIT_SECONDS)
        finally:
            live.cancel()
            await _to_the_end(live)
            for request in self._requests:
                request.cancel()

    async def _run(self) -> None:
        try:
            self._completed = await run(self._program, on_line=self._line)
        except ProgramError as error:
            kind = Transient if error.retry_helps else Unavailable
            self._failure = kind(error.said, where=error.where, next=error.next)
        finally:
            self._transport.end()

    def silence(self, seconds: float) -> str:
        """Say that it did not shake hands, and what it said instead."""
        return f"`{self.name}` did not answer as an agent within {seconds:g} s{self._last_words()}"

    @property
    def notes(self) -> tuple[str, ...]:
        """What was strange, although it went well."""
        number = self._transport.malformed
        return (f"{number} messages of the agent could not be read",) if number else ()

    # What it prints

    def _active(self) -> None:
        for turn in self.turns.values():
            turn.sign_of_life()

    def _line(self, stream: str, line: bytes) -> None:
        if stream == "stdout":
            self._transport.take(line)
        else:
            text = line.decode("utf-8", "replace")
            self._stderr = f"{self._stderr}{text}\n"[-STDERR_CHARS:]

    def _update(self, params: Any) -> None:
        try:
            notification = schema.SessionNotification.model_validate(params)
        except (ValidationError, RecursionError):
            self._transport.malformed += 1
            return
        turn = self.turns.get(notification.session_id)
        if turn is not None:
            turn.take(notification.update)

    # Requests

    def begin_turn(self) -> None:
        """Count what it sends from here on."""
        self._transport.begin_turn()

    async def call(self, request: Callable[[ClientSideConnection], Awaitable[T]], what: str) -> T:
        """Ask the agent something and give its answer. Raises the `EngineError` that a failure stands for."""
        task = self.request(request)
        try:
            await asyncio.wait((task,))
        finally:
            task.cancel()
        return await self.result(task, what)

    def request(self, request: Callable[[ClientSideConnection], Awaitable[T]]) -> asyncio.Task[T]:
        """Start a request that may outlive whoever waits for it; it ends with the agent."""

        async def ask() -> T:
            if self._connection is None:
                raise ConnectionError
            return await request(self._connection)

        task = asyncio.create_task(ask())
        self._requests.add(task)
        task.add_done_callback(self._requested)
        return task

    def _requested(self, task: asyncio.Task[Any]) -> None:
        self._requests.discard(task)
        if not task.cancelled():
            task.exception()  # somebody looks at it, or nobody waits any more

    async def result(self, task: asyncio.Task[T], what: str) -> T:
        """Give what a finished request brought. Raises the `EngineError` that a failure stands for."""
        try:
            return task.result()
        except acp.RequestError as error:
            raise read_error(self.name, error.code, str(error), error.data) from None
        except ConnectionError:
            raise await self._gone(what) from None
        except (ValidationError, TypeError, RecursionError):
            said = f"`{self.name}` answered `{what}` with what is no answer to it"
            raise Invalid(said, next="is it a version that speaks the Agent Client Protocol?") from None

    async def notify(self, notification: Callable[[ClientSideConnection], Awaitable[None]]) -> None:
        """Tell the agent something, if it still listens."""
        if self._connection is not None:
            with contextlib.suppress(ConnectionError):
                await notification(self._connection)

    async def _gone(self, what: str) -> EngineError:
        """Say why it does not answer: it has ended, or said too much."""
        if self._transport.is_flooded:
            return Invalid(f"`{self.name}` sent more than is read, and was ended")
        if self._live is not None:
            await asyncio.wait((self._live,))
        if self._failure is not None:
            return self._failure
        completed = self._completed
        if completed is None:
            return Transient(f"`{self.name}` was ended before it answered `{what}`")
        if completed.ended_by == "memory":
            return Internal(f"`{self.name}` took more memory than it may, and was ended{self._last_words()}")
        if completed.signal is not None:
            return Transient(f"`{self.name}` was ended by signal {completed.signal}{self._last_words()}")
        error = read_words(
            self.name, self._last_words(prefix=""), f"ended with exit {completed.exit} before it was done"
        )
        if self.about is None and isinstance(error, Internal):  # it never shook hands
            return Invalid(error.said, next="is it a version that speaks the Agent Client Protocol?")
        return error

    def _last_words(self, prefix: str = ": ") -> str:
        text = self._stderr.strip() or self._transport.last_malformed.decode("utf-8", "replace")
        tail = shorten("\n".join(clean(text).strip().splitlines()[-12:]), 2_000)
        return f"{prefix}{tail}" if tail else ""


class _Answering:
    """What an agent may ask of this client: permissions, and nothing else."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    async def request_permission(
        self,
        session_id: str,
        tool_call: schema.ToolCallUpdate,
        options: list[schema.PermissionOption],
        **_: Any,
    ) -> schema.RequestPermissionResponse:
        """Answer with an option that is good for once."""
        turn = self._agent.turns.get(session_id)
        is_allowed = None
        if turn is not None:
            is_allowed = await turn.ask(tool_call, [option.kind for option in options])
        option = None if is_allowed is None else choose(options, is_allowed).option
        if option is None:
            return schema.RequestPermissionResponse(outcome=schema.DeniedOutcome(outcome="cancelled"))
        return schema.RequestPermissionResponse(
            outcome=schema.AllowedOutcome(outcome="selected", option_id=option)
        )


async def _to_the_end(task: asyncio.Task[None]) -> None:
    """Wait for a task that was cancelled, also when being cancelled meanwhile, which is then passed on."""
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError as error:
            cancelled = error
            task.cancel()
    if not task.cancelled():
        task.exception()
    if cancelled is not None:
        raise cancelled
