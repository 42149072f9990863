"""Events of tasks and their attempts: turns, permissions, folders, changes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from parallelai.records import ErrorRecord, FileNote, LimitKey, Reply, TaskResult, Usage, light_record


@dataclass(frozen=True, slots=True)
class TaskExpanded:
    """The instances of the plan's tasks, in plan order, and the files of those that have some.

    `skipped` are files that were asked about and given to nobody. `is_addition`: these come to those that
    the run already has (`runs add`); otherwise they are all of them. `editing` are those that have files to
    change, and not to look at. `is_review`: one of these at least is asked for findings.
    """

    type: ClassVar[str] = "task.expanded"
    items: tuple[str, ...]
    files: dict[str, tuple[str, ...]] = field(default_factory=dict)
    skipped: tuple[FileNote, ...] = ()
    is_addition: bool = False
    editing: tuple[str, ...] = ()
    is_review: bool = True


@dataclass(frozen=True, slots=True)
class TaskReady:
    """The task could start, and has to wait. One that starts at once has no such event: its first
    `attempt.reserved` says that it was ready."""

    type: ClassVar[str] = "task.ready"


@dataclass(frozen=True, slots=True)
class TaskStep:
    """The task entered a step, such as `check`."""

    type: ClassVar[str] = "task.step"
    step: str
    stage: str


@dataclass(frozen=True, slots=True)
class LeaveLapsed:
    """A person gave leave for what the task came to (`approve: true`); it came to something else since."""

    type: ClassVar[str] = "leave.lapsed"


@light_record
class TaskEnded:
    """The one final result of a task, without its text.

    `by` are the attempts whose replies together are its reply; `is_kept`: nothing was done for it in this
    process, because it had ended well before and nothing that it depends on has changed.
    """

    type: ClassVar[str] = "task.ended"
    result: TaskResult
    fingerprint: str = ""
    by: tuple[int, ...] = ()
    is_kept: bool = False


@light_record
class AttemptReserved:
    """The claim, before anything starts."""

    type: ClassVar[str] = "attempt.reserved"
    engine: str
    key: LimitKey
    why: str
    tokens: int | None = None
    usd: float | None = None


@light_record
class AttemptStarted:
    """`fingerprint` is of all that the attempt's reply depends on, so that a later process can tell
    whether it still holds."""

    type: ClassVar[str] = "attempt.started"
    engine: str
    model: str | None = None
    fingerprint: str = ""


@light_record
class AttemptEnded:
    """`reply` is the validated one, None if the attempt failed; `is_cached`: no engine was asked.

    `calls` is how many requests a model engine had leave for: one, but for repairs and second passes. `kept` is the
    patch, relative to the root, of what an attempt changed that failed; nobody applies it.
    """

    type: ClassVar[str] = "attempt.ended"
    engine: str
    ok: bool
    seconds: float
    usage: Usage | None = None
    reply: Reply | None = None
    error: ErrorRecord | None = None
    is_cached: bool = False
    calls: int = 0
    kept: str | None = None


@dataclass(frozen=True, slots=True)
class TurnStarted:
    """A turn after the first began; the first begins with its attempt."""

    type: ClassVar[str] = "turn.started"
    turn: int


@dataclass(frozen=True, slots=True)
class TurnEnded:
    """A turn of an attempt that had more than one is over. An only turn ends with its attempt.

    `reason` is `part` where an item of `todo` is done and the next one follows.
    """

    type: ClassVar[str] = "turn.ended"
    turn: int
    seconds: float
    usage: Usage | None = None
    reason: str = "end_turn"


@dataclass(frozen=True, slots=True)
class SessionOpened:
    type: ClassVar[str] = "session.opened"
    session: str


@dataclass(frozen=True, slots=True)
class PermissionAsked:
    """An assistant asks for leave to do something; the attempt waits for the answer."""

    type: ClassVar[str] = "permission.asked"
    question: str
    what: str
    options: tuple[str, ...]
    detail: str = ""


@dataclass(frozen=True, slots=True)
class PermissionAnswered:
    """`by` is `policy`, or who answered."""

    type: ClassVar[str] = "permission.answered"
    question: str
    option: str
    by: str


@dataclass(frozen=True, slots=True)
class WorkspaceCreated:
    """`base` is the commit that it was cut from, in the run's own repository of snapshots."""

    type: ClassVar[str] = "workspace.created"
    path: str
    base: str
    edits: bool


@dataclass(frozen=True, slots=True)
class WorkspaceRemoved:
    type: ClassVar[str] = "workspace.removed"
    path: str


@dataclass(frozen=True, slots=True)
class GuardKeptOut:
    """What an assistant changed and may not change. `patch` holds it, where it could be kept."""

    type: ClassVar[str] = "guard.kept_out"
    paths: tuple[str, ...]
    why: str
    patch: str | None = None


@dataclass(frozen=True, slots=True)
class ChangeMade:
    """`patch` is relative to the root; `base` and `commit` are in the run's own repository of snapshots."""

    type: ClassVar[str] = "change.made"
    patch: str
    files: tuple[str, ...]
    base: str
    commit: str
    kept_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ChangeApplied:
    """The change is in the user's checkout, or, `is_undone`, was taken out of it again.

    `written` gives for each path the content's hash before and after, None where there was no file.
    """

    type: ClassVar[str] = "change.applied"
    files: tuple[str, ...]
    written: dict[str, tuple[str | None, str | None]] = field(default_factory=dict)
    is_undone: bool = False


@dataclass(frozen=True, slots=True)
class ChangeRefused:
    """The change could not be applied, or, `is_undo`, taken back; it is kept."""

    type: ClassVar[str] = "change.refused"
    paths: tuple[str, ...]
    why: str
    is_undo: bool = False


TaskData = (
    TaskExpanded
    | TaskReady
    | TaskStep
    | LeaveLapsed
    | TaskEnded
    | AttemptReserved
    | AttemptStarted
    | AttemptEnded
    | TurnStarted
    | TurnEnded
    | SessionOpened
    | PermissionAsked
    | PermissionAnswered
    | WorkspaceCreated
    | WorkspaceRemoved
    | GuardKeptOut
    | ChangeMade
    | ChangeApplied
    | ChangeRefused
)
