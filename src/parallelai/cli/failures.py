"""Tell a failure, whatever it is: expected, interrupted, unexpected. No traceback for a user's mistake."""

from __future__ import annotations

import json
import os
import platform
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

import click

import parallelai
from parallelai.errors import ParallelAIError, PlanError

USAGE = 2
INTERNAL = 3
INTERRUPTED = 130


def tell(failure: BaseException, arguments: list[str]) -> int:
    """Print a failure to stderr (as JSON to stdout with `--json`), and give the exit code."""
    if isinstance(failure, BrokenPipeError):
        # Whoever read us has gone, as `head` does; let the interpreter not complain at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    if isinstance(failure, (KeyboardInterrupt, click.Abort)):
        click.echo("interrupted", err=True)
        return INTERRUPTED
    is_json = "--json" in arguments
    if isinstance(failure, ParallelAIError):
        return _say(failure.to_json(), _lines(failure), is_json, failure.exit_code)
    if isinstance(failure, click.ClickException):
        said = failure.format_message()
        return _say(_error("usage", said, "see `--help`"), [f"error: {said}"], is_json, USAGE)
    return _unexpected(failure, arguments, is_json)


def _lines(error: ParallelAIError) -> list[str]:
    if isinstance(error, PlanError):
        count = len(error.problems)
        return [*(str(problem) for problem in error.problems), f"{count} problem{'s' * (count != 1)}"]
    lines = [f"error: {f'{error.where}: ' if error.where else ''}{error.said}"]
    return [*lines, f"  next: {error.next}"] if error.next else lines


def _say(document: dict[str, Any], lines: list[str], is_json: bool, code: int) -> int:
    if is_json:
        click.echo(json.dumps({"error": document}))
    for line in lines:
        click.echo(line, err=True)
    return code


def _error(kind: str, said: str, next_: str) -> dict[str, Any]:
    return {"kind": kind, "said": said, "where": None, "next": next_, "retry_helps": False}


def _unexpected(failure: BaseException, arguments: list[str], is_json: bool) -> int:
    """Our own bug: keep what is needed to find it in a file, and say where it is."""
    text = "".join(traceback.format_exception(failure))
    about = (
        f"parallelai {parallelai.__version__}, Python {platform.python_version()}, {platform.platform()}\n"
        f"arguments: {arguments}\n\n"
    )
    descriptor, name = tempfile.mkstemp(prefix="parallelai-report-", suffix=".txt")
    os.close(descriptor)
    Path(name).write_text(about + text, encoding="utf-8")
    said = f"ParallelAI failed: {type(failure).__name__}: {failure}"
    next_ = f"please report it with `{name}`"
    return _say(_error("internal", said, next_), [f"error: {said}", f"  next: {next_}"], is_json, INTERNAL)
