"""The conflict matrix: every pair of heads, and each with the target; what is known is not looked at again."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

from parallelai.git.repository import Repository
from parallelai.records import ConflictDocument, ConflictPair
from parallelai.work.conflicts.cache import Cache, Subject, subject_key
from parallelai.work.conflicts.heads import Head
from parallelai.work.conflicts.judging import Judging
from parallelai.work.conflicts.merges import Count, Merges
from parallelai.work.conflicts.risk import NOTEWORTHY


class Matrix:
    """The conflicts between the same heads, again and again, as they move; keep one for as long as they live.

    `cache` is a folder for what was found, so that another process need not look again. `count` says what the
    last look cost.
    """

    def __init__(self, repository: Repository, cache: Path | None = None) -> None:
        self._merges = Merges(repository.git)
        self._judging = Judging(repository.git, self._merges)
        self._cache = Cache(cache)
        self._known: dict[str, ConflictPair] = {}

    @property
    def count(self) -> Count:
        """How many pairs were asked about anew, and how many merges that took."""
        return self._merges.count

    @property
    def known(self) -> tuple[ConflictPair, ...]:
        """All pairs of the last look, also those that are not told."""
        return tuple(self._known.values())

    async def look(self, heads: Sequence[Head], target: Head, *, base: str | None = None) -> ConflictDocument:
        """Compare all heads with each other and with the target. Raises `GitError` for what is no commit.

        `base` is what the document names as their base; by default what the first head and the target share.
        """
        subjects = [Subject(a, b, is_target=False) for a, b in combinations(heads, 2)]
        subjects += [Subject(head, target, is_target=True) for head in heads]
        keys = {subject_key(subject): subject for subject in subjects}
        fresh = {key: subject for key, subject in keys.items() if key not in self._known}
        stored = self._cache.read(fresh)
        self._known.update(stored)
        fresh = {key: subject for key, subject in fresh.items() if key not in stored}
        self._merges.count = Count()
        if fresh:
            found = await self._judge(list(fresh.values()), target)
            made = dict(zip(fresh, found, strict=True))
            self._known.update(made)
            self._cache.write(made)
        self._known = {key: self._known[key] for key in keys}
        self._merges.keep([*(head.commit for head in heads), target.commit])
        pairs = (self._known[key] for key in keys)
        named = base or await self._base(heads, target)
        listed = tuple(pair for pair in pairs if _is_telling(pair))
        return ConflictDocument(named, target.name, tuple(head.name for head in heads), listed)

    async def conflicting(self, heads: Sequence[Head]) -> frozenset[frozenset[str]]:
        """Give the names of the pairs that git cannot merge. Raises `GitError`."""
        pairs = [(a, b) for a, b in combinations(heads, 2)]
        merged = await self._merges.ask([(a.commit, b.commit) for a, b in pairs])
        answers = [(frozenset((a.name, b.name)), merged[a.commit, b.commit]) for a, b in pairs]
        return frozenset(names for names, one in answers if one is not None and not one.is_clean)

    async def _judge(self, subjects: Sequence[Subject], target: Head) -> list[ConflictPair]:
        commits = dict.fromkeys(side.commit for one in subjects for side in (one.a, one.b))
        pairs = [(one.a.commit, one.b.commit) for one in subjects]
        await self._merges.learn([*pairs, *((commit, target.commit) for commit in commits)])
        merged = await self._merges.ask(pairs)
        return await self._judging.judge(subjects, merged, target)

    async def _base(self, heads: Sequence[Head], target: Head) -> str:
        if not heads:
            return target.commit
        pair = (heads[0].commit, target.commit)
        await self._merges.learn([pair])
        return next(iter(self._merges.bases(*pair)), target.commit)


def _is_telling(pair: ConflictPair) -> bool:
    """Whether a pair belongs into the document: it conflicts, has a class, or may well conflict later."""
    return pair.conflict or pair.class_ is not None or pair.risk >= NOTEWORTHY
