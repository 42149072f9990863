"""What files held when they were looked at: a hash of their content, and the status that they had then.

A file is read again only if its status says that it was written since.
"""

from __future__ import annotations

import hashlib
import os
from typing import NamedTuple

Mark = tuple[int, int, int, int]
"""When a file was last written and changed (nanoseconds), its size (bytes), its number."""


class Seen(NamedTuple):
    """The hash of a file's content, and the file's mark when it was read."""

    mark: Mark
    digest: str


def content_digest(content: bytes) -> str:
    """Hash a file's content: 32 hexadecimal digits of BLAKE2b."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def mark_of(status: os.stat_result) -> Mark:
    """What changes whenever a file is written."""
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino
