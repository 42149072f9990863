"""What goes into a program: its standard input, given at once or while it runs."""

from __future__ import annotations

import asyncio
import os
from collections import deque

_CHUNK = 65536


class Feed:
    """What is written to a program's stdin while it runs; for one program.

    Call it from the event loop. What is written before the start is kept; what is written after `close()`, or
    after the program's end, is dropped. What the program has not read yet is held in memory, all of it.
    """

    def __init__(self) -> None:
        self._waiting: list[bytes] = []
        self._is_closed = False
        self._input: Input | None = None

    def write(self, data: bytes) -> None:
        """Have `data` written as soon as the program takes it."""
        if self._is_closed or not data:
            return
        if self._input is not None:
            self._input.add(data)
        else:
            self._waiting.append(data)

    def close(self) -> None:
        """Say that nothing more comes: the program reads an end after all that was written."""
        self._is_closed = True
        if self._input is not None:
            self._input.finish()

    def attach(self, target: Input) -> None:
        """Hand over what has come, and all that comes, to a started program's input."""
        waiting, self._waiting = self._waiting, []
        self._input = target
        for data in waiting:
            target.add(data)
        if self._is_closed:
            target.finish()

    def detach(self) -> None:
        """Drop what comes from now on: the program has ended."""
        self._is_closed = True
        self._input = None
        self._waiting.clear()


class Input:
    """The writing end of one program's stdin. It never blocks; it is closed once all is written."""

    def __init__(
        self, descriptor: int, loop: asyncio.AbstractEventLoop, data: bytes, feed: Feed | None
    ) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._loop = loop
        self._unwritten: deque[memoryview] = deque([memoryview(data)] if data else ())
        self._feed = feed
        self._is_finished = feed is None
        self._is_watched = False
        self._is_started = False

    def start(self) -> None:
        """Begin to write. Not before the program runs: what a lost launch took could not be written again."""
        if self._is_started or self._descriptor < 0:
            return
        self._is_started = True
        if self._feed is not None:
            self._feed.attach(self)
        self._write()

    def add(self, data: bytes) -> None:
        """Write `data` after what is waiting."""
        if self._descriptor >= 0:
            self._unwritten.append(memoryview(data))
            self._write()

    def finish(self) -> None:
        """Close the stream after what is waiting."""
        self._is_finished = True
        self._write()

    def close(self) -> None:
        """Close the stream now; what is waiting is dropped."""
        if self._descriptor < 0:
            return
        self._watch(False)
        os.close(self._descriptor)
        self._descriptor = -1
        self._unwritten.clear()
        if self._feed is not None and self._is_started:
            self._feed.detach()

    def _write(self) -> None:
        if self._descriptor < 0 or not self._is_started:
            return
        try:
            while self._unwritten:
                self._write_some()
        except BlockingIOError:
            self._watch(True)
            return
        except BrokenPipeError:
            self.close()  # it does not want the rest
            return
        self._watch(False)
        if self._is_finished:
            self.close()

    def _write_some(self) -> None:
        data = self._unwritten[0]
        rest = data[os.write(self._descriptor, data[:_CHUNK]) :]
        if rest:
            self._unwritten[0] = rest
        else:
            self._unwritten.popleft()

    def _watch(self, is_wanted: bool) -> None:
        if is_wanted == self._is_watched or self._loop.is_closed():
            return
        self._is_watched = is_wanted
        if is_wanted:
            self._loop.add_writer(self._descriptor, self._write)
        else:
            self._loop.remove_writer(self._descriptor)
