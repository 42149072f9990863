"""Lands branches: looks up what has landed already, puts the rest in order, and carries a session out.

A landing that is killed at any moment leaves either the target as it was, with some commits that nothing reaches,
or a target that holds what passed its gates. Landing again finds the latter from the target itself.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

from parallelai.errors import ParallelAIError, UsageError
from parallelai.events import EventData, LandingBlocked, LandingQueued
from parallelai.git import merging as git_merging
from parallelai.git.repository import Repository
from parallelai.records import ErrorRecord
from parallelai.work.landing import history
from parallelai.work.landing.commits import PRE_MERGE, Committing, hooks_of
from parallelai.work.landing.explaining import error_of, of_error
from parallelai.work.landing.foreseeing import foresee
from parallelai.work.landing.ground import Firm, Ground, Shadowed
from parallelai.work.landing.judging import PARALLEL, Judging
from parallelai.work.landing.merging import Merging
from parallelai.work.landing.order import order
from parallelai.work.landing.pull_requests import PullRequests
from parallelai.work.landing.push import Remote, push, pushed_to
from parallelai.work.landing.records import (
    Arrival,
    Breaking,
    Candidate,
    Coming,
    Gates,
    Hooks,
    Plan,
    Preview,
    Resolving,
    Shadow,
    Tell,
)
from parallelai.work.landing.refusing import waits
from parallelai.work.landing.session import ALREADY, Means, Session
from parallelai.work.landing.target import Target, Tip, Worktrees
from parallelai.work.streams.base import PendingError

Conflicting = Callable[[Sequence[Candidate]], Awaitable[frozenset[frozenset[str]]]]
TRIES = 3
"""So often the result of an earlier landing is merged again with a target that moved away from it."""


class Lander:
    """Lands candidates on the target of a plan.

    Args:
        repository: the user's.
        plan: where to, and how.
        gates: what has to pass; None lands without gates.
        resolving: settles conflicts; None blocks whoever conflicts.
        tell: writes events down.
        ours: gives the worktrees that assistants worked in: they are never moved along with a branch.
        conflicts: gives the pairs of candidates that git cannot merge; by default they are merged here.
        parallel: gate runs at the same time.
        hooks: the user's, which look at files before the gates do; None runs none.
    """

    def __init__(
        self,
        repository: Repository,
        plan: Plan,
        gates: Gates | None,
        resolving: Resolving | None,
        tell: Tell,
        *,
        ours: Worktrees,
        conflicts: Conflicting | None = None,
        parallel: int = PARALLEL,
        hooks: Hooks | None = None,
    ) -> None:
        self.repository = repository
        self.plan = plan
        self._gates = gates
        self._resolving = resolving
        self._tell = tell
        self._conflicts = conflicts
        self._parallel = parallel
        self._hooks = hooks
        self._target = Target(repository, plan.target, ours)
        self._committing = Committing(repository)
        self.runs = 0
        """Gate runs so far."""

    async def land(self, candidates: Sequence[Candidate]) -> list[Arrival]:
        """Land what can land. One arrival for each candidate, in their order, whatever happens.

        Raises `UsageError` where there is no such target, and for candidates that no order satisfies.
        """
        _check(candidates)
        if not candidates:
            return []
        for one in candidates:
            self._tell(one.name, LandingQueued(one.commit, self.plan.target))
        judging = self._judging()
        try:
            arrivals = await self._arrivals(candidates, judging)
        except UsageError:
            raise
        except ParallelAIError as error:
            arrivals = {one.name: self._blocked(one.name, of_error(error)) for one in candidates}
        finally:
            self.runs += judging.runs
        for arrival in arrivals.values():
            if self._resolving is not None and arrival.error and arrival.error.kind == "gate_failed":
                await self._resolving.failed(arrival.name)
        return [arrivals[one.name] for one in candidates]

    async def preview(self, candidates: Sequence[Candidate]) -> Preview:
        """Say what a landing would do, without a gate run and without writing anything."""
        _check(candidates)
        commit, pending = await self._target.both()
        tip = pending or commit
        found = await history.look_up(self.repository, self.plan.target, tip, candidates)
        left = [one for one in candidates if one.name not in found.landed]
        merging = self._merging(found)
        pairs = await self._pairs(left, merging)
        clashing = await merging.clashing(tip, left)
        names = order(left, pairs, clashing)
        place = {name: number for number, name in enumerate(names)}
        sorted_pairs = [sorted(pair, key=lambda name: place[name]) for pair in pairs]
        chain = await merging.chain(tip, [_named(left, name) for name in names])
        foreseen = await foresee(merging, chain, left, may_ask=self.plan.via == "ref")
        runs = foreseen.runs(self.plan) if self._gates is not None else 0
        return Preview(
            names,
            tuple(sorted((pair[0], pair[1]) for pair in sorted_pairs)),
            tuple(name for name in names if name in clashing),
            tuple(sorted(found.landed)),
            runs,
            max(1, sum(foreseen.rounds).bit_length()) if runs else 0,
            foreseen.refused,
            foreseen.settled,
            notes=await self.hooks_foreseen(tip, is_settled=bool(foreseen.settled)) if left else (),
        )

    async def shadow(self, candidates: Sequence[Candidate]) -> Shadow:
        """Land everything on a copy of the target, gates included, and name what breaks together.

        Nothing is moved, no engine is asked, no event is told. Raises what kept it from being tried at all.
        """
        _check(candidates)
        commit, pending = await self._target.both()
        tip = Tip(pending or commit)
        found = await history.look_up(self.repository, self.plan.target, tip.commit, candidates)
        left = [one for one in candidates if one.name not in found.landed]
        judging = self._judging()
        arrivals = await self._session(left, tip, found, judging, Shadowed(tip))
        breaking = [
            Breaking((*one.with_, one.name), kind, error.said, error.where)
            for one in arrivals.values()
            if (error := one.error) is not None and (kind := _breaking(one)) is not None
        ]
        if any(one.kind == "gate_failed" for one in breaking):
            await _refuse_red(judging, tip)
        for one in arrivals.values():
            if one.error is not None and not _waits(one.error) and _breaking(one) is None:
                raise error_of(one.error)  # of no candidate: a gate that cannot be run, say
        fits = tuple(one.name for one in left if arrivals[one.name].landed is not None)
        return Shadow(self.plan.target, fits, tuple(breaking), judging.runs)

    async def hooks_foreseen(self, tip: str, *, is_settled: bool = False) -> tuple[str, ...]:
        """Say which of the user's hooks a landing would run on their files, and which not.

        `is_settled`: some of what lands has conflicts that would be settled.
        """
        if self._hooks is None or self.plan.via == "pr":  # for a pull request nothing is committed here
            return ()
        method = self.plan.method
        each = {hooks_of(method, settled, method == "rebase") for settled in {False, is_settled}}
        return await self._hooks.foresee(tip, tuple(hook for hook in each if hook is not None), method)

    async def push(self) -> Remote | ErrorRecord:
        """Push the target as it is; gives where to, or why that was not possible."""
        judging = self._judging()
        try:
            standing = await self._target.take_over()
            if standing.is_diverged:
                await self._reunite(judging)
            return await self._push(judging)
        except ParallelAIError as error:
            return of_error(error)
        finally:
            self.runs += judging.runs

    # -- steps

    async def _arrivals(self, candidates: Sequence[Candidate], judging: Judging) -> dict[str, Arrival]:
        """Land, or open pull requests, and push; by name."""
        standing = await self._target.take_over()
        if standing.is_diverged:
            await self._reunite(judging)
            standing = await self._target.take_over()
        tip = await self._target.tip()
        found = await history.look_up(self.repository, self.plan.target, tip.commit, candidates, tip.pending)
        notes = (ALREADY, *([waits(standing.why, standing.next)] if standing.pending else []))
        arrivals = {
            name: Arrival(name, landed, notes=notes, next=standing.next)
            for name, landed in found.landed.items()
        }
        left = [one for one in candidates if one.name not in arrivals]
        if left:
            landing = await self._land(left, tip, found, judging)
            arrivals |= {name: _with_notes(one) for name, one in landing.items()}
        if self.plan.push and self.plan.via == "ref" and any(one.landed for one in arrivals.values()):
            where = await self._push(judging)
            arrivals = {name: _with_push(one, where) for name, one in arrivals.items()}
        return arrivals

    async def _land(
        self, left: Sequence[Candidate], tip: Tip, found: history.History, judging: Judging
    ) -> dict[str, Arrival]:
        verdict = await judging.ready(tip.commit)
        if not verdict.ok:
            error = verdict.error or ErrorRecord("gate_failed", "the gates fail on the target as it is")
            return {one.name: self._blocked(one.name, error) for one in left}
        if self.plan.via == "pr":
            merging = self._merging(found)
            means = (self.repository, self.plan, self._target, merging, judging)
            opened = await PullRequests(*means).open(left, tip)
            arrivals = {one.name: self._told(one) for one in opened}
        else:
            ground = Firm(self._target, self._committing)
            arrivals = await self._session(left, tip, found, judging, ground)
        # What the base was found to be, such as that a gate misses errors, concerns all that landed behind it.
        return {
            name: dataclasses.replace(one, notes=tuple(dict.fromkeys((*verdict.notes, *one.notes))))
            for name, one in arrivals.items()
        }

    async def _session(
        self,
        left: Sequence[Candidate],
        tip: Tip,
        found: history.History,
        judging: Judging,
        ground: Ground,
    ) -> dict[str, Arrival]:
        merging = self._merging(found)
        is_real = isinstance(ground, Firm)
        names = order(left, await self._pairs(left, merging), await merging.clashing(tip.commit, left))
        tell = self._tell if is_real else _silent
        may_ask = is_real and self._resolving is not None
        means = Means(self.repository, self.plan, merging, judging, ground, tell, may_ask)
        return await Session(means, [_named(left, name) for name in names], tip, found.squashed).run()

    async def _reunite(self, judging: Judging) -> None:
        """Merge what is pending with a target that moved away from it, so that it can be taken over again.

        Raises `PendingError` where that conflicts, or does not pass the gates.
        """
        for _ in range(TRIES):
            commit, pending = await self._target.both()
            if pending is None:
                return
            advice = f"git merge {self._target.pending}"
            merged = await git_merging.merge(self.repository.git, commit, pending)
            if not merged.is_clean:
                where = ", ".join(f"`{conflict.path}`" for conflict in merged.conflicts[:5])
                where = f" in {where}" if where else f": {merged.said[0]}"
                said = f"`{self._target.pending}` conflicts with what `{self.plan.target}` is now{where}"
                raise PendingError(said, next=advice)
            merging = Merging(self.repository, None, self.plan.target)
            tried = await merging.record(merged.tree, (commit, pending), "Tried together")
            coming = Coming(commit, (PRE_MERGE,))
            verdict = await judging.judge(tried, commit, (self._target.pending,), coming)
            if not verdict.ok:
                who = f"the `{verdict.hook}` hook" if verdict.hook else "the gate"
                said = f"{who} fails with `{self._target.pending}` on what `{self.plan.target}` is now"
                raise PendingError(said, next=advice)
            message = f"Merge {self._target.pending}\n"
            made = await self._committing.commit(merged.tree, (commit, pending), message)
            if (await self._target.move(made, Tip(commit))).how != "lost":
                return

    async def _push(self, judging: Judging) -> Remote | ErrorRecord:
        """Push the target; what others pushed meanwhile is landed first."""

        async def bring(theirs: Candidate, tip: Tip) -> Arrival:
            """Land what others pushed, as any other candidate."""
            merging = Merging(self.repository, self._resolving, self.plan.target)
            ground = Firm(self._target, self._committing)
            plan = dataclasses.replace(self.plan, method="merge", batch=None)
            may_ask = self._resolving is not None
            means = Means(self.repository, plan, merging, judging, ground, _silent, may_ask)
            return (await Session(means, [theirs], tip).run())[theirs.name]

        return await push(self.repository, self._target, bring)

    def _judging(self) -> Judging:
        return Judging(self.repository, self._gates, self._parallel, self._hooks)

    def _merging(self, found: history.History) -> Merging:
        merging = Merging(self.repository, self._resolving, self.plan.target)
        merging.stand_ins.update(found.stand_ins)
        return merging

    async def _pairs(self, left: Sequence[Candidate], merging: Merging) -> frozenset[frozenset[str]]:
        if self._conflicts is not None and not merging.stand_ins:
            return await self._conflicts(left)
        return await merging.conflicts(left)

    def _told(self, arrival: Arrival) -> Arrival:
        if arrival.error is not None:
            self._tell(arrival.name, LandingBlocked(arrival.error.said, arrival.with_))
        return arrival

    def _blocked(self, name: str, error: ErrorRecord) -> Arrival:
        return self._told(Arrival(name, error=error))


def _check(candidates: Sequence[Candidate]) -> None:
    twice = sorted(name for name, count in Counter(one.name for one in candidates).items() if count > 1)
    if twice:
        raise UsageError(f"`{twice[0]}` is to land twice")


async def _refuse_red(judging: Judging, tip: Tip) -> None:
    """Raise what the gates say of the target as it is, where nothing can be compared with that."""
    error = (await judging.ready(tip.commit)).error
    if error is not None:
        said = f"nothing can be told of what would land: {error.said}"
        raise error_of(dataclasses.replace(error, said=said))


def _named(candidates: Sequence[Candidate], name: str) -> Candidate:
    return next(one for one in candidates if one.name == name)


def _silent(name: str | None, data: EventData) -> None:
    """Nobody is told of what is only tried."""


def _breaking(arrival: Arrival) -> Literal["conflict", "gate_failed"] | None:
    """Of what kind a candidate's own failure is; None where it only waits for another one."""
    error = arrival.error
    if error is None or _waits(error):
        return None
    return "conflict" if error.kind == "conflict" else "gate_failed" if error.kind == "gate_failed" else None


def _waits(error: ErrorRecord) -> bool:
    """Whether a candidate only waits for another one (`waits_for`)."""
    return error.next is not None and error.next.startswith("land `")


def _with_notes(arrival: Arrival) -> Arrival:
    """Put what a person should know of a landing beside the landing itself, where it is kept."""
    if arrival.landed is None:
        return arrival
    notes = tuple(note for note in arrival.notes if note != ALREADY)
    return dataclasses.replace(arrival, landed=dataclasses.replace(arrival.landed, notes=notes))


def _with_push(arrival: Arrival, where: Remote | ErrorRecord) -> Arrival:
    """Tell with what has landed where it was pushed to, or why that was not possible."""
    if arrival.landed is None:
        return arrival
    if isinstance(where, ErrorRecord):
        return dataclasses.replace(arrival, push_error=where)
    note = pushed_to(where)
    landed = dataclasses.replace(arrival.landed, pushed=str(where), notes=(*arrival.landed.notes, note))
    return dataclasses.replace(arrival, landed=landed, notes=(*arrival.notes, note))
