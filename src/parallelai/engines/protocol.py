"""The engine protocol: what the scheduler and whoever does a task say to each other (CONTRACTS §7).

An engine does one turn of one task and knows nothing of runs. A `Request` is plain JSON, so that an executor
on another machine can carry it: names of environment variables, never their values; no callbacks.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from parallelai.processes.confinement import Mount
from parallelai.records import FilePart, LimitKey, Reply, Usage, light_record, to_json

OutputKind = Literal["text", "findings", "change", "schema"]
Tuning = Literal["temperature", "max_tokens"]
TUNED: frozenset[Tuning] = frozenset({"temperature", "max_tokens"})


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an engine can do.

    `answers`: the kinds of output that it can give. `batch`: how many files one request may hold where each
    is looked at by itself (1: one file a request is best). `is_repeatable`: the same request gives an equally
    good reply, so that a stored one may be used instead; commands, which may have effects, are not.
    `is_remote`: what it is asked leaves this machine or costs money. `works_in_folder`: it has tools of its
    own and needs a `Workspace`; other engines are given the files' text in the prompt (`takes_text`) or read
    them below the request's root. `takes_instructions`: it has a place for a request's `instructions`; for
    others they are put before the prompt. `tunes`: what it heeds of a request's `temperature` and `max_tokens`.
    `takes_price`: a `price` of its entry is what its tokens cost. `asks_at`: the address that its replies come
    from, where its surroundings decide that and not its entry: stored replies of another one are no use, and a run
    that is gone on with asks for leave before it asks another one. `messages`: it listens to the port's `inbox`
    while it works; what is sent to another one is kept for its next turn, or refused.
    """

    answers: frozenset[OutputKind] = frozenset({"text", "findings", "schema"})
    edits: bool = False
    structured: bool = False
    streams: bool = False
    resumes: bool = False
    interrupts: bool = False
    asks: bool = False
    attaches: bool = False
    batch: int = 1
    is_repeatable: bool = False
    is_remote: bool = False
    works_in_folder: bool = False
    takes_text: bool = False
    takes_instructions: bool = False
    tunes: frozenset[Tuning] = frozenset()
    takes_price: bool = False
    asks_at: str = ""
    messages: bool = False


@dataclass(frozen=True, slots=True)
class Availability:
    """What `detect` found. `how` says what to do where the engine is missing.

    `needs_entry`: nothing is missing but an entry of the plan or config that says what it is to run or ask. `tested`
    is the version that ParallelAI is tested with, where it knows one.
    """

    is_available: bool
    said: str
    version: str | None = None
    path: str | None = None
    how: str | None = None
    needs_entry: bool = False
    tested: str | None = None


def needs_entry(how: str) -> Availability:
    """Say that an engine can be used once an entry says what `how` names."""
    return Availability(False, "needs an entry", how=how, needs_entry=True)


@dataclass(frozen=True, slots=True)
class Workspace:
    """How a program may work in the request's `root`, an absolute path of a folder made for it.

    `edits`: whether `root` may be written. `temporary` is its own temporary folder (exists, absolute).
    `readable` stays readable wherever it lies, `hidden` is not even seen (absolute paths). Who edits may also
    write what is `writable`, but nothing that is `protected`, and sees each of `mounts` in the place of what lies
    there, where the sandbox can show it so. `network` is None where the engine decides. `permissions` is the
    plan's: what is asked is allowed once where a sandbox confines it, put to a person, or denied. A program that
    takes more than `memory_bytes`, with all that it started, is ended.
    """

    edits: bool
    temporary: str
    sandbox: Literal["auto", "required", "none"] = "auto"
    network: Literal["on", "loopback", "off"] | None = None
    readable: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    permissions: Literal["auto", "ask", "deny"] = "auto"
    memory_bytes: int | None = None
    writable: tuple[str, ...] = ()
    protected: tuple[str, ...] = ()
    mounts: tuple[Mount, ...] = ()


@light_record
class Request:
    """One turn. `root` is the folder to work in; `files` are relative to it; times are in seconds.

    The first `shared` characters of `prompt` are the same for every instance of the task, byte by byte, so
    that providers can cache them. `instructions` are the role's, for engines with a place for them
    (`Capabilities.takes_instructions`); others find them at the beginning of the prompt.
    `files_at` is where whoever carries the attempt out puts the files' text, for engines that take it.
    """

    run: str
    task: str
    attempt: int
    root: str
    prompt: str
    files: tuple[FilePart, ...] = ()
    output: OutputKind = "text"
    schema: Mapping[str, Any] | None = None
    model: str | None = None
    session: str | None = None
    turn: int = 1
    repeat: int = 0
    timeout_seconds: float = 1800.0
    idle_timeout_seconds: float = 300.0
    grace_seconds: float = 5.0
    env: Mapping[str, str] = field(default_factory=dict)
    pass_env: tuple[str, ...] = ()
    checklist: tuple[str, ...] = ()
    log: str | None = None  # a file for this attempt's stream and output
    workspace: Workspace | None = None
    shared: int = 0
    files_at: int | None = None
    instructions: str | None = None
    max_turns: int | None = None
    max_tokens: int | None = None
    temperature: float | None = None


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a request will take; None is unknown."""

    tokens: int | None = 0
    usd: float | None = 0.0
    memory_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Question:
    id: str
    what: str
    options: tuple[str, ...]
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    option: str
    by: str = "policy"


@dataclass(frozen=True, slots=True)
class Message:
    """What `send` brings into a running turn."""

    text: str
    by: str = ""


# The stream of one turn: exactly one `Final`, or an error, and nothing after it.


@dataclass(frozen=True, slots=True)
class SessionEvent:
    id: str
    type: Literal["session"] = "session"


@dataclass(frozen=True, slots=True)
class TextEvent:
    delta: str
    type: Literal["text"] = "text"


@dataclass(frozen=True, slots=True)
class StderrEvent:
    """What a program printed beside its answer."""

    delta: str
    type: Literal["stderr"] = "stderr"


@dataclass(frozen=True, slots=True)
class ToolEvent:
    id: str
    name: str
    state: Literal["started", "ended"]
    args: Mapping[str, Any] = field(default_factory=dict)
    exit: int | None = None
    type: Literal["tool"] = "tool"


@dataclass(frozen=True, slots=True)
class FilesEvent:
    paths: tuple[str, ...]
    type: Literal["files"] = "files"


@dataclass(frozen=True, slots=True)
class PlanEvent:
    items: tuple[str, ...]
    type: Literal["plan"] = "plan"


@dataclass(frozen=True, slots=True)
class AskingEvent:
    id: str
    what: str
    options: tuple[str, ...]
    type: Literal["asking"] = "asking"


@dataclass(frozen=True, slots=True)
class WaitingEvent:
    why: str
    until: str | None = None
    key: LimitKey | None = None
    type: Literal["waiting"] = "waiting"


@dataclass(frozen=True, slots=True)
class LimitWindow:
    limit: int | None
    remaining: int | None
    reset_seconds: float | None


@dataclass(frozen=True, slots=True)
class LimitsEvent:
    requests: LimitWindow | None
    tokens: LimitWindow | None
    type: Literal["limits"] = "limits"


@dataclass(frozen=True, slots=True)
class UsageEvent:
    """A difference to what was reported before in this turn."""

    usage: Usage
    type: Literal["usage"] = "usage"


@dataclass(frozen=True, slots=True)
class FinalEvent:
    ok: bool
    reason: str = "end_turn"
    type: Literal["final"] = "final"


EngineEvent = (
    SessionEvent
    | TextEvent
    | StderrEvent
    | ToolEvent
    | FilesEvent
    | PlanEvent
    | AskingEvent
    | WaitingEvent
    | LimitsEvent
    | UsageEvent
    | FinalEvent
)


def stream_to_json(event: EngineEvent) -> dict[str, Any]:
    """Turn an event of the stream into the JSON of CONTRACTS §7: the figures of `usage` beside its type."""
    if isinstance(event, UsageEvent):
        return {"type": event.type, **to_json(event.usage)}
    plain: dict[str, Any] = to_json(event)
    return {"type": plain.pop("type"), **plain}


class Permit(Protocol):
    """Leave for one call. Settle it with what the answer said, on failure too."""

    async def settle(self, usage: Usage | None = None, limits: LimitsEvent | None = None) -> None: ...


class Port(Protocol):
    """How a turn talks to whoever started it."""

    async def emit(self, event: EngineEvent) -> None:
        """Report something that happened in the turn."""

    async def permit(self, key: LimitKey, tokens: int) -> Permit:
        """Wait for leave to make one call to a provider; only engines that make calls themselves ask."""

    async def ask(self, question: Question) -> Answer:
        """Wait for a permission, answered by policy or by a person."""

    def inbox(self) -> AsyncIterator[Message]:
        """Give what `send` brings, until the turn ends."""


@runtime_checkable
class Engine(Protocol):
    """Who does a task. `perform` is one turn; being cancelled is `asyncio.CancelledError`."""

    name: str
    capabilities: Capabilities

    async def detect(self) -> Availability:
        """Say whether it can work here, from files and PATH; start no client, call no model."""

    def limit_key(self, request: Request) -> LimitKey:
        """Name the limit that this request counts for."""

    def estimate(self, request: Request) -> Estimate:
        """Foretell tokens, cost and memory; unknown is None."""

    async def perform(self, request: Request, port: Port) -> Reply:
        """Do one turn. Raises an `EngineError` of CONTRACTS §5."""

    def attach(self, session: str) -> list[str] | None:
        """Give the command that opens a session for a person, None if that cannot be."""

    async def aclose(self) -> None:
        """Let go of everything; the engine is not used afterwards."""
