"""Links on the way to a file: what lies behind one is no file of the project, and git does not see it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath


def link_above(places: Sequence[Path], path: str) -> str | None:
    """Give the folder on the way to a path (from the root, as git writes it) that is a link; None where none is.

    Each folder is looked at in the first of the places that has it: a sparse worktree does not have all.
    """
    for folder in reversed(PurePosixPath(path).parents[:-1]):
        there = next((at for at in places if os.path.lexists(at / folder)), None)
        if there is not None and (there / folder).is_symlink():
            return str(folder)
    return None
