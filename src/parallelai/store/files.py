"""Small files that must be whole: written beside, brought down to the disk, and put in place in one step."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from parallelai.store.faults import told

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


def write_whole(path: Path, data: bytes) -> None:
    """Write a file, readable by its owner alone: there is always the old one or the new one.

    Its folder is made if it is missing. A crash leaves at most a `.tmp` file beside it. Raises `StoreError`.
    """
    with told(path):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        replace_whole(path, data, mode=0o600)


def replace_whole(path: Path, data: bytes, *, mode: int | None = None) -> None:
    """Put a file in place in one step, in a folder that is there. Raises `OSError`.

    `mode` are its permissions; None is what the user's umask leaves to a new file.
    """
    beside = path.parent / f".parallelai-{secrets.token_hex(8)}.tmp"
    try:
        with os.fdopen(os.open(beside, _NEW, 0o666 if mode is None else 0o600), "wb") as file:
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:  # whatever it was, no half of a file may stay
        beside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Bring the names of a folder down to the disk; file systems that cannot are left alone."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
