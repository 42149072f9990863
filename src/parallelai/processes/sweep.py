"""Ends what an earlier ParallelAI left running: marked processes whose owner is gone. Removes their folders, too.

The last resort: wardens end their trees even when ParallelAI is killed. This is for the case that wardens
were killed as well, and for systems without them.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

from msgspec import Struct

from parallelai.processes import tree
from parallelai.processes.temporary import sweep_folders
from parallelai.processes.walk import ask_to_end

_STEP_SECONDS = 0.02


class Orphan(Struct, frozen=True):
    """A process that was ended because nobody owned it any more."""

    pid: int
    command: str


def sweep(*, grace_seconds: float = 1.0) -> list[Orphan]:
    """End this user's processes that carry the mark of a ParallelAI that is gone, and all below them.

    Then the temporary folders go that such a one left.
    SIGTERM, then SIGKILL after `grace_seconds`. It blocks until they are gone; with nothing to end it takes
    some milliseconds. Returns what it ended.
    """
    spared = {os.getpid(), *tree.parents(os.getpid())}
    found = [process for process in _ownerless() if process.pid not in spared]
    orphans = [Orphan(process.pid, tree.command(process.pid)) for process in found]
    ask_to_end([process.pid for process in found if _is_there(process)], signal.SIGTERM)
    _wait(found, grace_seconds)
    _kill(lambda process: not tree.is_alive(process.owner, process.owner_start), spared)
    sweep_folders()
    return orphans


def end_marked(mark: str) -> None:
    """SIGKILL all processes with exactly this mark, and all below them, until none is left."""
    for _ in range(2):  # who forks and ends while we look hides its child from the first look
        _kill(lambda process: process.mark == mark, {os.getpid()})


def _ownerless() -> list[tree.Marked]:
    return [p for p in tree.marked() if not tree.is_alive(p.owner, p.owner_start)]


def _is_there(process: tree.Marked) -> bool:
    return tree.is_alive(process.pid, process.start)


def _wait(processes: list[tree.Marked], seconds: float) -> bool:
    """Wait until all are gone, at most `seconds`; say whether they are."""
    end = time.monotonic() + seconds
    while any(_is_there(process) for process in processes):
        if time.monotonic() >= end:
            return False
        time.sleep(_STEP_SECONDS)
    return True


def _kill(is_meant: Callable[[tree.Marked], bool], spared: set[int]) -> None:
    """Kill round by round, since a dying tree may fork; what survives ten rounds cannot be ended by us."""
    for _ in range(10):
        found = [p for p in tree.marked() if p.pid not in spared and is_meant(p)]
        if not found:
            return
        tree.kill_all([process.pid for process in found if _is_there(process)])
        _wait(found, 0.5)
