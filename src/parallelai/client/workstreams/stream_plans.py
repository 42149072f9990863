"""The plans that workstreams land by, and the journals that say so; also of workstreams whose run was deleted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import parallelai
from parallelai.client.project import OpenProject
from parallelai.client.recorded import begun_anew, plan_now
from parallelai.client.runs import Runs
from parallelai.client.workstreams.gates_of_config import over_config
from parallelai.events import RunCreated, TaskEnded
from parallelai.plan.model import Plan
from parallelai.records import Outcome
from parallelai.run.report import Report
from parallelai.store import RunWriter
from parallelai.work.streams.record import Stream, described


class StreamPlans:
    """Gives the plan of a workstream, and the writer of its run."""

    def __init__(self, project: OpenProject, runs: Runs) -> None:
        self._project = project
        self._runs = runs

    def of(self, stream: Stream) -> Plan:
        """The plan of a workstream: its file as it is now, as for a run that goes on, else as it was recorded.

        Raises `UsageError` where neither the file nor the run is there any more.
        """
        settings, created = self._project.settings, self._created(stream)
        if created is None:
            return over_config(Plan(), settings)
        return over_config(plan_now(created, self._project.root, settings.vars), settings)

    def report(self, stream: Stream) -> Report:
        """What is known of the run of a workstream; nothing of one that was deleted."""
        return self._runs.report(stream.run) if self._runs.is_kept(stream.run) else Report()

    @asynccontextmanager
    async def writer(self, stream: Stream) -> AsyncIterator[RunWriter]:
        """Take the run of a workstream. One that was deleted begins anew: something is left to do of it.

        Raises `BusyError`, and `UsageError` as `of` does.
        """
        created = None if self._runs.is_kept(stream.run) else self._created(stream)
        async with self._project.store.journal.writer(stream.run) as writer:
            if created is not None:
                writer.append(created)
                await writer.flush()
            yield writer

    async def note_pushed(self, stream: Stream) -> None:
        """Write into the run of what was pushed later that nothing is left of it: it may have ended for want of that.

        Raises `BusyError`, and `UsageError` as `of` does.
        """
        ended = self.report(stream).results.get(stream.name)
        if ended is None:
            return
        row = replace(ended.result, status=Outcome.OK, error=None, workstream=described(stream))
        async with self.writer(stream) as writer:
            writer.append(TaskEnded(row), task=stream.name)
            await writer.flush()

    def _created(self, stream: Stream) -> RunCreated | None:
        if self._runs.is_kept(stream.run):
            return self._runs.report(stream.run).created
        return begun_anew(stream, self._project.root, parallelai.__version__, self._project.settings.vars)
