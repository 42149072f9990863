"""What a sparse worktree did not have when a turn began: it is not written over by somebody who has not read it.

Whoever wants such a file has git lay it out, by the worktree's own patterns; those that somebody added count.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from msgspec import Struct

from parallelai.engines.planted import read_plain
from parallelai.errors import ParallelAIError
from parallelai.plan.files import Matcher
from parallelai.work.guard.rules import Changed

_MOST_BYTES = 64 * 1024
_OFF = re.compile(rb"^\s*sparsecheckout\s*=\s*(false|no|off|0)\s*$", re.IGNORECASE | re.MULTILINE)
"""What `git sparse-checkout disable` leaves in a worktree's settings, once it has laid all out."""


class Unseen(Struct, frozen=True):
    """The files that were not there, and the patterns of what git lays out by now."""

    paths: frozenset[str] = frozenset()
    patterns: tuple[str, ...] = ()

    def among(self, changes: Iterable[Changed]) -> frozenset[str]:
        """Those that changes are about, and that nobody had laid out."""
        found = {path for change in changes for path in change.paths} & self.paths
        matcher = _matcher(self.patterns) if found else None
        return frozenset(path for path in found if matcher is None or not matcher.selects(path))


def absent(root: Path, paths: Iterable[str]) -> tuple[str, ...]:
    """Those of some paths at which nothing lies: what was put there since git left it out can be read."""
    return tuple(path for path in paths if not os.path.lexists(root / path))


def unseen(git_dir: Path, paths: Sequence[str]) -> Unseen:
    """What was not there, with the patterns that a worktree's git folder has now; git is not asked."""
    if not paths or _OFF.search(_read(git_dir / "config.worktree")):
        return Unseen()
    patterns = os.fsdecode(_read(git_dir / "info" / "sparse-checkout")).splitlines()
    return Unseen(frozenset(paths), tuple(patterns))


def _read(path: Path) -> bytes:
    try:
        return read_plain(path, _MOST_BYTES)
    except OSError:
        return b""


def _matcher(patterns: Sequence[str]) -> Matcher | None:
    """What the patterns select; None where there are none, or none that can be read."""
    try:
        return Matcher(patterns) if patterns else None
    except ParallelAIError:
        return None
