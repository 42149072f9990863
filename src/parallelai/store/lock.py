"""File locks that die with their process, whatever kills it, and that a forked child does not inherit."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import socket
import time
from pathlib import Path

from parallelai.records import utc_now
from parallelai.store.faults import told

# The descriptors of held locks in this process. A flock belongs to the open file, which a forked child
# shares, and would outlive a killed parent there. So a child closes them at once (closing is not unlocking).
_held: set[int] = set()


@functools.cache
def _watch_forks() -> None:
    os.register_at_fork(after_in_child=_forget)


def _forget() -> None:
    for descriptor in _held:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _held.clear()


class FileLock:
    """An advisory lock on a file of its own, shared or exclusive."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    @property
    def is_held(self) -> bool:
        return self._descriptor in _held

    def acquire(self, *, is_shared: bool = False) -> bool:
        """Take the lock if it is free now. Raises `StoreError` if its file cannot be made.

        A shared one is taken also where nothing can be written, if its file is there.
        """
        with told(self.path):
            while True:
                descriptor = self._opened(is_shared)
                try:
                    fcntl.flock(descriptor, (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
                except BlockingIOError:
                    os.close(descriptor)
                    return False
                if _is_same(descriptor, self.path):
                    break
                os.close(descriptor)  # it was deleted between opening and locking: lock the new one
        _watch_forks()
        _held.add(descriptor)
        self._descriptor = descriptor
        return True

    def _opened(self, is_shared: bool) -> int:
        try:
            return os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError:
            if not is_shared or not self.path.exists():
                raise
            return os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)

    def wait(self, seconds: float, *, is_shared: bool = False) -> bool:
        """Take the lock, waiting at most `seconds`; blocks the thread."""
        deadline = time.monotonic() + seconds
        while not self.acquire(is_shared=is_shared):
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.01)
        return True

    def share(self) -> None:
        """Turn the exclusive lock that is held into a shared one."""
        if self._descriptor is not None:
            fcntl.flock(self._descriptor, fcntl.LOCK_SH)

    def sign(self) -> None:
        """Write into the file who holds it, for people and for messages."""
        owner = {"pid": os.getpid(), "host": socket.gethostname(), "since": utc_now()}
        if self._descriptor is not None:
            with contextlib.suppress(OSError):  # only a help: the lock itself needs no room on the disk
                os.ftruncate(self._descriptor, 0)
                os.pwrite(self._descriptor, json.dumps(owner).encode(), 0)

    def release(self) -> None:
        """Give the lock back; does nothing where it is not held, as in a forked child."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None and descriptor in _held:
            _held.discard(descriptor)
            # Closing would leave it to a child that was forked before the descriptor was among the held ones.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)


def is_locked(path: Path) -> bool:
    """Tell whether a living process holds the lock of `path` exclusively."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def owner(path: Path) -> str:
    """Describe who signed the lock of `path`, as `process 12 on host`; "another process" if unknown."""
    try:
        signed = json.loads(path.read_text())
        return f"process {int(signed['pid'])} on {str(signed['host'])[:80]!r}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def _is_same(descriptor: int, path: Path) -> bool:
    try:
        there = path.stat(follow_symlinks=False)
    except FileNotFoundError:
        return False
    here = os.fstat(descriptor)
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)
