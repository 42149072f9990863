"""The index of a worktree, which an assistant or a check may have replaced: no pipe is opened, no link followed.

Nor is one planted meanwhile: what is written is written to what was opened.
"""

from __future__ import annotations

import itertools
import os
import shutil
import stat
from pathlib import Path

from parallelai.processes.removing import remove

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
MOST_BYTES = 256 * 1024 * 1024
"""Of an index that is copied: that of two million files has about as much."""
_MOST_PARTS = 20
_PIECE_BYTES = 1024 * 1024


def copy_plain(file: Path, copy: Path) -> bool:
    """Copy an index, or another file of git's, with its times; False where there is none that is a plain file.

    One of more than `MOST_BYTES` counts as none: a file can claim to be larger than any disk.
    """
    if not _is_plain(file):
        return False
    try:
        descriptor = os.open(file, _READ)
    except FileNotFoundError:
        return False
    with os.fdopen(descriptor, "rb") as source:
        found = os.fstat(descriptor)
        if found.st_size > MOST_BYTES:
            return False
        with copy.open("wb") as target:
            left = found.st_size
            while left and (piece := source.read(min(left, _PIECE_BYTES))):
                target.write(piece)
                left -= len(piece)
    os.utime(copy, ns=(found.st_atime_ns, found.st_mtime_ns))
    return True


def copy_whole(source: Path, target: Path) -> bool:
    """Copy the index of a git folder to another one, with the parts that it may share; False where there is none.

    It names such a part, and not where that lies.
    """
    if not copy_plain(source / "index", target / "index"):
        return False
    for part in itertools.islice(sorted(source.glob("sharedindex.*"), reverse=True), _MOST_PARTS):
        copy_plain(part, target / part.name)
    return True


def put_index(source: Path, index: Path, *, is_durable: bool = False) -> None:
    """Put a copy of an index of ours in a worktree's, as git would: whole, under its lock, with its times.

    By its time git knows which files to look at again. If `is_durable` it is on the disk before it has its name.
    Raises `FileExistsError` where somebody holds the lock.
    """
    lock = index.with_name("index.lock")
    descriptor = os.open(lock, _NEW, 0o644)
    try:
        with source.open("rb") as ours, os.fdopen(descriptor, "wb") as theirs:
            shutil.copyfileobj(ours, theirs)
            theirs.flush()
            if is_durable:
                os.fsync(descriptor)
            found = os.fstat(ours.fileno())
            os.utime(descriptor, ns=(found.st_atime_ns, found.st_mtime_ns))
        clear_index(index)
        lock.replace(index)
    except BaseException:  # cancelled too: a lock of ours must not stay
        lock.unlink(missing_ok=True)
        raise


def clear_index(index: Path) -> bool:
    """Remove what is in an index's place and is no plain file; gives whether something was.

    Git would wait at a pipe, write to where a link leads, and not get over a folder.
    """
    if not os.path.lexists(index) or _is_plain(index):
        return False
    if index.is_symlink() or not index.is_dir():
        index.unlink(missing_ok=True)
    else:
        remove(index)
    return True


def _is_plain(index: Path) -> bool:
    try:
        return stat.S_ISREG(index.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
