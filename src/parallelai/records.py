"""The frozen data that rooms pass on.

All are plain dataclasses, so that a run of ten thousand tasks stays small; `to_json` and `from_json` turn
them into JSON and back, checked. Unknown is None, never 0. Lines and columns count from 1, in code points,
end columns exclusive. Paths are POSIX and relative to the project's root.
"""

from __future__ import annotations

import dataclasses
import operator
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar, dataclass_transform

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import TypeAdapter

T = TypeVar("T")


class Outcome(StrEnum):
    """How a task ended; every task has exactly one (CONTRACTS §2)."""

    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"
    BLOCKED = "blocked"
    CANCELLED = "cancelled"
    OVER_BUDGET = "over_budget"


class Severity(StrEnum):
    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"
    INFO = "info"

    @property
    def rank(self) -> int:
        """0 for the worst."""
        return _SEVERITIES.index(self)


_SEVERITIES = list(Severity)

ErrorKind = Literal[
    "rate_limited",
    "transient",
    "rejected",
    "refused",
    "timed_out",
    "invalid",
    "unavailable",
    "trespass",
    "check_failed",
    "gate_failed",
    "conflict",
    "internal",
]
Tier = Literal["must", "maybe"]
FindingState = Literal["open", "baseline", "suppressed", "refuted"]
CostBasis = Literal["client", "prices", "subscription", "free", "unknown"]


class LimitKey(NamedTuple):
    """What one limit counts for (SCHEDULING, Limits)."""

    engine: str
    account: str = "default"
    model: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens and money of one or more turns. `input` includes `cached`; `usd` is None where unknown."""

    input: int | None = None
    cached: int | None = None
    output: int | None = None
    reasoning: int | None = None
    usd: float | None = None
    basis: CostBasis = "unknown"

    def __add__(self, other: Usage) -> Usage:
        if other is FREE:  # it changes nothing, nor what the sum is based on
            return self
        same = self.basis == other.basis
        usd = None if self.usd is None or other.usd is None else self.usd + other.usd
        return Usage(
            _plus(self.input, other.input),
            _plus(self.cached, other.cached),
            _plus(self.output, other.output),
            _plus(self.reasoning, other.reasoning),
            usd,
            self.basis if same else _joint_basis(self.basis, other.basis),
        )

    @property
    def tokens(self) -> int | None:
        """Input and output together; None if either is unknown."""
        return _plus(self.input, self.output)


FREE = Usage(0, 0, 0, 0, 0.0, "free")
"""What an engine without tokens or money uses."""


def _plus(a: int | None, b: int | None) -> int | None:
    return None if a is None or b is None else a + b


def _joint_basis(a: CostBasis, b: CostBasis) -> CostBasis:
    """Of two bases the one that says less about the sum."""
    order: list[CostBasis] = ["free", "client", "prices", "subscription", "unknown"]
    return max(a, b, key=order.index)


@dataclass(frozen=True, slots=True)
class ErrorRecord:
    """An error as it is stored and shown (CONTRACTS §5)."""

    kind: ErrorKind
    said: str
    where: str | None = None
    next: str | None = None
    retry_helps: bool = False


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def light_record(cls: type[T]) -> type[T]:
    """A data class that only the type checker keeps frozen: of that which a run makes thousands of.

    To make one takes a third of the time then. What engines and other people's code share stays frozen in earnest.
    """
    return dataclass(slots=True, unsafe_hash=True)(cls)


@light_record
class Finding:
    """One issue found in a file.

    `by` names the engines that reported it; `votes` counts them. `quote` is the code that it is about, as it
    stands in the file. `confidence` is between 0 and 1, None where the engine gave none.
    """

    file: str
    line: tuple[int, int]
    severity: Severity
    message: str
    id: str = ""
    task: str = ""
    column: tuple[int, int] | None = None
    category: str = "general"
    rule: str | None = None
    suggestion: str | None = None
    quote: str | None = None
    confidence: float | None = None
    tier: Tier = "must"
    by: tuple[str, ...] = ()
    votes: int = 1
    state: FindingState = "open"


@dataclass(frozen=True, slots=True)
class FilePart:
    """A file that a task is about, or the lines `first` to `last` (inclusive, from 1) of it."""

    path: str
    first: int | None = None
    last: int | None = None


@dataclass(frozen=True, slots=True)
class FileNote:
    """Why a file was skipped, or what failed on it."""

    file: str
    why: str


@dataclass(frozen=True, slots=True)
class Coverage:
    """What became of the files that somebody was asked about: each is in exactly one of the three."""

    covered: tuple[str, ...] = ()
    skipped: tuple[FileNote, ...] = ()
    failed: tuple[FileNote, ...] = ()


@dataclass(frozen=True, slots=True)
class Change:
    """A patch with the tree that it applies to (CONTRACTS §5).

    `why` says why it was to be applied, and was not, or what of it is not in the user's checkout any more, or was
    edited since.
    """

    patch: str
    files: tuple[str, ...]
    applied: bool = False
    kept_out: tuple[str, ...] = ()
    why: str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What one turn, or one whole attempt, gave back.

    `text` is for people, `data` is JSON where the task asked for a schema. `coverage` is None where the
    engine cannot say which files it looked at (all of the request's files count as covered then).
    `memory_bytes` is what the engine's programs took at most, where it had some.
    """

    text: str | None = None
    findings: tuple[Finding, ...] = ()
    data: Any = None
    usage: Usage = Usage()
    session: str | None = None
    coverage: Coverage | None = None
    change: Change | None = None
    model: str | None = None
    notes: tuple[str, ...] = ()
    memory_bytes: int | None = None


@light_record
class TaskResult:
    """One row of `tasks` in the run document. `findings` is their number.

    `because` says why a task was skipped. `voters` are the engines whose replies count, where there are several.
    `reused`: the reply is from an earlier run, and no engine was asked.
    """

    id: str
    status: Outcome
    engine: str | None = None
    account: str | None = None
    model: str | None = None
    why: str | None = None
    attempts: int = 0
    turns: int = 0
    seconds: float = 0.0
    text: str | None = None
    findings: int = 0
    usage: Usage | None = None
    change: Change | None = None
    workstream: dict[str, Any] | None = None
    error: ErrorRecord | None = None
    because: str | None = None
    voters: tuple[str, ...] = ()
    reused: bool = False


@dataclass(frozen=True, slots=True)
class RunDocument:
    """What `execute --json`, `review --json` and `runs show --json` print (CONTRACTS §5).

    `is_review`: one task at least was asked for findings.
    """

    run: str
    plan: str | None
    exit: int
    outcome: Outcome
    seconds: float
    seconds_one_by_one: float
    counts: dict[Outcome, int]
    usage: Usage
    tasks: tuple[TaskResult, ...] = ()
    findings: tuple[Finding, ...] = ()
    dropped: dict[str, int] = field(default_factory=lambda: {"quote_not_found": 0})
    files: Coverage = Coverage()
    is_review: bool = True
    schema: Literal["parallelai/run/1"] = "parallelai/run/1"


ConflictKind = Literal[
    "content",
    "add/add",
    "modify/delete",
    "rename/rename",
    "rename/delete",
    "file/directory",
    "binary",
    "submodule",
    "mode",
]
ConflictClass = Literal["file", "function", "logic"]


@dataclass(frozen=True, slots=True)
class ConflictPlace:
    """Where two sides meet in a file: the first and the last line on each side."""

    a: tuple[int, int]
    b: tuple[int, int]


@dataclass(frozen=True, slots=True)
class ConflictFile:
    """A file that git cannot merge, and the definitions that both sides touch."""

    path: str
    kind: ConflictKind
    places: tuple[ConflictPlace, ...] = ()
    symbols: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ConflictPair:
    """Two workstreams, or one and the target (CONTRACTS §6).

    `conflict` is git's answer alone. `class_` (`class` in JSON) and `risk`, from 0 to 1, are ours: a logic
    conflict merges cleanly.
    """

    a: str
    b: str
    conflict: bool
    class_: ConflictClass | None
    risk: float
    files: tuple[ConflictFile, ...] = ()
    why: str | None = None

    @property
    def is_broken(self) -> bool:
        """Whether the two do not fit together now: git cannot merge them, or what it merges would not work."""
        return self.conflict or self.class_ == "logic"

    @property
    def is_deletion(self) -> bool:
        """Whether all that git cannot merge are files that one changed and the other deleted."""
        return self.conflict and {file.kind for file in self.files} == {"modify/delete"}


@dataclass(frozen=True, slots=True)
class ConflictDocument:
    """What `work conflicts --json` prints: all pairs that conflict or carry a risk."""

    base: str
    target: str
    names: tuple[str, ...]
    pairs: tuple[ConflictPair, ...] = ()
    schema: Literal["parallelai/conflicts/1"] = "parallelai/conflicts/1"


def utc_now() -> str:
    """The time in UTC as it is stored: `2026-11-20T10:00:00.123456Z`."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def new_run_id(now: datetime | None = None) -> str:
    """Make a run's id: the day, and enough randomness that two machines never meet."""
    day = (now or datetime.now(UTC)).strftime("%Y%m%d")
    return f"r-{day}-{secrets.token_hex(4)}"


def changed(record: T, **values: Any) -> T:
    """Copy a record with other values in some of its fields, in half the time of `dataclasses.replace`.

    For plain data classes with slots, whose making has no rules of its own. Raises AttributeError for a field
    that there is not.
    """
    kind = type(record)
    fields = _fields.get(kind)
    if fields is None:
        names = [field.name for field in dataclasses.fields(record)]  # type: ignore[arg-type]
        setters = tuple(getattr(kind, name).__set__ for name in names)
        fields = _fields[kind] = (operator.attrgetter(*names), setters)
    made = object.__new__(kind)
    for put, value in zip(fields[1], fields[0](record), strict=True):
        put(made, value)
    for name, value in values.items():
        object.__setattr__(made, name, value)
    return made


_fields: dict[type[Any], tuple[Callable[[Any], tuple[Any, ...]], tuple[Callable[[Any, Any], None], ...]]] = {}


def adapter(kind: type[T]) -> TypeAdapter[T]:
    """The checked reader and writer of a record; made once for each kind."""
    from pydantic import TypeAdapter  # heavy, and not needed to import the library

    if kind not in _adapters:
        _adapters[kind] = TypeAdapter(kind)
    return _adapters[kind]


_adapters: dict[type[Any], TypeAdapter[Any]] = {}


def to_json(record: Any) -> Any:
    """Turn a record into plain JSON data (dicts, lists, strings, numbers)."""
    from pydantic_core import to_jsonable_python

    return to_jsonable_python(record, fallback=msgspec.structs.asdict)


def from_json(kind: type[T], data: Any) -> T:
    """Read a record back, checked. Raises `pydantic.ValidationError`."""
    return adapter(kind).validate_python(data)
