"""Which names git keeps for itself, on every file system that a change may be checked out on.

The rules are those of git's `verify_path` with `core.protectHFS` and `core.protectNTFS`: an HFS+ volume
overlooks some characters of a name, an NTFS one spaces and dots at its end and what follows a colon, and
gives `git~1` as a short name of `.git`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

_OVERLOOKED = dict.fromkeys([*range(0x200C, 0x2010), *range(0x202A, 0x202F), *range(0x206A, 0x2070), 0xFEFF])
_GITS_OWN = re.compile(r"(\.git|git~1)[ .]*([:\\].*)?", re.IGNORECASE | re.DOTALL)
_MODULES = re.compile(r"(\.gitmodules|gitmod~\d|gi7eb.*)[ .]*([:\\].*)?", re.IGNORECASE | re.DOTALL)


def is_gits_own(part: str) -> bool:
    """Say whether one part of a path is `.git` to some file system."""
    return _GITS_OWN.fullmatch(part.translate(_OVERLOOKED)) is not None


def may_be_link(part: str) -> bool:
    """Say whether a file of this name may be a link: git refuses a `.gitmodules` that is one."""
    return _MODULES.fullmatch(part.translate(_OVERLOOKED)) is None


def as_named(worktree: Path) -> tuple[str, ...]:
    """Words for git by which it tells names apart by case in a worktree, where the file system does.

    `core.ignoreCase` may come from another machine, with the repository: a file that only case tells from another
    would then be one that git never sees.
    """
    return () if os.path.lexists(worktree / ".GIT") else ("-c", "core.ignoreCase=false")
