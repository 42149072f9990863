"""The bridge's outer half: carries what comes to a confined program's ports to the same ports out here.

The listening sockets were made in the program's network namespace, where nothing else is; a socket stays in
the namespace that it was made in, whoever holds it. A warden forks a process that loads this file; it
imports next to nothing.
"""

from __future__ import annotations

import os
import select
import signal
import socket
from collections.abc import Callable, Sequence
from typing import NoReturn

_PR_SET_PDEATHSIG = 1
_CHUNK = 65536
_BUFFER = 4 * _CHUNK
_CONNECTIONS = 200  # at once; further ones wait


def fork_relay(listeners: list[int], ports: Sequence[int], prctl: Callable[[int, int], None]) -> int:
    """Start the relay as a child of this process, with which it dies; return its pid. Raises OSError."""
    pid = os.fork()
    if pid:
        return pid
    try:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.set_wakeup_fd(-1)
        _close_all_but(listeners)
        _serve(listeners, ports)
    finally:
        os._exit(1)


def _close_all_but(kept: list[int]) -> None:
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - pathlib is not loaded here
        if int(name) not in kept:
            try:
                os.close(int(name))
            except OSError:
                continue  # the one of the listing


def _serve(listeners: list[int], ports: Sequence[int]) -> NoReturn:
    relay = _Relay()
    for descriptor, port in zip(listeners, ports, strict=True):
        relay.listen(socket.socket(fileno=descriptor), port)
    while True:
        relay.step()


class _Side:
    """One end of a connection: its socket, and what is still to be written to it."""

    def __init__(self, own: socket.socket) -> None:
        self.socket = own
        self.unsent = bytearray()
        self.has_ended = False  # it gives no more
        self.is_shut = False  # it gets no more
        self.other = self


class _Relay:
    """Accepts, connects and carries, in one thread."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._listeners: dict[int, tuple[socket.socket, int]] = {}
        self._sides: dict[int, _Side] = {}
        self._is_accepting = True

    def listen(self, listener: socket.socket, port: int) -> None:
        listener.setblocking(False)
        self._listeners[listener.fileno()] = (listener, port)
        self._poll.register(listener, select.POLLIN)

    def step(self) -> None:
        for descriptor, event in self._poll.poll():
            if descriptor in self._listeners:
                self._accept(*self._listeners[descriptor])
            elif descriptor in self._sides:
                self._carry(self._sides[descriptor], event)
        self._open_or_shut_the_door()

    def _accept(self, listener: socket.socket, port: int) -> None:
        try:
            inner, _ = listener.accept()
        except OSError:
            return  # it has changed its mind
        outer = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        for one in (inner, outer):
            one.setblocking(False)
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        outer.connect_ex(("127.0.0.1", port))  # its failure shows when it is written to, or read
        sides = (_Side(inner), _Side(outer))
        for side, other in (sides, sides[::-1]):
            side.other = other
            self._sides[side.socket.fileno()] = side
        self._watch(sides[0])
        self._poll.register(outer, select.POLLOUT)  # once it is connected, what it gives is read

    def _carry(self, side: _Side, event: int) -> None:
        try:
            if event & select.POLLOUT:
                self._send(side)
            if event & (select.POLLIN | select.POLLHUP | select.POLLERR):
                self._receive(side)
        except OSError:
            self._drop(side)
            return
        if side.is_shut and side.other.is_shut:
            self._drop(side)
            return
        for one in (side, side.other):
            self._watch(one)

    def _receive(self, side: _Side) -> None:
        if side.has_ended or len(side.other.unsent) >= _BUFFER:
            return
        try:
            data = side.socket.recv(_CHUNK)
        except BlockingIOError:
            return
        side.other.unsent += data
        side.has_ended = not data
        self._send(side.other)

    def _send(self, side: _Side) -> None:
        try:
            while side.unsent:
                del side.unsent[: side.socket.send(side.unsent[:_CHUNK])]
        except BlockingIOError:
            return
        if side.other.has_ended and not side.is_shut:
            side.is_shut = True
            side.socket.shutdown(socket.SHUT_WR)

    def _watch(self, side: _Side) -> None:
        is_read = not side.has_ended and len(side.other.unsent) < _BUFFER
        events = select.POLLIN * is_read | select.POLLOUT * bool(side.unsent)
        if events:
            self._poll.register(side.socket, events)
        else:  # one that is shut on both sides would be told of without end
            self._unwatch(side)

    def _unwatch(self, side: _Side) -> None:
        try:
            self._poll.unregister(side.socket)
        except KeyError:
            return  # it was not watched

    def _drop(self, side: _Side) -> None:
        for one in (side, side.other):
            if self._sides.pop(one.socket.fileno(), None) is not None:
                self._unwatch(one)
                one.socket.close()

    def _open_or_shut_the_door(self) -> None:
        is_open = len(self._sides) < 2 * _CONNECTIONS
        if is_open != self._is_accepting:
            self._is_accepting = is_open
            for listener, _ in self._listeners.values():
                self._poll.modify(listener, select.POLLIN if is_open else 0)
