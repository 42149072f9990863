"""The connection to one program's warden, seen from an event loop."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from typing import Protocol

from parallelai.processes import zygote
from parallelai.processes.specification import Specification
from parallelai.processes.walk import send
from parallelai.processes.warden import END, KILL


class Watcher(Protocol):
    """Who is told what becomes of the program. Exactly one of `failed`, `gone`, `lost` comes, as the last."""

    def started(self, root: int) -> None:
        """It runs; its tree is what is below the process `root`."""

    def used(self, peak_bytes: int) -> None:
        """So much memory its tree has taken at most, so far."""

    def over_memory(self) -> None:
        """It takes more memory than it may; it is being ended."""

    def refused(self, number: int, stage: str) -> None:
        """What confines it never started it: errno, 0 where its output says why, and at what."""

    def exited(self, status: int) -> None:
        """The main process ended, with this wait status; what it left is being ended."""

    def unendable(self, pids: str) -> None:
        """These processes survive SIGKILL; they are not waited for."""

    def failed(self, number: int, stage: str) -> None:
        """It could not be started: errno, and at what."""

    def gone(self) -> None:
        """Nothing of the tree is left."""

    def lost(self, *, is_started: bool) -> None:
        """Whoever guarded it is gone; `is_started` where the program may have been started."""


class Link(Protocol):
    """A way to start a program and to end its tree."""

    async def start(self, specification: Specification, streams: list[int]) -> None:
        """Start it with copies of these three descriptors. Raises OSError, ProgramError."""

    def end(self, *, at_once: bool) -> None:
        """End the tree: SIGINT, the grace, SIGKILL; or SIGKILL at once."""

    def abandon(self) -> None:
        """Give up a guard that does not answer; `lost` follows."""

    def close(self) -> None:
        """Let go of everything; a tree that still runs is ended, by its warden."""


class WardenLink:
    """A `Link` by a warden."""

    def __init__(self, watcher: Watcher, loop: asyncio.AbstractEventLoop) -> None:
        self._watcher = watcher
        self._loop = loop
        self._control: socket.socket | None = None
        self._received = bytearray()
        self._unsent = bytearray()
        self._warden = 0

    async def start(self, specification: Specification, streams: list[int]) -> None:
        self._control, theirs = socket.socketpair()
        self._control.setblocking(False)
        with theirs:
            await zygote.hand_over([theirs.fileno(), *streams])
        self._loop.add_reader(self._control, self._read, self._control)
        self._send(specification.encode())

    def end(self, *, at_once: bool) -> None:
        self._send(KILL if at_once else END)

    def abandon(self) -> None:
        if self._control is None:
            return
        if self._warden:
            send(self._warden, signal.SIGKILL)
        else:  # the zygote is stopped, or hangs: a warden that it still forks finds nobody, and ends
            self.close()
            self._watcher.lost(is_started=False)

    def close(self) -> None:
        control, self._control = self._control, None
        if control is None:
            return
        if not self._loop.is_closed():
            self._loop.remove_reader(control)
            self._loop.remove_writer(control)
        try:
            # A forked copy of this process may hold the socket open: say the end, rather than let go.
            control.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the warden has gone before
        finally:
            control.close()

    def _send(self, data: bytes) -> None:
        self._unsent += data
        self._write()

    def _write(self) -> None:
        if self._control is None:
            return
        try:
            while self._unsent:
                del self._unsent[: self._control.send(self._unsent)]
        except BlockingIOError:
            self._loop.add_writer(self._control, self._write)
            return
        except OSError:
            self._unsent.clear()  # its end shows when reading
        self._loop.remove_writer(self._control)

    def _read(self, control: socket.socket) -> None:
        try:
            data = control.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._received += data
        *lines, rest = self._received.split(b"\n")
        self._received = rest
        for line in lines:
            self._take(line.decode())
        if not data and self._control is not None:
            self.close()
            self._watcher.lost(is_started=self._warden != 0)

    def _take(self, line: str) -> None:
        kind, _, rest = line.partition(" ")
        watcher = self._watcher
        if kind == "R":
            self._warden = int(rest)
        elif kind in ("F", "G"):
            self.close()
            self._conclude(kind, rest)
        else:
            {
                "S": lambda _: watcher.started(self._warden),
                "M": lambda peak: watcher.used(int(peak)),
                "O": lambda _: watcher.over_memory(),
                "X": lambda status: watcher.exited(int(status)),
                "N": lambda failure: watcher.refused(*_number_and_stage(failure)),
                "L": watcher.unendable,
            }[kind](rest)

    def _conclude(self, kind: str, rest: str) -> None:
        if kind == "G":
            self._watcher.gone()
        else:
            self._watcher.failed(*_number_and_stage(rest))


def _number_and_stage(text: str) -> tuple[int, str]:
    number, _, stage = text.partition(" ")
    return int(number), stage


def exit_and_signal(status: int) -> tuple[int | None, int | None]:
    """Split a wait status into exit code and signal, one of which is None."""
    code = os.waitstatus_to_exitcode(status)
    return (code, None) if code >= 0 else (None, -code)
