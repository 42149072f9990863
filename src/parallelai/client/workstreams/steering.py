"""What people ask of workstreams: leave, files, a word to an assistant.

Where a run is carried out it does what is asked; where none is, it is written down for the one that goes on.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from parallelai.client.approvals import user
from parallelai.client.project import OpenProject
from parallelai.client.runs import BY_HAND, Runs
from parallelai.client.workstreams.landable import finished
from parallelai.errors import BusyError, NotFoundError, Unavailable, UsageError
from parallelai.events import TaskEnded
from parallelai.git.repository import open_repository
from parallelai.run.approving import UNMET
from parallelai.work import leaving
from parallelai.work.streams.locks import in_use
from parallelai.work.streams.record import Stream, is_refused, refused, with_leave
from parallelai.work.streams.registry import Streams, is_finished

LEAST_OF_A_COMMIT = 7
"""How many digits of a commit are enough to mean it."""


class Steering:
    """Steers the workstreams of a project; `Work` says what each of these does."""

    def __init__(self, project: OpenProject, runs: Runs) -> None:
        self._project = project
        self._runs = runs
        self._streams = Streams(project.state)

    def is_live(self, run: str) -> bool:
        """Whether a process carries a run out."""
        return self._project.has_store and self._project.store.journal.is_owned(run)

    async def ask(self, kind: str, names: Sequence[str] = ()) -> str:
        """See `Work.ask`."""
        wanted = {name: self._run_of(name) for name in names}
        runs = sorted(set(wanted.values()) if names else {each.run for each in self._streams.all()})
        if not runs:
            raise NotFoundError("no workstream is started", next="`parallelai work run PLAN`")
        live = [run for run in runs if self.is_live(run)]
        if not names:  # what is left of another run is in nobody's way
            runs = live or sorted({each.run for each in self._streams.open()}) or runs[-1:]
        if kind == "stop" and not live:
            return "nothing runs: there is nothing to stop"
        if kind == "stop" and names:
            return "\n".join(
                [await self._runs.ask(run, "stop", {"name": name}) for name, run in wanted.items()]
            )
        if not live:
            plans = dict.fromkeys(each.plan for each in self._streams.all() if each.run in runs)
            again = ", ".join(f"`parallelai work run {shlex.quote(plan)}`" for plan in plans)
            said = f"no run of workstreams is carried out: there is nothing to {kind}"
            raise UsageError(said, next=f"{again} carries one out")
        words = [await self._runs.ask(run, "cancel" if kind == "stop" else kind, {}) for run in runs]
        return "\n".join(words)

    def _run_of(self, name: str) -> str:
        """The run that a workstream is of: a live one, also where it is not begun there. Raises `NotFoundError`."""
        stream = self._streams.get(name)
        if stream is None or not self.is_live(stream.run):
            for each in self._runs.list():
                if self.is_live(each.row.id) and name in self._runs.report(each.row.id).order:
                    return each.row.id
        return self._streams.find(name).run

    async def send(self, name: str, text: str) -> str:
        """See `Work.send`."""
        return await self._runs.ask(self._streams.find(name).run, "send", {"task": name, "text": text})

    async def approve(self, name: str, result: str | None = None) -> str:
        """See `Work.approve`."""
        if self._is_task(name):
            return await self._runs.approve(name, result)
        head = self._streams.find(name).head
        is_same = result is None or (len(result) >= LEAST_OF_A_COMMIT and head.startswith(result))
        args = {"head": head if is_same else result}  # which the workstream is not at
        return await self._steer(name, "approve", args, f"`{name}` may land")

    async def reject(self, name: str, reason: str = "") -> str:
        """See `Work.reject`."""
        if self._is_task(name):
            return await self._runs.reject(name, reason)
        return await self._steer(name, "reject", {"reason": reason}, f"`{name}` does not land as it is")

    def _is_task(self, name: str) -> bool:  # no workstream has its name, or one that is finished
        stream = self._streams.get(name)
        return stream is None or (is_finished(stream) and self._runs.waits(name))

    async def lease(self, name: str, paths: Sequence[str]) -> str:
        """See `Work.lease`."""
        stream, wanted = self._streams.find(name), leaving.checked(paths)
        if is_finished(stream):
            raise finished(stream)
        notes = await leaving.not_there(await open_repository(self._project.root), stream, wanted)
        if self.is_live(stream.run):
            said = await self._runs.ask(stream.run, "lease", {"name": name, "paths": wanted})
        else:
            said = await leaving.leave(self._streams, self._project.root, stream, wanted)
        return "\n".join([said, *notes])

    async def _steer(self, name: str, kind: str, args: dict[str, Any], said: str) -> str:
        stream = self._streams.find(name)
        if is_finished(stream):
            raise finished(stream)
        if self.is_live(stream.run):
            return await self._runs.ask(stream.run, kind, {"name": name, **args})

        if kind == "approve":
            self._refuse_ended(stream)

        def change(it: Stream) -> Stream:
            it = dataclasses.replace(it, undone=None)
            if kind == "approve":
                return with_leave(it, args["head"], "a person")
            return refused(it, user(), args["reason"])

        self._streams.update(name, change)
        return f"{said}: {self._next_of(stream, kind)}"

    def _refuse_ended(self, stream: Stream) -> None:
        """Say why one that came to its end without landing waits for no leave. Raises `UsageError`."""
        said = f"`{stream.name}` waits for no leave"
        if is_refused(stream):
            raise UsageError(f"{said}: it was {stream.refused}", next=self._next_of(stream, "reject"))
        if stream.state != "open" or not self._runs.is_kept(stream.run):
            return
        ended = self._runs.report(stream.run).results.get(stream.name)
        error = ended.result.error if ended is not None else None
        if error is not None and not error.said.startswith(UNMET):
            raise UsageError(f"{said}: {error.said}", next=error.next)

    def _next_of(self, stream: Stream, kind: str) -> str:
        """What comes after a person's word: the run goes on, or where there is none but a start by hand, the person."""
        name = shlex.quote(stream.name)
        if not self._runs.is_kept(stream.run) or self._runs.state(stream.run).state != BY_HAND:
            return f"`parallelai work run {shlex.quote(stream.plan)}` goes on with it"
        if kind == "approve":
            return f"`parallelai work land {name}` lands it"
        return f"put it right in `{stream.worktree}`, then `parallelai work done {name}`"

    def at_rest(self, name: str) -> Stream:
        """Give a workstream that no assistant works on. Raises `UsageError` where one may."""
        stream = self._streams.find(name)
        if is_finished(stream):
            raise finished(stream)
        if self.is_live(stream.run) and not self.has_ended(stream):
            raise UsageError(
                f"run `{stream.run}` is carried out, and works on `{name}`",
                next=f"`parallelai work stop {name}` ends that first",
            )
        return stream

    @contextmanager
    def resting(self, name: str, *, is_over: bool = False) -> Iterator[Stream]:
        """As `at_rest`, and no run begins with it meanwhile; one that `is_over` may be finished. Raises `BusyError`."""
        stream = self._streams.find(name) if is_over else self.at_rest(name)
        if self.is_live(stream.run):  # which holds it until its own end
            yield stream
            return
        try:
            lock = in_use(self._streams.state, name)
        except Unavailable as error:
            raise BusyError(error.said, next="wait for its end, or stop it; then try again") from None
        try:  # it may have been begun, and finished, since it was looked at
            yield self._streams.find(name) if is_over else self.at_rest(name)
        finally:
            lock.release()

    def has_ended(self, stream: Stream) -> bool:
        """Whether a workstream has come to its end in its run."""
        has_ended = False
        for event in self._runs.events(stream.run):
            if event.task == stream.name:
                has_ended = isinstance(event.data, TaskEnded)
        return has_ended
