"""What the formats have in common: what is asked, and what came back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from msgspec import Struct

Stop = Literal["end", "length", "refused"]
Headers = Mapping[str, str]

LEAST_CACHED = 4_096
"""Characters, about 1,024 tokens: what prompts begin with is cached by no provider if it is shorter."""


class Structure(Struct, frozen=True):
    """A JSON Schema that the server is to hold the answer to.

    `is_strict`: it fits OpenAI's strict subset (every property required, no others). `is_wrapped`: what the
    task wants is below the key `value`, because servers take objects only.
    """

    name: str
    schema: Mapping[str, Any]
    is_strict: bool = False
    is_wrapped: bool = False


@dataclass(frozen=True, slots=True)
class Ask:
    """One call. The first `shared` characters of `prompt` are marked for the provider's cache.

    `earlier` is a pair of an answer and what was said to it, for a repair: both follow the prompt.
    """

    model: str
    prompt: str
    shared: int = 0
    instructions: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    structure: Structure | None = None
    stream: bool = False
    earlier: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """Tokens as a server counts them; None is unknown. `input` holds `cached` and `written` (to its cache)."""

    input: int | None = None
    cached: int | None = None
    output: int | None = None
    reasoning: int | None = None
    written: int | None = None
    usd: float | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """What a model answered. `said` is why it stopped, in the server's words, where that matters."""

    text: str
    counts: Counts = Counts()
    stop: Stop = "end"
    said: str = ""
    model: str | None = None


class StreamReader(Protocol):
    """Puts a streamed answer together."""

    def take(self, kind: str, data: Any) -> str:
        """Take an event, and give the text that it adds. Raises `EngineError` for one that is an error."""

    def end(self, is_done: bool = False) -> Completion:
        """Give the whole; `is_done`: the stream said so. Raises `Transient` where it was cut."""


class Wire(Protocol):
    """A format: where it is spoken, what is sent, how the answer is read."""

    @property
    def path(self) -> str:
        """What follows the base address."""

    def body(self, ask: Ask) -> dict[str, Any]:
        """Write the request."""

    def read(self, data: Any) -> Completion:
        """Read a whole answer. Raises `Transient` for what is none."""

    def reader(self) -> StreamReader:
        """Read a streamed one."""


def count(value: Any) -> int | None:
    """A number of tokens, None for whatever is none."""
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**12
    return value if is_count else None


def text(value: Any) -> str:
    """A text, empty for whatever is none."""
    return value if isinstance(value, str) else ""


def mapping(value: Any) -> Mapping[str, Any]:
    """A JSON object, empty for whatever is none."""
    return value if isinstance(value, dict) else {}


def items(value: Any) -> list[Mapping[str, Any]]:
    """The JSON objects of a list, none for whatever is none."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
