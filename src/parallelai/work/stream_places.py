"""The folders of a run that has workstreams: worktrees for these, scratch ones for its tasks.

See `run.workspaces` for what the run asks. What a workstream's turn did is judged by the room's guard before
the next one begins; what a task sees after a workstream is the target as it landed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from parallelai.engines.protocol import Request, Workspace
from parallelai.errors import EngineError, Internal, ParallelAIError, Unavailable, UsageError
from parallelai.processes.removing import remove
from parallelai.records import Change, Reply
from parallelai.run.workspaces import Applied, Measured, Parked, Place, Told, Work, Written
from parallelai.work.room import Room
from parallelai.work.scratch.confined import Command, run_in
from parallelai.work.scratch.place import ScratchPlace
from parallelai.work.scratch.proposals import write_edits
from parallelai.work.scratch.workspaces import RunWorkspaces, as_text, free_patch
from parallelai.work.streams.record import Stream


class StreamWorkspaces:
    """`run.workspaces.Workspaces` of a run with workstreams. `inner` makes the folders of its other tasks."""

    def __init__(self, room: Room, inner: RunWorkspaces) -> None:
        self._room = room
        self._inner = inner

    async def open(self, task: str, work: Work, seconds: float, parked: Parked) -> Place:
        if not self._room.has(task):
            self._show_landed(work.after)
            return await self._inner.open(task, work, seconds, parked)
        try:
            stream = await self._room.prepare(task, parked, work.sandbox, goes_on=work.folder is not None)
        except EngineError:
            raise
        except UsageError as error:  # a person has to put it right
            raise Unavailable(error.said, where=error.where, next=error.next) from None
        except ParallelAIError as error:
            raise Internal(error.said, where=error.where, next=error.next) from None
        return StreamPlace(self._room, stream, self._room.site.workspace(stream, work), work)

    async def with_changes(self, after: tuple[str, ...]) -> str:
        """The commit that holds what these tasks and workstreams changed. Raises `Conflict`."""
        self._show_landed(after)
        return await self._inner.base(after)

    async def scratch(self, task: str, work: Work, seconds: float) -> ScratchPlace:
        """Make a folder for a command that is no attempt. Raises an `EngineError` where it cannot be made."""
        self._show_landed(work.after)
        return await self._inner.open(task, work, seconds, contextlib.nullcontext)

    def _show_landed(self, after: Sequence[str]) -> None:
        """Let a task see the target as the workstreams before it left it."""
        for name in after:
            stream = self._room.known(name) if self._room.has(name) else None
            if stream is not None and stream.landed is not None:
                landed = stream.landed
                self._inner.ended(name, Measured(landed.before, landed.commit, ()))
            elif stream is not None:
                self._inner.ended(name, Measured(stream.base, stream.head, ()))

    def digest(self, path: str) -> str:
        return self._inner.digest(path)

    def ended(self, task: str, measured: Measured | None) -> None:
        if not self._room.has(task):
            self._inner.ended(task, measured)

    def gave_up(self, task: str) -> None:
        if self._room.has(task):
            self._room.gave_up(task)

    async def apply(self, tasks: Sequence[str], written: Written) -> list[Applied]:
        return await self._inner.apply([task for task in tasks if not self._room.has(task)], written)

    def workstream(self, task: str) -> dict[str, Any] | None:
        return self._room.describe(task) if self._room.has(task) else None

    async def aclose(self) -> None:
        try:
            await self._room.aclose()
        finally:
            await self._inner.aclose()


class StreamPlace:
    """An attempt's use of a workstream's worktree, which stays (`run.workspaces.Place`)."""

    def __init__(self, room: Room, stream: Stream, workspace: Workspace, work: Work) -> None:
        self.root = stream.worktree
        self.base = stream.base
        self.workspace = workspace
        self._name = stream.name
        self._room = room
        self._work = work

    async def measure(self) -> Measured:
        return await self._room.measure(self._name)

    async def heard(self, reply: Reply, can_go_on: bool, parked: Parked) -> Told:
        try:
            return await self._room.heard(self._name, reply, can_go_on, parked)
        except EngineError:
            raise
        except ParallelAIError as error:
            raise Internal(error.said, where=error.where, next=error.next) from None

    async def briefed(self, request: Request, has_hands: bool) -> Request:
        return await self._room.brief(self._name, request, has_hands)

    async def keep(self, measured: Measured) -> Change:
        room = self._room
        path = free_patch(room.setting.folder, f"{self._work.number + 1:04}")
        await room.site.write_patch(self._name, path)
        shown = os.path.relpath(path, room.setting.root)
        room.attempted(self._name)
        return Change(shown, measured.files, kept_out=tuple(map(as_text, measured.kept_out)))

    async def keep_aside(self) -> str | None:
        return None  # its worktree stays

    async def write(self, edits: Any) -> None:
        await asyncio.to_thread(write_edits, Path(self.root), edits)

    async def check(self, argv: tuple[str, ...], seconds: float) -> EngineError | None:
        room = self._room
        log = room.setting.folder / "steps" / f"{self._name}-check.log"
        grace = room.setting.plan.limits.grace
        command = Command("check", argv, seconds, grace, room.setting.run, log, room.setting.root)
        env = room.site.environment(self._name)
        error = await run_in(self.root, self.workspace, env, command)
        await room.take_back(self._name)  # what a check leaves behind is nobody's change
        return error

    async def put_right(self) -> tuple[str, ...]:
        self._room.attempted(self._name)
        return ()  # it is when the place is closed, and told in events

    async def close(self, *, is_left: bool = False) -> None:
        # Before anything is waited for: a second Ctrl-C ends that. Where it cannot be written down, as on a full disk,
        # it counts as killed; how the attempt ended is worth more than that.
        with contextlib.suppress(ParallelAIError, OSError):
            self._room.stopped(self._name)
        try:
            await self._room.site.see_to(self._name)
            await self._room.site.loans.rest(self._name)
        finally:
            await asyncio.to_thread(remove, Path(self.workspace.temporary))
