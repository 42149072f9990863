"""Run the analysers that the user configured: programs that print SARIF, over batches of files, in parallel.

Such tools load a project's own configuration, plugins and code. They run only where that is trusted.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from parallelai.engines.analyzers.ruff import Bounds, Checked
from parallelai.engines.analyzers.sarif_input import SarifReport, read_report
from parallelai.engines.analyzers.side_by_side import carry_out, cut
from parallelai.engines.context import Analyzer
from parallelai.engines.protocol import Request
from parallelai.engines.untrusted import clean, shorten
from parallelai.errors import Invalid, ProgramError, TimedOut, UsageError
from parallelai.plan.files import match, read_text
from parallelai.processes import Completed, Program, environment, run

MAX_OUTPUT_BYTES = 32 * 1024 * 1024


class _Call(Struct, frozen=True):
    name: str
    command: tuple[str, ...]
    files: tuple[str, ...]


async def run_tools(
    tools: Mapping[str, Analyzer], paths: Sequence[str], request: Request, bounds: Bounds
) -> Checked:
    """Run every tool over those of the paths (relative to the request's root) that it is for.

    A tool that fails is no error: its files are `failed`, with its name and what it said. Here a file may be
    in both `covered` and `failed`, by different tools. Raises `TimedOut`.
    """
    result = Checked()
    calls = [call for name, tool in tools.items() for call in _calls(name, tool, paths)]

    async def one(call: _Call) -> None:
        await _carry_out(call, request, bounds, result)

    await carry_out(one, calls, at_once=max(os.cpu_count() or 1, 1))
    return result


def _calls(name: str, tool: Analyzer, paths: Sequence[str]) -> Iterable[_Call]:
    chosen = match(tool.files, paths) if tool.files else paths
    return [_Call(name, tool.command, files) for files in cut(chosen, files=tool.batch)]


async def _carry_out(call: _Call, request: Request, bounds: Bounds, result: Checked) -> None:
    try:
        completed = await run(_program(call, request, bounds))
    except ProgramError as error:
        _fail(call, error.said, result)
        return
    if completed.ended_by is not None:
        raise TimedOut(f"`{call.name}` did not end within the task's `timeout`", next="raise `timeout`")
    try:
        report = _read(completed, request.root)
    except Invalid as error:
        _fail(call, _why(completed, error), result)
        return
    _keep(call, report, result)


def _program(call: _Call, request: Request, bounds: Bounds) -> Program:
    # A name that begins with a dash must not be read as an option.
    files = (f"./{path}" if path.startswith("-") else path for path in call.files)
    return Program(
        argv=(*call.command, *files),
        cwd=Path(request.root),
        env=environment(env=request.env, pass_env=request.pass_env),
        timeout_seconds=max(bounds.left_seconds, 0.001),
        grace_seconds=bounds.grace_seconds,
        max_output_bytes=MAX_OUTPUT_BYTES,
        log=Path(request.log) if request.log else None,
        run=bounds.run,
        label=call.name,
    )


def _read(completed: Completed, root: str) -> SarifReport:
    if completed.is_truncated:
        raise Invalid("it printed more than can be read", next="lower its `batch`")
    try:
        data = json.loads(completed.stdout.decode("utf-8-sig"))
    except RecursionError:
        raise Invalid("its output is nested too deeply") from None
    except ValueError as error:
        raise Invalid(f"its output is not JSON: {error}") from None

    def read(path: str) -> str | None:
        try:
            return read_text(Path(root), path)
        except (OSError, UsageError):
            return None

    return read_report(data, root=root, read=read)


def _why(completed: Completed, error: Invalid) -> str:
    """Say why there is no report: what the tool itself said last, if anything, tells more than its output."""
    lines = clean(completed.stderr[-4000:].decode("utf-8", "replace")).strip().split("\n")
    if completed.exit == 0 or not lines[-1]:
        return error.said
    return f"exit code {completed.exit}: {lines[-1].strip()}"


def _fail(call: _Call, why: str, result: Checked) -> None:
    why = shorten(f"`{call.name}`: {clean(why)}", 400)
    result.failed.update((path, why) for path in call.files)


def _keep(call: _Call, report: SarifReport, result: Checked) -> None:
    asked = frozenset(call.files)
    kept = [finding for finding in report.findings if finding.file in asked]
    result.findings.extend(kept)
    result.covered.update(asked)
    for note in report.notes:
        result.note(f"`{call.name}`: {note}")
    left_out = report.left_out + len(report.findings) - len(kept)
    if left_out:
        result.note(f"`{call.name}`: {left_out} of its results are about no file that it was given")
