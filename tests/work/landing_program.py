"""Lands branches in processes that are killed at a call of git: a line `ROOT NUMBER HOW` of stdin for each.

NUMBER counts the calls; 0 lets it end. HOW: `before` the call starts, `during` it, `after` its end. Prints for
each a line: its exit code, and how many calls there were if it ended by itself. What a landing loads is loaded once.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
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


def _carry_out(root: Path, number: int, how: str) -> None:
    """Land in a child, and print what became of it."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            counted = _killed_at(number, how)
            land(root)
            os.write(writer, str(counted[0]).encode())
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(writer)
    with os.fdopen(reader) as said:
        print(code, "" if code else said.read(), flush=True)


if __name__ == "__main__":
    for line in sys.stdin:
        place, at, mode = line.split("\t")
        _carry_out(Path(place), int(at), mode.strip())
