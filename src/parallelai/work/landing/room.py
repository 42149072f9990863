"""Whether a checkout's disk has room for the files that a landing brings, and takes them.

git verifies a checkout before it touches it, but not the disk, nor the rights to its folders: where that is full, or
one of these is somebody else's, or a file is immutable, it stops in the middle, and leaves a checkout that is neither
the old nor the new commit.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from parallelai.git.repository import Repository
from parallelai.results.printable import visible

SPARE_BYTES = 32 * 1024 * 1024
"""What has to stay free beside the files: for the index, refs and logs that git writes with them."""
PLENTY_BYTES = 16 * 1024 * 1024 * 1024
"""Where so much is free nobody counts what the files need."""
_SUBMODULE = b"160000"
_GET_FLAGS, _FIXED = 0x80086601, 0x30
"""Linux's FS_IOC_GETFLAGS, and the flags of what is immutable or can only be appended to."""


async def has_room(repository: Repository, place: Path, old: str, new: str) -> bool:
    """Whether a checkout at `place` can go from one commit to another without filling its disk, or git's."""
    folders = (place, repository.common)
    free = await asyncio.to_thread(lambda: min(shutil.disk_usage(folder).free for folder in folders))
    return free >= PLENTY_BYTES or free >= SPARE_BYTES + await _size(repository, old, new)


async def closed(repository: Repository, place: Path, old: str, new: str) -> str | None:
    """Why a checkout at `place` cannot go from one commit to another, where something there may not be changed.

    git would stop halfway, and then take what it has written itself for changes of the user's.
    """
    listed = await repository.git.run("diff-tree", "-r", "-z", "--name-only", "--no-renames", old, new)
    names = [os.fsdecode(name) for name in listed.split(b"\0") if name]
    return await asyncio.to_thread(_why_closed, place, names)


def _why_closed(place: Path, names: Sequence[str]) -> str | None:
    folder = _first_closed(place, {str(PurePosixPath(name).parent) for name in names})
    if folder is not None:
        return f"you may not write in `{visible(folder)}`: change its rights"
    fixed = next((name for name in names if _is_fixed(place / name)), None)
    return None if fixed is None else f"`{visible(fixed)}` is immutable: lift that (`chattr -ia`)"


def _first_closed(place: Path, folders: Iterable[str]) -> str | None:
    for name in sorted(folders):
        folder = place / name
        while folder != place and not folder.is_dir():
            folder = folder.parent
        if not os.access(folder, os.W_OK | os.X_OK):
            return str(folder)
    return None


def _is_fixed(path: Path) -> bool:
    """Whether nobody may replace a file, whatever its rights are (ioctl_iflags(2)); False where that cannot be seen."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        flags = fcntl.ioctl(descriptor, _GET_FLAGS, bytes(8))
        return bool(int.from_bytes(flags[:4], sys.byteorder) & _FIXED)
    except OSError:  # a file system without such flags
        return False
    finally:
        os.close(descriptor)


async def _size(repository: Repository, old: str, new: str) -> int:
    """The bytes of all files that differ in the new commit."""
    listed = await repository.git.run(
        "diff-tree", "-r", "-z", "--raw", "--no-abbrev", "--no-renames", old, new
    )
    rows = [row.split(b" ") for row in listed.split(b"\0") if row.startswith(b":")]
    names = {row[3] for row in rows if row[1] != _SUBMODULE and row[3].strip(b"0")}
    stdin = b"".join(name + b"\n" for name in names)
    sizes = await repository.git.run("cat-file", "--batch-check=%(objectsize)", stdin=stdin)
    return sum(int(size) for size in sizes.split() if size.isdigit())
