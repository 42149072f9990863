"""What is to be started, what came of it, and why it could not be."""

from __future__ import annotations

import errno
import functools
import itertools
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from msgspec import Struct

from parallelai.errors import ProgramError
from parallelai.processes.confinement import Confinement
from parallelai.processes.confining import confine
from parallelai.processes.environment import MARK, find, is_executable
from parallelai.processes.feed import Feed
from parallelai.processes.specification import Specification
from parallelai.processes.tree import start_time

_launches = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Program:
    """A program to run. Times are in seconds.

    `argv` is passed on as it is, without a shell. `env` is the complete environment (`environment()` makes
    it); `PWD` and the mark are added, and with a confinement TMPDIR. Into its standard input goes `stdin`,
    then what `feed` is given, until that is closed. `timeout_seconds` counts from the start,
    `idle_timeout_seconds` from the last output or CPU use of the tree. `grace_seconds` lie between SIGINT and
    SIGKILL. Of each stream `max_output_bytes` are kept in memory, first and last; all of both is appended to
    `log`, up to 256 MiB.
    `on_active` is called in the event loop whenever the tree was seen to use the CPU; only with an idle time-out.
    `run` is the id that the mark carries, `label` what errors call the place. What cannot be confined as
    `confinement` says is not started. The tree is ended when it takes more than `memory_bytes`, or the
    confinement's.
    """

    argv: tuple[str, ...]
    cwd: Path
    env: Mapping[str, str]
    stdin: bytes = b""
    timeout_seconds: float | None = None
    idle_timeout_seconds: float | None = None
    grace_seconds: float = 5.0
    max_output_bytes: int = 8 * 1024 * 1024
    log: Path | None = None
    run: str = ""
    label: str = ""
    feed: Feed | None = None
    confinement: Confinement | None = None
    memory_bytes: int | None = None
    on_active: Callable[[], None] | None = None


class Completed(Struct, frozen=True):
    """What came of a program: exactly one of `exit` and `signal` is given.

    `seconds` is the main process's time. `is_truncated` says that output is missing in the middle of
    `stdout` or `stderr`. `ended_by` tells which limit ended it. `notes` say what went wrong beside it: a
    log that could not be written, processes that could not be ended. `peak_memory_bytes` is the most that
    the tree was seen to hold at once, None where nobody looked.
    """

    exit: int | None
    signal: int | None
    stdout: bytes
    stderr: bytes
    seconds: float
    is_truncated: bool = False
    ended_by: Literal["timeout", "idle", "memory"] | None = None
    notes: tuple[str, ...] = ()
    peak_memory_bytes: int | None = None


class Prepared(Struct, frozen=True):
    """A program made ready: `mark` is this launch's alone."""

    specification: Specification
    mark: str


def prepare(program: Program) -> Prepared:
    """Find the program and put its environment together. Raises `ProgramError`."""
    cwd = program.cwd.resolve()
    mark = make_mark(program.run)
    env = {**program.env, "PWD": str(cwd), MARK: mark}
    executable = locate(program.argv[0] if program.argv else "", cwd, env.get("PATH"), program.label)
    try:
        specification = Specification(
            os.fsencode(executable),
            os.fsencode(cwd),
            float(program.grace_seconds),
            tuple(_encode(argument, "argument") for argument in program.argv),
            tuple(_encode_entry(name, value) for name, value in env.items()),
            program.memory_bytes or 0,
        )
        if program.confinement is not None:
            specification = confine(specification, program.confinement)
    except ValueError as error:
        raise ProgramError(f"`{program.argv[0]}`: {error}", where=program.label or None) from error
    return Prepared(specification, mark)


def make_mark(run: str) -> str:
    """Make the mark of one launch: owner's pid, its start time, the run, the launch's number."""
    return f"{os.getpid()}:{_own_start(os.getpid())}:{run}:{next(_launches)}".replace("\0", "")


@functools.lru_cache(maxsize=1)
def _own_start(pid: int) -> int:
    return start_time(pid) or 0


def locate(name: str, cwd: Path, path: str | None, label: str = "") -> str:
    """Return the absolute path of the program that `name` means in `cwd`. Raises `ProgramError`."""
    where = label or None
    if not name:
        raise ProgramError("the command is empty", where=where)
    if not cwd.is_dir():
        raise ProgramError(f"the folder `{cwd}` to run `{name}` in does not exist", where=where)
    if "/" in name:
        full = cwd / name
        if is_executable(full):
            return str(full)
        said = "is not an executable file" if full.exists() else "does not exist"
        raise ProgramError(f"`{full}` {said}", where=where, next="correct the command's path")
    found = find(name, path or os.defpath)
    if found is None:
        raise ProgramError(
            f"`{name}` was not found on PATH",
            where=where,
            next=f"install `{name}`, or give its full path",
        )
    return found


def _encode(text: str, what: str) -> bytes:
    data = os.fsencode(text)
    if b"\0" in data:
        raise ValueError(f"an {what} holds a NUL character")
    return data


def _encode_entry(name: str, value: str) -> bytes:
    if not name or "=" in name:
        raise ValueError(f"`{name}` cannot be the name of an environment variable")
    return _encode(f"{name}={value}", "environment variable")


def explain(number: int, stage: str, program: Program) -> ProgramError:
    """Turn the errno of a failed start into an error that says what to do."""
    name = program.argv[0]
    said, advice = _REASONS.get(number, (os.strerror(number), None))
    retry_helps = number in _SCARCE
    if stage in _CONFINING:
        said, advice = f"{_CONFINING[stage]}: {os.strerror(number)}", None
    elif stage == "chdir":
        said, advice = f"its folder `{program.cwd}` cannot be entered: {os.strerror(number)}", None
    elif number == errno.ENOENT:
        said, advice = "the interpreter that its first line (`#!`) names does not exist", "install that"
    return ProgramError(
        f"`{name}` could not be started: {said}",
        where=program.label or None,
        next=advice,
        retry_helps=retry_helps,
    )


def refusal(said: bytes, program: Program) -> ProgramError:
    """Turn the complaint of what was to confine a program into an error."""
    last = said.decode(errors="replace").strip().rpartition("\n")[2][:500]
    return ProgramError(
        f"`{program.argv[0]}` could not be confined, and was not started: {last or 'no reason was given'}",
        where=program.label or None,
        next="see what of its folders, readable or hidden paths is missing",
    )


_CONFINING = {"confine": "it cannot be confined", "bridge": "its loopback ports cannot be opened"}
_SCARCE = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)
_REASONS: dict[int, tuple[str, str | None]] = {
    errno.EACCES: ("it may not be executed", "make it executable (`chmod +x`)"),
    errno.ENOEXEC: (
        "it is neither a script with a first line `#!` nor a program for this machine",
        "start it through its interpreter",
    ),
    errno.E2BIG: ("its arguments or environment are too long", "give long texts by standard input"),
    errno.EAGAIN: ("no more processes are allowed", "lower `limits.parallel`, or raise `ulimit -u`"),
    errno.ENOMEM: ("there is no memory left", "lower `limits.parallel`"),
    errno.EMFILE: ("too many files are open", "lower `limits.parallel`, or raise `ulimit -n`"),
    errno.ENFILE: ("too many files are open on this machine", "lower `limits.parallel`"),
    errno.ETXTBSY: ("it is being written", "wait until it is complete"),
}
