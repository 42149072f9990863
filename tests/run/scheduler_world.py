"""A world for the scheduler: virtual time, scripted engines, and the promises checked at every decision."""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

from parallelai.engines.protocol import Estimate
from parallelai.records import ErrorRecord, LimitKey, Outcome, Usage
from parallelai.run.scheduling.decisions import Cancel, Finish, RunStep, Start, Wait
from parallelai.run.scheduling.nodes import AttemptResult, Member, Node, Prepared, RoleLimit, Settled
from parallelai.run.scheduling.scheduler import Scheduler
from parallelai.run.scheduling.settings import Settings

ONE = Member("mock", LimitKey("mock"))


def member(name: str) -> Member:
    return Member(name, LimitKey(name))


def node(name: str, index: int = 0, **more: Any) -> Node:
    return Node(name, index, **{"members": (ONE,), **more})


def nodes(*names: str, **more: Any) -> list[Node]:
    return [node(name, at, **more) for at, name in enumerate(names)]


def ok(seconds: float = 1.0, usage: Usage | None = None) -> AttemptResult:
    return AttemptResult(True, seconds, usage)


def bad(
    kind: str,
    seconds: float = 1.0,
    *,
    after: float | None = None,
    quota: bool = False,
    usage: Usage | None = None,
    alone: bool = False,
) -> AttemptResult:
    error = ErrorRecord(kind, f"it was {kind}")  # type: ignore[arg-type]
    return AttemptResult(False, seconds, usage, error, after, quota, alone)


Script = Callable[[str, int, int], AttemptResult]
"""Task, member, how many attempts that member has made of that task before → what comes of it."""


def always_ok(task: str, member: int, tried: int) -> AttemptResult:
    return ok()


class World:
    """Carries decisions out. Raises AssertionError as soon as a promise is broken."""

    def __init__(
        self,
        nodes: Sequence[Node],
        groups: Mapping[str, tuple[str, ...]] | None = None,
        settings: Settings | None = None,
        script: Script = always_ok,
        *,
        prepare: Callable[[str], Prepared | Settled] | None = None,
        steps: Mapping[tuple[str, str], ErrorRecord] | None = None,
        estimates: Estimate | None = None,
        cancel_takes: float = 0.5,
        seed: int = 0,
    ) -> None:
        self.nodes = {node.id: node for node in nodes}
        self.groups = dict(groups or {})
        self.settings = settings or Settings(parallel=4)
        self.parallel = self.settings.parallel
        self.script = script
        self.step_errors = dict(steps or {})
        self.estimate = estimates or Estimate()
        self.cancel_takes = cancel_takes
        self.given_prepare = prepare
        self.now = 0.0
        self.prepared: list[str] = []
        self.started: list[Start] = []
        self.starts_at: list[float] = []
        self.steps: list[tuple[str, str]] = []
        self.finished: dict[str, Finish] = {}
        self.finishes: Counter[str] = Counter()
        self.openings: Counter[str] = Counter(dict.fromkeys(self.nodes, 1))
        self.cancelled: list[Cancel] = []
        self.flying: dict[tuple[str, int], tuple[float, int, Any]] = {}
        self.heap: list[tuple[float, int, str, int]] = []
        self.tried: Counter[tuple[str, int]] = Counter()
        self.not_before: dict[LimitKey, float] = defaultdict(float)
        self.quota_until: dict[LimitKey, float] = defaultdict(float)  # until then, or until somebody retries
        self.order = 0
        self.highest = 0
        self.events: list[Any] = []
        self.waits: list[Wait] = []
        self.settled: dict[str, Outcome] = {}
        self.at: list[tuple[float, Callable[[World], None]]] = []
        self.scheduler = Scheduler(
            nodes, self.groups, self.settings, prepare=self._prepare, random=Random(seed), now=0.0
        )

    # -- told by the scheduler

    def _prepare(self, task: str) -> Prepared | Settled:
        assert self.prepared.count(task) < self.openings[task], f"`{task}` was prepared twice"
        self._check_needs(task)
        assert self._in_flight() < self.parallel, "prepared without a slot that is near"
        self.prepared.append(task)
        if self.given_prepare is not None:
            return self.given_prepare(task)
        return Prepared(tuple(self.estimate for _ in self.nodes[task].members))

    def _in_flight(self) -> int:
        return len(self.flying)

    def _check_needs(self, task: str) -> None:
        wanted = self.nodes[task]
        for name in wanted.depends_on:
            self._check_done(task, name, may_be_bad=False)
        for group in wanted.awaits:
            for name in self.groups[group]:
                self._check_done(task, name, may_be_bad=group.startswith("phase:"))

    def _check_done(self, task: str, name: str, *, may_be_bad: bool) -> None:
        outcome = self.settled.get(name) or (self.finished[name].outcome if name in self.finished else None)
        assert outcome is not None, f"`{task}` began before `{name}` had ended"
        is_good = outcome is Outcome.OK or self.nodes[name].on_failure == "continue"
        assert may_be_bad or is_good, f"`{task}` began although `{name}` ended {outcome}"

    def _start(self, start: Start) -> None:
        assert start.task in self.prepared
        self._check_begin(start.task)
        who = self.nodes[start.task].members[start.member]
        assert self.now >= self.not_before[who.key], f"`{who.engine}` had asked to wait"
        assert self.now >= self.quota_until[who.key], f"the quota of `{who.engine}` is used up"
        self.started.append(start)
        self.starts_at.append(self.now)
        assert start.attempt == 1 + max((n for t, n in self._numbers if t == start.task), default=0)
        self._numbers.add((start.task, start.attempt))
        tried = self.tried[start.task, start.member]
        self.tried[start.task, start.member] += 1
        result = self.script(start.task, start.member, tried)
        self._fly((start.task, start.attempt), start.member, result, result.seconds)
        self._check_limits()

    @property
    def _numbers(self) -> set[tuple[str, int]]:
        return self.__dict__.setdefault("numbers", set())

    def _check_begin(self, task: str) -> None:
        assert self.finishes[task] < self.openings[task], f"`{task}` had ended already"
        self._check_needs(task)

    def _fly(self, what: tuple[str, int], member: int, result: Any, seconds: float) -> None:
        assert what not in self.flying
        self.flying[what] = (self.now + seconds, member, result)
        self._land_at(self.now + seconds, what)
        self.highest = max(self.highest, self._in_flight())

    def _land_at(self, when: float, what: tuple[str, int]) -> None:
        self.order += 1
        heapq.heappush(self.heap, (when, self.order, *what))

    def _check_limits(self) -> None:
        assert self._in_flight() <= max(self.parallel, 1), "more than `parallel` in flight"
        engines: Counter[str] = Counter()
        phases: Counter[int] = Counter()
        roles: Counter[RoleLimit | None] = Counter()
        for (task, number), (_, who, _) in self.flying.items():
            phases[self.nodes[task].phase] += 1
            if number:
                engines[self.nodes[task].members[who].engine] += 1
                roles[self.nodes[task].role] += 1
        for engine, ceiling in self.settings.concurrency.items():
            assert engines[engine] <= ceiling
        for phase, ceiling in self.settings.phase_parallel.items():
            assert phases[phase] <= ceiling
        for role, count in roles.items():
            assert role is None or count <= role.parallel, f"{count} of the role `{role.role}` at once"

    def _finish(self, finish: Finish) -> None:
        self.finishes[finish.task] += 1
        assert self.finishes[finish.task] <= self.openings[finish.task], f"`{finish.task}` ended twice"
        assert not [key for key in self.flying if key[0] == finish.task], "ended with something in flight"
        self.finished[finish.task] = finish

    def _cancel(self, cancel: Cancel) -> None:
        key = (cancel.task, cancel.attempt)
        assert key in self.flying, "cancelled what is not in flight"
        self.cancelled.append(cancel)
        when, who, _ = self.flying[key]
        end = min(when, self.now + self.cancel_takes)
        if end < when:
            result = None if cancel.attempt == 0 else AttemptResult(False, 0.0)
            self.flying[key] = (end, who, result)
            self._land_at(end, key)

    # -- the loop

    def decide(self) -> Wait | None:
        decided = self.scheduler.decide(self.now)
        wait: Wait | None = None
        for at, decision in enumerate(decided):
            match decision:
                case Start():
                    self._start(decision)
                case RunStep():
                    self._check_begin(decision.task)
                    self.steps.append((decision.task, decision.step))
                    error = self.step_errors.get((decision.task, decision.step))
                    self._fly((decision.task, 0), 0, error, 1.0)
                    self._check_limits()
                case Finish():
                    self._finish(decision)
                case Cancel():
                    self._cancel(decision)
                case Wait():
                    assert at == len(decided) - 1, "only the last decision is a wait"
                    wait = decision
                    self.waits.append(decision)
        assert wait is None or wait.until is None or wait.until > self.now or wait.why == "ready", (
            "a busy wait"
        )
        self.events += self.scheduler.notices()
        assert (wait is None) == self.scheduler.is_done or not decided
        return wait

    def land(self) -> None:
        """Report all that ends at the present time."""
        while self.heap and self.heap[0][0] <= self.now:
            when, _, task, number = heapq.heappop(self.heap)
            held = self.flying.get((task, number))
            if held is None or held[0] != when:
                continue  # it was cancelled, and ended sooner
            del self.flying[task, number]
            if number:
                self._note_limit(task, held[1], held[2])
                self.scheduler.attempt_ended(task, number, held[2], self.now)
            else:
                step = next(step for name, step in reversed(self.steps) if name == task)
                self.scheduler.step_ended(task, step, held[2], self.now)

    def _note_limit(self, task: str, who: int, result: AttemptResult) -> None:
        if result.error is None or result.error.kind != "rate_limited" or not result.retry_after_seconds:
            return
        if result.is_alone:
            return
        key = self.nodes[task].members[who].key
        if result.retry_after_seconds <= self.settings.max_wait_seconds:
            times = self.quota_until if result.is_quota else self.not_before
            times[key] = max(times[key], self.now + result.retry_after_seconds)

    def run(self, longest: int = 20_000) -> World:
        """Go on until the run is done; fails if it never is, or if nothing will ever happen again."""
        for _ in range(longest):
            wait = self.decide()
            if self.scheduler.is_done:
                assert not self.flying
                return self
            times = [wait.until] if wait is not None and wait.until is not None else []
            times += [self.heap[0][0]] if self.heap else []
            times += [self.at[0][0]] if self.at else []
            assert times, f"stuck: {wait}, {self.scheduler.statistics()}"
            self.now = max(self.now, min(times))
            while self.at and self.at[0][0] <= self.now:
                self.at.pop(0)[1](self)
            self.land()
        raise AssertionError("the run has no end")

    # -- what came of it

    @property
    def outcomes(self) -> dict[str, str]:
        return {name: str(self.finished[name].outcome) for name in self.nodes if name in self.finished}

    @property
    def names(self) -> list[str]:
        return [start.task for start in self.started]

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]
