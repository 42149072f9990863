"""What a program prints: bounded in memory, cut into lines, spilled to a log."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path

LOG_BYTES = 256 * 1024 * 1024
MASKING: ContextVar[Callable[[str], str] | None] = ContextVar("masking", default=None)
"""What makes text fit to be kept: set around a run, it holds for the logs of all programs started in it."""
_MOST_HELD = 64 * 1024
_LONGEST_SECRET = 1024
_KEY_BEGINS, _KEY_ENDS = b"-----BEGIN ", b"-----END "
_LOG_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC


class Log:
    """A file that output is appended to as it comes, until it holds `limit` bytes.

    A log that cannot be written does not fail the program: `problem` then says why, and the rest is dropped.
    """

    def __init__(self, path: Path, limit: int = LOG_BYTES) -> None:
        self.problem: str | None = None
        self._mask = MASKING.get()
        self._held = b""
        self._path = path
        self._descriptor = -1
        self._room = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(path, _LOG_FLAGS, 0o600)
            self._room = max(0, limit - os.fstat(self._descriptor).st_size)
        except OSError as error:
            self._fail(error)

    def write(self, data: bytes) -> None:
        """Append `data`, as much of it as there is room for. Where it is masked, whole lines only."""
        if self._mask is None:
            self._write(data)
            return
        held = self._held + data
        end = _whole(held)
        self._held = held[end:]
        self._write(_masked(self._mask, held[:end]))

    def _write(self, data: bytes) -> None:
        if self._descriptor < 0:
            return
        try:
            self._append(data[: self._room])
            self._room -= len(data)
            if self._room < 0:
                self._held = b""
                self._append(b"\n[the log is full: what follows was left out]\n")
                self.close()
        except OSError as error:
            self._fail(error)

    def close(self) -> None:
        """Close the file; what is written afterwards is dropped."""
        held, self._held = self._held, b""
        if held and self._mask is not None:
            self._write(_masked(self._mask, held))
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _append(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def _fail(self, error: OSError) -> None:
        self._held = b""
        self.close()
        self.problem = f"the log `{self._path}` could not be written: {error.strerror}"


def _whole(data: bytes) -> int:
    """Say how much of the data can be masked by itself: whole lines, and keys that have ended.

    Of what has no end, all but the last part, in which a secret may have begun.
    """
    end = data.rfind(b"\n") + 1
    key = data.rfind(_KEY_BEGINS)
    if key >= 0:
        last_line = data.find(_KEY_ENDS, key)
        if last_line < 0 or data.find(b"\n", last_line) < 0:
            end = min(end, key)
    return end if len(data) - end <= _MOST_HELD else len(data) - _LONGEST_SECRET


def _masked(mask: Callable[[str], str], data: bytes) -> bytes:
    return mask(data.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")


class Capture:
    """One output stream: at most `limit` bytes are kept, the first and the last of it.

    `on_line` gets each line without its line end, the last one also where it has none; of a line longer than
    `limit` it gets the beginning.
    """

    def __init__(self, limit: int, on_line: Callable[[bytes], None] | None, log: Log | None) -> None:
        self.left_out = 0
        self._limit = limit
        self._half = limit // 2
        self._head = bytearray()
        self._tail = bytearray()
        self._on_line = on_line
        self._partial = bytearray()
        self._log = log

    def feed(self, data: bytes) -> None:
        """Take the next bytes. Raises what `on_line` raises; the bytes are kept all the same."""
        if self._log is not None:
            self._log.write(data)
        self._keep(data)
        if self._on_line is not None:
            self._give_lines(data, self._on_line)

    def finish(self) -> None:
        """Give the last line, where the stream did not end with a line end."""
        if self._on_line is not None and self._partial:
            self._give(self._on_line)

    def stop_lines(self) -> None:
        """Give no more lines."""
        self._on_line = None
        self._partial.clear()

    @property
    def value(self) -> bytes:
        """All that came; where it was too much, the first and the last of it, with a word between."""
        gap = b"\n[%d bytes left out]\n" % self.left_out if self.left_out else b""
        return b"".join((self._head, gap, self._tail))

    def _keep(self, data: bytes) -> None:
        room = self._half - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        self._tail += data
        excess = len(self._tail) - (self._limit - self._half)
        if excess > 0:
            self.left_out += excess
            del self._tail[:excess]

    def _give_lines(self, data: bytes, on_line: Callable[[bytes], None]) -> None:
        first, *others = data.split(b"\n")
        self._extend(first)
        for piece in others:
            self._give(on_line)
            self._extend(piece)

    def _extend(self, piece: bytes) -> None:
        self._partial += piece[: max(0, self._limit - len(self._partial))]

    def _give(self, on_line: Callable[[bytes], None]) -> None:
        line = bytes(self._partial)
        self._partial.clear()
        on_line(line)
