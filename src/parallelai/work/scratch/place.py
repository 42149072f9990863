"""One attempt's use of a scratch folder, or of one that it shares with others to read."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field

from parallelai import processes
from parallelai.engines.protocol import Request, Workspace
from parallelai.errors import EngineError, ParallelAIError
from parallelai.plan import model
from parallelai.records import Change, Reply, changed
from parallelai.run.workspaces import NOTHING_TOLD, Measured, Parked, Told, Work
from parallelai.work.scratch import folders
from parallelai.work.scratch.proposals import write_edits
from parallelai.work.scratch.users_git import Look

if TYPE_CHECKING:
    from parallelai.work.scratch.workspaces import RunWorkspaces


class Laid(Struct, eq=False):
    """A folder that was laid out: the links' targets, and paths that are no part of a change."""

    folder: folders.Folder
    links: tuple[str, ...] = ()
    left_out: set[str] = field(default_factory=set)
    measuring: asyncio.Lock = field(default_factory=asyncio.Lock)


class ScratchPlace:
    """One attempt's use of a folder (`run.workspaces.Place`)."""

    def __init__(
        self,
        owner: RunWorkspaces,
        laid: Laid,
        workspace: Workspace,
        wanted: model.Workspace,
        work: Work,
        look: Look | None,
        env: dict[str, str],
        stack: contextlib.AsyncExitStack,
    ) -> None:
        self.root = str(laid.folder.path)
        self.base = laid.folder.base
        self.workspace = workspace
        self._owner = owner
        self._laid = laid
        self._wanted = wanted
        self._work = work
        self._look = look
        self._is_right = look is None
        self._env = env
        self._stack = stack
        self._touched: dict[str, None] = {}

    def environment(self) -> dict[str, str]:
        """The environment of commands that run here."""
        return environment_of(self._wanted)

    async def briefed(self, request: Request, has_hands: bool) -> Request:
        return changed(request, env={**self._env, **request.env}) if self._env else request

    async def measure(self) -> Measured:
        work = self._work
        measured = await self._owner.measure(self._laid, work.edits, self.workspace, work.avoids)
        await self._put_back()
        return dataclasses.replace(measured, kept_out=(*measured.kept_out, *self._touched))

    async def put_right(self) -> tuple[str, ...]:
        try:
            if not self._is_right:
                await self._put_back()
        except (ParallelAIError, OSError) as error:
            self._is_right = True  # once is enough
            return (f"what was done to your repository cannot be looked at: {error}",)
        return tuple(f"your repository was touched: `{path}`" for path in self._touched)

    async def _put_back(self) -> None:
        if self._look is not None:
            told = await self._owner.put_back(self._look, self._work.number)
            self._touched.update(dict.fromkeys(told))
        self._is_right = True

    async def keep(self, measured: Measured) -> Change:
        return await self._owner.keep(measured, self._work.number)

    async def keep_aside(self) -> str | None:
        try:
            measured = await self.measure()
            return await self._owner.keep_aside(measured, self._work.number) if measured.files else None
        except (ParallelAIError, OSError):  # why the attempt failed is worth more
            return None

    async def heard(self, reply: Reply, can_go_on: bool, parked: Parked) -> Told:
        return NOTHING_TOLD

    async def write(self, edits: Any) -> None:
        await asyncio.to_thread(write_edits, Path(self.root), edits)

    async def check(self, argv: tuple[str, ...], seconds: float) -> EngineError | None:
        before = await self.measure() if self._work.edits else None
        self._is_right = self._look is None
        error = await self._owner.run(self._laid, self.workspace, self._wanted, "check", argv, seconds)
        if before is not None:  # what a check leaves behind is nobody's change
            await self._owner.take_back(self._laid, before)
        return error

    async def close(self, *, is_left: bool = False) -> None:
        await self.put_right()
        if self._look is not None:
            await self._owner.forget(self._look)
        await self._stack.aclose()
        await asyncio.to_thread(folders.remove, Path(self.workspace.temporary))
        if is_left:
            self._owner.leave(self._laid)
        elif self._work.edits:
            await asyncio.to_thread(self._owner.drop, self._laid)


def environment_of(wanted: model.Workspace) -> dict[str, str]:
    """The environment of commands in a folder that a plan wants so."""
    return processes.environment(env=wanted.env, pass_env=wanted.pass_env)
