"""What every engine must do, as checks that anybody can run on theirs (`engines conform NAME`).

    verdicts = await conform(lambda: MyEngine("mine", entry, context), request)
    assert all(verdict.ok for verdict in verdicts)

It needs no test framework. `CollectingPort` is the port that the project's own tests use.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import get_args

from msgspec import Struct, field

from parallelai.engines.protocol import (
    Answer,
    Availability,
    Capabilities,
    Engine,
    EngineEvent,
    Estimate,
    FinalEvent,
    LimitsEvent,
    Message,
    OutputKind,
    Permit,
    Question,
    Request,
    TextEvent,
)
from parallelai.errors import EngineError, first_error
from parallelai.records import LimitKey, Reply, Usage, from_json, to_json

AT_ONCE = 4
"""How many turns the check of parallel use starts together."""


class Verdict(Struct, frozen=True):
    """One check: its name, whether it was passed, and what was wrong (or why it was left out)."""

    check: str
    ok: bool
    said: str = ""


class CollectingPermit(Struct):
    """A permit that is always there; it keeps how it was settled."""

    settled: list[Usage | None] = field(default_factory=list)

    async def settle(self, usage: Usage | None = None, limits: LimitsEvent | None = None) -> None:
        """Note the usage of the call."""
        self.settled.append(usage)


class CollectingPort(Struct):
    """A port that keeps what a turn says.

    It permits every call, brings `messages`, and answers every question with `answer`, or with its last
    option (by convention the one that denies) where that is not offered.
    """

    events: list[EngineEvent] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)
    permits: list[CollectingPermit] = field(default_factory=list)
    messages: tuple[Message, ...] = ()
    answer: str = "deny"
    started: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def text(self) -> str:
        """All text so far."""
        return "".join(event.delta for event in self.events if isinstance(event, TextEvent))

    async def emit(self, event: EngineEvent) -> None:
        """Keep the event; the first one sets `started`."""
        self.events.append(event)
        self.started.set()

    async def permit(self, key: LimitKey, tokens: int) -> Permit:
        """Permit the call at once."""
        self.permits.append(CollectingPermit())
        return self.permits[-1]

    async def ask(self, question: Question) -> Answer:
        """Answer at once."""
        self.questions.append(question)
        option = self.answer if self.answer in question.options else question.options[-1]
        return Answer(option)

    async def inbox(self) -> AsyncIterator[Message]:
        """Give the messages, then end."""
        for message in self.messages:
            yield message


class _Failed(Exception):
    """A check that was not passed, and why."""


async def conform(
    make: Callable[[], Engine],
    request: Request,
    *,
    hanging: Request | None = None,
    failing: Request | None = None,
) -> list[Verdict]:
    """Run every check, each on an engine of its own, and give a verdict for each.

    `request` is one that the engine can answer. `hanging` is one that takes long, to be cancelled; `failing`
    is one that it must fail on. Checks whose request is not given are passed over, saying so. Nothing that
    the engine does raises here, except being cancelled.
    """
    checks: list[tuple[str, Callable[[Engine], Awaitable[None]] | None]] = [
        ("has the shape of the protocol", _check_shape),
        ("detects without starting anything", _check_detect),
        ("names its limit", lambda engine: _check_limit_key(engine, request)),
        ("estimates", lambda engine: _check_estimate(engine, request)),
        ("answers with one final event", lambda engine: _check_answer(engine, request)),
        ("answers a request that came as JSON", lambda engine: _check_json(engine, request)),
        ("answers several at once", lambda engine: _check_together(engine, request)),
        ("stays usable after a cancelled turn", lambda engine: _check_early_cancel(engine, request)),
        ("can be cancelled", (lambda engine: _check_cancel(engine, hanging)) if hanging else None),
        (
            "fails with an engine's error",
            (lambda engine: _check_failure(engine, failing)) if failing else None,
        ),
        ("says how to attach", _check_attach),
        ("closes twice", _check_close),
    ]
    return [await judge(name, check, make) for name, check in checks]


async def judge(
    name: str, check: Callable[[Engine], Awaitable[None]] | None, make: Callable[[], Engine]
) -> Verdict:
    """Run one check on an engine of its own, whatever that does."""
    if check is None:
        return Verdict(name, True, "left out: no request for it was given")
    try:
        engine = make()
        try:
            await check(engine)
        finally:
            await engine.aclose()
    except _Failed as failure:
        return Verdict(name, False, str(failure))
    except Exception as error:  # the boundary to somebody else's engine: a crash is a verdict
        found = first_error(error)
        return Verdict(name, False, f"raised {type(found).__name__}: {found}")
    return Verdict(name, True)


def demand(holds: bool, said: str) -> None:
    """Fail the check that runs, unless something holds."""
    if not holds:
        raise _Failed(said)


async def _check_shape(engine: Engine) -> None:
    demand(isinstance(engine, Engine), "a method or attribute of the protocol is missing")
    demand(isinstance(engine.name, str) and engine.name != "", "`name` is not a text")
    can = engine.capabilities
    demand(isinstance(can, Capabilities), "`capabilities` is not a `Capabilities`")
    demand(bool(can.answers), "`capabilities.answers` is empty: it can do nothing")
    unknown = set(can.answers) - set(get_args(OutputKind))
    demand(not unknown, f"`capabilities.answers` holds {sorted(unknown)}")
    demand(can.batch >= 1, "`capabilities.batch` is below 1")


async def _check_detect(engine: Engine) -> None:
    import psutil

    me = psutil.Process()
    before = {child.pid for child in me.children(recursive=True)}
    found = await engine.detect()
    started = {child.pid for child in me.children(recursive=True)} - before
    demand(isinstance(found, Availability), "`detect` gave no `Availability`")
    demand(bool(found.said), "`detect` says nothing")
    demand(found.is_available or bool(found.how), "it is missing, and `how` does not say what to do")
    demand(not started, f"`detect` started {len(started)} process(es)")


async def _check_limit_key(engine: Engine, request: Request) -> None:
    key = engine.limit_key(request)
    demand(isinstance(key, LimitKey), "`limit_key` gave no `LimitKey`")
    demand(all(isinstance(part, str) for part in key), "a part of the key is not a text")
    again = engine.limit_key(replace(request, attempt=request.attempt + 1))
    demand(key == again, "another attempt counts for another limit")


async def _check_estimate(engine: Engine, request: Request) -> None:
    guess = engine.estimate(request)
    demand(isinstance(guess, Estimate), "`estimate` gave no `Estimate`")
    for name in ("tokens", "usd", "memory_bytes"):
        value = getattr(guess, name)
        demand(value is None or value >= 0, f"`{name}` is {value}; unknown is None")


async def _turn(engine: Engine, request: Request) -> tuple[Reply, list[EngineEvent]]:
    port = CollectingPort()
    reply = await engine.perform(request, port)
    demand(isinstance(reply, Reply), f"`perform` gave a {type(reply).__name__}, not a `Reply`")
    return reply, port.events


async def _check_answer(engine: Engine, request: Request) -> None:
    reply, events = await _turn(engine, request)
    finals = [event for event in events if isinstance(event, FinalEvent)]
    demand(len(finals) == 1, f"{len(finals)} final events were sent, not one")
    demand(isinstance(events[-1], FinalEvent), "something was sent after the final event")
    demand(finals[0].ok, "a reply was given, but its final event says that it failed")
    demand(from_json(Reply, to_json(reply)) == reply, "the reply is not the same after a way through JSON")
    for finding in reply.findings:
        path = finding.file
        demand(not path.startswith("/") and ".." not in path.split("/"), f"`{path}` is not in the project")
    if request.output == "schema":
        demand(reply.data is not None, "a schema was asked for, and `data` is empty")


async def _check_json(engine: Engine, request: Request) -> None:
    carried = from_json(Request, to_json(request))
    demand(carried == request, "the request itself is not plain JSON")
    await _turn(engine, carried)


async def _check_together(engine: Engine, request: Request) -> None:
    async with asyncio.TaskGroup() as group:
        turns = [group.create_task(_turn_or_error(engine, request)) for _ in range(AT_ONCE)]
    failures = [error for error in (turn.result() for turn in turns) if error is not None]
    demand(not failures, f"{len(failures)} of {AT_ONCE} failed: {failures[:1]}")


async def _turn_or_error(engine: Engine, request: Request) -> str | None:
    try:
        await _turn(engine, request)
    except EngineError as error:
        return str(error)
    return None


async def _check_early_cancel(engine: Engine, request: Request) -> None:
    await _cancelled(engine, request, until=None)
    await _turn(engine, request)


async def _check_cancel(engine: Engine, request: Request | None) -> None:
    if request is None:
        return
    is_cancelled = await _cancelled(engine, request, until=0.2)
    demand(is_cancelled, "a turn that was to be cancelled ended by itself")


async def _cancelled(engine: Engine, request: Request, *, until: float | None) -> bool:
    """Start a turn and cancel it: after one step of the loop, or once it has had `until` seconds.

    Gives whether it was still running, and demands that it then ended as cancelled.
    """
    port = CollectingPort()
    async with asyncio.TaskGroup() as group:
        turn = group.create_task(_perform_quietly(engine, request, port))
        if until is None:
            await asyncio.sleep(0)
        else:
            await asyncio.wait({turn}, timeout=until)
        was_running = turn.cancel()
        await asyncio.wait({turn})
    demand(
        not was_running or turn.cancelled(), "being cancelled was swallowed: `CancelledError` must come out"
    )
    return was_running


async def _perform_quietly(engine: Engine, request: Request, port: CollectingPort) -> None:
    try:
        await engine.perform(request, port)
    except Exception:  # whatever it raises instead of `CancelledError` is what the caller looks for
        return


async def _check_failure(engine: Engine, request: Request | None) -> None:
    if request is None:
        return
    port = CollectingPort()
    try:
        await engine.perform(request, port)
    except EngineError as error:
        demand(bool(error.said), "the error says nothing")
        good = any(isinstance(event, FinalEvent) and event.ok for event in port.events)
        demand(not good, "it failed after a final event that says that all went well")
    except Exception as error:  # somebody else's engine again
        raise _Failed(f"raised {type(error).__name__}, which is no `EngineError`: {error}") from error
    else:
        raise _Failed("the request that must fail was answered")


async def _check_attach(engine: Engine) -> None:
    command = engine.attach("a-session")
    is_argv = isinstance(command, list) and all(isinstance(word, str) for word in command)
    demand(command is None or is_argv, "`attach` gave neither a list of words nor None")
    demand(command is not None or not engine.capabilities.attaches, "it `attaches`, and gives no command")


async def _check_close(engine: Engine) -> None:
    await engine.aclose()
    await engine.aclose()
