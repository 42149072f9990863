"""What came of a command in a prepared folder."""

from __future__ import annotations

from msgspec import Struct

from parallelai import processes
from parallelai.work.scratch.confined import last_lines


class Ran(Struct, frozen=True):
    """What came of a command. `exit` is None where a signal or a limit (`ended_by`) ended it."""

    exit: int | None
    ended_by: str | None
    seconds: float
    stdout: bytes
    said: str
    is_truncated: bool = False


def ran_of(done: processes.Completed) -> Ran:
    """Say what came of a command that has ended."""
    ended_by = done.ended_by or (f"signal {done.signal}" if done.exit is None else None)
    exit_code = None if done.ended_by else done.exit
    said = last_lines(done.stdout, done.stderr)
    return Ran(exit_code, ended_by, done.seconds, done.stdout, said, done.is_truncated)
