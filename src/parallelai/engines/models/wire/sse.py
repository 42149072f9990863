"""Server-sent events, as model APIs stream them (the `text/event-stream` of the HTML standard)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from parallelai.errors import Invalid

MAX_EVENT_BYTES = 8 * 1024 * 1024
"""One event that is longer is refused."""


class EventStream:
    """Splits the bytes of a stream into events of a kind and JSON data.

    Tolerant, because servers differ: any line end, comments, an `event:` that is missing, data that are no
    JSON (passed over), a last event without its empty line. `is_done` once `[DONE]` was seen.
    """

    def __init__(self) -> None:
        self.is_done = False
        self._rest = b""
        self._kind = ""
        self._data: list[bytes] = []
        self._size = 0

    def take(self, chunk: bytes) -> Iterator[tuple[str, Any]]:
        """Give the events that a piece of the stream completes. Raises `Invalid` for an endless one."""
        lines = (self._rest + chunk).splitlines(keepends=True) if self._rest else chunk.splitlines(True)
        self._rest = b""
        if lines and not lines[-1].endswith(b"\n"):  # a lone `\r` may be half of an end
            self._rest = lines.pop()
        for line in lines:
            yield from self._line(line.rstrip(b"\r\n"))
        if self._size + len(self._rest) > MAX_EVENT_BYTES:
            raise Invalid("the stream holds an event without an end")

    def end(self) -> Iterator[tuple[str, Any]]:
        """Give what the stream's end completes."""
        rest, self._rest = self._rest, b""
        if rest:
            yield from self._line(rest.rstrip(b"\r"))
        yield from self._event()

    def _line(self, line: bytes) -> Iterator[tuple[str, Any]]:
        if not line:
            yield from self._event()
            return
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
            self._size += len(value)
        elif name == b"event":
            self._kind = value.decode("utf-8", "replace")

    def _event(self) -> Iterator[tuple[str, Any]]:
        data, kind = b"\n".join(self._data), self._kind
        self._data, self._kind, self._size = [], "", 0
        if not data:
            return
        if data.strip() == b"[DONE]":
            self.is_done = True
            return
        try:
            yield kind, json.loads(data)
        except (ValueError, RecursionError):  # not for us: keep-alives, servers' own chatter
            return
