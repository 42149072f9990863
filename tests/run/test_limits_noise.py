"""Refusals that no pace can avoid must not slow a run down without end; the clock is virtual."""

from __future__ import annotations

import heapq
import random

import pytest

from parallelai.run.limits.adaptive import Adaptive

LATENCY, CALLS, AT_ONCE = 0.2, 1_000, 100


def seconds_with(share: float, seed: int) -> float:
    """Make all calls of a run, of which a share is refused whatever the rate; gives the virtual seconds."""
    chance, limit = random.Random(seed), Adaptive(AT_ONCE, AT_ONCE)
    now, done, sent, left = 0.0, 0, 0, CALLS
    flight: list[tuple[float, int, object]] = []
    while done < CALLS and now < 1_000:
        has_room = left and len(flight) < limit.limit
        if has_room and limit.opens(now, 500.0) <= now + 1e-9:
            heapq.heappush(flight, (now + LATENCY, sent, limit.take(now, 500.0, len(flight))))
            sent, left = sent + 1, left - 1
            continue
        times = [flight[0][0]] if flight else []
        times += [max(limit.opens(now, 500.0), now + 1e-6)] if has_room else []
        now = min(times)
        while flight and flight[0][0] <= now:
            _, _, taken = heapq.heappop(flight)
            if chance.random() < share:
                limit.refused(now, taken)  # type: ignore[arg-type]
                left += 1
            else:
                done += 1
                limit.answered()
    return now


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("share", [0.05, 0.1])
def test_random_refusals_are_not_taken_for_a_limit(share: float, seed: int) -> None:
    assert seconds_with(share, seed) < 120.0
