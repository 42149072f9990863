"""What a warden knows of bubblewrap, which stands between it and the program.

A warden loads this file, too; it imports next to nothing.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
from collections.abc import Callable

from parallelai.processes.walk import children, send

_STATUS_BYTES = 65536
_STAGES = {b"B": b"bridge", b"F": b"exec"}
_SIGNALED = 128
"""To what bubblewrap, as shells do, adds the number of a signal: code 143 and SIGTERM look alike."""


class Wrapper:
    """One launch's bubblewrap: its report of what became of the program, and the bridge out of its network."""

    def __init__(self, ports: tuple[int, ...], prctl: Callable[[int, int], None]) -> None:
        self.relay = 0  # its pid
        self.bridge: socket.socket | None = None
        self._ports = ports
        self._prctl = prctl
        self._status, status = os.pipe()
        os.set_blocking(self._status, False)
        self.inner = [status]
        self.failure = b"0 confine"  # errno and stage; 0 where bubblewrap says what it is
        if ports:
            self.bridge, theirs = socket.socketpair()
            self.inner.append(theirs.detach())

    def serve_bridge(self) -> None:
        """Take what comes from the bridge's inner half: its listeners, why it failed, or its end."""
        bridge = self.bridge
        if bridge is None:
            return
        room = socket.CMSG_LEN(4 * len(self._ports))
        message, controls, _, _ = bridge.recvmsg(64, room, socket.MSG_CMSG_CLOEXEC)
        for _, _, data in controls:
            self._start_relay([number for (number,) in struct.iter_unpack("i", data[: len(data) // 4 * 4])])
        if message[:1] in _STAGES:
            self.failure = b"%d %s" % (int(message[1:]), _STAGES[message[:1]])
        elif not message:
            self.bridge = None
            bridge.close()

    def _start_relay(self, listeners: list[int]) -> None:
        from parallelai.processes.relay import fork_relay  # not for those without

        try:
            if len(listeners) == len(self._ports) and not self.relay:
                self.relay = fork_relay(listeners, self._ports, self._prctl)
        finally:
            for descriptor in listeners:
                os.close(descriptor)

    def spared(self, main: int) -> set[int]:
        """Return who is not to be asked to end: with bubblewrap's own processes all others end at once."""
        return {main, self.relay, *(children(main) if main else ())}

    def main_ended(self) -> None:
        """Have the relay end, which nobody needs any more."""
        if self.relay:
            send(self.relay, signal.SIGKILL)

    def outcome(self, status: int) -> int | None:
        """Return the program's wait status, None where it was never started."""
        if os.WIFSIGNALED(status):
            return status
        while self.bridge is not None:  # a failure may have come since
            self.serve_bridge()
        if self.failure[:2] != b"0 " or b'"exit-code"' not in self._read_status():
            return None
        code = os.WEXITSTATUS(status)
        number = code - _SIGNALED
        return number if 0 < number < 32 else code << 8

    def _read_status(self) -> bytes:
        try:
            return os.read(self._status, _STATUS_BYTES)
        except BlockingIOError:
            return b""
