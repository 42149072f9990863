"""What a wire format gives to the server: one module each, beside this one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from scripted.faults import Fault
from scripted.script import Answer, Call


class Wire(Protocol):
    """A model API. `paths` are the POST routes that generate, in aiohttp's notation."""

    name: str
    paths: tuple[str, ...]

    def read(self, body: Any, place: Mapping[str, str]) -> Call:
        """Read a request; `place` are the variables of its path, and its query."""

    def document(self, answer: Answer, call: Call) -> Any:
        """Write a whole answer."""

    def events(self, answer: Answer, call: Call) -> Iterator[bytes]:
        """Write an answer as server-sent events, one a piece."""

    def error(self, fault: Fault) -> Any:
        """Write the body of an error answer."""

    def error_event(self, fault: Fault) -> bytes:
        """Write an error within a stream."""


def sse(data: Any, event: str | None = None) -> bytes:
    """Write one server-sent event."""
    head = f"event: {event}\n" if event else ""
    return f"{head}data: {json.dumps(data)}\n\n".encode()


def pieces(text: str, size: int = 40) -> list[str]:
    """Cut a text into the deltas of a stream; at least one."""
    return [text[start : start + size] for start in range(0, len(text), size)] or [""]
