"""The executor interface: where attempts are carried out (CONTRACTS §7).

An executor takes specs that are plain data, and gives events back; permits, answers and retries stay with the
coordinator, so that an executor on another machine can be one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple, Protocol

from parallelai.engines.protocol import Answer, EngineEvent, Message, Permit, Question, Request, Workspace
from parallelai.errors import EngineError
from parallelai.records import LimitKey, Reply, Usage
from parallelai.run.workspaces import PLAIN, Measured, Work


class AttemptId(NamedTuple):
    """Names an attempt; a tuple, because it is looked up so often."""

    task: str
    attempt: int


class AttemptSpec(NamedTuple):
    """One attempt to carry out: which engine, its first turn's request, and what else it has to do."""

    id: AttemptId
    engine: str
    request: Request
    work: Work = PLAIN


class AttemptStreamed(NamedTuple):
    """Something that the engine reported while it worked."""

    id: AttemptId
    event: EngineEvent


class AttemptPlaced(NamedTuple):
    """An attempt has its folder: `base` is the commit that it was cut from. `is_over`: it is removed again."""

    id: AttemptId
    path: str
    base: str
    edits: bool
    is_over: bool = False


class AttemptTurned(NamedTuple):
    """A turn after the first began, or one that another follows ended: then it has `reason`."""

    id: AttemptId
    turn: int
    seconds: float = 0.0
    reason: str | None = None


class AttemptDone(NamedTuple):
    """The end of an attempt: a reply or an error, never both. `error` is None too if it was cancelled.

    `measured` is the change of one that edits, `calls` how many permits were granted; `kept` is the patch, below
    the root, of what one that failed had changed.
    """

    id: AttemptId
    seconds: float
    reply: Reply | None = None
    error: EngineError | None = None
    usage: Usage | None = None
    measured: Measured | None = None
    calls: int = 0
    kept: str | None = None


class AttemptParked(NamedTuple):
    """An attempt waits for another task and needs no slot meanwhile; or, not `is_waiting`, goes on."""

    id: AttemptId
    is_waiting: bool


ExecutorEvent = AttemptStreamed | AttemptPlaced | AttemptTurned | AttemptParked | AttemptDone


class Coordinator(Protocol):
    """What an attempt may ask of whoever runs it."""

    async def permit(self, id: AttemptId, key: LimitKey, tokens: int) -> Permit:
        """Wait for leave to make one call."""

    async def ask(self, id: AttemptId, question: Question, workspace: Workspace | None = None) -> Answer:
        """Wait for a permission; `workspace` is where the assistant works."""


class Executor(Protocol):
    """Carries out attempts. Every started attempt gives exactly one `AttemptDone`."""

    def start(self, spec: AttemptSpec) -> AttemptId:
        """Begin an attempt and return its handle at once."""

    def events(self) -> AsyncIterator[Sequence[ExecutorEvent]]:
        """Give what happened, in order, in batches; ends after `aclose`."""

    def send(self, id: AttemptId, message: Message) -> bool:
        """Pass a message to a running turn; False if it cannot take one."""

    def cancel(self, id: AttemptId) -> None:
        """End an attempt with all that it started; it is done when its event says so."""

    def capacity(self) -> int | None:
        """Say how many attempts can run at once; None is no limit of its own."""
