"""The engine `command`: any program; the prompt on its stdin, its answer on stdout.

    engines:
      sh: {use: command, command: [python3, tools/agent.py], args: [--fast], env: {MODE: review}}

The program runs in the request's folder, with an environment of only what it is given. Where findings are
wanted it prints JSON or SARIF (`engines.replies`), else text. Exit codes: 0 is done, 75 (EX_TEMPFAIL) "try
again later", anything else a failure with the last lines of stderr.
"""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from parallelai.engines.confining import confinement
from parallelai.engines.context import EngineContext, refuse_unused
from parallelai.engines.protocol import (
    Availability,
    Capabilities,
    Estimate,
    FinalEvent,
    Port,
    Request,
    TextEvent,
)
from parallelai.engines.replies import to_reply
from parallelai.engines.untrusted import clean
from parallelai.errors import EngineError, Internal, Invalid, ProgramError, TimedOut, Transient, Unavailable
from parallelai.processes import Completed, Program, environment, find, run
from parallelai.records import FREE, LimitKey, Reply

if TYPE_CHECKING:
    from parallelai.plan.model import EngineEntry

MAX_OUTPUT_BYTES = 8 * 1024 * 1024
MAX_PENDING_CHARS = 256 * 1024
"""What may wait to be streamed; what a program writes beyond it is in the log and the reply only."""
LAST_LINES = 10
LAST_CHARS = 2_000
HOW = "write `command: [program, argument, …]` in the engine's entry"


class CommandEngine:
    """A program that the user named. It is run as it is, not by a shell; confined where it has a workspace."""

    def __init__(self, name: str, entry: EngineEntry, context: EngineContext) -> None:
        """Take argv from the entry's `command` and `args`. Raises `ConfigError` for keys without effect."""
        refuse_unused(name, entry, frozenset({"command", "args", "env"}))
        self.name = name
        self.capabilities = Capabilities(
            answers=frozenset({"text", "findings", "schema", "change"}), edits=True, works_in_folder=True
        )
        self._argv = (*(entry.command or ()), *entry.args) if entry.command else ()
        self._env = dict(entry.env)
        self._idle_seconds = entry.idle_timeout
        self._root = context.root
        self._key = LimitKey(name)

    async def detect(self) -> Availability:
        """Look for the program: on the PATH, or below the project's root where its name holds a `/`."""
        if not self._argv:
            return Availability(False, "no command is configured", how=HOW)
        program = self._argv[0]
        path = find(str(self._root / program) if "/" in program else program)
        if path is None:
            return Availability(
                False, f"`{program}` not found", how=f"install `{program}`, or correct `command`"
            )
        return Availability(True, f"runs `{program}`", path=path)

    def limit_key(self, request: Request) -> LimitKey:
        """All calls of one entry count together."""
        return self._key

    def estimate(self, request: Request) -> Estimate:
        """Cost nothing that is counted: what a program itself buys is not known here."""
        return Estimate()

    async def perform(self, request: Request, port: Port) -> Reply:
        """Run the program once, to its end or the request's time-out, streaming its stdout."""
        if not self._argv:
            raise Unavailable(f"engine `{self.name}` has no command", next=HOW)
        stream = _Stream(port)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(stream.pump())
                try:
                    completed = await run(self._program(request), on_line=stream.take)
                finally:
                    stream.end()
        except BaseExceptionGroup as errors:
            raise _translated(_first(errors)) from None
        _judge(self._argv[0], completed, request)
        reply = self._read(completed, request)
        await port.emit(FinalEvent(ok=True))
        return reply

    def _program(self, request: Request) -> Program:
        temporary = {"TMPDIR": request.workspace.temporary} if request.workspace is not None else {}
        return Program(
            argv=self._argv,
            cwd=Path(request.root),
            env=environment(env={**self._env, **request.env, **temporary}, pass_env=request.pass_env),
            confinement=confinement(request),
            stdin=request.prompt.encode("utf-8", "replace"),
            timeout_seconds=request.timeout_seconds,
            # A program may be silent for long while all is well; only who wrote a limit for it wants one.
            idle_timeout_seconds=self._idle_seconds,
            grace_seconds=request.grace_seconds,
            max_output_bytes=MAX_OUTPUT_BYTES,
            log=None if request.log is None else Path(request.log),
            run=request.run,
            label=request.task,
        )

    def _read(self, completed: Completed, request: Request) -> Reply:
        notes = completed.notes
        if completed.is_truncated and len(completed.stdout) >= MAX_OUTPUT_BYTES:
            if request.output != "text":
                raise Invalid("the output is too long to be read whole", next="print less than 8 MiB")
            notes += ("the output was too long: its middle was left out",)
        text = completed.stdout.decode("utf-8", "replace")
        return to_reply(
            text, output=request.output, schema=request.schema, root=request.root, usage=FREE, notes=notes
        )

    def attach(self, session: str) -> list[str] | None:
        """Has no sessions."""
        return None

    async def aclose(self) -> None:
        """Holds nothing: what ran has ended with its turn."""


class _Stream:
    """Carries a program's lines to the port: taken as they come, sent by one task, bounded in between."""

    def __init__(self, port: Port) -> None:
        self._port = port
        self._lines: list[str] = []
        self._chars = 0
        self._lost = 0
        self._is_ended = False
        self._news = asyncio.Event()

    def take(self, stream: str, line: bytes) -> None:
        """Take a line; of stderr nothing is streamed, it is in the log."""
        if stream != "stdout":
            return
        if self._chars > MAX_PENDING_CHARS:
            self._lost += 1
            return
        text = clean(line.decode("utf-8", "replace").rstrip("\r\n")) + "\n"
        self._lines.append(text)
        self._chars += len(text)
        self._news.set()

    def end(self) -> None:
        """Say that no line will come."""
        self._is_ended = True
        self._news.set()

    async def pump(self) -> None:
        """Send what was taken, in pieces as large as have gathered, until the end."""
        while True:
            await self._news.wait()
            self._news.clear()
            if self._lost:
                self._lines.append(f"[{self._lost} lines not shown]\n")
            text = "".join(self._lines)
            self._lines, self._chars, self._lost = [], 0, 0
            if text:
                await self._port.emit(TextEvent(text))
            elif self._is_ended:
                return
            if self._is_ended:
                self._news.set()


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one error of a group, however deep it lies."""
    found: BaseException = errors
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found


def _translated(error: BaseException) -> BaseException:
    if isinstance(error, ProgramError) and error.retry_helps:  # no more processes, memory or files just now
        return Transient(error.said, where=error.where, next=error.next)
    if isinstance(error, ProgramError):
        return Unavailable(error.said, where=error.where, next=error.next)
    return error


def _judge(program: str, completed: Completed, request: Request) -> None:
    """Raise the engine's error that the way the program ended stands for."""
    last = _last_lines(completed.stderr)
    if completed.ended_by == "timeout":
        raise TimedOut(f"`{program}` was ended after {request.timeout_seconds:g} s{last}")
    if completed.ended_by == "idle":
        raise TimedOut(f"`{program}` did nothing for too long and was ended{last}")
    if completed.signal is not None:
        raise Internal(f"`{program}` was ended by {_signal_name(completed.signal)}{last}")
    if completed.exit is None:
        raise Internal(f"`{program}` is gone, and nobody saw how it ended{last}")
    if completed.exit == os.EX_TEMPFAIL:
        raise Transient(f"`{program}` asks to be tried again later (exit {completed.exit}){last}")
    if completed.exit != 0:
        error: EngineError = Internal(f"`{program}` ended with exit {completed.exit}{last}")
        if request.log is not None:
            error.next = f"its whole output is in {request.log}"
        raise error


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _last_lines(stderr: bytes) -> str:
    """The end of what a program complained, as `: …`; empty where it said nothing."""
    tail = clean(stderr[-4 * LAST_CHARS :].decode("utf-8", "replace")).strip()
    lines = [line for line in tail.splitlines() if line.strip()][-LAST_LINES:]
    text = "\n".join(lines)
    if len(text) > LAST_CHARS:
        text = f"…{text[1 - LAST_CHARS :]}"
    return f": {text}" if text else ""
