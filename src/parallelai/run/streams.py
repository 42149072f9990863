"""The stream of each attempt, kept as JSON lines beside the journal: `attempts/<n>.jsonl` (CONTRACTS §8)."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

from parallelai.engines.protocol import (
    EngineEvent,
    FinalEvent,
    LimitsEvent,
    StderrEvent,
    TextEvent,
    UsageEvent,
    stream_to_json,
)
from parallelai.records import utc_now

MOST_BYTES = 64 * 1024 * 1024
"""A stream that floods is cut here; the attempt goes on."""
MOST_REPLY_CHARS = 200_000
"""How much is kept of a reply that could not be used."""
IN_JOURNAL = (FinalEvent, UsageEvent, LimitsEvent)
"""What a call without a stream says of itself: a file for each of a thousand calls would tell nothing more."""


class StreamLogs:
    """Writes what engines report while they work. A file is made when there is something to write."""

    def __init__(self, folder: Path, mask: Callable[[str], str]) -> None:
        self._folder = folder
        self._mask = mask
        self._open: dict[int, TextIO] = {}
        self._left: dict[int, int] = {}
        self._with_text: set[int] = set()

    def path(self, number: int) -> Path:
        """Where the stream of an attempt is, by the `seq` of its reservation."""
        return self._folder / "attempts" / f"{number}.jsonl"

    def write(self, number: int, event: EngineEvent) -> None:
        """Add one event. Usage and an end alone make no file: the journal has them."""
        if isinstance(event, IN_JOURNAL) and number not in self._open:
            return
        if isinstance(event, TextEvent):
            self._with_text.add(number)
        if isinstance(event, (TextEvent, StderrEvent)):
            event = dataclasses.replace(event, delta=self._mask(event.delta))
        # An argument of a tool may be what JSON has not: such an event is left out.
        with contextlib.suppress(TypeError, ValueError, RecursionError):
            self._write(number, stream_to_json(event))

    def keep_reply(self, number: int, text: str) -> None:
        """Add a reply that could not be used, its first part, unless its text was streamed."""
        if number not in self._with_text:
            self._write(number, {"type": "reply", "text": self._mask(text)[:MOST_REPLY_CHARS]})

    def _write(self, number: int, data: Mapping[str, Any]) -> None:
        line = json.dumps({"at": utc_now(), **data}, separators=(",", ":")) + "\n"
        left = self._left.get(number, MOST_BYTES) - len(line)
        self._left[number] = left
        if left < 0:
            return
        try:
            self._file(number).write(line)
        except OSError:  # no room: it is cut here, and what matters is in the journal, which will say so
            self._left[number] = 0

    def _file(self, number: int) -> TextIO:
        file = self._open.get(number)
        if file is None:
            path = self.path(number)
            path.parent.mkdir(parents=True, exist_ok=True)
            file = self._open[number] = path.open("a", encoding="utf-8", buffering=1)
        return file

    def close(self, number: int) -> None:
        """The attempt has ended."""
        self._left.pop(number, None)
        self._with_text.discard(number)
        file = self._open.pop(number, None)
        if file is not None:
            with contextlib.suppress(OSError):
                file.close()

    def close_all(self) -> None:
        """Close what is still open."""
        for number in list(self._open):
            self.close(number)
