"""A whole proof of one engine, as it is configured here: what `engines conform NAME` runs.

`conformance.conform` checks the protocol with requests that somebody gives. This makes the requests itself, in
folders of its own, and adds what only a real turn shows: that it edits, streams, keeps to its time, says what it
used, maps errors, and leaves no process. It asks the engine some twenty small things, which cost what they cost.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from msgspec import Struct

from parallelai.engines.conformance import CollectingPort, Verdict, conform, demand, judge
from parallelai.engines.protocol import (
    Engine,
    FinalEvent,
    Request,
    TextEvent,
    ToolEvent,
    UsageEvent,
    Workspace,
)
from parallelai.errors import EngineError, Internal, Invalid, ProgramError, TimedOut
from parallelai.processes import environment, run_quick
from parallelai.processes.temporary import temporary_folder
from parallelai.processes.tree import marked
from parallelai.records import FilePart, Reply

TURN_SECONDS = 180.0
SHORT_SECONDS = 1.0
"""The time-out of the turn that is to run into it."""
SLACK_SECONDS = 15.0
"""How much longer than its time-out a turn may take to end, its grace included."""
Check = Callable[[Engine], Awaitable[None]]


class Prompts(Struct, frozen=True):
    """What the engine is asked. `model` is one that no provider has."""

    answer: str = "Answer with the one word: ok"
    edit: str = "Create the file `conform.txt` in the current folder. Its only line is the word: ok"
    long: str = "Write a story of 3,000 words about a lighthouse. Do not use any tool."
    model: str = "no-such-model-anywhere"


async def prove(
    make: Callable[[], Engine], *, sandbox: str = "auto", takes_model: bool, prompts: Prompts | None = None
) -> list[Verdict]:
    """Run every check against engines that `make` gives, and give a verdict for each, in order.

    `sandbox` is the entry's; `takes_model` says that another model can be asked for. Nothing that the engine
    does raises here, except being cancelled.
    """
    asked = prompts or Prompts()
    before = _own_marks()
    with temporary_folder("conform") as folder:
        places = _Places(folder, sandbox)
        request = await asyncio.to_thread(places.request, make(), asked.answer)
        verdicts = await conform(make, request)
        for check, run in _checks(places, asked, takes_model):
            verdicts.append(await judge(check, run, make))
    left = sorted(_own_marks() - before)
    said = f"{len(left)} process(es) still run: {left}" if left else ""
    return [*verdicts, Verdict("leaves no process", not left, said)]


def _checks(places: _Places, asked: Prompts, takes_model: bool) -> list[tuple[str, Check]]:
    return [
        ("edits", lambda engine: _check_edit(engine, places, asked)),
        (
            "leaves the folder alone where it may not edit",
            lambda engine: _check_read_only(engine, places, asked),
        ),
        ("streams", lambda engine: _check_stream(engine, places, asked)),
        ("reports usage", lambda engine: _check_usage(engine, places, asked)),
        ("is cancelled in the middle", lambda engine: _check_cancel(engine, places, asked)),
        ("times out", lambda engine: _check_time_out(engine, places, asked)),
        ("continues a session", lambda engine: _check_session(engine, places, asked)),
        ("maps errors", lambda engine: _check_error(engine, places, asked if takes_model else None)),
    ]


class _Places:
    """Folders for turns: each a small git repository, as a real one is."""

    def __init__(self, base: Path, sandbox: str) -> None:
        self._base = base
        self._sandbox = sandbox
        self._made = 0

    def request(self, engine: Engine, prompt: str, *, edits: bool = False) -> Request:
        """Make a folder, and a request to work in it. Blocks for some milliseconds."""
        self._made += 1
        root, temporary = self._base / f"work-{self._made}", self._base / f"temporary-{self._made}"
        root.mkdir()
        temporary.mkdir()
        (root / "sample.py").write_text("import os\n", encoding="utf-8")
        env = environment(env={"GIT_CONFIG_GLOBAL": os.devnull})
        try:
            run_quick(["git", "init", "-q"], root, env=env)
        except ProgramError as error:  # without git most assistants cannot work either
            raise Internal(error.said) from None
        can = engine.capabilities
        takes_text = "text" in can.answers
        output = "change" if edits else "text" if takes_text else "findings"
        workspace = Workspace(edits=edits, temporary=str(temporary), sandbox=self._sandbox)  # type: ignore[arg-type]  # the entry's
        return Request(
            run="conform",
            task="conform",
            attempt=1,
            root=str(root),
            prompt=prompt,
            files=() if takes_text else (FilePart("sample.py"),),
            output=output,  # type: ignore[arg-type]  # one of the three above
            timeout_seconds=TURN_SECONDS,
            idle_timeout_seconds=TURN_SECONDS,
            workspace=workspace if can.works_in_folder else None,
        )

    async def ask(self, engine: Engine, prompt: str, *, edits: bool = False) -> Request:
        """Make a request without blocking the loop."""
        return await asyncio.to_thread(lambda: self.request(engine, prompt, edits=edits))


@contextlib.asynccontextmanager
async def _in_time(seconds: float) -> AsyncIterator[None]:
    """Bound a turn as whoever runs it does."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise TimedOut(f"it was not done after {seconds:g} s") from None


async def _turn(engine: Engine, request: Request, port: CollectingPort | None = None) -> Reply:
    async with _in_time(request.timeout_seconds + SLACK_SECONDS):
        return await engine.perform(request, port or CollectingPort(answer="allow_once"))


async def _check_edit(engine: Engine, places: _Places, asked: Prompts) -> None:
    if not engine.capabilities.edits or not engine.capabilities.works_in_folder:
        return
    request = await places.ask(engine, asked.edit, edits=True)
    await _turn(engine, request)
    made = Path(request.root) / "conform.txt"
    demand(made.is_file(), "it was asked for a file, said that all is well, and there is none")
    demand(
        made.read_text(encoding="utf-8", errors="replace").strip() == "ok", "the file holds something else"
    )


async def _check_read_only(engine: Engine, places: _Places, asked: Prompts) -> None:
    if not engine.capabilities.works_in_folder:
        return
    request = await places.ask(engine, asked.edit)
    with contextlib.suppress(Invalid):  # it may well say that it could not
        await _turn(engine, request)
    is_confined = request.workspace is not None and request.workspace.sandbox == "required"
    made = Path(request.root) / "conform.txt"
    demand(not (is_confined and made.exists()), "it wrote a file where it may only read")


async def _check_stream(engine: Engine, places: _Places, asked: Prompts) -> None:
    if not engine.capabilities.streams:
        return
    port = CollectingPort(answer="allow_once")
    await _turn(engine, await places.ask(engine, asked.answer), port)
    said = [event for event in port.events if isinstance(event, TextEvent | ToolEvent)]
    demand(bool(said), "it `streams`, and nothing came before the final event")


async def _check_usage(engine: Engine, places: _Places, asked: Prompts) -> None:
    port = CollectingPort(answer="allow_once")
    reply = await _turn(engine, await places.ask(engine, asked.answer), port)
    usage = reply.usage
    is_free = usage.basis == "free"
    demand(is_free or usage.tokens is not None or usage.usd is not None, "it does not say what it used")
    told = [event.usage for event in port.events if isinstance(event, UsageEvent)]
    total = sum(one.tokens or 0 for one in told)
    fits = is_free or not told or usage.tokens is None or total == usage.tokens
    demand(fits, f"its events add up to {total} tokens, its reply says {usage.tokens}")


async def _check_cancel(engine: Engine, places: _Places, asked: Prompts) -> None:
    request = await places.ask(engine, asked.long)
    port = CollectingPort(answer="allow_once")
    async with asyncio.TaskGroup() as group:
        turn = group.create_task(_quiet(engine, request, port))
        first = group.create_task(port.started.wait())
        await asyncio.wait({turn, first}, timeout=TURN_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        first.cancel()
        was_running = turn.cancel()
        await asyncio.wait({turn}, timeout=SLACK_SECONDS)
        is_ended = turn.done()
    demand(is_ended, f"it went on for more than {SLACK_SECONDS:g} s after it was cancelled")
    demand(not was_running or turn.cancelled(), "being cancelled was swallowed")
    demand(not _finals(port) or not was_running, "it said that all went well, and was cancelled")


async def _quiet(engine: Engine, request: Request, port: CollectingPort) -> None:
    try:
        await engine.perform(request, port)
    except EngineError:
        return


async def _check_time_out(engine: Engine, places: _Places, asked: Prompts) -> None:
    request = replace(await places.ask(engine, asked.long), timeout_seconds=SHORT_SECONDS, grace_seconds=1.0)
    port = CollectingPort(answer="allow_once")
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        async with _in_time(SHORT_SECONDS + SLACK_SECONDS):
            await engine.perform(request, port)
    except TimedOut:
        demand(not _finals(port), "it said that all went well, and ran out of time")
    took = loop.time() - began
    demand(took < SHORT_SECONDS + SLACK_SECONDS, f"a turn of {SHORT_SECONDS:g} s took {took:.0f} s")


async def _check_session(engine: Engine, places: _Places, asked: Prompts) -> None:
    if not engine.capabilities.resumes:
        return
    request = await places.ask(engine, asked.answer)
    first = await _turn(engine, request)
    demand(first.session is not None, "it `resumes`, and names no session")
    again = await _turn(engine, replace(request, session=first.session, turn=2))
    demand(again.session is not None, "the second turn names no session")


async def _check_error(engine: Engine, places: _Places, asked: Prompts | None) -> None:
    if asked is None:
        return
    request = replace(await places.ask(engine, asked.answer), model=asked.model)
    port = CollectingPort()
    try:
        await _turn(engine, request, port)
    except TimedOut:
        demand(False, "an unknown model was tried until the time was over")
    except EngineError as error:
        demand(bool(error.said), "the error says nothing")
        demand(not _finals(port), "it failed after a final event that says that all went well")
    else:
        demand(False, f"it answered with the model `{asked.model}`, which does not exist")


def _finals(port: CollectingPort) -> list[FinalEvent]:
    return [event for event in port.events if isinstance(event, FinalEvent) and event.ok]


def _own_marks() -> set[int]:
    """The processes that this one started and that still run."""
    return {process.pid for process in marked() if process.mark.startswith(f"{os.getpid()}:")}
