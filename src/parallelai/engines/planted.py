"""Files in places where an assistant may write: a pipe or a device in their stead would hold us for ever."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def read_plain(path: Path, most_bytes: int, *, is_tail: bool = False, start: int = 0) -> bytes:
    """Read bytes of a plain file from `start` on, or its last ones. Raises `OSError` for anything else; never waits."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(f"`{path}` is not a plain file")
        file.seek(max(0, status.st_size - most_bytes) if is_tail else start)
        return file.read(most_bytes)
