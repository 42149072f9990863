"""git's own answer for many pairs of commits, at the least cost: what provably cannot conflict is not merged."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from msgspec import Struct

from parallelai.git import ancestry, merging
from parallelai.git.attributes import Attributes
from parallelai.git.merging import Merged
from parallelai.git.plumbing import Git, GitError
from parallelai.processes.temporary import temporary_folder
from parallelai.work.conflicts.changes import Changes, changes, may_conflict

Key = tuple[str, str]
PROCESSES = 2
"""How many `git merge-tree` run at once; a merge takes about 2 ms."""
SHARED = 60
"""Pairs from which on the work is shared between processes."""
TOGETHER = 500
"""Merges of one process at most: what it writes is in memory until it ends."""


class Count(Struct):
    """What the last look cost: pairs that were asked about anew, and merges that were done for them."""

    pairs: int = 0
    merges: int = 0


class Merges:
    """Answers by pair of commits, kept while they are asked for again; one owner, no lock."""

    def __init__(self, git: Git) -> None:
        self.git = git
        self.count = Count()
        self._trees: dict[str, str] = {}
        self._bases: dict[frozenset[str], tuple[str, ...]] = {}
        self._changes: dict[Key, Changes] = {}
        self._merged: dict[Key, Merged | None] = {}
        self._attributes = Attributes(git)

    async def ask(self, pairs: Sequence[Key]) -> dict[Key, Merged | None]:
        """Merge the second commit of each pair into the first; None where both changes go side by side.

        Raises `GitError` for what is no commit.
        """
        wanted = [pair for pair in dict.fromkeys(pairs) if pair not in self._merged]
        self.count = Count(len(wanted))
        await self.learn(wanted)
        doubtful = [pair for pair in wanted if not self._is_clean(*pair)]
        self.count.merges = len(doubtful)
        self._merged.update(dict.fromkeys(wanted))
        self._merged.update(zip(doubtful, await self._merge(doubtful), strict=True))
        return {pair: self._merged[pair] for pair in pairs}

    async def learn(self, pairs: Iterable[Key]) -> None:
        """Find the merge bases of pairs, and what each side changed since."""
        unknown = [pair for pair in pairs if frozenset(pair) not in self._bases and pair[0] != pair[1]]
        if unknown:
            found = await ancestry.merge_bases(self.git, [commit for pair in unknown for commit in pair])
            self._bases.update({frozenset(pair): found.get(frozenset(pair), ()) for pair in unknown})
        sides = [
            (base, side)
            for pair in pairs
            if len(found_ := self.bases(*pair)) == 1
            for base in found_
            for side in pair
        ]
        await self.compare(sides)

    async def compare(self, pairs: Iterable[Key]) -> None:
        """Find what changed between two commits, the older one first."""
        wanted = list(dict.fromkeys(pairs))
        fresh = [
            commit
            for commit in dict.fromkeys(each for pair in wanted for each in pair)
            if commit not in self._trees
        ]
        self._trees.update(await ancestry.trees(self.git, fresh))
        unknown = {(self._trees[old], self._trees[new]) for old, new in wanted} - self._changes.keys()
        self._changes.update(await changes(self.git, sorted(unknown)))

    def bases(self, a: str, b: str) -> tuple[str, ...]:
        """The merge bases of a pair that was asked about: none, one, or several."""
        return (a,) if a == b else self._bases.get(frozenset((a, b)), ())

    def tree(self, commit: str) -> str:
        """The tree of a commit that was asked about."""
        return self._trees[commit]

    def changes(self, base: str, commit: str) -> Changes:
        """What a side changed since a base of a pair that was asked about."""
        return self._changes[self._trees[base], self._trees[commit]]

    def keep(self, commits: Iterable[str]) -> None:
        """Forget all but what these commits need."""
        kept = set(commits)
        self._merged = {pair: each for pair, each in self._merged.items() if kept.issuperset(pair)}
        self._bases = {pair: each for pair, each in self._bases.items() if kept >= pair}
        used = kept.union(*self._bases.values())
        self._trees = {commit: tree for commit, tree in self._trees.items() if commit in used}
        trees = set(self._trees.values())
        self._changes = {pair: each for pair, each in self._changes.items() if trees.issuperset(pair)}

    def _is_clean(self, a: str, b: str) -> bool:
        bases = self.bases(a, b)
        return len(bases) == 1 and not may_conflict(self.changes(bases[0], a), self.changes(bases[0], b))

    async def _merge(self, pairs: Sequence[Key]) -> list[Merged]:
        """Merge with the attributes that `git merge` would see in a checkout of the first commit."""
        if not pairs:
            return []
        found: dict[Key, Merged] = {}
        changed = (path for each in self._changes.values() for path in each.rows)
        async with self._attributes.grouped(pairs, changed) as groups:
            jobs = [(git, part) for git, group in groups for part in _parts(group)]
            async with asyncio.TaskGroup() as tasks:
                room = asyncio.Semaphore(PROCESSES)
                for git, part in jobs:
                    tasks.create_task(_into(found, git, part, room))
        return [found[pair] for pair in pairs]


async def _into(found: dict[Key, Merged], git: Git, pairs: Sequence[Key], room: asyncio.Semaphore) -> None:
    async with room:
        try:
            with _unkept(git) as apart:
                merged = await merging.merge_all(apart, pairs)
        except (GitError, OSError):  # no room for what nobody keeps; or no commits, which is told now
            merged = await merging.merge_all(git, pairs)
        found.update(zip(pairs, merged, strict=True))


@contextlib.contextmanager
def _unkept(git: Git) -> Iterator[Git]:
    """git whose new objects are gone at the end: of merges only the answers are wanted.

    To write thousands of files into the user's repository took longer than all else, and `git gc` had to remove them.
    """
    kept = git.objects or git.git_dir / "objects"
    with temporary_folder("objects", in_memory=True) as folder:
        settings = (*git.settings, "core.looseCompression=0")
        yield replace(git, objects=folder, alternates=(*git.alternates, kept), settings=settings)


def _parts(pairs: Sequence[Key]) -> list[Sequence[Key]]:
    if len(pairs) < SHARED:
        return [pairs]
    count = max(PROCESSES, -(-len(pairs) // TOGETHER))
    return [pairs[start::count] for start in range(count)]
