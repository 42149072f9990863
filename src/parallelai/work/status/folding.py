"""How far each workstream is: from its record, what its run's events say, and the numbers of its tree.

Nothing here asks an assistant or runs anything: who looks does not disturb.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from parallelai.git.plumbing import Git
from parallelai.records import Usage, to_json
from parallelai.run.approving import UNMET
from parallelai.work.landing.waiting import Waiting
from parallelai.work.status.progress import LEAVE, UNDONE, Progress, last_words
from parallelai.work.streams.record import Stream, how_taken_back, is_refused, is_undone, pending_part

SCHEMA = "parallelai/status/1"
LOST = "lost"
"""The stage of what had landed, and is not on its target any more."""
PENDING = "pending"
"""The stage of what landed beside its target, because the user's checkout could not follow: nobody took it over yet."""
REJECTED = "rejected"
"""The stage of what a person refused to let land as it is."""
INTERRUPTED = "interrupted"
"""The stage of what a run was at when it was killed."""


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
        worktree: where it is, also if it was moved; None, and `target` too where nobody said it, of one that is not
            started yet.
        stage: the step that it is in (CONTRACTS §2), or how it ended: landed, dropped, blocked, failed, ….
        activity: active, waiting or asking while it is not at its end.
        todo: how many of its parts are done.
        files: new, changed and removed ones, None where nobody looked.
        checks: of its own; `tests`: of the last gate that ran with it, by its report.
        words: the last that its assistant said, in one line.
        age_seconds: since it was started; `quiet_seconds`: since anything happened.
        is_ready: whether it could land now; `why` says why not, and `next` what helps, where it ended with an error.
        kept_out: paths that the guard kept out of it.
        pending: the branch that holds what landed, or took a landing back, while the target could not follow; `why`
            says what to do then.
        pushed: the remote's branch that has what landed, where it was pushed.
        is_push_left: whether its plan pushes what landed, and that has not come to be; `why` says what does it.
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
    next: str | None = None
    depends_on: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    leases: tuple[str, ...] = ()
    kept_out: tuple[str, ...] = ()
    landed: str | None = None  # the commit
    pending: str | None = None
    pushed: str | None = None
    is_push_left: bool = False


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
    is_lost: bool = False,
    waits: str | None = None,
    is_interrupted: bool = False,
    is_at_rest: bool = False,
    conflicts: Collection[str] | None = None,
) -> StreamStatus:
    """Say how far a workstream is.

    Args:
        now: the present time, with its time zone.
        todo: its parts, by its plan; `checks`: how many of its own it has.
        files: from `count`.
        landed: the names of those that have landed, of its run or earlier.
        words: what its assistant said after the last event, where somebody reads along.
        is_lost: what landed is not on its target any more.
        waits: what is said of a landing that waits for the user's checkout on a branch of its own, or of what
            took one back and waits there.
        is_interrupted: its run was killed, so that nobody works on it; `is_at_rest`: nobody carries its run out.
        conflicts: what it does not fit with now, where somebody looked; else the events say it.
    """
    progress = _taken_up(stream, _with_leave(stream, _of_now(stream, progress)))
    is_cut_off = is_interrupted and _is_cut_off(stream, progress)
    if is_interrupted and stream.state == "done":
        progress = replace(progress, stage="queued")  # no gate runs any more
    commit = None if is_lost else _landed_as(stream, progress)
    done = len(todo) if progress.is_worked_out or stream.state in ("done", "landed") else progress.parts
    gate = progress.gate
    why = _why_not(stream, progress, frozenset(landed), files, is_at_rest=is_at_rest)
    beside = pending_part(stream) if waits is not None else None
    if is_lost or waits is not None:
        why = _why_lost(stream) if is_lost else waits
    elif is_cut_off:
        why = f"its run was interrupted: {_goes_on(stream)}"
    return StreamStatus(
        name=stream.name,
        branch=stream.branch,
        worktree=stream.worktree,
        target=stream.target,
        stage=_astray(is_lost, beside is not None and commit is not None, is_cut_off)
        or _stage(stream, progress, commit),
        activity="waiting" if is_interrupted else progress.activity,
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
        next=_advice(progress, why),
        depends_on=stream.depends_on,
        conflicts=tuple(sorted(progress.conflicts if conflicts is None else conflicts)),
        leases=tuple(progress.leases),
        kept_out=tuple(dict.fromkeys((*_paths_kept_out(stream), *progress.kept_out))),
        landed=commit,
        pending=beside.pending if beside is not None else None,
        pushed=stream.landed.pushed if stream.landed is not None and not is_lost else None,
    )


def _advice(progress: Progress, why: str | None) -> str | None:
    """What helps against the error that it ended with, where that is what keeps it from landing."""
    error = progress.error
    return error.next if error is not None and error.said == why else None


def _has_begun(progress: Progress) -> bool:
    return progress.attempts > 0 or progress.stage != "waiting"


def _goes_on(stream: Stream) -> str:
    return f"`parallelai work run {shlex.quote(stream.plan)}` goes on with it"


def _astray(is_lost: bool, is_pending: bool, is_cut_off: bool) -> str | None:
    """The stage of what is not where its record alone would have it."""
    if is_lost:
        return LOST
    if is_pending:
        return PENDING
    return INTERRUPTED if is_cut_off else None


def _landed_as(stream: Stream, progress: Progress) -> str | None:
    """The commit; by the run's events where the record is not written yet, but not where it says otherwise."""
    if stream.landed is not None:
        return stream.landed.commit
    return progress.landed if stream.undone is None else None


def _is_cut_off(stream: Stream, progress: Progress) -> bool:
    """Whether a run that was killed left a workstream in the middle of something."""
    return stream.state == "open" and progress.outcome is None and _has_begun(progress)


def _of_now(stream: Stream, progress: Progress) -> Progress:
    """Without what became of an earlier workstream of the name, or of an earlier commit of one that is ready."""
    if progress.ended_at is not None and progress.ended_at < stream.started_at and progress.stream is None:
        return Progress(last_at=progress.last_at)
    is_put_right = stream.state == "done" and progress.queued not in (None, stream.head)
    if not is_put_right or progress.outcome == "ok" or progress.stream is not None:
        return progress
    return replace(progress, stage="waiting", outcome=None, error=None, blocked=None, gate=None)


def _with_leave(stream: Stream, progress: Progress) -> Progress:
    """Of one that ended because nobody gave leave to land it, and that somebody gave leave since: it is ready."""
    error = progress.error
    waited = progress.outcome not in (None, "ok") and error is not None and error.said.startswith(UNMET)
    return replace(progress, outcome=None, error=None) if waited and stream.is_approved else progress


def _taken_up(stream: Stream, progress: Progress) -> Progress:
    """Of one that was taken back, and that somebody has called ready since: it may land."""
    is_taken_up = stream.state == "done" and stream.undone is None and progress.stage == UNDONE
    return replace(progress, stage="waiting", blocked=None) if is_taken_up else progress


def _why_lost(stream: Stream) -> str:
    commit = stream.landed.commit[:10] if stream.landed is not None else "?"
    return f"landed as {commit}, which is not on `{stream.target}` any more"


def _stage(stream: Stream, progress: Progress, commit: str | None) -> str:
    if stream.state == "dropped":
        return "dropped"
    if commit is not None or stream.state == "landed":  # what a person merged has no commit here
        return "landed"
    if is_undone(stream):
        return UNDONE
    if _is_refused(stream, progress):
        return REJECTED
    if progress.outcome is not None and progress.outcome != "ok":
        return progress.outcome
    if stream.state == "done" and progress.stage in ("waiting", "working"):
        return "queued"
    return progress.stage


def _checks(progress: Progress, count: int) -> Passed:
    if not count or progress.has_passed_checks:
        return Passed(count, count)
    return Passed(None, count)


def _why_not(
    stream: Stream, progress: Progress, landed: frozenset[str], files: Files | None, *, is_at_rest: bool
) -> str | None:
    """Why a workstream cannot land now; None if it can."""
    decided = _why_decided(stream, progress)
    if decided is not None:
        return decided
    if progress.outcome not in (None, "ok"):
        return _why_ended(stream, progress, landed, is_at_rest=is_at_rest)
    if progress.blocked is not None:
        return progress.blocked
    if progress.waits_for is not None:
        how = "it" if progress.activity == "asking" else "waits for"
        return f"{how} {progress.waits_for}{_answers(stream) if progress.waits_for == LEAVE else ''}"
    if stream.state == "open" and not progress.is_worked_out:
        return _why_open(stream, progress, files, is_at_rest=is_at_rest)
    if missing := _has_to_land(stream, landed):
        return missing
    if progress.gate is not None and not progress.gate.ok:
        return f"the gate failed: {progress.gate.why or progress.gate.command}"
    return None


def _why_ended(stream: Stream, progress: Progress, landed: frozenset[str], *, is_at_rest: bool) -> str:
    """Why one did not land that its run is done with."""
    said = progress.error.said if progress.error is not None else f"it ended {progress.outcome}"
    if not is_at_rest or progress.outcome not in ("cancelled", "skipped"):
        return said
    missing = _has_to_land(stream, landed) if progress.outcome == "skipped" else None
    return f"{said}: {missing or _goes_on(stream)}"


def _has_to_land(stream: Stream, landed: frozenset[str]) -> str | None:
    missing = [f"`{name}`" for name in stream.depends_on if name not in landed]
    return f"{', '.join(missing)} {'has' if len(missing) == 1 else 'have'} to land first" if missing else None


def _why_decided(stream: Stream, progress: Progress) -> str | None:
    """What became of it, or what a person decided of it, that keeps it from landing; None for neither."""
    if _landed_as(stream, progress) is not None or stream.state == "landed":
        return "it has landed"
    if stream.state == "dropped":
        return f"it was dropped; its work is kept in `{stream.patch}`" if stream.patch else "it was dropped"
    if is_undone(stream):
        return f"its landing {how_taken_back(stream)}; `parallelai work land {stream.name}` lands it again"
    return f"{stream.refused}; {_after_refusal(stream)}" if _is_refused(stream, progress) else None


def _answers(stream: Stream) -> str:
    approve, reject = (f"`parallelai work {verb} {stream.name}`" for verb in ("approve", "reject"))
    return f": {approve}, or {reject}"


def _is_refused(stream: Stream, progress: Progress) -> bool:
    """Whether a person refused it, and no assistant has taken it up again since."""
    is_at_rest = progress.outcome is not None or progress.stream is None
    return is_refused(stream) and is_at_rest


def _after_refusal(stream: Stream) -> str:
    again = f"`parallelai work run {shlex.quote(stream.plan)}` has it worked on again"
    return f"{again}; if you put it right yourself, say `parallelai work done {stream.name}`"


def _why_open(stream: Stream, progress: Progress, files: Files | None, *, is_at_rest: bool) -> str:
    """Why one that nobody has called ready is not."""
    if progress.attempts:
        return "it is being worked on"
    if files is not None and files != Files():
        return f"it has changes: `parallelai work done {stream.name}` says that it is ready to land"
    if not is_at_rest:
        return "it was not begun"
    begins = f"`parallelai work run {shlex.quote(stream.plan)}` begins it"
    return f"it was not begun: {begins}; if you work there yourself, say `parallelai work done {stream.name}` then"


def _paths_kept_out(stream: Stream) -> tuple[str, ...]:
    return tuple(path for one in stream.kept_out for path in one.paths)


def _since(at: str | None, now: datetime) -> float | None:
    if not at:
        return None
    try:
        return round(max(0.0, (now - datetime.fromisoformat(at)).total_seconds()), 1)
    except (ValueError, TypeError):  # written by another version
        return None


async def count(git: Git, base: str, commit: str) -> Files:
    """Count what differs between two commits or trees; a file that was moved is one new and one removed."""
    listed = await git.run(
        "diff-tree", "-r", "-z", "--name-status", "--no-renames", "--end-of-options", base, commit
    )
    letters = [field[:1] for field in listed.split(b"\0")[::2] if field]
    return Files(letters.count(b"A"), letters.count(b"M") + letters.count(b"T"), letters.count(b"D"))


def to_document(
    statuses: Iterable[StreamStatus],
    *,
    run: str | None,
    plan: str | None,
    at: datetime,
    waiting: Iterable[Waiting] = (),
) -> dict[str, Any]:
    """Lay it out for `work status --json`: plain data, unknown as null. `waiting` has what is to be taken over."""
    return {
        "schema": SCHEMA,
        "run": run,
        "plan": plan,
        "at": at.isoformat().replace("+00:00", "Z"),
        "workstreams": [_plain(status) for status in statuses],
        "waiting": [{**asdict(each), "names": list(each.names)} for each in waiting],
    }


def _plain(status: StreamStatus) -> dict[str, Any]:
    usage = to_json(status.usage) if status.usage is not None else None
    data = {**asdict(status), "usage": usage}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in data.items()}
