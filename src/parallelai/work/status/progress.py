"""What a run's events say of its workstreams: folded one by one, in order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from parallelai.events import (
    AttemptEnded,
    AttemptReserved,
    AttemptStarted,
    ConflictGone,
    ConflictSeen,
    ConflictWaited,
    ConflictWaiting,
    Event,
    GateEnded,
    GateStarted,
    GuardKeptOut,
    LandingBlocked,
    LandingLanded,
    LandingQueued,
    LandingUndone,
    LeaseAsked,
    LeaseEnded,
    LeaseGranted,
    LeaseRefused,
    PermissionAnswered,
    PermissionAsked,
    TaskEnded,
    TaskReady,
    TaskStep,
    TurnEnded,
    WorkstreamRevisited,
)
from parallelai.records import ErrorRecord, Usage
from parallelai.run.executors.attempt import PART_DONE
from parallelai.work.conflicts.waiting import said_of

UNDONE = "undone"
"""The stage of what had landed, and `work undo` took back."""
LEAVE = "a person's leave"
_WAITS: Mapping[str, str] = {
    "wait": "memory or heavy slots that others hold: see `parallelai work ledger`",
    "leave": LEAVE,
}
"""What is waited for in steps that only wait."""
_WORDS = 200


@dataclass(slots=True)
class Progress:
    """What a run's events say of one workstream so far. `stream` is the number of the attempt that works now."""

    stage: str = "waiting"
    activity: str = "waiting"
    parts: int = 0
    attempts: int = 0
    engine: str | None = None
    usage: Usage | None = None
    words: str | None = None
    last_at: str | None = None
    gate: GateEnded | None = None
    error: ErrorRecord | None = None
    has_passed_checks: bool | None = None
    outcome: str | None = None
    landed: str | None = None
    blocked: str | None = None
    queued: str | None = None  # the commit that was to land last
    ended_at: str | None = None
    waits_for: str | None = None
    is_worked_out: bool = False
    stream: int | None = None
    conflicts: set[str] = field(default_factory=set)
    leases: dict[str, None] = field(default_factory=dict)
    kept_out: dict[str, None] = field(default_factory=dict)

    def take(self, event: Event) -> None:
        """Learn one event that concerns this workstream."""
        self.last_at = event.at
        if isinstance(event.data, AttemptReserved):
            self.stream = event.seq
        elif isinstance(event.data, AttemptEnded | TaskEnded):
            self.stream = None
        if isinstance(event.data, TaskEnded | LandingLanded | LandingBlocked):
            self.ended_at = event.at
        learn = _LEARN.get(event.type)
        if learn is not None:
            learn(self, event.data)


class Watched:
    """All workstreams of a run, folded from its events in order."""

    def __init__(self, names: Iterable[str]) -> None:
        self._progress = {name: Progress() for name in names}

    def take(self, event: Event) -> None:
        """Learn one event of the run."""
        for name in _concerned(event):
            progress = self._progress.get(name)
            if progress is not None:
                _take(progress, name, event)

    def of(self, name: str) -> Progress:
        """What is known of a workstream; nothing yet for one that no event named."""
        return self._progress.setdefault(name, Progress())


def _concerned(event: Event) -> tuple[str, ...]:
    """The workstreams that an event is about, each once."""
    names = [event.task] if event.task is not None else []
    data = event.data
    if isinstance(data, WorkstreamRevisited):
        names.append(data.name)
    elif isinstance(data, GateStarted | GateEnded):
        names += data.names
    elif isinstance(data, ConflictSeen):
        names += (data.pair.a, data.pair.b)
    elif isinstance(data, ConflictGone):
        names += (data.a, data.b)
    return tuple(dict.fromkeys(names))


def _take(progress: Progress, name: str, event: Event) -> None:
    data = event.data
    if isinstance(data, ConflictSeen | ConflictGone):
        a, b = (data.pair.a, data.pair.b) if isinstance(data, ConflictSeen) else (data.a, data.b)
        other = {a: b, b: a}.get(name)
        if other is None:
            return
        if isinstance(data, ConflictSeen):
            progress.conflicts.add(other)
        else:
            progress.conflicts.discard(other)
        return
    progress.take(event)


def _reserved(progress: Progress, data: AttemptReserved) -> None:
    progress.stage, progress.activity = "working", "active"
    progress.engine, progress.outcome, progress.error = data.engine, None, None
    progress.landed = progress.blocked = progress.ended_at = None


def _started(progress: Progress, data: AttemptStarted) -> None:
    progress.attempts += 1
    progress.parts, progress.is_worked_out, progress.has_passed_checks = 0, False, None


def _turn_ended(progress: Progress, data: TurnEnded) -> None:
    progress.parts += data.reason == PART_DONE


def _attempt_ended(progress: Progress, data: AttemptEnded) -> None:
    if data.usage is not None:
        progress.usage = data.usage if progress.usage is None else progress.usage + data.usage
    if data.reply is not None and data.reply.text:
        progress.words = last_words(data.reply.text)
    progress.is_worked_out = data.ok
    if data.ok:
        progress.has_passed_checks = True
    elif data.error is not None:
        progress.error = data.error
        if data.error.kind == "check_failed":
            progress.has_passed_checks = False
    progress.waits_for = None


def _step(progress: Progress, data: TaskStep) -> None:
    progress.stage, progress.activity = data.stage, "active"
    if data.step in _WAITS:
        progress.activity, progress.waits_for = "waiting", _WAITS[data.step]
    elif progress.waits_for in _WAITS.values():
        progress.waits_for = None


def _ready(progress: Progress, data: TaskReady) -> None:
    progress.stage, progress.activity = "waiting", "waiting"


def _ended(progress: Progress, data: TaskEnded) -> None:
    progress.outcome, progress.error = str(data.result.status), data.result.error
    progress.activity = "waiting"
    if data.is_kept:  # its attempts were in an earlier process of the run
        progress.is_worked_out = True


def _asked(progress: Progress, data: PermissionAsked) -> None:
    progress.activity, progress.waits_for = "asking", f"asks: {data.what}"


def _answered(progress: Progress, data: PermissionAnswered) -> None:
    progress.activity, progress.waits_for = "active", None


def _lease_asked(progress: Progress, data: LeaseAsked) -> None:
    progress.activity = "waiting"
    progress.waits_for = f"a lease of {_paths(data.paths)}"


def _lease_granted(progress: Progress, data: LeaseGranted) -> None:
    progress.activity, progress.waits_for = "active", None
    progress.leases |= dict.fromkeys(data.paths)


def _lease_refused(progress: Progress, data: LeaseRefused) -> None:
    progress.activity, progress.waits_for = "active", None


def _lease_ended(progress: Progress, data: LeaseEnded) -> None:
    for path in data.paths:
        progress.leases.pop(path, None)


def _conflict_waiting(progress: Progress, data: ConflictWaiting) -> None:
    progress.activity = "waiting"
    progress.waits_for = f"{_paths(data.names)} to land: {said_of(data.where, data.why)}"


def _conflict_waited(progress: Progress, data: ConflictWaited) -> None:
    progress.activity, progress.waits_for = "active", None


def _kept_out(progress: Progress, data: GuardKeptOut) -> None:
    progress.kept_out |= dict.fromkeys(data.paths)


def _gate_started(progress: Progress, data: GateStarted) -> None:
    progress.stage, progress.activity = "gating", "active"


def _gate_ended(progress: Progress, data: GateEnded) -> None:
    if data.ok or progress.landed is None:  # of what has landed it says that it was not taken back
        progress.gate = data


def _queued(progress: Progress, data: LandingQueued) -> None:
    progress.stage, progress.activity, progress.blocked = "queued", "waiting", None
    progress.queued = data.commit


def _landed(progress: Progress, data: LandingLanded) -> None:
    progress.landed, progress.blocked, progress.activity = data.commit, None, "waiting"


def _undone(progress: Progress, data: LandingUndone) -> None:
    progress.landed, progress.stage, progress.activity = None, UNDONE, "waiting"
    progress.blocked = "its landing was taken back"


def _revisited(progress: Progress, data: WorkstreamRevisited) -> None:
    progress.landed = progress.blocked = progress.outcome = progress.error = None
    progress.stage, progress.activity = "waiting", "waiting"
    progress.is_worked_out = not data.is_anew


def _blocked(progress: Progress, data: LandingBlocked) -> None:
    with_ = f" (with {', '.join(f'`{name}`' for name in data.with_)})" if data.with_ else ""
    progress.blocked = f"{data.why}{with_}"


_LEARN: Mapping[str, Any] = {
    AttemptReserved.type: _reserved,
    AttemptStarted.type: _started,
    TurnEnded.type: _turn_ended,
    AttemptEnded.type: _attempt_ended,
    TaskStep.type: _step,
    TaskReady.type: _ready,
    TaskEnded.type: _ended,
    PermissionAsked.type: _asked,
    PermissionAnswered.type: _answered,
    LeaseAsked.type: _lease_asked,
    LeaseGranted.type: _lease_granted,
    LeaseRefused.type: _lease_refused,
    LeaseEnded.type: _lease_ended,
    ConflictWaiting.type: _conflict_waiting,
    ConflictWaited.type: _conflict_waited,
    GuardKeptOut.type: _kept_out,
    GateStarted.type: _gate_started,
    GateEnded.type: _gate_ended,
    LandingQueued.type: _queued,
    LandingLanded.type: _landed,
    LandingUndone.type: _undone,
    WorkstreamRevisited.type: _revisited,
    LandingBlocked.type: _blocked,
}


def _paths(paths: Sequence[str]) -> str:
    shown = ", ".join(f"`{path}`" for path in paths[:3])
    return f"{shown} and {len(paths) - 3} more" if len(paths) > 3 else shown


def last_words(text: str) -> str | None:
    """The last line of a text that says something, without what a terminal would obey, not too long."""
    lines = (" ".join(line.split()) for line in reversed(_without_blocks(text[-20_000:]).splitlines()))
    line = next((line for line in lines if any(char.isalnum() for char in line)), "")
    plain = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in line)
    return (plain if len(plain) <= _WORDS else plain[: _WORDS - 1] + "…") or None


def _without_blocks(text: str) -> str:
    """A text without its fenced blocks, such as one that asks for a lease; all of it where it has nothing else."""
    kept, fence = list[str](), ""
    for line in text.splitlines():
        mark = line.strip()[:3]
        if fence:
            fence = "" if mark == fence else fence
        elif mark in ("```", "~~~"):
            fence = mark
        else:
            kept.append(line)
    return "\n".join(kept) if any(line.strip() for line in kept) else text
