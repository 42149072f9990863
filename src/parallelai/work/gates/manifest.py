"""What lies in a prepared folder, so that whatever a gate leaves there can be seen and taken away again."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from msgspec import Struct

from parallelai.processes.removing import remove

Manifest = Mapping[str, tuple[int, ...]]
"""By path below the folder, as bytes would be (`os.fsdecode`): what changes when a file is changed."""
MAX_ENTRIES = 5_000_000
"""A folder with more entries is not looked at any further: it is made anew."""
_GIT = ".git"


class Difference(Struct, frozen=True):
    """What became of a folder: paths that are new there, and those that were changed or are gone."""

    new: tuple[str, ...]
    changed: tuple[str, ...]


def take(folder: Path) -> Manifest:
    """Note all that lies in a folder but its `.git`. Raises OSError where it cannot be read, or holds too much.

    Of a file the time of its last change of state counts, which no program can set (inode(7)); of a folder
    only that it is there, and its rights: its times follow from what lies in it.
    """
    found: dict[str, tuple[int, ...]] = {}
    waiting = [""]
    while waiting:
        below = waiting.pop()
        with os.scandir(folder / below) as listed:
            for entry in listed:
                path = f"{below}/{entry.name}" if below else entry.name
                if path == _GIT:
                    continue
                found[path] = _noted(entry.stat(follow_symlinks=False))
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(path)
        if len(found) > MAX_ENTRIES:
            raise OSError(f"more than {MAX_ENTRIES} entries lie in `{folder}`")
    return found


def _noted(status: os.stat_result) -> tuple[int, ...]:
    if stat.S_ISDIR(status.st_mode):
        return (status.st_mode,)
    return (status.st_mode, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def compare(before: Manifest, now: Manifest) -> Difference:
    """Say what is new, and what is no longer as it was; of a new folder only its top."""
    new = {path for path in now if path not in before}
    tops = sorted(path for path in new if os.path.dirname(path) not in new)  # noqa: PTH120 - text, not a path
    return Difference(tuple(tops), tuple(sorted(path for path in before if now.get(path) != before[path])))


def clear(folder: Path, paths: Iterable[str]) -> None:
    """Remove what lies at paths that were found in a folder, whatever it is."""
    for path in paths:
        full = folder / path
        if full.is_dir() and not full.is_symlink():
            remove(full)
        else:
            full.unlink(missing_ok=True)
