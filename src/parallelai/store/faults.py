"""Turn what SQLite and the operating system report into errors that a user can act on."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from parallelai.errors import StoreCorruptError, StoreError, StoreFullError

# SQLITE_IOERR_WRITE is every failed write but ENOSPC: over quota, over RLIMIT_FSIZE. SHMSIZE is how a full
# disk shows where SQLite makes the index of its log.
_FULL = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE}
_FULL_ERRNO = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
_FULL_WORDS = (b"No space left on device", b"Out of diskspace", b"quota exceeded", b"File too large")
_CORRUPT = {
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_IOERR_SHORT_READ,
    sqlite3.SQLITE_IOERR_CORRUPTFS,
}
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}
_CLOSED = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH}

REPAIR = "run `parallelai doctor --repair`; the old file is kept beside the new one"


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Raise what fails inside as a `StoreError` about `path`."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise translate(error, path) from error


def translate(error: sqlite3.Error | OSError, path: Path) -> StoreError:
    """Make the error that says what happened to `path` and what to do."""
    code = getattr(error, "sqlite_errorcode", None)
    primary = None if code is None else code & 0xFF
    if isinstance(error, OSError):
        has_no_more = is_full(error)
    else:
        has_no_more = bool({code, primary} & _FULL) or (primary not in _CORRUPT and has_no_room(path.parent))
    if has_no_more:
        return full(path)
    if {code, primary} & _CORRUPT or _lacks_tables(error, primary) or _is_no_text(error):
        return corrupt(path, str(error))
    if primary in _BUSY:
        return StoreError(
            f"`{path}` is kept locked by another process",
            next="try again when it is done",
            retry_helps=True,
        )
    if primary in _CLOSED or getattr(error, "errno", None) in _DENIED:
        return StoreError(
            f"`{path}` cannot be opened for writing: {error}",
            next="check its permissions, or set `state.path` to another folder",
        )
    return StoreError(f"`{path}` cannot be used: {error}")


def full(path: Path) -> StoreFullError:
    """Make the error of a disk that takes no more."""
    return no_room(f"`{path}` cannot grow: the disk is full, or over its quota or a file-size limit")


def no_room(said: str) -> StoreFullError:
    """Make the error of a disk that takes no more, in somebody's own words."""
    return StoreFullError(said, next="free some space and resume the run; what was written before is kept")


def is_full(error: OSError) -> bool:
    """Whether that is what a disk without room, a quota or a limit on the size of files gives."""
    return error.errno in _FULL_ERRNO


def tells_full(words: bytes) -> bool:
    """Whether a program, called with `LC_ALL=C`, says so of the disk."""
    return any(each in words for each in _FULL_WORDS)


def corrupt(path: Path, why: str) -> StoreCorruptError:
    """Make the error of a file that is damaged."""
    return StoreCorruptError(f"`{path}` is damaged: {why}", next=REPAIR)


def has_no_room(folder: Path) -> bool:
    """Tell whether the file system of `folder` has no block or no file left."""
    try:
        left = os.statvfs(folder)
    except OSError:
        return False
    # Some file systems count no blocks or no files: the whole is 0 there.
    return (left.f_blocks > 0 and left.f_bavail == 0) or (left.f_files > 0 and left.f_favail == 0)


def _is_no_text(error: Exception) -> bool:
    """SQLite gave text that is none: Python says so itself, without a code."""
    return isinstance(error, sqlite3.OperationalError) and "decode to UTF-8" in str(error)


def _lacks_tables(error: Exception, primary: int | None) -> bool:
    return primary == sqlite3.SQLITE_ERROR and "no such" in str(error)
