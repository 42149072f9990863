"""What is compared: the tips of branches, or what lies in worktrees, as commits."""

from __future__ import annotations

from msgspec import Struct


class Head(Struct, frozen=True):
    """One side: a workstream, a branch or the target.

    Attributes:
        name: what users know it by.
        commit: a full hash.
        owns: patterns of the files that it owns, where a plan says so.
    """

    name: str
    commit: str
    owns: tuple[str, ...] = ()
