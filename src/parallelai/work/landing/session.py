"""One landing of several candidates, from the first merge to the last move of the target.

Rounds, until nobody is left: put all that are left on the tip, one after another; find out in few gate runs how
far they pass together; land that. Who fails is taken out, and who it breaks with is looked for beside the next
round. Who conflicts waits until the others have landed, and is settled then.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import asdict

from msgspec import Struct, field

from parallelai.errors import ParallelAIError, first_error
from parallelai.events import LandingBlocked, LandingLanded
from parallelai.git.repository import Repository
from parallelai.records import ErrorRecord
from parallelai.work.landing import history, rebasing, relating
from parallelai.work.landing.batches import Found, Odds, Search, breaking_with
from parallelai.work.landing.commits import hooks_of
from parallelai.work.landing.explaining import (
    breaks_together,
    broken_gate,
    conflicts,
    fails_alone,
    kept_moving,
    not_settled,
    of_error,
    waits_for,
)
from parallelai.work.landing.ground import Ground, Landing
from parallelai.work.landing.judging import Judging
from parallelai.work.landing.merging import Chain, Clash, Member, Merging, subset
from parallelai.work.landing.messages import settled_notes
from parallelai.work.landing.order import closure
from parallelai.work.landing.rebasing import Step
from parallelai.work.landing.records import Arrival, Candidate, Coming, Plan, Side, Tell, Verdict
from parallelai.work.landing.refusing import waits
from parallelai.work.landing.target import Tip
from parallelai.work.streams.record import Landed

MOVES = 8
"""So often in a row somebody else may move the target before a landing gives up."""
ALREADY = "it had landed already"
ASKS = 3
"""So often a conflict of one candidate is given to whoever settles it."""


class Means(Struct, frozen=True):
    """What a landing works with. `may_ask`: whether conflicts are given to an engine."""

    repository: Repository
    plan: Plan
    merging: Merging
    judging: Judging
    ground: Ground
    tell: Tell
    may_ask: bool = True


class _State(Struct):
    """Where a landing is."""

    queue: list[Candidate]
    arrivals: dict[str, Arrival] = field(default_factory=dict)
    landed: list[Candidate] = field(default_factory=list)
    passed: set[str] = field(default_factory=set)
    """Who passed alone."""
    asked: dict[str, int] = field(default_factory=dict)
    clashed: dict[str, set[str]] = field(default_factory=dict)
    """With whom each was in conflict, in any round."""
    settled: set[str] = field(default_factory=set)
    """Whose conflicts somebody settled, in any round."""
    replayed: set[str] = field(default_factory=set)
    """Whose own commits are made anew."""
    lost: int = 0


class Session:
    """Lands candidates, given in their order. `first` is where the target is, `squashed` what it holds by content."""

    def __init__(
        self, means: Means, ordered: Sequence[Candidate], first: Tip, squashed: Sequence[str] = ()
    ) -> None:
        self._means = means
        self._all = {one.name: one for one in ordered}
        self._needs = closure(ordered)
        self._first = first
        self._squashed = list(squashed)
        self._odds = Odds()
        self._state = _State(list(ordered))
        self._origin = first.commit
        self._words: dict[str, frozenset[str]] = {}

    async def run(self) -> dict[str, Arrival]:
        """Land what can; gives an arrival for each candidate, by name."""
        state = self._state
        self._origin = await self._start(self._first)
        try:
            async with asyncio.TaskGroup() as blaming:
                while state.queue:
                    await self._round(blaming)
        except* ParallelAIError as group:
            error = first_error(group)
            assert isinstance(error, ParallelAIError)  # noqa: S101 -- the group holds no other
            for name in [one for one in self._all if one not in state.arrivals]:
                self._block(name, of_error(error))
        return state.arrivals

    # -- rounds

    async def _round(self, blaming: asyncio.TaskGroup) -> None:
        state = self._state
        self._block_dependents()
        tip = await self._means.ground.tip()
        if state.lost:
            await self._look_again(tip)
        start = await self._start(tip)
        if not state.queue:
            return
        chain = await self._means.merging.chain(start, state.queue, self._most())
        for clash in chain.clashes:
            state.clashed.setdefault(clash.candidate.name, set()).update(clash.with_)
        members = chain.members
        state.settled.update(member.candidate.name for member in members if member.settled)
        if not members:
            await self._settle(chain)
            return
        if self._means.plan.method == "merge":
            await self._as_batch(members, tip, blaming)
        else:
            await self._one_by_one(start, members, tip, blaming)

    async def _look_again(self, tip: Tip) -> None:
        """Whoever moved the target may have landed some of the candidates."""
        state, plan = self._state, self._means.plan
        found = await history.look_up(
            self._means.repository, plan.target, tip.commit, state.queue, tip.pending
        )
        for name, landed in found.landed.items():
            self._leave(name)
            state.landed.append(self._all[name])
            state.arrivals[name] = Arrival(name, landed, notes=(ALREADY,))
        self._squashed += found.squashed

    def _most(self) -> int:
        """How many members a round is about: those that the first gate runs will look at, and some more."""
        rest = len(self._state.queue)
        if self._means.plan.method != "merge":
            return self._means.judging.parallel
        most = 3 * self._odds.group(rest) if self._odds.bad else rest
        return max(1, min(most, self._means.plan.batch or rest))

    async def _as_batch(self, members: Sequence[Member], tip: Tip, blaming: asyncio.TaskGroup) -> None:
        """Find how many members pass together, and land them as one merge."""
        names = [member.candidate.name for member in members]
        passes = [place for place, name in enumerate(names) if name in self._state.passed]
        search = Search(len(members), self._odds, passes)
        said: dict[int, Verdict] = {}
        found = await self._search(search, members, tip, said)
        self._state.passed.update(names[place] for place in search.passes)
        green = members[: found.green]
        if green:
            landing = await self._means.ground.merge(green, tip)
            if not self._took(green, landing, said.get(found.green, Verdict(True)), tip):
                return
        if found.bad is not None:
            red = said.get(found.bad + 1) or next(
                (each for _, each in sorted(said.items()) if not each.ok), Verdict(False)
            )
            self._out(members[found.bad].candidate, found, red, blaming)
        self._odds.told(len(green), int(found.bad is not None))

    async def _search(
        self, search: Search, members: Sequence[Member], tip: Tip, said: dict[int, Verdict]
    ) -> Found:
        steps = search.steps()
        try:
            ask = next(steps)
            while True:
                if ask.alone:
                    verdict = await self._alone(members[ask.members[0]].candidate)
                else:
                    count = len(ask.members)
                    verdict = said[count] = await self._judge(members[:count], tip)
                ask = steps.send(verdict.ok)
        except StopIteration as end:
            found: Found = end.value
            return found

    async def _one_by_one(
        self, start: str, members: Sequence[Member], tip: Tip, blaming: asyncio.TaskGroup
    ) -> None:
        """Try the first members as commits of their own, as many as gates run at once, and land the green ones."""
        window = members
        steps: list[tuple[Member, list[Step]]] = []
        before = start
        for member in window:
            steps.append((member, await self._steps(before, member)))
            before = member.commit
        parents = (tip.commit, *(member.commit for member in window))
        async with asyncio.TaskGroup() as group:
            runs = [
                group.create_task(self._each(own, member, parent, tip))
                for (member, own), parent in zip(steps, parents, strict=False)
            ]
        said = [run.result() for run in runs]
        known = (each if isinstance(each, Verdict) else Verdict(False) for each in said)
        verdicts = list(itertools.takewhile(lambda verdict: verdict.ok, known))
        green = len(verdicts)
        if green:
            landing = await self._means.ground.append(steps[:green], tip)
            if not self._took(window[:green], landing, verdicts, tip):
                return
            self._squashed += [member.candidate.commit for member in window[:green]]
        if green == len(window):
            return
        red = said[green]
        if not isinstance(red, Verdict):
            raise red
        await self._out_alone(window[green].candidate, red, blaming)

    async def _steps(self, start: str, member: Member) -> list[Step]:
        """The commits to make for a member; none where it brings nothing: git makes no empty ones either."""
        if member.tree == await self._means.repository.tree(start):
            return []
        if self._means.plan.method == "rebase":
            steps = await rebasing.replayed(self._means.repository, self._means.merging, start, member)
            if steps is not None:
                self._state.replayed.add(member.candidate.name)
                return steps
        self._state.replayed.discard(member.candidate.name)
        return rebasing.squashed(member)

    async def _each(
        self, steps: Sequence[Step], member: Member, parent: str, tip: Tip
    ) -> Verdict | ParallelAIError:
        """Judge each commit's tree; the last verdict, or the first that is red, or why there can be none.

        That is given and not raised: it must not end the gates of others, of which some were paid for.
        """
        verdict = Verdict(True)
        names = (member.candidate.name,)
        for step in steps:
            try:
                verdict = await self._judged(step.tried, tip.commit, names, self._coming(parent, names))
            except ParallelAIError as error:
                return error
            if not verdict.ok:
                break
            parent = step.tried
        return verdict

    # -- gates

    async def _judge(self, members: Sequence[Member], tip: Tip) -> Verdict:
        names = tuple(member.candidate.name for member in members)
        return await self._judged(members[-1].commit, tip.commit, names, self._coming(tip.commit, names))

    async def _judged(
        self, commit: str, base: str, names: tuple[str, ...], coming: Coming | None = None
    ) -> Verdict:
        verdict = await self._means.judging.judge(commit, base, names, coming)
        broken_gate(verdict)
        return verdict

    def _coming(self, parent: str, names: Sequence[str]) -> Coming:
        """How git would make the commit that brings candidates."""
        state, method = self._state, self._means.plan.method
        settled = [name for name in names if method == "merge" and name in state.settled]
        each = (hooks_of(method, name in settled, name in state.replayed) for name in names)
        hooks = tuple(dict.fromkeys(hook for hook in each if hook is not None))
        return Coming(parent, hooks, self._all[settled[-1]].commit if settled else None)

    async def _alone(
        self, candidate: Candidate, others: Sequence[Candidate] = (), *, asks_hooks: bool = True
    ) -> Verdict:
        """Judge a candidate on the target as it was, with what it depends on and the given others."""
        names = {candidate.name, *self._needs[candidate.name]}
        for other in others:
            names |= {other.name, *self._needs[other.name]}
        wanted = subset(list(self._all.values()), names)
        commit = await self._means.merging.together(self._origin, wanted)
        if commit is None:  # it needs others to merge at all, and with these it was tried
            return Verdict(True)
        tip, brought = self._first.commit, tuple(one.name for one in wanted)
        coming = self._coming(tip, brought) if asks_hooks else None
        return await self._judged(commit, tip, brought, coming)

    # -- who fails

    def _out(self, candidate: Candidate, found: Found, red: Verdict, blaming: asyncio.TaskGroup) -> None:
        """Take a candidate out that does not pass, and find out in the background with whom."""
        self._leave(candidate.name)
        if found.is_bad_alone:
            blaming.create_task(self._blame_alone(candidate))
        else:
            blaming.create_task(self._blame(candidate, red))

    async def _out_alone(self, candidate: Candidate, red: Verdict, blaming: asyncio.TaskGroup) -> None:
        self._leave(candidate.name)
        alone = await self._alone(candidate)
        task = self._blame(candidate, red) if alone.ok else self._blame_alone(candidate)
        blaming.create_task(task)

    async def _blame_alone(self, candidate: Candidate) -> None:
        verdict = await self._alone(candidate)
        self._block(candidate.name, fails_alone(candidate.name, verdict, candidate.worktree))

    async def _blame(self, candidate: Candidate, red: Verdict) -> None:
        """Name the smallest set that a candidate breaks with; it passed alone."""
        others = [one for one in self._state.landed if one.name not in self._needs[candidate.name]]
        unknown = [one for one in (*others, candidate) if one.name not in self._words]
        self._words.update(await relating.changed_words(self._means.repository, unknown))
        words = self._words
        steps = breaking_with(relating.weights(words[candidate.name], [words[one.name] for one in others]))
        try:
            tried = next(steps)
            while True:
                beside = [others[place] for place in tried]
                verdict = await self._alone(candidate, beside, asks_hooks=red.hook is not None)
                red = red if verdict.ok else verdict
                tried = steps.send(verdict.ok)
        except StopIteration as end:
            with_ = tuple(others[place].name for place in sorted(end.value or ()))
        self._block(candidate.name, breaks_together(candidate.name, with_, red), with_, red.flaky)

    # -- conflicts

    async def _settle(self, chain: Chain) -> None:
        """Have conflicts settled that are left when all else has landed; who cannot be is blocked.

        Of those that meet in a file the first goes first: how it is settled is what the next one meets.
        """
        met: set[str] = set()
        async with asyncio.TaskGroup() as group:
            for clash in chain.clashes:
                if not met & set(clash.paths):
                    group.create_task(self._settle_one(clash))
                met |= set(clash.paths)

    async def _settle_one(self, clash: Clash) -> None:
        state, name = self._state, clash.candidate.name
        landed = {one.name for one in state.landed}
        with_ = tuple(sorted(state.clashed.get(name, set()) & landed))
        state.asked[name] = state.asked.get(name, 0) + 1
        if self._means.may_ask and state.asked[name] <= ASKS:
            intents = "; ".join(self._all[one].intent for one in with_ if self._all[one].intent)
            side = Side(", ".join(with_) or self._means.plan.target, intents)
            resolved = await self._means.merging.settle(clash, side)
            if not isinstance(resolved, ErrorRecord):
                await self._means.merging.stand_in(clash, resolved)
                return
            error = not_settled(clash, with_, self._means.plan.target, resolved)
        else:
            error = conflicts(clash, with_, self._means.plan.target)
        self._leave(name)
        self._block(name, error, with_)

    def _block_dependents(self) -> None:
        state = self._state
        while True:
            waiting = [
                (one, need)
                for one in state.queue
                for need in one.depends_on
                if need in self._all and need not in {each.name for each in (*state.landed, *state.queue)}
            ]
            if not waiting:
                return
            one, need = waiting[0]
            self._leave(one.name)
            arrival = state.arrivals.get(need)
            error = waits_for(one.name, need, arrival.error if arrival else None)
            state.arrivals[one.name] = Arrival(one.name, error=error, with_=(need,), waits_for=need)
            self._means.tell(one.name, LandingBlocked(error.said, (need,)))

    # -- what became of them

    def _took(
        self,
        members: Sequence[Member],
        landing: Landing,
        verdicts: Verdict | Sequence[Verdict],
        tip: Tip,
    ) -> bool:
        """Write down what landed; False where somebody else moved the target first, and all is to do again."""
        state = self._state
        if landing.moved.how == "lost":
            state.lost += 1
            if state.lost >= MOVES:
                for one in list(state.queue):
                    self._leave(one.name)
                    self._block(one.name, kept_moving(self._means.plan.target, MOVES))
            return False
        state.lost = 0
        each = [verdicts] * len(members) if isinstance(verdicts, Verdict) else verdicts
        for member, verdict in zip(members, each, strict=True):
            self._arrive(member, landing, verdict)
        return True

    def _arrive(self, member: Member, landing: Landing, verdict: Verdict) -> None:
        name, moved = member.candidate.name, landing.moved
        at = landing.placed[name]
        landed = Landed(self._means.plan.target, at.before, at.commit, at.tree, moved.pending, verdict.gates)
        settled = settled_notes(member.settled)
        why = [waits(moved.why, moved.next)] if moved.how == "pending" else []
        self._state.arrivals[name] = Arrival(
            name,
            landed,
            flaky=verdict.flaky,
            notes=(*verdict.notes, *settled, *why),
            next=moved.next,
        )
        self._state.landed.append(member.candidate)
        self._leave(name)
        gates = tuple(asdict(gate) for gate in landed.gates)
        event = LandingLanded(landed.target, landed.before, landed.commit, landed.tree, landed.pending, gates)
        self._means.tell(name, event)

    def _block(
        self, name: str, error: ErrorRecord, with_: tuple[str, ...] = (), flaky: tuple[str, ...] = ()
    ) -> None:
        self._state.arrivals[name] = Arrival(name, error=error, with_=with_, flaky=flaky)
        self._means.tell(name, LandingBlocked(error.said, with_))

    def _leave(self, name: str) -> None:
        self._state.queue = [one for one in self._state.queue if one.name != name]

    async def _start(self, tip: Tip) -> str:
        """The commit to put candidates on: the tip, known to hold what landed there without being an ancestor."""
        if not self._squashed:
            return tip.commit
        tree = await self._means.repository.tree(tip.commit)
        return await self._means.merging.record(
            tree, (tip.commit, *dict.fromkeys(self._squashed)), "As landed"
        )
