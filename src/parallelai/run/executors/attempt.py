"""One attempt: its turns, in one session and one folder, until what was asked for is there.

An engine does one turn. What makes a turn a success beyond the engine's own word is judged here: a change
that is not empty, checks that pass, an answer that can be read. Each that is missing gives one turn more in
the same session, where the engine can continue one; a silent assistant is nudged once.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import shlex
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple, Protocol

from parallelai.engines.protocol import Engine, Port, Request
from parallelai.errors import (
    CheckFailed,
    EngineError,
    Internal,
    Invalid,
    ParallelAIError,
    SessionGone,
    TimedOut,
    Transient,
    Trespass,
    Unavailable,
)
from parallelai.plan.files import read_text
from parallelai.plan.prompt import with_files
from parallelai.records import FilePart, Reply, Usage, changed
from parallelai.results import quotes, verify
from parallelai.results.verify import Verdict
from parallelai.run.workspaces import Measured, Place, Work, Workspaces

MOST_NAMED = 20
"""Paths that an error names."""
MOST_REPAIRS = 2
"""Turns beyond those that the task asked for."""

NUDGE = "You have said nothing for a while. Go on with the task, or say what keeps you from finishing it."
KEPT_OUT = "`parallelai work status` says what was kept out, why, and where it is"
GO_ON = "You were interrupted. Look at what is done already, and finish the task."
CUT_OFF = "the turn in which it was told {about} did not come to its end: {said}"
BEGUN_ANEW = "its session was gone, so that it was told the task anew in another one"
EMPTY = "Nothing was changed. Do the task now by editing the files, or say why it cannot be done."
EMPTY_IS_FINE = "write `empty: ok` if that is fine"
UNSEEN = (
    "This folder holds only a part of the files, and you wrote over some that it does not hold: {paths}\n"
    "That is not taken. Do the task in the files that are here, or say why it cannot be done."
)
SPARSE = "let `sparse` name all that it is to change"
UNREADABLE = (
    "Your answer could not be read: {said}\nGive the whole answer again, in the form that was asked for."
)
PART_DONE = "part"
"""Why a turn ended after which the next item of `todo` comes."""
FAILED_CHECK = "This check fails after your changes:\n\n{said}\n\nCorrect that, so that it passes."


class AttemptPort(Port, Protocol):
    """The port of an attempt, which lasts over all its turns."""

    session: str | None
    kept: str | None
    """The patch of what an attempt changed that failed, once it is kept."""

    @property
    def is_out_of_time(self) -> bool:
        """Whether the time-out is what ends the attempt."""

    def placed(self, path: str, base: str, edits: bool, *, is_over: bool = False) -> None:
        """Tell which folder the attempt works in, and what it was cut from; or that it is removed."""

    def turn_started(self, turn: int) -> None:
        """Tell that a turn begins; the first one is told by whoever starts the attempt."""

    def turn_ended(self, turn: int, reason: str) -> None:
        """Tell that a turn is over, which another one follows."""

    def used(self, usage: Usage) -> None:
        """Count what a turn took."""

    def parked(self) -> AbstractAsyncContextManager[None]:
        """Wait inside of it for another task: no slot is held, and no time counts."""

    def last_turn(self) -> AbstractAsyncContextManager[None]:
        """Inside of it the time-out raises `TimedOut`, and ends no more than that: no turn may come after."""

    def timed_out(self) -> TimedOut:
        """The error of an attempt that is out of time."""


class Result(NamedTuple):
    """What an attempt came to. `measured` is the change of one that edits."""

    reply: Reply
    measured: Measured | None = None


Perform = Callable[[Request], Awaitable[Reply]]
"""Do one turn, watched for silence. Raises `SilentEngine` on a silent one."""


class SilentEngine(TimedOut):
    """The engine said nothing for `idle_timeout`."""


@dataclasses.dataclass(frozen=True, slots=True)
class Doers:
    """Who does an attempt's turns: the engine, and whoever tries to refute its findings."""

    engine: Engine
    perform: Perform
    verify: Perform


async def carry_out(
    doers: Doers, request: Request, work: Work, port: AttemptPort, places: Workspaces | None
) -> Result:
    """Carry an attempt out, in a folder of its own where it needs one. Raises the `EngineError` it ends with."""
    engine = doers.engine
    able = engine.capabilities
    if work.is_homeless:
        said = f"`{engine.name}` works in a folder of its own, which needs a git repository"
        raise Unavailable(said, next="`git init` and a first commit make it one")
    is_reader = able.takes_text and bool(work.after)  # of files as earlier tasks left them
    if places is None or not (able.works_in_folder or work.edits or is_reader):
        return await _Attempt(doers, request, work, port, None).carry_out()
    async with _opened(engine, places, request, work, port) as place:
        placed = dataclasses.replace(request, root=place.root, workspace=place.workspace)
        placed = await place.briefed(placed, engine.capabilities.works_in_folder)
        return await _Attempt(doers, placed, work, port, place).carry_out()


def is_one_turn(engine: Engine) -> bool:
    """Whether an attempt with no more work than its prompt can be but one turn: no session to go on with, no folder."""
    able = engine.capabilities
    return not able.resumes and not able.works_in_folder


def completed(engine: Engine, request: Request) -> Request:
    """Put into the prompt what an engine has no other place for: the files' text, the role's instructions."""
    able = engine.capabilities
    if request.files_at is not None and able.takes_text:
        try:
            prompt = with_files(request.prompt, request.files_at, request.files, Path(request.root))
        except ParallelAIError as error:
            raise Invalid(error.said, where=error.where, next=error.next) from None
        request = changed(request, prompt=prompt, files_at=None)
    if request.instructions is not None and not able.takes_instructions:
        request = _instructed(request)
    return request


def _instructed(request: Request) -> Request:
    """Put the role's instructions before the prompt; a session that goes on was told them at its beginning."""
    before = f"{request.instructions}\n\n" if request.session is None else ""
    files_at = None if request.files_at is None else request.files_at + len(before)
    shared = request.shared + len(before)
    return changed(
        request, prompt=before + request.prompt, shared=shared, files_at=files_at, instructions=None
    )


@asynccontextmanager
async def _opened(
    engine: Engine, places: Workspaces, request: Request, work: Work, port: AttemptPort
) -> AsyncIterator[Place]:
    """Open a folder for an attempt. It is left where a later process may continue the session in it."""
    try:
        place = await places.open(request.task, work, request.timeout_seconds, port.parked)
    except EngineError:
        raise
    except ParallelAIError as error:
        raise Internal(error.said, where=error.where, next=error.next) from None
    port.placed(place.root, place.base, work.edits)
    is_left = False
    try:
        yield place
    except asyncio.CancelledError:
        is_left = _may_go_on(engine, port)
        if port.is_out_of_time and work.edits:
            port.kept = await place.keep_aside()
        raise
    except EngineError as error:
        is_left = isinstance(error, TimedOut) and _may_go_on(engine, port)
        if work.edits:
            port.kept = await place.keep_aside()
        error.said = "; ".join((error.said, *await place.put_right()))
        raise
    finally:
        await place.close(is_left=is_left)
        if work.edits and not is_left and not work.is_stream:
            port.placed(place.root, place.base, work.edits, is_over=True)


def _may_go_on(engine: Engine, port: AttemptPort) -> bool:
    return engine.capabilities.resumes and port.session is not None


class _Attempt:
    def __init__(
        self,
        doers: Doers,
        request: Request,
        work: Work,
        port: AttemptPort,
        place: Place | None,
    ) -> None:
        self._engine = doers.engine
        self._request = request
        self._work = work
        self._port = port
        self._perform = doers.perform
        self._verify = doers.verify
        self._place = place
        self._turn = 0
        self._repairs = 0
        self._notes: dict[str, None] = {}
        self._asides: list[str] = []
        self._untold: tuple[str, ...] = ()
        self._measured: Measured | None = None

    async def carry_out(self) -> Result:
        first = _first_prompt(self._request.prompt, self._work.todo)
        reply = await self._heard(await self._say(GO_ON if self._request.session is not None else first))
        for number in range(1, len(self._work.todo)):
            reply = await self._heard(await self._say(self._item(number)))
        while (problem := await self._problem()) is not None:
            reply = await self._heard(await self._repair(*problem))
        return await self._result(reply)

    # -- turns

    async def _say(self, prompt: str) -> Reply:
        """Do one turn, and the one or two that it takes to get an answer that can be read."""
        while True:
            try:
                reply = await self._one_turn(prompt)
                await self._write(reply)
                return reply
            except SilentEngine as error:
                prompt = self._again(NUDGE, error)
            except Invalid as error:
                prompt = self._again(UNREADABLE.format(said=error.said), error)

    async def _one_turn(self, prompt: str) -> Reply:
        self._turn += 1
        self._measured = None
        if self._turn > 1:
            self._port.turn_started(self._turn)
        request = self._request
        if self._turn > 1:
            shared = 0 if self._continues else request.shared
            request = dataclasses.replace(
                request, prompt=prompt, turn=self._turn, session=self._port.session, shared=shared
            )
        elif prompt is not request.prompt:
            request = dataclasses.replace(request, prompt=prompt)
        reply = await self._performed(request)
        if not isinstance(reply, Reply):
            raise TypeError(f"it gave no reply, but {type(reply).__name__}")
        if reply.session is not None:
            self._port.session = reply.session
        self._port.used(reply.usage)
        self._notes.update(dict.fromkeys(reply.notes))
        return reply

    async def _performed(self, request: Request) -> Reply:
        """Do a turn; one whose session is gone is done in another, which is told the whole task before it."""
        try:
            return await self._perform(completed(self._engine, request))
        except SessionGone:
            if request.session is None:
                raise
        self._port.session = None
        self._notes[BEGUN_ANEW] = None
        task = self._request
        # Of its parts one is under way already, if it is not the first turn.
        told = _first_prompt(task.prompt, self._work.todo) if request.turn == 1 else task.prompt
        prompt = f"{told}\n{request.prompt}\n"
        request = dataclasses.replace(request, prompt=prompt, session=None, shared=task.shared)
        return await self._perform(completed(self._engine, request))

    @property
    def _continues(self) -> bool:
        """Whether the next turn continues a session, and so needs not be told all again."""
        return self._engine.capabilities.resumes and self._port.session is not None

    async def _heard(self, reply: Reply) -> Reply:
        """Let the folder take in what was said and done in a turn, which may give further ones."""
        while self._place is not None and self._work.edits:
            told = await self._place.heard(reply, self._continues, self._port.parked)
            self._untold = told.untold
            if told.aside:
                self._asides.append(told.aside)
            if not told.words:
                break
            self._port.turn_ended(self._turn, "end_turn")
            try:
                async with self._port.last_turn() if told.about else nullcontext():
                    reply = await self._say(self._later(told.words))
            except (TimedOut, Transient) as error:
                if not told.about:
                    raise
                self._notes[CUT_OFF.format(about=told.about, said=error.said)] = None
                # What it did till then is judged all the same; what it said before was heard already.
                heard = dataclasses.replace(reply, text=None)
                self._untold = (await self._place.heard(heard, False, self._port.parked)).untold
                break
        return reply

    def _later(self, words: str) -> str:
        """The prompt of a later turn; who remembers nothing is told the task again, before what is said now."""
        said, self._asides = "\n\n".join((*self._asides, words)), []
        return said if self._continues else f"{self._request.prompt}\n{said}\n"

    def _item(self, number: int) -> str:
        """The prompt of a later item of `todo`."""
        if self._port.is_out_of_time:
            raise self._port.timed_out()
        todo = self._work.todo
        said = f"Now do this, number {number + 1} of {len(todo)}: {todo[number]}"
        self._port.turn_ended(self._turn, PART_DONE)
        return self._later(said)

    def _again(self, prompt: str, error: EngineError) -> str:
        """Ask once more for what is missing. Raises the error where that is of no use."""
        if not self._continues or self._repairs >= MOST_REPAIRS or self._port.is_out_of_time:
            raise error
        self._repairs += 1
        self._port.turn_ended(self._turn, error.kind)
        return prompt

    async def _repair(self, prompt: str, error: EngineError) -> Reply:
        return await self._say(self._later(self._again(prompt, error)))

    # -- what has to be there at the end

    async def _problem(self) -> tuple[str, EngineError] | None:
        """Say what is missing, as the words for the assistant and the error of the attempt."""
        if self._place is None:
            return None
        if self._work.edits and not self._work.is_empty_ok:
            measured = await self._measure(self._place)
            if not measured.files:
                kept_out = _named(measured.kept_out)
                said = f"the change is empty but for what may not be changed: {kept_out}" if kept_out else ""
                if said and measured.is_guarded:
                    return EMPTY, Trespass(said, next=KEPT_OUT)
                if measured.unseen:
                    return UNSEEN.format(paths=_named(measured.unseen)), Invalid(said, next=SPARSE)
                error = Invalid(said or "the change is empty", next=EMPTY_IS_FINE)
                return EMPTY, error
        return await self._failed_check(self._place)

    async def _measure(self, place: Place) -> Measured:
        """Look at what was changed, unless nothing ran in the folder since the last look."""
        if self._measured is None:
            self._measured = await place.measure()
        return self._measured

    async def _failed_check(self, place: Place) -> tuple[str, EngineError] | None:
        for argv in self._work.checks:
            self._measured = None
            error = await place.check(argv, self._request.timeout_seconds)
            if isinstance(error, CheckFailed) and self._work.edits:
                return FAILED_CHECK.format(said=f"{shlex.join(argv)}\n{error.said}"), error
            if error is not None:
                raise error
        return None

    async def _write(self, reply: Reply) -> None:
        """Write what a model without hands proposed; one with hands has done so itself."""
        is_proposal = self._work.edits and not self._engine.capabilities.works_in_folder
        if is_proposal and self._place is not None:
            await self._place.write(reply.data)

    async def _result(self, reply: Reply) -> Result:
        untold = (f"was not told: {text}" for text in self._untold)
        reply = dataclasses.replace(reply, notes=(*self._notes, *untold))  # of all turns
        if self._place is not None and self._work.after:
            reply = self._proven(reply, Path(self._place.root))
        if self._work.verify is not None and self._request.output == "findings":
            reply = await self._verified(reply)
        if self._place is None:
            return Result(reply)
        measured = await self._measure(self._place)
        if not self._work.edits:
            return Result(_reported(reply, measured))
        change = await self._place.keep(measured)
        notes = (*reply.notes, *([_told_of_unseen(measured.unseen)] if measured.unseen else ()))
        return Result(dataclasses.replace(reply, change=change, data=None, notes=notes), measured)

    def _proven(self, reply: Reply, root: Path) -> Reply:
        """Look quotes up in the files as they are here, with the changes of earlier tasks: no other place has these."""
        must_quote = self._engine.capabilities.takes_text
        placed = quotes.place(reply.findings, functools.partial(_read, root), must_quote=must_quote)
        dropped = placed.dropped[quotes.QUOTE_NOT_FOUND]
        if not dropped:
            return dataclasses.replace(reply, findings=placed.findings)
        note = f"{dropped} findings were dropped: what they quote is nowhere in their files"
        return dataclasses.replace(reply, findings=placed.findings, notes=(*reply.notes, note))

    async def _verified(self, reply: Reply) -> Reply:
        """Let somebody try to refute each finding with the code before him; what was refuted is kept as such."""
        read = functools.partial(_read, Path(self._request.root))
        # No bare numbers: by these a request counts its own findings, from 1 for each file.
        numbered = [dataclasses.replace(one, id=f"f-{number}") for number, one in enumerate(reply.findings)]
        verdicts: list[Verdict] = []
        for check in verify.checks(numbered, read):
            self._measured = None
            self._port.turn_ended(self._turn, "end_turn")
            self._turn += 1
            self._port.turn_started(self._turn)
            try:
                answer = await self._verify(self._question(check))
            except Invalid:  # what cannot be read refutes nothing
                continue
            self._port.used(answer.usage)
            verdicts += verify.read_verdicts(answer.data, check, by=str(self._work.verify))
        judged = verify.apply_verdicts(numbered, verdicts)
        findings = tuple(dataclasses.replace(one, id="") for one in judged)
        return dataclasses.replace(reply, findings=findings)

    def _question(self, check: verify.Check) -> Request:
        return dataclasses.replace(
            self._request,
            prompt=check.prompt,
            files=tuple(FilePart(file) for file in check.files),
            output="schema",
            schema=verify.VERDICTS_SCHEMA,
            session=None,
            turn=self._turn,
            shared=0,
            files_at=None,
            checklist=(),
            instructions=None,  # whoever refutes looks with eyes of his own
        )


def _read(root: Path, path: str) -> str | None:
    try:
        return read_text(root, path)
    except (OSError, ParallelAIError):  # it went away; the finding is judged by its quote
        return None


def _first_prompt(prompt: str, todo: tuple[str, ...]) -> str:
    if not todo:
        return prompt
    items = "\n".join(f"{number}. {item}" for number, item in enumerate(todo, 1))
    return f"{prompt}\nThis is done in {len(todo)} parts:\n{items}\nDo number 1 now, and nothing else.\n"


def _named(paths: Sequence[str]) -> str:
    shown = ", ".join(f"`{path}`" for path in paths[:MOST_NAMED])
    return shown + (f" and {len(paths) - MOST_NAMED} more" if len(paths) > MOST_NAMED else "")


def _told_of_unseen(paths: Sequence[str]) -> str:
    return f"wrote {_named(paths)}, which it could not see, so that is kept out; {SPARSE}"


def _reported(reply: Reply, measured: Measured) -> Reply:
    """Say what was changed where nothing may be: it is dropped."""
    changed = (*measured.files, *measured.kept_out)
    if not changed:
        return reply
    shown = ", ".join(f"`{path}`" for path in changed[:5]) + (" …" if len(changed) > 5 else "")
    note = f"changed {len(changed)} files, though the task does not edit; that was dropped: {shown}"
    return dataclasses.replace(reply, notes=(*reply.notes, note))
