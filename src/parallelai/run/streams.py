"""The stream of each attempt, kept as JSON lines beside the journal: `attempts/<n>.jsonl` (CONTRACTS §8)."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from queue import SimpleQueue
from typing import Any

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
    """Keeps what engines report while they work. A file is made when there is something to write.

    A thread of its own writes: to make a file takes a disk longer than the loop needs for a whole attempt, and
    of a hundred calls that end together the next ones would wait for it. `close` waits for the thread.
    """

    def __init__(self, folder: Path, mask: Callable[[str], str]) -> None:
        self._folder = folder / "attempts"
        self._mask = mask
        self._left: dict[int, int] = {}  # bytes, of the attempts that have a file
        self._with_text: set[int] = set()
        self._lines: SimpleQueue[tuple[int, str] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._cut: set[int] = set()  # whose file could not be written; of who writes alone

    def write(self, number: int, event: EngineEvent) -> None:
        """Add one event. Usage and an end alone make no file: the journal has them."""
        if isinstance(event, IN_JOURNAL) and number not in self._left:
            return
        if isinstance(event, TextEvent):
            self._with_text.add(number)
        if isinstance(event, (TextEvent, StderrEvent)):
            event = dataclasses.replace(event, delta=self._mask(event.delta))
        # An argument of a tool may be what JSON has not: such an event is left out.
        with contextlib.suppress(TypeError, ValueError, RecursionError):
            self._add(number, stream_to_json(event))

    def keep_reply(self, number: int, text: str) -> None:
        """Add a reply that could not be used, its first part, unless its text was streamed."""
        if number not in self._with_text:
            self._add(number, {"type": "reply", "text": self._mask(text)[:MOST_REPLY_CHARS]})

    def ended(self, number: int) -> None:
        """The attempt, named by the `seq` of its reservation, has ended."""
        self._left.pop(number, None)
        self._with_text.discard(number)

    def close(self) -> None:
        """Wait until all of it is written."""
        if self._thread is not None:
            self._lines.put(None)
            self._thread.join()
            self._thread = None

    def _add(self, number: int, data: Mapping[str, Any]) -> None:
        line = json.dumps({"at": utc_now(), **data}, separators=(",", ":")) + "\n"
        left = self._left[number] = self._left.get(number, MOST_BYTES) - len(line)
        if left < 0:
            return
        if self._has_thread():
            self._lines.put((number, line))
        else:
            self._append(number, line)

    def _has_thread(self) -> bool:
        """Whether a thread writes, which is started here; False where the machine has none left."""
        if self._thread is None:
            thread = threading.Thread(target=self._work, name="streams", daemon=True)
            with contextlib.suppress(RuntimeError):
                thread.start()
                self._thread = thread
        return self._thread is not None

    # In the thread.

    def _work(self) -> None:
        is_last = False
        while not is_last:
            texts: dict[int, list[str]] = {}
            item = self._lines.get()
            while item is not None:
                texts.setdefault(item[0], []).append(item[1])
                if self._lines.empty():
                    break
                item = self._lines.get()
            is_last = item is None
            for number, lines in texts.items():
                self._append(number, "".join(lines))

    def _append(self, number: int, text: str) -> None:
        if number in self._cut:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with (self._folder / f"{number}.jsonl").open("a", encoding="utf-8") as file:
                file.write(text)
        except OSError:  # no room: it is cut here, and what matters is in the journal, which will say so
            self._cut.add(number)
