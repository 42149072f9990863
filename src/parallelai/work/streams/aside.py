"""Removing a worktree's folder in two steps that can be told apart after a crash.

First it is moved aside as `.<name>.removing`, so that nobody writes into it by its path any more, and looked at
again; one that was left so is put back. Then it is renamed to `.<name>.removed`: such a one may go at any time.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from parallelai.processes.removing import remove


def aside(path: Path) -> Path:
    """Where the folder of a worktree is while it is looked at for the last time."""
    return path.with_name(f".{path.name}.removing")


def put_back(path: Path) -> bool:
    """Put a folder back that a killed process had moved aside; says whether there was one."""
    waiting = aside(path)
    if waiting.is_symlink() or not waiting.is_dir() or path.exists() or path.is_symlink():
        return False
    waiting.rename(path)
    return True


def put_aside(path: Path) -> Path | None:
    """Move a folder aside; None where there is none."""
    if path.is_symlink() or not path.is_dir():
        return None
    return path.rename(aside(path))


def finish(path: Path) -> None:
    """Remove what was moved aside, and what an earlier process left of it."""
    waiting = aside(path)
    if waiting.is_dir() and not waiting.is_symlink():
        waiting.rename(path.with_name(f".{path.name}.removed-{secrets.token_hex(4)}"))
    sweep(path)


def sweep(path: Path) -> Path | None:
    """Remove what was to be removed before a crash; gives what may not be: a container filled it as somebody else."""
    found = list(path.parent.glob(f".{path.name}.removed-????????"))
    for left in found:
        remove(left)
    return next((left for left in found if left.exists()), None)
