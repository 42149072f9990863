"""ParallelAI's side of the zygote: started when first needed, started again when it was killed."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import errno
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from parallelai.errors import ProgramError

_ROOM = Path(__file__).parent
_PROGRAM = """
import sys
for name, folder in zip(("parallelai", "parallelai.processes"), sys.argv[3:]):
    sys.modules[name] = type(sys)(name)
    sys.modules[name].__path__ = [folder]
from parallelai.processes.warden import main
main(int(sys.argv[1]), int(sys.argv[2]))
"""
"""Loads the warden's file without the packages around it, which would load asyncio and more."""

_LIBRARY_PATHS = ("LD_LIBRARY_PATH", "LD_PRELOAD", "DYLD_LIBRARY_PATH")  # the interpreter may need them
_BUSY = (errno.EAGAIN, errno.ENOBUFS, errno.ETOOMANYREFS)
_BUSY_SECONDS = 30.0
_TRIES = 10


def is_supported() -> bool:
    """Say whether wardens work here: they need Linux, and an interpreter to start."""
    return sys.platform.startswith("linux") and bool(sys.executable)


class _Zygote:
    """The running zygote of this process."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                arguments = map(str, (theirs.fileno(), os.getpid(), _ROOM.parent, _ROOM))
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-c", _PROGRAM, *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    cwd="/",
                    env={name: os.environ[name] for name in _LIBRARY_PATHS if name in os.environ},
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                )
        except OSError as error:
            self._control.close()
            raise ProgramError(
                f"the process that starts programs, `{sys.executable}`, cannot be started: {error.strerror}",
                retry_helps=error.errno in (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE),
            ) from error
        self._control.setblocking(False)

    @property
    def pid(self) -> int:
        return self._process.pid

    def hand_over(self, descriptors: list[int]) -> None:
        """Ask for a warden with these descriptors. Raises OSError."""
        socket.send_fds(self._control, [b"L"], descriptors)

    def close(self) -> None:
        """Tell it to end; it does as soon as none of its wardens is left."""
        self._control.close()

    def wait(self, seconds: float) -> None:
        """Wait until it has ended, at most `seconds`."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)

    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def kill(self) -> None:
        """End one that does not answer. Its wardens go on without it."""
        self.close()
        self._process.kill()
        self.wait(1.0)

    def forget(self) -> None:
        """Drop it in a forked copy of the process that started it: it serves that one alone."""
        self._control.close()
        self._process.returncode = 0


class _Holder:
    """The one zygote of this process. The lock makes it one, whichever threads ask for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._zygote: _Zygote | None = None
        self._closed: list[_Zygote] = []  # each ends when the last of its wardens has
        self._is_registered = False

    def get(self) -> _Zygote:
        with self._lock:
            if self._zygote is None:
                self._closed = [zygote for zygote in self._closed if not zygote.has_ended()]
                self._zygote = _Zygote()
                self._register()
            return self._zygote

    def drop(self, dead: _Zygote) -> None:
        """Let go of a zygote that does not answer, so that the next call starts another."""
        with self._lock:
            if self._zygote is dead:
                self._zygote = None
        dead.kill()

    def close(self) -> _Zygote | None:
        """Tell the zygote to end as soon as its wardens have; return it."""
        with self._lock:
            taken, self._zygote = self._zygote, None
            if taken is not None:
                taken.close()
                self._closed.append(taken)
                return taken
        return None

    def forget_all(self) -> None:
        """Let go of those that still end; nobody waits for them."""
        for zygote in self._closed:
            zygote.forget()

    def _register(self) -> None:
        if not self._is_registered:
            self._is_registered = True
            atexit.register(_close_at_exit)
            # A forked copy has no claim on the zygote; and a lock that another thread held at the fork
            # would never be released in it.
            os.register_at_fork(after_in_child=self._forked)

    def _forked(self) -> None:
        self._lock = threading.Lock()
        if self._zygote is not None:
            self._closed.append(self._zygote)
            self._zygote = None
        self.forget_all()
        self._closed = []


_holder = _Holder()


async def hand_over(descriptors: list[int]) -> None:
    """Have the zygote fork a warden that owns copies of `descriptors`; start the zygote if need be.

    Raises `ProgramError` when it cannot be started or does not answer.
    """
    end = time.monotonic() + _BUSY_SECONDS
    tries = 0
    while True:
        zygote = _holder.get()
        try:
            zygote.hand_over(descriptors)
        except OSError as error:
            if error.errno not in _BUSY:  # it was killed
                _holder.drop(zygote)
                tries += 1
        else:
            return
        if tries > _TRIES or time.monotonic() > end:
            _holder.drop(zygote)
            raise ProgramError(
                "the process that starts programs does not answer",
                next="see whether this machine allows more processes (`ulimit -u`)",
                retry_helps=True,
            )
        await asyncio.sleep(0.002)


def zygote_pid() -> int:
    """Return the zygote's pid; start it if need be."""
    return _holder.get().pid


async def close_warden() -> None:
    """End the zygote. Programs that still run keep their wardens; the next launch starts another zygote."""
    zygote = _holder.close()
    if zygote is not None:
        await asyncio.to_thread(zygote.wait, 2.0)


def _close_at_exit() -> None:
    zygote = _holder.close()
    if zygote is not None:
        zygote.wait(0.5)
    _holder.forget_all()
