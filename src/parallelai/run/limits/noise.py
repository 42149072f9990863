"""Refusals that have nothing to do with the rate: an overloaded server, a fault on the way.

Who goes slower because of them goes slower without end: the share that is refused stays as it is. So where the pace has
fallen far, it is tried whether that was of any use: some calls at this speed, then some that are faster. Of the faster
ones a limit refuses more, and chance refuses as many as before; the logarithm of the likelihood ratio decides (Wald).
A speed at which it was chance is kept as the least one, and a faster one tried, step by step. It is given up where far
more is refused than then (Page's CUSUM): the limit itself has fallen.
"""

from __future__ import annotations

import math

from msgspec import Struct

PACED_SHARE = 0.04
"""What pacing costs by itself: a refusal in 25 to 30 calls."""
MOST_SHARE = 0.6
"""Of which more is no chance."""
FALLEN = 0.6
"""Of the fastest pace that held: there it is tried whether slowing down was of any use."""
FASTER = 1.5
"""How much faster it is tried."""

_CONTROL, _MANY = 40, 8  # calls at the slower speed; so many refusals among them tell enough
_TRIAL, _CLEAR = 24, 4.0  # calls at the faster speed at least; evidence that they are expected to give
_SURE, _LOST = 2.0, -3.0  # logarithms of the likelihood ratio: it is chance; a trial ends early
_PAUSE = 16  # calls at the least speed before a faster one is tried; twice as many after each failure
_AT_LEAST = 1.05  # times the least speed
_DROP, _BELIEVED = 1.25, 6.0  # how far the limit may have fallen, and the score at which that is believed


class Window(Struct):
    """Calls that went out one after the other, and how many of them were refused so far."""

    began: float = 0.0
    ended: float = math.inf
    sent: int = 0
    refused: int = 0

    @property
    def share(self) -> float:
        """The part of its calls that was refused, within what chance does."""
        return min(max(self.refused / max(self.sent, 1), PACED_SHARE), MOST_SHARE)

    @property
    def speed(self) -> float:
        """Calls a second."""
        return self.sent / max(self.ended - self.began, 1e-3)


class Ticket(Struct, frozen=True):
    """One call: its window, and whether it went out at the least speed."""

    window: Window
    is_least: bool


class Noise:
    """Watches what goes out and what is refused; says when to go faster for a trial, and the least speed."""

    __slots__ = (
        "_best",
        "_control",
        "_is_least",
        "_left",
        "_now",
        "_pause",
        "_score",
        "_seconds",
        "_share",
        "_trial",
        "least",
    )

    def __init__(self) -> None:
        self.least = 0.0  # calls a second: refusals at this speed were chance
        self._share = PACED_SHARE  # of calls that were refused then
        self._score = 0.0  # for that the limit has fallen since
        self._best = 0.0  # the fastest pace that held
        self._is_least = False
        self._pause = self._left = _PAUSE
        self._seconds = 0.0  # that a refusal took at most
        self._control: Window | None = None
        self._trial: Window | None = None
        self._now = Window()

    @property
    def factor(self) -> float | None:
        """How many times faster than the pace calls go out, None where the pace may find its own haste."""
        if self._now is self._trial:
            return FASTER
        return None if self._control is None else 1.0

    def sent(self, now: float) -> Ticket:
        """Count a call that goes out."""
        window = self._now
        if window is self._control and (window.sent >= _CONTROL or window.refused >= _MANY):
            window.ended = now
            window = self._now = self._trial = Window(now)
        elif window is self._trial and (window.sent >= self._needed() or self._likelihood() < _LOST):
            window.ended = now
            window = self._now = Window(now)
        window.sent += 1
        if self._is_least:
            self._left -= 1
            self._score = max(0.0, self._score - math.log(_DROP))
        return Ticket(window, self._is_least)

    def refused(self, ticket: Ticket, seconds: float) -> bool:
        """Count a refusal, so many seconds after its call; says whether the pace is to pass it over, for a trial."""
        self._seconds = max(self._seconds, seconds)
        ticket.window.refused += 1
        if ticket.is_least and self.least:
            fallen = 1.0 - (1.0 - self._share) / _DROP
            self._score += math.log(_DROP * fallen / self._share)
            if self._score > _BELIEVED:
                self.least, self._best, self._share = 0.0, 0.0, PACED_SHARE
        return ticket.window is self._trial or ticket.window is self._control

    def paced(self, speed: float, now: float) -> bool | None:
        """Take in the pace, in calls a second; says once, when a trial is over, whether to go on at its speed."""
        trial, control = self._trial, self._control
        if control is not None:
            if trial is None or now - trial.ended < self._seconds:  # what came of its calls is not known yet
                return None
            return self._judge(control, trial, speed, now)
        self._best = max(self._best, speed)
        self._is_least = speed <= _AT_LEAST * self.least
        if self._left <= 0 if self._is_least else speed < FALLEN * self._best:
            self._is_least = False
            self._now = self._control = Window(now)
        return None

    def _judge(self, control: Window, trial: Window, speed: float, now: float) -> bool:
        is_sure = self._likelihood() > _SURE
        self._trial = self._control = None
        # If a trial is hardly faster, it is not the pace that holds calls back.
        if not is_sure or trial.speed < control.speed * (1.0 + FASTER) / 2.0:
            self._best = speed
            self._pause *= 2
        else:
            self._best = self.least = speed * FASTER
            self._share, self._score = max(control.share, trial.share, self._share), 0.0
            self._pause = _PAUSE
            self._control = trial
            self._now = self._trial = Window(now)
        self._left = self._pause
        return self._trial is not None

    def _needed(self) -> float:
        """Give the calls of a trial: more, where chance refuses so many that a limit would hardly differ."""
        share = PACED_SHARE if self._control is None else self._control.share
        return max(_TRIAL, _CLEAR / (share * _of_refusal(share) + (1.0 - share) * _OF_ANSWER))

    def _likelihood(self) -> float:
        """Give the logarithm of how much likelier the trial is if its refusals are chance than if there is a limit."""
        if self._trial is None or self._control is None:
            return 0.0
        good = self._trial.sent - self._trial.refused
        return self._trial.refused * _of_refusal(self._control.share) + good * _OF_ANSWER


_OF_ANSWER = math.log(FASTER)


def _of_refusal(share: float) -> float:
    """What one refused call of a trial adds to the logarithm of the likelihood ratio."""
    return math.log(share / (1.0 - (1.0 - share) / FASTER))
