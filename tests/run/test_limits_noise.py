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
from parallelai.run.limits.key import KeyLimit, Reservation
from parallelai.run.limits.noise import MOST_SHARE, Noise, Ticket

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
    assert seconds < 7.0


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
    assert seconds < 30.0


@pytest.mark.parametrize("rate", [2.0, 20.0])
def test_a_limit_is_no_noise(rate: float) -> None:
    seconds, refused = drive(KeyLimit(AT_ONCE), Bucket(rate).refuses)
    assert seconds <= 1.25 * CALLS / rate
    assert refused < 0.12 * CALLS


class Watched:
    """A `Noise` on a clock of its own, of whose calls some are refused."""

    def __init__(self) -> None:
        self.noise, self.now = Noise(), 0.0

    def send(self, calls: int, seconds: float, is_refused: Callable[[int], bool]) -> None:
        for number in range(calls):
            ticket = self.noise.sent(self.now)
            if is_refused(number):
                self.noise.refused(ticket, 0.0)
            self.now += seconds


def test_a_share_that_stays_at_half_the_speed_is_noise_and_one_that_goes_is_none() -> None:
    stays, goes = Watched(), Watched()
    for watched in (stays, goes):
        watched.send(100, 0.01, lambda number: number % 5 == 0)
        assert not watched.noise.is_noise
    stays.send(100, 0.1, lambda number: number % 5 == 0)
    assert stays.noise.share == pytest.approx(0.2, abs=0.05)
    goes.send(300, 0.1, lambda number: number % 27 == 0)
    assert not goes.noise.is_noise


def test_noise_ends_at_a_wall_and_is_believed_less_readily_afterwards() -> None:
    watched = Watched()
    watched.send(100, 0.01, lambda number: number % 5 == 0)
    watched.send(100, 0.1, lambda number: number % 5 == 0)
    assert watched.noise.is_noise
    watched.send(20, 0.1, lambda _: True)
    assert not watched.noise.is_noise


def test_after_noise_was_found_the_speed_grows_step_by_step() -> None:
    watched = Watched()
    watched.send(100, 0.01, lambda number: number % 5 == 0)
    watched.send(60, 1.0, lambda number: number % 5 == 0)
    assert watched.noise.is_noise
    first = watched.noise.opens(watched.now)
    assert watched.now <= first
    gaps = []
    for _ in range(40):
        at = watched.noise.opens(watched.now)
        gaps.append(at - watched.now)
        watched.now = at
        watched.noise.sent(at)
    assert gaps[-1] < gaps[1] / 9


@given(st.lists(st.tuples(st.floats(0, 10), st.sampled_from(["send", "refuse", "both"])), max_size=300))
def test_whatever_comes(steps: list[tuple[float, str]]) -> None:
    """The share stays one that noise can have, and calls can always go out some time."""
    noise, now, tickets = Noise(), 0.0, list[tuple[Ticket, float]]()
    for seconds, what in steps:
        now += seconds
        if what != "refuse":
            tickets.append((noise.sent(now), now))
        if what != "send" and tickets:
            ticket, at = tickets.pop()
            noise.refused(ticket, now - at)
        assert noise.share is None or 0.0 < noise.share <= MOST_SHARE
        assert now <= noise.opens(now) < math.inf
