"""The scheduler: decides what starts, waits, is cancelled and ends, and does nothing itself (CONTRACTS §9).

Pure: the clock comes with every call, chance with the constructor. One call costs O(log n) in the number of
tasks that are ready. Whoever runs it asks `decide`, carries the decisions out, and reports every end; every
node gets exactly one `Finish`. The parts:

    scheduler   what may start now, commands, budgets
    attempts    steps, choice rules, retries, breakers
    roster      dependencies and outcomes
    queues      what is ready, by what it needs; timers
    budget, retry, ranks, strategies    the rules, each by itself
"""

from __future__ import annotations

import functools
import heapq
from collections.abc import Callable, Mapping, Sequence
from random import Random

from parallelai.errors import NotFoundError
from parallelai.events import BudgetChanged, BudgetReached, EventData, LimitChanged, LimitReached
from parallelai.records import ErrorRecord, LimitKey, Outcome, Usage
from parallelai.run.scheduling.attempts import Attempts
from parallelai.run.scheduling.budget import NOTHING, Reservation, Spending
from parallelai.run.scheduling.channels import Count
from parallelai.run.scheduling.decisions import Decision, Wait
from parallelai.run.scheduling.nodes import AttemptResult, Budget, Node, Prepared, Settled, Statistics
from parallelai.run.scheduling.queues import Entry, Lane, Queues
from parallelai.run.scheduling.retry import retried_kinds
from parallelai.run.scheduling.roster import Roster
from parallelai.run.scheduling.settings import Settings
from parallelai.run.scheduling.tasks import STEP, Ending, State, TaskState

__all__ = ["Scheduler"]

_WHOLE_RUN = LimitKey("*", "*", "*")
_MIB = 1024 * 1024
_BOUNDS = ("rate_limited", "concurrency", "role", "phase", "memory", "budget")
_NOBODY = Ending(
    Outcome.BLOCKED,
    ErrorRecord("unavailable", "no engine can do this task", next="name an engine"),
    "no engine",
)
_WORDS = {"usd": "money", "tokens": "token", "time": "time"}


class Scheduler:
    """The state of one run. Raises `ValueError` on nodes that no checked plan gives (unknown ids, circles).

    `prepare` is called once for a task, in the order of dispatch, when its dependencies are there and a slot
    is free: it says what the attempts will take, or that the task needs none.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        groups: Mapping[str, tuple[str, ...]],
        settings: Settings,
        *,
        prepare: Callable[[str], Prepared | Settled],
        random: Random,
        now: float,
    ) -> None:
        self._prepare = prepare
        self._parallel = 0
        self._on_budget = settings.on_budget
        self._batch = settings.strategy.batch
        self._pool: list[tuple[float, int, int, TaskState]] = []  # what is ready for the next batch
        self._pooled = 0
        self._events: list[EventData] = []
        self._queues = Queues(settings.concurrency, settings.phase_parallel, settings.is_crowded)
        self._roster = Roster(settings.strategy, functools.partial(_state_of, self._queues, {}))
        self._attempts = Attempts(
            self._roster, self._queues, random, settings.max_wait_seconds, settings.to_utc
        )
        self._spending = Spending(settings.budget, settings.spent, now)
        self._unsaid: BudgetReached | None = None  # the time is up, but nothing was kept from starting yet
        self.is_paused = False
        self._unaffordable: list[Lane] = []
        self._too_large: list[Lane] = []  # whose heads do not fit into the memory that is left
        self._memory_bytes = settings.memory_bytes
        self._memory_held = 0
        self._told_full: set[str] = set()  # engines of which somebody was told that the memory holds no more
        self._wanted: str | None = None  # the limit that keeps a reservation from being made
        self._bounds: dict[str, float | None] = {}
        self._wait = Wait(None, "in_flight")
        self._set_parallel(settings.parallel)
        self.add(nodes, groups, now)

    # ------------------------------------------------------------------ what it is told

    def add(self, nodes: Sequence[Node], groups: Mapping[str, tuple[str, ...]], now: float) -> None:
        """Take in more tasks, which may await those that are there; a known group gets more members."""
        self._roster.add(nodes, groups)
        self._queues.rerank()
        self._pool = [(task.key, index, at, task) for _, index, at, task in self._pool]
        heapq.heapify(self._pool)
        if self._attempts.closed is not None:
            self._roster.withhold(self._attempts.closed)

    def settle(self, task: str, outcome: Outcome, error: ErrorRecord | None = None) -> None:
        """Say, before the first `decide`, that a task ended in an earlier process: no `Finish` is decided."""
        self._roster.settle(self._roster.tasks[task], outcome)

    def attempt_ended(self, task: str, attempt: int, result: AttemptResult, now: float) -> None:
        """Report an attempt's end, a cancelled one's too. Raises `ValueError` if it was not in flight."""
        state = self._roster.tasks[task]
        flight = self._attempts.land(state, attempt)
        self._memory_held -= state.estimate(flight.member).memory_bytes
        channel = flight.channel
        if channel is None:
            raise ValueError(f"attempt {attempt} of `{task}` is a step")
        self._spending.settle(channel.key.key, flight.reserved, state.estimate(flight.member), result.usage)
        usage = result.usage
        if usage is not None:
            state.usd += usage.usd or 0.0
            state.tokens += usage.tokens or 0
        self._attempts.attempt_landed(state, flight, result, now)

    def park(self, task: str, attempt: int, is_waiting: bool) -> None:
        """Say that an attempt in flight waits for another task and needs no slot meanwhile, or goes on.

        While it waits the next batch may start: what it waits for may be there.
        """
        state = self._roster.tasks.get(task)
        if state is not None:
            self._attempts.park(state, attempt, is_waiting)

    def limited(self, key: LimitKey, seconds: float | None, said: str, now: float) -> None:
        """Take in that a session in flight waits for its provider: nothing else of the key starts meanwhile.

        `seconds` None is unknown. A wait beyond `max_wait` opens the key's breaker.
        """
        self._attempts.hold_key(key, seconds, said, now)

    def step_ended(self, task: str, step: str, error: ErrorRecord | None, now: float) -> None:
        """Report a step's end; an error ends the task. Raises `ValueError` if it was not in flight."""
        state = self._roster.tasks[task]
        self._attempts.land(state, STEP)
        self._attempts.step_landed(state, error, now)

    # ------------------------------------------------------------------ what it decides

    def decide(self, now: float) -> list[Decision]:
        """Decide what can be decided now; the last is a `Wait`, unless every task has ended."""
        roster, attempts = self._roster, self._attempts
        roster.tell_settled()
        attempts.close_breakers(now)
        attempts.due(now)
        for task in self._queues.late(now):
            attempts.end(
                task, _over(f"the task's time limit is reached after {task.attempts} attempts"), True
            )
        self._check_budget(now)
        bound = "paused" if self.is_paused else self._start_all(now)
        if self._unsaid is not None and roster.outcomes[Outcome.OVER_BUDGET]:
            self._events.append(self._unsaid)
            self._unsaid = None
        self._events += self._spending.warnings(now)
        decided = roster.told()
        if roster.remaining:
            decided.append(self._waiting(bound, now))
        return decided

    def _start_all(self, now: float) -> str:
        """Start what may start; say what binds the run then."""
        attempts, roster = self._attempts, self._roster
        self._unaffordable.clear()
        self._too_large.clear()
        while True:
            if roster.stopped_by is not None and attempts.closed is None:
                why = f"stopped, because `{roster.stopped_by.node.id}` failed"
                self._close(Ending(Outcome.CANCELLED, None, why))
            if attempts.in_flight >= self._parallel:
                return "parallel"
            if roster.ready and roster.has_untold:
                return "ready"  # who prepares them must have carried out the ends that made them ready
            if roster.ready or self._pool:
                self._open_ready(now)
            lane = self._best_lane(now)
            if lane is not None:
                self._start_head(lane, now)
            elif self._unaffordable and not attempts.in_flight and self._wanted is not None:
                self._reach(self._wanted, now)
            elif not roster.ready and (roster.batch_open or not self._pool):
                return next(
                    (why for why in _BOUNDS if why in self._bounds), "batch" if self._pool else "retry"
                )

    def _open_ready(self, now: float) -> None:
        roster = self._roster
        ready, roster.ready = roster.ready, []
        for task in ready:
            if task.state is not State.OPEN:
                continue
            if self._batch is None:
                self._attempts.enter(task, now)
            else:
                self._pooled += 1
                heapq.heappush(self._pool, (task.key, task.node.index, self._pooled, task))
        if self._pool and not roster.batch_open:
            self._open_batch(now)

    def _open_batch(self, now: float) -> None:
        batch: list[TaskState] = []
        while self._pool and len(batch) < (self._batch or 1):
            task = heapq.heappop(self._pool)[3]
            if task.state is State.OPEN and not task.is_batched:
                task.is_batched = True
                batch.append(task)
        self._roster.batch_open += len(batch)
        for task in batch:
            self._attempts.enter(task, now)

    def _best_lane(self, now: float) -> Lane | None:
        """Choose, of the lanes with room, the one with the best head, and note what holds the others."""
        best: Entry | None = None
        chosen: Lane | None = None
        self._bounds.clear()
        for lane in self._queues.filled():
            head = lane.heap[0]
            if best is not None and best < head:
                continue
            why = self._withheld(lane) or lane.bound(now)
            if why is None:
                best, chosen = head, lane
            elif why == "rate_limited":
                known = self._bounds.get(why)
                opens = lane.opens_at(now)
                self._bounds[why] = opens if known is None else min(known, opens)
            else:
                self._bounds[why] = None
                if why == "role" and lane.role is not None:
                    self._tell_full(why, lane.role.role, lane.role)
                elif why == "concurrency":
                    for channel in lane.channels:
                        self._tell_full("engine", channel.key.key.engine, channel.engine)
        return chosen

    def _tell_full(self, what: str, name: str, count: Count) -> None:
        """Say once of a role or an engine that its limit keeps a task from starting."""
        if not count.is_told and count.is_full and count.ceiling is not None:
            count.is_told = True
            self._events.append(LimitReached(what, name, count.in_flight, count.ceiling))

    def _withheld(self, lane: Lane) -> str | None:
        """What this round has found to keep a lane's head from starting."""
        if lane in self._unaffordable:
            return "budget"
        return "memory" if lane in self._too_large else None

    def _start_head(self, lane: Lane, now: float) -> None:
        """Start a lane's head, or learn that it needs no start, or cannot be paid for now."""
        entry = lane.heap[0]
        task = entry[3]
        if task.estimates is None:
            made = self._prepare(task.node.id)
            if isinstance(made, Settled):
                self._attempts.end(task, Ending(made.outcome, made.error, made.why or "needed no attempt"))
                return
            task.estimates = made.estimates
        if not entry[4]:
            self._queues.pop(lane)
            if task.is_performing:
                self._attempts.end(task, _NOBODY)
            else:
                self._attempts.start_step(task)
            return
        member = lane.choose(entry, now)
        taken = task.estimate(member).memory_bytes
        if taken and not self._has_room(taken):
            self._too_large.append(lane)
            self._tell_memory(task.channels[member].key.key.engine)
            return
        reserved = NOTHING
        if self._spending.is_limited or task.node.budget is not None:
            reserved = self._spending.expect(task.channels[member].key.key, task.estimate(member))
            if not self._can_pay(task, lane, reserved):
                return
        self._queues.pop(lane)
        self._spending.reserve(reserved)
        self._memory_held += taken
        self._attempts.start(task, member, reserved, now)

    def _has_room(self, taken: int) -> bool:
        """Whether an attempt fits into the memory.

        It always does where no other works, since waiting would not help: those that are parked may wait for it.
        """
        if self._memory_bytes is None or not self._memory_held or not self._attempts.in_flight:
            return True
        return self._memory_held + taken <= self._memory_bytes

    def _tell_memory(self, engine: str) -> None:
        """Say once of an engine that the memory keeps an attempt of it from starting."""
        if engine not in self._told_full and self._memory_bytes is not None:
            self._told_full.add(engine)
            held, most = self._memory_held // _MIB, self._memory_bytes // _MIB
            self._events.append(LimitReached("memory", engine, held, most))

    def _can_pay(self, task: TaskState, lane: Lane, wanted: Reservation) -> bool:
        what = task.over_own_budget(wanted)
        if what is not None:
            self._attempts.end(task, _over(f"the task's {_WORDS[what]} limit is reached"))
            return False
        what = self._spending.excess(wanted)
        if what is not None:
            self._unaffordable.append(lane)
            self._wanted = what
        return what is None

    def _waiting(self, bound: str, now: float) -> Wait:
        """Say what the run waits for. While all slots are taken, only a time limit is worth a look before."""
        if bound == "ready":
            return Wait(now, bound)
        times = [self._queues.next_deadline(), self._spending.next_time(now)]
        if bound not in ("parallel", "paused"):
            timer = self._queues.next_timer()
            times += [timer, self._bounds.get("rate_limited")]
            if bound == "retry" and timer is None:
                bound = "in_flight"
        until = min((time for time in times if time is not None), default=None)
        if until != self._wait.until or bound != self._wait.why:
            self._wait = Wait(until, bound)
        return self._wait

    # ------------------------------------------------------------------ budgets and ends

    def _check_budget(self, now: float) -> None:
        spending = self._spending
        if self._attempts.closed is not None or not self._roster.remaining:
            return
        if spending.is_late(now):
            self._unsaid = spending.reached("time", now)
            self._close(_over("the run's time limit is reached"))
            self._cancel_for_budget()
        elif self._on_budget == "cancel" and self._attempts.in_flight and spending.is_limited:
            what = spending.overspent()
            if what is not None:
                self._reach(what, now)

    def _reach(self, what: str, now: float) -> None:
        self._unaffordable.clear()
        self._events.append(self._spending.reached(what, now))
        self._close(_over(f"the run's {_WORDS[what]} limit is reached"))
        self._cancel_for_budget()

    def _cancel_for_budget(self) -> None:
        if self._on_budget == "cancel" and self._attempts.closed is not None:
            self._cancel_all(self._attempts.closed)

    def _close(self, ending: Ending) -> None:
        """From now on nothing starts that has not begun; it ends so."""
        self._attempts.closed = ending
        self._roster.withhold(ending)

    def _cancel_all(self, ending: Ending) -> None:
        for task in list(self._roster.tasks.values()):
            if task.state is not State.DONE:
                self._attempts.end(task, ending, True)

    # ------------------------------------------------------------------ commands

    def pause(self) -> None:
        """Start nothing until `resume`; what is in flight goes on."""
        self.is_paused = True

    def resume(self) -> None:
        """Start again what may start."""
        self.is_paused = False

    def stop(self, why: str) -> None:
        """Let what has begun go on to its end, without retries; the rest finishes `cancelled`."""
        if self._attempts.closed is None:
            self._close(Ending(Outcome.CANCELLED, None, why))

    def cancel(self, task: str | None, why: str = "cancelled") -> bool:
        """Cancel one task, or all (None): what is in flight gets `Cancel`. False if it had ended already.

        Raises `NotFoundError` if there is no such task.
        """
        ending = Ending(Outcome.CANCELLED, None, why)
        if task is None:
            had_any = self._roster.remaining > 0
            self.stop(why)
            self._cancel_all(ending)
            return had_any
        state = self._task(task)
        if state.state is State.DONE:
            return False
        self._attempts.end(state, ending, True)
        return True

    def retry(self, task: str, now: float) -> tuple[str, ...]:
        """Try now what waits to be retried, or open a task again that ended badly, with what it decided.

        Gives the tasks that were opened again: each gets another `Finish`. None is once the run stops, or if
        it was skipped for another task, which is the one to try again.
        Raises `NotFoundError` if there is no such task.
        """
        state = self._task(task)
        if self._attempts.closed is not None:
            return ()
        if state.state is State.DONE:
            if state.outcome is Outcome.OK or state.cause is not None:
                return ()  # what was skipped for another task is opened with that one
            self._attempts.close_breakers_of(state)
            return tuple(one.node.id for one in self._roster.reopen(state))
        if state.attempts and state.queued and not state.flights and state.is_performing:
            state.queued.clear()
            self._attempts.close_breakers_of(state)
            self._attempts.enter(state, now)
        return ()

    def set_parallel(self, parallel: int) -> None:
        """Change how many may be in flight; what is in flight beyond it goes on."""
        before = self._parallel
        self._set_parallel(parallel)
        if before != parallel:
            self._events.append(LimitChanged(_WHOLE_RUN, before, parallel, "command"))

    def _set_parallel(self, parallel: int) -> None:
        if parallel < 1:
            raise ValueError(f"`parallel` is at least 1, not {parallel}")
        self._parallel = parallel

    def set_budget(self, budget: Budget) -> None:
        """Take new totals of the run. What ended over budget stays so, until `retry`."""
        self._spending.set_limits(budget)
        self._unsaid = None
        closed = self._attempts.closed
        if closed is not None and closed.outcome is Outcome.OVER_BUDGET:
            self._attempts.closed = None
        self._events.append(BudgetChanged(budget.usd, budget.tokens, budget.time))

    def use(self, usage: Usage) -> None:
        """Count what a landing asked engines for."""
        self._spending.use(usage.usd if usage.basis != "subscription" else 0.0, usage.tokens)

    # ------------------------------------------------------------------ what it tells

    def notices(self) -> list[EventData]:
        """Give the events since the last call: limits, breakers, budgets."""
        if not self._events and not self._attempts.events:
            return []
        made = [*self._events, *self._attempts.events]
        self._events.clear()
        self._attempts.events.clear()
        return made

    @property
    def is_done(self) -> bool:
        """Whether every task has ended, and every `Finish` has been given."""
        return not self._roster.remaining and not self._roster.decisions

    def statistics(self) -> Statistics:
        """Say where the run stands; O(n), for pages and lines, not for every event."""
        ready = waiting = working = 0
        for task in self._roster.tasks.values():
            if task.state is State.WAITING:
                waiting += 1
            elif task.state is State.OPEN:
                working += bool(task.attempts or task.flights)
                ready += not task.attempts and not task.flights
        spending = self._spending
        return Statistics(
            in_flight=self._attempts.in_flight,
            ready=ready,
            waiting=waiting,
            working=working,
            done=len(self._roster.tasks) - self._roster.remaining,
            limit_bound=self._wait.why,
            outcomes={outcome: count for outcome, count in self._roster.outcomes.items() if count},
            parallel=self._parallel,
            is_paused=self.is_paused,
            spent_usd=spending.usd,
            spent_tokens=int(spending.tokens),
            reserved_usd=spending.reserved_usd,
            reserved_tokens=int(spending.reserved_tokens),
            unpriced=spending.unpriced,
        )

    def _task(self, name: str) -> TaskState:
        found = self._roster.tasks.get(name)
        if found is None:
            raise NotFoundError(f"there is no task `{name}` in this run", next="`runs show` lists them")
        return found


def _state_of(queues: Queues, known: dict[frozenset[str], frozenset[str]], node: Node) -> TaskState:
    retried = known.get(node.retry_on)
    if retried is None:
        retried = known[node.retry_on] = retried_kinds(node.retry_on)
    return TaskState(node, tuple([queues.channel(member) for member in node.members]), retried)


def _over(why: str) -> Ending:
    return Ending(Outcome.OVER_BUDGET, None, why)
