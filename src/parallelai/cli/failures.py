"""Tell a failure, whatever it is: expected, interrupted, unexpected. No traceback for a user's mistake."""

from __future__ import annotations

import errno
import os
import platform
import signal
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

import click

import parallelai
from parallelai.cli.aside import silence
from parallelai.errors import ParallelAIError, PlanError, Unavailable, first_error
from parallelai.results.printable import harmless

USAGE = 2
INTERNAL = 3
UNAVAILABLE = 3
INTERRUPTED = 130
_FULL = (errno.ENOSPC, errno.EDQUOT)


class Stopped(BaseException):
    """A signal ended a command that had nothing to carry out yet, or no more."""

    def __init__(self, number: int, *, next: str | None = None) -> None:
        super().__init__(number)
        self.exit_code = 128 + number
        self.next = next

    def __str__(self) -> str:
        return "interrupted" if self.exit_code == INTERRUPTED else "terminated"


def tell(failure: BaseException, arguments: list[str]) -> int:
    """Print a failure to stderr (as JSON to stdout with `--json`), and give the exit code."""
    failure = first_error(failure, ParallelAIError, BrokenPipeError)
    if isinstance(failure, BrokenPipeError):
        silence_stdout()
        return 0
    if isinstance(failure, (KeyboardInterrupt, click.Abort)):
        failure = Stopped(signal.SIGINT)
    flags = set(arguments[: arguments.index("--") if "--" in arguments else None])
    try:
        document, lines, code = _told(failure, arguments)
        _say(document, lines, is_json="--json" in flags, is_quiet=bool(flags & {"--quiet", "-q"}))
        if isinstance(failure, OSError) and failure.errno in _FULL:
            silence_stdout()  # what is still in its buffer would fail again at the interpreter's end
        return code
    except OSError:  # nobody reads any more, or what we print into is full
        silence_stdout()
        return failure.exit_code if isinstance(failure, (ParallelAIError, Stopped)) else INTERNAL


_Told = tuple[dict[str, Any], list[str], int]
"""A failure as JSON, as lines for people, and as an exit code."""


def _told(failure: BaseException, arguments: list[str]) -> _Told:
    if isinstance(failure, Stopped):
        document = _error("interrupted", str(failure), failure.next, retry_helps=True)
        return document, [str(failure), *[f"  next: {failure.next}"] * bool(failure.next)], failure.exit_code
    if isinstance(failure, ParallelAIError):
        # an attempt that failed is 4; an engine that is not there could not even be asked
        code = UNAVAILABLE if isinstance(failure, Unavailable) else failure.exit_code
        return failure.to_json(), _lines(failure), code
    if isinstance(failure, OSError) and failure.errno in _FULL:
        said = "the disk, or what this prints into, is full"
        next_ = "make room; `parallelai runs show` prints a result again"
        return _error("store_full", said, next_, retry_helps=True), _of(said, next_), INTERNAL
    if isinstance(failure, click.ClickException):
        said, next_ = _of_click(failure)
        return _error("usage", said, next_), _of(said, next_), USAGE
    return _unexpected(failure, arguments)


def silence_stdout() -> None:
    """Whoever read us has gone, as `head` does; let the interpreter not complain at its end."""
    silence(sys.stdout)


def _of_click(failure: click.ClickException) -> tuple[str, str]:
    """What click says of a mistake in one line, and where help is."""
    said = " ".join(failure.format_message().split()).rstrip(".")
    ctx = getattr(failure, "ctx", None)
    path = ctx.command_path if ctx is not None else "parallelai"
    return said[:1].lower() + said[1:], f"see `{path} --help`"


def _lines(error: ParallelAIError) -> list[str]:
    if isinstance(error, PlanError) and (len(error.problems) > 1 or error.where):
        count = len(error.problems)
        return [*(str(problem) for problem in error.problems), f"{count} problem{'s' * (count != 1)}"]
    return _of(f"{error.where}: {error.said}" if error.where else error.said, error.next)


def _of(said: str, next_: str | None) -> list[str]:
    return [f"error: {said}", f"  next: {next_}"] if next_ else [f"error: {said}"]


def _say(document: dict[str, Any], lines: list[str], *, is_json: bool, is_quiet: bool) -> None:
    """Print it on stdout for programs, on stderr for people: once only for who asked for JSON and quiet."""
    if is_json:
        from parallelai.results.json import dump

        click.echo(dump({"error": document}, indent=None))
    for line in lines if not (is_json and is_quiet) else ():
        click.echo(harmless(line), err=True)


def _error(kind: str, said: str, next_: str | None, *, retry_helps: bool = False) -> dict[str, Any]:
    return {"kind": kind, "said": said, "where": None, "next": next_, "retry_helps": retry_helps}


def _unexpected(failure: BaseException, arguments: list[str]) -> _Told:
    """Our own bug: keep what is needed to find it in a file, and say where it is."""
    said = f"ParallelAI failed: {type(failure).__name__}: {failure}"
    report = _report(failure, arguments)
    next_ = f"please report it with `{report}`" if report is not None else "please report it"
    return _error("internal", said, next_), _of(said, next_), INTERNAL


def _report(failure: BaseException, arguments: list[str]) -> str | None:
    """Write a report; None if there is no place for it."""
    about = (
        f"parallelai {parallelai.__version__}, Python {platform.python_version()}, {platform.platform()}\n"
        f"arguments: {arguments}\n\n"
    )
    text = about + "".join(traceback.format_exception(failure))
    try:
        descriptor, name = tempfile.mkstemp(prefix="parallelai-report-", suffix=".txt")
        os.close(descriptor)
        Path(name).write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError:
        return None
    return name
