"""Pushes of targets by hand: of what lands, of what had landed already, and of what goes along with these."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

from parallelai.client.project import OpenProject
from parallelai.client.workstreams.arrivals import pushes_of, with_push
from parallelai.client.workstreams.asked import Asked
from parallelai.client.workstreams.gates_of_config import TO_LAND, refuse_ignored_gate
from parallelai.client.workstreams.landing_means import LandingMeans
from parallelai.client.workstreams.stream_plans import StreamPlans
from parallelai.errors import BusyError, UsageError
from parallelai.git.repository import Repository
from parallelai.records import ErrorRecord, TaskResult
from parallelai.work.landing.following import take_along
from parallelai.work.streams.record import Landed, Stream
from parallelai.work.streams.revisiting import is_unpushed


class Pushes:
    """Pushes the targets of workstreams that have landed, and writes down where these are then."""

    def __init__(self, project: OpenProject, plans: StreamPlans, means: LandingMeans) -> None:
        self._project = project
        self._plans = plans
        self._means = means

    async def of_there(
        self,
        repository: Repository,
        there: Mapping[str, TaskResult],
        asked: Asked,
        landed: Sequence[TaskResult] = (),
    ) -> dict[str, TaskResult]:
        """Push the targets of what had landed already, where that is asked for, or left to be done; gives its rows.

        A target on which something `landed` now was pushed with that.
        """
        rows, pushed = dict(there), pushes_of(landed)
        for stream in map(self._means.streams.find, there):
            if rows[stream.name].error is not None:  # it has more by now
                continue
            if not asked.is_pushed and not self._is_left(stream):
                continue
            if stream.target not in pushed:
                pushed[stream.target] = await self._push(stream, asked)
            where = pushed[stream.target]
            rows[stream.name] = with_push(rows[stream.name], where)
            if isinstance(where, str) and stream.landed is not None and stream.landed.pushed != where:
                await self._note(stream, replace(stream.landed, pushed=where))
        await self.took_along(repository, pushed)
        return rows

    async def took_along(self, repository: Repository, pushed: Mapping[str, str | ErrorRecord]) -> None:
        """Write down of what had landed on a target that was `pushed`, and nobody named, where it is now."""
        for target, where in pushed.items():
            if isinstance(where, ErrorRecord):
                continue
            for stream in await take_along(repository, self._means.streams, target, where):
                # What a run that is carried out now, or one whose plan is gone, says of it, is left to that.
                with contextlib.suppress(BusyError, UsageError):
                    await self._plans.note_pushed(stream)

    def _is_left(self, stream: Stream) -> bool:
        """Whether a workstream's plan pushes what landed, and that has not come to be."""
        if not is_unpushed(stream):
            return False
        with contextlib.suppress(UsageError):  # a plan that is gone asks for nothing
            landing = self._plans.of(stream).landing
            return landing.push and landing.via == "ref"
        return False

    async def _note(self, stream: Stream, landed: Landed) -> None:
        """Write down that something was pushed after it had landed."""
        now = self._means.streams.update(stream.name, lambda it: replace(it, landed=landed))
        await self._plans.note_pushed(now)

    async def _push(self, stream: Stream, asked: Asked) -> str | ErrorRecord:
        plan = self._plans.of(stream)
        refuse_ignored_gate(self._project, plan, asked.gates, next=TO_LAND)
        async with self._plans.writer(stream) as writer:
            async with self._means.opened(stream.run, plan, asked, writer.append, stream.target) as landing:
                where = await landing.lander.push()
            await writer.flush()
        return where if isinstance(where, ErrorRecord) else str(where)
