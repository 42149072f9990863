"""Conflicts while they form: git's own answer for every pair, its class, where it is, and a forecast.

Nothing here needs a plan: heads are names and commits.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from parallelai.git.repository import Repository
from parallelai.records import ConflictDocument
from parallelai.work.conflicts.advice import advice
from parallelai.work.conflicts.heads import Head
from parallelai.work.conflicts.matrix import Matrix

__all__ = ["Head", "Matrix", "advice", "conflicting_pairs", "matrix"]


async def matrix(
    repository: Repository,
    heads: Sequence[Head],
    target: Head,
    *,
    base: str | None = None,
    cache: Path | None = None,
) -> ConflictDocument:
    """Compare every pair of heads, and each head with the target, once; `Matrix` is for again and again.

    `base` is only what the document names; git finds the merge bases itself. `cache` is a folder for what was
    found. Raises `GitError` for what is no commit.
    """
    return await Matrix(repository, cache).look(heads, target, base=base)


async def conflicting_pairs(
    repository: Repository, heads: Sequence[Head], *, cache: Path | None = None
) -> frozenset[frozenset[str]]:
    """Give the names of each two heads that git cannot merge. Raises `GitError`."""
    return await Matrix(repository, cache).conflicting(heads)
