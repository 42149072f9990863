"""Refusals that have nothing to do with the rate: an overloaded server, a fault on the way.

Who goes slower because of them goes slower without end: the share that is refused stays as it is. So windows of
calls are compared: where calls went out at half the speed of an earlier window, and about as many of them were
refused, and more than pacing itself costs, slowing down is of no use.
"""

from __future__ import annotations

from dataclasses import dataclass

WINDOW = 40
"""Calls that go out in a window."""
LEAST_SHARE = 0.07
"""What pacing costs by itself is less: a refusal in 25 to 30 calls."""
SHORT, MANY = 15, 5
"""A window ends early where so many of so few were refused: each of them slows the calls down."""
WINDOWS = 3
"""So many in a row have to say so: a limit that was cut looks like noise for a moment."""
SLOWER, AS_MANY = 0.5, 0.7
MOST_SHARE = 0.4
"""Of which more is no noise, but a wall."""


@dataclass(frozen=True, slots=True)
class _Window:
    speed: float  # calls a second
    share: float  # of them that were refused


class Noise:
    """Watches what goes out and what is refused; says whether refusals are noise."""

    __slots__ = ("_alike", "_began", "_refused", "_sent", "_windows", "is_noise")

    def __init__(self) -> None:
        self.is_noise = False
        self._windows: list[_Window] = []
        self._began: float | None = None
        self._sent = 0
        self._refused = 0
        self._alike = 0  # windows in a row

    def refused(self) -> None:
        """Count a refusal."""
        self._refused += 1

    def sent(self, now: float) -> None:
        """Count a call that goes out; at the end of a window it is judged."""
        if self._began is None:
            self._began = now
        self._sent += 1
        if self._sent < WINDOW and not (self._sent >= SHORT and self._refused >= MANY):
            return
        window = _Window(self._sent / max(now - self._began, 1e-3), self._refused / self._sent)
        self._began, self._sent, self._refused = now, 0, 0
        if self.is_noise:
            self.is_noise = window.share <= MOST_SHARE
            if not self.is_noise:
                self._windows.clear()
                self._alike = 0
            return
        is_alike = window.share >= LEAST_SHARE and any(
            earlier.speed * SLOWER >= window.speed
            and LEAST_SHARE <= earlier.share <= MOST_SHARE
            and window.share >= AS_MANY * earlier.share
            for earlier in self._windows
        )
        self._alike = self._alike + 1 if is_alike else 0
        self.is_noise = self._alike >= WINDOWS
        self._windows.append(window)
        del self._windows[:-20]
