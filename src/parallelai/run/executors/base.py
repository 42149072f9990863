"""The executor interface: where attempts are carried out (CONTRACTS §7).

An executor takes specs that are plain data, and gives events back; permits, answers and retries stay with the
coordinator, so that an executor on another machine can be one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from parallelai.engines.protocol import Answer, EngineEvent, Message, Permit, Question, Request
from parallelai.errors import EngineError
from parallelai.records import LimitKey, Reply, Usage


@dataclass(frozen=True, slots=True)
class AttemptId:
    task: str
    attempt: int


@dataclass(frozen=True, slots=True)
class AttemptSpec:
    """One attempt to carry out: which engine, and its first turn's request."""

    id: AttemptId
    engine: str
    request: Request


@dataclass(frozen=True, slots=True)
class AttemptStreamed:
    """Something that the engine reported while it worked."""

    id: AttemptId
    event: EngineEvent


@dataclass(frozen=True, slots=True)
class AttemptDone:
    """The end of an attempt: a reply or an error, never both. `error` is None too if it was cancelled."""

    id: AttemptId
    seconds: float
    reply: Reply | None = None
    error: EngineError | None = None
    usage: Usage | None = None


ExecutorEvent = AttemptStreamed | AttemptDone


class Coordinator(Protocol):
    """What an attempt may ask of whoever runs it."""

    async def permit(self, id: AttemptId, key: LimitKey, tokens: int) -> Permit:
        """Wait for leave to make one call."""

    async def ask(self, id: AttemptId, question: Question) -> Answer:
        """Wait for a permission."""


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
