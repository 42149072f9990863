"""Limits on a virtual clock: never above the ceiling, never negative, always on, and near what a server lets in."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallelai.engines.protocol import LimitsEvent, LimitWindow
from parallelai.events import LimitChanged
from parallelai.records import LimitKey
from parallelai.run.limits.adaptive import Adaptive
from parallelai.run.limits.bucket import Bucket
from parallelai.run.limits.key import START, START_TOKENS, KeyLimit, Reservation
from parallelai.run.limits.keys import Keys
from parallelai.run.limits.pace import SLOWEST_SECONDS, Pace

KEY = LimitKey("openai", "default", "m")

windows = st.none() | st.builds(
    LimitWindow,
    st.none() | st.integers(-5, 10**7),
    st.none() | st.integers(-5, 10**7),
    st.none() | st.floats(-1, 1e6),
)
headers = st.none() | st.builds(LimitsEvent, windows, windows)
waits = st.none() | st.floats(0, 100)
steps = st.lists(
    st.tuples(
        st.floats(0, 30),  # seconds that pass
        st.integers(0, 300_000),  # tokens of the next call
        st.sampled_from(["answered", "refused", "faltered", "lost"]),
        headers,
        waits,
        st.none() | st.integers(0, 400_000),  # what it really took
    ),
    max_size=60,
)


@given(steps, st.integers(1, 60), st.integers(1, 200), st.booleans())
def test_whatever_a_server_says(
    given_steps: list[tuple[float, int, str, LimitsEvent | None, float | None, int | None]],
    ceiling: int,
    start: int,
    is_fixed: bool,
) -> None:
    """In flight stays below the ceiling, nothing is negative or endless, and all that was reserved comes back."""
    limit, now = KeyLimit(ceiling, start, is_fixed), 0.0
    flying: list[Reservation] = []
    for seconds, tokens, end, told, wait, used in given_steps:
        now += seconds
        opens = limit.opens(now, tokens)
        assert opens >= now
        assert not math.isnan(opens)
        if opens <= now:
            flying.append(limit.take(now, tokens))
        elif not flying:
            assert math.isfinite(opens)  # somebody can always go, sooner or later
        assert 0 <= limit.in_flight == len(flying) <= limit.ceiling
        assert limit.reserved == pytest.approx(sum(one.tokens for one in flying))
        if flying and seconds > 5:
            finish(limit, flying.pop(0), now, end, told, wait, used)
        for bucket in (limit.requests, limit.tokens):
            assert bucket is None or bucket.level >= 0
        assert 1 <= limit.limit <= limit.ceiling
    for one in flying:
        limit.settle(one, now, None, None)
        limit.settle(one, now, None, None)  # twice counts once
    assert (limit.in_flight, limit.reserved) == (0, 0.0)
    assert math.isfinite(limit.opens(now, 1000))


def finish(
    limit: KeyLimit,
    one: Reservation,
    now: float,
    end: str,
    told: LimitsEvent | None,
    wait: float | None,
    used: int | None,
) -> None:
    limit.settle(one, now, used, told)
    if end == "answered":
        limit.answered(one)
    elif end == "refused":
        limit.refused(now, one, wait)
    elif end == "faltered":
        limit.faltered(one)


class Server:
    """A bucket that refills all the time, and calls that take `latency` seconds; in requests."""

    def __init__(self, rate: float, capacity: float) -> None:
        self.rate, self.capacity, self.level, self.at = rate, capacity, capacity, 0.0

    def offer(self, now: float) -> float:
        """Gives 0 for a call that is let in, else the seconds after which it would be."""
        self.level, self.at = min(self.capacity, self.level + self.rate * (now - self.at)), now
        if self.level < 1:
            return (1 - self.level) / self.rate
        self.level -= 1
        return 0.0

    def headers(self) -> LimitsEvent:
        missing = (self.capacity - self.level) / self.rate
        return LimitsEvent(LimitWindow(int(self.rate * 60), int(self.level), missing), None)


def drive(
    limit: KeyLimit,
    server: Server,
    calls: int,
    latency: float = 2.0,
    *,
    has_headers: bool = False,
    has_retry_after: bool = False,
    at: Callable[[float, Server], None] = lambda *_: None,
) -> tuple[float, int]:
    """Send calls through a limit until all are answered; gives the seconds and the refusals."""
    now, left, refused = 0.0, calls, 0
    ends: list[tuple[float, int, Reservation, float, LimitsEvent | None]] = []
    number = 0
    while left or ends:
        at(now, server)
        opens = limit.opens(now, 1000) if left else math.inf
        if opens <= now:
            one = limit.take(now, 1000)
            wait = server.offer(now)
            told = server.headers() if has_headers else None
            number += 1
            left -= 1
            ends.append((now + (0.2 if wait else latency), number, one, wait, told))
            ends.sort(key=lambda end: end[:2])
            continue
        end = ends[0][0] if ends else math.inf
        now = min(end, max(opens, now + 1e-4))
        if ends and ends[0][0] <= now:
            _, _, one, wait, told = ends.pop(0)
            limit.settle(one, now, None if wait else 1000, told)
            if wait:
                refused += 1
                left += 1
                limit.refused(now, one, wait if has_retry_after else None)
            else:
                limit.answered(one)
    return now, refused


@pytest.mark.parametrize("rate", [0.5, 5.0, 40.0])
@pytest.mark.parametrize("capacity", [4.0, 30.0])
def test_a_server_that_tells_its_limits_refuses_next_to_nothing(rate: float, capacity: float) -> None:
    seconds, refused = drive(KeyLimit(200), Server(rate, capacity), 500, has_headers=True)
    assert seconds <= 1.05 * (500 - capacity) / rate + 4
    assert refused <= START + 3  # those that went out before the first answer, at the most


@pytest.mark.parametrize("has_retry_after", [True, False])
@pytest.mark.parametrize("rate", [0.5, 5.0])
@pytest.mark.parametrize("capacity", [8.0, 30.0])
def test_a_rate_that_nobody_tells_is_found(rate: float, capacity: float, has_retry_after: bool) -> None:
    server = Server(rate, capacity)
    seconds, refused = drive(KeyLimit(200), server, 1000, has_retry_after=has_retry_after)
    assert seconds <= 1.08 * (1000 - capacity) / rate
    assert refused < (200 if rate < 1.0 else 80)  # at first it is forty times too fast


def test_a_limit_that_falls_and_rises_is_followed() -> None:
    def change(now: float, server: Server) -> None:
        server.rate = 2.0 if 60 <= now < 300 else 8.0

    limit = KeyLimit(200)
    seconds, refused = drive(limit, Server(8.0, 20.0), 3000, at=change)
    bound = 300 + (3000 - 20 - 60 * 8 - 240 * 2) / 8
    assert seconds <= 1.12 * bound
    assert refused < 300


def test_before_anything_is_refused_a_clean_full_round_doubles_the_limit() -> None:
    limit = KeyLimit(100)
    drive(limit, Server(1e6, 1e6), 500, latency=0.2)
    assert limit.limit == 100
    assert limit.good == 100


def test_a_round_that_needed_little_says_nothing_about_more() -> None:
    limit = KeyLimit(100)
    for _ in range(100):
        one = limit.take(0.0, 10)
        limit.settle(one, 0.0, None, None)
        limit.answered(one)
    assert limit.limit == START


def test_errors_of_the_server_pause_growth_and_cut_nothing() -> None:
    adaptive = Adaptive(4, 100)
    for _ in range(10):
        adaptive.take(0.0, 0, 3)
        assert not adaptive.answered()
        adaptive.faltered()
    assert adaptive.limit == 4


def test_an_engines_own_concurrency_is_fixed() -> None:
    limit = KeyLimit(4, is_fixed=True)
    for _ in range(50):
        taken = [limit.take(0.0, 10) for _ in range(4)]
        assert limit.opens(0.0, 10) == math.inf
        for one in taken:
            limit.settle(one, 0.0, None, None)
            limit.refused(0.0, one, None)
    assert limit.limit == 4
    assert limit.opens(0.0, 10) == 0.0


def test_retry_after_is_not_before_for_the_whole_key() -> None:
    for limit in (KeyLimit(50), KeyLimit(50, is_fixed=True)):
        one = limit.take(0.0, 10)
        limit.settle(one, 1.0, None, None)
        limit.refused(1.0, one, 30.0)
        assert limit.opens(2.0, 10) >= 31.0
        assert limit.opens(31.0, 10) < 92.0


def test_before_the_first_answer_only_so_many_tokens_are_in_flight() -> None:
    for limit, most in ((KeyLimit(50), START_TOKENS), (KeyLimit(50, 2 * START), 2 * START_TOKENS)):
        limit.take(0.0, most - 1)
        assert limit.opens(0.0, 1) == 0.0
        assert limit.opens(0.0, 2) == math.inf
    assert KeyLimit(50, 50).opens(0.0, 10 * START_TOKENS) == 0.0  # one call may always go


def test_what_a_call_did_not_use_is_given_back() -> None:
    limit = KeyLimit(10)
    told = LimitsEvent(None, LimitWindow(60_000, 50_000, None))
    first = limit.take(0.0, 1000)
    limit.settle(first, 0.0, 1000, told)
    assert limit.tokens is not None
    before = limit.tokens.level
    used, refused = limit.take(0.0, 8000), limit.take(0.0, 9000)
    limit.settle(used, 0.0, 3000, None)
    limit.settle(refused, 0.0, None, None)
    assert limit.tokens.level == before - 3000 - 9000
    limit.refused(0.0, refused, 1.0)
    assert limit.reserved == 0.0


def test_a_server_that_always_refuses_is_asked_ever_more_seldom_but_never_given_up() -> None:
    limit, now, gaps = KeyLimit(50), 0.0, []
    for _ in range(60):
        opens = limit.opens(now, 1000)
        gaps.append(opens - now)
        now = opens
        one = limit.take(now, 1000)
        now += 0.1
        limit.settle(one, now, None, None)
        limit.refused(now, one, None)
    assert gaps[-1] > 10
    assert max(gaps) <= 2 * SLOWEST_SECONDS


def test_a_bucket_that_refills_all_at_once_is_not_asked_before() -> None:
    """Sixty requests in each minute, all given anew at the full minute."""
    bucket = Bucket(60, 50, 55.0, 5.0, 5.0)
    now = 5.0
    for left in range(49, -1, -1):
        now += 0.5
        mark = bucket.take(now, 1)
        bucket.sync(LimitWindow(60, left, 60.0 - now), mark, 1, now)
    assert bucket.is_stepped
    assert bucket.opens(now, 1) == pytest.approx(60.0)


def test_headers_that_are_old_when_they_come_do_not_promise_what_is_gone() -> None:
    """Ten calls go out together; each answer tells what was left when its call was let in."""
    limit = KeyLimit(50)
    calls = [limit.take(0.0, 0) for _ in range(10)]
    for number, one in enumerate(calls):
        left = LimitWindow(60, 9 - number, None)
        limit.settle(one, 2.0 + number / 100, 0, LimitsEvent(left, None))
        assert limit.requests is not None
        assert limit.requests.level < 1


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(1, 1e5), st.booleans()), max_size=80))
def test_a_pace_always_opens_again(calls: list[tuple[float, float, bool]]) -> None:
    pace, now = Pace(), 0.0
    for seconds, cost, is_refused in calls:
        now += seconds
        opens = pace.opens(now, cost)
        assert now <= opens < math.inf
        sent = pace.take(opens, cost)
        now = opens
        if is_refused:
            pace.refuse(sent, now + 0.1)
            now += 0.1
            assert pace.rate is not None
            assert pace.rate > 0


def test_where_a_key_starts() -> None:
    near = LimitKey("openai", "http://127.0.0.1:8000/v1", "m")
    known = LimitKey("openai", "work", "m")
    own = LimitKey("ollama", "default", "m")
    keys = Keys(
        50,
        {"slow": 3},
        last_good=lambda key: 33 if key == known else None,
        is_local=lambda key: key.engine == "ollama",
    )
    assert [keys[key].limit for key in (KEY, near, known, own)] == [20, 50, 33, 50]
    assert keys[LimitKey("slow")].limit == 3
    assert Keys(8)[KEY].limit == 8


def test_changes_are_told_and_not_with_every_call() -> None:
    told: list[LimitChanged] = []
    keys = Keys(100, on_change=told.append)
    now = 0.0
    for number in range(2000):
        now += 0.05
        one = keys[KEY].take(now, 100)
        now += 0.05
        keys.settle(KEY, one, now, None, None)
        if number % 20 == 19:
            keys.refused(KEY, one, None, now)
        else:
            keys.answered(KEY, one, True, now)
    assert told[0].key == KEY
    assert told[0].why.startswith("429: paced at")
    assert 1 <= len(told) < 25
    assert all(before.after == after.before for before, after in itertools.pairwise(told))


def test_what_worked_is_what_lasts() -> None:
    keys = Keys(100, {"fixed": 4})
    assert keys.good() == {}
    for key in (KEY, LimitKey("fixed")):
        one = keys[key].take(0.0, 10)
        keys.settle(key, one, 1.0, None, None)
        keys.answered(key, one, True, 1.0)
    assert keys.good() == {KEY: 1}
