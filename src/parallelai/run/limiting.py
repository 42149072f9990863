"""How a run's limits come to be, and what an engine's own waiting means for them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from parallelai.engines.protocol import EngineEvent, WaitingEvent
from parallelai.errors import ParallelAIError
from parallelai.events import LimitChanged
from parallelai.records import LimitKey
from parallelai.run.job import Job
from parallelai.run.permissions import LocalCoordinator
from parallelai.run.scheduling.scheduler import Scheduler


def coordinator_of(
    job: Job, on_change: Callable[[LimitChanged], object], on_room: Callable[[], None]
) -> LocalCoordinator:
    """Make the coordinator of a run's permits."""
    engines = job.engines

    def is_local(key: LimitKey) -> bool:
        try:
            return not engines(key.engine).capabilities.is_remote
        except ParallelAIError:  # it is not there, which its attempts say
            return False

    def tell(change: LimitChanged) -> None:
        on_change(change)

    return LocalCoordinator(
        job.parallel,
        job.concurrency,
        max_wait_seconds=job.plan.limits.max_wait,
        memory=job.memory,
        is_local=is_local,
        on_change=tell,
        on_room=on_room,
    )


def heed(event: EngineEvent, scheduler: Scheduler, permits: LocalCoordinator, now: float) -> bool:
    """Hold a key back where one of its sessions says that it waits for its provider; says whether it did.

    `now` is the Unix time.
    """
    if not isinstance(event, WaitingEvent) or event.why != "rate_limited" or event.key is None:
        return False
    seconds = _seconds_until(event.until, now)
    when = "" if event.until is None else f" until {event.until}"
    scheduler.limited(event.key, seconds, f"a session waits{when}", now)
    if seconds is not None:
        permits.hold(event.key, seconds)
    return True


def _seconds_until(text: str | None, now: float) -> float | None:
    """Read a time of UTC as seconds from now; None where it is none."""
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return max(0.0, at.timestamp() - now)
