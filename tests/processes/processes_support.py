"""What the tests of `processes` share: real programs, and a look at what is still running."""

from __future__ import annotations

import asyncio
import os
import sys
import time
import uuid
from pathlib import Path
from typing import Any

from parallelai.processes import Completed, Program, environment, run

HERE = Path(__file__).parent
SOURCE = HERE.parents[1] / "src"

STUBBORN = """
import os, signal, sys, time

def ready():
    for folder in sys.argv[2:]:
        open(f"{folder}/{os.getpid()}", "w").close()
    os.write(1, b"ready\\n")

def stay():
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    ready()
    while True:
        time.sleep(60)

def child(*steps):
    if os.fork():
        return
    for step in steps:
        step()
    stay()

def fork_again():
    if os.fork():
        os._exit(0)

def clear():
    os.execve(sys.executable, [sys.executable, "-c", STAY, *sys.argv[1:]], {})

STAY = '''
import os, signal, sys, time
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
for folder in sys.argv[2:]:
    open(f"{folder}/{os.getpid()}", "w").close()
os.write(1, b"ready\\\\n")
while True:
    time.sleep(60)
'''

def supervise():
    for _ in range(3):
        child()
    ready()
    while True:
        os.wait()
        if os.fork() == 0:
            time.sleep(60)
"""
"""Python that defines processes which do not go by themselves; each writes `ready` when it stays.

The arguments are a token, and optionally a folder in which each makes a file, too.
"""


TOKENS: list[str] = []
"""Those that the running test made; what still carries them when it has ended is ended."""


def token() -> str:
    """Make an argument by which a test finds the processes that it started."""
    TOKENS.append(f"parallelai-test-{uuid.uuid4().hex}")
    return TOKENS[-1]


def alive(mark: str) -> list[int]:
    """Return the processes that have `mark` in their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if mark.encode() in words:
                found.append(int(entry.name))
    return found


def gone_within(mark: str, seconds: float = 20.0) -> bool:
    """Wait until no process with `mark` is left."""
    return eventually(lambda: not alive(mark), seconds)


def eventually(is_true: Any, seconds: float = 20.0) -> bool:
    """Wait until `is_true()`; False if it never is."""
    end = time.monotonic() + seconds
    while not is_true():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def python(code: str, *args: str, **options: Any) -> Program:
    """Make a program out of Python code."""
    options.setdefault("cwd", HERE)
    options.setdefault("env", environment())
    return Program((sys.executable, "-I", "-S", "-c", code, *args), **options)


def shell(code: str, *args: str, **options: Any) -> Program:
    """Make a program out of shell code."""
    options.setdefault("cwd", HERE)
    options.setdefault("env", environment())
    return Program(("sh", "-c", code, *args), **options)


class Ready:
    """An `on_line` that tells when `count` lines `ready` have come."""

    def __init__(self, count: int) -> None:
        self.event = asyncio.Event()
        self._left = count

    def __call__(self, stream: str, line: bytes) -> None:
        self._left -= line == b"ready"
        if self._left <= 0:
            self.event.set()


async def run_until_ready(program: Program, count: int) -> tuple[asyncio.Task[Completed], Ready]:
    """Start a program in a task and wait until `count` of its processes are ready."""
    ready = Ready(count)
    task = asyncio.create_task(run(program, on_line=ready))
    waiter = asyncio.create_task(ready.event.wait())
    await asyncio.wait({task, waiter}, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        waiter.cancel()
        raise AssertionError(f"ended too early: {task.result()}")
    return task, ready


def open_files() -> int:
    """Count this process's descriptors."""
    return len(os.listdir("/proc/self/fd"))
