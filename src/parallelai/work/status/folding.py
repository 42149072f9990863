"""How far each workstream is: folded from its record, its run's events, and the numbers of its tree.

Nothing here asks an assistant or runs anything: who looks does not disturb.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
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
)
from parallelai.git.plumbing import Git
from parallelai.records import ErrorRecord, Usage, to_json
from parallelai.run.executors.attempt import PART_DONE
from parallelai.work.streams.record import Stream

SCHEMA = "parallelai/status/1"
_WORDS = 200


@dataclass(frozen=True, slots=True)
class Files:
    """How many files a workstream's tree has new, changed and removed, against what it was cut from."""

    new: int = 0
    changed: int = 0
    removed: int = 0


@dataclass(frozen=True, slots=True)
class Passed:
    """How many passed `of` how many; None is unknown."""

    passed: int | None
    of: int | None


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """How far one workstream is. Unknown is None, never 0.

    Attributes:
        worktree: None, and `target` too where nobody said it, of one that is not started yet.
        stage: the step that it is in (CONTRACTS §2), or how it ended: landed, dropped, blocked, failed, ….
        activity: active, waiting or asking while it is not at its end.
        todo: how many of its parts are done.
        files: new, changed and removed ones, None where nobody looked.
        checks: of its own; `tests`: of the last gate that ran with it, by its report.
        words: the last that its assistant said, in one line.
        age_seconds: since it was started; `quiet_seconds`: since anything happened.
        is_ready: whether it could land now; `why` says why not.
        kept_out: paths that the guard kept out of it.
    """

    name: str
    branch: str
    worktree: str | None
    target: str | None
    stage: str
    activity: str
    todo: Passed
    files: Files | None
    checks: Passed
    tests: Passed
    new_failures: tuple[str, ...] = ()
    words: str | None = None
    age_seconds: float | None = None
    quiet_seconds: float | None = None
    usage: Usage | None = None
    engine: str | None = None
    attempts: int = 0
    is_ready: bool = False
    why: str | None = None
    depends_on: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    leases: tuple[str, ...] = ()
    kept_out: tuple[str, ...] = ()
    landed: str | None = None  # the commit


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
    if isinstance(data, GateStarted | GateEnded):
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


# ------------------------------------------------------------------ what each event says


def _reserved(progress: Progress, data: AttemptReserved) -> None:
    progress.stage, progress.activity = "working", "active"
    progress.engine, progress.outcome, progress.error = data.engine, None, None


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
    progress.waits_for = f"{_paths(data.names)} to land: conflict in {data.where}"


def _conflict_waited(progress: Progress, data: ConflictWaited) -> None:
    progress.activity, progress.waits_for = "active", None


def _kept_out(progress: Progress, data: GuardKeptOut) -> None:
    progress.kept_out |= dict.fromkeys(data.paths)


def _gate_started(progress: Progress, data: GateStarted) -> None:
    progress.stage, progress.activity = "gating", "active"


def _gate_ended(progress: Progress, data: GateEnded) -> None:
    progress.gate = data


def _queued(progress: Progress, data: LandingQueued) -> None:
    progress.stage, progress.activity, progress.blocked = "queued", "waiting", None


def _landed(progress: Progress, data: LandingLanded) -> None:
    progress.landed, progress.blocked, progress.activity = data.commit, None, "waiting"


def _undone(progress: Progress, data: LandingUndone) -> None:
    progress.landed = None
    progress.blocked = "its landing was taken back"


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
    LandingBlocked.type: _blocked,
}


# ------------------------------------------------------------------ from all that to a status


def status_of(
    stream: Stream,
    progress: Progress,
    *,
    now: datetime,
    todo: Sequence[str] = (),
    checks: int = 0,
    files: Files | None = None,
    landed: Collection[str] = (),
    words: str | None = None,
) -> StreamStatus:
    """Say how far a workstream is.

    Args:
        now: the present time, with its time zone.
        todo: its parts, by its plan; `checks`: how many of its own it has.
        files: from `count`.
        landed: the names of those that have landed, of its run or earlier.
        words: what its assistant said after the last event, where somebody reads along.
    """
    commit = stream.landed.commit if stream.landed is not None else progress.landed
    done = len(todo) if progress.is_worked_out or stream.state in ("done", "landed") else progress.parts
    gate = progress.gate
    why = _why_not(stream, progress, frozenset(landed))
    return StreamStatus(
        name=stream.name,
        branch=stream.branch,
        worktree=stream.worktree,
        target=stream.target,
        stage=_stage(stream, progress, commit),
        activity=progress.activity,
        todo=Passed(min(done, len(todo)), len(todo)),
        files=files,
        checks=_checks(progress, checks),
        tests=Passed(gate.passed, gate.tests) if gate is not None else Passed(None, None),
        new_failures=gate.new_failures if gate is not None else (),
        words=last_words(words) if words else progress.words,
        age_seconds=_since(stream.started_at, now),
        quiet_seconds=_since(progress.last_at, now),
        usage=progress.usage,
        engine=progress.engine,
        attempts=progress.attempts,
        is_ready=why is None,
        why=why,
        depends_on=stream.depends_on,
        conflicts=tuple(sorted(progress.conflicts)),
        leases=tuple(progress.leases),
        kept_out=tuple(dict.fromkeys((*_paths_kept_out(stream), *progress.kept_out))),
        landed=commit,
    )


def _stage(stream: Stream, progress: Progress, commit: str | None) -> str:
    if stream.state == "dropped":
        return "dropped"
    if commit is not None:
        return "landed"
    if progress.outcome is not None and progress.outcome != "ok":
        return progress.outcome
    if stream.state == "done" and progress.stage in ("waiting", "working"):
        return "queued"
    return progress.stage


def _checks(progress: Progress, count: int) -> Passed:
    if not count or progress.has_passed_checks:
        return Passed(count, count)
    return Passed(None, count)


def _why_not(stream: Stream, progress: Progress, landed: frozenset[str]) -> str | None:
    """Why a workstream cannot land now; None if it can."""
    if stream.landed is not None or progress.landed is not None:
        return "it has landed"
    if stream.state == "dropped":
        return "it was dropped"
    if progress.outcome not in (None, "ok"):
        return progress.error.said if progress.error is not None else f"it ended {progress.outcome}"
    if progress.blocked is not None:
        return progress.blocked
    if progress.waits_for is not None:
        return (
            f"it {progress.waits_for}" if progress.activity == "asking" else f"waits for {progress.waits_for}"
        )
    if stream.state == "open" and not progress.is_worked_out:
        return "it was not begun" if not progress.attempts else "it is being worked on"
    missing = [name for name in stream.depends_on if name not in landed]
    if missing:
        return f"{', '.join(f'`{name}`' for name in missing)} {'has' if len(missing) == 1 else 'have'} to land first"
    if progress.gate is not None and not progress.gate.ok:
        return f"the gate failed: {progress.gate.why or progress.gate.command}"
    return None


def _paths_kept_out(stream: Stream) -> tuple[str, ...]:
    return tuple(path for one in stream.kept_out for path in one.paths)


def _paths(paths: Sequence[str]) -> str:
    shown = ", ".join(f"`{path}`" for path in paths[:3])
    return f"{shown} and {len(paths) - 3} more" if len(paths) > 3 else shown


def _since(at: str | None, now: datetime) -> float | None:
    if not at:
        return None
    try:
        return round(max(0.0, (now - datetime.fromisoformat(at)).total_seconds()), 1)
    except (ValueError, TypeError):  # written by another version
        return None


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


async def count(git: Git, base: str, commit: str) -> Files:
    """Count what differs between two commits or trees; a file that was moved is one new and one removed."""
    listed = await git.run(
        "diff-tree", "-r", "-z", "--name-status", "--no-renames", "--end-of-options", base, commit
    )
    letters = [field[:1] for field in listed.split(b"\0")[::2] if field]
    return Files(letters.count(b"A"), letters.count(b"M") + letters.count(b"T"), letters.count(b"D"))


def to_document(
    statuses: Iterable[StreamStatus], *, run: str | None, plan: str | None, at: datetime
) -> dict[str, Any]:
    """Lay it out for `work status --json`: plain data, unknown as null."""
    return {
        "schema": SCHEMA,
        "run": run,
        "plan": plan,
        "at": at.isoformat().replace("+00:00", "Z"),
        "workstreams": [_plain(status) for status in statuses],
    }


def _plain(status: StreamStatus) -> dict[str, Any]:
    usage = to_json(status.usage) if status.usage is not None else None
    data = {**asdict(status), "usage": usage}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in data.items()}
