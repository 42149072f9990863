"""The agents of one engine that run now: one for each turn that edits, shared ones for what only reads."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from msgspec import Struct, field

from parallelai.engines.acp import report as acp_report
from parallelai.engines.acp.agent import Agent
from parallelai.engines.acp.launch import Launch
from parallelai.errors import TimedOut
from parallelai.processes import Program
from parallelai.processes.removing import remove
from parallelai.processes.temporary import make_folder

MAX_SESSIONS = 8
"""How many turns share an agent: they also share its one thread, and its end."""
MAX_COSTS = 10_000
START_SECONDS = 120.0
"""How long an agent may take to shake hands; the slowest that was seen took 4 s alone, 30 s among eight."""


class _Shared(Struct):
    agent: Agent
    folder: Path
    users: int = 0


class Pool(Struct):
    """Starts agents and ends them. `costs` are the dollars of sessions as their agents last reported them."""

    costs: OrderedDict[str, float] = field(default_factory=OrderedDict)
    _shared: dict[Hashable, list[_Shared]] = field(default_factory=dict)
    _locks: dict[Hashable, asyncio.Lock] = field(default_factory=dict)
    _running: dict[Agent, Path] = field(default_factory=dict)

    def note_cost(self, session: str, usd: float) -> None:
        """Remember a session's cost so far."""
        self.costs[session] = usd
        self.costs.move_to_end(session)
        if len(self.costs) > MAX_COSTS:
            self.costs.popitem(last=False)

    @asynccontextmanager
    async def agent(self, launch: Launch) -> AsyncIterator[Agent]:
        """Give a running agent for one turn. It is ended with the last turn that uses it."""
        if not launch.is_shared:
            agent, folder = await self._start(launch)
            try:
                yield agent
            except BaseException:  # also a cancel: a turn that was cut off leaves no agent worth waiting for
                await self._end(agent, folder, at_once=True)
                raise
            await self._end(agent, folder)
            return
        shared = await self._join(launch)
        try:
            yield shared.agent
        finally:
            await self._leave(launch, shared)

    async def _join(self, launch: Launch) -> _Shared:
        key = _key(launch)
        async with self._locks.setdefault(key, asyncio.Lock()):
            several = self._shared.setdefault(key, [])
            found = next((s for s in several if s.agent.is_alive and s.users < MAX_SESSIONS), None)
            if found is None:
                found = _Shared(*await self._start(launch))
                several.append(found)
            found.users += 1
            return found

    async def _leave(self, launch: Launch, shared: _Shared) -> None:
        shared.users -= 1
        is_tainted = shared.agent.is_tainted
        if shared.users and not is_tainted:
            return
        key = _key(launch)
        several = self._shared.get(key, [])
        if shared in several:
            several.remove(shared)
        if not several:
            self._shared.pop(key, None)
        await self._end(shared.agent, shared.folder, at_once=is_tainted)

    async def _start(self, launch: Launch) -> tuple[Agent, Path]:
        folder = _make_folder(launch)  # not in a thread: who is cancelled there would never hear of it
        agent = Agent(launch.name, _placed(launch, folder))
        agent.report_folder = None if launch.reports is None else folder
        self._running[agent] = folder
        try:
            async with asyncio.timeout(START_SECONDS) as wall:
                await agent.start()
        except BaseException as error:  # also a cancel: what was started must end
            await self._end(agent, folder, at_once=True)
            if isinstance(error, TimeoutError) and wall.expired():
                advice = "a program that does not speak ACP takes an entry with `use: command`"
                raise TimedOut(agent.silence(START_SECONDS), next=advice) from None
            raise
        return agent, folder

    async def _end(self, agent: Agent, folder: Path, *, at_once: bool = False) -> None:
        try:
            await agent.close(at_once=at_once)
            if agent.report_folder is not None and not at_once:
                agent.report = await asyncio.to_thread(acp_report.read_report, agent.report_folder)
        finally:
            agent.is_over.set()
            self._running.pop(agent, None)
            await asyncio.to_thread(remove, folder)

    async def aclose(self) -> None:
        """End every agent that still runs."""
        self._shared.clear()
        for agent, folder in list(self._running.items()):
            await self._end(agent, folder, at_once=True)


def _key(launch: Launch) -> Hashable:
    """What two turns must have in common to share an agent: its whole start, but for the temporary folder."""
    program = launch.program
    confined = program.confinement
    held = None if confined is None else replace(confined, temporary="")
    return (program.argv, program.cwd, tuple(sorted(program.env.items())), held, launch.settings)


def _make_folder(launch: Launch) -> Path:
    folder = make_folder("acp")
    try:
        _fill(folder, launch)
    except BaseException:  # no room, or an interrupt: nobody else knows of it
        remove(folder)
        raise
    return folder


def _fill(folder: Path, launch: Launch) -> None:
    (folder / "tmp").mkdir()
    settings = folder / acp_report.SETTINGS
    settings.mkdir()
    (folder / acp_report.FOLDER).mkdir()
    if launch.settings is not None:
        (settings / "settings.json").write_text(launch.settings, encoding="utf-8")
    for name, text in ({} if launch.reports is None else launch.reports.files).items():
        (settings / name).write_text(text, encoding="utf-8")


def _placed(launch: Launch, folder: Path) -> Program:
    """Give the program its settings, and a shared one a temporary folder that outlives its first turn."""
    program = launch.program
    confined = program.confinement
    reports = launch.reports
    if confined is not None:
        readable = (*confined.readable, str(folder / acp_report.SETTINGS))
        temporary = str(folder / "tmp") if launch.is_shared else confined.temporary
        writable = (*confined.writable, *(() if reports is None else [str(folder / acp_report.FOLDER)]))
        confined = replace(confined, readable=readable, writable=writable, temporary=temporary)
    env = {**({} if reports is None else reports.variables(folder)), **program.env}
    if launch.settings_env is not None:
        env[launch.settings_env] = str(folder / acp_report.SETTINGS / "settings.json")
    return replace(program, env=env, confinement=confined)
