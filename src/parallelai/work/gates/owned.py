"""The folder of a landing, in the user's cache: it goes with its process, or with the next landing of anybody.

Beside each lies a lock that its process holds as long as it lives, however that ends. A folder whose lock is free
is one that a killed process left; the next landing of any run removes it, so that nobody has to come back to just
that run.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from pathlib import Path

from msgspec import Struct

from parallelai.errors import StoreError
from parallelai.processes.removing import remove
from parallelai.store.lock import FileLock
from parallelai.work.scratch.home import home, set_apart

_PREFIX, _LOCK = "gates-", ".lock"
_instances = itertools.count(1)


class Owned(Struct, frozen=True):
    """A folder of this process, and the lock that says so."""

    path: Path
    lock: FileLock

    def remove(self) -> None:
        """Remove the folder, and let go of it; the folder of its run, too, where nothing else is in it."""
        remove(self.path)
        with contextlib.suppress(OSError):
            self.lock.path.unlink()
        self.lock.release()
        with contextlib.suppress(OSError):
            self.path.parent.rmdir()


def take(run: str) -> Owned:
    """Make a folder for a landing of a run, and remove those that killed processes left, of whatever run.

    Raises `OSError` where none can be made, and `StoreError` where it cannot be locked.
    """
    parent = home(run)
    _clear(parent.parent)
    parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    while True:
        path = parent / f"{_PREFIX}{os.getpid()}-{next(_instances)}"
        owned = Owned(path, FileLock(path.with_name(f"{path.name}{_LOCK}")))
        if owned.lock.acquire():  # else a process of the same number has it: one in another container
            break
    try:
        remove(path)  # of an earlier process with our number
        path.mkdir(mode=0o700)
        set_apart(path)
    except BaseException:  # an interrupt too: nobody else would remove it
        owned.remove()
        raise
    return owned


def _clear(workspaces: Path) -> None:
    """Remove the folders that nobody holds."""
    for path in workspaces.glob(f"*/{_PREFIX}*{_LOCK}"):
        left = Owned(path.with_name(path.name.removesuffix(_LOCK)), FileLock(path))
        with contextlib.suppress(StoreError):  # what is somebody else's stays
            if left.lock.acquire():
                left.remove()
