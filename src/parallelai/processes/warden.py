"""The zygote and the wardens: who starts programs, and ends the whole tree of each.

The zygote is a Python of its own, which loads this file and `walk`, and of the standard library what they
import: it starts in milliseconds, and what it does not load need not be copied when it forks.

    ParallelAI ── zygote ──┬── warden ── program ── whatever it starts
                           └── warden ── program ── …

One zygote serves one ParallelAI process. For each program it is handed four descriptors (the program's
control socket, stdin, stdout, stderr) and forks a warden, which is the *subreaper* of all that its program
starts: a process that loses its parent, by double fork or `setsid`, becomes the warden's child. So a warden
without children has nothing left to end, and that is how it knows. It ends the tree when it is told to,
when the main process has ended, and when ParallelAI is gone, however it ended. The zygote is a subreaper
too: should a warden be killed, what it guarded falls to the zygote, which ends it.

The control socket is a stream. To the warden: eight bytes with the length of the specification, the
specification (`Specification`), then single bytes `e` (end: SIGINT, grace, SIGKILL) and `k` (kill now).
From it, lines: `R pid` (ready; nothing has been started before), `S pid` (started), `F errno stage` (could
not be started), `M bytes` (what the tree took at most, so far), `O` (it takes too much, and is being ended),
`X status` (the main process's wait status), `N errno stage` (what was to confine the program never started it; 0:
it said why), `L pids` (what cannot be ended), `G` (gone).
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import struct
import time
from collections.abc import Callable

from parallelai.processes.becoming import IGNORED, become
from parallelai.processes.meter import Meter
from parallelai.processes.specification import LENGTH, Specification
from parallelai.processes.walk import ask_to_end, children, descendants, kill_all, read
from parallelai.processes.wrapper import Wrapper

END, KILL = b"e", b"k"
_FOUR = struct.Struct("4i")

LEFTOVER_SECONDS = 0.2
"""How long what the main process left behind may finish by itself: a `tee` behind `>( )`, for example."""

SHORT_GRACE_SECONDS = 1.0
"""The longest grace where nobody waits for a clean end: leftovers, and a tree whose ParallelAI is gone."""

UNENDABLE_SECONDS = 10.0
"""After so long of SIGKILL what is left belongs to another user or hangs in the kernel: it is reported."""

GIVE_UP_SECONDS = 60.0
_ASK_AGAIN_SECONDS = 0.1

_PR_SET_CHILD_SUBREAPER = 36


# What both kinds of process here need


def _prctl() -> Callable[[int, int], None]:
    import ctypes  # not for those who import this file for its functions

    libc = ctypes.CDLL(None, use_errno=True)

    def prctl(option: int, value: int) -> None:
        if libc.prctl(option, value, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl")

    return prctl


def _wake_on_child_end() -> int:
    """Return a descriptor that can be read whenever a child has ended."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    return reader


def _drain(descriptor: int) -> None:
    try:
        while os.read(descriptor, 4096):
            pass
    except BlockingIOError:
        return


def _reap() -> tuple[list[tuple[int, int, int]], bool]:
    """Collect the children that have ended, as (pid, status, peak memory), and say whether there are others."""
    ended: list[tuple[int, int, int]] = []
    while True:
        try:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return ended, False
        if pid == 0:
            return ended, True
        ended.append((pid, status, usage.ru_maxrss * 1024))


class Warden:
    """Starts one program and guards its tree until none of it is left."""

    def __init__(self, control: socket.socket, owner: int | None, prctl: Callable[[int, int], None]) -> None:
        self._control = control
        self._owner = owner
        self._prctl = prctl
        self._wake = _wake_on_child_end()
        self._main = 0
        self._grace_seconds = 0.0
        self._wrapper: Wrapper | None = None
        self._meter = Meter(0)
        self._act: Callable[[], None] | None = None  # what is due at `_due`
        self._due = 0.0
        self._asked: set[tuple[int, bytes]] = set()
        self._numbers: tuple[int, ...] = ()
        self._kill_at = 0.0
        self._killing_since: float | None = None
        self._has_reported = False
        self._is_owned = True
        self._poll = select.poll()
        self._poll.register(self._wake, select.POLLIN)
        self._poll.register(control, select.POLLIN)
        if owner is not None:
            self._poll.register(owner, select.POLLIN)

    def serve(self, streams: list[int]) -> None:
        """Do a warden's whole work."""
        self._prctl(_PR_SET_CHILD_SUBREAPER, 1)
        self._say(b"R %d" % os.getpid())
        specification = self._receive()
        if specification is not None and self._start(specification, streams):
            self._guard()
            self._say_peak()
            self._say(b"G")

    def _say(self, line: bytes) -> None:
        try:
            self._control.sendall(line + b"\n")
        except OSError:
            return  # ParallelAI is gone; the loop sees it by itself

    def _receive(self) -> Specification | None:
        head = self._receive_bytes(LENGTH.size)
        body = self._receive_bytes(LENGTH.unpack(head)[0]) if head else None
        return Specification.decode(body) if body else None

    def _receive_bytes(self, count: int) -> bytes | None:
        received = bytearray()
        while len(received) < count:
            part = self._control.recv(min(count - len(received), 1 << 16))
            if not part:
                return None
            received += part
        return bytes(received)

    def _start(self, specification: Specification, streams: list[int]) -> bool:
        self._grace_seconds = specification.grace_seconds
        if specification.is_wrapped:
            self._wrapper = Wrapper(specification.ports, self._prctl)
            streams = [*streams, *self._wrapper.inner]
            if self._wrapper.bridge is not None:
                self._poll.register(self._wrapper.bridge, select.POLLIN)
        reader, writer = os.pipe()  # closed by a successful exec
        try:
            self._main = os.fork()
        except OSError as error:
            self._say(b"F %d fork" % (error.errno or 0))
            return False
        if self._main == 0:
            become(specification, streams, writer, self._prctl)
        for descriptor in (writer, *streams):
            os.close(descriptor)
        failure = os.read(reader, 100)
        os.close(reader)
        if failure:
            os.waitpid(self._main, 0)
            self._say(b"F " + failure)
            return False
        self._meter = Meter(specification.memory_bytes)
        self._say(b"S %d" % self._main)
        return True

    def _guard(self) -> None:
        while True:
            ended, are_others = _reap()
            for pid, status, peak in ended:
                self._meter.note(peak)
                if pid == self._main:
                    self._main_ended(status)
            if not are_others or self._has_given_up():
                return
            self._do_what_is_due()
            for descriptor, _ in self._poll.poll(self._wait_milliseconds()):
                self._take(descriptor)

    def _main_ended(self, status: int) -> None:
        self._main = 0
        self._say_peak()
        outcome = status if self._wrapper is None else self._wrapped_ended(self._wrapper, status)
        if outcome is not None:
            self._say(b"X %d" % outcome)
        if self._act is None:
            self._act = self._end_leftovers
            self._due = time.monotonic() + LEFTOVER_SECONDS

    def _wrapped_ended(self, wrapper: Wrapper, status: int) -> int | None:
        """Return the status of the program in bubblewrap; where it never ran, say so and return None."""
        if wrapper.bridge is not None:
            self._poll.unregister(wrapper.bridge)
        wrapper.main_ended()
        outcome = wrapper.outcome(status)
        if outcome is None and not self._numbers and self._killing_since is None:
            self._say(b"N " + wrapper.failure)
            return None
        return status if outcome is None else outcome

    def _say_peak(self) -> None:
        peak = self._meter.news()
        if peak is not None:
            self._say(b"M %d" % peak)

    def _look_at_memory(self) -> None:
        relay = 0 if self._wrapper is None else self._wrapper.relay
        if self._meter.look(pid for pid in descendants(os.getpid()) if pid != relay):
            self._say_peak()
            self._say(b"O")
            self._kill()

    def _take(self, descriptor: int) -> None:
        if descriptor == self._wake:
            _drain(self._wake)
        elif descriptor == self._owner:
            self._owner_gone()
        elif descriptor == self._control.fileno():
            self._obey()
        elif self._wrapper is not None:
            self._serve_bridge(self._wrapper)

    def _serve_bridge(self, wrapper: Wrapper) -> None:
        bridge = wrapper.bridge
        if bridge is not None:
            descriptor = bridge.fileno()
            wrapper.serve_bridge()
            if wrapper.bridge is None:
                self._poll.unregister(descriptor)

    def _obey(self) -> None:
        try:
            orders = self._control.recv(64)
        except OSError:
            orders = b""
        if not orders:
            self._owner_gone()
        elif KILL in orders:
            self._kill()
        elif END in orders:
            self._ask(self._grace_seconds, signal.SIGINT)

    def _owner_gone(self) -> None:
        if not self._is_owned:
            return
        self._is_owned = False
        self._poll.unregister(self._control)
        if self._owner is not None:
            self._poll.unregister(self._owner)
        self._ask(min(self._grace_seconds, SHORT_GRACE_SECONDS), signal.SIGTERM, signal.SIGINT)

    def _end_leftovers(self) -> None:
        self._ask(min(self._grace_seconds, SHORT_GRACE_SECONDS), signal.SIGTERM)

    def _ask(self, grace_seconds: float, *numbers: int) -> None:
        """Ask the tree to end; SIGKILL after the grace."""
        if self._killing_since is None:
            self._asked.clear()
            self._numbers, self._kill_at = numbers, time.monotonic() + grace_seconds
            self._ask_again()

    def _ask_again(self) -> None:
        """Ask those that were not there yet, or not yet what they are now.

        A shell that is asked between fork and exec loses the signal, and waits for its child to end by it.
        """
        spared = set() if self._wrapper is None else self._wrapper.spared(self._main)
        pids = (pid for pid in descendants(os.getpid()) if pid not in spared)
        found = {(pid, read(f"/proc/{pid}/cmdline")) for pid in pids} - self._asked
        ask_to_end((pid for pid, _ in found), *self._numbers)
        self._asked |= found
        now = time.monotonic()
        self._act = self._kill if now >= self._kill_at else self._ask_again
        self._due = min(self._kill_at, now + _ASK_AGAIN_SECONDS)

    def _kill(self) -> None:
        now = time.monotonic()
        if self._killing_since is None:
            self._killing_since = now
        found = kill_all(children(os.getpid()))
        lasted = now - self._killing_since
        if lasted > UNENDABLE_SECONDS and not self._has_reported:
            self._has_reported = True
            self._say(b"L " + b" ".join(b"%d" % pid for pid in found))
        self._act = self._kill
        self._due = now + min(1.0, 0.01 + lasted / 10)

    def _has_given_up(self) -> bool:
        return self._killing_since is not None and time.monotonic() - self._killing_since > GIVE_UP_SECONDS

    def _do_what_is_due(self) -> None:
        now = time.monotonic()
        if self._act is not None and now >= self._due:
            self._act()
        if now >= self._meter.due and self._killing_since is None:
            self._look_at_memory()

    def _wait_milliseconds(self) -> float | None:
        times = [] if self._act is None else [self._due]
        if self._killing_since is None:
            times.append(self._meter.due)
        return max(0.0, min(times) - time.monotonic()) * 1000 + 1 if times else None


class Zygote:
    """Forks a warden for each program that ParallelAI asks for; ends when ParallelAI is gone."""

    def __init__(self, control: socket.socket, owner: int | None) -> None:
        self._control = control
        self._owner = owner
        self._prctl = _prctl()
        self._wardens: set[int] = set()
        self._strays_since: float | None = None  # a warden ended badly: what it guarded may be ours now
        self._is_open = True
        self._wake = _wake_on_child_end()
        self._poll = select.poll()
        for descriptor in (self._wake, control.fileno(), owner):
            if descriptor is not None:
                self._poll.register(descriptor, select.POLLIN)

    def serve(self) -> None:
        """Serve until ParallelAI is gone and nothing that it started is left."""
        self._prctl(_PR_SET_CHILD_SUBREAPER, 1)
        while (self._reap() and not self._has_given_up()) or self._is_open:
            for descriptor, _ in self._poll.poll(self._wait_milliseconds()):
                if descriptor == self._wake:
                    _drain(self._wake)
                elif descriptor == self._owner:
                    self._close()
                elif self._is_open:
                    self._launch()

    def _wait_milliseconds(self) -> float | None:
        if self._strays_since is None:
            return None
        return min(1000.0, 10 + (time.monotonic() - self._strays_since) * 100)

    def _has_given_up(self) -> bool:
        return self._strays_since is not None and time.monotonic() - self._strays_since > GIVE_UP_SECONDS

    def _close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._poll.unregister(self._control)
            if self._owner is not None:
                self._poll.unregister(self._owner)
            self._control.close()

    def _reap(self) -> bool:
        """Collect what has ended, end what strays; say whether any child is left."""
        ended, are_others = _reap()
        for pid, status, _ in ended:
            if self._strays_since is None and (status != 0 or pid not in self._wardens):
                self._strays_since = time.monotonic()
            self._wardens.discard(pid)
        if self._strays_since is not None:
            strays = [pid for pid in children(os.getpid()) if pid not in self._wardens]
            kill_all(strays)
            if not strays:
                self._strays_since = None
        return are_others

    def _launch(self) -> None:
        # Not `socket.recv_fds`: it drops the flags, and the program would inherit all four.
        flags = socket.MSG_CMSG_CLOEXEC | socket.MSG_DONTWAIT
        try:
            message, controls, _, _ = self._control.recvmsg(1, socket.CMSG_LEN(_FOUR.size), flags)
        except OSError as error:
            message, controls = b"?" if isinstance(error, BlockingIOError) else b"", []
        if not message:
            self._close()
        for _, _, data in controls:
            self._serve_launch([int(n) for n in memoryview(data[: len(data) // 4 * 4]).cast("i")])

    def _serve_launch(self, descriptors: list[int]) -> None:
        try:
            if len(descriptors) == 4:
                self._fork_warden(descriptors)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _fork_warden(self, descriptors: list[int]) -> None:
        try:
            pid = os.fork()
        except OSError as error:
            os.write(descriptors[0], b"F %d fork\n" % (error.errno or 0))
            return
        if pid:
            self._wardens.add(pid)
            return
        status = 1
        try:
            self._control.close()
            os.close(self._wake)
            control = socket.socket(fileno=descriptors[0])
            Warden(control, self._owner, self._prctl).serve(descriptors[1:])
            status = 0
        finally:
            os._exit(status)


def main(descriptor: int, owner_pid: int) -> None:
    """Be the zygote of the process `owner_pid`, which holds the other end of the socket `descriptor`."""
    gc.disable()
    gc.freeze()  # forked copies share these pages
    control = socket.socket(fileno=descriptor)
    control.set_inheritable(False)
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    try:
        owner: int | None = os.pidfd_open(owner_pid)
    except ProcessLookupError:
        return  # killed already
    except OSError:
        owner = None  # an old kernel, or a sandbox: the control socket tells as well
    Zygote(control, owner).serve()
