"""The index of a worktree, which an assistant or a check may have replaced: no pipe is opened, no link followed."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

from parallelai.work.scratch.removing import remove

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def copy_index_file(index: Path, copy: Path) -> bool:
    """Copy an index with its times; False where there is none that is a plain file."""
    if not _is_plain(index):
        return False
    try:
        descriptor = os.open(index, _READ)
    except FileNotFoundError:
        return False
    with os.fdopen(descriptor, "rb") as source, copy.open("wb") as target:
        found = os.fstat(descriptor)
        shutil.copyfileobj(source, target)
    os.utime(copy, ns=(found.st_atime_ns, found.st_mtime_ns))
    return True


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
