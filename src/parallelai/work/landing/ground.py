"""What a landing stands on: the target itself, or for a shadow landing a copy of it that nothing else sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from msgspec import Struct, field

from parallelai.work.landing import messages
from parallelai.work.landing.commits import Committing
from parallelai.work.landing.merging import Member
from parallelai.work.landing.rebasing import Step
from parallelai.work.landing.target import Moved, Target, Tip


class Placed(Struct, frozen=True):
    """Where a candidate is on the target: the commit before it, the one that brought it, and its tree."""

    before: str
    commit: str
    tree: str


class Landing(Struct, frozen=True):
    """How the target moved, and where each candidate is by name."""

    moved: Moved
    placed: Mapping[str, Placed] = field(default_factory=dict)


class Ground(Protocol):
    """Moves a target to what has passed the gates."""

    async def tip(self) -> Tip:
        """Where the target is."""

    async def merge(self, members: Sequence[Member], tip: Tip) -> Landing:
        """Land members as one first-parent merge of the tip they were put on."""

    async def append(self, steps: Sequence[tuple[Member, Sequence[Step]]], tip: Tip) -> Landing:
        """Land members as commits of their own, one after another, on the tip."""


class Firm:
    """The target itself."""

    def __init__(self, target: Target, committing: Committing) -> None:
        self._target = target
        self._committing = committing

    async def tip(self) -> Tip:
        """Where the target is, or the branch that stands in for it."""
        return await self._target.tip()

    async def merge(self, members: Sequence[Member], tip: Tip) -> Landing:
        """See `Ground`. Of several members the second parent holds a merge for each."""
        commit = tip.commit
        for member in members:
            message = messages.member(member.candidate, member.settled)
            commit = await self._committing.commit(member.tree, (commit, member.candidate.commit), message)
        tree = members[-1].tree
        if len(members) > 1:
            message = messages.batch([member.candidate for member in members])
            commit = await self._committing.commit(tree, (tip.commit, commit), message)
        placed = Placed(tip.commit, commit, tree)
        moved = await self._target.move(commit, tip)
        return Landing(moved, {member.candidate.name: placed for member in members})

    async def append(self, steps: Sequence[tuple[Member, Sequence[Step]]], tip: Tip) -> Landing:
        """See `Ground`."""
        commit = tip.commit
        placed = {}
        for member, own in steps:
            before = commit
            for step in own:
                commit = await self._committing.commit(step.tree, (commit,), step.message, step.author)
            placed[member.candidate.name] = Placed(before, commit, member.tree)
        return Landing(
            await self._target.move(commit, tip) if commit != tip.commit else Moved("moved"), placed
        )


class Shadowed:
    """A copy of the target: nothing is moved, and no commit is made that anybody sees."""

    def __init__(self, tip: Tip) -> None:
        self._tip = tip

    async def tip(self) -> Tip:
        """Where the target would be."""
        return self._tip

    async def merge(self, members: Sequence[Member], tip: Tip) -> Landing:
        """See `Ground`."""
        return self._to(members, tip)

    async def append(self, steps: Sequence[tuple[Member, Sequence[Step]]], tip: Tip) -> Landing:
        """See `Ground`."""
        return self._to([member for member, _ in steps], tip)

    def _to(self, members: Sequence[Member], tip: Tip) -> Landing:
        last = members[-1]
        self._tip = Tip(last.commit)
        placed = Placed(tip.commit, last.commit, last.tree)
        return Landing(Moved("moved"), {member.candidate.name: placed for member in members})
