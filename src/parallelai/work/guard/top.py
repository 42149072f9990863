"""The folder that a turn began in, held open: whoever takes it away and makes another one of its name is seen.

What is missing in the other one nobody has deleted as a part of the work: judged as the worktree, it would land so.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path

_FLAGS = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW


class Top:
    """The top of a worktree; nothing is known of it before `hold`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held: int | None = None
        self._release: Callable[[], object] = lambda: None

    def hold(self) -> None:
        """Take the folder that is there now for the one that counts."""
        self._release()
        self._held = None
        with contextlib.suppress(OSError):  # it is not there: whoever needs it says so
            self._held = os.open(self._path, _FLAGS)
            self._release = weakref.finalize(self, os.close, self._held)

    def is_gone(self) -> bool:
        """Whether that folder is not there any more; no other has its number as long as it is held."""
        if self._held is None:
            return False
        try:
            now = self._path.lstat()
        except FileNotFoundError:
            return True
        return not os.path.samestat(now, os.fstat(self._held))

    def moved_to(self) -> Path | None:
        """Where that folder is now; None where it was removed, and where the machine cannot tell (macOS)."""
        if self._held is None:
            return None
        try:
            now = Path(f"/proc/self/fd/{self._held}").readlink()
            return now if os.path.samestat(now.lstat(), os.fstat(self._held)) else None
        except OSError:
            return None

    def put_aside(self, beside: Path) -> Path | None:
        """Move what is in its place out of the way of the next worktree; gives where it is. Raises `OSError`."""
        if not os.path.lexists(self._path):
            return None
        beside.parent.mkdir(parents=True, exist_ok=True)
        names = (beside.with_name(f"{beside.name}-{number}") for number in itertools.count(1))
        free = next(name for name in names if not os.path.lexists(name))
        shutil.move(self._path, free)
        return free
