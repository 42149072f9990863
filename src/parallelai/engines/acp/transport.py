"""The wire between the protocol's SDK and a program: a JSON message a line, in both directions.

The SDK starts a task for each notification and writes to the root logger whatever it cannot read. A library
must do neither with what a stranger sends, so messages are looked at here first: updates go straight to
whoever waits for them, in order; what only a broken agent sends is counted; the SDK sees well-formed requests
and answers.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, Protocol

MAX_QUEUED = 10_000
"""Requests and answers that may wait to be read; an agent that sends more of them is broken."""
MAX_BYTES = 256 * 1024 * 1024
"""What an agent may send in one turn."""
_METHOD_NOT_FOUND = -32601
PERMISSION = "session/request_permission"
UPDATE = "session/update"


class Sink(Protocol):
    """Where what is sent goes: a program's stdin (`processes.Feed`)."""

    def write(self, data: bytes) -> None:
        """Send bytes; after the program's end they are dropped."""

    def close(self) -> None:
        """Send the end of input."""


class LineTransport:
    """A `Transport` of the SDK over lines. `on_update` gets the params of each `session/update`.

    `malformed` counts lines that are no message. `is_flooded` says that more came than is read: the end of the
    stream is then reported, whatever comes.
    """

    def __init__(self, sink: Sink, on_update: Callable[[Any], None]) -> None:
        self.malformed = 0
        self.last_malformed = b""
        self.is_flooded = False
        self._sink = sink
        self._on_update = on_update
        self._received: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._bytes = 0

    # What the program prints

    def take(self, line: bytes) -> None:
        """Take one line of the program's stdout. Never raises."""
        self._bytes += len(line)
        if self._bytes > MAX_BYTES or self._received.qsize() > MAX_QUEUED:
            self._flooded()
            return
        if not line.strip():
            return
        message = _read(line)
        if message is None:
            self.malformed += 1
            self.last_malformed = line[:400]
        elif "method" not in message:
            self._received.put_nowait(message)
        elif message["method"] == UPDATE:
            self._on_update(message.get("params"))
        elif "id" in message:
            self._asked(message)

    def end(self) -> None:
        """Say that no line will come."""
        self._received.put_nowait(None)

    def begin_turn(self) -> None:
        """Count what is sent from here on."""
        self._bytes = 0

    def _asked(self, message: dict[str, Any]) -> None:
        """Pass on the one request that this client offers; refuse all others, files and terminals included."""
        if message["method"] == PERMISSION:
            self._received.put_nowait(message)
            return
        error = {"code": _METHOD_NOT_FOUND, "message": "Method not found"}
        self._write({"jsonrpc": "2.0", "id": message["id"], "error": error})

    def _flooded(self) -> None:
        if not self.is_flooded:
            self.is_flooded = True
            while not self._received.empty():  # not another queue: somebody may wait at this one
                self._received.get_nowait()
            self.end()

    def _write(self, message: dict[str, Any]) -> None:
        self._sink.write(json.dumps(message, separators=(",", ":")).encode("ascii") + b"\n")

    # What the SDK calls

    async def send(self, message: dict[str, Any]) -> None:
        """Send a message to the program."""
        self._write(message)

    async def receive(self) -> dict[str, Any] | None:
        """Wait for the next request or answer; None at the end."""
        return await self._received.get()

    async def close(self) -> None:
        """End the program's input."""
        self._sink.close()


def _read(line: bytes) -> dict[str, Any] | None:
    """Read one message; None where it is none that the SDK could handle without a crash."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict) or not _has_good_id(message):
        return None
    if "method" in message:
        return message if isinstance(message["method"], str) else None
    if "id" not in message or not ("result" in message or "error" in message):
        return None
    if "result" not in message:
        message["error"] = _error(message["error"])
    return message


def _has_good_id(message: dict[str, Any]) -> bool:
    id = message.get("id", 0)
    return isinstance(id, int | str) and not isinstance(id, bool)


def _error(error: Any) -> dict[str, Any]:
    """Give an error of JSON-RPC its shape, whatever was sent for one."""
    given = error if isinstance(error, dict) else {"message": str(error)}
    code = given.get("code")
    is_code = isinstance(code, int) and not isinstance(code, bool)
    message = given.get("message")
    return {
        "code": code if is_code else -32603,
        "message": message if isinstance(message, str) else "",
        "data": given.get("data"),
    }
