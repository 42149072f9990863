"""Every error that a user can meet, in one tree.

    ParallelAIError
    ├── UsageError              exit 2: a call, plan, config or trust that cannot be carried out as given
    │   ├── PlanError           all problems of a plan, each with file:line:column
    │   ├── ConfigError
    │   ├── UntrustedError      something found in a repository would run, and nobody said that it may
    │   ├── ConsentError        requests would go to another address than before, and nobody said that they may
    │   ├── NotFoundError       no such run, task, engine, template
    │   └── BusyError           another process carries out that run
    ├── StoreError              exit 3: the journal cannot be read or written
    │   ├── StoreFormatError    written by another version
    │   ├── StoreCorruptError
    │   └── StoreFullError
    ├── ProgramError            exit 3: a program could not be started
    └── EngineError             why an attempt failed; `kind` is one of CONTRACTS §5
        ├── RateLimited  Transient  Rejected (SessionGone)  Refused  TimedOut  Invalid
        └── Unavailable  CheckFailed  Internal

An error says what happened (`said`), where (`where`), what to do next (`next`), and whether the same call
could succeed if tried again (`retry_helps`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar


class ParallelAIError(Exception):
    """The root: anything that ParallelAI tells a user went wrong."""

    kind: ClassVar[str] = "internal"
    exit_code: ClassVar[int] = 3
    retry_helps: bool = False

    def __init__(
        self,
        said: str,
        *,
        where: str | None = None,
        next: str | None = None,  # the JSON key that scripts read
        retry_helps: bool | None = None,
    ) -> None:
        super().__init__(said)
        self.said = said
        self.where = where
        self.next = next
        if retry_helps is not None:
            self.retry_helps = retry_helps

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        advice = f" ({self.next})" if self.next else ""
        return f"{place}{self.said}{advice}"

    def to_json(self) -> dict[str, Any]:
        """The `error` object of CONTRACTS §4."""
        return {
            "kind": self.kind,
            "said": self.said,
            "where": self.where,
            "next": self.next,
            "retry_helps": self.retry_helps,
        }


class UsageError(ParallelAIError):
    kind = "usage"
    exit_code = 2


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in a file. `line` and `column` count from 1; None where the place has no position."""

    said: str
    file: str | None = None
    line: int | None = None
    column: int | None = None
    next: str | None = None

    @property
    def where(self) -> str | None:
        parts = [self.file or "plan", *(str(n) for n in (self.line, self.column) if n is not None)]
        return ":".join(parts) if self.file or self.line is not None else None

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        advice = f"; {self.next}" if self.next else ""
        return f"{place}{self.said}{advice}"


class PlanError(UsageError):
    """A plan that cannot be carried out: `problems` holds all of them, in the order of the file."""

    kind = "plan"

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        first = self.problems[0]
        super().__init__(first.said, where=first.where, next=first.next)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)

    def to_json(self) -> dict[str, Any]:
        others = [{"said": p.said, "where": p.where, "next": p.next} for p in self.problems]
        return {**super().to_json(), "problems": others}


class ConfigError(UsageError):
    kind = "config"


class UntrustedError(UsageError):
    kind = "untrusted"


class ConsentError(UsageError):
    """`addresses` are those, by engine, that requests would go to now."""

    kind = "consent"

    def __init__(
        self,
        said: str,
        *,
        where: str | None = None,
        next: str | None = None,
        addresses: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(said, where=where, next=next)
        self.addresses = dict(addresses or {})


class NotFoundError(UsageError):
    kind = "not_found"


class BusyError(UsageError):
    kind = "busy"
    retry_helps = True


class StoreError(ParallelAIError):
    kind = "store"


class StoreFormatError(StoreError):
    kind = "store_format"


class StoreCorruptError(StoreError):
    kind = "store_corrupt"


class StoreFullError(StoreError):
    kind = "store_full"
    retry_helps = True


class ProgramError(ParallelAIError):
    """A program could not be started: not found, not executable, no more processes."""

    kind = "unavailable"


class EngineError(ParallelAIError):
    """Why an attempt failed. The scheduler decides by the class whether another try makes sense."""

    kind = "internal"
    exit_code = 4


class RateLimited(EngineError):
    """The provider asks to wait. `retry_after_seconds` is its own word, None where it gave none."""

    kind = "rate_limited"
    retry_helps = True

    def __init__(
        self,
        said: str,
        *,
        retry_after_seconds: float | None = None,
        is_quota: bool = False,
        where: str | None = None,
        next: str | None = None,
    ) -> None:
        super().__init__(said, where=where, next=next)
        self.retry_after_seconds = retry_after_seconds
        self.is_quota = is_quota


class Transient(EngineError):
    kind = "transient"
    retry_helps = True


class Rejected(EngineError):
    """The request or its credentials were not accepted; the same request will not be either."""

    kind = "rejected"


class SessionGone(Rejected):
    """A client does not know the session that it was to go on with: the task is begun anew in another one."""


class Refused(EngineError):
    """The model or the assistant declined to do the task."""

    kind = "refused"


class TimedOut(EngineError):
    kind = "timed_out"
    retry_helps = True


class Invalid(EngineError):
    """The reply is not what the task asked for (not findings, not the schema, an empty change).

    `reply` is the text that cannot be used, as it came; None where there is none, or the stream had it.
    """

    kind = "invalid"
    reply: str | None = None


class Unavailable(EngineError):
    """Something is missing: an engine (not installed, not running, no login), room to work, or a person's leave."""

    kind = "unavailable"


class Trespass(EngineError):
    """A change touches what it may not, or holds a secret: a person has to look at it."""

    kind = "trespass"


class CheckFailed(EngineError):
    kind = "check_failed"


class GateFailed(EngineError):
    """A gate does not pass on the tree that would land."""

    kind = "gate_failed"


class Conflict(EngineError):
    """What several tasks or branches changed does not fit together."""

    kind = "conflict"


class Internal(EngineError):
    kind = "internal"


ENGINE_ERRORS: dict[str, type[EngineError]] = {
    error.kind: error
    for error in (
        RateLimited,
        Transient,
        Rejected,
        Refused,
        TimedOut,
        Invalid,
        Unavailable,
        Trespass,
        CheckFailed,
        GateFailed,
        Conflict,
        Internal,
    )
}
"""The engine errors that this version raises, by kind."""


def leaves(failure: BaseException) -> Iterator[BaseException]:
    """Give the single errors of a group, however deep they lie; an error that is no group is the only one."""
    if isinstance(failure, BaseExceptionGroup):
        for one in failure.exceptions:
            yield from leaves(one)
    else:
        yield failure


def first_error(failure: BaseException, *wanted: type[BaseException]) -> BaseException:
    """Give the one error of a group that counts: one of the kinds that are `wanted`, else the first.

    Where several tasks fail at once, what matters is an error that we know, before what it brought along.
    """
    found = list(leaves(failure))
    known = wanted or (ParallelAIError,)
    return next((error for error in found if isinstance(error, known)), found[0])
