"""Temporary folders of ours. Their names say which process made them, so that the next start of ParallelAI removes
those of one that was killed.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

from parallelai.processes import tree
from parallelai.processes.removing import remove

_NAME = re.compile(r"parallelai-[a-z]+-(?P<space>\d+)-(?P<pid>\d+)-(?P<start>\d+)-\w+")
_IN_MEMORY = "/dev/shm"  # noqa: S108 - as the system's temporary folder, only that it is no disk (shm_overview(7))
_ROOM = 1024**3
"""How many bytes have to be free there; containers often have 64 MB."""


def make_folder(what: str, *, in_memory: bool = False) -> Path:
    """Make a folder in the system's temporary one, for this user only; gives its path, which holds no link.

    `what` is a word of small letters. Whoever makes it removes it. Raises `OSError`.

    Args:
        in_memory: take none on a disk where there is room: for thousands of small files that nobody keeps.
    """
    import tempfile  # not for those who need none

    place = _IN_MEMORY if in_memory and _has_room(_IN_MEMORY) else None
    made = tempfile.mkdtemp(prefix=f"parallelai-{what}-{_owner(os.getpid())}-", dir=place)
    return Path(made).resolve()


def _has_room(folder: str) -> bool:
    try:
        found = os.statvfs(folder)
    except OSError:  # only Linux has it
        return False
    return found.f_bavail * found.f_frsize >= _ROOM and os.access(folder, os.W_OK | os.X_OK)


@contextlib.contextmanager
def temporary_folder(what: str, *, in_memory: bool = False) -> Iterator[Path]:
    """As `make_folder`, for as long as the context lasts."""
    folder = make_folder(what, in_memory=in_memory)
    try:
        yield folder
    finally:
        remove(folder)


def sweep_folders() -> None:
    """Remove the folders of processes that are gone: only this user's, and no link."""
    import tempfile

    if not _sees_itself(os.getpid()):
        return
    for place in {tempfile.gettempdir(), _IN_MEMORY}:
        with contextlib.suppress(OSError), os.scandir(place) as entries:
            for entry in entries:
                made = _NAME.fullmatch(entry.name)
                if made is not None and _is_ours(entry) and _is_left(made):
                    remove(Path(entry.path))


def _is_ours(entry: os.DirEntry[str]) -> bool:
    with contextlib.suppress(OSError):
        return entry.is_dir(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_uid == os.getuid()
    return False


def _is_left(made: re.Match[str]) -> bool:
    """Say whether the process of a name is gone.

    On another machine or in another PID namespace (a container) that is not ours to judge, nor where it saw nothing
    of itself.
    """
    start = int(made["start"])
    return int(made["space"]) == _space() and start != 0 and not tree.is_alive(int(made["pid"]), start)


@functools.lru_cache(maxsize=1)
def _owner(pid: int) -> str:
    """This process; `pid` is its own, which is another one after a fork."""
    start = tree.start_time(pid) if _sees_itself(pid) else None
    return f"{_space()}-{pid}-{start or 0}"


def _sees_itself(pid: int) -> bool:
    """Say whether `/proc` knows this process by its number: that of another PID namespace has another one there."""
    return not tree.IS_LINUX or os.path.realpath("/proc/self") == f"/proc/{pid}"


def _space() -> int:
    """A number for this process's machine and PID namespace: the first one of every machine has the same inode."""
    try:
        inode = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        inode = 0
    return zlib.crc32(f"{os.uname().nodename} {inode}".encode())
