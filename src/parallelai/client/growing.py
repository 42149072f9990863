"""A job while it is carried out: tasks may be added to it, and whoever looks a task up has to find these too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from parallelai.client.destinations import moved
from parallelai.errors import UsageError
from parallelai.run.assembly import works_in_folder
from parallelai.run.job import Job

Now = Callable[[], Job]
"""Gives a job as it is now, with the tasks that were added."""


class Growing:
    """Keeps a job as it is now.

    Args:
        job: as it is at the start.
        grow: gives a job with one more task.
    """

    def __init__(self, job: Job, grow: Callable[[Job, Mapping[str, Any]], Job]) -> None:
        self._job = job
        self._grow = grow
        self._told: list[Callable[[Job], None]] = []
        self.has_folders = False
        """Whether the run makes folders to work in."""
        self.addresses: Mapping[str, str] = {}
        """Where engines may send requests, of a run that is gone on with; of others there is nothing to ask."""

    def now(self) -> Job:
        """Give the job with all that was added."""
        return self._job

    def whenever(self, tell: Callable[[Job], None]) -> None:
        """Have somebody told of the job, at once and after each task that is added."""
        self._told.append(tell)
        tell(self._job)

    def grow(self, job: Job, arguments: Mapping[str, Any]) -> Job:
        """Add a task. Raises `UsageError` or `PlanError` where it does not fit in."""
        grown = self._grow(job, arguments)
        elsewhere = {one.engine: one for one in moved(grown, self.addresses) if not one.is_written}
        for instance in grown.graph.instances[len(job.graph.instances) :]:
            for engine in grown.assignment(instance).choice.members:
                if engine in elsewhere:
                    raise UsageError(
                        f"`{instance.id}` would be asked elsewhere: {elsewhere[engine].said}",
                        next=f"resume the run with `--engine {engine}`, or start another one",
                    )
            if not self.has_folders and works_in_folder(grown, instance):
                raise UsageError(
                    f"`{instance.id}` needs a folder of its own to work in, and this run was started without any",
                    next="write it into a plan, and carry that out with `parallelai execute`",
                )
        self._job = grown
        for tell in self._told:
            tell(grown)
        return grown
