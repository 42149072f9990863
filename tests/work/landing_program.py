"""Lands branches in a process of its own, which is killed at a call of git: `landing_program.py ROOT NUMBER HOW`.

NUMBER counts the calls; 0 lets it end. HOW: `before` the call starts, `during` it, `after` its end. Prints how
many calls there were.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from landing_scene import land

from parallelai.git import plumbing, repository

_real = plumbing.run_quick


def _killed_at(number: int, how: str) -> list[int]:
    count = [0]
    guard = threading.Lock()

    def call(*arguments: Any, **more: Any) -> Any:
        with guard:
            count[0] += 1
            is_it = count[0] == number
        if is_it and how == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        if is_it and how == "during":
            threading.Thread(target=_real, args=arguments, kwargs=more, daemon=True).start()
            os.kill(os.getpid(), signal.SIGKILL)
        done = _real(*arguments, **more)
        if is_it and how == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    for module in (plumbing, repository):
        module.run_quick = call  # type: ignore[attr-defined]
    return count


if __name__ == "__main__":
    counted = _killed_at(int(sys.argv[2]), sys.argv[3])
    land(Path(sys.argv[1]))
    print(counted[0])
