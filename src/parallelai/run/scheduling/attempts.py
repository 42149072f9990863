"""How a task is carried out: its steps, its attempts by the rule of its choice, and what their ends mean.

Choice rules (CONTRACTS §2): `one`; `fallback` offers the first member that is not out; `race` and `vote`
offer all, and end with the first good one or with all; `spread` offers all together, and the one with the
most left takes it. A member is out once its error cannot be retried any more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

from parallelai.events import BreakerClosed, BreakerOpened, EventData, LimitWaiting
from parallelai.records import ErrorRecord, LimitKey, Outcome
from parallelai.run.scheduling.budget import Reservation
from parallelai.run.scheduling.channels import KeyState
from parallelai.run.scheduling.decisions import Cancel, RunStep, Start
from parallelai.run.scheduling.nodes import AttemptResult
from parallelai.run.scheduling.queues import FIRST, Queues
from parallelai.run.scheduling.retry import (
    NO_ERROR,
    backoff_seconds,
    decisive,
    goes_over,
    limited_seconds,
    outcome_of,
)
from parallelai.run.scheduling.roster import Roster
from parallelai.run.scheduling.tasks import STEP, Ending, Flight, State, TaskState

_DONE = Ending(Outcome.OK, None, "done")
_TAKEN_LATE = Ending(Outcome.OK, None, "done before it could be cancelled")
_STEP_FLIGHT = Flight(0, None, Reservation())
_WAITING_STEP = Flight(0, None, Reservation(), is_waiting=True)
_FORGIVEN = frozenset({Outcome.CANCELLED, Outcome.OVER_BUDGET})
_TOGETHER = frozenset({"fallback", "spread"})
"""Rules that offer a task to all members at once: while one is limited, another may take it."""
TOLD_WAIT_SECONDS = 5.0
"""A shorter wait of a key is over before anybody has read of it."""


class Attempts:
    """The attempts and steps in flight. `closed` is how what has not begun ends, once nothing may start."""

    def __init__(
        self,
        roster: Roster,
        queues: Queues,
        random: Random,
        max_wait_seconds: float,
        to_utc: Callable[[float], str],
    ) -> None:
        self.in_flight = 0
        self.closed: Ending | None = None
        self.events: list[EventData] = []
        self._roster = roster
        self._queues = queues
        self._random = random
        self._max_wait_seconds = max_wait_seconds
        self._to_utc = to_utc
        self._open_keys: list[KeyState] = []

    # ------------------------------------------------------------------ into the queues

    def enter(self, task: TaskState, now: float) -> None:
        """Queue the task's present step; past the last one the task is done."""
        steps = task.node.steps
        if task.step >= len(steps):
            self._roster.finish(task, _DONE)
        elif task.is_unslotted and task.estimates is not None:
            self.start_step(task)
        elif not task.is_performing:
            self._queues.push(task, (), FIRST if task.step else task.key)
        elif not task.channels:
            self._queues.push(task, (), task.key)  # nobody to do it, which `prepare` will say
        elif task.node.rule in ("race", "vote"):
            for member in range(len(task.channels)):
                if task.state is State.OPEN and task.ending is None:
                    self._offer(task, (member,), now)
        else:
            self._offer(task, task.alive(), now)

    def _offer(self, task: TaskState, members: tuple[int, ...], now: float) -> None:
        """Queue an attempt by one of the members, around those whose breaker is open."""
        if self.closed is not None:
            self._withhold(task, now)
            return
        if self._open_keys:
            self._offer_around(task, members, now)
        elif task.node.rule == "fallback":
            self._queues.push(task, members[:1], task.key)
        else:
            self._queues.push(task, members, task.key)

    def _offer_around(self, task: TaskState, members: tuple[int, ...], now: float) -> None:
        keys = [task.channels[member].key for member in members]
        usable = tuple(m for m, key in zip(members, keys, strict=True) if not key.is_open)
        if not usable:
            hopeful = [
                (key.until or 0.0, m)
                for m, key in zip(members, keys, strict=True)
                if key.can_wait(now, self._max_wait_seconds)
            ]
            usable = tuple(m for _, m in sorted(hopeful))
        if not usable:
            for member, key in zip(members, keys, strict=True):
                task.errors[member] = self._too_long(key)
            self._member_out(task, now)
            return
        self._queues.push(task, usable[:1] if task.node.rule == "fallback" else usable, task.key)

    def _too_long(self, key: KeyState) -> ErrorRecord:
        name = key.key.engine
        until = None if key.until is None else self._to_utc(key.until)
        when = f"until {until}" if until else "and it did not say until when"
        said = f"`{name}` is limited {when}: {key.why}"
        return ErrorRecord("rate_limited", said, None, self._when_again(key.until), True)

    def _when_again(self, at: float | None) -> str:
        if at is None:
            return "resume the run when the limit has been reset"
        return f"resume the run after {self._to_utc(at)}"

    def _withhold(self, task: TaskState, now: float) -> None:
        task.withheld = self.closed
        self._conclude_choice(task, now)

    # ------------------------------------------------------------------ in flight

    def start(self, task: TaskState, member: int, reserved: Reservation, now: float) -> None:
        """Start an attempt; its slot, its engine's, its phase's and its role's are taken together."""
        task.attempts += 1
        channel = task.channels[member]
        channel.started += 1
        budget = task.node.budget
        if budget is not None and budget.time is not None and not task.deadline:
            self._queues.push_deadline(task, now + budget.time - task.seconds)
        self._take(task, task.attempts, Flight(member, channel, reserved))
        self._roster.decisions.append(Start(task.node.id, member, task.attempts, task.estimate(member)))

    def start_step(self, task: TaskState) -> None:
        self._take(task, STEP, _WAITING_STEP if task.is_unslotted else _STEP_FLIGHT)
        self._roster.decisions.append(RunStep(task.node.id, task.node.steps[task.step]))

    def _take(self, task: TaskState, number: int, flight: Flight) -> None:
        task.flights[number] = flight
        if not flight.is_waiting:
            self._count(task, flight, 1)
        self._roster.count_in_batch(task)

    def _count(self, task: TaskState, flight: Flight, change: int) -> None:
        """Take a flight's slots (`change` 1), or give them back (-1): of the run, its engine, phase and role."""
        self.in_flight += change
        phase = self._queues.phase(task.node.phase)
        if phase is not None:
            phase.in_flight += change
        if flight.channel is not None:
            flight.channel.engine.in_flight += change
            flight.channel.key.in_flight += change
            role = self._queues.role(task.node)
            if role is not None:
                role.in_flight += change

    def park(self, task: TaskState, number: int, is_waiting: bool) -> None:
        """Let an attempt in flight wait for another task without a slot, or go on, at once, with one."""
        flight = task.flights.get(number)
        if flight is None or flight.is_waiting == is_waiting:
            return
        self._count(task, flight, -1 if is_waiting else 1)
        task.flights[number] = flight._replace(is_waiting=is_waiting)
        self._roster.count_in_batch(task)

    def land(self, task: TaskState, number: int) -> Flight:
        """Give back what a flight held. Raises `ValueError` if there is none of that number."""
        flight = task.flights.pop(number, None)
        if flight is None:
            what = f"attempt {number}" if number else "step"
            raise ValueError(f"no {what} of `{task.node.id}` is in flight")
        if not flight.is_waiting:
            self._count(task, flight, -1)
        self._roster.count_in_batch(task)
        if not task.flights:
            task.deadline = 0
        if task.is_cancelling:
            self._roster.take_back(task, number)
        return flight

    # ------------------------------------------------------------------ what came of it

    def attempt_landed(self, task: TaskState, flight: Flight, result: AttemptResult, now: float) -> None:
        """Take an attempt's result; the flight has landed already."""
        task.seconds += result.seconds
        if result.error is None or result.error.kind != "rate_limited":
            task.limited, task.limited_since = 0, None
        elif flight.channel is not None:
            self._limit_key(task, flight.channel.key, result, now)
        if task.ending is not None:
            self._finish_ending(task, task.ending, self._is_enough(task, result.ok))
        elif result.ok:
            self._won(task, now)
        elif task.node.rule == "race" and task.wins:
            self._conclude_choice(task, now)
        else:
            self._lost(task, flight.member, result, now)

    def step_landed(self, task: TaskState, error: ErrorRecord | None, now: float) -> None:
        """Take a step's result: an error ends the task."""
        if task.ending is not None:
            self._finish_ending(task, task.ending, error is None and not task.is_cancelling)
        elif error is not None:
            self.end(task, Ending(outcome_of(error), error, f"step `{task.node.steps[task.step]}` failed"))
        else:
            self._advance(task, now)

    def _is_enough(self, task: TaskState, is_good: bool) -> bool:
        """Say whether the rule of the choice is met: a vote needs all to have ended, and one of them well."""
        return (is_good or task.wins > 0) and (task.node.rule != "vote" or not task.flights)

    def _finish_ending(self, task: TaskState, ending: Ending, is_good: bool) -> None:
        """End a task that was to end, but for what was in flight; good work that came late is taken."""
        if is_good and ending.outcome in _FORGIVEN and task.step + 1 == len(task.node.steps):
            task.ending = ending = _TAKEN_LATE
        if not task.flights:
            self._roster.finish(task, ending)

    def _advance(self, task: TaskState, now: float) -> None:
        task.step += 1
        if task.node.finish_step == task.step:
            self._roster.finished(task)
        self.enter(task, now)

    def _won(self, task: TaskState, now: float) -> None:
        task.wins += 1
        if task.node.rule == "race":
            task.queued.clear()
            self._cancel_flights(task, "another member was first")
        self._conclude_choice(task, now)

    def _lost(self, task: TaskState, member: int, result: AttemptResult, now: float) -> None:
        error = result.error or NO_ERROR
        rule = task.node.rule
        if error.kind == "rate_limited":
            self._again_after_limit(task, member, error, result, now)
            return
        tried = sum(task.tries) if rule == "spread" else task.tries[member]
        if error.kind in task.retried and tried < task.node.retries:
            task.tries[member] += 1
            self._again_later(task, member, tried + 1, result, now)
            return
        task.errors[member] = error
        is_used_up = rule == "spread" and error.kind in task.retried  # its retries are the task's
        if is_used_up or (rule in _TOGETHER and not goes_over(error.kind)):
            self._fail(task, error)
        else:
            self._member_out(task, now)

    def _again_later(
        self, task: TaskState, member: int, retry: int, result: AttemptResult, now: float
    ) -> None:
        if self.closed is not None:
            self._withhold(task, now)
            return
        asked = result.retry_after_seconds
        asked = None if asked is None else min(asked, self._max_wait_seconds)
        members = task.alive() if task.node.rule == "spread" else (member,)
        self._queues.push_later(task, members, now + backoff_seconds(retry, self._random, asked))

    def _again_after_limit(
        self, task: TaskState, member: int, error: ErrorRecord, result: AttemptResult, now: float
    ) -> None:
        """Queue a limited attempt again, which counts as no try: its key's time holds it back, or its own."""
        since = task.limited_since if task.limited_since is not None else now
        key = task.channels[member].key
        opens = key.until if key.is_open else key.not_before
        alone = now + (result.retry_after_seconds or 0.0) if _waits_alone(task, result) else None
        if alone is not None:
            opens = alone if opens is None else max(alone, opens)
        if opens is not None and opens - since > self._max_wait_seconds:
            task.errors[member] = replace(error, next=error.next or self._when_again(opens))
            self._member_out(task, now)
        elif alone is not None and self.closed is None:
            self._queues.push_later(task, (member,), alone)
        elif task.node.rule in _TOGETHER:
            self._offer(task, task.alive(), now)
        else:
            self._offer(task, (member,), now)

    def due(self, now: float) -> None:
        """Queue what waited for a time that has come."""
        for _, _, _, task, members in self._queues.due(now):
            alive = tuple(member for member in members if task.errors[member] is None)
            self._offer(task, alive if task.node.rule != "fallback" else task.alive(), now)

    def _member_out(self, task: TaskState, now: float) -> None:
        if task.node.rule in _TOGETHER:
            alive = task.alive()
            if alive:
                self._offer(task, alive, now)
                return
        self._conclude_choice(task, now)

    def _conclude_choice(self, task: TaskState, now: float) -> None:
        """Go on with the task if nothing of its choice is in flight or queued any more."""
        if task.flights or task.queued or task.state is State.DONE:
            return
        if task.wins:
            task.is_cancelling = False
            self._advance(task, now)
        elif task.withheld is not None:
            self._roster.finish(task, task.withheld)
        elif task.node.rule in ("race", "vote") and task.alive():
            return  # still being offered, member by member
        else:
            self._fail(task, decisive(task.errors))

    def _fail(self, task: TaskState, error: ErrorRecord) -> None:
        tries = f"{task.attempts} attempt{'s' if task.attempts != 1 else ''}"
        self.end(task, Ending(outcome_of(error), error, f"{error.kind} after {tries}"))

    def end(self, task: TaskState, ending: Ending, is_cancelled: bool = False) -> None:
        """End a task now, or when what is in flight of it has landed."""
        task.queued.clear()
        if not task.flights:
            self._roster.finish(task, ending)
            return
        task.ending = task.ending or ending
        if is_cancelled:
            self._cancel_flights(task, ending.why)

    def _cancel_flights(self, task: TaskState, why: str) -> None:
        if task.flights and not task.is_cancelling:
            task.is_cancelling = True
            self._roster.decisions += [Cancel(task.node.id, number, why) for number in task.flights]

    # ------------------------------------------------------------------ keys

    def _limit_key(self, task: TaskState, key: KeyState, result: AttemptResult, now: float) -> None:
        """Move the key's time; open its breaker where a quota is used up, or the wait would be too long."""
        task.limited += 1
        if task.limited_since is None:
            task.limited_since = now
        asked = result.retry_after_seconds
        if result.is_quota or (asked is not None and asked > self._max_wait_seconds):
            self._open_breaker(key, None if asked is None else now + asked, result, now)
            return
        if _waits_alone(task, result):
            return
        pause = limited_seconds(task.limited, self._random) if not asked or asked <= 0 else asked
        self._hold_back(key, now + pause, (result.error or NO_ERROR).said, now)

    def hold_key(self, key: LimitKey, seconds: float | None, said: str, now: float) -> None:
        """Hold a key back because a session of it waits; see `Scheduler.limited`."""
        state = self._queues.key(key)
        if state is None:
            return
        if seconds is not None and seconds > self._max_wait_seconds:
            error = ErrorRecord("rate_limited", said)
            self._open_breaker(state, now + seconds, AttemptResult(False, error=error), now)
            return
        pause = limited_seconds(1, self._random) if seconds is None else max(0.0, seconds)
        self._hold_back(state, now + pause, said, now)

    def _hold_back(self, key: KeyState, until: float, said: str, now: float) -> None:
        """Let nothing of a key start before `until`, and tell of it if that is news of some length."""
        key.not_before = max(key.not_before, until)
        if key.not_before - max(now, key.told) >= TOLD_WAIT_SECONDS:
            key.told = key.not_before
            self.events.append(LimitWaiting(key.key, self._to_utc(key.told), said))

    def _open_breaker(self, key: KeyState, until: float | None, result: AttemptResult, now: float) -> None:
        said = result.error.said if result.error is not None else "the quota is used up"
        if key.is_open and (key.until is None or (until is not None and until <= key.until)):
            return
        if not key.is_open:
            self._open_keys.append(key)
        key.is_open, key.until, key.why = True, until, said
        self.events.append(BreakerOpened(key.key, said, None if until is None else self._to_utc(until)))
        for _, _, _, task, members in self._queues.take_key(key):
            if task.state is State.OPEN and task.ending is None:
                self._offer(task, task.alive() if task.node.rule in _TOGETHER else members, now)

    def close_breakers(self, now: float) -> None:
        """Close the breakers whose time is over."""
        if self._open_keys:
            self._close([key for key in self._open_keys if key.until is not None and key.until <= now])

    def close_breakers_of(self, task: TaskState) -> None:
        """Close the breakers that hold a task, because somebody asked to try it again."""
        self._close([channel.key for channel in task.channels])

    def _close(self, keys: list[KeyState]) -> None:
        for key in keys:
            if key.is_open:
                key.is_open, key.until = False, None
                self._open_keys.remove(key)
                self.events.append(BreakerClosed(key.key))


def _waits_alone(task: TaskState, result: AttemptResult) -> bool:
    """Say whether only this task waits after a rate limit; if another member may take it, its key waits too."""
    return result.is_alone and task.node.rule not in _TOGETHER
