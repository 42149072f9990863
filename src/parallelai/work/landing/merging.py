"""Puts candidates one after another on a commit, as git merges, and tells conflicts apart.

The commits made here are plumbing's: without a signature, the same for the same content, reachable from no ref.
They are what gates look at; what lands is made anew with the same trees (`commits`).
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from msgspec import Struct, field

from parallelai.git.attributes import Attributes, merge_all
from parallelai.git.merging import Merged
from parallelai.git.repository import Repository
from parallelai.records import ErrorRecord
from parallelai.work.landing.records import Candidate, Resolved, Resolving, Side
from parallelai.work.resolvers.decisions import is_committed
from parallelai.work.streams.beside import named


class Member(Struct, frozen=True):
    """A candidate that was put on others: `tree` and `commit` hold it with all before it.

    `settled`: conflicting paths, and who settled them.
    """

    candidate: Candidate
    tree: str
    commit: str
    settled: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Clash:
    """A candidate that conflicts, with others by name, or with the target where `with_` is empty."""

    candidate: Candidate
    ours: str
    merged: Merged
    with_: tuple[str, ...] = ()
    why: str | None = None

    @property
    def paths(self) -> tuple[str, ...]:
        """The files that cannot be merged."""
        return tuple(named(conflict) for conflict in self.merged.conflicts)


class Chain(Struct, frozen=True):
    """What fits on a commit, in order, and what conflicts. Who depends on a clash is in neither."""

    start: str
    members: tuple[Member, ...]
    clashes: tuple[Clash, ...] = ()


class Merging:
    """Merges candidates without a work tree. `target` is the branch's name, for words only."""

    def __init__(self, repository: Repository, resolving: Resolving | None, target: str) -> None:
        self._git = repository.git
        self._attributes = Attributes(repository.git)
        self._repository = repository
        self._resolving = resolving
        self._target = target
        self._known: dict[tuple[str, str], Merged] = {}
        self._by: dict[str, Mapping[str, str]] = {}
        self.stand_ins: dict[str, str] = {}
        """For a candidate's commit the one to merge in its stead: landed before and taken back (`history`)."""

    async def chain(self, start: str, candidates: Sequence[Candidate], most: int | None = None) -> Chain:
        """Put the candidates on `start` one after another, at most so many; those that conflict are left out."""
        members: list[Member] = []
        clashes: list[Clash] = []
        names = {one.name for one in candidates}
        placed: set[str] = set()
        for candidate in candidates:
            if len(members) == most:
                break
            if not set(candidate.depends_on) & names <= placed:
                continue
            ours = members[-1].commit if members else start
            put = await self._put(ours, candidate, Side(self._sides(members)))
            if isinstance(put, Member):
                members.append(put)
                placed.add(candidate.name)
            else:
                clashes.append(await self._explained(put, start, members))
        return Chain(start, tuple(members), tuple(clashes))

    async def together(self, start: str, candidates: Sequence[Candidate]) -> str | None:
        """A commit with all of the candidates on `start`; None where they conflict without the others."""
        commit = start
        for candidate in candidates:
            put = await self._put(commit, candidate, Side(self._target))
            if isinstance(put, Clash):
                return None
            commit = put.commit
        return commit

    async def conflicts(self, candidates: Sequence[Candidate]) -> frozenset[frozenset[str]]:
        """Every pair of candidates that git cannot merge."""
        pairs = [(a, b) for number, a in enumerate(candidates) for b in candidates[:number]]
        merged = await self._all([(self._tip(a), self._tip(b)) for a, b in pairs])
        return frozenset(
            frozenset((a.name, b.name)) for (a, b), one in zip(pairs, merged, strict=True) if not one.is_clean
        )

    async def clashing(self, tip: str, candidates: Sequence[Candidate]) -> frozenset[str]:
        """The names of those that conflict with the target as it is."""
        merged = await self._all([(tip, self._tip(one)) for one in candidates])
        return frozenset(one.name for one, each in zip(candidates, merged, strict=True) if not each.is_clean)

    async def record(self, tree: str, parents: Sequence[str], words: str) -> str:
        """Make a commit of plumbing: the same for the same content."""
        above = [word for parent in parents for word in ("-p", parent)]
        git = await self._git.dated(parents[0])
        return await git.line("commit-tree", tree, *above, "-m", words)

    async def stand_in(self, clash: Clash, resolved: Resolved) -> None:
        """Merge what was settled in the candidate's stead from now on, on this target or a later one."""
        theirs = self._tip(clash.candidate)
        commit = await self.record(resolved.tree, (clash.ours, theirs), "Settled")
        self.stand_ins[clash.candidate.commit] = commit
        self._by[clash.candidate.commit] = {**self._by.get(clash.candidate.commit, {}), **resolved.by}

    async def settle(self, clash: Clash, side: Side) -> Resolved | ErrorRecord:
        """Have a conflict settled by whoever can, an engine too; the result keeps to the conflicting files."""
        return await self._settled(clash.ours, clash.candidate, clash.merged, side, may_ask=True)

    async def foresee(self, ours: str, candidate: Candidate) -> Mapping[str, str] | ErrorRecord:
        """Say by path who would settle the conflicts of a candidate with a commit, or why nobody would."""
        merged = await self._one(ours, self._tip(candidate))
        if merged.is_clean:
            return {}
        if self._resolving is None:
            return _unmerged(merged)
        return await self._resolving.foresee(ours, self._tip(candidate), merged)

    async def _put(self, ours: str, candidate: Candidate, side: Side) -> Member | Clash:
        merged = await self._one(ours, self._tip(candidate))
        tree, settled = merged.tree, dict(self._by.get(candidate.commit, {}))
        if not merged.is_clean:
            resolved = await self._settled(ours, candidate, merged, side, may_ask=False)
            if isinstance(resolved, ErrorRecord):
                return Clash(candidate, ours, merged, why=resolved.said)
            tree, settled = resolved.tree, {**settled, **resolved.by}
        commit = await self.record(tree, (ours, self._tip(candidate)), "Tried together")
        return Member(candidate, tree, commit, settled)

    async def _settled(
        self, ours: str, candidate: Candidate, merged: Merged, side: Side, *, may_ask: bool
    ) -> Resolved | ErrorRecord:
        if self._resolving is None:
            return _unmerged(merged)
        sides = (side, Side(candidate.name, candidate.intent))
        resolved = await self._resolving.settle(ours, self._tip(candidate), merged, sides, may_ask=may_ask)
        if isinstance(resolved, ErrorRecord):
            return resolved
        stray = set(await self.strays(merged, resolved.tree)).difference(resolved.beside)
        if stray:
            listed = "`, `".join(sorted(stray)[:3])
            return ErrorRecord("conflict", f"what settled the conflict also changed `{listed}`")
        return resolved

    async def strays(self, merged: Merged, tree: str) -> list[str]:
        """Paths, other than the conflicting ones, in which a tree differs from git's own merge."""
        changed = await self._git.run(
            "diff-tree", "-r", "-z", "--name-only", "--no-renames", merged.tree, tree
        )
        conflicting = {conflict.path for conflict in merged.conflicts}
        paths = [os.fsdecode(path) for path in changed.split(b"\0") if path]
        # Where a file meets a folder, git gives the file's two sides names such as `a~ours`.
        return [
            path
            for path in paths
            if path not in conflicting
            and path.partition("~")[0] not in conflicting
            and not is_committed(path)  # how it was settled lands with it, where the plan says so
        ]

    async def _explained(self, clash: Clash, start: str, members: Sequence[Member]) -> Clash:
        """Say with whom a candidate conflicts: the target, single members, or what they come to together."""
        if not members or not (await self._one(start, self._tip(clash.candidate))).is_clean:
            return clash
        theirs = self._tip(clash.candidate)
        alone = await self._all([(self._tip(one.candidate), theirs) for one in members])
        with_ = [one.candidate.name for one, each in zip(members, alone, strict=True) if not each.is_clean]
        if not with_:
            grown = await self._all([(one.commit, theirs) for one in members])
            first = next((place for place, each in enumerate(grown) if not each.is_clean), len(members) - 1)
            with_ = [members[first].candidate.name]
        return Clash(clash.candidate, clash.ours, clash.merged, tuple(with_), clash.why)

    def _sides(self, members: Sequence[Member]) -> str:
        return ", ".join([self._target, *(one.candidate.name for one in members)][:6])

    def _tip(self, candidate: Candidate) -> str:
        return self.stand_ins.get(candidate.commit, candidate.commit)

    async def _one(self, ours: str, theirs: str) -> Merged:
        return (await self._all([(ours, theirs)]))[0]

    async def _all(self, pairs: Sequence[tuple[str, str]]) -> list[Merged]:
        missing = [pair for pair in dict.fromkeys(pairs) if pair not in self._known]
        if missing:
            merged = await merge_all(self._attributes, missing)
            self._known.update(zip(missing, merged, strict=True))
        return [self._known[pair] for pair in pairs]


def _unmerged(merged: Merged) -> ErrorRecord:
    return ErrorRecord("conflict", "; ".join(merged.said[:3]) or "git cannot merge it")


def subset(candidates: Sequence[Candidate], names: Collection[str]) -> list[Candidate]:
    """The candidates of these names, in their order."""
    return [one for one in candidates if one.name in names]
