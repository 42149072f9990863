"""Gate runs of a landing, behind the user's hooks: a few at a time, each tree once, and counted."""

from __future__ import annotations

import asyncio
import dataclasses

from parallelai.git.repository import Repository
from parallelai.work.landing.records import Coming, Gates, Hooks, Verdict

PARALLEL = 2
"""Gate runs at the same time, unless told otherwise."""
_KEPT = 2000


class Judging:
    """Asks the gates, and remembers what they said of a tree for as long as the base is the same.

    Without gates everything passes but what a hook refuses, and nothing is counted.
    """

    def __init__(
        self,
        repository: Repository,
        gates: Gates | None,
        parallel: int = PARALLEL,
        hooks: Hooks | None = None,
    ) -> None:
        self.runs = 0
        self._repository = repository
        self._gates = gates
        self._hooks = hooks
        self._slots = asyncio.Semaphore(parallel)
        self.parallel = parallel
        self._said: dict[tuple[str, str], Verdict] = {}

    async def ready(self, base: str) -> Verdict:
        """Look at the base before the first candidate."""
        if self._gates is None:
            return Verdict(True)
        verdict = await self._gates.ready(base)
        if verdict.ok:
            tree = await self._repository.tree(base)
            self._said[tree, tree] = Verdict(True, verdict.gates)
        return verdict

    async def judge(
        self, commit: str, base: str, names: tuple[str, ...], coming: Coming | None = None
    ) -> Verdict:
        """What the hooks of the commit that is to come say of a commit's tree, and then the gates."""
        if self._hooks is None or coming is None or not coming.hooks:
            return await self._gated(commit, base, names)
        async with self._slots:
            heard = await self._hooks.judge(commit, coming, names)
        if not heard.ok:
            return heard
        verdict = await self._gated(commit, base, names)
        return dataclasses.replace(verdict, notes=(*heard.notes, *verdict.notes))

    async def _gated(self, commit: str, base: str, names: tuple[str, ...]) -> Verdict:
        """What the gates say of a commit's tree; a tree that is the base's own passes, as it changes nothing."""
        if self._gates is None:
            return Verdict(True)
        trees = await self._repository.tree(commit), await self._repository.tree(base)
        if trees[0] == trees[1]:
            return self._said.get(trees, Verdict(True))
        async with self._slots:
            if trees not in self._said:
                self.runs += 1
                verdict = await self._gates.judge(commit, base, names)
                if len(self._said) >= _KEPT:
                    self._said.clear()
                if verdict.error is not None and verdict.error.retry_helps:
                    return verdict
                self._said[trees] = verdict
            return self._said[trees]
