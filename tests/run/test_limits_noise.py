"""Refusals that no pace can avoid must not slow a run down without end; the clock is virtual."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallelai.engines.protocol import LimitsEvent, LimitWindow
from parallelai.run.limits.adaptive import Adaptive, Taken
from parallelai.run.limits.key import KeyLimit, Reservation
from parallelai.run.limits.noise import Noise

LATENCY, CALLS, AT_ONCE = 0.2, 1_000, 100
PLENTY = LimitsEvent(LimitWindow(100_000, 90_000, 6.0), None)


class Bucket:
    """Lets `rate` calls a second in; none are saved up."""

    def __init__(self, rate: float) -> None:
        self.rate, self.level, self.at = rate, 1.0, 0.0

    def refuses(self, now: float) -> bool:
        self.level, self.at = min(1.0, self.level + self.rate * (now - self.at)), now
        if self.level < 1.0:
            return True
        self.level -= 1.0
        return False


def drive(
    limit: KeyLimit,
    is_refused: Callable[[float], bool],
    calls: int = CALLS,
    *,
    told: LimitsEvent | None = None,
    refusal_seconds: float = LATENCY,
    seed: int = 0,
) -> tuple[float, int]:
    """Send calls until all are answered, each back after about `LATENCY`; gives seconds and refusals."""
    chance = random.Random(seed)
    now, left, done, refused, number = 0.0, calls, 0, 0, 0
    flight: list[tuple[float, int, bool, Reservation]] = []
    while done < calls and now < 3_000:
        opens = limit.opens(now, 500.0) if left else math.inf
        if opens <= now + 1e-9:
            one = limit.take(now, 500.0)
            is_bad, number, left = is_refused(now), number + 1, left - 1
            seconds = (refusal_seconds if is_bad else LATENCY) * chance.uniform(0.9, 1.1)
            heapq.heappush(flight, (now + seconds, number, is_bad, one))
            continue
        now = min(flight[0][0] if flight else math.inf, max(opens, now + 1e-6))
        while flight and flight[0][0] <= now:
            _, _, is_bad, one = heapq.heappop(flight)
            limit.settle(one, now, None if is_bad else 500.0, told)
            if is_bad:
                refused, left = refused + 1, left + 1
                limit.refused(now, one, None)
            else:
                done += 1
                limit.answered(one)
    return now, refused


def at_random(share: float, seed: int) -> Callable[[float], bool]:
    chance = random.Random(seed)
    return lambda _: chance.random() < share


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("refusal_seconds", [LATENCY, 0.01])
@pytest.mark.parametrize("share", [0.05, 0.1, 0.2, 0.3])
def test_random_refusals_hardly_slow_a_run_down(share: float, refusal_seconds: float, seed: int) -> None:
    """At best it takes 2.9 seconds where three in ten are refused, and all else is lost to learning that."""
    limit = KeyLimit(AT_ONCE, AT_ONCE)
    seconds, _ = drive(limit, at_random(share, seed), refusal_seconds=refusal_seconds, seed=seed)
    assert seconds < 15.0


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("share", [0.05, 0.1, 0.2, 0.3])
def test_nor_a_run_that_began_slowly(share: float, seed: int) -> None:
    assert drive(KeyLimit(AT_ONCE), at_random(share, seed), seed=seed)[0] < 40.0


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_nor_where_headers_promise_room(share: float) -> None:
    assert drive(KeyLimit(AT_ONCE), at_random(share, 1), told=PLENTY)[0] < 6.0


@pytest.mark.parametrize("seed", range(3))
def test_a_longer_run_gets_faster_not_slower(seed: int) -> None:
    seconds, _ = drive(KeyLimit(AT_ONCE), at_random(0.1, seed), 5_000, seed=seed)
    assert seconds < 45.0


@pytest.mark.parametrize("rate", [2.0, 20.0])
def test_a_limit_is_no_noise(rate: float) -> None:
    seconds, refused = drive(KeyLimit(AT_ONCE), Bucket(rate).refuses)
    assert seconds <= 1.25 * CALLS / rate
    assert refused < 0.12 * CALLS


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("share", [0.05, 0.1, 0.2, 0.3])
def test_chance_and_a_limit_together_come_to_an_end(share: float, seed: int) -> None:
    """At best it takes 50 seconds; who slows down with each refusal takes hours."""
    bucket, chance = Bucket(20.0), at_random(share, seed)
    seconds, _ = drive(KeyLimit(AT_ONCE), lambda now: chance(now) or bucket.refuses(now), seed=seed)
    assert seconds < 1_500.0


@pytest.mark.parametrize("seed", range(3))
def test_where_half_is_refused_all_is_answered(seed: int) -> None:
    assert drive(KeyLimit(AT_ONCE, AT_ONCE), at_random(0.5, seed), seed=seed)[0] < 100.0


class Watched:
    """A `Noise` on a clock of its own, whose calls go out at a pace; of those at `refused`, of ten, are refused."""

    def __init__(self) -> None:
        self.noise, self.now, self.number = Noise(), 0.0, 0

    def send(self, speed: float, refused: Callable[[float], int], calls: int) -> bool | None:
        """Send calls until there is a verdict, at most so many."""
        for _ in range(calls):
            found = self.noise.paced(speed, self.now)
            if found is not None:
                return found
            faster = self.noise.factor or 1.0
            ticket = self.noise.sent(self.now)
            self.number += 1
            if self.number * 7 % 10 < refused(faster):
                self.noise.refused(ticket, 0.0)
            self.now += 1.0 / (speed * faster)
        return None


def test_where_faster_calls_are_refused_as_often_it_is_chance_and_the_speed_is_kept() -> None:
    watched = Watched()
    assert watched.send(10.0, lambda _: 2, 100) is None, "nothing is tried at full speed"
    assert watched.send(5.0, lambda _: 2, 200) is True
    assert watched.noise.least == pytest.approx(7.5)
    assert watched.send(7.5, lambda _: 2, 200) is True, "and so on, step by step"
    assert watched.noise.least == pytest.approx(11.25)


def test_where_faster_calls_are_refused_more_often_there_is_a_limit() -> None:
    watched = Watched()
    watched.send(10.0, lambda _: 1, 100)
    assert watched.send(5.0, lambda faster: 1 if faster == 1.0 else 5, 200) is False
    assert watched.noise.least == 0.0


def test_a_least_speed_is_given_up_where_far_more_is_refused_than_before() -> None:
    watched = Watched()
    watched.send(10.0, lambda _: 2, 100)
    assert watched.send(5.0, lambda _: 2, 200)
    assert watched.send(7.5, lambda faster: 2 if faster == 1.0 else 8, 200) is False
    watched.send(7.5, lambda _: 2, 25)
    assert watched.noise.least == pytest.approx(7.5)
    watched.send(7.5, lambda _: 7, 200)
    watched.send(7.5, lambda _: 7, 200)
    assert watched.noise.least == 0.0


@given(st.lists(st.tuples(st.floats(0, 10), st.sampled_from(["send", "refuse", "both"])), max_size=300))
def test_whatever_comes(steps: list[tuple[float, str]]) -> None:
    """Calls can always go out some time, and never at a least speed that nobody went."""
    adaptive, now, taken = Adaptive(20, 100), 0.0, list[Taken]()
    for seconds, what in steps:
        now += seconds
        opens = adaptive.opens(now, 500.0)
        assert now <= opens < math.inf
        if what != "refuse":
            now = opens
            taken.append(adaptive.take(now, 500.0, 0))
        if what != "send" and taken:
            adaptive.refused(now, taken.pop())
