"""Removing folders that others filled: however deep, without rights, full of links; nothing outside is touched.

Folders inside are moved up to the top before they are emptied, so that no path grows and none is followed:
all is done by name in an opened folder.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_BY_NAME = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove(path: Path) -> None:
    """Remove a folder, whatever is in it; a link in its place stays. What cannot be removed is left."""
    with contextlib.suppress(OSError):
        parent = os.open(path.parent, _FOLDER & ~os.O_NOFOLLOW)
        try:
            _remove_in(parent, path.name)
        finally:
            os.close(parent)


def _remove_in(parent: int, name: str) -> None:
    _allow(parent, name)
    top = os.open(name, _FOLDER, dir_fd=parent)
    try:
        token = os.urandom(6).hex()
        waiting, number = _empty(top, None, token, 0)
        while waiting:
            inner = waiting.pop()
            with contextlib.suppress(OSError):
                folder = os.open(inner, _FOLDER, dir_fd=top)
                try:
                    moved, number = _empty(folder, top, token, number)
                finally:
                    os.close(folder)
                waiting += moved
                os.rmdir(inner, dir_fd=top)
    finally:
        os.close(top)
    os.rmdir(name, dir_fd=parent)


def _empty(folder: int, top: int | None, token: str, number: int) -> tuple[list[str], int]:
    """Remove the files of a folder, and move its folders to the top; gives their names there."""
    found: list[str] = []
    with os.scandir(folder) as listed:
        entries = list(listed)
    for entry in entries:
        with contextlib.suppress(OSError):
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.name, dir_fd=folder)
                continue
            _allow(folder, entry.name)
            name = entry.name
            if top is not None:
                number += 1
                name = f"{token}-{number}"
                os.rename(entry.name, name, src_dir_fd=folder, dst_dir_fd=top)
            found.append(name)
    return found, number


def _allow(parent: int, name: str) -> None:
    """Give the owner all rights in a folder. By its descriptor: a link in its place would be followed."""
    with contextlib.suppress(OSError):
        folder = os.open(name, _BY_NAME, dir_fd=parent)
        try:
            if os.fstat(folder).st_mode & 0o700 != 0o700:
                os.chmod(f"/proc/self/fd/{folder}", 0o700)  # noqa: PTH101
        finally:
            os.close(folder)
