"""Locks: one worktree is made at a time, and lock files that a killed git left are removed.

A lock file of git's names nobody. It is left over if no process has it open, and it stays so: git renames or
removes a lock as soon as it has closed it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from parallelai.errors import BusyError, Unavailable
from parallelai.git.repository import Repository
from parallelai.store.files import sync_folder
from parallelai.store.lock import FileLock, owner
from parallelai.work.streams.indexes import clear_index
from parallelai.work.streams.places import entry_of
from parallelai.work.streams.record import Stream

PATIENCE_SECONDS = 900.0
"""How long one waits for others' worktrees; each takes seconds, on a large repository more."""
START_SECONDS = 30.0
"""How long one waits for another start of the same plan: what its `setup` does may take far longer."""
_STEP_SECONDS = 0.02
_SETTLE_SECONDS = 0.05
_OLD_SECONDS = 60.0


@asynccontextmanager
async def making(state: Path) -> AsyncIterator[None]:
    """Be the only one, of all processes, that makes or removes a worktree. Raises `BusyError`."""
    lock = _lock_in(state / "work", "worktrees")
    if not await _patient(lock, PATIENCE_SECONDS):
        raise BusyError("another process makes worktrees, and does not end", next="try again")
    try:
        yield
    finally:
        lock.release()


@asynccontextmanager
async def starting(state: Path, plan: str) -> AsyncIterator[bool]:
    """Be the only one that starts the workstreams of a plan by hand; says whether another was waited for.

    Raises `BusyError` where that one does not end.
    """
    lock = _lock_in(state / "work" / "starts", hashlib.sha256(os.fsencode(plan)).hexdigest())
    has_waited = not lock.acquire()
    if has_waited and not await _patient(lock, START_SECONDS):
        said = f"another `work start` is at the worktrees of `{plan}` ({owner(lock.path)})"
        raise BusyError(said, next="wait for its end, then try again")
    lock.sign()
    try:
        yield has_waited
    finally:
        lock.release()


async def _patient(lock: FileLock, seconds: float) -> bool:
    """Take a lock, waiting at most so long; says whether it was taken."""
    deadline = time.monotonic() + seconds
    while not lock.acquire():
        if time.monotonic() >= deadline:
            return False
        await asyncio.sleep(_STEP_SECONDS)
    return True


def _lock_in(folder: Path, name: str) -> FileLock:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return FileLock(folder / f"{name}.lock")


def in_use(state: Path, name: str) -> FileLock:
    """Be the only process that works in a workstream's worktree, until the lock is released. Raises `Unavailable`."""
    lock = _lock_in(state / "work" / "in-use", name)
    if not lock.acquire():
        said = f"another command works on `{name}` now ({owner(lock.path)})"
        raise Unavailable(said, next="wait for its end, or stop it; then call this again")
    lock.sign()
    return lock


def clear_stale(repository: Repository, stream: Stream) -> None:
    """Remove lock files of the worktree and its branch whose process is gone, and what is no index in its place."""
    entry = entry_of(repository, Path(stream.worktree))
    candidates = [repository.common / "refs" / "heads" / f"{stream.branch}.lock"]
    if entry is not None:
        candidates += [entry.admin / "index.lock", entry.admin / "HEAD.lock"]
        clear_index(entry.admin / "index")
    for path in candidates:
        if is_left_over(path):
            with contextlib.suppress(OSError):
                path.unlink()
                sync_folder(path.parent)


def is_left_over(path: Path) -> bool:
    """Whether a lock file is there that nobody holds any more."""
    first = _identity(path)
    if first is None or _is_open(path, first):
        return False
    time.sleep(_SETTLE_SECONDS)  # its process may be between closing and renaming it
    return _identity(path) == first and not _is_open(path, first)


def _identity(path: Path) -> tuple[int, int, float] | None:
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime


def _is_open(path: Path, identity: tuple[int, int, float]) -> bool:
    """Whether a process has the file open; where that cannot be seen, whether it is young."""
    if not sys.platform.startswith("linux"):
        return time.time() - identity[2] < _OLD_SECONDS
    for process in os.listdir("/proc"):  # noqa: PTH208 -- names alone
        if process.isdigit() and _has_open(f"/proc/{process}/fd", path, identity):
            return True
    return False


def _has_open(descriptors: str, path: Path, identity: tuple[int, int, float]) -> bool:
    with contextlib.suppress(OSError):  # it has ended, or is another user's
        names = os.listdir(descriptors)  # noqa: PTH208
        return any(_leads_to(f"{descriptors}/{name}", path, identity) for name in names)
    return False


def _leads_to(descriptor: str, path: Path, identity: tuple[int, int, float]) -> bool:
    with contextlib.suppress(OSError):
        # By its name first: to ask for the file itself may take forever on a dead network disk.
        if os.readlink(descriptor).endswith(f"/{path.name}"):  # noqa: PTH115 -- of thousands
            status = os.stat(descriptor)  # noqa: PTH116
            return (status.st_dev, status.st_ino) == identity[:2]
    return False
