"""One turn in a session of an agent: opened, prompted, read to its end, interrupted where it must."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from parallelai.engines.acp.agent import Agent
from parallelai.engines.acp.errors import read_error, read_no_load, read_stop, read_trouble
from parallelai.engines.acp.launch import Launch
from parallelai.engines.acp.pool import Pool
from parallelai.engines.acp.report import (
    Call,
    News,
    Reporter,
    failure_of,
    read_report,
    stop_of,
    trouble_of,
    usage_of,
)
from parallelai.engines.acp.sdk import acp, schema
from parallelai.engines.acp.turn import Turn
from parallelai.engines.acp.updates import Updates, has_broken_off, read_response_usage
from parallelai.engines.protocol import FinalEvent, Port, Request, SessionEvent, UsageEvent
from parallelai.engines.replies import to_reply
from parallelai.engines.untrusted import clean, shorten
from parallelai.errors import EngineError, Invalid, Rejected, SessionGone, Transient
from parallelai.records import Reply, Usage

INTERRUPT_SECONDS = 2.0
"""How long an interrupted agent may take to write its session down."""
QUIET_SECONDS = 0.2
REPLAY_SECONDS = 10.0
"""A loaded session's past may still be told after its load was answered (gemini): until it is quiet."""
REPORT_SECONDS = 7.0
"""How long an agent that goes on may take to begin its report: gemini writes every 5 s."""
MORE_REPORT_SECONDS = 30.0
"""How long one that has begun may take to go on with it, on a busy machine."""
LOOK_SECONDS = 0.25
STOP_SECONDS = 10.0
"""How long an agent that only waits to try again may take to stop that: others may have a turn with it."""
WORDS_SECONDS = 2.0
"""How long after a failed call its words may come: qwen writes them within one."""
COMMAND_MARKS = ("/", "$", "@", "!", "#")
"""A prompt that begins with one of these would be taken for a command of the agent's (gemini, qwen)."""
PREFACE = "This is the task:\n"


async def take_turn(pool: Pool, launch: Launch, request: Request, port: Port, wall: asyncio.Timeout) -> Reply:
    """Do one turn with an agent of the pool. Raises an `EngineError`, or a group that holds one."""
    since = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    async with pool.agent(launch) as agent:
        agent.begin_turn()
        async with asyncio.TaskGroup() as group:
            turn = Turn(port, Updates(request.root), group, wall)
            session = Session(pool, agent, turn, request, launch, since)
            try:
                reply = await session.carry_out()
                await turn.end()
            except BaseException:  # also a cancel: nothing of the turn may come after it
                turn.stop()
                raise
            finally:
                turn.close()
                agent.turns.pop(session.id, None)
        if reply.usage != Usage():
            await port.emit(UsageEvent(reply.usage))
    if launch.reports is not None:
        wall.reschedule(None)  # the turn is over
        is_awaited = request.output == "text"
        stop = await _reported_stop(agent, launch.reports, session.id, since, is_awaited=is_awaited)
        if stop is not None and (error := read_stop(agent.name, stop)) is not None:
            raise error
    await port.emit(FinalEvent(ok=True))
    return reply if launch.is_shared else replace(reply, memory_bytes=agent.peak_memory_bytes)


async def _reported_stop(
    agent: Agent, reporter: Reporter, session: str, since: str, *, is_awaited: bool
) -> str | None:
    """Look up how the last answer ended in the agent's own report; None where it does not say.

    An agent that others still use writes its report down late: that is awaited where nothing else would tell.
    """
    seconds, most = 0.0, REPORT_SECONDS
    while agent.is_alive and agent.report_folder is not None and is_awaited and seconds < most:
        text = await asyncio.to_thread(read_report, agent.report_folder)
        stop = await asyncio.to_thread(stop_of, reporter, text, session, since)
        if stop is not None:
            return stop
        most = MORE_REPORT_SECONDS if text else REPORT_SECONDS
        await asyncio.sleep(LOOK_SECONDS)
        seconds += LOOK_SECONDS
    if not agent.is_alive:  # who used it last ends it, and then reads what it wrote at its end
        await agent.is_over.wait()
    return await asyncio.to_thread(stop_of, reporter, agent.report, session, since)


class Session:
    """A session of an agent, for one turn. `id` is empty until it is open."""

    def __init__(
        self, pool: Pool, agent: Agent, turn: Turn, request: Request, launch: Launch, since: str
    ) -> None:
        self.id = ""
        self._pool = pool
        self._agent = agent
        self._turn = turn
        self._request = request
        self._launch = launch
        self._since = since
        self._options: list[Any] = []
        self._usd_before: float | None = 0.0
        self._summed: Usage | None = None

    async def carry_out(self) -> Reply:
        """Open the session, say the prompt, read what comes."""
        request = self._request
        await self._open()
        self._turn.put([SessionEvent(self.id)])
        await self._choose_model()
        response = await self._prompt()
        usage = self._usage(response)
        if (error := read_stop(self._agent.name, response.stop_reason)) is not None:
            await self._turn.spend(usage)
            raise error
        if self._turn.updates.answer and has_broken_off(response):
            raise Transient(f"the answer of the model that `{self._agent.name}` uses broke off")
        try:
            reply = self._read(usage, request)
        except EngineError:
            await self._turn.spend(usage)
            raise
        await self._close()
        return reply

    # Opening

    async def _open(self) -> None:
        request = self._request
        if request.session is None:
            opened = await self._agent.call(
                lambda c: c.new_session(request.root, mcp_servers=[]), "session/new"
            )
            self.id, self._options = opened.session_id, list(opened.config_options or ())
            self._agent.turns[self.id] = self._turn
        else:
            await self._continue(request.session)
        self._turn.listen()

    async def _continue(self, id: str) -> None:
        """Go on with a session: without its past being told again, where the agent can."""
        root = self._request.root
        about = self._agent.about
        able = None if about is None else about.agent_capabilities
        self.id = id
        self._agent.turns[id] = self._turn
        self._usd_before = self._pool.costs.get(id)
        try:
            if (
                able is not None
                and able.session_capabilities is not None
                and able.session_capabilities.resume
            ):
                resumed = await self._agent.call(
                    lambda c: c.resume_session(id, root, mcp_servers=[]), "session/resume"
                )
                self._options = list(resumed.config_options or ())
            elif able is not None and able.load_session:
                loaded = await self._agent.call(
                    lambda c: c.load_session(root, id, mcp_servers=[]), "session/load"
                )
                self._options = list(loaded.config_options or ())
                await self._turn.quiet(QUIET_SECONDS, REPLAY_SECONDS)
            else:
                raise SessionGone(
                    f"`{self._agent.name}` cannot continue a session", next="start the task anew (`--new`)"
                )
        except EngineError as error:
            if error.next is None:
                error.next = "start the task anew (`--new`), if its session is gone"
            raise read_no_load(error) from None
        if self._usd_before is None:
            self._usd_before = self._turn.updates.usd

    async def _choose_model(self) -> None:
        model = self._launch.session_model
        if model is None:
            return
        for option in self._options:
            if option.category == "model" or option.id == "model":
                value = next((v for v, names in _values(option) if model.lower() in names), None)
                if value is None:
                    known = ", ".join(f"`{shorten(clean(v), 80)}`" for v, _ in list(_values(option))[:20])
                    raise Rejected(f"`{self._agent.name}` has no model `{model}`", next=f"it has {known}")
                await self._agent.call(
                    lambda c: c.set_config_option(option.id, self.id, value),  # noqa: B023  # awaited at once
                    "session/set_config_option",
                )
                return
        raise Rejected(
            f"`{self._agent.name}` does not let its model be chosen",
            next="take `model` out of its entry, or choose it by the agent's own `args` or `env`",
        )

    # The prompt

    async def _prompt(self) -> schema.PromptResponse:
        blocks: list[Any] = [acp.text_block(text) for text in _prompt_texts(self._request)]
        folder = self._agent.report_folder
        # Before the prompt is sent: an agent may report at once.
        news = None if folder is None else await asyncio.to_thread(News, folder)
        task = self._agent.request(lambda c: c.prompt(self.id, blocks))
        try:
            await self._watch(task, news)
        except asyncio.CancelledError:
            await self._interrupt(task)
            raise
        if self._turn.failed.done():  # also where the agent has answered, because it was told to stop
            await self._interrupt(task)
            self._turn.failed.result()
        try:
            response = await self._agent.result(task, "session/prompt")
        except EngineError:
            await self._turn.spend(self._usage(None))
            raise
        if (failure := await self._look_up(response)) is not None:
            await self._turn.spend(self._usage(response))
            raise read_error(self._agent.name, 0, failure)
        return response

    async def _look_up(self, response: schema.PromptResponse) -> str | None:
        """Say why the turn failed, where the agent answers as if it had not, and only its report has it.

        Adds up the turn's calls, too, where its answer counts the last one alone.
        """
        reporter, folder = self._launch.reports, self._agent.report_folder
        if reporter is None or folder is None:
            return None
        report = await asyncio.to_thread(read_report, folder)
        last = read_response_usage(response) if self._launch.counts_last_call else None
        if last is not None:
            self._summed = await asyncio.to_thread(usage_of, reporter, report, self.id, self._since, last)
        return await asyncio.to_thread(failure_of, reporter, report, self.id, self._since)

    async def _watch(self, task: asyncio.Task[schema.PromptResponse], news: News | None) -> None:
        """Wait for the answer, or until the turn fails: also by a call that the agent would make again itself."""
        reporter = self._launch.reports
        while not (task.done() or self._turn.failed.done()):
            either = (task, self._turn.failed)
            seconds = None if news is None or reporter is None else LOOK_SECONDS
            done, _ = await asyncio.wait(either, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if done or news is None or reporter is None:
                return
            if (call := await self._trouble(reporter, news)) is not None:
                await self._end_retries(task, reporter, news, call)

    async def _trouble(self, reporter: Reporter, news: News) -> Call | None:
        return await asyncio.to_thread(lambda: trouble_of(reporter, news.read(), self.id, self._since))

    async def _end_retries(
        self, task: asyncio.Task[schema.PromptResponse], reporter: Reporter, news: News, call: Call
    ) -> None:
        """Stop the agent before it makes a call again that failed, hear why that was, and fail the turn."""
        await self._agent.notify(lambda c: c.cancel(self.id))
        seconds = 0.0
        while call.is_brief and seconds < WORDS_SECONDS:
            await asyncio.sleep(LOOK_SECONDS)
            seconds += LOOK_SECONDS
            call = await self._trouble(reporter, news) or call
        await asyncio.wait((task,), timeout=STOP_SECONDS)
        self._turn.fail(read_trouble(self._agent.name, call.trouble or "", call.wait_seconds))

    async def _interrupt(self, task: asyncio.Task[schema.PromptResponse]) -> None:
        """Have the agent stop what it does; one that does not is ended, with all its sessions."""
        if not task.done():
            await self._agent.notify(lambda c: c.cancel(self.id))
        patience = min(INTERRUPT_SECONDS, self._request.grace_seconds)
        try:
            await asyncio.wait((task,), timeout=patience)
        finally:
            self._agent.is_tainted = self._agent.is_tainted or not task.done()
            task.cancel()
        answered = task.done() and not task.cancelled() and task.exception() is None
        await self._turn.spend(self._usage(task.result() if answered else None))

    # Reading

    def _usage(self, response: schema.PromptResponse | None) -> Usage:
        """What the turn took; of a model on this machine no money."""
        usage = self._counted(response)
        return replace(usage, usd=0.0, basis="free") if self._launch.is_free else usage

    def _counted(self, response: schema.PromptResponse | None) -> Usage:
        """Tokens by the turn's answer, else by its reports; money as a difference."""
        updates = self._turn.updates
        tokens = (None if response is None else read_response_usage(response)) or updates.metered or Usage()
        if self._summed is not None:
            tokens = self._summed
        elif self._launch.counts_last_call and updates.has_tools:
            tokens = Usage()  # there were more calls: unknown is better than too little
        if updates.usd is None:
            return tokens
        before, self._usd_before = self._usd_before, updates.usd
        self._pool.note_cost(self.id, updates.usd)
        if before is None or updates.usd <= before:  # nothing: a model without a price, or a subscription
            return tokens
        return Usage(
            tokens.input, tokens.cached, tokens.output, tokens.reasoning, updates.usd - before, "client"
        )

    def _read(self, usage: Usage, request: Request) -> Reply:
        updates = self._turn.updates
        name = self._agent.name
        if not updates.answer.strip() and not updates.has_tools:
            raise Invalid(f"`{name}` ended its turn without a word and without having done anything")
        if not updates.answer.strip() and request.output != "change":
            raise Invalid(f"`{name}` ended its turn without an answer")
        notes = (*self._agent.notes, *(("its answer was too long and was cut",) if updates.is_cut else ()))
        reply = _first_readable((updates.answer, updates.text), usage, request, notes)
        return Reply(
            text=reply.text,
            findings=reply.findings,
            data=reply.data,
            usage=usage,
            session=self.id,
            model=self._launch.session_model or request.model,
            notes=reply.notes,
        )

    async def _close(self) -> None:
        """Let an agent that others use forget the session, where it can."""
        about = self._agent.about
        able = None if about is None else about.agent_capabilities
        has_close = (
            able is not None and able.session_capabilities is not None and able.session_capabilities.close
        )
        if self._launch.is_shared and has_close:
            await self._agent.call(lambda c: c.close_session(self.id), "session/close")


def _prompt_texts(request: Request) -> list[str]:
    """The prompt as it is, after what must come first: the role's instructions, once for a session."""
    texts = [request.prompt]
    if request.instructions and request.session is None:
        texts.insert(0, f"{request.instructions}\n\n")
    if texts[0].lstrip().startswith(COMMAND_MARKS):
        texts.insert(0, PREFACE)
    return texts


def _values(option: Any) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The values of a select option, each with the names that it goes by, in lower case."""
    for entry in getattr(option, "options", None) or ():
        for value in getattr(entry, "options", None) or (entry,):
            yield value.value, (value.value.lower(), value.name.lower())


def _first_readable(texts: tuple[str, ...], usage: Usage, request: Request, notes: tuple[str, ...]) -> Reply:
    """Read the first of several texts that holds what was asked for. Raises the first one's `Invalid`."""
    problem: Invalid | None = None
    for text in dict.fromkeys(texts):
        try:
            return to_reply(
                text,
                output=request.output,
                schema=request.schema,
                root=request.root,
                usage=usage,
                notes=notes,
            )
        except Invalid as error:
            problem = problem or error
    raise problem or Invalid("there is no answer")
