"""Refusals that have nothing to do with the rate: an overloaded server, a fault on the way.

Who goes slower because of them goes slower without end: the share that is refused stays as it is. A limit that
refuses up to half of the calls refuses next to none at half the speed. So windows of calls are compared with
the faster ones before them, and the logarithms of the likelihood ratios of the two are added up until they decide
(Wald's sequential test). While refusals count as noise, calls go out faster and faster, and a limit would soon refuse
nearly all of them: that is watched for in the same way (Page's CUSUM). Each time it turns out so, more is asked
before refusals are taken for noise again.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

WINDOW, MANY = 20, 4
"""Calls that go out in a window; it ends early where so many were refused: each of them slows the calls down."""
PACED_SHARE = 0.04
"""What pacing costs by itself: a refusal in 25 to 30 calls."""
MOST_SHARE = 0.5
"""Of which more is no noise, but a wall."""

# Windows are compared with those that were so much faster; and what pacing costs then. A limit that fell so far as the
# first fell once, and not from refusal to refusal.
_SLOWER = ((0.25, PACED_SHARE / 2), (0.5, PACED_SHARE))
_UNLIKE = 1.5  # times the share of pacing: less is not told from it
_SURPRISE = 4.0  # standard deviations beyond which a slower window shows a new limit
_WINDOWS = 200  # that are remembered
_SURE, _MOST_SURE, _DOUBT = 4.0, 20.0, 1.5  # logarithms of likelihood ratios; and a factor
_MOST = 2.0  # of one window: a limit that was met just now looks like noise for a moment;
_KNOWN = 100.0  # more, if more than so many calls were faster
_WALL, _WALL_SHARE = 8.0, 0.7
_SMOOTH = 0.2
_RECENT = 5
_STEP_CALLS, _STEP = 8, 3.0  # calls at one speed, before it is so many times higher


@dataclass(slots=True)
class Window:
    """Calls that went out one after the other, and how many of them were refused so far."""

    began: float
    ended: float = math.inf
    sent: int = 0
    refused: int = 0

    @property
    def speed(self) -> float:
        """Calls a second."""
        return self.sent / max(self.ended - self.began, 1e-3)

    @property
    def share(self) -> float:
        """The part of its calls that was refused."""
        return self.refused / max(self.sent, 1)


@dataclass(frozen=True, slots=True)
class Ticket:
    """One call: its window, and its number among all."""

    window: Window
    number: int


@dataclass(frozen=True, slots=True)
class _Faster:
    """What is known of calls that were faster: the share refused of how many, and what a limit would refuse now."""

    share: float
    sent: int
    expected: float


class Ramp:
    """Lets calls out at a speed that grows from step to step; a step is long enough to see what it brings."""

    __slots__ = ("_began", "_last", "_seconds", "_sent", "_speed")

    def __init__(self, speed: float, now: float, seconds: float) -> None:
        self._speed = speed
        self._began = self._last = now
        self._seconds = seconds  # until a call's refusal is known
        self._sent = 0

    def opens(self) -> float:
        """Give the time of the next call."""
        return self._last + 1.0 / self._speed

    def sent(self, now: float) -> None:
        """Count a call that goes out."""
        self._last = now
        self._sent += 1
        if self._sent >= _STEP_CALLS and now - self._began >= self._seconds:
            self._speed, self._began, self._sent = self._speed * _STEP, now, 0


class Noise:
    """Watches what goes out and what is refused; says whether refusals are noise."""

    __slots__ = (
        "_base",
        "_full",
        "_judged",
        "_needed",
        "_number",
        "_open",
        "_ramp",
        "_recent",
        "_score",
        "_seconds",
        "share",
    )

    def __init__(self) -> None:
        self.share: float | None = None  # of calls that are refused at any speed; None: of none it is known
        self._open: Window | None = None
        self._full: deque[Window] = deque(maxlen=_WINDOWS)  # of whose calls some may yet be refused
        self._judged: deque[Window] = deque(maxlen=_WINDOWS)
        self._seconds = math.inf  # that a refusal took at most; infinite before the first
        self._number = 0
        self._base = 0  # the last call before refusals were noise
        self._recent: deque[Window] = deque(maxlen=_RECENT)  # windows of noise
        self._ramp: Ramp | None = None
        self._score = 0.0
        self._needed = _SURE

    @property
    def is_noise(self) -> bool:
        """Whether refusals are to be taken as noise."""
        return self.share is not None

    @property
    def speed(self) -> float:
        """How many calls a second were let in of late, while refusals were noise; 0 if they never were."""
        if not self._recent:
            return 0.0
        seconds = max(one.ended for one in self._recent) - min(one.began for one in self._recent)
        return sum(one.sent - one.refused for one in self._recent) / max(seconds, 1e-3)

    def opens(self, now: float) -> float:
        """Give the time at which a call may go out while refusals are noise."""
        return now if self._ramp is None else max(now, self._ramp.opens())

    def sent(self, now: float) -> Ticket:
        """Count a call that goes out; windows of which all is known are judged."""
        if self._open is not None and (self._open.sent >= WINDOW or self._open.refused >= MANY):
            self._open.ended = now
            self._full.append(self._open)
            self._open = None
        while self._full and now - self._full[0].ended >= self._seconds:
            self._judge(self._full.popleft(), now)
        if self._open is None:
            self._open = Window(now)
        if self._ramp is not None:
            self._ramp.sent(now)
        self._open.sent += 1
        self._number += 1
        return Ticket(self._open, self._number)

    def refused(self, ticket: Ticket, seconds: float) -> None:
        """Count a refusal, that came so many seconds after its call."""
        self._seconds = max(seconds, self._seconds if math.isfinite(self._seconds) else 0.0)
        ticket.window.refused += 1
        if self.share is not None and ticket.number > self._base:
            self._look_for_wall(self.share, ticket.window)

    def _judge(self, window: Window, now: float) -> None:
        faster = self._compared(window.speed)
        self._judged.append(window)
        if self.share is not None:
            self._go_on(self.share, window)
            return
        if faster is None:
            return
        share, paced = faster.share, faster.expected
        if window.share > min(
            _WALL_SHARE, share + _SURPRISE * math.sqrt(share * (1.0 - share) / window.sent)
        ):
            self._score = 0.0
            return
        most = _MOST * max(1.0, faster.sent / _KNOWN)
        self._score = max(0.0, self._score + min(most, _ratio(window, share, paced)))
        if self._score > self._needed:
            self._begin()
            self.share, self._base = share, self._number
            self._recent.clear()
            self._recent.append(window)
            self._ramp = Ramp(window.speed * _STEP, now, self._seconds)

    def _compared(self, speed: float) -> _Faster | None:
        """Look at the windows that were faster; None if noise and a limit would not differ enough."""
        for slower, paced in _SLOWER:
            faster = _pooled(one for one in self._judged if one.speed * slower >= speed)
            expected = max(paced, 1.0 - (1.0 - faster.share) / slower)
            if faster.share >= expected * _UNLIKE:
                return _Faster(faster.share, faster.sent, expected)
        return None

    def _go_on(self, share: float, window: Window) -> None:
        """Count a window of noise; its share may change slowly."""
        self._recent.append(window)
        self._score = max(0.0, self._score + _ratio(window, (1.0 + share) / 2.0, share))
        if window.sent >= WINDOW:
            self.share = share + _SMOOTH * (min(max(window.share, PACED_SHARE), MOST_SHARE) - share)

    def _look_for_wall(self, share: float, window: Window) -> None:
        """End the noise where far more is refused than its share. Refusals come in any order: windows count."""
        if self._score + _ratio(window, (1.0 + share) / 2.0, share) > _WALL:
            self._needed = min(_MOST_SURE, self._needed * _DOUBT)
            self._begin()

    def _begin(self) -> None:
        """Begin to add up anew."""
        self.share, self._ramp, self._score, self._open = None, None, 0.0, None
        self._full.clear()


def _pooled(windows: Iterable[Window]) -> Window:
    """Add up all these windows but walls."""
    total = Window(0.0)
    for one in windows:
        if one.share <= MOST_SHARE:
            total.sent += one.sent
            total.refused += one.refused
    return total


def _ratio(window: Window, share: float, other: float) -> float:
    """Give the logarithm of how much likelier a window is if the one share is refused than if the other is."""
    good = window.sent - window.refused
    return window.refused * math.log(share / other) + good * math.log((1.0 - share) / (1.0 - other))
