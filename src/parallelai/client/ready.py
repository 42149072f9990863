"""Who could do what nobody is chosen for: the engines that are ready here, for the words of a blocked task."""

from __future__ import annotations

import dataclasses

from parallelai.engines.registry import Registry
from parallelai.engines.selection import EMBEDDED_ANALYSER, HOW_TO_SERVE
from parallelai.run.job import Assignment, Job

PLAYED = ("mock", "replay")
"""Engines that are no help to somebody who looks for one: they do what a script says."""
MOST_NAMED = 5


async def with_ready(job: Job, registry: Registry) -> Job:
    """Name the engines that are ready in the advice of tasks for which `auto` found nobody; starts no client."""
    unserved = {key: who for key, who in job.assignments.items() if _is_unserved(who)}
    if not unserved:
        return job
    ready = [row.name for row in await registry.listing() if row.state == "ready" and row.use not in PLAYED]
    advice = said_of_ready([name for name in ready if name not in (EMBEDDED_ANALYSER, *PLAYED)])
    told = {key: _advised(who, advice) for key, who in unserved.items()}
    return dataclasses.replace(job, assignments={**job.assignments, **told})


def said_of_ready(names: list[str]) -> str:
    """Say how to take an engine that is ready; `HOW_TO_SERVE` where none is."""
    if not names:
        return HOW_TO_SERVE
    shown = ", ".join(f"`{name}`" for name in names[:MOST_NAMED]) + (" …" if len(names) > MOST_NAMED else "")
    return f"ready, but not chosen: {shown}; {HOW_TO_SERVE}"


def _is_unserved(who: Assignment) -> bool:
    return who.error is not None and who.error.next == HOW_TO_SERVE


def _advised(who: Assignment, advice: str) -> Assignment:
    error = who.error
    return who if error is None else dataclasses.replace(who, error=dataclasses.replace(error, next=advice))
