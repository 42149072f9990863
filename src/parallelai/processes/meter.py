"""What a tree of processes takes of the memory, by looks into `/proc`.

A warden loads this file, too; it imports next to nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from parallelai.processes.walk import read

_FIRST_SECONDS, _LAST_SECONDS, _SLOWER = 0.1, 5.0, 1.6
_FASTEST_BYTES_PER_SECOND = 4e9
"""What a tree can fill at most; so much sooner than its limit the next look is."""

_SOONEST_SECONDS, _LATEST_SECONDS = 0.02, 0.25
_OWN = (b"RssAnon:", b"RssShmem:", b"VmSwap:")
_SHARED = b"RssFile:"


class Meter:
    """The memory of one tree: what it took at most, and whether that is too much (`limit` 0: never)."""

    def __init__(self, limit: int) -> None:
        self.peak = 0
        self.due = time.monotonic() + _FIRST_SECONDS
        self._limit = limit
        self._period_seconds = _FIRST_SECONDS
        self._said = 0
        if limit:
            self._plan(0)

    def look(self, pids: Iterable[int]) -> bool:
        """Look at these processes; say whether they take more than the limit."""
        found = list(pids)
        used = resident(found)
        if self._limit and used > self._limit:
            used = min(used, proportional(found))  # exact where pages are shared, but slow
        self.peak = max(self.peak, used)
        self._plan(used)
        return bool(self._limit) and used > self._limit

    def note(self, used: int) -> None:
        """Take in what a process that has ended had taken."""
        self.peak = max(self.peak, used)

    def news(self) -> int | None:
        """Return the peak where it is higher than the last that was returned."""
        if self.peak <= self._said:
            return None
        self._said = self.peak
        return self.peak

    def _plan(self, used: int) -> None:
        if self._limit:
            seconds = max(0, self._limit - used) / _FASTEST_BYTES_PER_SECOND
            self._period_seconds = min(_LATEST_SECONDS, max(_SOONEST_SECONDS, seconds))
        else:
            self._period_seconds = min(_LAST_SECONDS, self._period_seconds * _SLOWER)
        self.due = time.monotonic() + self._period_seconds


def resident(pids: Iterable[int]) -> int:
    """Return the bytes that the processes take, roughly: pages of files, which they mostly share, once."""
    own, shared = 0, 0
    for pid in pids:
        files = 0
        for line in read(f"/proc/{pid}/status").splitlines():
            if line.startswith(_OWN):
                own += int(line.split()[1])
            elif line.startswith(_SHARED):
                files = int(line.split()[1])
        shared = max(shared, files)
    return (own + shared) * 1024


def proportional(pids: Iterable[int]) -> int:
    """Return the bytes that the processes take, each page divided among those that share it.

    A process whose pages are not ours to see counts with what it has resident.
    """
    total = 0
    for pid in pids:
        found = _rollup(pid)
        total += resident((pid,)) if found is None else found
    return total


def _rollup(pid: int) -> int | None:
    lines = read(f"/proc/{pid}/smaps_rollup").splitlines()
    sizes = [int(line.split()[1]) for line in lines if line.startswith((b"Pss:", b"SwapPss:"))]
    return sum(sizes) * 1024 if sizes else None
