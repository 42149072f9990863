"""The engine `command`: any program; the prompt on its stdin, its answer on stdout.

    engines:
      sh: {use: command, command: [python3, tools/agent.py], args: [--fast], env: {MODE: review}}

The program runs in the request's folder, with an environment of only what it is given, confined as the
request's workspace says. Where findings are wanted it prints JSON or SARIF (`engines.replies`), else text; where
it edits, it changes files below its folder. Exit codes: 0 is done, 75 (EX_TEMPFAIL) "try again later", anything
else a failure with the last lines of stderr. `aider`, `pi` and `mini-swe-agent` are ready-made
(`engines.command_templates`).
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import operator
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from parallelai.engines.commands.parts import (
    PROMPT,
    PlainReader,
    Reader,
    Said,
    Template,
    Wanted,
    placed,
    write_files,
)
from parallelai.engines.commands.ready import TEMPLATES
from parallelai.engines.confining import confinement
from parallelai.engines.context import EngineContext, asked_at, refuse_unused
from parallelai.engines.listening import refuse_closed
from parallelai.engines.loopback import loopback_port
from parallelai.engines.own_folders import (
    below,
    check_network,
    installation,
    login_folders,
    package_version,
    pinned_version,
    read_key,
    refuse_unread,
)
from parallelai.engines.protocol import (
    Availability,
    Capabilities,
    Estimate,
    FinalEvent,
    Port,
    Request,
    StderrEvent,
    TextEvent,
    UsageEvent,
    needs_entry,
)
from parallelai.engines.replies import to_reply
from parallelai.engines.untrusted import clean
from parallelai.errors import (
    EngineError,
    Internal,
    Invalid,
    ProgramError,
    TimedOut,
    Transient,
    Unavailable,
    first_error,
)
from parallelai.processes import Completed, Confinement, Program, environment, find, run
from parallelai.processes.removing import remove
from parallelai.processes.temporary import make_folder
from parallelai.records import FREE, LimitKey, Reply, Usage

if TYPE_CHECKING:
    from parallelai.plan.model import EngineEntry

MAX_OUTPUT_BYTES = 8 * 1024 * 1024
MAX_PENDING_CHARS = 256 * 1024
"""What may wait to be streamed; what a program writes beyond it is in the log and the reply only."""
LAST_LINES = 10
LAST_CHARS = 2_000
_KEYS = frozenset({"command", "args", "env", "sandbox", "network"})
_STDOUT = "stdout"
HOW = "write `command: [program, argument, …]` in the engine's entry"


_PLAIN = Template(command=(), how=HOW, memory_bytes=0, reader=PlainReader)


class CommandEngine:
    """A program that the user named, or a template's. It is run as it is, not by a shell."""

    def __init__(self, name: str, entry: EngineEntry, context: EngineContext) -> None:
        """Take argv from the entry's `command` and `args`. Raises `ConfigError` for keys without effect."""
        template = self._template = TEMPLATES.get(entry.use, _PLAIN)
        refuse_unused(name, entry, _KEYS | template.keys)
        self.name = name
        self.capabilities = Capabilities(
            answers=frozenset({"text", "findings", "schema", "change"}),
            edits=True,
            works_in_folder=True,
            is_remote=template is not _PLAIN,
            asks_at=asked_at(entry, {"OPENAI_API_BASE"} & set(template.pass_env)),
        )
        self._entry = entry
        self._argv = tuple(entry.command or template.command)
        self._root = context.root
        self._obeyed = () if context.trusted else template.obeyed
        self._key = LimitKey(name, "default", entry.model or "")

    async def detect(self) -> Availability:
        """Look for the program: on the PATH, or below the project's root where its name holds a `/`."""
        if not self._argv:
            return needs_entry(HOW)
        program = self._argv[0]
        path = find(str(self._root / program) if "/" in program else program)
        if path is None:
            how = f"install `{program}`, or correct `command`"
            is_template = self._entry.command is None
            return Availability(
                False, f"`{program}` not found", how=self._template.how if is_template else how
            )
        version, tested = package_version(Path(path)), pinned_version(self._template.how)
        return Availability(True, f"runs `{program}`", version=version, path=path, tested=tested)

    def limit_key(self, request: Request) -> LimitKey:
        """All calls of one entry count together."""
        return self._key

    def estimate(self, request: Request) -> Estimate:
        """Cost nothing that is counted: what a program itself buys is not known before."""
        if self._template is _PLAIN:
            return Estimate()
        return Estimate(tokens=None, usd=None, memory_bytes=self._template.memory_bytes)

    async def perform(self, request: Request, port: Port) -> Reply:
        """Run the program once, to its end or the request's time-out, streaming what it prints."""
        if not self._argv:
            raise Unavailable(f"engine `{self.name}` has no command", next=HOW)
        if self._template is _PLAIN:
            return await self._run(request, port, None)
        # Not in a thread: who is cancelled there would never hear of the folder.
        folder = make_folder("command")
        try:
            return await self._run(request, port, folder)
        finally:
            await asyncio.to_thread(remove, folder)

    async def _run(self, request: Request, port: Port, folder: Path | None) -> Reply:
        if folder is None and request.workspace is None:
            program = self._program(request, self._wanted(request), {}, None)
        else:  # it looks at folders, and tries servers and sandboxes
            wanted = await asyncio.to_thread(self._wanted, request)
            # Not in a thread: who is cancelled there removes the folder, and it would come back.
            given = {} if folder is None else write_files(self._template, wanted, folder)
            program = await asyncio.to_thread(self._program, request, wanted, given, folder)
        reader = self._template.reader()
        reply: Reply | None = None
        try:
            reply = await self._converse(request, port, program, reader, folder)
        finally:
            if reply is None and folder is not None:  # failed or cancelled: it is paid all the same
                used = reader.usage(folder)
                if used is not None:
                    await _spend(port, self._priced(used))
        await _spend(port, reply.usage)
        await port.emit(FinalEvent(ok=True))
        return reply

    async def _converse(
        self, request: Request, port: Port, program: Program, reader: Reader, folder: Path | None
    ) -> Reply:
        stream = _Stream(port, reader)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(stream.pump())
                try:
                    completed = await run(program, on_line=stream.take)
                finally:
                    stream.end()
        except BaseExceptionGroup as errors:
            raise _translated(first_error(errors)) from None
        said = self._said(reader, completed, request, folder)
        return self._read(completed, dataclasses.replace(said, usage=self._priced(said.usage)), request)

    def _priced(self, usage: Usage) -> Usage:
        """A server of this machine costs nothing, whatever the program takes it to cost."""
        is_free = loopback_port(self._entry.base_url) is not None
        return dataclasses.replace(usage, usd=0.0, basis="free") if is_free else usage

    def _wanted(self, request: Request) -> Wanted:
        """Say what a template is given. Raises an `EngineError` where it must not be started, or need not be."""
        entry = self._entry
        refuse_unread(self.name, Path(request.root), self._obeyed)
        refuse_closed(entry.base_url)
        return Wanted(
            prompt=request.prompt,
            edits=request.workspace is not None and request.workspace.edits,
            model=request.model or entry.model,
            base_url=entry.base_url,
            key=read_key(self.name, entry),
            max_turns=request.max_turns or entry.max_turns,
            files=tuple(part.path for part in request.files),
        )

    def _program(
        self, request: Request, wanted: Wanted, given: Mapping[str, str], folder: Path | None
    ) -> Program:
        """Say what is started; `given` is the environment of a template's files."""
        template, entry = self._template, self._entry
        server = ((template.url_env, wanted.base_url), (template.key_env, wanted.key))
        named = {variable: value for variable, value in server if variable is not None and value is not None}
        env = environment(
            env={**given, **named, **entry.env, **request.env},
            pass_env=(*template.pass_env, *request.pass_env),
        )
        argv = (*self._argv, *template.arguments(wanted), *entry.args)
        has_file = folder is not None and any(PROMPT in word for word in argv)
        return Program(
            argv=argv if folder is None else tuple(placed(word, folder) for word in argv),
            cwd=Path(request.root),
            env=env,
            stdin=b"" if has_file else request.prompt.encode("utf-8", "replace"),
            timeout_seconds=request.timeout_seconds,
            # A program may be silent for long while all is well; only who wrote a limit for it wants one.
            idle_timeout_seconds=entry.idle_timeout,
            grace_seconds=request.grace_seconds,
            max_output_bytes=MAX_OUTPUT_BYTES,
            log=None if request.log is None else Path(request.log),
            run=request.run,
            label=request.task,
            confinement=self._confinement(request, env, folder),
            memory_bytes=None if request.workspace is None else request.workspace.memory_bytes,
        )

    def _confinement(self, request: Request, env: dict[str, str], folder: Path | None) -> Confinement | None:
        """Confine it. Raises `Unavailable` where what the entry asks for cannot be kept."""
        template, entry = self._template, self._entry
        if request.workspace is None:
            if entry.sandbox == "required" or entry.network in ("off", "loopback"):
                raise Unavailable(
                    f"engine `{self.name}` is to be confined, which needs a workspace",
                    next="run it in a git repository, or take `sandbox` and `network` out of its entry",
                )
            return None
        folders = login_folders(template.login, env)
        port = loopback_port(entry.base_url)
        confined = confinement(
            request,
            writable=folders if folder is None else (*folders, str(folder)),
            readable=(
                *(str(below(env, path)) for path in template.read_only),
                *installation(self._argv[0], env.get("PATH")),
            ),
            hidden_except=folders,
            ports=() if port is None else (port,),
            network=entry.network or "on",
        )
        check_network(self.name, request, entry, confined)
        return confined

    def _said(self, reader: Reader, completed: Completed, request: Request, folder: Path | None) -> Said:
        """Judge how it ended. Of a template's program the words say more than its exit code, unless it was ended."""
        is_ended = (
            completed.exit is None or completed.exit == os.EX_TEMPFAIL or completed.ended_by is not None
        )
        if folder is None or is_ended:
            _judge(self._argv[0], completed, request)
        output = (
            completed.stdout
            if completed.exit == 0
            else completed.stdout + completed.stderr[-4 * LAST_CHARS :]
        )
        said = reader.finish(output.decode("utf-8", "replace"), folder or Path())
        _judge(self._argv[0], completed, request)
        return said

    def _read(self, completed: Completed, said: Said, request: Request) -> Reply:
        notes = completed.notes
        is_cut = completed.is_truncated and len(completed.stdout) >= MAX_OUTPUT_BYTES
        if is_cut and self._template is _PLAIN:
            if request.output not in ("text", "change"):
                raise Invalid("the output is too long to be read whole", next="print less than 8 MiB")
            notes += ("the output was too long: its middle was left out",)
        reply = to_reply(
            said.text,
            output=request.output,
            schema=request.schema,
            root=request.root,
            usage=said.usage,
            notes=notes,
        )
        return dataclasses.replace(reply, memory_bytes=completed.peak_memory_bytes)

    def attach(self, session: str) -> list[str] | None:
        """Has no sessions."""
        return None

    async def aclose(self) -> None:
        """Holds nothing: what ran has ended with its turn."""


async def _spend(port: Port, usage: Usage) -> None:
    if usage not in (FREE, Usage()):
        await port.emit(UsageEvent(usage))


class _Stream:
    """Carries a program's lines to the port: taken as they come, sent by one task, bounded in between."""

    def __init__(self, port: Port, reader: Reader) -> None:
        self._port = port
        self._reader = reader
        self._pieces: list[tuple[str, str]] = []  # the stream, and what it has printed
        self._chars = 0
        self._lost = 0
        self._is_ended = False
        self._news = asyncio.Event()

    def take(self, stream: str, line: bytes) -> None:
        """Take a line."""
        said = line.decode("utf-8", "replace").rstrip("\r\n")
        text = clean(self._reader.take(said) if stream == _STDOUT else f"{said}\n")
        if not text:
            return
        if self._chars > MAX_PENDING_CHARS:
            self._lost += 1
            return
        self._pieces.append((stream, text))
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
                self._pieces.append((_STDOUT, f"[{self._lost} lines not shown]\n"))
            pieces = self._pieces
            self._pieces, self._chars, self._lost = [], 0, 0
            for stream, of_stream in itertools.groupby(pieces, operator.itemgetter(0)):
                text = "".join(text for _, text in of_stream)
                await self._port.emit(TextEvent(text) if stream == _STDOUT else StderrEvent(text))
            if not pieces and self._is_ended:
                return
            if self._is_ended:
                self._news.set()


def _translated(error: BaseException) -> BaseException:
    if isinstance(error, ProgramError) and error.retry_helps:  # no more processes, memory or files just now
        return Transient(error.said, next=error.next)
    if isinstance(error, ProgramError):  # its `where` is the task's name: where the task stands says more
        return Unavailable(error.said, next=error.next)
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
